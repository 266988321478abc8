"""The motion that was read of a clip, drawn on it, with a legend: see it before training."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pe_toolkit.errors import UsageError
from pe_toolkit.grid import frames_per_latent
from pe_toolkit.visual.arrows import arrow, colour_of
from pe_toolkit.visual.labels import BACKGROUND, FOREGROUND, Picture, font, wrapped

MARKS = (
    ("arrow", "moves and is followed, coloured by direction"),
    ("dot", "found again, but still or not kept"),
    ("hatch", "not found again"),
    ("line", "the one path that explains the most"),
)
Mark = Callable[[ImageDraw.ImageDraw, float, float], None]
LEAST_SIDE = 384
"""Pictures of fewer pixels are enlarged: an arrow needs room."""
OVER = 2
"""Pillow draws without antialiasing: draw large, then shrink."""
LINE = 22
_PATH = (255, 255, 255)
_SHADE, _HATCH = (0, 0, 0, 110), (150, 150, 150, 130)
_STILL = (255, 255, 255, 150)


def flow_frames(
    frames: Picture,
    flow: NDArray[np.int8],
    kept: NDArray[np.bool_],
    matched: NDArray[np.bool_],
    *,
    path: NDArray[np.floating] | None = None,
    words: Sequence[str] = (),
    legend: bool = True,
) -> Picture:
    """Every frame of a clip with the motion from its latent frame to the next one.

    A patch that the mask keeps has an arrow, coloured by direction; one that is matched but not
    kept a light dot; one that could not be found again in the next latent frame is hatched. The
    path that explains the most is a white line, with a dot where the clip is. Below: what these
    mean, and `words`.

    Args:
        frames: `(F', H, W, 3)` uint8 RGB.
        flow: `(F, F, gh, gw, 2)` displacement (dx, dy) in patches from latent frame i to j.
        kept, matched: `(F, F, gh, gw)`.
        path: `(F, 2)` (dx, dy) in patches, drawn around the middle of the picture, or None.
        words: lines of text below.
        legend: say below what the marks mean.

    Returns:
        `(F', H', W', 3)` uint8 RGB, both sides even.

    Raises:
        UsageError: shapes that do not fit together.
    """
    latent = len(flow)
    shapes_fit = kept.shape == matched.shape == flow.shape[:-1] and flow.shape[1] == latent
    if not (flow.ndim == 5 and flow.shape[-1] == 2 and shapes_fit and frames.ndim == 4 and latent):
        raise UsageError(
            "Expected frames (F', H, W, 3), flow (F, F, gh, gw, 2) and two masks (F, F, gh, gw), "
            f"got {frames.shape}, {flow.shape}, {kept.shape} and {matched.shape}."
        )
    if path is not None and path.shape != (latent, 2):
        raise UsageError(f"Expected a path ({latent}, 2) as the flow has frames, got {path.shape}.")
    grow = enlargement(frames)
    below = flow_legend(frames.shape[2] * grow, words, marks=legend, path=path is not None)
    drawn = []
    for index, frame in enumerate(frames):
        i = latent_of(index, len(frames), latent)
        j = min(i + 1, latent - 1)
        picture = _draw(frame, grow, flow[i, j], kept[i, j] & (i != j), matched[i, j] | (i == j))
        if path is not None and np.ptp(path, axis=0).max() > 0.5:
            picture = _trail(picture, path, kept.shape[2:], index / max(len(frames) - 1, 1))
        drawn.append(np.concatenate([picture, below]))
    return even(np.stack(drawn))


def even(frames: Picture) -> Picture:
    """`(F, H, W, 3)` with both sides even, as videos want them."""
    odd = ((0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0))
    return np.pad(frames, odd, mode="edge")


def enlargement(frames: Picture) -> int:
    """How many times as large frames are drawn."""
    return max(1, -(-LEAST_SIDE // int(min(frames.shape[1:3]))))


def latent_of(index: int, frames: int, latent: int) -> int:
    """The latent frame that is shown at a frame (`grid.frames_per_latent`)."""
    first, per = frames_per_latent(frames, latent)
    later = math.floor((index - first) / per) + 1 if index >= first else 0
    return min(later, latent - 1)


def _draw(
    frame: Picture,
    grow: int,
    flow: NDArray[np.int8],
    kept: NDArray[np.bool_],
    matched: NDArray[np.bool_],
) -> Picture:
    height, width = (side * grow for side in frame.shape[:2])
    size = (width * OVER, height * OVER)
    base = Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC).convert("RGBA")
    shade = Image.new("RGBA", size, (0, 0, 0, 0))
    pen = ImageDraw.Draw(shade)
    rows, columns = kept.shape
    patch = np.array([size[0] / columns, size[1] / rows])
    for y, x in np.argwhere(~matched):
        left, top = np.array([x, y]) * patch
        _hatch(pen, (left, top, left + patch[0] - 1, top + patch[1] - 1))
    radius = float(patch.min()) / 16
    for y, x in np.argwhere(matched & ~kept):
        centre = (np.array([x, y]) + 0.5) * patch
        pen.ellipse([*(centre - radius), *(centre + radius)], fill=_STILL)
    large = Image.alpha_composite(base, shade).convert("RGB")
    pen = ImageDraw.Draw(large)
    thick = max(OVER, round(float(patch.min()) / 12))
    for y, x in np.argwhere(kept):
        start = (np.array([x, y]) + 0.5) * patch
        arrow(pen, start, flow[y, x].astype(float) * patch, thick)
    return np.asarray(large.resize((width, height), Image.Resampling.BOX))


def _hatch(pen: ImageDraw.ImageDraw, box: tuple[float, float, float, float], gap: int = 12) -> None:
    """A shaded box with diagonal lines: seen on black and on white."""
    left, top, right, bottom = box
    pen.rectangle(box, fill=_SHADE)
    for shift in np.arange(gap, right - left + bottom - top, gap):
        start = (min(left + shift, right), top + max(0.0, left + shift - right))
        end = (left + max(0.0, shift - (bottom - top)), min(top + shift, bottom))
        pen.line([*start, *end], fill=_HATCH, width=1)


def _trail(
    picture: Picture, path: NDArray[np.floating], grid: tuple[int, ...], done: float
) -> Picture:
    """The path around the middle of the picture, and where on it the clip is."""
    height, width = picture.shape[:2]
    patch = np.array([width / grid[1], height / grid[0]])
    middle = np.array([width, height]) / 2
    image = Image.fromarray(picture)
    points = middle + (path - (path.max(0) + path.min(0)) / 2) * patch
    trail(ImageDraw.Draw(image), points, done, _PATH)
    return np.asarray(image)


def trail(
    pen: ImageDraw.ImageDraw,
    points: NDArray[np.floating],
    done: float,
    colour: tuple[int, int, int],
    scale: int = 1,
) -> None:
    """A line through `(F, 2)` pixels, and a dot where on it the clip is, of which the share `done`
    has been shown.
    """
    line = [tuple(map(float, point)) for point in points]
    pen.line(line, fill=(0, 0, 0), width=5 * scale, joint="curve")
    pen.line(line, fill=colour, width=2 * scale, joint="curve")
    at = done * (len(points) - 1)
    low = max(0, min(int(at), len(points) - 2))
    here = points[low] + (points[min(low + 1, len(points) - 1)] - points[low]) * (at - low)
    far = 6 * scale
    pen.ellipse([*(here - far), *(here + far)], fill=colour, outline=(0, 0, 0), width=2 * scale)


def flow_legend(
    width: int, words: Sequence[str] = (), *, marks: bool = True, path: bool = True
) -> Picture:
    """What the marks of `flow_frames` mean, with the wheel of colours, and words below.

    Args:
        width: in pixels; what is longer goes on in the next line.
        words: lines of text.
        marks: without, only the words.
        path: with the line that stands for it.

    Returns:
        `(H, width, 3)` uint8 RGB; of no height if there is nothing to say.
    """
    shown = [mark for mark in MARKS if marks and (path or mark[0] != "line")]
    return legend(width, [*shown, *(("", text) for text in words)])


def legend(width: int, lines: Sequence[tuple[str | Mark, str]]) -> Picture:
    """Lines of text `(H, width, 3)`, each with its mark: a name out of `MARKS`, "" for none, or
    what draws one around a place (x, y).
    """
    if not lines:
        return np.zeros((0, width, 3), np.uint8)
    placed: list[tuple[str | Mark, int, str]] = []
    for mark, text in lines:
        left = 38 if mark else 10
        first, *more = wrapped(text, width - left - 8, 14)
        placed += [(mark, left, first), *(("", left, line) for line in more)]
    image = Image.new("RGB", (width, LINE * len(placed) + 8), BACKGROUND)
    pen, face = ImageDraw.Draw(image), font(14)
    for row, (mark, left, text) in enumerate(placed):
        y = 4 + row * LINE + LINE / 2
        if callable(mark):
            mark(pen, 17, y)
        else:
            _mark(pen, mark, y)
        pen.text((left, y), text, FOREGROUND, face, anchor="lm")
    return np.asarray(image)


def _mark(pen: ImageDraw.ImageDraw, mark: str, y: float) -> None:
    box = [10, y - 7, 24, y + 7]
    if mark == "arrow":
        for turn in range(0, 360, 6):
            angle = np.deg2rad(turn)
            pen.pieslice(
                box, turn - 3, turn + 4, colour_of(np.array([np.cos(angle), np.sin(angle)]))
            )
    elif mark == "dot":
        pen.ellipse([14, y - 3, 20, y + 3], fill=(200, 200, 200))
    elif mark == "hatch":
        _hatch(pen, (10, y - 7, 24, y + 7), gap=5)
    elif mark == "line":
        pen.line([10, y + 4, 24, y - 4], fill=_PATH, width=2)
        pen.ellipse([14, y - 3, 20, y + 3], fill=_PATH)
