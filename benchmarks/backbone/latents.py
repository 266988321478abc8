"""Stage 2: render clips, encode them once, keep the latents and captions in shards."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import multiprocessing
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLCogVideoX
from safetensors import safe_open
from safetensors.torch import save_file

from benchmarks.backbone import text
from benchmarks.backbone.vae import WHITE
from pe_toolkit.world.class_metrics import parse_all
from pe_toolkit.world.motions import CLASSES, sample_motion
from pe_toolkit.world.scenes import TRAIN_FAMILIES, Scene, render, sample_scene
from pe_toolkit.world.vocabulary import BACKGROUNDS, COLOURS

SHARD = 200
TWO_OBJECTS = 0.2
KEEP_TWO = 0.3
OLD = 0.3
"""Share of the clips of the wide world that are of the old one: what is known must not be lost."""
UPRIGHT = 0.7
"""Share of the shapes that stand upright in the wide world, where nothing turns them."""


def sample_wide(rng: np.random.Generator) -> Scene:
    """A scene of the wide world: every class of motion (`pe_toolkit.world.motions`) beside the old
    world, two objects in a fifth of all, shapes that lean. The families that are held out stay out.
    """
    if rng.uniform() < OLD:
        scene = sample_scene(rng, two=TWO_OBJECTS)
    else:
        # "two" three times: both shapes right in one plain clip of twelve is what lacks most.
        name = str(rng.choice([*(c for c in CLASSES if c != "translation"), "two", "two"]))
        scene = sample_motion(name, rng, families=TRAIN_FAMILIES)
    things = []
    for thing in scene.things:
        if thing.angle is None and rng.uniform() > UPRIGHT:
            lean = rng.uniform(-0.6, 0.6) + rng.uniform(-0.8, 0.8) * np.linspace(0, 1, 33)
            thing = dataclasses.replace(thing, angle=lean.astype(np.float32))
        things.append(thing)
    return dataclasses.replace(scene, things=tuple(things))


def draw_shard(index: int, wide: bool) -> tuple[np.ndarray, list[str]]:
    """Shard `index`: its clips `(SHARD, 33, 128, 128, 3)` uint8 and captions."""
    rng = np.random.default_rng([4 if wide else 2, index])
    scenes = [
        sample_wide(rng) if wide else sample_scene(rng, two=TWO_OBJECTS) for _ in range(SHARD)
    ]
    return np.stack([render(s) for s in scenes]), [s.caption for s in scenes]


@torch.no_grad()
def encode(vae: AutoencoderKLCogVideoX, clips: np.ndarray) -> torch.Tensor:
    """Scaled posterior means `(n, 9, 16, 16, 16)` fp16 (n, f, c, h, w) of clips `(n, F, H, W, 3)`
    uint8, by fours.
    """
    out = []
    for begin in range(0, len(clips), 4):
        x = torch.from_numpy(clips[begin : begin + 4]).to(vae.device)
        z = vae.encode((x.permute(0, 4, 1, 2, 3).float() / 127.5 - 1).bfloat16()).latent_dist.mode()
        out.append((z.float() * vae.config.scaling_factor).permute(0, 2, 1, 3, 4).half().cpu())
    return torch.cat(out)


def drawn(
    indices: list[int], wide: bool, jobs: int
) -> Iterator[tuple[int, tuple[np.ndarray, list[str]]]]:
    """The shards `indices`, in order, drawn ahead by `jobs` processes (1: by this one)."""
    if jobs == 1:
        for index in indices:
            yield index, draw_shard(index, wide)
        return
    # Spawned: a process that has used CUDA cannot be forked.
    with concurrent.futures.ProcessPoolExecutor(
        jobs, mp_context=multiprocessing.get_context("spawn")
    ) as pool:
        ahead = [(i, pool.submit(draw_shard, i, wide)) for i in indices[: 2 * jobs]]
        for index in indices[2 * jobs :] + [None] * len(ahead):
            at, begun = ahead.pop(0)
            yield at, begun.result()
            if index is not None:
                ahead.append((index, pool.submit(draw_shard, index, wide)))


def make(
    folder: Path, device: torch.device, shards: int, *, wide: bool = False, jobs: int = 1
) -> None:
    """Write the missing shards, one file each, in order."""
    vae = (
        AutoencoderKLCogVideoX.from_pretrained(folder / WHITE, dtype=torch.bfloat16)
        .to(device)
        .eval()
    )
    (folder / "latents").mkdir(exist_ok=True)
    paths = {i: folder / "latents" / f"{i:04d}.safetensors" for i in range(shards)}
    missing = [i for i, path in paths.items() if not path.exists()]
    for index, (clips, captions) in drawn(missing, wide, jobs):
        part = paths[index].with_suffix(".part")
        save_file({"latents": encode(vae, clips)}, part, {"captions": json.dumps(captions)})
        os.replace(part, paths[index])
        print(f"latents {index + 1}/{shards}", file=sys.stderr, flush=True)


def order_matters(caption: str) -> bool:
    """Whether the same words in another order would say something else."""
    things, background = parse_all(caption)
    two = all(len(set(names)) > 1 for names in zip(*things, strict=True))
    colours = [colour for colour, _ in things]
    return two or (background in COLOURS and any(c in BACKGROUNDS for c in colours))


class Latents:
    """All finished shards, on `device`; `refresh` picks up those written since."""

    def __init__(
        self, folder: Path, device: torch.device, *, keep_two: float, keep_plain: float = 1.0
    ) -> None:
        self.folder, self.device = folder / "latents", device
        self.keep_two, self.keep_plain = keep_two, keep_plain
        self.tokenizer = text.tokenizer()
        self.empty = text.token_ids(self.tokenizer, [""]).to(device)
        self.seen: set[str] = set()
        self.latents = torch.empty(0, 9, 16, 16, 16, dtype=torch.half, device=device)
        self.ids = torch.empty(0, text.TEXT_TOKENS, dtype=torch.long, device=device)
        self.shares = np.empty(0)
        self.refresh()

    def share(self, caption: str) -> float:
        """How often a clip of this caption is taken where it is drawn."""
        share = self.keep_two if " and " in caption else 1.0
        return share if order_matters(caption) else share * self.keep_plain

    def refresh(self) -> None:
        for path in sorted(self.folder.glob("*.safetensors")):
            if path.name in self.seen:
                continue
            with safe_open(path, "pt") as f:
                latents = f.get_tensor("latents")
                captions = json.loads(f.metadata()["captions"])
            ids = text.token_ids(self.tokenizer, captions)
            self.latents = torch.cat([self.latents, latents.to(self.device)])
            self.ids = torch.cat([self.ids, ids.to(self.device)])
            shares = [self.share(caption) for caption in captions]
            self.shares = np.concatenate([self.shares, shares])
            self.seen.add(path.name)

    def batch(
        self, rng: np.random.Generator, size: int, empty: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Random clips `(size, 9, 16, 16, 16)` and token ids of their captions, a share `empty` of
        which is left empty; those that are passed over are `share`'s.
        """
        picks = np.empty(0, np.int64)
        while len(picks) < size:
            more = rng.integers(0, len(self.shares), 2 * size)
            picks = np.concatenate([picks, more[rng.uniform(size=len(more)) < self.shares[more]]])
        where = torch.from_numpy(picks[:size]).to(self.device)
        nothing = torch.from_numpy(rng.uniform(size=(size, 1)) < empty).to(self.device)
        return self.latents[where].float(), torch.where(nothing, self.empty, self.ids[where])
