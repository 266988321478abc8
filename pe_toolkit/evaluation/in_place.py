"""Do things move where those of a reference do? Displacements, compared patch by patch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pe_toolkit.grid import TokenGrid
from pe_toolkit.motion.layers import carried, undo
from pe_toolkit.motion.masks import followed_mask
from pe_toolkit.motion.similarities import resting

LEAST_RADIUS = 0.75
"""Patches: a disc of it has a patch's middle in it wherever it is."""


@dataclass(frozen=True)
class Ways:
    """Where the things of a reference go, and its camera.

    paths: `(N, F, 2)` (dx, dy) in patches, against the middle frame, beyond the camera.
    discs: `(N, 3)` (x, y, r) in patches, what they cover there, or None.
    camera: `(F, 6)` rows of `card.spec.MotionSpec.camera`; None where it rests.
    """

    paths: Tensor
    discs: Tensor | None = None
    camera: Tensor | None = None

    def maps(self, grid: TokenGrid) -> tuple[Tensor, Tensor]:
        """`(F, 2, 2)` A_f and `(F, 2)` b_f, float64."""
        if self.camera is None:
            return resting(grid)
        return self.camera[:, :4].double().unflatten(1, (2, 2)), self.camera[:, 4:].double()

    def seen(self, grid: TokenGrid) -> Tensor:
        """`(N, F)` bool: whether anything of a thing is in the picture; True without discs."""
        if self.discs is None:
            return torch.ones(self.paths.shape[:2], dtype=torch.bool)
        places, radii = self.places(grid)
        sides = torch.tensor([grid.width, grid.height])
        low, high = places + radii[..., None] + 0.5, sides - 0.5 + radii[..., None] - places
        return ((low > 0) & (high > 0)).all(-1)

    def places(self, grid: TokenGrid) -> tuple[Tensor, Tensor]:
        """`(N, F, 2)` where the discs are in the picture, (x, y) in patches, and `(N, F)` radii,
        float64.

        Raises:
            ValueError: without discs.
        """
        if self.discs is None:
            raise ValueError("ways without discs have no place")
        linear, shift = self.maps(grid)
        own = self.discs[:, None, :2].double() + self.paths.double()  # (N, F, 2)
        places = carried(own.transpose(0, 1), grid, linear, shift).transpose(0, 1)
        return places, self.discs[:, 2:].double() * torch.linalg.det(linear).abs().sqrt()


def agreement_in_place(flow: Tensor, wanted: Tensor, counts: Tensor | None = None) -> float:
    """Mean cosine of two hard flows `(F, F, H, W, 2)` over what goes a patch or farther in
    `wanted`; what `flow` leaves where it is counts 0. NaN if there is nothing of it.

    Args:
        counts: `(F, F, H, W)` bool, what else is asked of it. None: what is followed in `wanted`.
    """
    counts = followed_mask(wanted) if counts is None else counts
    counts = counts & (wanted.double().square().sum(-1) >= 1)
    a, b = flow[counts].double(), wanted[counts].double()
    size = a.norm(dim=-1) * b.norm(dim=-1)
    return float(((a * b).sum(-1) / size.clamp(min=1e-9)).mean())


def agreement_by_part(flow: Tensor, wanted: Tensor, parts: Sequence[Tensor]) -> float:
    """The mean of `agreement_in_place` over parts, `(F, F, H, W)` bool each, in which something
    goes a patch or farther: else the ground, which is most of a picture, would say it all.
    """
    found = torch.tensor([agreement_in_place(flow, wanted, part) for part in parts])
    return float(found.nanmean())


def in_place(ways: Ways, grid: TokenGrid) -> tuple[Tensor, list[Tensor]]:
    """The displacements of things that go their ways without turning, and of what is around them,
    as the camera has it.

    Returns:
        `(F, F, H, W, 2)` float64, from frame i to j; and the parts in which it is told,
        `(F, F, H, W)` bool: what exactly one disc covers in i, and if a camera moves the rest, as
        far as either stays in the picture.

    Raises:
        ValueError: ways without discs.
    """
    places, radii = ways.places(grid)
    at = grid.coordinates(dtype=torch.float64)  # (HW, 2)
    linear, shift = ways.maps(grid)
    far = (at - places[:, :, None]).norm(dim=-1)  # (N, F, HW)
    covers = far <= radii.clamp(min=LEAST_RADIUS)[..., None]
    alone = covers & (covers.sum(0) == 1)
    moves = places[:, None] - places[:, :, None]  # (N, F (i), F (j), 2)
    wanted = torch.einsum("nip,nijk->ijpk", alone.double(), moves)
    stays = alone.any(0)[:, None] & _inside(at + wanted, grid)
    parts = [stays] if len(places) else []
    if ways.camera is not None:
        stood = undo(at[None], grid, linear, shift)  # (F, HW, 2)
        there = torch.stack([carried(each[None], grid, linear, shift) for each in stood])
        ground = ~covers.any(0)[:, None] & _inside(there, grid)
        wanted = torch.where(ground[..., None], there - at, wanted)
        parts.append(ground)
    size = (grid.height, grid.width)
    return wanted.unflatten(2, size), [part.unflatten(2, size) for part in parts]


def _inside(places: Tensor, grid: TokenGrid) -> Tensor:
    x, y = places.unbind(-1)
    return (x > -0.5) & (x < grid.width - 0.5) & (y > -0.5) & (y < grid.height - 0.5)
