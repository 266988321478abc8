"""Sizes of a card that is edited: whole patches and latent frames, masks on latents."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pe_toolkit.card import MotionCard
from pe_toolkit.errors import UnsupportedError, UsageError
from pe_toolkit.grid import TokenGrid

Floats = NDArray[np.float64]
LATENTS_PER_PATCH = 2
"""Of every family so far. It matters to half a latent when a phase is mirrored, no more."""


def latents(grid: TokenGrid) -> tuple[int, int]:
    return grid.height * LATENTS_PER_PATCH, grid.width * LATENTS_PER_PATCH


def on_latents(mask: Floats, size: tuple[int, int]) -> Floats:
    """A mask of any size as the mean over each latent."""
    for axis, count in enumerate(size):
        have = mask.shape[axis]
        edges = np.arange(count + 1) * have / count
        total = np.concatenate([np.zeros_like(np.take(mask, [0], axis)), mask.cumsum(axis)], axis)
        at = np.stack([_between(total, edge, axis) for edge in edges], axis)
        mask = np.diff(at, axis=axis) * count / have
    return np.clip(mask, 0, 1)


def _between(total: Floats, edge: float, axis: int) -> Floats:
    low = min(int(edge), total.shape[axis] - 1)
    high = min(low + 1, total.shape[axis] - 1)
    share = edge - low
    found: Floats = np.take(total, low, axis) * (1 - share) + np.take(total, high, axis) * share
    return found


def latent_frames(card: MotionCard, frames: int) -> int:
    """Latent frames of the tokens of a clip of another length.

    Raises:
        UsageError: none has that many frames.
    """
    have, clip = card.spec.grid.frames, card.spec.clip.frames
    per, rest = divmod(clip - 1, max(have - 1, 1))
    if have < 2 or rest:
        raise UnsupportedError(
            f"Expected a clip of whole latent frames, got {clip} frames in {have}: its length "
            "cannot be changed.",
        )
    if frames < 1 + per or (frames - 1) % per:
        low = 1 + max((frames - 1) // per, 1) * per
        raise UsageError(
            f"Expected {per} frames for each latent frame and one more, got {frames}.",
            f"Use {low} or {low + per}.",
        )
    return (frames - 1) // per + 1


def patches(card: MotionCard, width: int, height: int) -> tuple[int, int]:
    """(rows, columns) of patches of a clip of another size.

    Raises:
        UsageError: that is no whole number of patches.
    """
    clip, grid = card.spec.clip, card.spec.grid
    sides = []
    for name, wanted, pixels, count in (
        ("height", height, clip.height, grid.height),
        ("width", width, clip.width, grid.width),
    ):
        side, rest = divmod(pixels, count)
        if rest or wanted % side or wanted < side:
            raise UsageError(
                f"Expected a {name} in whole patches of {side} pixels, got {wanted}.",
                f"Use {max(wanted // side, 1) * side} or {(wanted // side + 1) * side}.",
            )
        sides.append(wanted // side)
    return sides[0], sides[1]
