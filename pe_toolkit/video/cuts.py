"""Where one shot of a clip ends and another one begins: no motion goes across."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pe_toolkit.video.picture import Picture, resize

SIDE = 32
"""Pixels of the longer side at which frames are compared."""
LEAST, TIMES = 10.0, 4.0
"""Grey levels by which a cut changes the mean pixel, and how many times as much as is usual from
frame to frame."""
AROUND, LIKE = 3, 0.5
"""Frames on both sides of a cut, and the correlation of two of their pictures from which on they
are of one shot: of what comes by near the camera, or another light, 0.58 to 0.98; of cuts 0.04 at
most (docs/experiments.md)."""
APART = 2
"""Frames: where pictures go on changing as much, something passes."""


def cuts(frames: Picture) -> list[int]:
    """The frames that begin another shot: hard cuts alone, no fades.

    A cut changes most pixels at once, by far more than frames change otherwise; right after it, no
    picture is like one right before, as after a flash; and then it is over.

    Args:
        frames: `(F, H, W, 3)` uint8.

    Returns:
        indices, 1 to F - 1, in order.
    """
    height, width = frames.shape[1:3]
    scale = min(1.0, SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = np.stack([resize(frame, size, "stretch") for frame in frames]).astype(np.float64)
    steps = np.abs(np.diff(small, axis=0)).mean((1, 2, 3))
    if len(steps) < 2:
        return []
    large = (np.flatnonzero(steps >= max(LEAST, TIMES * float(np.median(steps)))) + 1).tolist()
    found = []
    for i in large:
        if any(0 < abs(i - other) <= APART for other in large):
            continue
        before, after = small[max(0, i - AROUND) : i], small[i : i + AROUND]
        least = min(float(np.abs(a - b).mean()) for a in before for b in after)
        if least >= LEAST / 2 and all(_correlation(a, b) < LIKE for a in before for b in after):
            found.append(i)
    return found


def _correlation(one: NDArray[np.float64], two: NDArray[np.float64]) -> float:
    """Of two pictures, each without its mean colour; 0 of plain ones."""
    a, b = one - one.mean((0, 1)), two - two.mean((0, 1))
    size = float(np.sqrt(np.square(a).sum() * np.square(b).sum()))
    return float((a * b).sum()) / size if size > 1 else 0.0
