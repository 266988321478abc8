"""From a clip of a suite to frames. A source is one of

{"path": P}                                     a video or a folder of images, all of it
{"path": P, "frames": [first, stop, step]}      some of its frames, counted from 0; a stop beyond
                                                its end means its end
{"path": P, "start": seconds, "end": seconds}   a part of it; either may be left out
{"bundled": suite, "index": n}                  rendered
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pe_toolkit.card.sampling import usual_fit, usual_rate
from pe_toolkit.errors import ClipError
from pe_toolkit.evaluation.moments import evenly
from pe_toolkit.suites import bundled
from pe_toolkit.training.shape import latent_frames
from pe_toolkit.video import Clip, read_clip, read_frames
from pe_toolkit.video.names import shown


def read_source(source: Mapping[str, Any], frames: int, size: tuple[int, int], recipe: str) -> Clip:
    """The clip as a training takes it.

    A part of a clip is resampled to `frames` evenly, the nearest frame for each mark; with the
    published recipe its first `frames` frames are taken instead.

    Args:
        frames: how many the backbone wants.
        size: (width, height) in pixels.
        recipe: as in `TrainConfig`: `paper` takes consecutive frames, and stretches.

    Raises:
        ClipError: it cannot be read, or is too short.
    """
    if "bundled" in source:
        return _rendered(source, frames, size)
    fit, path = usual_fit(recipe), source["path"]
    if "frames" not in source:
        span = {"start": source.get("start", 0.0), "end": source.get("end")}
        asked = usual_rate(recipe)
        least = latent_frames(frames)
        return read_clip(
            path, **span, frames=frames, fps=asked, size=size, fit=fit, min_frames=least
        )
    return _numbered(path, source["frames"], frames, size, recipe)


def _numbered(
    path: str, span: Sequence[int], frames: int, size: tuple[int, int], recipe: str
) -> Clip:
    """Frames [first, stop, step] of a clip, brought to `frames`; no others are kept."""
    first, stop, step = span

    def taken(total: int) -> list[int]:
        indices = range(total)[first:stop:step]
        _check_length(shown(Path(path)), len(indices), span, frames, recipe)
        if recipe == "paper":
            return list(indices[:frames])
        return [indices[k] for k in evenly(len(indices), frames)]

    clip = read_frames(path, taken, size=size, fit=usual_fit(recipe))
    rate, count = clip.fps / step, len(range(clip.total_frames)[first:stop:step])
    if recipe != "paper" and count != frames:
        rate *= (frames - 1) / (count - 1)
    return dataclasses.replace(clip, fps=rate, start=first / clip.fps)


def _check_length(name: str, came: int, span: Sequence[int], frames: int, recipe: str) -> None:
    """Refuse a span of fewer frames than are needed.

    Raises:
        ClipError: says how many.
    """
    out_of = "[{}, {}, {}]".format(*span)
    least = max(2, latent_frames(frames))
    if came < least:
        raise ClipError(
            f"'{name}' is too short: expected at least {least} frames out of {out_of}, but {came} "
            "came.",
            "Correct the span in the suite.",
        )
    if recipe == "paper" and came < frames:
        raise ClipError(
            f"'{name}' is too short: expected {frames} frames out of {out_of}, but {came} came.",
            "Correct the span in the suite, or choose another --recipe.",
        )


def _rendered(source: Mapping[str, Any], frames: int, size: tuple[int, int]) -> Clip:
    from pe_toolkit.video.picture import resize
    from pe_toolkit.world.scenes import render

    pictures = render(bundled.scene_of(source), max(size))
    total = len(pictures)
    if total != frames:
        pictures = pictures[evenly(total, frames)]
    if size[0] != size[1]:
        pictures = np.stack([resize(picture, size, "crop") for picture in pictures])
    return Clip(
        frames=pictures,
        fps=bundled.FPS * (frames - 1) / (total - 1),
        source=f"{source['bundled']}-{source['index']}",
        sha256="0" * 64,
        duration=total / bundled.FPS,
        total_frames=total,
    )
