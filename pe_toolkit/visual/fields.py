"""What a card holds, as pictures: fields of arrows, paths through the frames, a phase as layout."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pe_toolkit.errors import UsageError
from pe_toolkit.visual.arrows import arrow, colour_of
from pe_toolkit.visual.labels import BACKGROUND, FOREGROUND, Picture, font, shorten

_GROUND, _GRID = (40, 40, 44), (63, 63, 70)
_OVER = 3  # Pillow draws without antialiasing: draw large, then shrink


def field_picture(
    field: NDArray[np.floating] | NDArray[np.integer],
    kept: NDArray[np.bool_] | None = None,
    *,
    height: int = 120,
) -> Picture:
    """One field of displacements on a dark ground, an arrow for each token.

    Args:
        field: `(gh, gw, 2)` (dx, dy) in patches.
        kept: `(gh, gw)` where there is an arrow; None: everywhere.
        height: of the picture in pixels.

    Returns:
        `(height, W, 3)` uint8 RGB with the aspect of the grid.

    Raises:
        UsageError: shapes that do not fit together, no token, an arrow that is not finite, a
            height below 1.
    """
    if (
        field.ndim != 3
        or field.shape[2] != 2
        or not field.size
        or (kept is not None and kept.shape != field.shape[:2])
    ):
        raise UsageError(
            f"Expected a field (gh, gw, 2) of at least one token and its mask, got {field.shape}."
        )
    if not np.isfinite(field if kept is None else field[kept.astype(bool)]).all():
        raise UsageError("Expected finite displacements where arrows are, got NaN or infinity.")
    _check_side(height, "height")
    rows, columns = field.shape[:2]
    patch = height * _OVER / rows
    width = max(1, round(height * columns / rows))
    image = Image.new("RGB", (width * _OVER, height * _OVER), _GROUND)
    pen = ImageDraw.Draw(image)
    where = np.ones((rows, columns), bool) if kept is None else kept
    step = every(rows)
    for y, x in np.argwhere(where):
        if y % step or x % step:
            continue
        start = (np.array([x, y]) + 0.5) * patch
        arrow(pen, start, field[y, x].astype(float) * patch, max(_OVER, round(patch / 8)))
    return np.asarray(image.resize((width, height), Image.Resampling.BOX))


def every(rows: int) -> int:
    """Of so many rows of patches, every how manieth has arrows: more are a carpet."""
    return max(1, rows // 12)


def path_picture(
    paths: Sequence[tuple[str, NDArray[np.floating]]],
    grid: tuple[int, int],
    *,
    height: int = 240,
) -> Picture:
    """Paths through a picture of `grid` (gh, gw) patches, each from a ring (first frame) to a dot
    (last frame), with a mark for each frame.

    Args:
        paths: label and `(F, 2)` (x, y) in patches, in a picture whose middle is (0, 0).
        grid: rows and columns of patches.
        height: of the picture in pixels.

    Returns:
        `(height, W, 3)` uint8 RGB.

    Raises:
        UsageError: a path that is none, a grid of no patches, a height below 1.
    """
    rows, columns = grid
    if min(grid) < 1:
        raise UsageError(f"Expected a grid of at least 1x1 patches, got {columns}x{rows}.")
    _check_side(height, "height")
    for name, path in paths:
        if path.ndim != 2 or path.shape[1] != 2 or not len(path) or not np.isfinite(path).all():
            raise UsageError(
                f"Expected a path (frames, 2) of finite numbers as {name!r}, got {path.shape}."
            )
    patch = height * _OVER / rows
    width = max(1, round(height * columns / rows))
    image = Image.new("RGB", (width * _OVER, height * _OVER), _GROUND)
    pen = ImageDraw.Draw(image)
    for column in range(1, columns):
        pen.line([column * patch, 0, column * patch, height * _OVER], fill=_GRID)
    for line in range(1, rows):
        pen.line([0, line * patch, width * _OVER, line * patch], fill=_GRID)
    for index, (_, path) in enumerate(paths):
        colour = path_colour(index)
        points = (path + np.array([columns, rows]) / 2) * patch
        marks = [(float(x), float(y)) for x, y in points]
        pen.line(marks, fill=colour, width=2 * _OVER, joint="curve")
        for x, y in marks[1:-1]:
            pen.ellipse([x - 6, y - 6, x + 6, y + 6], fill=colour)
        (x, y), (u, v) = marks[0], marks[-1]
        pen.ellipse([u - 14, v - 14, u + 14, v + 14], fill=colour, outline=(255, 255, 255), width=3)
        pen.ellipse([x - 14, y - 14, x + 14, y + 14], fill=BACKGROUND, outline=colour, width=5)
    return np.asarray(image.resize((width, height), Image.Resampling.BOX))


def _check_side(pixels: int, name: str) -> None:
    if pixels < 1:
        raise UsageError(f"Expected a {name} of at least 1 pixel, got {pixels}.")


def fitting(
    paths: Sequence[tuple[str, NDArray[np.floating]]], grid: tuple[int, int]
) -> tuple[list[tuple[str, NDArray[np.floating]]], float]:
    """Paths for `path_picture`, all as many times as long as fits into it, and how many times that
    is, 1 at most.
    """
    rows, columns = grid
    half = np.array([columns, rows]) / 2 * 0.92  # rings and dots have a size
    most = max((float((np.abs(path) / half).max()) for _, path in paths if len(path)), default=0.0)
    times = 1 / max(most, 1.0)
    return [(name, path * times) for name, path in paths], times


def path_colour(index: int) -> tuple[int, int, int]:
    """Of the path with that number."""
    turn = 0.6 + 2.4 * index
    return colour_of(np.array([np.cos(turn), np.sin(turn)]))


def phase_pictures(
    turns: NDArray[np.floating], frequencies: Sequence[tuple[int, int]], *, side: int = 48
) -> Picture:
    """What a phase alone says of the layout of each frame: waves of its frequencies added up, all
    with magnitudes that fall as 1 / |f|, and the three directions in which the channels differ most
    as red, green and blue. Colours mean nothing by themselves: things that keep theirs, move.

    Args:
        turns: `(F, C, n)` radians.
        frequencies: `n` of (ky, kx) in cycles per picture.
        side: of the square pictures in pixels.

    Returns:
        `(F, side, side, 3)` uint8 RGB.

    Raises:
        UsageError: shapes that do not fit together, nothing in them, numbers that are not finite,
            a side below 1.
    """
    if turns.ndim != 3 or turns.shape[2] != len(frequencies) or not turns.size:
        raise UsageError(
            f"Expected phases (F, C, {len(frequencies)}), at least one, got {turns.shape}."
        )
    if not np.isfinite(turns).all():
        raise UsageError("Expected finite phases, got NaN or infinity.")
    _check_side(side, "side")
    ky, kx = np.array(frequencies, float).T
    at = (np.arange(side) + 0.5) / side
    y, x = np.meshgrid(at, at, indexing="ij")
    waves = 2 * np.pi * (ky[:, None, None] * y + kx[:, None, None] * x)  # (n, side, side)
    weight = np.where(np.hypot(ky, kx) > 0, 1 / np.maximum(np.hypot(ky, kx), 1), 0)
    real, imaginary = np.cos(turns) * weight, np.sin(turns) * weight
    planes = np.einsum("fcn,nyx->fcyx", real, np.cos(waves))
    planes -= np.einsum("fcn,nyx->fcyx", imaginary, np.sin(waves))
    frames, channels = planes.shape[:2]
    flat = np.moveaxis(planes, 1, -1).reshape(-1, channels)
    flat = flat - flat.mean(0)
    _, axes = np.linalg.eigh(flat.T @ flat)
    shown = flat @ axes[:, ::-1][:, :3]
    shown = np.pad(shown, ((0, 0), (0, 3 - shown.shape[1])))
    low, high = np.percentile(shown, [1, 99], axis=0)
    scaled = np.clip((shown - low) / np.maximum(high - low, 1e-9), 0, 1)
    shades: Picture = (scaled * 255).round().astype(np.uint8)
    return shades.reshape(frames, side, side, 3)


def stacked(parts: Sequence[Picture], width: int) -> Picture:
    """Pictures below each other, each at the left of a dark sheet."""
    sheet = np.full((sum(len(part) for part in parts), width, 3), BACKGROUND, np.uint8)
    top = 0
    for part in parts:
        sheet[top : top + len(part), : part.shape[1]] = part[:, :width]
        top += len(part)
    return sheet


def row(pictures: Sequence[Picture], labels: Sequence[str], width: int, gap: int = 6) -> Picture:
    """Pictures beside each other with a label below each, on as many lines as they need."""
    lines: list[Picture] = []
    tall, text = max(len(p) for p in pictures), 18
    canvas = left = None
    for picture, label in zip(pictures, labels, strict=True):
        if canvas is None or left is None or left + picture.shape[1] > width:
            canvas = np.full((tall + text + gap, width, 3), BACKGROUND, np.uint8)
            lines.append(canvas)
            left = gap
        canvas[: len(picture), left : left + picture.shape[1]] = picture[:, : width - left]
        image = Image.fromarray(canvas[tall : tall + text])
        ImageDraw.Draw(image).text((left, 2), label, fill=FOREGROUND, font=font(12))
        canvas[tall : tall + text] = np.asarray(image)
        left += picture.shape[1] + gap
    return np.concatenate(lines)


def heading(text: str, about: str, width: int) -> Picture:
    """A heading and a line of what is to be seen below it."""
    image = Image.new("RGB", (width, 58 if about else 38), BACKGROUND)
    pen = ImageDraw.Draw(image)
    pen.text((6, 12), shorten(text, width - 12, 18), fill=FOREGROUND, font=font(18))
    pen.text((6, 36), shorten(about, width - 12, 13), fill=(160, 160, 168), font=font(13))
    return np.asarray(image)
