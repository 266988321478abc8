"""Frames and pixels of a training: what a backbone wants, and what was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pe_toolkit.errors import UsageError

if TYPE_CHECKING:
    from pe_toolkit.backbones.catalogue.variants import Variant

# The published setting: the first 24 frames, six latent frames. Not where a backbone has learned
# its positions for one frame count.
PAPER_FRAMES = 24


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
        fixed = bool(adapter.transformer.config.use_learned_positional_embeddings)
        return cls(name, adapter.positions, adapter.frames, width, height, fps, fixed)


def check_size(o: Mapping[str, Any], shape: Shape) -> None:
    own = (shape.frames, (shape.width, shape.height))
    frames, (width, height) = o["frames"] or own[0], o["size"] or own[1]
    if (frames, (width, height)) != own:
        raise UsageError(
            f"Expected {shape.frames} frames of {shape.width}x{shape.height}, the one size for "
            f"which {shape.name} learned its positions, got {frames} frames of {width}x{height}.",
            "Leave --frames and --size out.",
        )


def frames_for(o: Mapping[str, Any], own: Shape | Variant | None) -> int | None:
    """Frames to train with; `own` is None for a backbone that is not known before it is loaded.

    Returns:
        What `--frames` says, else the published count where the recipe and the backbone allow it,
        else the backbone's own, None if that is not known.
    """
    frames: int | None = o["frames"]
    if frames is not None or own is None:
        return frames or (PAPER_FRAMES if o["recipe"] == "paper" else None)
    if o["recipe"] == "paper" and not own.fixed_size:
        return min(own.frames, PAPER_FRAMES)
    return own.frames


def latent_frames(frames: int) -> int:
    """Latent frames of a CogVideoX clip: a reference with fewer frames is too short."""
    return max(2, (frames - 1) // 4 + 1)
