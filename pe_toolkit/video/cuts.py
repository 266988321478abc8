"""Where one shot of a clip ends and another one begins: no motion goes across."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pe_toolkit.video.picture import Picture, resize

SIDE = 32
"""Pixels of the longer side at which frames are compared."""
LEAST, TIMES = 10.0, 4.0
"""Grey levels by which a cut changes the mean pixel, and how many times as much as is usual from
frame to frame: of 500 rendered and filmed clips of one shot none has both (docs/experiments.md)."""
LIKE = 0.8
"""Correlation of two pictures from which on they are one, in another light."""


def cuts(frames: Picture) -> list[int]:
    """The frames that begin another shot: hard cuts alone, no fades.

    A cut changes most pixels at once, by far more than frames change otherwise; and what was before
    does not come back right after, as it does after a flash.

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
    usual = float(np.median(steps))
    found = []
    for i, step in enumerate(steps, 1):
        before, after = small[max(0, i - 2) : i], small[i : i + 2]
        least = min(float(np.abs(a - b).mean()) for a in before for b in after)
        one = any(_correlation(a, b) > LIKE for a in before for b in after)
        if step >= max(LEAST, TIMES * usual) and least >= LEAST / 2 and not one:
            found.append(i)
    return found


def _correlation(one: NDArray[np.float64], two: NDArray[np.float64]) -> float:
    """Of two pictures, each without its mean colour; 0 of plain ones."""
    a, b = one - one.mean((0, 1)), two - two.mean((0, 1))
    size = float(np.sqrt(np.square(a).sum() * np.square(b).sum()))
    return float((a * b).sum()) / size if size > 1 else 0.0
