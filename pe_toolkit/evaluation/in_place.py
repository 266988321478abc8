"""Do things move where those of a reference do? Displacements, compared patch by patch."""

from __future__ import annotations

import torch
from torch import Tensor

from pe_toolkit.grid import TokenGrid
from pe_toolkit.motion.masks import followed_mask

LEAST_RADIUS = 0.75
"""Patches: a disc of it has a patch's middle in it wherever it is."""


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


def in_place(paths: Tensor, discs: Tensor, grid: TokenGrid) -> tuple[Tensor, Tensor]:
    """The displacements of things that go their ways without turning, and where they are told.

    Args:
        paths: `(N, F, 2)` (dx, dy) in patches against the middle frame.
        discs: `(N, 3)` (x, y, r) in patches, what they cover in that frame.

    Returns:
        `(F, F, H, W, 2)` float64 from frame i to j of what a disc covers in i, else 0; and
        `(F, F, H, W)` bool, covered by exactly one.
    """
    moves = paths[:, None].double() - paths[:, :, None].double()  # (N, F (i), F (j), 2)
    places = discs[:, None, :2].double() + paths.double()  # (N, F, 2)
    y, x = torch.meshgrid(torch.arange(grid.height), torch.arange(grid.width), indexing="ij")
    at = torch.stack([x, y], -1).double()  # (H, W, 2)
    far = (at - places[:, :, None, None]).norm(dim=-1)  # (N, F, H, W)
    covers = far <= discs[:, 2].clamp(min=LEAST_RADIUS)[:, None, None, None]
    alone = covers & (covers.sum(0) == 1)
    wanted = torch.einsum("nihw,nijk->ijhwk", alone.double(), moves)
    return wanted, alone.any(0)[:, None].expand(wanted.shape[:-1])
