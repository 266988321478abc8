"""The token grid: the one place that knows in which order video tokens lie.

CogVideoX flattens a latent clip frame by frame, row by row: token `(f * H + y) * W + x`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from operator import index
from typing import TYPE_CHECKING

from pe_toolkit.errors import UsageError

if TYPE_CHECKING:
    import torch


MAX_SIDE = 128
"""Patches along a side of a token grid: a displacement across it still fits an int8."""


def frames_per_latent(frames: int, latent: int) -> tuple[int, float]:
    """How many frames of a clip the first latent frame was made of, and how many each other one: a
    causal VAE makes latent frames of 4 frames each, the first of one frame alone where there are
    4k + 1, of 4 as well where there are 4k.
    """
    alone = (frames - 1) / (latent - 1) if latent > 1 else float(frames)
    if frames % latent == 0 and alone not in (1, 2, 4, 8):
        return frames // latent, frames / latent
    return 1, alone


def frame_counts(unit: int = 8) -> str:
    """Which lengths of a clip can be generated, in words: multiples of `unit`, or one more."""
    some = [count for k in (1, 2, 3) for count in (k * unit, k * unit + 1)][1:]
    return f"{', '.join(map(str, some))}, ... ({unit}k or {unit}k + 1)"


@dataclass(frozen=True)
class TokenGrid:
    """`frames` x `height` x `width` video tokens (latent frames, patch rows, patch columns).

    Raises:
        UsageError: if a side is no whole number, or below 1.
    """

    frames: int
    height: int
    width: int

    def __post_init__(self) -> None:
        for name in ("frames", "height", "width"):
            try:
                object.__setattr__(self, name, index(getattr(self, name)))
            except TypeError as error:
                raise UsageError(
                    f"Expected a token grid with sides that are whole numbers, got {self}."
                ) from error
        if min(self.frames, self.height, self.width) < 1:
            raise UsageError(f"Expected a token grid with sides of at least 1, got {self}.")

    @property
    def per_frame(self) -> int:
        """Tokens in one latent frame, `height * width`."""
        return self.height * self.width

    @property
    def tokens(self) -> int:
        """All video tokens, `frames * height * width`."""
        return self.frames * self.per_frame

    def __iter__(self) -> Iterator[int]:
        yield from (self.frames, self.height, self.width)

    def __str__(self) -> str:
        return f"{self.frames}x{self.height}x{self.width}"

    def unflatten(self, tokens: torch.Tensor, dim: int = -2) -> torch.Tensor:
        """`(..., S, ...)` -> `(..., F, H, W, ...)` at `dim`.

        Raises:
            UsageError: if that axis does not hold exactly `tokens` entries.
        """
        if tokens.shape[dim] != self.tokens:
            raise UsageError(
                f"Expected {self.tokens} tokens for a {self} grid, got {tokens.shape[dim]}."
            )
        grid: torch.Tensor = tokens.unflatten(dim, (self.frames, self.height, self.width))
        return grid

    def coordinates(
        self, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> torch.Tensor:
        """`(H*W, 2)` patch coordinates of one frame as `(x, y)`, in patches."""
        import torch

        ys, xs = torch.meshgrid(
            torch.arange(self.height, device=device, dtype=dtype),
            torch.arange(self.width, device=device, dtype=dtype),
            indexing="ij",
        )
        return torch.stack([xs, ys], dim=-1).reshape(-1, 2)
