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
from pe_toolkit.world.class_metrics import CAMERA, parse_all
from pe_toolkit.world.motions import CLASSES, sample_motion
from pe_toolkit.world.scenes import TRAIN_FAMILIES, Scene, render, sample_scene
from pe_toolkit.world.vocabulary import BACKGROUNDS, COLOURS, TEXTURED

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


AND = " and "
"""In captions of two things."""
KINDS = {"old": (2, ""), "wide": (4, ""), "ordered": (5, "o"), "camera": (6, "c")}
"""Of a shard: what seeds it, beside its number, and how its name begins."""


@dataclasses.dataclass(frozen=True)
class Shard:
    """Which clips a file holds: of the `old` world or the `wide` one; or of the wide one only those
    where the order of the caption's words matters (`ordered`), or where a `camera` moves.
    """

    index: int
    kind: str

    @property
    def name(self) -> str:
        return f"{KINDS[self.kind][1]}{self.index:04d}.safetensors"

    def draw(self) -> tuple[np.ndarray, list[str]]:
        """Its clips `(SHARD, 33, 128, 128, 3)` uint8 and captions."""
        rng = np.random.default_rng([KINDS[self.kind][0], self.index])
        scenes: list[Scene] = []
        while len(scenes) < SHARD:
            old = self.kind == "old"
            scene = sample_scene(rng, two=TWO_OBJECTS) if old else sample_wide(rng)
            if self.kind == "ordered" and not order_matters(scene.caption):
                continue
            if self.kind == "camera" and scene.family not in CAMERA:
                continue
            scenes.append(scene)
        return np.stack([render(scene) for scene in scenes]), [scene.caption for scene in scenes]


@torch.no_grad()
def encode(vae: AutoencoderKLCogVideoX, clips: np.ndarray) -> torch.Tensor:
    """Scaled posterior means `(n, 9, 16, 16, 16)` fp16 (n, f, c, h, w) of clips `(n, F, H, W, 3)`
    uint8, by fours, on a GPU by fifties.
    """
    out, size = [], 4 if vae.device.type == "cpu" else 50
    for begin in range(0, len(clips), size):
        x = torch.from_numpy(clips[begin : begin + size]).to(vae.device)
        z = vae.encode((x.permute(0, 4, 1, 2, 3).float() / 127.5 - 1).bfloat16()).latent_dist.mode()
        out.append((z.float() * vae.config.scaling_factor).permute(0, 2, 1, 3, 4).half().cpu())
    return torch.cat(out)


def drawn(shards: list[Shard], jobs: int) -> Iterator[tuple[Shard, tuple[np.ndarray, list[str]]]]:
    """The shards, in order, drawn ahead by `jobs` processes (1: by this one)."""
    if jobs == 1:
        for shard in shards:
            yield shard, shard.draw()
        return
    # Spawned: a process that has used CUDA cannot be forked.
    with concurrent.futures.ProcessPoolExecutor(
        jobs, mp_context=multiprocessing.get_context("spawn")
    ) as pool:
        ahead = [(shard, pool.submit(shard.draw)) for shard in shards[: 2 * jobs]]
        for shard in shards[2 * jobs :] + [None] * len(ahead):
            at, begun = ahead.pop(0)
            yield at, begun.result()
            if shard is not None:
                ahead.append((shard, pool.submit(shard.draw)))


def make(
    folder: Path,
    device: torch.device,
    shards: int,
    *,
    wide: bool = False,
    ordered: int = 0,
    camera: int = 0,
    jobs: int = 1,
) -> None:
    """Write the missing shards, one file each, in order; then `ordered` of those where the order of
    the words matters, and `camera` of those where a camera moves.
    """
    vae = (
        AutoencoderKLCogVideoX.from_pretrained(folder / WHITE, dtype=torch.bfloat16)
        .to(device)
        .eval()
    )
    (folder / "latents").mkdir(exist_ok=True)
    counts = {"wide" if wide else "old": shards, "ordered": ordered, "camera": camera}
    wanted = [Shard(i, kind) for kind, count in counts.items() for i in range(count)]
    missing = [shard for shard in wanted if not (folder / "latents" / shard.name).exists()]
    for shard, (clips, captions) in drawn(missing, jobs):
        path = folder / "latents" / shard.name
        part = path.with_suffix(".part")
        save_file({"latents": encode(vae, clips)}, part, {"captions": json.dumps(captions)})
        os.replace(part, path)
        print(f"latents {shard.name}", file=sys.stderr, flush=True)


def order_matters(caption: str) -> bool:
    """Whether the same words in another order would say something else."""
    things, background = parse_all(caption)
    two = all(len(set(names)) > 1 for names in zip(*things, strict=True))
    colours = [colour for colour, _ in things]
    return two or (background in COLOURS and any(c in BACKGROUNDS for c in colours))


def untextured(caption: str) -> str:
    """The same caption without the word that says that its background shows a pattern."""
    return caption.replace(f" {TEXTURED} ", " ")


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
        self.captions: list[str] = []
        self.ordered, self.textured = np.empty(0, bool), np.empty(0, bool)
        self.refresh()

    def share(self, caption: str) -> float:
        """How often a clip of this caption is taken where it is drawn."""
        share = self.keep_two if AND in caption else 1.0
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
            self.captions += captions
            own = [order_matters(c) or AND in c for c in captions]
            self.ordered = np.concatenate([self.ordered, own])
            self.textured = np.concatenate([self.textured, [TEXTURED in c for c in captions]])
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

    def of_kinds(
        self,
        rng: np.random.Generator,
        ordered: int,
        textured: int,
        rest: int,
        empty: float,
        *,
        hidden: bool = True,
    ) -> tuple[torch.Tensor, list[str]]:
        """Random clips `(ordered + textured + rest, 9, 16, 16, 16)` and their captions: first those
        of two things or where the order of the words matters, then those that say that they are
        textured, then others, whose captions do not say it if `hidden`, a share `empty` of which is
        left empty.
        """
        kinds = (self.ordered, ordered), (self.textured, textured), (~self.ordered, rest)
        picks = np.concatenate([rng.choice(np.flatnonzero(kind), n) for kind, n in kinds])
        captions = [self.captions[i] for i in picks]
        for i in range(ordered + textured, len(captions)):
            said = untextured(captions[i]) if hidden else captions[i]
            captions[i] = "" if rng.uniform() < empty else said
        return self.latents[torch.from_numpy(picks).to(self.device)].float(), captions
