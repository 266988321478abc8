"""Which frames of a source make a clip, and how fast they play; and whether it can be held."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

from pe_toolkit.errors import ClipError, option
from pe_toolkit.video.sources import Source

# Above this a clip kept at full size is a mistake: 4 GiB hold 9 minutes of 128x128 at 150 fps,
# but only 6 seconds of 4K.
MAX_BYTES = 4 * 1024**3
_FEW = 10_000  # frames of which a list costs nothing
_MATCH = 1e-3  # seconds: containers round timestamps to milliseconds


def plan(
    source: Source,
    name: str,
    start: float,
    until: float | None,
    frames: int | None,
    fps: float | str | None,
    min_frames: int,
    size: tuple[int, int] | None,
) -> tuple[list[int], float]:
    """Which source frames to take, and the rate at which they play.

    Raises:
        ClipError: not enough of them, or more than can be held.
    """
    times, end, first = _within(source, name, start, until)
    cut = len(times) < len(source.times)
    _check_count(source, name, frames, fps, end - start, size)
    span = times[-1] - times[first]
    left = len(times) - first
    native = (left - 1) / span if span > 0 else 1 / (end - times[first])
    if fps == "native":
        count = left if frames is None else frames
        if count > left:
            there = f"{left} are {'in the span' if cut else 'left'}"
            raise _too_short(name, f"{count} frames from {start:g} s", there, left, cut)
        # Their rate is that of all the rest: an end changes nothing of the frames before it.
        rest = source.times[first:]
        rate = (len(rest) - 1) / (rest[-1] - rest[0]) if rest[-1] > rest[0] else native
        indices = list(range(first, first + count))
    elif fps is not None:
        rate = float(fps)
        count = math.ceil((end - start) * rate - _MATCH) if frames is None else frames
        needed = start + (count - 1) / rate
        if needed > end - _MATCH:
            wanted = f"{count} frames at {rate:g} fps from {start:g} s, which needs {needed:.2f} s"
            most = (end - _MATCH - start) * rate + 1
            there = f"the clip is {end:.2f} s long"
            if cut:
                there = f"the span ends at {until:g} s: {int(most)} frames"
            raise _too_short(name, wanted, there, most, cut, "higher")
        indices = [_nearest(times, start + k / rate) for k in range(count)]
    elif frames is None:
        indices, rate = list(range(first, len(times))), native
    else:
        marks = np.linspace(times[first], times[-1], frames)
        indices = [_nearest(times, float(mark)) for mark in marks]
        rate = (frames - 1) / span if span > 0 else native
    came, least = len(set(indices)), max(2, min_frames)
    if came < least:
        wanted = f"at least {least} different frames"
        most = (frames or 0) * came / least
        rated = frames is not None and fps not in (None, "native")
        raise _too_short(name, wanted, f"{came} came", most, cut, "lower" if rated else "")
    return indices, rate


def _within(
    source: Source, name: str, start: float, until: float | None
) -> tuple[list[float], float, int]:
    """Times of frames up to `until`, the end of the clip then, and the first frame that is taken.

    Raises:
        ClipError: one picture, or a start past the end.
    """
    times, end = source.times, source.duration
    if len(times) == 1:
        raise ClipError(
            f"Expected a moving clip, but '{name}' holds one picture.",
            hint="Motion needs at least two frames: give a video, a GIF or a folder of images.",
        )
    if start >= end:
        raise ClipError(
            f"Expected a start within the clip, but '{name}' ends at {end:.2f} s and the start is"
            f" {start:g} s.",
            hint=f"Choose a start below {end:.2f} s.",
        )
    first = min(bisect_left(times, start - _MATCH), len(times) - 1)
    return *_until(times, end, first, until), first


def _until(
    times: list[float], end: float, first: int, until: float | None
) -> tuple[list[float], float]:
    """Times of frames up to a moment, that of `first` among them, and the end of the clip then."""
    if until is None or until >= times[-1]:
        return times, end
    kept = times[: max(first + 1, bisect_left(times, until + _MATCH))]
    return kept, max(until, kept[-1]) + 2 * _MATCH


def _too_short(
    name: str, wanted: str, came: str, most: float, cut: bool, rate: str = ""
) -> ClipError:
    """`most`: frames that could be had. Only 8k + 1 of them are named: any backbone makes those.
    `cut`: an end was asked for, before that of the clip. `rate`: which one would do, `higher` or
    `lower`; at a lower one the clip is long enough.
    """
    fewer = int(most) - (int(most) - 1) % 8
    ways = ["a later end" if cut else "a longer clip", "an earlier start"]
    ways = ([] if rate == "lower" else ways) + ([f"a {rate} {option('fps')}"] if rate else [])
    if fewer > 8 and rate != "lower":  # fewer would be as near to each other
        ways.append(f"{option('frames')} {fewer}")
    *others, last = ways
    comma = "," if len(others) > 1 else ""
    return ClipError(
        f"'{name}' is too short: expected {wanted}, but {came}.",
        f"Use {', '.join(others)}{comma}{' or ' if others else ''}{last}.",
    )


def _nearest(times: Sequence[float], mark: float) -> int:
    """Index of the time nearest to `mark`; the earlier one of two equally near."""
    after = min(bisect_left(times, mark), len(times) - 1)
    before = max(after - 1, 0)
    return before if mark - times[before] <= times[after] - mark + 1e-9 else after


def _check_count(
    source: Source,
    name: str,
    frames: int | None,
    fps: float | str | None,
    seconds: float,
    size: tuple[int, int] | None,
) -> None:
    """Refuse more frames than fit, before a list of them is made."""
    rated = 0.0 if fps is None or isinstance(fps, str) else seconds * fps
    count = rated if frames is None else frames
    if count <= _FEW:
        return
    if size is None:
        _, first = next(iter(source.pictures([0])))
        size = (first.shape[1], first.shape[0])
    check_memory(name, count, *size)


def check_memory(name: str, count: float, width: int, height: int) -> None:
    """Refuse a clip that is too large to hold.

    Raises:
        ClipError: more than `MAX_BYTES`.
    """
    count = min(count, 1e300)  # what a float holds
    total = count * width * height * 3
    if total > MAX_BYTES:
        gib = f"{total / 2**30:.1f}" if total < 2**50 else f"{total / 2**30:.1e}"
        raise ClipError(
            f"Expected a clip of at most {MAX_BYTES / 2**30:g} GiB, but {count:.10g} frames of"
            f" {width}x{height} from '{name}' are {gib} GiB.",
            hint="Ask for fewer frames or a smaller size.",
        )
