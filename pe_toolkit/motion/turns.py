"""Whether a thing turns on its way, by what it looks like around its middle.

Of every frame in which a thing is seen whole and apart, what it looks like is sampled around its
middle, radius by angle. Two frames are turned against each other by the angle at which
the circular correlation

    c(a) = sum_r sum_t f(r, t) g(r, t + a) / sqrt(sum f^2 sum g^2)

is highest, f and g without their means over angles. From frame to frame that is a few degrees, so
that what looks the same after a quarter of a turn is followed as well; frames 2, 4 and 8 apart
correct what adds up.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pe_toolkit.motion.moves import TURN

ANGLES, RADII = 180, 12
WIDE = 0.75
"""Of the root of its area, how far around a thing's middle is looked at: the corners of a square
are at 0.71."""
THERE = 120.0
"""Of 255, how much it counts that a place is the thing's at all."""
STEP, APART, AGAIN = math.radians(25), (2, 4, 8), math.radians(12)
"""Between two frames a thing turns by less; frames that are compared as well, and how far what they
say may be from what the frames between them do."""
OFTEN, SURE, BETTER = 1 / 2, 0.8, 0.1
"""Of the frames, in how many it is to be seen whole; the correlation of neighbours at least; and
how much better, against the middle one, frames lie for the turn: of true turns 0.36 and more."""


ROUND = 0.04
"""Of what a thing looks like, how much changes with the angle at least (squares, the median of its
frames): of discs 0 to 0.01, of squares 0.15 and more, crosses 0.27, triangles 0.29. Of one that is
round nothing can be seen to turn, whatever lies on whatever best."""


def turn_of(pictures: Tensor, covers: Tensor, way: Tensor, size: Tensor) -> Tensor | None:
    """Its angle over time; None where that is not clear.

    Args:
        pictures: `(N, 3, h, w)` of `backdrop.shrunk`.
        covers: `(N, h, w)` bool, what it covers.
        way: `(N, 2)` its middle, (x, y) in pixels.
        size: `(N,)` log of the root of its area; NaN where it is not seen whole and apart.

    Returns:
        `(N,)` float64, radians, clockwise, against the first frame; all zero if it turns by less
        than `moves.TURN`, or is round.
    """
    frames = size.isfinite().nonzero()[:, 0].tolist()
    if len(frames) < max(2, OFTEN * len(pictures)):
        return None
    whole = [_around(pictures[f], covers[f], way[f], WIDE * math.exp(size[f])) for f in frames]
    looks = [look - look.mean(-1, keepdim=True) for look in whole]
    told = [float(a.square().sum() / b.square().sum()) for a, b in zip(looks, whole, strict=True)]
    if float(np.median(told)) < ROUND:
        return torch.zeros(len(pictures), dtype=torch.float64)
    angles, alike = [0.0], []
    for n in range(1, len(looks)):
        step, best = _turned(looks[n - 1], looks[n], 0.0, STEP)
        alike.append(best)
        found = [angles[n - 1] + step]
        for before in (n - apart for apart in APART if apart <= n):
            step, _ = _turned(looks[before], looks[n], found[0] - angles[before], AGAIN)
            found.append(angles[before] + step)
        angles.append(float(np.median(found)))
    if float(np.median(alike)) < SURE:
        return None
    every = np.interp(np.arange(len(pictures)), frames, angles)
    middle = len(looks) // 2
    there = [_correlation(looks[middle], look) for look in looks]
    gain = [
        c[round((angle - angles[middle]) / math.tau * ANGLES) % ANGLES] - c[0]
        for c, angle in zip(there, angles, strict=True)
    ]
    turns = float(np.ptp(every)) >= TURN and float(np.mean(gain)) > BETTER
    return torch.from_numpy(every if turns else np.zeros(len(every)))


def angle_of(turn: Tensor | None, moments: list[tuple[int, int]]) -> Tensor | None:
    """`(F,)` of the latent frames: of `(N,)` angles, or None."""
    if turn is None:
        return None
    return torch.stack([turn[list(pair)].mean() for pair in moments])


def _around(picture: Tensor, cover: Tensor, middle: Tensor, radius: float) -> Tensor:
    """`(4, RADII, ANGLES)` of what of a thing `(3, h, w)` shows around (x, y), against its mean
    colour, and of what it covers.
    """
    other = (picture - picture[:, cover].mean(1)[:, None, None]) * cover
    height, width = cover.shape
    t = torch.arange(ANGLES, dtype=torch.float64) * (math.tau / ANGLES)
    r = (torch.arange(RADII, dtype=torch.float64)[:, None] + 0.5) / RADII * radius
    x, y = middle[0] + r * t.cos(), middle[1] + r * t.sin()
    at = torch.stack([(x + 0.5) / width * 2 - 1, (y + 0.5) / height * 2 - 1], -1).float()
    seen = torch.cat([other, THERE * cover[None].float()])[None]
    found = functional.grid_sample(seen, at[None], align_corners=False)[0]
    return found * r.float().sqrt()  # a circle counts by its length


def _correlation(first: Tensor, second: Tensor) -> NDArray[np.float64]:
    """`(ANGLES,)` c of the formula of this module."""
    both = (torch.fft.rfft(first).conj() * torch.fft.rfft(second)).sum((0, 1))
    strong = float(first.square().sum() * second.square().sum())
    found: NDArray[np.float64] = torch.fft.irfft(both, n=ANGLES).double().numpy()
    return found / math.sqrt(strong + 1e-9)


def _turned(first: Tensor, second: Tensor, near: float, within: float) -> tuple[float, float]:
    """The angle near `near` by which the second is turned, and their correlation there."""
    c = _correlation(first, second)
    middle, wide = round(near / math.tau * ANGLES), round(within / math.tau * ANGLES)
    places = np.arange(middle - wide, middle + wide + 1)
    best = int(places[c[places % ANGLES].argmax()])
    before, top, after = (c[(best + k) % ANGLES] for k in (-1, 0, 1))
    bend = before - 2 * top + after
    part = 0.5 * (before - after) / bend if bend < 0 else 0.0
    return (best + float(np.clip(part, -0.5, 0.5))) / ANGLES * math.tau, float(top)
