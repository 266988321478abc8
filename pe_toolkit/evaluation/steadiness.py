"""Does one video hold together, and does it move at all? Both, because a picture at rest holds
together best.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pe_toolkit.errors import UsageError
from pe_toolkit.evaluation.tracks import (
    Points,
    Visible,
    checked_points,
    checked_size,
    checked_visible,
)

Frames = NDArray[np.uint8]
Floats = NDArray[np.float64]

FASTEST = 0.05
"""Share of the points whose speed is the dynamic degree (VBench, arXiv 2311.17982: the largest 5 %
of the optical flow)."""


def temporal_consistency(frames: Frames, points: Points, visible: Visible) -> float:
    """Mean over points and steps of how little the colour of a followed point changes:
    1 - |colour after - colour before| / 255, the mean of red, green and blue; 0 for a point that
    is lost in the step.

    Range [0, 1], higher is better. Flicker and melting lower it; so do points that are covered or
    leave the picture, as in any real clip. A video at rest scores 1: read it beside
    `dynamic_degree`, or take `moving_consistency`. (Published forms: the mean likeness of
    neighbouring frames to CLIP or DINO, with the same fault.)

    Args:
        frames: `(F, H, W, 3)` uint8 RGB.
        points, visible: `(N, F, 2)` in pixels, finite where visible, and `(N, F)`, of the same
            frames.

    Raises:
        UsageError: shapes that do not fit, other frames than uint8, visible points that are not
            finite.
    """
    points = checked_points(points)
    visible = checked_visible(visible, points)
    _check(frames, points, visible)
    colours = np.stack(
        [_colours(frame, points[:, t], visible[:, t]) for t, frame in enumerate(frames)], axis=1
    )
    before, after = visible[:, :-1], visible[:, 1:]
    if not before.any():
        return float("nan")
    change = np.abs(np.diff(colours, axis=1)).mean(2) / 255
    return float(np.where(after, 1 - change, 0.0)[before].mean())


def dynamic_degree(points: Points, visible: Visible, size: tuple[int, int]) -> float:
    """How fast the fastest 5 % of the points move: of each step the mean of their speeds, averaged
    over the steps, in percent of the picture's diagonal (after VBench, which takes optical flow
    and only asks whether it is above a threshold).

    Range [0, 100], not better or worse: to be read beside `temporal_consistency`.

    Args:
        points, visible: `(N, F, 2)` in pixels and `(N, F)`.
        size: width and height in pixels.

    Returns:
        The degree; NaN if nothing is seen in two neighbouring frames.

    Raises:
        UsageError: shapes that do not fit.
    """
    points, size = checked_points(points), checked_size(size)
    seen_at = checked_visible(visible, points)
    both = seen_at[:, 1:] & seen_at[:, :-1]
    speeds = np.linalg.norm(np.diff(points, axis=1), axis=-1)
    found = []
    for t in range(both.shape[1]):
        seen = np.sort(speeds[both[:, t], t])
        if len(seen):
            found.append(seen[-max(1, round(FASTEST * len(seen))) :].mean())
    return float(100 * np.mean(found) / np.hypot(*size)) if found else float("nan")


def moving_consistency(consistency: float, degree: float, wanted: float) -> float:
    """`temporal_consistency` of a video that also has to move: times min(1, degree / wanted).

    Range [0, 1], higher is better. A video at rest scores 0 if the reference moves.

    Args:
        consistency, degree: of the video.
        wanted: the `dynamic_degree` of the reference.

    Returns:
        The score; NaN if any of the three is.
    """
    if math.isnan(degree + wanted):
        return float("nan")
    return consistency * (min(1.0, degree / wanted) if wanted > 0 else 1.0)


def _colours(frame: Frames, points: Points, visible: Visible) -> Floats:
    """`(N, 3)` bilinear colours; 0 where not visible."""
    height, width = frame.shape[:2]
    where = np.where(visible[:, None], points, 0.0)
    x = np.clip(where[:, 0], 0, width - 1)
    y = np.clip(where[:, 1], 0, height - 1)
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    right, low = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    u, v = (x - left)[:, None], (y - top)[:, None]
    upper = frame[top, left] * (1 - u) + frame[top, right] * u
    lower = frame[low, left] * (1 - u) + frame[low, right] * u
    return np.asarray(upper * (1 - v) + lower * v)


def _check(frames: Frames, points: Points, visible: Visible) -> None:
    if frames.ndim != 4 or frames.shape[3] != 3:
        raise UsageError(f"Expected frames (F, H, W, 3), got {frames.shape}.")
    if points.shape[1] != len(frames) or len(frames) < 2:
        raise UsageError(
            f"Expected tracks of the {len(frames)} frames, at least 2, got {points.shape[1]}."
        )
    if frames.dtype != np.uint8:  # of 0 to 1 no colour would ever change much
        raise UsageError(
            f"Expected frames uint8, got {frames.dtype}.",
            "Give colours from 0 to 255: (frames * 255).round().astype('uint8') of 0 to 1.",
        )
    if not np.isfinite(points[visible]).all():
        raise UsageError(
            "Expected points that are finite where they are visible, got NaN or infinity.",
            "Mark them as not visible.",
        )
