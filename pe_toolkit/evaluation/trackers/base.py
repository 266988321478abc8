"""What a tracker is, and where its points begin."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pe_toolkit.errors import UsageError
from pe_toolkit.evaluation.tracks import Points, Tracks

Frames = NDArray[np.uint8]


class Tracker(Protocol):
    """Follows points through a clip. A class of it is made without arguments. A method `prepare()`,
    if it has one, fetches what it needs before any work.
    """

    def track(self, frames: Frames, starts: Points) -> Tracks:
        """Where `starts`, `(N, 2)` pixels of the first frame, are in each of `frames`,
        `(F, H, W, 3)` uint8 RGB, `F` at least 2: `Tracks` of `N` points and `F` frames, in the
        same order.
        """
        ...


def grid_points(width: int, height: int, side: int) -> Points:
    """`(side * side, 2)` float64: the centres of the cells of a grid over a picture, in pixels,
    row by row.

    Raises:
        UsageError: a side, of the grid or of the picture, less than 1.
    """
    if min(width, height) < 1:
        raise UsageError(f"Expected a picture of at least 1x1 pixels, got {width}x{height}.")
    if side < 1:
        raise UsageError(f"Expected a grid of at least 1 point a side, got {side}.")
    middle = (np.arange(side) + 0.5) / side
    x, y = np.meshgrid(middle * width - 0.5, middle * height - 0.5)
    return np.stack([x.ravel(), y.ravel()], axis=1)


def check_frames(frames: Frames, starts: Points, least: int = 1) -> None:
    """Refuse what no tracker can follow: pictures with a side below `least` pixels among it.

    Raises:
        UsageError: says what was expected.
    """
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or len(frames) < 2:
        raise UsageError(
            f"Expected at least 2 frames (F, H, W, 3) uint8, got {frames.shape} {frames.dtype}."
        )
    if min(frames.shape[1:3]) < least:
        raise UsageError(
            f"Expected frames of at least {least}x{least} pixels, got "
            f"{frames.shape[2]}x{frames.shape[1]}."
        )
    if starts.ndim != 2 or starts.shape[1] != 2 or not len(starts):
        raise UsageError(f"Expected points (N, 2) to follow, got {starts.shape}.")
