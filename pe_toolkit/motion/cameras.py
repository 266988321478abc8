"""The camera of a reference: how its background lies on itself in the pictures
(`motion.registration`). Where the background shows nothing, there is none to be seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pe_toolkit.grid import TokenGrid
from pe_toolkit.motion.film import confirmed, everywhere, grey_film
from pe_toolkit.motion.layers import camera_layer
from pe_toolkit.motion.moments import frames_of
from pe_toolkit.motion.moves import JERK, REST
from pe_toolkit.motion.registration import NOISE, READABLE, Registration, register
from pe_toolkit.motion.similarities import moving, resting, turning
from pe_toolkit.motion.steady import spots_before

BETTER = 0.5
"""Of the squared difference that may be left of what it was, for a motion to be one: noise alone
falls to 0.62 between two pixels."""
LEFT = 0.12
"""The same of a camera's, where more is left than noise (`NOISE` squared in every frame): rendered
cameras leave 0.07 at most; a thing before a light that falls from one side, taken for the ground,
0.14 and 0.26."""
MUCH, PARTLY = 0.25, 0.4
"""Of the picture: what changes at least where a camera is looked for that things hide; and how many
of its parts must tell it."""


@dataclass(frozen=True)
class Camera:
    """How a camera moves, against the anchor frame.

    Attributes:
        laid: how the background lies on itself.
        linear: `(F, 2, 2)` float64 A_f.
        shift: `(F, 2)` float64 b_f, patches.
        at_rest: why it is said to rest, a key of `moves.AT_REST`, or "".
    """

    laid: Registration
    linear: Tensor
    shift: Tensor
    at_rest: str

    @property
    def moves(self) -> bool:
        """Whether it does."""
        return moving(self.linear, self.shift)

    @property
    def maps(self) -> tuple[Tensor, Tensor]:
        """A_f and b_f."""
        return self.linear, self.shift


def read_camera(
    grid: TokenGrid,
    pictures: Tensor,
    film: NDArray[np.uint8] | None = None,
    weights: Tensor | None = None,
    *,
    told: bool = False,
) -> Camera:
    """The camera of what counts in the pictures.

    Args:
        grid, pictures, film: as in `read.read_moves`.
        weights: `(F, H, W)` in [0, 1], how far a place counts. Default: all of it.
        told: whether what counts is known to be no thing; else what lies on itself may be one.
    """
    anchor = grid.frames // 2
    weights = torch.ones(tuple(grid), dtype=torch.float64) if weights is None else weights
    found = register(pictures, weights, anchor)

    def sure(doubt: bool) -> bool:
        if not doubt:
            return told or everywhere(found, pictures, weights, anchor)
        if film is None:
            return False
        moments = frames_of(len(film), grid.frames)
        return confirmed(found, pictures, grey_film(film), weights, anchor, moments)

    return Camera(found, *_camera(found, grid, sure))


def past_things(grid: TokenGrid, pictures: Tensor, small: Tensor) -> Camera | None:
    """The camera where things hide it, or what it shows is taken for things: laid on itself as a
    whole, the picture shows what moves in it, and the rest lies on itself.

    Args:
        small: `(N, 3, h, w)` of `backdrop.shrunk`.
    """
    anchor = grid.frames // 2
    found = register(pictures, torch.ones(tuple(grid), dtype=torch.float64), anchor)
    moments = frames_of(len(small), grid.frames)
    things = spots_before(small, found.motions, grid, anchor, moments)
    if not things:
        return None
    covered = torch.stack([spot.cover for spot in things]).any(0)
    weights = 1 - functional.max_pool2d(covered.double(), 3, 1, 1)
    camera = read_camera(grid, pictures, None, weights, told=True)
    sure = camera.moves and everywhere(camera.laid, pictures, weights, anchor, PARTLY)
    return camera if sure else None


def _camera(
    found: Registration, grid: TokenGrid, sure: Callable[[bool], bool]
) -> tuple[Tensor, Tensor, str]:
    """A_f and b_f in patches; the identity, and why, where that says the background no worse.
    `sure` is asked, and told whether much is left, as of real footage.
    """
    linear, shift = found.linear, found.shift * torch.tensor([grid.width, grid.height])
    still = resting(grid)
    if found.contrast < READABLE:
        return *still, "plain"
    if not bool(found.rest.isfinite().all()):
        return *still, "unclear"
    goes = camera_layer(grid, linear, shift).reshape(grid.frames, -1)
    if float((goes.amax(0) - goes.amin(0)).max()) < REST:  # from first to last, not from the middle
        return *still, "rests"
    jumps = float(torch.stack(turning(linear)).diff(dim=1).abs().max()) > JERK
    rest, before = float(found.rest.sum()), float(found.still.sum())
    noise = (grid.frames - 1) * NOISE**2
    doubt = rest > min(BETTER * before, max(LEFT * before, noise))
    if jumps or not sure(doubt):
        return *still, "unclear"
    return linear, shift, ""
