"""Motion fidelity: do the points of one video move into the directions of another's?

As published (SMM, arXiv 2311.17009; DiTFlow, arXiv 2412.07776, reports it), with v the displacement
of a point from a frame to the next, T the tracks of the reference, T~ those of the video, over F
steps in time:

    corr(a, b) = (1 / F) sum_t  v_t^a . v_t^b / (|v_t^a| |v_t^b|)
    MF = (1 / |T~|) sum_{b in T~} max_{a in T} corr(a, b)
       + (1 / |T|)  sum_{a in T}  max_{b in T~} corr(a, b)

`mf_official` is what the released scripts of both compute, which is another number: docs/metrics.md
lists the differences. `mf` is the formula, halved, with its undefined cases defined.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pe_toolkit.errors import UsageError
from pe_toolkit.evaluation.tracks import Points, Visible, checked_points, checked_visible

REST = 0.25
"""Pixels a step. What moves less is still: trackers wander that far on a picture at rest."""
LEAST_SEEN = 0.5
"""Share of the steps in which a point must be seen to count, and two points together to be
compared."""
_CHUNK = 2**24
"""Numbers in a block of the matrix of all pairs of tracks: 128 MB."""

Floats = NDArray[np.float64]


def mf_official(reference: Points, video: Points) -> float:
    """Motion fidelity as the released scripts of SMM and DiTFlow compute it.

        M[n, m] = mean_t cos(v_t^n of the video, v_t^m of the reference)
        score   = mean_n max_m (M - I)[n, m]

    Range [-1, 1], higher is better. Defects, kept: one direction only, video -> reference; the
    identity matrix is subtracted, which hides the true partner of a point where the order of the
    points is the same (the same tracks score less than 1), and of a single point, which has no
    other partner, leaves the cosine - 1, in [-2, 0]; a point at rest for one step makes the whole
    video NaN; who can be seen is ignored; speed is not seen; the longer clip is cut.

    Args:
        reference, video: `(N, F, 2)` and `(N, F', 2)`, finite.

    Raises:
        UsageError: not the same number of points (the scripts crash), or fewer than 2 frames.
    """
    reference, video = _checked(reference, video)
    if len(reference) != len(video):
        raise UsageError(
            f"Expected as many points in both, got {len(reference)} and {len(video)}: the "
            "released motion fidelity is not defined otherwise.",
            "Use `mf`.",
        )
    steps = min(reference.shape[1], video.shape[1]) - 1
    a, b = (np.diff(tracks[:, : steps + 1], axis=1) for tracks in (video, reference))
    with np.errstate(invalid="ignore"):
        a, b = (v / np.linalg.norm(v, axis=-1, keepdims=True) for v in (a, b))
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    best, rows = np.empty(len(a)), max(1, _CHUNK // len(b))
    for start in range(0, len(a), rows):
        alike = a[start : start + rows] @ b.T / steps
        alike[np.arange(len(alike)), start + np.arange(len(alike))] -= 1  # the identity's part
        best[start : start + rows] = alike.max(1)
    return float(best.mean())


def mf(
    reference: Points,
    video: Points,
    reference_visible: Visible | None = None,
    video_visible: Visible | None = None,
    *,
    rest: float = REST,
) -> float:
    """Motion fidelity, repaired: both directions averaged, visible points only, points at rest
    compared, and no identity matrix.

    A step counts where both points are seen before and after it; its term is the cosine of the two
    displacements, 1 if both are shorter than `rest`, 0 if one is. Of each side, only the points
    that move count as the ones to be found again, if any does: a background at rest would
    otherwise be found in any video, and decide. If nothing moves in either, the score is 1; in one
    of them, 0.

    Range [-1, 1], higher is better. It does not see speed (`mf_speed` does). Of unrelated motions,
    the best of many partners is well above 0: docs/metrics.md says how much.

    Args:
        reference, video: `(N, F, 2)` and `(M, F, 2)`, finite where visible.
        reference_visible, video_visible: `(N, F)` and `(M, F)`; None: always.
        rest: pixels a step.

    Returns:
        The score, of the points that are seen with one of the other side for half of the steps; NaN
        if on one side there is none.

    Raises:
        UsageError: other shapes, or not the same number of frames.
    """
    return _both_ways(reference, video, reference_visible, video_visible, rest, speed=False)


def mf_speed(
    reference: Points,
    video: Points,
    reference_visible: Visible | None = None,
    video_visible: Visible | None = None,
    *,
    rest: float = REST,
) -> float:
    """`mf` that sees speed: instead of the cosine, 2 a . b / (|a|^2 + |b|^2).

    The same motion at k times the speed scores 2 k / (1 + k^2): 0.8 at twice or half, 0.2 at ten
    times. Range [-1, 1], higher is better. Arguments, returns and raises as `mf`.
    """
    return _both_ways(reference, video, reference_visible, video_visible, rest, speed=True)


def _both_ways(
    reference: Points,
    video: Points,
    reference_visible: Visible | None,
    video_visible: Visible | None,
    rest: float,
    *,
    speed: bool,
) -> float:
    reference, video = _checked(reference, video)
    if reference.shape[1] != video.shape[1]:
        raise UsageError(
            f"Expected as many frames in both, got {reference.shape[1]} and {video.shape[1]}.",
            "Bring the tracks to one length first (`Tracks.resampled`, `Tracks.cut`).",
        )
    a, a_seen = _steps(reference, reference_visible)
    b, b_seen = _steps(video, video_visible)
    if not len(a) or not len(b):
        return float("nan")
    moving = [_moving(v, seen, rest) for v, seen in ((a, a_seen), (b, b_seen))]
    if not (moving[0].any() or moving[1].any()):
        return 1.0
    if not (moving[0].any() and moving[1].any()):
        return 0.0
    ways = (
        _found_again(a[moving[0]], a_seen[moving[0]], b, b_seen, rest, speed),
        _found_again(b[moving[1]], b_seen[moving[1]], a, a_seen, rest, speed),
    )
    return float(np.mean(ways))


def _steps(points: Points, visible: Visible | None) -> tuple[Floats, Visible]:
    """`(N', F - 1, 2)` displacements and `(N', F - 1)` whether they are seen, of the points that
    are seen in at least `LEAST_SEEN` of the steps; zero where not seen.
    """
    seen = checked_visible(visible, points)
    both = seen[:, 1:] & seen[:, :-1]
    kept = both.mean(1) >= LEAST_SEEN
    steps = np.where(both[..., None], np.diff(points, axis=1), 0.0)
    return steps[kept], both[kept]


def _moving(steps: Floats, seen: Visible, rest: float) -> Visible:
    """`(N,)`: points that move in at least one step."""
    return np.asarray(((np.linalg.norm(steps, axis=-1) >= rest) & seen).any(1))


def _found_again(
    a: Floats, a_seen: Visible, b: Floats, b_seen: Visible, rest: float, speed: bool
) -> float:
    """Mean over the points of `a` of the best likeness to a point of `b`, of those that are seen
    together with one for long enough; NaN without any.
    """
    best = np.full(len(a), -np.inf)
    rows = max(1, _CHUNK // len(b))
    for start in range(0, len(a), rows):
        part = slice(start, start + rows)
        best[part] = _likeness(a[part], a_seen[part], b, b_seen, rest, speed).max(1)
    known = best[np.isfinite(best)]
    return float(known.mean()) if len(known) else float("nan")


def _likeness(
    a: Floats, a_seen: Visible, b: Floats, b_seen: Visible, rest: float, speed: bool
) -> Floats:
    """`(N, M)` means over the steps that both see, -inf where these are too few."""
    long_a, long_b = np.linalg.norm(a, axis=-1), np.linalg.norm(b, axis=-1)
    still_a, still_b = (long_a < rest) & a_seen, (long_b < rest) & b_seen
    moves_a, moves_b = a_seen & ~still_a, b_seen & ~still_b
    total = np.zeros((len(a), len(b)))
    for t in range(a.shape[1]):
        dots = a[:, t] @ b[:, t].T
        if speed:
            size = (long_a[:, t, None] ** 2 + long_b[None, :, t] ** 2) / 2
        else:
            size = long_a[:, t, None] * long_b[None, :, t]
        both = moves_a[:, t, None] & moves_b[None, :, t]
        total += np.divide(dots, size, out=np.zeros_like(dots), where=both & (size > 0))
        total += still_a[:, t, None] & still_b[None, :, t]
    counts = a_seen.astype(float) @ b_seen.astype(float).T
    enough = counts >= LEAST_SEEN * a.shape[1]
    return np.where(enough, total / np.maximum(counts, 1), -np.inf)


def _checked(reference: Points, video: Points) -> tuple[Points, Points]:
    reference, video = checked_points(reference, "reference"), checked_points(video, "video")
    for name, tracks in (("reference", reference), ("video", video)):
        if not len(tracks) or tracks.shape[1] < 2:
            raise UsageError(
                f"Expected tracks (points, frames, 2) of at least 1 point and 2 frames as the "
                f"{name}, got {tracks.shape}."
            )
    return reference, video
