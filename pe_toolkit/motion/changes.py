"""What changes in a clip: how its frames differ from the median of all of them.

A camera that moves changes most of a picture. Where most of it is as it is in most frames, the
camera rests, whatever lies on itself elsewhere (a shadow, a limb, a thing beside another); and what
differs is what moves, whether or not the reading can follow it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pe_toolkit.grid import TokenGrid

SIDE = 128
"""Pixels of the shorter side that are looked at."""
LEAST, CLEARLY = 3.0, 20.0
"""Of 255, by how much the mean of 3 x 3 pixels differs, in any colour: at all, and as a thing does
that is not only the light on it."""
QUIET = 0.4
"""Of a frame: what changes at most before a camera that rests. Rendered references of one or two
things have up to 0.29, those of a camera that moves from 0.54 (docs/experiments.md)."""
THERE = 0.15
"""Of the most that differs in a frame: less is a thing that is hidden, or outside."""
ONE = 1.9
"""Times as far from its middle, in the root mean square, as of a disc of the same area, what
differs may lie to be one thing."""
COVERED = 0.2
"""Of a patch."""


@dataclass(frozen=True)
class Spot:
    """The one place in which a clip differs from its median.

    Attributes:
        place: `(F, 2)` float64, (x, y) of its middle in patches; in frames in which it is not seen,
            between those in which it is.
        cover: `(F, H, W)` bool, the patches that it covers.
        inside: whether it comes to no border of the picture.
    """

    place: Tensor
    cover: Tensor
    inside: bool


def changes(film: NDArray[np.uint8]) -> Tensor:
    """uint8 RGB `(N, H, W, 3)` -> `(N, h, w)` float32, by how much each frame differs from the
    median of all, 0 to 255; smaller where frames are large.
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
    pictures = torch.stack(made)
    return (pictures - pictures.median(0).values).abs().amax(1)


def most_changed(changed: Tensor) -> float:
    """The largest share of a frame that differs at all, of what `changes` gives."""
    return float((changed > LEAST).float().mean((1, 2)).max())


def spot(changed: Tensor, grid: TokenGrid, moments: list[tuple[int, int]]) -> Spot | None:
    """Where a clip differs clearly, if that is one thing, seen from the first frame to the last but
    for some between; else None.

    Args:
        changed: as `changes` gives it.
        moments: of each latent frame, which two frames it stands for (`moves.frames_of`).
    """
    clear = torch.where(changed > CLEARLY, changed, torch.zeros_like(changed)).double()
    mass = clear.sum((1, 2))
    seen = (mass > 0) & (mass >= THERE * mass.max())
    if not (seen[0] and seen[-1]):  # where it is while it is outside is not known
        return None
    height, width = clear.shape[1:]
    ways = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    at = torch.stack(ways[::-1], -1).double()
    middle = torch.einsum("nhw,hwk->nk", clear, at) / mass.clamp(min=1e-9)[:, None]
    away = (at - middle[:, None, None]).square().sum(-1)
    spread = (clear * away).sum((1, 2)) / mass.clamp(min=1e-9)
    disc = (clear > 0).double().sum((1, 2)) / (2 * torch.pi)
    if bool((spread[seen] > ONE**2 * disc[seen]).any()):
        return None
    sides = torch.tensor([grid.width / width, grid.height / height], dtype=torch.float64)
    place = (middle + 0.5) * sides - 0.5
    known = seen.nonzero()[:, 0].numpy()
    for axis in (0, 1):
        way = np.interp(np.arange(len(mass)), known, place[seen, axis].numpy())
        place[:, axis] = torch.from_numpy(way)
    first, second = (list(each) for each in zip(*moments, strict=True))
    there = (clear[first] > 0) | (clear[second] > 0)
    share = functional.adaptive_avg_pool2d(there.double()[:, None], (grid.height, grid.width))
    border = float(clear[:, [0, -1]].sum() + clear[:, :, [0, -1]].sum())
    return Spot((place[first] + place[second]) / 2, share[:, 0] > COVERED, border == 0)
