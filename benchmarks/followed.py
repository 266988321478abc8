"""How much of a clip can be followed, by kind of clip: where the words of `pe show` come from.

    python -m benchmarks.followed --references 12 --clips A.mp4 B.mp4

Rendered references that cross the picture, rendered ones at rest, noise, and clips of one's own;
read as `pe train` reads a reference, on the bundled backbone. No training: about a second a clip.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.transfer import references, say
from pe_toolkit.backbones import CogVideoXAdapter, load_backbone
from pe_toolkit.backbones.reading import Reading
from pe_toolkit.evaluation.following import mean_displacements, nothing_moves
from pe_toolkit.motion.flow import AttentionMotionFlow
from pe_toolkit.video import read_clip
from pe_toolkit.world.scenes import Scene, render


@torch.no_grad()
def flow_of(adapter: CogVideoXAdapter, frames: NDArray[np.uint8], mask: str) -> AttentionMotionFlow:
    """The flow of uint8 RGB `(F, H, W, 3)`, as the trainer reads it."""
    count, height, width = frames.shape[:3]
    row = adapter.variant
    assert row is not None
    reading = row.reading or Reading((row.block,))
    q, k = adapter.reference_queries_and_keys(
        adapter.encode_clip(frames), reading, count, width, height
    )
    grid = adapter.grid_for(count, width, height)
    return AttentionMotionFlow.from_qk(q.float(), k.float(), grid, mask, mutual=reading.mutual)


def at_rest(scene: Scene) -> Scene:
    """The same things where they were in the first frame."""
    things = tuple(
        replace(t, path=np.broadcast_to(t.path[:1], t.path.shape).copy()) for t in scene.things
    )
    return replace(scene, things=things)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.followed", description=__doc__)
    parser.add_argument("--references", type=int, default=12)
    parser.add_argument("--clips", type=Path, nargs="*", default=[])
    args = parser.parse_args()
    adapter = load_backbone("bundled")
    count, (width, height) = adapter.frames, adapter.size
    rng = np.random.default_rng(0)
    scenes = references(args.references)
    clips = [(f"moving: {s.family}", render(s)) for s in scenes]
    clips += [(f"at rest: {s.family}", render(at_rest(s))) for s in scenes[: len(scenes) // 3]]
    still = rng.integers(0, 256, (1, height, width, 3), dtype=np.uint8)
    noise = rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    clips += [("still noise", still.repeat(count, 0)), ("new noise in every frame", noise)]
    clips += [
        (path.name, read_clip(path, frames=count, size=(width, height)).frames)
        for path in args.clips
    ]
    for name, frames in clips:
        flow = flow_of(adapter, frames, adapter.variant.mask if adapter.variant else "tracked")
        why = nothing_moves(mean_displacements(flow.displacement)) or "followed"
        say(
            f"{name:28s} followed {flow.followed:6.1%}  kept {flow.kept:6.1%}  moving "
            f"{flow.moving:6.1%}  matched {flow.matched:6.1%}  {why}"
        )


if __name__ == "__main__":
    main()
