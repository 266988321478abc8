"""Clips beside each other: as one picture, and as one video."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from pe_toolkit.errors import UsageError
from pe_toolkit.visual.labels import BACKGROUND, Picture, label

_GAP = 4  # pixels between pictures


def contact_sheet(
    rows: Sequence[tuple[str, Picture]], columns: int = 9, *, height: int = 96
) -> Picture:
    """One row per clip: its label, and below it evenly spaced frames, first to last.

    Args:
        rows: `(label, frames (F, H, W, 3) uint8 RGB)`; clips may differ in length and size. A clip
            with fewer frames than columns leaves the rest of its row empty.
        columns: frames in a row.
        height: height of each frame in pixels.

    Returns:
        `(H', W', 3)` uint8 RGB.

    Raises:
        UsageError: no rows, no columns, or frames of another shape or type.
    """
    if columns < 1 or height < 1:
        raise UsageError(f"Expected columns and height of at least 1, got {columns} and {height}.")
    _check_clips(rows)
    strips = []
    for _, clip in rows:
        chosen = _evenly(len(clip), min(columns, len(clip)))
        strips.append([_to_height(clip[i], height) for i in chosen])
    widths = [sum(p.shape[1] for p in strip) + _GAP * (len(strip) + 1) for strip in strips]
    parts = []
    for (text, _), strip in zip(rows, strips, strict=True):
        canvas = _canvas(height + _GAP, max(widths))
        left = _GAP
        for picture in strip:
            canvas[:height, left : left + picture.shape[1]] = picture
            left += picture.shape[1] + _GAP
        parts += [label(text, max(widths)), canvas]
    return np.concatenate(parts)


def side_by_side(clips: Sequence[tuple[str, Picture]]) -> Picture:
    """Clips next to each other in one labelled clip, all as tall as the tallest.

    Shorter clips are stretched in time to the longest by uniform index resampling: all start and
    end together.

    Args:
        clips: `(label, frames (F, H, W, 3) uint8 RGB)`.

    Returns:
        `(F', H', W', 3)` uint8 RGB, `F'` the frames of the longest, both sides even (for H.264).

    Raises:
        UsageError: no clips, or frames of another shape or type.
    """
    _check_clips(clips)
    length = max(len(clip) for _, clip in clips)
    height = max(clip.shape[1] for _, clip in clips)
    columns = []
    for text, clip in clips:
        scaled = np.stack([_to_height(frame, height) for frame in clip])
        scaled = scaled[_evenly(len(clip), length)]
        strip = label(text, scaled.shape[2])
        strips = np.broadcast_to(strip, (length, *strip.shape))
        columns += [np.concatenate([strips, scaled], axis=1)]
        columns += [_gap(length, height + len(strip))]
    joined = np.concatenate(columns[:-1], axis=2)
    even = ((0, 0), (0, joined.shape[1] % 2), (0, joined.shape[2] % 2), (0, 0))
    return np.pad(joined, even, mode="edge")


def _evenly(length: int, count: int) -> list[int]:
    return [int(i) for i in np.linspace(0, length - 1, count).round()]


def _canvas(height: int, width: int) -> Picture:
    return np.full((height, width, 3), BACKGROUND, np.uint8)


def _gap(length: int, height: int) -> Picture:
    return np.broadcast_to(_canvas(height, _GAP), (length, height, _GAP, 3))


def _to_height(picture: Picture, height: int) -> Picture:
    if picture.shape[0] == height:
        return picture
    width = max(1, round(picture.shape[1] * height / picture.shape[0]))
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))


def _check_clips(clips: Sequence[tuple[str, Picture]]) -> None:
    if not clips:
        raise UsageError("Expected at least one clip, got none.")
    for text, clip in clips:
        if clip.ndim != 4 or clip.shape[-1] != 3 or clip.dtype != np.uint8 or not clip.size:
            raise UsageError(
                f"Expected frames (F, H, W, 3) uint8 for '{text}', got {clip.shape} {clip.dtype}."
            )
