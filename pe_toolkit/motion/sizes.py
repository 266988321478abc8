"""Whether a thing grows on its way, by what it covers.

Where all of it is seen, the root of its area, its width and its height grow alike; where it goes
behind something, swings its arms or meets another thing they do not.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from pe_toolkit.motion.moves import GROWTH
from pe_toolkit.motion.pieces import Piece

BLUR = 1.0
"""Pixels by which a thing is wider in pictures of 3 x 3 means (`backdrop.shrunk`) than it is."""
OFTEN = 1 / 2
"""Of the frames, in how many it is to be seen whole."""
ALIKE, JITTER = 0.5, 0.1
"""Of the change of log size, by how much width against height may change, or so much at least."""
BENDS, ROUGH = 3, 0.2
"""The degree of a curve through the sizes; of their change, how far they may be from it."""


def sides_of(one: Piece) -> Tensor:
    """`(3,)` float64: log of the root of its area, of its width, of its height, in pixels."""
    wide, high = (one.edges[2:] - one.edges[:2] + 1 - BLUR).clamp(min=1)
    root = torch.tensor(max(1.0, math.sqrt(one.area) - BLUR), dtype=torch.float64)
    return torch.stack([root, wide, high]).log()


def size_of(sides: Tensor, moments: list[tuple[int, int]]) -> Tensor | None:
    """Its log size, all alike if it keeps it; None where that is not clear.

    Args:
        sides: `(N, 3)` as `sides_of`, NaN where it is not seen whole and apart from others.
        moments: of each latent frame, which two frames it stands for (`moments.frames_of`).

    Returns:
        `(F,)` float64.
    """
    known = sides.isfinite().all(1).numpy()
    if known.mean() < OFTEN:
        return None
    times = np.arange(len(sides))
    every = np.stack([np.interp(times, times[known], each[known]) for each in sides.T.numpy()], 1)
    at = np.stack([every[list(pair)].mean(0) for pair in moments])
    size, shape = at[:, 0], at[:, 1] - at[:, 2]
    change, frames = float(np.ptp(size)), np.arange(len(at))
    if change < GROWTH:
        return torch.zeros(len(at), dtype=torch.float64)
    smooth = np.polyval(np.polyfit(frames, size, min(BENDS, len(at) - 1)), frames)
    rough = float(np.abs(size - smooth).max())
    if float(np.ptp(shape)) > max(ALIKE * change, JITTER) or rough > ROUGH * change:
        return None
    return torch.from_numpy(size)
