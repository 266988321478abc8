"""Which of many evenly spaced frames to take."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def evenly(total: int, frames: int) -> NDArray[np.int64]:
    """`frames` of `total` evenly spaced moments, first to first and last to last: the nearest one
    each, the earlier of two equally near, as `read_clip` takes them of a constant rate.
    """
    marks = np.linspace(0, total - 1, frames)
    return np.ceil(marks - 0.5 - 1e-9).astype(np.int64)
