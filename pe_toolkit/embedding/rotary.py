"""Rotary positions: free tables as in the paper's code, or angles that stay rotations.

CogVideoX rotates interleaved column pairs (2k, 2k + 1) of queries and keys by one angle each. The
`head_dim / 2` angles of a token are its frame, row and column times fixed frequencies: 1/4 of the
pairs for the frame, 3/8 each for row and column.
"""

from __future__ import annotations

import torch

from pe_toolkit.grid import TokenGrid

Tables = tuple[torch.Tensor, torch.Tensor]
Axes = tuple[int, int, int]
"""Columns of a head that belong to frame, row and column."""
THETA = 10000.0


def axis_dims(head_dim: int) -> Axes:
    """Columns of a head that belong to frame, row and column (diffusers'
    `get_3d_rotary_pos_embed`).
    """
    return head_dim // 4, head_dim // 8 * 3, head_dim // 8 * 3


def frequencies(axes: Axes) -> list[torch.Tensor]:
    """Radians per unit of (frame, row, column), one float64 vector of `dim / 2` per axis."""
    return [THETA ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim) for dim in axes]


def steps(base: Tables, grid: TokenGrid, axes: Axes | None = None) -> tuple[float, float, float]:
    """Coordinate units between neighbouring tokens along (frame, row, column), read off the model's
    own tables.

    The first pair of every axis has frequency 1, so its angle is the coordinate itself, but for
    whole turns; the slowest pair, which makes none within a picture, says how many. Other
    resolutions than the native one stretch the coordinates (a picture of 4 patches in place of 30:
    7.5 units each); reading the step serves every CogVideoX version.
    """
    cos, sin = (t.double() for t in base)
    axes = axes or axis_dims(cos.shape[-1])
    firsts = torch.tensor([0, *axes[:2]]).cumsum(0).tolist()
    strides = (grid.per_frame, grid.width, 1)
    out = []
    for first, width, slow, stride, size in zip(
        firsts, axes, frequencies(axes), strides, grid, strict=True
    ):
        if size == 1:
            out.append(1.0)
            continue
        fine, coarse = (
            float((angle[stride] - angle[0]) % (2 * torch.pi))
            for column in (first, first + width - 2)
            for angle in [torch.atan2(sin[:, column], cos[:, column])]
        )
        turns = round((coarse / float(slow[-1]) - fine) / (2 * torch.pi))
        out.append(fine + 2 * torch.pi * turns)
    return out[0], out[1], out[2]


def _angles(base: Tables, grid: TokenGrid, axes: Axes, offsets: torch.Tensor) -> torch.Tensor:
    """`(S, 3)` offsets in tokens -> `(S, head_dim / 2)` angle changes in radians."""
    per_token = torch.tensor(steps(base, grid, axes), dtype=torch.float64, device=offsets.device)
    moved = offsets.double() * per_token
    parts = [moved[:, [axis]] * f.to(offsets.device) for axis, f in enumerate(frequencies(axes))]
    return torch.cat(parts, dim=-1)


class RotaryAngle:
    """Angle changes for q and k: `(2, S, head_dim / 2)` radians. Always a rotation, a quarter of a
    table's size.
    """

    name = "angle"

    def __init__(self, base: Tables, grid: TokenGrid, axes: Axes | None = None) -> None:
        self.base = base
        self.grid = grid
        self.axes = axes or axis_dims(base[0].shape[-1])

    @property
    def device(self) -> torch.device:
        return self.base[0].device

    @property
    def shape(self) -> tuple[int, ...]:
        return (2, self.grid.tokens, self.base[0].shape[-1] // 2)

    def embed(self, delta: torch.Tensor) -> tuple[Tables, Tables]:
        """`((cos_q, sin_q), (cos_k, sin_k))`, each `(S, head_dim)`; the model's tables bit for bit
        at zero.
        """
        cos, sin = self.base
        turn = delta.to(cos.dtype).repeat_interleave(2, dim=-1)  # (2, S, head_dim)
        c, s = turn.cos(), turn.sin()
        # Angle addition instead of new tables from angles: exact at zero.
        new_cos, new_sin = cos * c - sin * s, sin * c + cos * s
        return (new_cos[0], new_sin[0]), (new_cos[1], new_sin[1])

    def from_offsets(self, offsets: torch.Tensor) -> torch.Tensor:
        return _angles(self.base, self.grid, self.axes, offsets).float().expand(2, -1, -1).clone()


class RotaryTable:
    """Free changes of the four tables (q, k) x (cos, sin): `(2, 2, S, head_dim)`, as in the
    official code.
    """

    name = "table"

    def __init__(self, base: Tables, grid: TokenGrid, axes: Axes | None = None) -> None:
        self.base = base
        self.grid = grid
        self.axes = axes or axis_dims(base[0].shape[-1])

    @property
    def device(self) -> torch.device:
        return self.base[0].device

    @property
    def shape(self) -> tuple[int, ...]:
        return (2, 2, self.grid.tokens, self.base[0].shape[-1])

    def embed(self, delta: torch.Tensor) -> tuple[Tables, Tables]:
        """`((cos_q, sin_q), (cos_k, sin_k))`, each `(S, head_dim)`; the model's tables bit for bit
        at zero.
        """
        cos, sin = self.base
        delta = delta.to(cos.dtype)
        return (cos + delta[0, 0], sin + delta[0, 1]), (cos + delta[1, 0], sin + delta[1, 1])

    def from_offsets(self, offsets: torch.Tensor) -> torch.Tensor:
        turned = RotaryAngle(self.base, self.grid, self.axes)
        (cos, sin), _ = turned.embed(turned.from_offsets(offsets))
        pair = torch.stack([cos - self.base[0], sin - self.base[1]])
        return pair.expand(2, -1, -1, -1).float().clone()
