"""What lies behind all that moves before a camera that rests.

Not the median over time: a thing that is slow for its size covers a place in most frames. Of what a
pixel shows over time, a colour f that it often shows and that is one of those around what changes,

    score(f) = |{g : f and g alike}| / N - min_s |f - s| / TOLD,

s all colours around. Where none is good enough, what is around it, taken inwards: it is covered in
all frames.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

SIDE = 128
"""Pixels of the shorter side that are looked at."""
VARIES, NOISY = 10.0, 4.0
"""Of 255, by how much a pixel of which nothing covers the backdrop varies over time at least; and
the same in times of what changes from frame to frame in the median, as in a clip with noise."""
TOLD = 25.0
"""Of 255: what is as far as this from all colours around is as good as what is never seen."""
GRAIN = 12.0
"""How much more that is where colours differ, in times of how far they are from the nearest."""
HIDDEN = -0.6
"""The score below which a pixel never shows the backdrop: a thing of a colour of its own before a
plain one that covers it all the time has -1.4 and less, what is seen of a texture 0 and more."""
SLACK = 0.5
"""Pixels by which pictures that were laid on each other are off."""
AROUND, COLOURS = 6, 256
"""Pixels around what changes, and how many of their colours are looked at."""


def shrunk(film: NDArray[np.uint8]) -> Tensor:
    """uint8 RGB `(N, H, W, 3)` -> `(N, 3, h, w)` float32, 0 to 255: smaller where frames are large,
    each pixel the mean of 3 x 3.
    """
    height, width = film.shape[1:3]
    times = min(1.0, SIDE / min(height, width))
    size = (round(height * times), round(width * times))
    made = []
    for frame in film:
        colours = torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)[None].float()
        if times < 1:
            colours = functional.interpolate(colours, size=size, mode="bilinear", antialias=True)
        made.append(functional.avg_pool2d(colours, 3, 1, 1, count_include_pad=False)[0])
    return torch.stack(made)


def backdrop(pictures: Tensor, laid: bool = False) -> Tensor:
    """`(N, 3, h, w)` of `shrunk` -> `(3, h, w)` float32, by the formula of this module.

    Args:
        laid: the pictures were laid on each other, which is not exact to the pixel: what differs as
            much as neighbours do is alike.
    """
    jitter = (pictures[1:] - pictures[:-1]).abs().amax(1)
    alike = max(VARIES, NOISY * float(jitter.median())) if len(jitter) else VARIES
    usual = pictures.median(0).values
    slack = edges(usual) if laid else torch.zeros_like(usual[0])
    still = (pictures.amax(0) - pictures.amin(0)).amax(0) < alike + slack
    # What stays is backdrop if it comes to the border; else it may be the inside of a thing.
    border = torch.zeros_like(still)
    border[[0, -1]] = border[:, [0, -1]] = True
    still = spread((still & border).float()[None], still[None])[0] > 0
    if bool(still.all()) or not bool(still.any()):
        return usual
    shown, guess = pictures[:, :, ~still], _inwards(usual, still)[:, ~still]  # (N, 3, M), (3, M)
    share = torch.stack([((shown - f).abs().amax(1) < alike).float().mean(0) for f in shown])
    palette, grain = _palette(usual, still)
    away = torch.stack([torch.cdist(f.T, palette).amin(1) for f in shown])  # (N, M)
    score = share - away / (TOLD + GRAIN * grain)
    best = score.max(0)
    chosen = torch.gather(shown, 0, best.indices.expand(1, 3, -1))
    same = ((shown - chosen).abs().amax(1) < alike).float()[:, None]  # (N, 1, M)
    mean = (shown * same).sum(0) / same.sum(0)
    out = usual.clone()
    out[:, ~still] = torch.where(best.values > HIDDEN, mean, guess)
    return out


def edges(picture: Tensor) -> Tensor:
    """`(3, h, w)` -> `(h, w)`: `SLACK` of how much the colours within a pixel of each differ."""
    around = [functional.max_pool2d(each[None], 3, 1, 1)[0] for each in (picture, -picture)]
    return SLACK * (around[0] + around[1]).amax(0)


def spread(seeds: Tensor, within: Tensor) -> Tensor:
    """`(N, h, w)` labels above 0, each spread to what is connected with it in `within`; of several
    the largest.
    """
    labels = seeds * within
    while True:
        wider = labels
        for _ in range(4):
            wider = functional.max_pool2d(wider[:, None], 3, 1, 1)[:, 0] * within
        if torch.equal(wider, labels):
            return labels
        labels = wider


def grown(there: Tensor, pixels: int) -> Tensor:
    """`(N, h, w)` bool or float, the largest within so many pixels."""
    return functional.max_pool2d(there.float()[:, None], 2 * pixels + 1, 1, pixels)[:, 0]


def _palette(usual: Tensor, still: Tensor) -> tuple[Tensor, float]:
    """`(P, 3)` colours of what does not change, near what does; and how far others that are there
    are from the nearest of them, in the mean.
    """
    near = (grown(~still[None], AROUND)[0] > 0) & still
    colours = usual[:, near].T
    colours = colours[:: math.ceil(len(colours) / (2 * COLOURS))]
    palette, others = colours[::2], colours[1::2]
    return palette, float(torch.cdist(others, palette).amin(1).mean()) if len(others) else 0.0


def _inwards(usual: Tensor, known: Tensor) -> Tensor:
    """`(3, h, w)`, `(h, w)` bool -> `(3, h, w)`: what is not known, from around it, coarse to
    fine.
    """
    colours, weight = (usual * known)[None], known.float()[None, None]
    levels = []
    while min(weight.shape[-2:]) > 1:
        levels.append((colours, weight))
        sums = functional.avg_pool2d(torch.cat([colours * weight, weight], 1), 2, 2, ceil_mode=True)
        colours, weight = sums[:, :3] / sums[:, 3:].clamp(min=1e-6), (sums[:, 3:] > 0).float()
    made = colours
    for finer, weight in reversed(levels):
        size = finer.shape[-2:]
        made = functional.interpolate(made, size=size, mode="bilinear", align_corners=False)
        made = torch.where(weight > 0, finer, made)
    for _ in range(20):
        smooth = functional.avg_pool2d(functional.pad(made, (1, 1, 1, 1), mode="replicate"), 3, 1)
        made = torch.where(known, usual[None], smooth)
    return made[0]
