"""A film as one picture that the camera looks about in: all frames laid on the anchor frame's, and
where the things are that move in it.

Where frames lie on each other what does not move is always the same, as before a camera that rests
(`motion.backdrop`), and what moves by itself is where it goes beyond the camera (`motion.spots`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pe_toolkit.grid import TokenGrid
from pe_toolkit.motion.registration import SIDES, after, fitted, inverse, level_of, moved
from pe_toolkit.motion.sizes import size_of
from pe_toolkit.motion.spots import COVERED, Spot, Track, tracks
from pe_toolkit.motion.turns import angle_of

AROUND = 1.0
"""Pictures beyond the anchor frame's that are kept on every side."""
LARGEST = 4.0
"""Pictures that the whole is made smaller than."""
EDGE = 1.5
"""Pixels at the border of a frame that are not looked at: half of what they are the mean of is
outside."""
POINTS = 4
"""Points along a patch at which is asked what covers it."""


@dataclass(frozen=True)
class Steady:
    """All frames in the anchor frame's coordinates: half shorter sides from its middle, as in
    `Registration.motions`.

    Attributes:
        pictures: `(N, 3, h, w)` 0 to 255; what a frame does not show is the median of the others.
        motions: `(N, 4)` of every frame, as in `Registration.motions`.
        half: of the anchor frame's width and height.
        first: `(2,)` (x, y) of the left and upper border.
        pitch: pixels of a half shorter side.
        bounds: `(N, 4)` pixels, where the border of each frame is, as `pieces.borders`.
    """

    pictures: Tensor
    motions: Tensor
    half: Tensor
    first: Tensor
    pitch: float
    bounds: Tensor

    @property
    def frame(self) -> float:
        """Pixels of one frame."""
        return 4 * float(self.half.prod()) * self.pitch**2


def spots_before(
    pictures: Tensor, motions: Tensor, grid: TokenGrid, anchor: int, moments: list[tuple[int, int]]
) -> list[Spot]:
    """Up to three things before a camera that moves, or none where that is not clear. Their places
    are in the anchor frame's coordinates, without what the camera makes of them, in patches; what
    they cover is as the frames have it.

    Args:
        pictures: `(N, 3, h, w)` of `backdrop.shrunk`.
        motions: `(F, 4)` of the latent frames (`Registration.motions`).
        grid: F x H x W tokens.
        anchor: latent frame.
        moments: of each latent frame, which two frames it stands for (`moments.frames_of`).
    """
    steady = steadied(pictures, motions, anchor, moments)
    found = tracks(steady.pictures, laid=True, frame=steady.frame, bounds=steady.bounds)
    return [_spot(track, steady, grid, moments) for track in found]


def steadied(
    pictures: Tensor, motions: Tensor, anchor: int, moments: list[tuple[int, int]]
) -> Steady:
    """All frames on one canvas, of `LARGEST` pictures at most. Args as of `spots_before`."""
    height, width = pictures.shape[2:]
    half = torch.tensor([width, height], dtype=torch.float64) / min(width, height)
    every = _every(pictures, motions, anchor, moments)
    low, high = -half, half.clone()
    for motion, (x, y) in product([inverse(each) for each in every], product((-1, 1), (-1, 1))):
        at = torch.cat([torch.zeros(2), torch.tensor([x, y]) * half])
        corner = after(at, motion)[2:]
        low, high = torch.minimum(low, corner), torch.maximum(high, corner)
    most = (1 + 2 * AROUND) * half
    low, high = torch.maximum(low, -most), torch.minimum(high, most)
    pictures_there = float(((high - low) / (2 * half)).prod())
    pitch = min(width, height) / 2 * min(1.0, math.sqrt(LARGEST / pictures_there))
    columns, rows = ((high - low) * pitch).ceil().int().tolist()
    xs = low[0] + (torch.arange(columns, dtype=torch.float64) + 0.5) / pitch
    ys = low[1] + (torch.arange(rows, dtype=torch.float64) + 0.5) / pitch
    at = torch.stack(torch.meshgrid(xs, ys, indexing="xy"), -1)
    inside = 1 - 2 * EDGE / torch.tensor([width, height])
    made, shown = [], []
    for picture, motion in zip(pictures, every, strict=True):
        there = (moved(at, motion) / half).float()
        made.append(functional.grid_sample(
            picture[None], there[None], mode="bilinear", padding_mode="border", align_corners=False
        )[0])  # fmt: skip
        shown.append((there.abs() <= inside).all(-1))
    filled = _filled(torch.stack(made), torch.stack(shown))
    border = _borders(every, half * inside)
    bounds = (border - low.repeat(2)) * pitch - 0.5
    last = torch.tensor([columns - 1, rows - 1], dtype=torch.float64)
    bounds = torch.cat([bounds[:, :2].clamp(min=0), torch.minimum(bounds[:, 2:], last)], 1)
    return Steady(filled, every, half, low, pitch, bounds)


def _borders(every: Tensor, half: Tensor) -> Tensor:
    """`(N, 4)` left, upper, right and lower border of frames of so much to either side of their
    middle, in the anchor frame's coordinates: of one that is turned, what is inside at any height.
    """
    corners = torch.stack(
        [
            torch.stack(
                [
                    after(
                        torch.cat([torch.zeros(2), torch.tensor([x, y]) * half]), inverse(motion)
                    )[2:]
                    for y, x in product((-1, 1), (-1, 1))
                ]
            )
            for motion in every
        ]
    )  # (N, 4, 2): upper left, upper right, lower left, lower right
    low = [corners[:, [0, 2], 0].amax(1), corners[:, [0, 1], 1].amax(1)]
    high = [corners[:, [1, 3], 0].amin(1), corners[:, [2, 3], 1].amin(1)]
    return torch.stack(low + high, 1)


def _every(
    pictures: Tensor, motions: Tensor, anchor: int, moments: list[tuple[int, int]]
) -> Tensor:
    """`(N, 4)` of every frame, against the first of the two that the anchor stands for: begun
    between those of the latent frames.
    """
    count, own = len(pictures), moments[anchor][0]
    times = [(first + second) / 2 for first, second in moments]
    between = np.stack([np.interp(range(count), times, each) for each in motions.T.numpy()], 1)
    begun = torch.from_numpy(between)
    back = inverse(begun[own])
    level = level_of(pictures.mean(1), torch.ones(count, 1, 1), SIDES[-1])
    every = [after(back, motion) for motion in begun]
    for n, motion in enumerate(every):
        if n != own and math.isfinite(level.missed(n, own, motion)):  # else they share too little
            every[n] = fitted([level], n, own, motion)
    return torch.stack(every)


def _filled(pictures: Tensor, shown: Tensor) -> Tensor:
    """`(N, 3, h, w)` and `(N, h, w)` bool: the median of those that show it in the place of what is
    not shown.
    """
    known = torch.where(shown[:, None], pictures, torch.nan).nanmedian(0).values
    return torch.where(shown[:, None], pictures, known.nan_to_num(0.0))


def _spot(track: Track, steady: Steady, grid: TokenGrid, moments: list[tuple[int, int]]) -> Spot:
    at = steady.first + (track.way + 0.5) / steady.pitch
    sides = torch.tensor([grid.width, grid.height])
    place = (at / steady.half + 1) / 2 * sides - 0.5
    first, second = (list(each) for each in zip(*moments, strict=True))
    share = torch.stack([
        torch.maximum(*(_covered(track.covers[n], steady, n, grid) for n in both))
        for both in moments
    ])  # fmt: skip
    size = size_of(track.sides, moments)
    turn = None if size is None else angle_of(track.turn, moments)
    return Spot((place[first] + place[second]) / 2, share > COVERED, size, turn)


def _covered(cover: Tensor, steady: Steady, n: int, grid: TokenGrid) -> Tensor:
    """`(h, w)` bool in the anchor frame's coordinates -> `(H, W)`, the share of each patch of frame
    n that it covers.
    """
    height, width = POINTS * grid.height, POINTS * grid.width
    x = ((torch.arange(width, dtype=torch.float64) + 0.5) / width * 2 - 1) * steady.half[0]
    y = ((torch.arange(height, dtype=torch.float64) + 0.5) / height * 2 - 1) * steady.half[1]
    across, down = torch.meshgrid(x, y, indexing="xy")
    at = moved(torch.stack([across, down], -1), inverse(steady.motions[n]))
    pixel = ((at - steady.first) * steady.pitch).floor().long()
    inside = ((pixel >= 0) & (pixel < torch.tensor([cover.shape[1], cover.shape[0]]))).all(-1)
    last = torch.tensor([cover.shape[1] - 1, cover.shape[0] - 1])
    column, row = pixel.clamp(torch.zeros_like(last), last).unbind(-1)
    there = (cover[row, column] & inside).double()
    return functional.avg_pool2d(there[None, None], POINTS)[0, 0]
