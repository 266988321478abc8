"""Affine maps of the picture, one per latent frame, that zoom, roll and pan:
p -> c + A_f (p - c) + b_f, with c the middle of the grid, A_f `(F, 2, 2)` similarities and b_f
`(F, 2)` (x, y) in patches.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pe_toolkit.grid import TokenGrid


def resting(grid: TokenGrid) -> tuple[Tensor, Tensor]:
    """A_f and b_f of a camera that does not move."""
    still = torch.eye(2, dtype=torch.float64).expand(grid.frames, 2, 2).clone()
    return still, torch.zeros(grid.frames, 2, dtype=torch.float64)


def moving(linear: Tensor, shift: Tensor) -> bool:
    """Whether a camera does: A_f `(F, 2, 2)` and b_f `(F, 2)`."""
    return bool((linear != torch.eye(2)).any() or (shift != 0).any())


def turning(linear: Tensor) -> tuple[Tensor, Tensor]:
    """Log zoom and clockwise radians of `(F, 2, 2)` similarities."""
    return 0.5 * torch.linalg.det(linear).log(), torch.atan2(linear[:, 1, 0], linear[:, 0, 0])


def similarity(size: Tensor, turn: Tensor) -> Tensor:
    """`(F,)` log sizes and clockwise radians -> `(F, 2, 2)`."""
    c, s = size.exp() * turn.cos(), size.exp() * turn.sin()
    return torch.stack([torch.stack([c, -s], -1), torch.stack([s, c], -1)], -2)


def times(linear: Tensor, shift: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """The camera, `scale` times as far."""
    if scale == 1:
        return linear, shift
    size, turn = turning(linear)
    return similarity(size * scale, turn * scale), shift * scale


def since(origin: int, linear: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Maps `(F, 2, 2)`, `(F, 2)` against another frame."""
    own = linear @ torch.linalg.inv(linear[origin])
    return own, shift - (own @ shift[origin][:, None])[..., 0]
