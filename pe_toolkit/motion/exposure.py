"""How bright frames are against each other, before a camera that rests.

A camera that measures its light again, or a cloud, makes all of a frame lighter or darker, by one
factor: that is no motion. Of the ratios of a frame to the median of all frames, over pixels, most
of what rests has the same. Before a camera that moves no ratio is that of so many.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

DARK = 30.0
"""Of 255: the ratio of less is that of noise."""
WIDEST, BIN, NEAR = 0.5, 0.005, 0.03
"""Change of log brightness that is looked for, in steps of so much; and what is as near as this to
the most frequent one is alike."""
ALIKE, MORE, CHANGES = 0.35, 0.1, 0.02
"""Of the pixels of every frame, how many are to be alike; of those of some frame, how many more
than without a change of brightness; and by how much that changes at least. Of 336 clips with a
camera, or of somebody's own, one has that: its light flickers (docs/experiments.md)."""


def evened(pictures: Tensor, light: Tensor) -> Tensor:
    """Pictures as bright as each other, `(N, 3, h, w)`, 0 to 255; but for what does not follow the
    light, such as a white that is as white as can be, or a caption: it is as it was.

    Args:
        light: `(N,)` of `brightness`.
    """
    even = (pictures / light[:, None, None, None]).clamp(max=255)
    follows = _restless(even) <= _restless(pictures)
    return torch.where(follows, even, pictures)


def _restless(pictures: Tensor) -> Tensor:
    """`(h, w)`: how far a pixel usually is from where it usually is."""
    usual = pictures.median(0).values
    return (pictures - usual).abs().amax(1).median(0).values


def brightness(pictures: Tensor) -> Tensor | None:
    """How many times as bright as the median of all each frame is; None where that does not change,
    or the camera may move.

    Args:
        pictures: `(N, 3, h, w)`, 0 to 255.

    Returns:
        `(N,)` float32.
    """
    grey = pictures.mean(1)
    usual = grey.median(0).values
    known = usual > DARK
    if not bool(known.any()):
        return None
    logs = (grey[:, known].clamp(min=1) / usual[known]).log()  # (N, M)
    count, steps = logs.shape[1], round(2 * WIDEST / BIN)
    factors, gained = [], 0.0
    for ratios in logs:
        often = torch.histc(ratios, steps, -WIDEST, WIDEST)
        often = functional.avg_pool1d(often[None, None], 7, 1, 3)[0, 0]
        middle = (int(often.argmax()) + 0.5) * BIN - WIDEST
        near = (ratios - middle).abs() < NEAR
        alike = float(near.sum()) / count
        if alike < ALIKE:
            return None
        gained = max(gained, alike - float((ratios.abs() < NEAR).sum()) / count)
        factors.append(math.exp(float(ratios[near].mean())))
    found = torch.tensor(factors)
    changes = float(found.log().abs().max()) >= CHANGES
    return found if changes and gained >= MORE else None
