"""A camera in real footage: what all frames of a clip say, where the latent frames' alone leave
doubt.

Leaves, water, parallax and blur leave much of the squared difference between two pictures of real
footage however well one is laid on the other, so that what is left cannot tell a camera that was
read rightly from one that was not. Two readings that have little in common can: every latent frame
laid on the anchor (`motion.registration`), and a chain from each frame of the clip to the next. If
both say the same, and what they say lays most parts of the picture better on each other than rest
does, it is the camera's (docs/experiments.md).
"""

from __future__ import annotations

import math
from itertools import pairwise, product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pe_toolkit.motion.registration import (
    READABLE,
    SIDES,
    Level,
    Registration,
    after,
    fitted,
    inverse,
    level_of,
)

AGREE = 0.044
"""Of the diagonal: how far apart both readings may take a corner of the picture
(docs/experiments.md)."""
LARGE = 4 * SIDES[-1]
"""Pixels of the shorter side, above which frames are made smaller before anything else."""
PARTS = 4
"""The picture is looked at in so many times so many parts."""
BETTER_THERE = 0.9
"""Of the squared difference with nothing moved, what such a part may have left."""
MOST, JUDGED = 0.65, 0.6
"""Of the parts that can be judged, how many must lie better; and of all, how many must be judged:
real footage shows something nearly everywhere, of a thing before a plain background a quarter."""


def confirmed(
    found: Registration,
    pictures: Tensor,
    film: Tensor,
    weights: Tensor,
    anchor: int,
    moments: list[tuple[int, int]],
) -> bool:
    """Whether all frames of a clip say the camera that was read from its latent frames.

    Args:
        found: what was read.
        pictures, weights, anchor: as in `registration.register`.
        film: `(N, h, w)` grey values of all frames, 0..255.
        moments: of each latent frame, which two frames it stands for (`moments.frames_of`).
    """
    said = chain(film, weights, moments)
    back = inverse(said[anchor])
    height, width = pictures.shape[1:]
    half = (width / min(width, height), height / min(width, height))
    far = max(
        apart(half, after(back, own), other) for own, other in zip(said, found.motions, strict=True)
    )
    diagonal = 2 * math.hypot(*half)
    return far <= AGREE * diagonal and everywhere(found, pictures, weights, anchor)


def grey_film(frames: NDArray[np.uint8]) -> Tensor:
    """uint8 RGB `(N, H, W, 3)` -> `(N, h, w)` float32 grey values of all frames, smaller where they
    are large: one by one, as a long clip in floating point takes gigabytes.
    """
    height, width = frames.shape[1:3]
    times = min(1.0, LARGE / min(height, width))
    size = (round(height * times), round(width * times))
    made = []
    for frame in frames:
        grey = torch.from_numpy(frame.mean(-1, dtype=np.float32))[None, None]
        if times < 1:
            grey = functional.interpolate(grey, size=size, mode="bilinear", antialias=True)
        made.append(grey[0, 0])
    return torch.stack(made)


def chain(film: Tensor, weights: Tensor, moments: list[tuple[int, int]]) -> Tensor:
    """`(F, 4)` motions of the latent frames against the first frame of the clip, as in
    `Registration.motions`: every frame laid on the one before, from rest and as if the camera went
    on as before. Args as in `confirmed`.
    """
    which = [min(range(len(moments)), key=lambda f: abs(sum(moments[f]) / 2 - n)) for n in
             range(len(film))]  # fmt: skip
    levels = [level_of(film, weights[which], side) for side in SIDES]
    rest = step = torch.zeros(4, dtype=torch.float64)
    motions = [rest]
    for n in range(1, len(film)):
        ways = [fitted(levels, n, n - 1, begin) for begin in (step, rest)]
        step = min(ways, key=lambda motion: levels[-1].missed(n, n - 1, motion))
        motions.append(after(motions[-1], step))
    return torch.stack([(motions[a] + motions[b]) / 2 for a, b in moments])


def apart(half: tuple[float, float], one: Tensor, other: Tensor) -> float:
    """How far apart two motions take a corner of the picture, in half shorter sides, 0 or more.

    Args:
        half: of the picture's width and height, in half shorter sides.
        one, other: `(4,)` as in `Registration.motions`.
    """
    wide, high = half
    corners = [one.new_tensor([0, 0, x * wide, y * high]) for x, y in product((-1, 1), (-1, 1))]
    return max(float((after(at, one) - after(at, other))[2:].norm()) for at in corners)


def everywhere(
    found: Registration, pictures: Tensor, weights: Tensor, anchor: int, judged: float = JUDGED
) -> bool:
    """Whether most parts of the anchor frame lie better under the camera than at rest, wherever
    they show something to tell it by, and that is in much of the picture: else what moves is a
    thing. Args as in `confirmed`.
    """
    better = []
    level = level_of(pictures, weights, SIDES[-1])
    whole = level.weight[anchor].clone()
    height, width = whole.shape
    rows, columns = (torch.linspace(0, n, PARTS + 1).round().int() for n in (height, width))
    for (top, bottom), (first, last) in product(pairwise(rows), pairwise(columns)):
        level.weight[anchor] = 0
        level.weight[anchor, top:bottom, first:last] = whole[top:bottom, first:last]
        left = _left(level, found, anchor)
        if left is not None:
            better.append(left < BETTER_THERE)
    return len(better) >= judged * PARTS**2 and sum(better) >= MOST * len(better)


def _left(level: Level, found: Registration, anchor: int) -> float | None:
    """What is left of the squared difference in the places that count in the anchor frame; None
    where they show nothing, or are seen in no other frame.
    """
    if float(level.weight[anchor].sum()) <= 0 or level.contrast(anchor) < READABLE:
        return None
    moved = still = 0.0
    for f in range(len(level.grey)):
        now = level.missed(f, anchor, found.motions[f])
        before = level.missed(f, anchor, torch.zeros_like(found.motions[f]))
        if f != anchor and math.isfinite(now) and math.isfinite(before):
            moved, still = moved + now, still + before
    return moved / still if still else None
