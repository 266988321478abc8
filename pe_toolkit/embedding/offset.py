"""Positions as coordinates: how far each token pretends to be from where it is.

`(S, 3)` offsets (frame, y, x) in latent frames and patches, added to the coordinates that the
backbone itself gives the token; the same for queries and keys. A card of them knows nothing of
tables: they can be scaled, added, mirrored and resampled, and every backbone evaluates them by its
own frequencies.
"""

from __future__ import annotations

import torch

from pe_toolkit.embedding.absolute import SincosTable
from pe_toolkit.embedding.rotary import Axes, RotaryAngle, Tables
from pe_toolkit.grid import TokenGrid


class RotaryOffset:
    """Offsets of a backbone that rotates queries and keys: the angles at the moved coordinates."""

    name = "offset"

    def __init__(self, base: Tables, grid: TokenGrid, axes: Axes | None = None) -> None:
        self.grid = grid
        self.angle = RotaryAngle(base, grid, axes)

    @property
    def device(self) -> torch.device:
        return self.angle.device

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.grid.tokens, 3)

    def embed(self, delta: torch.Tensor) -> tuple[Tables, Tables]:
        """`((cos_q, sin_q), (cos_k, sin_k))`, each `(S, head_dim)`; the model's tables bit for bit
        at zero.
        """
        return self.angle.embed(self.angle.from_offsets(delta))

    def from_offsets(self, offsets: torch.Tensor) -> torch.Tensor:
        return offsets.float()


class SincosOffset:
    """Offsets of a backbone with a sincos table: the table at the moved coordinates, minus that at
    the token's own.
    """

    name = "offset"

    def __init__(
        self, base: torch.Tensor, grid: TokenGrid, scales: tuple[float, float] = (1.0, 1.0)
    ) -> None:
        self.grid = grid
        self.table = SincosTable(base, grid, scales)

    @property
    def device(self) -> torch.device:
        return self.table.device

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.grid.tokens, 3)

    def embed(self, delta: torch.Tensor) -> torch.Tensor:
        """`(S, inner_dim)`, which the hook adds to tokens that already hold the model's own."""
        return self.table.embed(self.table.from_offsets(delta))

    def from_offsets(self, offsets: torch.Tensor) -> torch.Tensor:
        return offsets.float()
