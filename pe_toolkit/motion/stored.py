"""A phase as cards hold it: one byte an angle. Needs no torch."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

TURN = 2 * math.pi
LEVELS = 256
"""A stored phase is one of so many (8 bits): off by at most 0.7 degrees."""


def radians(stored: NDArray[np.uint8]) -> NDArray[np.float64]:
    """uint8 of any shape, `LEVELS` steps a turn -> radians in [0, 2 pi)."""
    found: NDArray[np.float64] = stored.astype(np.float64) * (TURN / LEVELS)
    return found


def quantised(angles: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Radians of any shape -> uint8 of that shape."""
    return (np.rint(angles * (LEVELS / TURN)) % LEVELS).astype(np.uint8)
