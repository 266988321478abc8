"""Frames and pixels of a training: what a backbone wants, and what was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pe_toolkit.backbones.families import native
from pe_toolkit.errors import UsageError, option

if TYPE_CHECKING:
    from pe_toolkit.backbones.catalogue.variants import Variant


@dataclass(frozen=True)
class Shape:
    """Frames and pixels of a generation, whether others are possible, and whether its positions are
    rotary or absolute.
    """

    name: str
    positions: str
    frames: int
    width: int
    height: int
    fps: float
    fixed_size: bool = False

    @classmethod
    def of_variant(cls, v: Variant) -> Shape:
        """Known from the table before a model is loaded."""
        return cls(v.name, v.positions, v.frames, v.width, v.height, v.fps, v.fixed_size)

    @classmethod
    def of_adapter(cls, adapter: Any) -> Shape:
        """What a loaded model says of itself; a folder or a Hub id may have no row in the table."""
        row = adapter.variant
        name, fps = (row.name, row.fps) if row else ("this backbone", 8.0)
        width, height = adapter.size
        fixed = adapter.fixed_size
        return cls(name, adapter.positions, adapter.frames, width, height, fps, fixed)

    @classmethod
    def of_folder(cls, folder: Path) -> Shape | None:
        """What the configurations in a folder say before its weights are loaded; None where they
        do not, or it is no folder. Whoever loads the model asks it again.
        """
        own = native(folder)
        if own is None:
            return None
        size = (own.frames, own.width, own.height)
        return cls("this backbone", own.positions, *size, 8.0, own.fixed_size)

    def check(self, frames: int | None, size: tuple[int, int] | None) -> None:
        """Refuse another clip than the one for which positions were learned; None is its own.

        Raises:
            UsageError: says which that is.
        """
        own = (self.frames, (self.width, self.height))
        frames, (width, height) = frames or own[0], size or own[1]
        if self.fixed_size and (frames, (width, height)) != own:
            raise UsageError(
                f"Expected {self.frames} frames of {self.width}x{self.height}, the one size for "
                f"which {self.name} learned its positions, got {frames} frames of "
                f"{width}x{height}.",
                f"Leave {option('frames')} and {option('size')} out.",
            )


def latent_frames(frames: int) -> int:
    """Latent frames of a clip, four frames each: a reference with fewer frames is too short."""
    return max(2, (frames - 1) // 4 + 1)
