"""What each objective sees: the same motion with another look against another motion with the same.

    python -m benchmarks.sees [--backbone bundled-absolute] [--references 12]

Of every reference of `benchmarks.transfer` two more clips are rendered: one whose object moves
alike and looks otherwise (colour, shape, background), and one that looks alike and moves as another
reference does. All are read clean, as references are. An objective that tells motion from look
finds the first one nearer. No optimisation, no generation: a minute.
"""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

import numpy as np
import torch

from benchmarks.transfer import references
from pe_toolkit.backbones import load_backbone
from pe_toolkit.backbones.reading import Reading
from pe_toolkit.motion.flow import AttentionMotionFlow
from pe_toolkit.objectives import OBJECTIVES, objective_class
from pe_toolkit.world.scenes import Scene, render
from pe_toolkit.world.vocabulary import BACKGROUNDS, COLOURS, SHAPES


@dataclasses.dataclass(frozen=True)
class Read:
    """A clip as an objective may look at it (`objectives.base.MotionReference`)."""

    flow: AttentionMotionFlow
    pair: tuple[torch.Tensor, torch.Tensor]
    hidden: torch.Tensor

    def queries_and_keys(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.pair

    def features(self) -> torch.Tensor:
        return self.hidden


def other_look(scene: Scene, rng: np.random.Generator) -> Scene:
    """The same motion of another thing before another background."""
    thing = scene.things[0]
    colour, shape, ground = (
        str(rng.choice([name for name in names if name != now]))
        for names, now in (
            ([c for c in COLOURS if c != scene.background], thing.colour),
            (list(SHAPES), thing.shape),
            (list(BACKGROUNDS), scene.background),
        )
    )
    if ground == colour:
        ground = scene.background
    return dataclasses.replace(
        scene,
        background=ground,
        things=(dataclasses.replace(thing, colour=colour, shape=shape),),
    )


def other_motion(scene: Scene, other: Scene) -> Scene:
    """The same thing on the way of another."""
    path = other.things[0].path
    return dataclasses.replace(scene, things=(dataclasses.replace(scene.things[0], path=path),))


@torch.no_grad()
def read(adapter: Any, scene: Scene) -> Read:
    """At the block that generations are compared at; the displacements as the backbone reads."""
    row, size = adapter.defaults(), (adapter.frames, *adapter.size)
    latents = adapter.encode(render(scene)).latents
    reading = row.reading or Reading((row.block,))
    flow = AttentionMotionFlow.from_qk(
        *(x.float() for x in adapter.reference_queries_and_keys(latents, reading, *size)),
        adapter.grid,
        mask=row.mask,
        mutual=reading.mutual,
    )
    pair = adapter.reference_queries_and_keys(latents, Reading((row.block,)), *size)
    return Read(flow, pair, adapter.reference_features(latents, row.block, *size))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sees",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--backbone", default="bundled")
    parser.add_argument("--references", type=int, default=12)
    args = parser.parse_args()
    adapter = load_backbone(args.backbone)
    rng, scenes = np.random.default_rng(5), references(args.references)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in OBJECTIVES}
    for index, scene in enumerate(scenes):
        target = read(adapter, scene)
        moved = other_motion(scene, scenes[(index + 1) % len(scenes)])
        clips = [read(adapter, other_look(scene, rng)), read(adapter, moved)]
        for name, losses in found.items():
            kind = objective_class(name)
            objective = kind.of(target, adapter.defaults().tau)
            of = (lambda c: (c.hidden,)) if kind.reads == "features" else (lambda c: c.pair)
            alike, other = (float(objective.loss(*of(clip))) for clip in clips)
            losses.append((alike, other))
    print("| objective | same motion, other look | other motion, same look | told apart |")
    print("|---|---|---|---|")
    for name, losses in found.items():
        a, b = np.array(losses).T
        print(f"| `{name}` | {a.mean():.3g} | {b.mean():.3g} | {int((a < b).sum())} of {len(a)} |")


if __name__ == "__main__":
    main()
