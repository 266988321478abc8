"""Absolute positions (CogVideoX-2b): a change added to the sincos table of the video tokens."""

from __future__ import annotations

import torch

from pe_toolkit.grid import TokenGrid


def sincos(coordinates: torch.Tensor, dim: int) -> torch.Tensor:
    """`(S,)` coordinates -> `(S, dim)` sines then cosines (diffusers'
    `get_1d_sincos_pos_embed_from_grid`).
    """
    omega = 10000.0 ** (
        -torch.arange(dim // 2, dtype=torch.float64, device=coordinates.device) / (dim / 2)
    )
    phase = coordinates.double()[:, None] * omega
    return torch.cat([phase.sin(), phase.cos()], dim=-1)


def sincos_3d(points: torch.Tensor, dim: int) -> torch.Tensor:
    """`(S, 3)` points (t, y, x) -> `(S, dim)`: a quarter for time, the rest half column, half row.

    Equals diffusers' `get_3d_sincos_pos_embed` at whole points (its width-first order included).
    """
    spatial = 3 * dim // 4
    t, y, x = points.unbind(-1)
    return torch.cat(
        [sincos(t, dim // 4), sincos(x, spatial // 2), sincos(y, spatial // 2)], dim=-1
    )


class SincosTable:
    """Change of the sincos table: `(S, inner_dim)`, added to the video tokens after the patch
    embedding.
    """

    name = "table"

    def __init__(
        self, base: torch.Tensor, grid: TokenGrid, scales: tuple[float, float] = (1.0, 1.0)
    ) -> None:
        self.base = base
        self.grid = grid
        self.scales = scales

    @property
    def device(self) -> torch.device:
        return self.base.device

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.grid.tokens, self.base.shape[-1])

    def embed(self, delta: torch.Tensor) -> torch.Tensor:
        """The delta itself: the hook adds it to tokens that already hold the model's own table."""
        return delta

    def from_offsets(self, offsets: torch.Tensor) -> torch.Tensor:
        f, h, w = self.grid
        axes = [torch.arange(n, dtype=torch.float64, device=offsets.device) for n in (f, h, w)]
        points = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, 3)
        spatial, temporal = self.scales
        scale = torch.tensor(
            [temporal, spatial, spatial], dtype=torch.float64, device=offsets.device
        )
        dim = self.base.shape[-1]
        return (
            sincos_3d((points + offsets.double()) / scale, dim) - sincos_3d(points / scale, dim)
        ).float()
