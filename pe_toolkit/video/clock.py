"""Jumps of time in formats whose clock may begin anew, as where two recordings were joined."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

OWN_CLOCK = {"mpegts", "mpeg"}
"""FFmpeg's names of such formats: MPEG transport and program streams."""

# As FFmpeg has it (-dts_delta_threshold); but a jump is always far more than a frame, so that
# neither slow rates nor B-frames, which come out of order, are jumps.
_SECONDS = 10.0
_FRAMES = 20


def jumps(times: Sequence[int | None], base: float) -> NDArray[np.bool_]:
    """Which steps from one time to the next are jumps: more than 10 seconds forward, or back, and
    more than 20 times the median step.

    Args:
        times: in the order of the file; where one is missing, nothing is a jump.
        base: seconds of a unit of them.

    Returns:
        `(len(times) - 1,)` bool.
    """
    if None in times or len(times) < 3:
        return np.zeros(max(0, len(times) - 1), bool)
    steps: NDArray[np.float64] = np.diff(np.array(times, np.float64))
    far = abs(steps) > _FRAMES * max(1.0, float(np.median(abs(steps))))
    found: NDArray[np.bool_] = far & ((steps < 0) | (steps * base > _SECONDS))
    return found


def joined(times: Sequence[int | None], base: float) -> Sequence[int | None]:
    """The times with the median step in place of every jump, from 0; as they are without one."""
    jump = jumps(times, base)
    if not jump.any():
        return times
    steps = np.diff(np.array(times, np.int64))
    steps[jump] = round(float(np.median(steps[~jump])))
    return [0, *np.cumsum(steps).tolist()]
