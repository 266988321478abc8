"""Sizes of a card that is edited: whole patches and latent frames, masks on latents."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pe_toolkit.backbones.catalogue.variants import VARIANTS
from pe_toolkit.card import CardSpec, MotionCard
from pe_toolkit.errors import UnsupportedError, UsageError
from pe_toolkit.grid import MAX_SIDE, TokenGrid, frame_counts
from pe_toolkit.motion.disc import fits

Floats = NDArray[np.float64]
LATENTS_PER_PATCH = 2
"""Of every family so far. It matters to half a latent when a phase is mirrored, no more."""
PIXELS = 8
"""A side of a latent, of every family so far."""
UNIT = 8
"""Frames of CogVideoX that are decoded together."""


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


def latent_frames(spec: CardSpec, frames: int) -> int:
    """Frames of the token grid of a clip of another length.

    Raises:
        UsageError: none has that many frames.
        UnsupportedError: the card's own has a number that is not understood.
    """
    have, clip = spec.grid.frames, spec.clip.frames
    if spec.backbone.family == "cogvideox":
        return _of_cogvideox(have, clip, frames)
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


def _of_cogvideox(have: int, clip: int, frames: int) -> int:
    """Four frames become a latent frame, the first one alone; 8 k + 1 or 8 k frames can be
    generated, and one or two (CogVideoX 1.5) latent frames are a token's: the rule of the backbone
    (`cogvideox.geometry.latent_shape`), which is not here.
    """
    per = {-(-_latent(clip) // n): n for n in (2, 1)}.get(have)
    if per is None:
        raise UnsupportedError(
            f"Expected a clip of {clip} frames in {_latent(clip)} latent frames, or half of them, "
            f"got {have}: its length cannot be changed.",
            "Train the card anew with the --frames that it is to have.",
        )
    longest = MAX_SIDE * per * 4 - 3
    longest -= (longest - 1) % UNIT
    if not UNIT <= frames <= longest or frames % UNIT > 1:
        low = min(max((frames - 1) // UNIT, 1) * UNIT + 1, longest)
        raise UsageError(
            f"Expected a frame count such as {frame_counts(UNIT)}, {longest} at most, got "
            f"{frames}.",
            f"Use {low}." if low == longest else f"Use {low} or {low + UNIT}.",
        )
    return -(-_latent(frames) // per)


def _latent(frames: int) -> int:
    return (frames - 1) // 4 + 1


def check_fixed(spec: CardSpec, what: str) -> None:
    """Refuse a card of a backbone that learned its positions for one length and size.

    Args:
        what: was asked for.

    Raises:
        UnsupportedError: says so.
    """
    row = VARIANTS.get(spec.backbone.variant)
    if row is not None and row.fixed_size:
        raise UnsupportedError(
            f"Expected {what} as it is: {row.name} learned its positions for {row.frames} frames "
            f"of {row.width}x{row.height} alone.",
            "Edit a card of another backbone.",
        )


def check_phase(radius: float, size: tuple[int, int]) -> None:
    """Refuse latents of `size` (h, w) that are too few for a phase up to `radius`.

    Raises:
        UsageError: says how many it needs.
    """
    if not fits(radius, *size):
        height, width = (PIXELS * side for side in size)
        least = PIXELS * LATENTS_PER_PATCH * (int(radius) + 1)
        raise UsageError(
            f"Expected a size that holds the card's phase of {radius:g} cycles, got "
            f"{width}x{height}.",
            f"Use at least {least}x{least}.",
        )


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
