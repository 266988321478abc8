"""Does anything move? A look at the pixels, before any model is loaded."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pe_toolkit.errors import MotionError, option
from pe_toolkit.video.picture import Picture, resize

if TYPE_CHECKING:
    from pe_toolkit.video.clip import Clip

_SIDE = 128  # pixels of the longer side at which frames are compared
_MOMENTS = 9  # evenly spaced frames that are compared pairwise
_PERCENTILE = 99.5
MOTIONLESS = 6.0  # of 255


def motion_level(frames: Picture) -> float:
    """How much the frames differ, in grey levels from 0 (still) to 255.

    Nine evenly spaced frames, and the one after each, are shrunk to 128 pixels and blurred over 3x3
    pixels, which averages away sensor and codec noise. Of every pair of the nine (neighbours alone
    would miss slow motion, first against last a loop), and of each with the one after it (the nine
    alone would miss a loop as long as what lies between them), the 99.5th percentile of the
    absolute difference, averaged over the channels, is taken: what moves must change 0.5 % of the
    picture. The largest pair counts.

    Args:
        frames: `(F, H, W, 3)` uint8.
    """
    height, width = frames.shape[1:3]
    scale = min(1.0, _SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    moments = np.unique(np.linspace(0, len(frames) - 1, _MOMENTS).round().astype(int))
    after = np.minimum(moments + 1, len(frames) - 1)
    small = {i: _blur(resize(frames[i], size, "stretch")) for i in {*moments, *after}}
    pairs = {*combinations(moments, 2), *zip(moments, after, strict=True)}
    return max(
        (
            float(np.percentile(np.abs(small[a] - small[b]).mean(axis=-1), _PERCENTILE))
            for a, b in pairs
        ),
        default=0.0,
    )


def require_motion(clip: Clip) -> None:
    """Refuse a clip in which nothing moves.

    Raises:
        MotionError: `motion_level` of its frames is below 6 of 255.
    """
    level = motion_level(clip.frames)
    if level < MOTIONLESS:
        hint = "Choose a clip, or a start, at which something visible moves."
        if (
            clip.fit == "crop"
            and clip.source_size is not None
            and _cut(clip.source_size, clip.size)
        ):
            hint += f" What is beside the middle was cut off: {option('fit')} pad keeps it."
        raise MotionError(
            f"Expected motion in '{clip.source}', but its frames hardly differ ({level:.1f} of 255"
            f" grey levels; {MOTIONLESS:g} are needed).",
            hint=hint,
        )


def _cut(source: tuple[int, int], size: tuple[int, int]) -> bool:
    """Whether a crop from one (width, height) to another leaves more than a tenth out."""
    shapes = source[0] * size[1], source[1] * size[0]
    return min(shapes) < 0.9 * max(shapes)


def _blur(picture: Picture) -> NDArray[np.float32]:
    """Mean over 3x3 pixels, edges repeated."""
    padded = np.pad(picture.astype(np.float32), ((1, 1), (1, 1), (0, 0)), mode="edge")
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    blurred: NDArray[np.float32] = (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) / np.float32(9)
    return blurred
