"""Metrics of tracks and frames on motions whose scores are known, and on bad input."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pe_toolkit.errors import UsageError
from pe_toolkit.evaluation import directions, likeness, metric, shapes, steadiness
from pe_toolkit.evaluation.contract import Pair
from pe_toolkit.evaluation.directions import mf, mf_official, mf_speed
from pe_toolkit.evaluation.trackers.base import grid_points
from pe_toolkit.evaluation.tracks import tracks_of

SIZE = (128, 96)
FRAMES = 12


def official(reference, video):
    """Motion fidelity by the formula of the paper, one number after the other, with the defects of
    the released script: cut to the shorter, only video -> reference, M - I, nothing for rest.
    """
    steps = min(len(reference[0]), len(video[0])) - 1
    best = []
    for n, b in enumerate(video):
        row = []
        for m, a in enumerate(reference):
            cosines = []
            for k in range(steps):
                v = [float(b[k + 1][c] - b[k][c]) for c in (0, 1)]
                w = [float(a[k + 1][c] - a[k][c]) for c in (0, 1)]
                size = math.hypot(*v) * math.hypot(*w)
                cosines.append((v[0] * w[0] + v[1] * w[1]) / size if size else math.nan)
            row.append(sum(cosines) / steps - (1 if n == m else 0))
        best.append(math.nan if any(map(math.isnan, row)) else max(row))
    return sum(best) / len(best)


def test_the_official_score_is_that_of_its_formula_and_its_defects():
    rng = np.random.default_rng(16)
    undefined = 0
    for _ in range(1000):
        points, frames = rng.integers(1, 7), rng.integers(2, 8, 2)
        tracks = [np.cumsum(rng.normal(0, 3, (points, f, 2)), axis=1) for f in frames]
        if rng.uniform() < 0.3:  # a point rests for a step
            side, n = rng.integers(2), rng.integers(points)
            t = rng.integers(1, frames[side])
            tracks[side][n, t] = tracks[side][n, t - 1]
        found, wanted = mf_official(*tracks), official(*tracks)
        undefined += math.isnan(wanted)
        assert found == pytest.approx(wanted, abs=1e-6, nan_ok=True)
    assert 100 < undefined < 400


def grid():
    x, y = np.meshgrid(np.linspace(20, 100, 6), np.linspace(20, 80, 5))
    return np.stack([x.ravel(), y.ravel()], 1)


def moved(kind):
    """Tracks `(30, 12, 2)` of a grid under one analytic motion."""
    start, t = grid(), np.linspace(0, 1, FRAMES)[None, :, None]
    off = start - start.mean(0)
    if kind == "still":
        return np.broadcast_to(start[:, None], (30, FRAMES, 2)).copy()
    if kind == "rotation":
        c, s = np.cos(t * 1.5)[..., 0], np.sin(t * 1.5)[..., 0]
        turned = np.stack([c * off[:, :1] - s * off[:, 1:], s * off[:, :1] + c * off[:, 1:]], -1)
        return turned + start.mean(0)
    if kind == "zoom":
        return start.mean(0) + off[:, None] * (1 + 0.8 * t)
    way = {"right": [22, 0], "faster": [220, 0], "down": [0, 22], "reversed": [-22, 0]}[kind]
    return start[:, None] + t * np.array(way, float)


MOTIONS = ("right", "down", "rotation", "zoom", "still", "faster")


@pytest.mark.parametrize("kind", MOTIONS)
def test_the_same_motion_scores_best(kind):
    a = moved(kind)
    assert mf(a, a) == pytest.approx(1)
    assert mf_speed(a, a) == pytest.approx(1)
    assert shapes.hybrid(a, a, SIZE) == pytest.approx(1)
    assert shapes.frechet_distance(a, a, SIZE) == 0
    assert shapes.endpoint_error(a, a) == 0


def test_directions_decide_and_speed_where_it_is_asked_for():
    a = moved("right")
    assert mf(a, moved("reversed")) == pytest.approx(-1)
    assert mf(a, moved("down")) == pytest.approx(0, abs=1e-9)
    assert mf(a, moved("faster")) == pytest.approx(1)
    assert mf_speed(a, moved("faster")) == pytest.approx(2 * 10 / 101)
    assert mf_speed(a, moved("reversed")) == pytest.approx(-1)
    assert mf(a, moved("still")) == mf_speed(a, moved("still")) == 0
    assert mf(moved("still"), a) == 0
    # A zoom and a rotation have points that go any way at first: many partners, a high floor.
    assert 0 < mf(moved("rotation"), moved("zoom")) < 0.95
    assert mf(a, moved("rotation")) < 0.8


def test_a_background_at_rest_does_not_decide():
    still, a, b = moved("still"), moved("right"), moved("down")
    assert mf(np.concatenate([still, a[:1]]), np.concatenate([still, b[:1]])) == pytest.approx(
        0, abs=1e-9
    )
    with_ground = np.concatenate([still, a])
    assert mf(with_ground, with_ground) == pytest.approx(1)
    assert math.isnan(mf_official(with_ground, with_ground))


def test_the_repaired_score_does_not_depend_on_the_order_of_points_and_the_official_does():
    rng = np.random.default_rng(0)
    a = np.cumsum(rng.normal(0, 3, (30, FRAMES, 2)), axis=1)
    b = a[rng.permutation(30)]
    assert mf(a, b) == pytest.approx(mf(a, a)) == pytest.approx(1)
    assert mf_official(a, a) < 0.9 < mf_official(a, b)


def test_what_is_hidden_does_not_count():
    a = moved("right")
    b, seen = a.copy(), np.ones((30, FRAMES), bool)
    seen[:, 6], b[:, 6] = False, 1e6
    assert mf(a, b, None, seen) == pytest.approx(1)
    assert mf_speed(a, b, None, seen) == pytest.approx(1)
    assert mf(a, b) < 0.9
    assert shapes.endpoint_error(a, b, None, seen) == 0
    assert shapes.frechet_distance(a, b, SIZE, None, seen) == 0
    assert math.isnan(mf(a, b, None, np.zeros_like(seen)))
    early, late = np.zeros_like(seen), np.zeros_like(seen)
    early[:, : 6 * seen.shape[1] // 10], late[:, 4 * seen.shape[1] // 10 :] = True, True
    assert math.isnan(mf(a, a, early, late))  # never seen together for long enough
    late[: len(a) // 2] = True
    assert mf(a, a, early, late) == pytest.approx(1)
    assert math.isnan(shapes.endpoint_error(a, b, None, np.zeros_like(seen)))
    assert math.isnan(shapes.frechet_distance(a, b, SIZE, None, np.zeros_like(seen)))


def test_many_points_are_compared_in_blocks(monkeypatch):
    rng = np.random.default_rng(3)
    a, b = (np.cumsum(rng.normal(0, 3, (40, 6, 2)), axis=1) for _ in range(2))
    whole = mf(a, b)
    monkeypatch.setattr(directions, "_CHUNK", 100)
    assert mf(a, b) == pytest.approx(whole, abs=1e-12)


def frechet(a, b):
    """Discrete Frechet distance by its recursion (Eiter and Mannila)."""

    def reach(i, j):
        here = math.dist(a[i], b[j])
        if i == j == 0:
            return here
        before = [
            reach(k, m) for k, m in ((i - 1, j), (i, j - 1), (i - 1, j - 1)) if min(k, m) >= 0
        ]
        return max(here, min(before))

    return reach(len(a) - 1, len(b) - 1)


def test_the_frechet_distance_is_that_of_its_recursion():
    rng = np.random.default_rng(5)
    a, b = rng.uniform(0, 90, (2, 8, 5, 2))
    one = [frechet((p + 0.5) / SIZE, (q + 0.5) / SIZE) for p, q in zip(a, b, strict=True)]
    assert shapes.frechet_distance(a, b, SIZE) == pytest.approx(math.sqrt(np.square(one).mean()))
    # The way counts, not when it is gone; its place does.
    late = moved("right")[:, [0, 0, 0, 0, 1, 2, 3, 4, 6, 8, 10, 11]]
    assert shapes.frechet_distance(moved("right"), late, SIZE) < 0.02
    shifted = moved("right") + np.array([12.8, 0])
    assert shapes.frechet_distance(moved("right"), shifted, SIZE) == pytest.approx(0.1)
    assert shapes.endpoint_error(moved("right"), shifted) == pytest.approx(12.8)


def plainly(a, b):
    """Of the paths of `a` the least discrete Frechet distance to one of `b`, place after place."""
    best = []
    for path in a:
        apart = np.linalg.norm(path[None, :, None] - b[:, None], axis=-1)  # (M, F, F)
        for i, j in np.ndindex(apart.shape[1:]):
            steps = ((i - 1, j), (i, j - 1), (i - 1, j - 1))
            before = [apart[:, k, m] for k, m in steps if min(k, m) >= 0]
            if before:
                apart[:, i, j] = np.maximum(apart[:, i, j], np.minimum.reduce(before))
        best.append(apart[:, -1, -1].min())
    return np.array(best)


@pytest.mark.parametrize("scale", [0.2, 1.0, 30.0])
def test_the_hybrid_score_leaves_out_only_pairs_that_are_not_the_nearest(scale, monkeypatch):
    rng = np.random.default_rng(12)
    monkeypatch.setattr(shapes, "_CACHED", 100)  # blocks of several pairs
    for points, others, frames in ((1, 1, 2), (3, 60, 4), (30, 45, 12), (5, 2, 33)):
        a, b = (
            np.cumsum(rng.normal(0, 1, (count, frames, 2)) + rng.normal(0, scale, (count, 1, 2)), 1)
            for count in (points, others)
        )
        a, b = ((paths - paths[:, :1]) / SIZE for paths in (a, b))
        assert np.allclose(shapes._nearest(a, b), plainly(a, b), rtol=0, atol=1e-12)
    assert np.isnan(shapes._nearest(a * math.nan, b)).all()


def test_the_hybrid_score_as_coded_is_that_of_its_formula():
    rng = np.random.default_rng(7)
    a, b = rng.uniform(1, 90, (2, 9, 6, 2))

    def sequence(p):
        p = (p + 0.5) / SIZE
        s = np.concatenate([p[:1], np.diff(p, axis=0)])
        return s / np.linalg.norm(s, axis=1, keepdims=True)

    best = [max((sequence(q) * sequence(p)).sum(1).mean() for p in a) for q in b]
    assert shapes.hybrid_as_coded(a, b, SIZE) == pytest.approx(np.mean(best))
    apart = np.mean(
        [[math.dist((q + 0.5) / SIZE, (p + 0.5) / SIZE) for q in v for p in r]
         for v, r in zip(b, a, strict=True)]
    )  # fmt: skip
    both = shapes.hybrid_as_coded(a, b, SIZE, frechet=True)
    assert both == pytest.approx(0.5 * np.mean(best) + 0.5 / (1 + apart))
    assert math.isnan(shapes.hybrid_as_coded(moved("still"), a[:, :, :].repeat(2, 1), SIZE))
    assert shapes.hybrid(moved("right"), moved("reversed"), SIZE) < 0.1


def clip_of(tracks, flicker=0):
    """Frames in which a bright square goes along the first track."""
    frames = np.full((FRAMES, SIZE[1], SIZE[0], 3), 40, np.uint8)
    for t in range(FRAMES):
        x, y = np.rint(tracks[0, t]).astype(int)
        frames[t, y - 8 : y + 9, x - 8 : x + 9] = 200 - flicker * (t % 2)
    return frames


def test_a_video_at_rest_holds_together_best_and_does_not_win():
    seen = np.ones((30, FRAMES), bool)
    still, right = moved("still"), moved("right")
    at_rest = steadiness.temporal_consistency(clip_of(still), still, seen)
    flickers = steadiness.temporal_consistency(clip_of(right, 60), right, seen)
    lost = seen.copy()
    lost[:3, 6:] = False
    loses = steadiness.temporal_consistency(clip_of(right), right, lost)
    assert at_rest == 1
    assert max(flickers, loses) < steadiness.temporal_consistency(clip_of(right), right, seen) <= 1
    wanted = steadiness.dynamic_degree(right, seen, SIZE)
    assert wanted == pytest.approx(100 * 2 / math.hypot(*SIZE))
    degree = steadiness.dynamic_degree(still, seen, SIZE)
    assert degree == 0
    assert steadiness.moving_consistency(at_rest, degree, wanted) == 0
    assert steadiness.moving_consistency(0.9, 2 * wanted, wanted) == 0.9
    assert steadiness.moving_consistency(1.0, degree, degree) == 1


def test_a_copy_looks_most_like_the_reference():
    rng = np.random.default_rng(2)
    clips = [rng.integers(0, 256, (9, 1, 2, 3)) for _ in range(6)]  # two colours each
    clips = [np.repeat(np.repeat(c, 48, 1), 32, 2).astype(np.uint8) for c in clips]
    reference, others = clips[0], clips[1:]
    alike = [likeness.driving_similarity(reference, clip) for clip in clips]
    assert alike[0] == pytest.approx(1)
    assert max(alike[1:]) < 0.9
    assert likeness.leak(alike[0], alike[1:]) == pytest.approx(1)
    assert np.mean([likeness.leak(a, alike[1:]) for a in alike[1:]]) == pytest.approx(0, abs=1e-9)
    # Another size and another number of frames are the same picture.
    bigger = reference.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    assert likeness.driving_similarity(reference, bigger) > 0.95
    half = (0.5 * reference + 0.5 * others[0]).astype(np.uint8)
    assert alike[1] < likeness.driving_similarity(reference, half) < 1
    black = np.zeros_like(reference)
    assert likeness.driving_similarity(black, black) == 1
    assert likeness.driving_similarity(black, reference) < 0.5


GOOD = np.random.default_rng(1).uniform(0, 90, (4, 5, 2))


@pytest.mark.parametrize(
    "bad",
    [
        lambda: mf_official(GOOD, GOOD[:3]),
        lambda: mf_official(GOOD[:, :1], GOOD),
        lambda: mf(GOOD, GOOD[:, :4]),
        lambda: mf(GOOD[0], GOOD),
        lambda: mf(GOOD[:0], GOOD),
        lambda: mf(GOOD, GOOD, np.ones((4, 4), bool)),
        lambda: shapes.frechet_distance(GOOD, GOOD[:3], SIZE),
        lambda: shapes.endpoint_error(GOOD, GOOD[:, :4]),
        lambda: shapes.endpoint_error(GOOD, GOOD, np.ones((4, 4), bool)),
        lambda: shapes.hybrid_as_coded(GOOD, GOOD[:3], SIZE, frechet=True),
        lambda: steadiness.temporal_consistency(
            np.zeros((4, 8, 8, 3), np.uint8), GOOD, np.ones((4, 5), bool)
        ),
        lambda: steadiness.temporal_consistency(
            np.zeros((5, 8, 8, 3)), GOOD, np.ones((4, 5), bool)
        ),
        lambda: steadiness.temporal_consistency(
            np.zeros((5, 8, 8, 3), np.uint8), GOOD * math.nan, np.ones((4, 5), bool)
        ),
        lambda: likeness.driving_similarity(np.zeros((2, 8, 8)), np.zeros((2, 8, 8, 3))),
        lambda: likeness.leak(0.5, []),
    ],
)  # fmt: skip
def test_what_is_no_pair_of_tracks_is_refused(bad):
    with pytest.raises(UsageError, match=r"^Expected "):
        bad()


def test_the_released_score_of_one_point_goes_from_minus_two_to_zero():
    """The identity matrix is subtracted from its only cosine."""
    way = np.cumsum(np.ones((1, 5, 2)), 1)
    assert mf_official(way, way) == pytest.approx(0)
    assert mf_official(way, -way) == pytest.approx(-2) == metric("mf_official").low
    two = np.concatenate([way, way])
    assert mf_official(two, two) == pytest.approx(1)
    assert mf_official(two, -two) == pytest.approx(-1)


SEEN = np.ones(GOOD.shape[:2], bool)
CLIP = np.zeros((GOOD.shape[1], *SIZE[::-1], 3), np.uint8)
OF_TWO = {
    "mf": lambda a, b, seen: mf(a, b, seen, seen),
    "mf_speed": lambda a, b, seen: mf_speed(a, b, seen, seen),
    "mf_official": lambda a, b, seen: mf_official(a, b),
    "hybrid": lambda a, b, seen: shapes.hybrid(a, b, SIZE, seen, seen),
    "hybrid_as_coded": lambda a, b, seen: shapes.hybrid_as_coded(a, b, SIZE, frechet=True),
    "frechet_distance": lambda a, b, seen: shapes.frechet_distance(a, b, SIZE, seen, seen),
    "endpoint_error": lambda a, b, seen: shapes.endpoint_error(a, b, seen, seen),
    "dynamic_degree": lambda a, b, seen: steadiness.dynamic_degree(b, seen, SIZE),
    "temporal_consistency": lambda a, b, seen: steadiness.temporal_consistency(CLIP, b, seen),
}


@pytest.mark.parametrize("name", OF_TWO)
def test_lists_are_taken_as_arrays(name):
    other = GOOD[:, ::-1]
    asked = OF_TWO[name](GOOD, other, SEEN)
    for seen in (SEEN.tolist(), SEEN.astype(int)):
        assert OF_TWO[name](GOOD.tolist(), other.tolist(), seen) == asked


@pytest.mark.parametrize("name", OF_TWO)
@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((4, 5, 3)), GOOD[0], GOOD.astype(str), GOOD + 1j, [[[1, 2]], [[1, 2], [3, 4]]],
        None,
    ],
    ids=["3 numbers", "2 axes", "text", "complex", "of two lengths", "None"],
)  # fmt: skip
def test_what_are_no_tracks_is_refused_by_all(name, bad):
    with pytest.raises(UsageError, match=r"^Expected "):
        OF_TWO[name](bad, bad, SEEN)


@pytest.mark.parametrize("size", [(0, 0), (8, 0), (1, 2, 3), 8, (8.5, 8), (math.nan, 8), "88"])
def test_what_is_no_size_is_refused_by_all(size):
    for score in (
        lambda: shapes.hybrid(GOOD, GOOD, size),
        lambda: shapes.hybrid_as_coded(GOOD, GOOD, size),
        lambda: shapes.frechet_distance(GOOD, GOOD, size),
        lambda: steadiness.dynamic_degree(GOOD, SEEN, size),
        lambda: tracks_of(GOOD, None, size),
        lambda: tracks_of(GOOD, None, SIZE).scaled_to(size),
    ):
        with pytest.raises(UsageError, match="Expected a size of two whole numbers"):
            score()


def test_tracks_of_no_frames_and_grids_of_no_picture_are_refused():
    tracks = tracks_of(GOOD, None, np.array([128, 96]))
    assert tracks.size == (128, 96)
    assert tracks.resampled(1).frames == 1
    for frames in (0, -1):
        for make in (tracks.resampled, tracks.cut):
            with pytest.raises(UsageError, match=f"at least 1 frame, got {frames}"):
                make(frames)
    with pytest.raises(UsageError, match="at least 1x1 pixels, got 0x0"):
        grid_points(0, 0, 2)
    with pytest.raises(UsageError, match="Expected tracks of both clips, got none") as caught:
        _ = Pair(CLIP, CLIP).both
    assert "tracks_of_both" in caught.value.hint


def test_the_released_score_of_many_points_is_taken_in_blocks(monkeypatch):
    rng = np.random.default_rng(5)
    a, b = (np.cumsum(rng.normal(size=(31, 6, 2)), 1) for _ in "ab")
    whole = mf_official(a, b)
    monkeypatch.setattr(directions, "_CHUNK", 7 * 31)
    assert mf_official(a, b) == pytest.approx(whole, abs=1e-12)


def test_a_reference_that_is_not_seen_sets_no_pace():
    """Not a full score: what the video would have to move is not known."""
    assert math.isnan(steadiness.moving_consistency(0.9, 1.0, math.nan))
    assert math.isnan(steadiness.moving_consistency(0.9, math.nan, 1.0))
    assert steadiness.moving_consistency(0.9, 0.0, 0.0) == 0.9


def test_integers_are_numbers() -> None:
    """Of unsigned ones no difference is below 0; files of tracks may hold any."""
    left = np.stack([np.stack([np.arange(90, 40, -10), np.full(5, 20)], -1)] * 3)  # (3, 5, 2)
    seen = np.ones((3, 5), int)
    seen[0, 2] = 0
    for kind in (np.uint8, np.uint16, np.int64, np.float32):
        points, back = left.astype(kind), left[:, ::-1].astype(kind)
        asked = left.astype(float), left[:, ::-1].astype(float)
        assert mf(points, back) == pytest.approx(mf(*asked))
        assert mf_official(points, back) == pytest.approx(mf_official(*asked))
        assert shapes.endpoint_error(points, back) == pytest.approx(shapes.endpoint_error(*asked))
        here = steadiness.dynamic_degree(points, seen, (100, 100))  # type: ignore[arg-type]
        assert here == pytest.approx(
            steadiness.dynamic_degree(asked[0], seen.astype(bool), (100, 100))
        )
    with pytest.raises(UsageError, match="visible"):
        steadiness.dynamic_degree(left.astype(float), np.ones((2, 5), bool), (100, 100))


def test_a_leak_of_what_is_not_known_is_not_known() -> None:
    assert math.isnan(likeness.leak(0.5, [math.nan]))
    assert math.isnan(likeness.leak(1.0, [1.0]))  # the "unrelated" clip is the video itself
