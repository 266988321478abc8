"""What the score of `pe apply` says of videos that had no card: where its chance line comes from.

    python -m benchmarks.chance --clips A.mp4 B.mp4          80 plain videos, references of 4 kinds
    python -m benchmarks.chance --plain 8 --own 0            fewer, no cards trained

Plain videos of the bundled backbone are scored against references of every kind: rendered objects
that cross the picture, rendered ones at rest, textures under a moving camera, and spans, crops and
reversals of clips of one's own. Reading a reference costs a second, comparing nothing, so every
video meets every reference. `--own` cards of each kind (the start alone, K = 0) show what a card
brings. `--save FILE.npz` keeps what was read, `--load` prints the tables from it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.followed import at_rest, flow_of
from benchmarks.transfer import pairs, references, say
from pe_toolkit.apply import generate
from pe_toolkit.backbones import CogVideoXAdapter, load_backbone
from pe_toolkit.card import MotionCard
from pe_toolkit.card.followed import LITTLE
from pe_toolkit.evaluation.following import (
    CHANCE,
    agreement,
    mean_displacements,
    nothing_moves,
)
from pe_toolkit.training import TrainConfig, train
from pe_toolkit.training.events import Finished
from pe_toolkit.video import Clip, read_clip
from pe_toolkit.world.scenes import render

Frames = NDArray[np.uint8]


@dataclass
class Source:
    """A reference: its kind, what it was cut from, and what was read of it."""

    kind: str
    name: str
    followed: float
    moves: Any  # (F, F, 2) float64, NaN where nothing is followed


def rendered(count: int, seed: int) -> Iterator[tuple[str, str, Frames]]:
    for number, scene in enumerate(references(count, seed)):
        yield "rendered", f"{scene.family} {number}", render(scene)
        if number % 3 == 0:
            yield "at rest", f"{scene.family} {number}", render(at_rest(scene))


def textures(count: int, frames: int, side: int, seed: int) -> Iterator[tuple[str, str, Frames]]:
    """Smooth noise under a camera that pans, zooms, turns or shakes."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    for number in range(count):
        big = 4 * side
        picture = np.zeros((big, big, 3))
        for cells in (6, 14, 40, 120):
            coarse = rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
            layer = Image.fromarray(coarse).resize((big, big), Image.Resampling.BICUBIC)
            picture += np.asarray(layer, float) / 4
        how = ("pan", "zoom", "turn", "shake")[number % 4]
        angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 0.8) * side
        shakes = rng.normal(0, 0.06 * side, (frames, 2)).cumsum(0)
        made = []
        source = Image.fromarray(picture.astype(np.uint8))
        for frame in range(frames):
            u = frame / (frames - 1) - 0.5
            zoom = np.exp(u * 0.7) if how == "zoom" else 1.0
            turn = u * 0.9 if how == "turn" else 0.0
            move = np.array([np.cos(angle), np.sin(angle)]) * reach * u if how == "pan" else 0.0
            centre = big / 2 + (shakes[frame] if how == "shake" else move) * np.ones(2)
            c, s = zoom * np.cos(turn), zoom * np.sin(turn)
            half = side / 2
            affine = (c, -s, centre[0] - c * half + s * half,
                      s, c, centre[1] - s * half - c * half)  # fmt: skip
            made.append(
                np.asarray(
                    source.transform(
                        (side, side), Image.Transform.AFFINE, affine, Image.Resampling.BICUBIC
                    )
                )
            )
        yield "texture", f"{how} {number}", np.stack(made)


def footage(paths: list[Path], frames: int, side: int) -> Iterator[tuple[str, str, Frames]]:
    """Spans and crops of each clip, forwards and backwards."""
    from PIL import Image

    for path in paths:
        whole = read_clip(path).frames
        count, height, width = whole.shape[:3]
        square = min(height, width)
        for begin, end in ((0, count), (0, count // 2), (count // 2, count)):
            times = np.linspace(begin, end - 1, frames).round().astype(int)
            for size in (square, square // 2):
                for x in sorted({0, (width - size) // 2, width - size}):
                    y = (height - size) // 2
                    box = (x, y, x + size, y + size)
                    cut = np.stack(
                        [
                            np.asarray(
                                Image.fromarray(whole[t]).resize(
                                    (side, side), Image.Resampling.BICUBIC, box
                                )
                            )
                            for t in times
                        ]
                    )
                    name = f"{path.stem} {begin}-{end} {size}px at {x}"
                    yield "footage", name, cut
                    yield "footage", f"{name} reversed", cut[::-1].copy()


def read(adapter: CogVideoXAdapter, kind: str, name: str, frames: Frames) -> Source:
    mask = adapter.variant.mask if adapter.variant else "tracked"
    flow = flow_of(adapter, frames, mask)
    return Source(kind, name, flow.followed, mean_displacements(flow.displacement).numpy())


def generated(adapter: CogVideoXAdapter, count: int, base: int) -> Iterator[Source]:
    """Plain videos: unseen prompts and seeds, no card."""
    for number, (prompt, seed) in enumerate(pairs(count, base)):
        (made,) = generate(adapter, [prompt], [seed])
        yield read(adapter, "plain", f"{prompt}, seed {seed}", made.frames)
        say(f"plain {number + 1}/{count}")


def trained(adapter: CogVideoXAdapter, frames: Frames, config: TrainConfig) -> MotionCard:
    clip = Clip(frames, 16.0, "clip", "0" * 64, len(frames) / 16, len(frames))
    return next(e.card for e in train(adapter, clip, config) if isinstance(e, Finished))


def with_cards(
    adapter: CogVideoXAdapter, clips: list[tuple[str, str, Frames]], each: int, base: int
) -> Iterator[tuple[str, Source]]:
    """Videos with the card of a reference of each kind: (name of the reference, what was read)."""
    pool = iter(pairs(1000, base + 1))
    for kind in ("rendered", "texture", "footage"):
        own = [clip for clip in clips if clip[0] == kind]
        for _, name, frames in own[:: max(1, len(own) // max(each, 1))][:each]:
            config = TrainConfig(samples=1).with_overrides({"K": "0"})
            card = trained(adapter, frames, config)
            prompt, seed = next(pool)
            (made,) = generate(adapter, [prompt], [seed], card=card)
            yield name, read(adapter, kind, f"{prompt}, seed {seed}", made.frames)
            say(f"own {kind}: {name}")


def collect(args: argparse.Namespace) -> dict[str, Any]:
    adapter = load_backbone("bundled")
    frames, (side, _) = adapter.frames, adapter.size
    seed = args.seed
    clips = [
        *rendered(args.references, seed),
        *textures(args.references, frames, side, seed),
        *footage(args.clips, frames, side),
    ]
    sources = []
    for kind, name, pixels in clips:
        sources.append(read(adapter, kind, name, pixels))
        say(f"{kind:9s} {name:44s} followed {sources[-1].followed:.1%}")
    plain = list(generated(adapter, args.plain, seed))
    own = list(with_cards(adapter, clips, args.own, seed))
    return {"sources": sources, "own": own, "plain": plain}


def save(path: Path, found: dict[str, Any]) -> None:
    rows = [("source", s.name, s) for s in found["sources"]]
    rows += [("own", name, s) for name, s in found["own"]]
    rows += [("plain", s.name, s) for s in found["plain"]]
    facts = [(group, name, s.kind, s.followed) for group, name, s in rows]
    np.savez(path, moves=np.stack([s.moves for _, _, s in rows]), facts=json.dumps(facts))


def load(path: Path) -> dict[str, Any]:
    with np.load(path) as data:
        moves, facts = data["moves"], json.loads(str(data["facts"]))
    found: dict[str, Any] = {"sources": [], "own": [], "plain": []}
    for (group, name, kind, followed), values in zip(facts, moves, strict=True):
        source = Source(kind, name, followed, values)
        if group == "own":
            found["own"].append((name, source))
        else:
            found["plain" if group == "plain" else "sources"].append(source)
    return found


def score(video: Source, reference: Source) -> float | None:
    """As `ReferenceMotion.compare`, from what was read of both."""
    a, b = torch.tensor(video.moves), torch.tensor(reference.moves)
    if reference.followed < LITTLE or nothing_moves(a) or nothing_moves(b):
        return None
    value = agreement(a, b)
    return None if np.isnan(value) else value


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chance", description=__doc__)
    parser.add_argument(
        "--references", type=int, default=24, help="rendered ones; as many textures"
    )
    parser.add_argument("--clips", type=Path, nargs="*", default=[])
    parser.add_argument("--plain", type=int, default=80)
    parser.add_argument("--own", type=int, default=6, help="cards of each kind")
    parser.add_argument("--seed", type=int, default=20261126, help="of references and prompts")
    parser.add_argument("--save", type=Path)
    parser.add_argument("--load", type=Path)
    args = parser.parse_args()
    found = load(args.load) if args.load else collect(args)
    if args.save:
        save(args.save, found)
    report(found)


def report(found: dict[str, Any]) -> None:
    sources = found["sources"]
    by_name = {(s.kind, s.name): s for s in sources}
    for kind in dict.fromkeys(s.kind for s in sources):
        whole = [s for s in sources if s.kind == kind]
        own = [s for s in whole if s.followed >= LITTLE]
        shares = np.quantile([s.followed for s in whole], [0, 0.5, 1])
        words = " ".join(f"{share:.1%}" for share in shares)
        print(
            f"{kind}: {len(whole)} references, followed {words} (least, median, most), "
            f"{len(own)} of them enough for a score"
        )
        scores = [x for s in own for v in found["plain"] if (x := score(v, s)) is not None]
        if scores:
            low, middle, high = np.quantile(scores, [0.05, 0.5, 0.95])
            print(
                f"  plain videos: {len(scores)} of {len(own) * len(found['plain'])} scored, median "
                f"{middle:.2f}, 5 to 95 %: {low:.2f} to {high:.2f}, above {CHANCE:g}: "
                f"{np.mean(np.array(scores) > CHANCE):.1%}"
            )
    for name, video in found["own"]:
        value = score(video, by_name[video.kind, name])
        print(f"own card {video.kind:9s} {name:44s} {'none' if value is None else f'{value:.2f}'}")


if __name__ == "__main__":
    main()
