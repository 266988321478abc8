"""The metrics that ship with pe-toolkit, as rows of a table: what each needs, its range, which way
is better. The functions stand in the other files, with their formulas.
"""

from __future__ import annotations

import functools

import numpy as np

from pe_toolkit.errors import UsageError
from pe_toolkit.evaluation import directions, likeness, shapes, steadiness
from pe_toolkit.evaluation.contract import Frames, Metric, Need, Pair
from pe_toolkit.shown import shown
from pe_toolkit.world import attributes, class_metrics
from pe_toolkit.world import metrics as world

INF = float("inf")
_TRACKS: frozenset[Need] = frozenset({"tracks"})
_REST = "a point rests for a step, or is nowhere, which the released scripts do not allow"
_POINTS = "no point is seen long enough in both"


def _mf(pair: Pair) -> float:
    a, b = pair.both
    return directions.mf(a.points, b.points, a.visible, b.visible)


def _mf_speed(pair: Pair) -> float:
    a, b = pair.both
    return directions.mf_speed(a.points, b.points, a.visible, b.visible)


def _mf_official(pair: Pair) -> float:
    a, b = pair.both
    return directions.mf_official(a.points, b.points)


def _hybrid(pair: Pair) -> float:
    a, b = pair.both
    return shapes.hybrid(a.points, b.points, a.size, a.visible, b.visible)


def _hybrid_as_coded(pair: Pair) -> float:
    a, b = pair.both
    return shapes.hybrid_as_coded(a.points, b.points, a.size, frechet=True)


def _frechet(pair: Pair) -> float:
    a, b = pair.both
    return shapes.frechet_distance(a.points, b.points, a.size, a.visible, b.visible)


def _endpoint(pair: Pair) -> float:
    a, b = pair.both
    return shapes.endpoint_error(a.points, b.points, a.visible, b.visible)


def _degree(pair: Pair) -> float:
    _, b = pair.both
    return steadiness.dynamic_degree(b.points, b.visible, b.size)


def _consistency(pair: Pair) -> float:
    _, b = pair.both
    height, width = pair.video.shape[1:3]
    own = b.scaled_to((width, height))
    return steadiness.temporal_consistency(pair.video, own.points, own.visible)


def _moving_consistency(pair: Pair) -> float:
    a, _ = pair.both
    wanted = steadiness.dynamic_degree(a.points, a.visible, a.size)
    return steadiness.moving_consistency(_consistency(pair), _degree(pair), wanted)


def _driving(pair: Pair) -> float:
    return likeness.driving_similarity(pair.reference, pair.video)


def _leak(pair: Pair) -> float:
    others = [likeness.driving_similarity(clip, pair.video) for clip in pair.unrelated]
    return likeness.leak(_driving(pair), others)


def _text(pair: Pair) -> float:
    from pe_toolkit.evaluation import clip

    assert pair.prompt is not None
    return clip.text_similarity(pair.video, pair.prompt)


def _fetch_clip() -> None:
    from pe_toolkit.evaluation import clip

    clip.fetch_clip()


def _fetch_dino() -> None:
    from pe_toolkit.evaluation import clip

    clip.fetch_dino()


def _driving_clip(pair: Pair) -> float:
    from pe_toolkit.evaluation import clip

    return clip.driving_similarity_clip(pair.reference, pair.video)


def _driving_dino(pair: Pair) -> float:
    from pe_toolkit.evaluation import clip

    return clip.driving_similarity_dino(pair.reference, pair.video)


SHARES = {"zoom": "size", "roll": "angle", "pan": "ground", "held": "ground"}
"""What of a class of motion changes beside the path of a thing (`world.class_metrics`)."""
RENDERED = 128
"""Pixels a side."""


@functools.lru_cache(maxsize=1)
def _of_class(pair: Pair) -> dict[str, float]:
    """What a video shows of the motion of a class of scenes, by those numbers that it has."""
    assert pair.prompt is not None
    assert pair.scene is not None
    named, shown_things = len(class_metrics.parse_all(pair.prompt)[0]), len(pair.scene.things)
    if named != shown_things:
        raise UsageError(
            f"Expected a prompt of as many things as the reference shows, {shown_things}, got one "
            f"of {named}: {shown(pair.prompt)}.",
            "Score a video of as many things.",
        )
    video = _as_rendered(pair.video)
    found = class_metrics.measured(video, pair.prompt, pair.scene)
    looks = attributes.seen(video, pair.prompt, leaning=pair.scene.family == "roll")
    renamed = {"error": "trajectory_error", SHARES.get(pair.scene.family): "share"}
    out = {renamed.get(name, name): value for name, value in found.items()}
    return out | {"adherent": float(looks.adherent)}


def _as_rendered(video: Frames) -> Frames:
    """Frames of the size that the measures of classes are made for: places are parts of a side."""
    height, width = video.shape[1:3]
    if height == width and height % RENDERED == 0:
        return video
    from PIL import Image

    size = (RENDERED, RENDERED)
    small = [Image.fromarray(frame).resize(size, Image.Resampling.BOX) for frame in video]
    return np.stack([np.asarray(frame) for frame in small])


def _true(name: str) -> Metric:
    def score(pair: Pair) -> float:
        if pair.scene is not None:
            return _of_class(pair).get(name, float("nan"))
        assert pair.prompt is not None
        return float(getattr(world.measure(pair.video, pair.prompt, pair.truth), name))

    title, low, high, higher = {
        "cosine": ("cosine of the object's steps and the true path's", -1.0, 1.0, True),
        "trajectory_error": ("distance from the true path, in widths", 0.0, 1.42, False),
        "visibility": ("share of the time that the object is there", 0.0, 1.0, True),
        "adherent": ("colour, shape and background are the prompt's", 0.0, 1.0, True),
        "cosine_worse": ("the cosine of the worse one of two things", -1.0, 1.0, True),
        "share": ("share of the true zoom, roll or way of the background", -INF, INF, True),
    }[name]
    known: Need = "class" if name in ("cosine_worse", "share") else "truth"
    needs: frozenset[Need] = frozenset({"prompt", known})
    better = "higher" if higher else "lower"
    why = "the object is nowhere to be seen, or the class of motion has no such number"
    return Metric(title, score, low, high, better, needs, why)  # type: ignore[arg-type]


MF = Metric("motion fidelity, repaired", _mf, -1, 1, "higher", _TRACKS, _POINTS)
MF_SPEED = Metric("motion fidelity that sees speed", _mf_speed, -1, 1, "higher", _TRACKS, _POINTS)
MF_OFFICIAL = Metric(
    "motion fidelity as the released scripts have it", _mf_official, -2, 1, "higher", _TRACKS,
    _REST,
)  # fmt: skip
"""Below -1 only of a single point."""
HYBRID = Metric(
    "hybrid motion fidelity, as DeT describes it", _hybrid, -0.37, 1, "higher", _TRACKS, _POINTS
)
HYBRID_AS_CODED = Metric(
    "hybrid motion fidelity, as DeT's script has it", _hybrid_as_coded, -1, 1, "higher", _TRACKS,
    _REST,
)  # fmt: skip
FRECHET_DISTANCE = Metric(
    "Frechet trajectory distance, in widths", _frechet, 0, 1.42, "lower", _TRACKS, _POINTS
)
ENDPOINT_ERROR = Metric(
    "end-point error, in pixels of the reference", _endpoint, 0, INF, "lower", _TRACKS,
    _POINTS,
)  # fmt: skip
TEMPORAL_CONSISTENCY = Metric(
    "colours hold along tracks (a still video wins)", _consistency, 0, 1, "higher", _TRACKS
)
DYNAMIC_DEGREE = Metric(
    "speed of the fastest points, % of the diagonal a frame", _degree, 0, 100, "neither", _TRACKS
)
MOVING_CONSISTENCY = Metric(
    "colours hold along tracks, and it moves as much", _moving_consistency, 0, 1, "higher", _TRACKS
)
DRIVING_SIMILARITY = Metric("looks like the reference", _driving, 0, 1, "lower")
LEAK = Metric(
    "looks like the reference: 0 as unrelated clips do, 1 a copy", _leak, -INF, 1,
    "lower", frozenset({"unrelated"}), undefined="the unrelated clips look like the video",
)  # fmt: skip
TEXT_SIMILARITY = Metric(
    "shows the prompt (CLIP)", _text, -1, 1, "higher", frozenset({"prompt", "download"}),
    prepare=_fetch_clip,
)  # fmt: skip
DRIVING_SIMILARITY_CLIP = Metric(
    "looks like the reference (CLIP)", _driving_clip, -1, 1, "lower", frozenset({"download"}),
    prepare=_fetch_clip,
)  # fmt: skip
DRIVING_SIMILARITY_DINO = Metric(
    "looks like the reference (DINO)", _driving_dino, -1, 1, "lower", frozenset({"download"}),
    prepare=_fetch_dino,
)  # fmt: skip
TRUE_COSINE = _true("cosine")
TRUE_ERROR = _true("trajectory_error")
TRUE_VISIBILITY = _true("visibility")
TRUE_ADHERENCE = _true("adherent")
TRUE_WORSE = _true("cosine_worse")
TRUE_SHARE = _true("share")
