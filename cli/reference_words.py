"""How a reference becomes the frames of a generation, in words: what is cut off, and how fast it
plays. For `pe train` and `pe show`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pe_toolkit.cli.output import Output

if TYPE_CHECKING:
    from pe_toolkit.card import CardSpec
    from pe_toolkit.training.request import TrainRequest
    from pe_toolkit.video import Clip

Size = tuple[int, int]

SAME = 0.02
"""Aspects and speeds that differ by less are equal to the eye."""
LOSSY = 0.2
"""From this share of the picture on, what is cut off may be what moves."""
FAST = 1.25
"""From this factor on a person sees that it is faster."""
MOST_CUTS = 2
"""That are named."""


def framing(source: Size, size: Size, fit: str) -> str:
    """How pictures of `source` (width, height) were brought to `size`."""
    (width, height), (w, h) = source, size
    if source == size:
        return f"{w}x{h} as they are"
    if abs(width * h / (height * w) - 1) < SAME:
        return f"{width}x{height} scaled to {w}x{h}"
    if fit == "crop":
        inner, lost = kept(source, size), cut_off(source, size)
        return (
            f"the middle {inner[0]}x{inner[1]} of {width}x{height} "
            f"({lost:.0%} of the picture cut off), scaled to {w}x{h}"
        )
    if fit == "pad":
        where = "above and below" if width * h > height * w else "left and right"
        return f"{width}x{height} scaled into {w}x{h}, black {where}"
    wider = w * height / (h * width)
    how = f"{wider:.2f} times as wide" if wider > 1 else f"{1 / wider:.2f} times as high"
    return f"{width}x{height} stretched to {w}x{h}: {how} as it was"


def kept(source: Size, size: Size) -> Size:
    """Width and height of the middle that a crop keeps, in pixels of the source."""
    scale = max(size[0] / source[0], size[1] / source[1])
    return round(size[0] / scale), round(size[1] / scale)


def cut_off(source: Size, size: Size) -> float:
    """Share of the picture in [0, 1] that a crop loses."""
    inner = kept(source, size)
    return 1 - inner[0] * inner[1] / (source[0] * source[1])


def pace(used: float, frames: int, fps: float) -> tuple[str, float]:
    """What happens to `used` seconds that play as `frames` frames at `fps`: in words, and how many
    times faster than they were (below 1: slower). 1.0 where that means nothing, as of one frame.
    """
    played = (frames - 1) / fps
    factor = used / played if played > 0 else 0.0
    if not factor > 0:
        return f"{used:.2f} s", 1.0
    if abs(factor - 1) < SAME:
        return f"{used:.2f} s at their own speed", 1.0
    speed = f"{factor:.2f} times faster" if factor > 1 else f"{1 / factor:.2f} times slower"
    return f"{used:.2f} s play in {played:.2f} s, {speed}", factor


def used_words(spec: CardSpec) -> str:
    """What of its reference became the frames of a card's generations; cards know it since 1.2, ""
    before.
    """
    ref, clip, parts = spec.reference, spec.clip, []
    done = {edit.what for edit in spec.edits or ()}
    if ref.used is not None and not done & {"speed", "frames", "then"}:
        parts.append(pace(ref.used, clip.frames, clip.fps)[0])
    if ref.start:
        parts.append(f"from {ref.start:g} s")
    if ref.fit is not None and "size" not in done:
        size = (clip.width, clip.height)
        parts.append(framing((ref.width, ref.height), size, ref.fit))
    if ref.encoded is not None:
        parts.append(f"encoded {'whole' if ref.encoded == 'whole' else 'in ' + ref.encoded}")
    return ", ".join(parts)


def advice(source: Size, size: Size, fit: str, factor: float, frames: int, fps: float) -> str:
    """What to do about a reference that lost much of its picture or of its time, or ""."""
    parts = []
    if fit == "crop" and cut_off(source, size) >= LOSSY:
        parts.append("--fit pad keeps the whole picture")
    if factor >= FAST:
        parts.append(
            f"--fps {fps:g} keeps the speed and takes {(frames - 1) / fps:.2f} s, "
            "from --start SECONDS"
        )
    return "; ".join(parts)


def rate(request: TrainRequest) -> str:
    """In words, which frames of the reference are taken."""
    if request.fps is not None:
        return f"at {request.fps:g} frames per second"
    if request.recipe == "paper":
        return "the first frames at the clip's own rate"
    if request.end is not None:
        return f"from {request.start:g} s to {request.end:g} s, evenly"
    return "the whole span, evenly"


def tell(clip: Clip, request: TrainRequest, fps: float, out: Output) -> None:
    """Say what of the reference is used: nobody should find out from the result that the picture
    was cropped or that it plays faster.
    """
    source, frames = clip.source_size or clip.size, len(clip.frames)
    speed, _ = pace(clip.used, frames, fps)
    out.talk(
        f"Reference: {clip.source}, {clip.duration:.2f} s, {clip.total_frames} frames of "
        f"{source[0]}x{source[1]}\n"
        f"  used: {frames} frames ({rate(request)}); {speed}\n"
        f"  picture: {framing(source, clip.size, clip.fit)}"
    )


def tell_image(image: Any, size: Size, fit: str, out: Output) -> None:
    """Say what of a picture to begin with is used, unless it is all of it."""
    source = (image.shape[1], image.shape[0])
    if source != size:
        out.talk(f"Image: {framing(source, size, fit)}")


def suggest(clip: Clip, fps: float, out: Output) -> None:
    """Say how to keep what is lost, where much is lost."""
    source, frames = clip.source_size or clip.size, len(clip.frames)
    _, factor = pace(clip.used, frames, fps)
    if text := advice(source, clip.size, clip.fit, factor, frames, fps):
        out.talk(f"  {text}")


def warn_cuts(clip: Clip, out: Output) -> None:
    """Say where the part that is used goes from one shot to another: it is read as one motion."""
    from pe_toolkit.video.cuts import cuts

    found = cuts(clip.frames)
    if not found:
        return
    times = [clip.start + (i - 0.5) / clip.fps for i in found]
    said = " and ".join(f"{time:.1f} s" for time in times[:MOST_CUTS])
    more = f" and {len(times) - MOST_CUTS} more" if len(times) > MOST_CUTS else ""
    out.warn(
        f"the clip is cut at {said}{more}, and is read as if it were not. A card is of one shot: "
        f"end before the cut (--end {max(0.1, times[0] - 0.1):.1f}), or begin after it "
        f"(--start {times[-1] + 0.1:.1f})."
    )
