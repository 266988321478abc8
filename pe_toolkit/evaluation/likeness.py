"""Driving similarity, the leak number: how much a video looks like the reference it took only the
motion of. Without weights; by CLIP or DINO: `clip.py`.

DisMo (arXiv 2511.23428) reports the likeness of a result to its driving video beside motion
fidelity, lower being better. Here of pictures at a small scale, so that it needs no download.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pe_toolkit.errors import UsageError

Frames = NDArray[np.uint8]
Floats = NDArray[np.float64]

MOMENTS = 8
"""Frames of each clip that are compared, evenly spaced."""
SIDE = 32
"""Pixels: pictures are brought to this square."""
COLOURS = 4
"""Bins of each of red, green and blue."""
CELLS, TURNS = 4, 8
"""Cells a side and bins of directions of the edges."""


def driving_similarity(reference: Frames, video: Frames) -> float:
    """Mean over 8 evenly spaced moments of the likeness of the two pictures at 32x32: the mean of

    - layout: the correlation of their pixels, after the mean colour is taken off; 0 if negative,
    - colour: the shared part of their histograms of 4x4x4 colours,
    - edges: the cosine of their histograms of edge directions (8) in 4x4 cells, by strength.

    Range [0, 1], lower is better; 1 is a copy. Unrelated clips are above 0: see `leak`.

    Args:
        reference, video: `(F, H, W, 3)` uint8 RGB, of any lengths and sizes.

    Raises:
        UsageError: frames of another shape.
    """
    pairs = zip(_pictures(reference), _pictures(video), strict=True)
    return float(np.mean([np.mean([_layout(a, b), _colour(a, b), _edges(a, b)]) for a, b in pairs]))


def leak(similarity: float, unrelated: Sequence[float]) -> float:
    """A similarity against that of clips that have nothing to do with the reference:
    (s - m) / (1 - m), m the mean of theirs.

    0: as alike as unrelated clips; 1: a copy; below 0: less alike than those. Lower is better. NaN
    where those are copies themselves.

    Args:
        similarity: of video and reference.
        unrelated: of the video and other clips, or of other videos and the reference; at least one.

    Raises:
        UsageError: none of them.
    """
    if not len(unrelated):
        raise UsageError("Expected the similarity of at least one unrelated clip, got none.")
    chance = float(np.mean(unrelated))
    if math.isnan(chance):
        return chance
    return (similarity - chance) / (1 - chance) if chance < 1 else math.nan


def _pictures(frames: Frames) -> list[Floats]:
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or not len(frames):
        raise UsageError(f"Expected frames (F, H, W, 3) uint8, got {frames.shape} {frames.dtype}.")
    chosen = np.rint(np.linspace(0, len(frames) - 1, MOMENTS)).astype(int)
    small = [Image.fromarray(frames[i]).resize((SIDE, SIDE), Image.Resampling.BOX) for i in chosen]
    return [np.asarray(picture, np.float64) for picture in small]


def _layout(a: Floats, b: Floats) -> float:
    a, b = (picture - picture.mean((0, 1)) for picture in (a, b))
    size = np.linalg.norm(a) * np.linalg.norm(b)
    # Two plain pictures have the same layout.
    return max(0.0, float((a * b).sum() / size)) if size > 1e-9 else float(a.any() == b.any())


def _colour(a: Floats, b: Floats) -> float:
    def histogram(picture: Floats) -> Floats:
        bins = (picture // (256 / COLOURS)).astype(int).reshape(-1, 3)
        places = np.ravel_multi_index(tuple(bins.T), (COLOURS,) * 3)
        return np.asarray(np.bincount(places, minlength=COLOURS**3) / len(bins))

    return float(np.minimum(histogram(a), histogram(b)).sum())


def _edges(a: Floats, b: Floats) -> float:
    def histogram(picture: Floats) -> Floats:
        down, across = np.gradient(picture.mean(2))
        turn = (np.arctan2(down, across) % np.pi) / np.pi * TURNS
        rows, columns = np.indices(turn.shape) // (SIDE // CELLS)
        places = (rows * CELLS + columns) * TURNS + turn.astype(int) % TURNS
        strength = np.hypot(down, across)
        return np.asarray(
            np.bincount(places.ravel(), strength.ravel(), CELLS * CELLS * TURNS), np.float64
        )

    x, y = histogram(a), histogram(b)
    size = np.linalg.norm(x) * np.linalg.norm(y)
    return float(x @ y / size) if size > 1e-9 else float(x.any() == y.any())
