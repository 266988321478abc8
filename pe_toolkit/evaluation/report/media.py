"""Videos as a page holds them: small, in a codec that browsers play, with the tracks of points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pe_toolkit.errors import PeError
from pe_toolkit.video import encode_mp4, read_clip

Frames = NDArray[np.uint8]
Track = Callable[[Frames], tuple[NDArray[np.float64], NDArray[np.bool_]]]
"""Frames `(F, H, W, 3)` -> where points are, `(N, F, 2)` (x, y) in pixels, and `(N, F)` where they
can be seen."""

SIDE = 200
"""Pixels of the shorter side, at most."""
MOST_FRAMES = 96
_CRF = 28


@dataclass(frozen=True)
class Media:
    """A video in a page.

    Attributes:
        mp4: H.264, yuv420p; empty if it could not be read.
        width, height, fps: of the encoded video.
        tracks: for each point, for each frame [x, y] in pixels, or None where it cannot be seen.
        why: what hinders, if it could not be read.
    """

    mp4: bytes = b""
    width: int = 0
    height: int = 0
    fps: float = 0.0
    tracks: tuple[tuple[tuple[int, int] | None, ...], ...] = ()
    why: str = ""


def read_media(path: Path, track: Track | None = None) -> Media:
    """A video, made small. One that cannot be read is none, and says why: a report of a hundred
    videos does not fail for one.
    """
    try:
        clip = read_clip(path)
        frames, fps = clip.frames, float(clip.fps)
        if len(frames) > MOST_FRAMES:
            chosen = np.linspace(0, len(frames) - 1, MOST_FRAMES).round().astype(int)
            frames, fps = frames[chosen], fps * MOST_FRAMES / len(frames)
        small = shrink(frames)
        points = _points(small, track) if track is not None else ()
        height, width = small.shape[1:3]
        return Media(encode_mp4(small, fps, crf=_CRF), width, height, fps, points)
    except PeError as error:
        return Media(why=error.message)


def shrink(frames: Frames, side: int = SIDE) -> Frames:
    """Frames whose shorter side has at most `side` pixels; both sides even."""
    height, width = frames.shape[1:3]
    scale = min(1.0, side / min(height, width))
    size = tuple(max(2, round(n * scale / 2) * 2) for n in (width, height))
    if size == (width, height):
        return frames
    resized = [Image.fromarray(f).resize(size, Image.Resampling.BOX) for f in frames]
    return np.stack([np.asarray(f) for f in resized])


def _points(frames: Frames, track: Track) -> tuple[tuple[tuple[int, int] | None, ...], ...]:
    where, seen = track(frames)
    return tuple(
        tuple((round(x), round(y)) if ok else None for (x, y), ok in zip(row, visible, strict=True))
        for row, visible in zip(where.tolist(), seen.tolist(), strict=True)
    )
