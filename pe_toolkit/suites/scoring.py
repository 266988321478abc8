"""The numbers of one video: everything that can be measured for it here (docs/metrics.md)."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pe_toolkit.errors import ClipError, DependencyError
from pe_toolkit.evaluation import metric, pair
from pe_toolkit.evaluation.contract import Pair
from pe_toolkit.evaluation.moments import evenly
from pe_toolkit.evaluation.trackers import tracker
from pe_toolkit.evaluation.tracks import Tracks
from pe_toolkit.suites import bundled
from pe_toolkit.suites.plan import Settings
from pe_toolkit.suites.reading import read_source
from pe_toolkit.video import Clip

LABELS = {
    "true_cosine": "cos", "true_error": "error", "true_visibility": "visible",
    "true_adherence": "prompt", "true_worse": "cos, worse", "true_share": "share", "mf": "MF",
    "mf_speed": "MF speed", "mf_official": "MF official",
    "text_similarity": "IQ", "driving_similarity": "likeness", "leak": "leak",
    "temporal_consistency": "TC", "dynamic_degree": "degree", "moving_consistency": "moving TC",
    "hybrid": "hybrid MF", "hybrid_as_coded": "hybrid as coded", "frechet_distance": "Frechet",
    "endpoint_error": "end point",
}  # fmt: skip
"""Short names for the heads of tables; others are called by their own."""
HEADLINES = ("true_cosine", "true_adherence", "mf", "text_similarity", "leak")
"""What the short tables take, the first two of these that were measured."""
CLASS_HEADLINES = ("true_cosine", "true_share", "true_adherence")
"""What the table by class of motion takes, where it was measured."""


@dataclass(frozen=True)
class Column:
    """A metric in a table: whether more is better, None where neither is; and what it is, in a few
    words.
    """

    label: str
    higher: bool | None
    title: str = ""


def column(name: str) -> Column:
    """How a metric is shown; one that is not installed any more, by its name."""
    label = LABELS.get(name, name)
    try:
        found = metric(name)
        better = {"higher": True, "lower": False, "neither": None}[found.better]
        return Column(label, better, found.title)
    except (DependencyError, ValueError):
        return Column(label, None)


def score(
    args: Mapping[str, Any],
    clip: Clip,
    frames: NDArray[np.uint8],
    prompt: str,
    settings: Settings,
) -> dict[str, float | None]:
    """Numbers by the names of metrics; None where one is not defined, left out where what it needs
    is not there.

    Args:
        args: of the job: the source of its clip, and those of unrelated ones.
        clip: the reference as the backbone saw it.
        frames: uint8 RGB `(F, H, W, 3)`, as it came from the model: nothing is compressed.
        prompt: what was to be shown.

    Raises:
        UsageError, DependencyError: of metrics or a tracker asked for by name.
    """
    count = min(len(clip.frames), len(frames))
    rendered = "bundled" in args["clip"]
    height, width = frames.shape[1:3]
    truth = bundled.true_path(args["clip"], (width, height)) if rendered else None
    # What a class says is known of the whole picture only, which others show a part of.
    scene = bundled.scene_of_class(args["clip"]) if rendered and width == height else None
    others = []
    for source in args.get("unrelated", ()):
        with contextlib.suppress(ClipError):  # its own jobs say so: this video is another one
            others.append(_other(source, clip, settings))
    two = Pair(
        _resampled(clip.frames, count), _resampled(frames, count), prompt=prompt, truth=truth,
        scene=scene, unrelated=tuple(_resampled(other, count) for other in others),
    )  # fmt: skip
    two = _with_tracks(two, settings)
    names = dict.fromkeys([*pair.default_names(two), *(settings.metrics or ())])
    return {r.name: _number(r.value) for r in pair.score(two, list(names))}


def _with_tracks(two: Pair, settings: Settings) -> Pair:
    """The pair with tracks; without them where the usual tracker is not installed."""
    try:
        side = settings.grid or pair.GRID
        reference = _of_reference(two.reference, settings.tracker, side)
        video = pair.tracks_of(two.video, tracker(settings.tracker), side)
    except DependencyError:
        asked = any("tracks" in metric(name).needs for name in settings.metrics or ())
        if asked or settings.tracker != Settings.tracker:
            raise
        return two
    return pair.with_tracks(two, reference, video)


_last: dict[tuple[str | int, ...], Tracks] = {}


def _of_reference(frames: NDArray[np.uint8], name: str, side: int) -> Tracks:
    """Tracks of a reference, kept for the next video of it: a worker scores one after the other."""
    key = (hashlib.sha256(frames.tobytes()).hexdigest(), *frames.shape, name, side)
    if (tracks := _last.get(key)) is None:
        tracks = pair.tracks_of(frames, tracker(name), side)
        _last.clear()
        _last[key] = tracks
    return tracks


def _resampled(frames: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """`count` frames from the first to the last."""
    if len(frames) == count:
        return frames
    return np.asarray(frames[evenly(len(frames), count)])


def _other(source: Mapping[str, Any], clip: Clip, settings: Settings) -> NDArray[np.uint8]:
    text = json.dumps(dict(source), sort_keys=True)
    return _read(text, len(clip.frames), clip.size, settings.recipe)


@functools.lru_cache(maxsize=4)
def _read(source: str, frames: int, size: tuple[int, int], recipe: str) -> NDArray[np.uint8]:
    return read_source(json.loads(source), frames, size, recipe).frames


def _number(value: float | None) -> float | None:
    return None if value is None else round(float(value), 6)
