"""Distances between the paths of points that began at the same place: DeT's hybrid motion fidelity,
the Frechet trajectory distance of RoPECraft, and the end-point error.

All of them compare point n of one clip with point n of the other, so both must have been started
on the same grid. What they say of a video whose objects stand elsewhere than the reference's is
how its picture differs, not only its motion.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pe_toolkit.errors import UsageError
from pe_toolkit.evaluation.tracks import (
    Points,
    Visible,
    checked_points,
    checked_size,
    checked_visible,
)

HYBRID_TRACKS = 50
"""Tracks whose distances the released script averages, drawn at random."""
_TOGETHER = 16
"""Paths that another is compared with before it is asked again which may still be nearer."""
_TURNS = 16
"""Directions in which the extents of paths are compared."""
_CACHED = 2**15
"""Numbers in a block of paths: 256 kB."""

Floats = NDArray[np.float64]


def hybrid_as_coded(
    reference: Points,
    video: Points,
    size: tuple[int, int],
    *,
    frechet: bool = False,
    seed: int = 0,
) -> float:
    """DeT's motion fidelity (arXiv 2503.17350) as its released `evaluation.py` computes it.

    Of coordinates in fractions of width and height: each track becomes the sequence of its initial
    position and its displacements, each of unit length; the cosine part is the mean over the
    video's tracks of the best mean cosine with a track of the reference. With `frechet` (off by
    default in the script) it is averaged with 1 / (1 + d), d the mean over 50 random tracks of the
    mean of *all* distances between the positions of a track at any two times, which is not a
    Frechet distance.

    Range [-1, 1], higher is better; the published tables have it times 100. Defects, kept: the
    first "displacement" is a position; one direction only; NaN for a point at rest. The draw of 50
    tracks has a seed here.

    Args:
        reference, video: `(N, F, 2)` and `(M, F, 2)` in pixels, with `frechet` N = M.
        size: width and height in pixels.

    Raises:
        UsageError: other shapes, not the same number of frames, or with `frechet` of points.
    """
    reference, video = checked_points(reference, "reference"), checked_points(video, "video")
    size = checked_size(size)
    a, b = (_fractions(tracks, size) for tracks in (video, reference))
    _same(a, b, points=frechet)
    with np.errstate(invalid="ignore"):
        units = [_unit(np.concatenate([p[:, :1], np.diff(p, axis=1)], axis=1)) for p in (a, b)]
    alike = units[0].reshape(len(a), -1) @ units[1].reshape(len(b), -1).T / a.shape[1]
    cosine = float(alike.max(1).mean())
    if not frechet:
        return cosine
    drawn = np.random.default_rng(seed).permutation(len(a))[:HYBRID_TRACKS]
    apart = np.mean([_distances(a[n], b[n]).mean() for n in drawn])
    return 0.5 * cosine + 0.5 / (1.0 + float(apart))


def hybrid(
    reference: Points,
    video: Points,
    size: tuple[int, int],
    reference_visible: Visible | None = None,
    video_visible: Visible | None = None,
) -> float:
    """DeT's hybrid motion fidelity as its paper describes it: half local, half global.

    Local: `directions.mf`, the likeness of velocities. Global: 1 / (1 + d), d the mean over (at
    most 50, evenly chosen) tracks of the video of the least discrete Frechet distance to a track
    of the reference, coordinates in fractions of width and height and counted from where each
    track begins, so that the shape of a path counts and not its place. The paper names both parts;
    the form 1 / (1 + d) and the best partner are those of the released script.

    Range [-0.37, 1], higher is better (paths counted from their start are at most 2.83 apart).
    Points that are not seen throughout do not count in the global part.

    Args:
        reference, video: `(N, F, 2)` and `(M, F, 2)` in pixels.
        size: width and height in pixels.

    Returns:
        The score; NaN where `mf` is, or on one side no point is seen throughout.

    Raises:
        UsageError: other shapes, or not the same number of frames.
    """
    from pe_toolkit.evaluation.directions import mf

    reference, video = checked_points(reference, "reference"), checked_points(video, "video")
    size = checked_size(size)
    local = mf(reference, video, reference_visible, video_visible)
    a, b = (
        _from_start(_fractions(tracks, size)[_always(tracks, seen)])
        for tracks, seen in ((video, video_visible), (reference, reference_visible))
    )
    if not len(a) or not len(b):
        return float("nan")
    chosen = np.linspace(0, len(a) - 1, min(HYBRID_TRACKS, len(a))).round().astype(int)
    apart = _nearest(a[chosen], b).mean()
    return 0.5 * local + 0.5 / (1.0 + float(apart))


def frechet_distance(
    reference: Points,
    video: Points,
    size: tuple[int, int],
    reference_visible: Visible | None = None,
    video_visible: Visible | None = None,
) -> float:
    """Frechet trajectory distance (RoPECraft, arXiv 2505.13344): sqrt(mean_n d_n^2), d_n the
    discrete Frechet distance (Eiter and Mannila, 1994) of the paths of point n in both clips,
    coordinates in fractions of width and height.

    Range [0, 1.42], lower is better. It sees the way and its place, not when it is gone. Repaired:
    the moments in which a point is not seen in both clips are left out (the released script fills
    them along the wrong axis), and a point that is seen in fewer than 2 is dropped. The published
    numbers are of 100 points inside masks of the first frame: give those tracks for them.

    Args:
        reference, video: `(N, F, 2)` of the same points, in pixels.

    Returns:
        The distance; NaN if no point is seen in both.

    Raises:
        UsageError: other shapes, or not the same number of points and frames.
    """
    reference, video = checked_points(reference, "reference"), checked_points(video, "video")
    size = checked_size(size)
    a, b = (_fractions(tracks, size) for tracks in (reference, video))
    _same(a, b, points=True)
    both = _both(a, reference_visible, video_visible)
    kept = both.sum(1) >= 2
    if not kept.any():
        return float("nan")
    a, b, both = a[kept], b[kept], both[kept]
    # A moment left out is one that repeats the last one that is seen: the distance is the same.
    last = np.where(both, np.arange(both.shape[1]), -1)
    last = np.maximum.accumulate(last, axis=1)
    last = np.where(last < 0, both.argmax(1)[:, None], last)[..., None]
    a, b = (np.take_along_axis(p, last, axis=1) for p in (a, b))
    return float(np.sqrt(np.square(_frechet(a, b)).mean()))


def endpoint_error(
    reference: Points,
    video: Points,
    reference_visible: Visible | None = None,
    video_visible: Visible | None = None,
) -> float:
    """Mean distance in pixels of the same points in both clips, where both are seen; the first
    frame, in which it is 0, left out. (End-point error, as for optical flow, of tracks.)

    Range [0, size of the picture], lower is better. Sees direction, speed and place.

    Args:
        reference, video: `(N, F, 2)` of the same points, in pixels of one size.

    Returns:
        The error; NaN if no point is seen in both.

    Raises:
        UsageError: other shapes, or not the same number of points and frames.
    """
    reference, video = checked_points(reference, "reference"), checked_points(video, "video")
    _same(reference, video, points=True)
    both = _both(reference, reference_visible, video_visible)[:, 1:]
    if not both.any():
        return float("nan")
    return float(np.linalg.norm(reference - video, axis=-1)[:, 1:][both].mean())


def _nearest(a: Floats, b: Floats) -> Floats:
    """Least discrete Frechet distance `(N,)` of each path of `a` `(N, F, 2)` to one of `b`
    `(M, F, 2)`; only those pairs are looked at that can be the nearest.
    """
    # Going both ways in step is one way to go.
    best = np.array([np.sqrt(np.square(path - b).sum(-1).max(1)).min() for path in a])
    least = _at_least(a, b)
    order = least.argsort(1)
    for start in range(0, len(b), _TOGETHER):
        columns = order[:, start : start + _TOGETHER]
        row, place = np.nonzero(np.take_along_axis(least, columns, 1) < best[:, None])
        if not len(row):
            break
        np.minimum.at(best, row, _frechet(a[row], b[columns[row, place]]))
    return best


def _at_least(a: Floats, b: Floats) -> Floats:
    """`(N, M)` below the Frechet distances: how far apart the last points are, and of each of
    `_TURNS` directions the points that are farthest in it.
    """
    angles = np.arange(_TURNS) * 2 * np.pi / _TURNS
    directions = np.stack([np.cos(angles), np.sin(angles)])
    far = [(paths @ directions).max(1) for paths in (a, b)]
    ends = np.linalg.norm(a[:, None, -1] - b[None, :, -1], axis=-1)
    return np.asarray(np.maximum(ends, np.abs(far[0][:, None] - far[1][None]).max(-1)))


def _frechet(a: Floats, b: Floats) -> Floats:
    """Discrete Frechet distances `(N,)` of the paths `(N, F, 2)` and `(N, G, 2)`, in blocks that
    fit into a processor's cache.
    """
    together = max(1, _CACHED // a.shape[1])
    parts = [slice(start, start + together) for start in range(0, len(a), together)]
    return np.concatenate([_frechet_block(a[part], b[part]) for part in parts])


def _frechet_block(a: Floats, b: Floats) -> Floats:
    """The recursion, one diagonal (i + j the same) at a time: row i + 1 of `here` is place
    (i, j), and what is outside of the table is infinite.
    """
    rows, columns = a.shape[1], b.shape[1]
    (ax, ay), (bx, by) = (np.ascontiguousarray(paths.transpose(2, 1, 0)) for paths in (a, b))
    before, here = (np.full((rows + 1, len(a)), np.inf) for _ in range(2))
    for total in range(rows + columns - 1):
        low, high = max(0, total - columns + 1), min(rows, total + 1)
        own, other = slice(low, high), slice(total - high + 1, total - low + 1)
        x, y = ax[own] - bx[other][::-1], ay[own] - by[other][::-1]
        apart = x * x + y * y  # squared until the end: cheaper, and the order is the same
        if total:
            least = np.minimum(here[low:high], here[low + 1 : high + 1])
            np.maximum(apart, np.minimum(least, before[low:high], out=least), out=apart)
        before, here = here, np.full_like(here, np.inf)
        here[low + 1 : high + 1] = apart
    return np.asarray(np.sqrt(here[rows]))


def _fractions(tracks: Points, size: tuple[int, int]) -> Floats:
    return np.asarray((tracks + 0.5) / np.array(size, float))


def _from_start(tracks: Floats) -> Floats:
    return np.asarray(tracks - tracks[:, :1])


def _unit(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))


def _distances(a: Floats, b: Floats) -> Floats:
    return np.asarray(np.linalg.norm(a[:, None] - b[None], axis=-1))


def _always(tracks: Points, seen: Visible | None) -> Visible:
    return np.ones(len(tracks), bool) if seen is None else np.asarray(np.asarray(seen, bool).all(1))


def _both(tracks: Points, first: Visible | None, second: Visible | None) -> Visible:
    return checked_visible(first, tracks) & checked_visible(second, tracks)


def _same(a: Points, b: Points, *, points: bool) -> None:
    if a.shape[1] != b.shape[1] or not len(a) or not len(b):
        raise UsageError(
            f"Expected tracks (points, frames, 2) of as many frames in both, got {a.shape} and "
            f"{b.shape}."
        )
    if points and len(a) != len(b):
        raise UsageError(
            f"Expected the same points in both, got {len(a)} and {len(b)}.",
            "Start both clips on the same grid.",
        )
