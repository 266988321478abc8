"""The contract of a positional form."""

from __future__ import annotations

from typing import Any, Protocol

import torch

from pe_toolkit.grid import TokenGrid


class PositionalForm(Protocol):
    """A parametrisation of the change to a backbone's positional embedding, bound to the model's
    own `base`.

    `base` is `(cos, sin)`, each `(S, head_dim)`, for rotary forms, and the `(S, inner_dim)` sincos
    table of the video tokens for absolute ones. `S = grid.tokens`. `layout` is what the family says
    of how the model made it.
    """

    name: str

    def __init__(self, base: Any, grid: TokenGrid, **layout: Any) -> None: ...

    @property
    def device(self) -> torch.device:
        """Where the model's own embedding is."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a delta."""
        ...

    def embed(self, delta: torch.Tensor) -> Any:
        """What the backbone's hooks inject for a delta; differentiable; the model's own values at
        zero.
        """
        ...

    def from_offsets(self, offsets: torch.Tensor) -> torch.Tensor:
        """The delta that makes every token pretend to be elsewhere: `(S, 3)` offsets (dt, dy, dx)
        in tokens.
        """
        ...
