"""`read_clip`: from a file or a folder to the frames that a backbone needs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

import numpy as np

from pe_toolkit.errors import ClipError, UsageError
from pe_toolkit.video.movie import MissingFramesError, Movie, OnProgress
from pe_toolkit.video.names import shown
from pe_toolkit.video.picture import FITS, Fit, Picture, resize
from pe_toolkit.video.sources import Source, open_source
from pe_toolkit.video.span import check_memory, plan


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames of a reference and where they came from.

    Attributes:
        frames: `(F, H, W, 3)` uint8 RGB.
        fps: rate at which `frames` play as fast as the source did.
        source: name of the file or folder, without its path; what in it is not Unicode is replaced.
        sha256: hex digest of the file; for folders of names, sizes and bytes of the images.
        duration: seconds of the whole source, to the end of its last frame.
        total_frames: frames of the whole source.
        start: seconds at which the used span begins; that of its first frame if an end was asked
            for and no rate, so that `used` says the rest.
        end: seconds at which it was asked to end; None: with the clip.
        source_size: width and height in pixels of the source's first picture, upright and with
            square pixels; None if `frames` did not come from a file.
        fit: how the pictures were brought from that size to the size of `frames`.
    """

    frames: Picture
    fps: float
    source: str
    sha256: str
    duration: float
    total_frames: int
    start: float = 0.0
    end: float | None = None
    source_size: tuple[int, int] | None = None
    fit: Fit = "crop"

    @property
    def used(self) -> float:
        """Seconds of the source from the first of `frames` to the last."""
        return (len(self.frames) - 1) / self.fps

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of `frames` in pixels."""
        return self.frames.shape[2], self.frames.shape[1]


def read_clip(
    path: Path | str,
    *,
    start: float = 0.0,
    end: float | None = None,
    frames: int | None = None,
    fps: float | Literal["native"] | None = None,
    size: tuple[int, int] | None = None,
    fit: Fit = "crop",
    min_frames: int = 2,
    on_progress: OnProgress | None = None,
) -> Clip:
    """Read a video, a GIF, an animated image or a folder of images as RGB frames.

    Of several video streams, one that moves comes before a still picture, then the one that is
    marked as default, then the larger.

    The span from `start` to `end` is resampled uniformly in time to `frames` frames, first frame
    to first and last to last, each the source frame nearest in time, so variable frame rates keep
    their speed and a span with fewer frames repeats some. With `fps`, frames are taken at that
    rate from `start` instead; `fps="native"` takes consecutive source frames. For a folder, `fps`
    is the rate of its images (16 if not given).

    Rotation and mirroring in the display matrix and in EXIF, and non-square pixels, are applied
    (but for more than 16 times as wide as high, or as high as wide, which are taken as square);
    more than 8 bits are reduced; transparency is composited over black. Pictures of differing sizes
    are brought to the first one's size.

    Args:
        path: a file or a folder.
        start: seconds from the first frame.
        end: the same, the last moment that is taken; None, or past the end: the whole rest.
        frames: how many frames to return, at least 2; None: all that the span holds.
        fps: frames a second to take, `"native"`, or None to resample the span.
        size: (width, height) in pixels; None keeps the source's.
        fit: how to reach `size`: `crop` (centre), `pad` (black bars) or `stretch`.
        min_frames: fewer different source frames than this are too short (a backbone's number of
            latent frames).
        on_progress: called while a video is decoded, with how many frames are done and of how many.
            A video that has to be decoded twice, because its container tells no times, begins again
            at 1.

    Raises:
        ClipError: missing, empty, truncated, encrypted, not a video, sound only, one frame, too
            short, `start` negative or past the end, `end` not after it, or too large to hold.
        UsageError: `path` is empty, or `frames`, `fps`, `size` or `fit` make no sense.
    """
    if path == "":
        raise UsageError("Expected a clip, got an empty name.", "Name a video or a folder.")
    _check_request(start, end, frames, fps, size, fit)
    frames = None if frames is None else int(frames)
    name = shown(Path(path))

    def planned(source: Source) -> tuple[list[int], float, float]:
        indices, rate = plan(source, name, start, end, frames, fps, min_frames, size)
        # Whoever reads a span with an end again knows its rate: marks at a rate begin at `start`.
        at_frame = end is not None and fps is None
        return indices, rate, source.times[indices[0]] if at_frame else start

    return replace(_read(Path(path), planned, fps, size, fit, on_progress), end=end)


def read_frames(
    path: Path | str,
    choose: Callable[[int], Sequence[int]],
    *,
    size: tuple[int, int],
    fit: Fit = "crop",
) -> Clip:
    """Frames of a clip by their numbers; only these are kept. Otherwise as `read_clip`.

    Args:
        choose: gets how many frames the clip has, gives the numbers of those to return, counted
            from 0. It is called again where a damaged file has fewer than it says.

    Returns:
        A clip whose `fps` is that of all frames of the file; `start` is 0.

    Raises:
        ClipError, UsageError: as `read_clip`; and whatever `choose` raises.
    """
    _check_request(0.0, None, None, "native", size, fit)
    name = shown(Path(path))

    def planned(source: Source) -> tuple[list[int], float, float]:
        every, rate = plan(source, name, 0.0, None, None, "native", 2, size)
        return list(choose(len(every))), rate, 0.0

    return _read(Path(path), planned, "native", size, fit, None)


def _read(
    path: Path,
    planned: Callable[[Source], tuple[list[int], float, float]],
    fps: float | Literal["native"] | None,
    size: tuple[int, int] | None,
    fit: Fit,
    on_progress: OnProgress | None,
) -> Clip:
    """The frames that are planned of a source, which is decoded to be counted where it has not
    those that it announced.

    Args:
        planned: numbers of frames, their rate, and the seconds at which they begin.
    """
    name = shown(path)
    size = None if size is None else (int(size[0]), int(size[1]))  # also NumPy's
    source, digest = open_source(path, None if fps == "native" else fps, on_progress)

    def used(source: Source) -> Clip:
        indices, rate, start = planned(source)
        pictures, seen = _take(source, name, indices, size, fit)
        whole, count = source.duration, len(source.times)
        return Clip(
            pictures, float(rate), name, digest, whole, count, float(start), source_size=seen,
            fit=fit,
        )  # fmt: skip

    try:
        return used(source)
    except MissingFramesError:
        # Only a Movie raises this: the container promised frames that do not decode.
        exact = cast(Movie, source).exact()
    try:
        return used(exact)
    except MissingFramesError as error:
        raise ClipError(
            f"Expected to decode '{name}' twice alike, but {error}: it is damaged.",
            hint="Convert the clip to H.264 MP4.",
        ) from error


def _check_request(
    start: float,
    end: float | None,
    frames: int | None,
    fps: float | str | None,
    size: tuple[int, int] | None,
    fit: str,
) -> None:
    if not (math.isfinite(start) and start >= 0):
        raise ClipError(
            f"Expected a start of 0 seconds or later, got {start}.",
            hint="The start counts from the first frame of the clip.",
        )
    if end is not None and not end > start:
        raise ClipError(
            f"Expected an end after the start at {start:g} seconds, got {end:g}.",
            hint="Both count from the first frame of the clip.",
        )
    if frames is not None and not (frames >= 2 and frames % 1 == 0):
        raise UsageError(f"Expected at least 2 frames, got {frames}.")
    if isinstance(fps, str):
        if fps != "native":
            raise UsageError(f"Expected a number of frames a second or 'native', got '{fps}'.")
    elif fps is not None and not (math.isfinite(fps) and fps > 0):
        raise UsageError(f"Expected a positive number of frames a second, got {fps}.")
    if size is not None and (len(size) != 2 or min(size) < 1 or any(side % 1 for side in size)):
        got = "x".join(map(str, size))
        raise UsageError(f"Expected a size of at least 1x1 pixels, got {got}.")
    if fit not in FITS:
        raise UsageError(f"Expected a fit of {', '.join(FITS)}, got '{fit}'.")


def _take(
    source: Source, name: str, indices: list[int], size: tuple[int, int] | None, fit: Fit
) -> tuple[Picture, tuple[int, int]]:
    """The chosen frames as one array, each brought to size as soon as it is decoded, and width
    and height of the first before that.
    """
    slots: dict[int, list[int]] = {}
    for slot, index in enumerate(indices):
        slots.setdefault(index, []).append(slot)
    result: Picture | None = None
    own = (0, 0)
    for index, picture in source.pictures(slots.keys()):
        if result is None:
            own = (picture.shape[1], picture.shape[0])
            width, height = size or own
            check_memory(name, len(indices), width, height)
            result = np.empty((len(indices), height, width, 3), np.uint8)
        result[slots[index]] = resize(picture, (result.shape[2], result.shape[1]), fit)
    if result is None:
        raise MissingFramesError("no frame decoded")
    return result, own
