"""One pair of clips: read them in step, follow points through both, score."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pe_toolkit.errors import DependencyError, PeError, UsageError
from pe_toolkit.evaluation import GROUP, METRICS, metric
from pe_toolkit.evaluation.contract import HOW, NEEDS, Metric, Pair
from pe_toolkit.evaluation.moments import evenly
from pe_toolkit.evaluation.trackers.base import Tracker, grid_points
from pe_toolkit.evaluation.tracks import Tracks
from pe_toolkit.extensions import in_words, refused
from pe_toolkit.video import Clip, motion_level, read_clip
from pe_toolkit.video.movie import OnProgress
from pe_toolkit.video.moving import MOTIONLESS

Frames = NDArray[np.uint8]

GRID = 30
"""Points a side that are followed: 900. The published scores follow 55 a side."""
ALIGNMENTS = ("span", "frames")
Alignment = Literal["span", "frames"]


@dataclass(frozen=True)
class Result:
    """What one metric says of a pair.

    Attributes:
        name: of the metric.
        value: the number, or None where there is none.
        why: then, the reason in words; else "".
    """

    name: str
    value: float | None
    why: str = ""


def read_pair(
    reference: Path | str | Clip,
    video: Path | str,
    *,
    align: Alignment = "span",
    frames: int | None = None,
    size: tuple[int, int] | None = None,
    on_progress: OnProgress | None = None,
) -> tuple[Frames, Frames, list[str]]:
    """Two clips with as many frames, and in words what was done to them, and where nothing moves;
    `read_counted` without the counts.

    Args:
        reference: a file, of which all is read, or a clip that was read: a part of one, or as
            `card.sampling.read_as_trained` reads it for a card. It is taken as it is.
        align: `span`: the longer one is resampled to the frames of the shorter, first to first and
            last to last, as a training resamples its reference: rates do not count. `frames`: frame
            k belongs to frame k, and the longer one is cut (the released scripts).
        frames: resample both files to so many first, over their whole spans; with `frames`, use so
            many.
        size: bring both files to (width, height) in pixels, stretched; None: each keeps its own.
        on_progress: as in `video.read_clip`, for one and then the other.

    Raises:
        ClipError, UsageError: as `video.read_clip`.
    """
    asked: dict[str, Any] = {"align": align, "frames": frames, "size": size}
    return read_counted(reference, video, on_progress=on_progress, **asked)[:3]


def read_counted(
    reference: Path | str | Clip,
    video: Path | str,
    *,
    align: Alignment = "span",
    frames: int | None = None,
    size: tuple[int, int] | None = None,
    on_progress: OnProgress | None = None,
) -> tuple[Frames, Frames, list[str], tuple[int, int]]:
    """As `read_pair`, and how many frames both files have, or the clip that was given."""
    paths = (reference, video)
    clips = [
        path if isinstance(path, Clip) else _read(path, align, frames, size, on_progress)
        for path in paths
    ]
    whole = [len(clip.frames) for clip in clips]
    notes = [
        f"{clip.source}: {len(clip.frames)} frames of {clip.size[0]}x{clip.size[1]}, "
        f"{clip.fps:.4g} fps"
        + ("" if len(clip.frames) == clip.total_frames else f" ({clip.total_frames} in the file)")
        for clip in clips
    ]
    own = clips[0].total_frames if clips[0] is not reference else whole[0]
    count, total = min(whole), (own, clips[1].total_frames)
    for k, path in enumerate(paths):
        if whole[k] == count:
            continue
        done = "resampled over its span" if align == "span" else "cut"
        notes.append(f"{clips[k].source}: {done} to {count} frames")
        if align == "frames":
            continue
        if isinstance(path, Clip):
            clips[k] = replace(path, frames=path.frames[evenly(whole[k], count)])
        else:  # by its times, which a variable rate does not space evenly
            clips[k] = _read(path, align, count, size, on_progress)
    a, b = (clip.frames[:count] for clip in clips)
    if a.shape[1:3] != b.shape[1:3]:
        notes.append(
            f"Sizes differ: points are compared in pixels of {clips[0].source}, each axis "
            "stretched by itself"
        )
    notes += _still("reference", clips[0].source, a) + _still("video", clips[1].source, b)
    return a, b, notes, total


def _still(role: str, name: str, frames: Frames) -> list[str]:
    """A note of a clip in which nothing moves: two of these are as alike as can be."""
    level = motion_level(frames)
    if level >= MOTIONLESS:
        return []
    return [
        f"Nothing that can be seen moves in the {role}, {name} (its frames differ by {level:.1f} "
        f"of 255 grey levels; {MOTIONLESS:g} are needed): scores of motion say little"
    ]


def _read(
    path: Path | str,
    align: Alignment,
    frames: int | None,
    size: tuple[int, int] | None,
    on_progress: OnProgress | None,
) -> Clip:
    if align not in ALIGNMENTS:
        raise UsageError(f"Expected to align by {' or '.join(ALIGNMENTS)}, got {align!r}.")
    if frames is None or align == "span":
        return read_clip(path, frames=frames, size=size, fit="stretch", on_progress=on_progress)
    return read_clip(
        path, frames=frames, fps="native", size=size, fit="stretch", on_progress=on_progress
    )


def tracks_of_both(pair: Pair, tracker: Tracker, side: int = GRID) -> tuple[Tracks, Tracks]:
    """`side` x `side` points followed through both clips, from the same places of their first
    frames.

    Raises:
        UsageError, DependencyError: of the tracker.
    """
    return tracks_of(pair.reference, tracker, side), tracks_of(pair.video, tracker, side)


def tracks_of(frames: Frames, tracker: Tracker, side: int = GRID) -> Tracks:
    """`side` x `side` points of the first frame, followed through uint8 RGB frames `(F, H, W, 3)`.

    Raises:
        UsageError, DependencyError: of the tracker.
    """
    height, width = frames.shape[1:3]
    return tracker.track(frames, grid_points(width, height, side))


def with_tracks(
    pair: Pair,
    reference: Tracks,
    video: Tracks,
    align: Alignment = "span",
    *,
    totals: tuple[int, int] | None = None,
) -> Pair:
    """The pair with tracks from elsewhere, brought to its frames and into pixels of the reference.

    Args:
        align: how tracks of more frames are brought to those of the pair, as `read_pair` did.
        totals: how many frames the files have (`read_counted`): tracks have as many, or those of
            the pair. None: as many as they like.

    Raises:
        UsageError: tracks of fewer frames than the pair has, or of another number than `totals`.
    """
    count = len(pair.reference)
    height, width = pair.reference.shape[1:3]
    brought = []
    for name, tracks in (("reference", reference), ("video", video)):
        if tracks.frames < count:
            raise UsageError(
                f"Expected tracks of at least the {count} frames that are compared, got "
                f"{tracks.frames} of the {name}.",
                "Track the clip that is given here, or compare fewer frames (--frames).",
            )
        own = None if totals is None else totals[name == "video"]
        if own is not None and tracks.frames != count and abs(tracks.frames - own) > 1:
            raise UsageError(
                f"Expected tracks of the {own} frames of the {name}, got {tracks.frames} frames of "
                f"{tracks.points.shape[0]} points.",
                "`points` is (points, frames, 2): CoTracker has frames first, and is transposed.",
            )
        if tracks.frames > count:
            tracks = tracks.resampled(count) if align == "span" else tracks.cut(count)
        brought.append(tracks.scaled_to((width, height)))
    return replace(pair, reference_tracks=brought[0], video_tracks=brought[1])


def compare(
    reference: Path | str, video: Path | str, prompt: str | None = None
) -> dict[str, float | None]:
    """Everything that can be measured of two files without a download, by the names of metrics.

    Points are followed with the usual tracker; where OpenCV is not installed, what needs tracks is
    left out. None where a number is not defined (`score` says why).

    Raises:
        ClipError: one cannot be read.
    """
    from pe_toolkit.evaluation.trackers import tracker

    two = Pair(*read_pair(reference, video)[:2], prompt=prompt)
    with contextlib.suppress(DependencyError):
        two = with_tracks(two, *tracks_of_both(two, tracker("lk")))
    return {result.name: result.value for result in score(two, default_names(two))}


def default_names(pair: Pair) -> list[str]:
    """The metrics that ship and can be had with what the pair holds, nothing fetched."""
    return [
        name
        for name in METRICS
        if "download" not in (needs := metric(name).needs) and all(map(pair.has, needs))
    ]


def score(pair: Pair, names: Sequence[str]) -> list[Result]:
    """What the named metrics say.

    Raises:
        UsageError: no such metric; one needs what the pair does not hold.
        DependencyError: the weights of one cannot be had.
    """
    found = {name: metric(name) for name in names}
    for name, one in found.items():
        check_needs(name, one, pair)
    return [_result(name, one, pair) for name, one in found.items()]


def check_needs(name: str, one: Metric, pair: Pair) -> None:
    """Refuse a metric that needs what is not there.

    Raises:
        UsageError: says what.
    """
    missing = [NEEDS[need] for need in sorted(one.needs) if not pair.has(need)]
    if missing:
        raise UsageError(
            f"Expected {' and '.join(missing)} for the metric {name}, got none.",
            " ".join(HOW[need] for need in sorted(one.needs) if not pair.has(need)),
        )


def _result(name: str, one: Metric, pair: Pair) -> Result:
    try:
        # Others may write on what they get.
        value = float(one.score(pair if name in METRICS else copy.deepcopy(pair)))
    except UsageError as error:  # such as released scores of another number of points
        return Result(name, None, error.message)
    except (Exception, SystemExit) as error:
        if name in METRICS or isinstance(error, PeError):
            raise
        raise refused(GROUP, name, "a metric", f"it failed: {in_words(error)}") from error
    if math.isnan(value):
        return Result(name, None, one.undefined)
    if math.isinf(value):
        return Result(name, None, f"it is {value}")
    return Result(name, value)
