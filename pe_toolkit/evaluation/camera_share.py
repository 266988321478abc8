"""How much of the camera of a reference a video shows.

The middle frame of the video, taken to all others by a share of the reference's camera, lies best
on them at the share that the video has: zoom, roll and pan at once, of what moves and of its
background, whichever of them is there to be seen. A thing that moves by itself disturbs little, as
it is compared at all shares alike.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pe_toolkit.grid import TokenGrid
from pe_toolkit.motion.backdrop import shrunk
from pe_toolkit.motion.moments import frames_of
from pe_toolkit.motion.similarities import times

LEAST, MOST, STEP = -0.5, 2.0, 0.05
"""Shares that are tried. Most videos with their card show 0.65 to 1.6, none of 72 without it more
than 0.65 (docs/experiments.md)."""
CLEARLY = 0.02
"""Of the difference without any camera, how much less there is at the best share, or it is 0."""


def camera_share(
    frames: NDArray[np.uint8], camera: tuple[Tensor, Tensor], grid: TokenGrid
) -> float:
    """The share of a camera's motion that a video shows: 1 all of it, 0 none, below 0 the opposite.

    Args:
        frames: uint8 RGB `(N, H, W, 3)`.
        camera: similarities `(F, 2, 2)` A_f and `(F, 2)` b_f in patches against the middle frame,
            as `Moves` has them.
        grid: F x H' x W' tokens of the clip.
    """
    small = shrunk(frames)
    first, second = (list(each) for each in zip(*frames_of(len(small), grid.frames), strict=True))
    pictures = (small[first] + small[second]) / 2  # (F, 3, h, w)
    shares = torch.arange(LEAST, MOST + STEP / 2, STEP)
    left = torch.stack([_left(pictures, _back(*times(*camera, s), grid)) for s in shares.tolist()])
    best, none = int(left.argmin()), int(shares.abs().argmin())
    if float(left[best]) > (1 - CLEARLY) * float(left[none]):
        return 0.0
    return round(float(shares[best]), 2)


def _back(linear: Tensor, shift: Tensor, grid: TokenGrid) -> Tensor:
    """`(F, 2, 3)` where in the middle frame a place x of each frame was, A_f^-1 (x - b_f), both in
    halves of the picture from its middle.
    """
    half = torch.tensor([grid.width / 2, grid.height / 2], dtype=torch.float64)
    back = torch.linalg.inv(linear.double())
    moved = -(back @ shift.double()[..., None])[..., 0] / half
    return torch.cat([back * half / half[:, None], moved[..., None]], -1).float()


def _left(pictures: Tensor, back: Tensor) -> Tensor:
    """The mean squared difference of all frames from the middle one, taken to them."""
    count, _, height, width = pictures.shape
    places = functional.affine_grid(back, [count, 3, height, width], align_corners=False)
    anchor = count // 2
    middle = pictures[anchor].expand(count, -1, -1, -1)
    taken = functional.grid_sample(middle, places, align_corners=False)
    there = (places.abs() <= 1).all(-1)[:, None]
    others = torch.arange(count) != anchor
    difference = (taken - pictures).square() * there
    return difference[others].sum() / there[others].sum().clamp(min=1)
