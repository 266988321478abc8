"""What `look` saw, as pictures: for `pe flow` and `pe ui`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pe_toolkit.card.followed import LITTLE
from pe_toolkit.motion.moves import ONE_PATH
from pe_toolkit.training.looking import Look
from pe_toolkit.visual import (
    apart_frames,
    apart_legend,
    contact_sheet,
    flow_frames,
    flow_legend,
)
from pe_toolkit.visual.labels import BACKGROUND, Picture


def look_panels(seen: Look, frames: Picture, *, legend: bool = True) -> tuple[Picture, Picture]:
    """A clip with what is followed, and with camera and subjects apart.

    Args:
        seen: of that clip.
        frames: `(F, H, W, 3)` uint8 RGB.
        legend: say below what the marks mean.

    Returns:
        Two `(F, H', W', 3)` uint8 RGB, with their legends equally large, both sides even.
    """
    flow = seen.flow
    followed = flow_frames(
        frames, flow.displacement.numpy(), flow.mask.numpy(), seen.matched,
        path=seen.path if _one(seen) else None, legend=legend,
    )  # fmt: skip
    apart = apart_frames(frames, seen.apart, words=legend)
    return _as_high(followed, apart)


def look_video(seen: Look, frames: Picture, words: Sequence[str] = ()) -> Picture:
    """Both beside each other, `words` below: `(F, H', W', 3)` uint8 RGB, both sides even."""
    joined = np.concatenate(look_panels(seen, frames), axis=2)
    below = flow_legend(joined.shape[2], words, marks=False)
    below = np.pad(below, ((0, len(below) % 2), (0, 0), (0, 0)), mode="edge")
    strips = np.broadcast_to(below, (len(joined), *below.shape))
    return np.concatenate([joined, strips], axis=1)


def look_sheet(seen: Look, frames: Picture, words: Sequence[str] = ()) -> Picture:
    """One picture `(H', W', 3)` uint8 RGB: frames of the clip, of what is followed, and of camera
    and subjects apart; what the marks mean, and `words`, below.
    """
    followed, apart = look_panels(seen, frames, legend=False)
    sheet = contact_sheet(
        [
            ("the clip, as the model gets it", frames),
            ("what is followed", followed),
            ("camera and subjects apart", apart),
        ],
        height=192,
    )
    width = sheet.shape[1]
    marks = [flow_legend(width // 2, path=_one(seen)), apart_legend(width - width // 2, seen.apart)]
    one, other = _as_high(*(mark[None] for mark in marks))
    below = np.concatenate([one[0], other[0]], axis=1)
    return np.concatenate([sheet, below, flow_legend(width, words, marks=False)])


def _one(seen: Look) -> bool:
    """Whether one path says what moves: of a zoom, or of chance matches, it would be a line through
    nothing.
    """
    followed = seen.flow.followed >= LITTLE
    return followed and seen.share >= ONE_PATH and not seen.moves.turns


def _as_high(one: Picture, other: Picture) -> tuple[Picture, Picture]:
    """`(F, H, W, 3)` each, the lower one with dark ground below."""
    height = max(one.shape[1], other.shape[1])

    def filled(picture: Picture) -> Picture:
        frames, rows, width, _ = picture.shape
        ground = np.full((frames, height - rows, width, 3), BACKGROUND, np.uint8)
        return np.concatenate([picture, ground], axis=1)

    return filled(one), filled(other)
