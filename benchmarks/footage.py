"""Real footage: is the camera read that points say there is?

    python -m benchmarks.footage CLIP.mp4 ...                     as the bundled backbone sees them
    python -m benchmarks.footage --frames 49 --size 720x480 CLIP.mp4 ...       as a CogVideoX does

No model is loaded: of `motion.read` only the camera is read, everywhere in the picture, which is
what backbones do that are read with positions. Beside it an estimate that has nothing in common
with it but the clip: corners followed from frame to frame by OpenCV (extra `eval`), a similarity
for most of them (RANSAC), chained. `off` is how far apart both take a corner of the picture, in
parts of its shorter side; `moves` how far the points' camera takes one. The estimate from points
is no truth: where few points agree on a step (`inliers`), neither is to be believed.
"""

from __future__ import annotations

import argparse
import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pe_toolkit.grid import TokenGrid
from pe_toolkit.motion.cameras import read_camera
from pe_toolkit.motion.film import apart
from pe_toolkit.motion.moments import frames_of, pictures_of
from pe_toolkit.motion.similarities import turning
from pe_toolkit.motion.words import camera_words
from pe_toolkit.video import read_clip

SIDE = 256
"""Pixels of the shorter side that points are followed at."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--frames", type=int, default=33)
    parser.add_argument("--size", default="128x128", help="WIDTHxHEIGHT")
    parser.add_argument("--json", type=Path, help="write what was measured")
    asked = parser.parse_args()
    width, height = map(int, asked.size.split("x"))
    rows = [measured(path, asked.frames, (width, height)) for path in asked.clips]
    for row in rows:
        off = "-" if row["off"] is None else f"{row['off']:.2f}"
        print(
            f"{row['clip'][-40:]:40s} moves {row['moves']:.2f}  inliers {row['inliers']:.2f}  "
            f"off {off:>4s}  {row['says']}"
        )
    read = [row for row in rows if row["off"] is not None]
    print(f"{len(read)} of {len(rows)} have a camera, off {median(read, 'off')} in the median")
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def median(rows: list[dict[str, Any]], name: str) -> str:
    return f"{np.median([row[name] for row in rows]):.2f}" if rows else "-"


def measured(path: Path, frames: int, size: tuple[int, int]) -> dict[str, Any]:
    """What is read of a clip, and what points say."""
    clip = read_clip(path, frames=frames, size=size).frames
    times = SIDE / min(size)
    large = read_clip(path, frames=frames, size=(round(size[0] * times), round(size[1] * times)))
    latent = (frames - 1) // 4 + 1
    grid = TokenGrid(latent, size[1] // 16, size[0] // 16)
    camera = read_camera(grid, pictures_of(clip, latent), clip)
    (linear, shift), why = camera.maps, camera.at_rest
    said, inliers = by_points(large.frames, frames_of(frames, latent))
    half = (size[0] / min(size), size[1] / min(size))
    rest = torch.zeros(4, dtype=torch.float64)
    own = motions(linear, shift / torch.tensor([grid.width, grid.height]), half)
    off = max(apart(half, a, b) for a, b in zip(own, said, strict=True)) / 2
    rows = [(*a.flatten().tolist(), *b.tolist()) for a, b in zip(linear, shift, strict=True)]
    return {
        "clip": path.name,
        "frames": frames,
        "size": size,
        "moves": max(apart(half, rest, m) for m in said) / 2,
        "inliers": inliers,
        "off": None if why else off,
        "says": why or camera_words(rows) or "hardly anything",
    }


def motions(linear: Tensor, shift: Tensor, half: tuple[float, float]) -> Tensor:
    """`(F, 4)` log zoom, roll, x and y in half shorter sides, as `motion.registration` has them."""
    moved = shift * 2 * torch.tensor(half, dtype=torch.float64)
    return torch.cat([torch.stack(turning(linear), 1), moved], 1)


def by_points(frames: NDArray[np.uint8], moments: list[tuple[int, int]]) -> tuple[Tensor, float]:
    """`(F, 4)` motions of the latent frames against the middle one, and the median share of points
    that agree on a step.
    """
    import cv2

    cv2.setRNGSeed(1)
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    maps, shares = [np.eye(3)], []
    for before, after in pairwise(grey):
        step, share = similarity(cv2, before, after)
        maps.append(step @ maps[-1])
        shares.append(share)
    of = [maps[round(sum(m) / 2)] for m in moments]
    back = np.linalg.inv(of[len(of) // 2])
    height, width = frames.shape[1:3]
    middle, half = np.array([width / 2, height / 2, 1.0]), min(width, height) / 2
    out = []
    for one in (m @ back for m in of):
        x, y = ((one @ middle)[:2] - middle[:2]) / half
        out.append([math.log(math.hypot(*one[:2, 0])), math.atan2(one[1, 0], one[0, 0]), x, y])
    return torch.tensor(out, dtype=torch.float64), float(np.median(shares))


def similarity(
    cv2: Any, before: NDArray[np.uint8], after: NDArray[np.uint8]
) -> tuple[NDArray[np.float64], float]:
    """`(3, 3)`, and the share of the points that came back which it explains within two pixels."""
    starts = cv2.goodFeaturesToTrack(before, 600, 0.005, 5)
    if starts is None:
        return np.eye(3), 0.0
    options = {"winSize": (21, 21), "maxLevel": 4}
    ends, there, _ = cv2.calcOpticalFlowPyrLK(before, after, starts, None, **options)
    home, back, _ = cv2.calcOpticalFlowPyrLK(after, before, ends, None, **options)
    good = (
        (there[:, 0] == 1) & (back[:, 0] == 1) & (np.linalg.norm(home - starts, axis=2)[:, 0] < 1)
    )
    if good.sum() < 8:
        return np.eye(3), 0.0
    found, inside = cv2.estimateAffinePartial2D(
        starts[good], ends[good], ransacReprojThreshold=2.0, maxIters=5000, confidence=0.999
    )
    if found is None:
        return np.eye(3), 0.0
    return np.vstack([found, [0, 0, 1]]), float(inside.mean())


if __name__ == "__main__":
    main()
