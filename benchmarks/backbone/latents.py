"""Stage 2: render clips, encode them once, keep the latents and captions in shards."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLCogVideoX
from safetensors import safe_open
from safetensors.torch import save_file

from benchmarks.backbone.vae import WHITE
from pe_toolkit.world.motions import CLASSES, sample_motion
from pe_toolkit.world.scenes import TRAIN_FAMILIES, Scene, render, sample_scene

SHARD = 200
TWO_OBJECTS = 0.2
KEEP_TWO = 0.3
OLD = 0.4
"""Share of the clips of the wide world that are of the old one: what is known must not be lost."""
UPRIGHT = 0.7
"""Share of the shapes that stand upright in the wide world, where nothing turns them."""


def sample_wide(rng: np.random.Generator) -> Scene:
    """A scene of the wide world: every class of motion (`pe_toolkit.world.motions`) beside the old
    world, two objects in a third of all, shapes that lean. The families that are held out stay out.
    """
    if rng.uniform() < OLD:
        scene = sample_scene(rng, two=TWO_OBJECTS)
    else:
        # "two" twice: both shapes right in one plain clip of twelve is what lacks most.
        name = str(rng.choice([*(c for c in CLASSES if c != "translation"), "two"]))
        scene = sample_motion(name, rng, families=TRAIN_FAMILIES)
    things = []
    for thing in scene.things:
        if thing.angle is None and rng.uniform() > UPRIGHT:
            lean = rng.uniform(-0.6, 0.6) + rng.uniform(-0.8, 0.8) * np.linspace(0, 1, 33)
            thing = dataclasses.replace(thing, angle=lean.astype(np.float32))
        things.append(thing)
    return dataclasses.replace(scene, things=tuple(things))


@torch.no_grad()
def encode_shard(
    vae: AutoencoderKLCogVideoX, index: int, device: torch.device, *, wide: bool = False
) -> tuple[torch.Tensor, list[str]]:
    """Shard `index`: scaled posterior means `(SHARD, 9, 16, 16, 16)` fp16 (n, f, c, h, w) and
    captions.
    """
    rng = np.random.default_rng([4 if wide else 2, index])
    latents, captions = [], []
    for _ in range(SHARD // 4):
        scenes = [
            sample_wide(rng) if wide else sample_scene(rng, two=TWO_OBJECTS) for _ in range(4)
        ]
        x = torch.from_numpy(np.stack([render(s) for s in scenes])).to(device)
        x = x.permute(0, 4, 1, 2, 3).float() / 127.5 - 1
        z = vae.encode(x.bfloat16()).latent_dist.mode()
        latents.append((z.float() * vae.config.scaling_factor).permute(0, 2, 1, 3, 4).half().cpu())
        captions += [s.caption for s in scenes]
    return torch.cat(latents), captions


def make(folder: Path, device: torch.device, shards: int, *, wide: bool = False) -> None:
    """Write the missing shards, one file each, in order."""
    vae = (
        AutoencoderKLCogVideoX.from_pretrained(folder / WHITE, dtype=torch.bfloat16)
        .to(device)
        .eval()
    )
    (folder / "latents").mkdir(exist_ok=True)
    for index in range(shards):
        path = folder / "latents" / f"{index:04d}.safetensors"
        if path.exists():
            continue
        latents, captions = encode_shard(vae, index, device, wide=wide)
        save_file(
            {"latents": latents}, path.with_suffix(".part"), {"captions": json.dumps(captions)}
        )
        os.replace(path.with_suffix(".part"), path)
        print(f"latents {index + 1}/{shards}", file=sys.stderr, flush=True)


class Latents:
    """All finished shards; `refresh` picks up those written since."""

    def __init__(self, folder: Path, keep_two: float = KEEP_TWO) -> None:
        self.folder = folder / "latents"
        self.keep_two = keep_two
        self.seen: set[str] = set()
        self.latents: list[torch.Tensor] = []
        self.captions: list[str] = []
        self.refresh()

    def refresh(self) -> None:
        for path in sorted(self.folder.glob("*.safetensors")):
            if path.name not in self.seen:
                with safe_open(path, "pt") as f:
                    self.latents += list(f.get_tensor("latents"))
                    self.captions += json.loads(f.metadata()["captions"])
                self.seen.add(path.name)

    def batch(self, rng: np.random.Generator, size: int) -> tuple[torch.Tensor, list[str]]:
        """Random clips; two objects are harder, so most of those are passed over while the budget
        is small.
        """
        picks: list[int] = []
        while len(picks) < size:
            pick = int(rng.integers(0, len(self.latents)))
            if " and " not in self.captions[pick] or rng.uniform() < self.keep_two:
                picks.append(pick)
        return torch.stack([self.latents[i] for i in picks]).float(), [
            self.captions[i] for i in picks
        ]
