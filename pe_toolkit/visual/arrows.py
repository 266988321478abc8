"""The Attention Motion Flow of a clip, drawn on it."""

from __future__ import annotations

import colorsys
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pe_toolkit.errors import UsageError
from pe_toolkit.visual.labels import Picture

_OVERSAMPLING = 4  # Pillow draws without antialiasing: draw large, then shrink
_DARK = (0, 0, 0)


def flow_arrows(frames: Picture, flow: NDArray[np.int8], mask: NDArray[np.bool_]) -> Picture:
    """Arrows from each latent frame to the next one, on the picture that it stands for.

    Each patch that the mask keeps gets an arrow from its centre to where it goes, coloured by
    direction; a kept patch that stays gets a dot. The last picture has no next and stays plain.

    Args:
        frames: `(F', H, W, 3)` uint8 RGB; latent frame `i` of `F` is drawn on the evenly spaced
            picture `i * (F' - 1) / (F - 1)`.
        flow: `(F, F, gh, gw, 2)` displacement `(dx, dy)` in patches from latent frame `i` (first
            axis) to `j` (second axis).
        mask: `(F, F, gh, gw)`; non-zero where the displacement is kept.

    Returns:
        `(F, H, W, 3)` uint8 RGB.

    Raises:
        UsageError: shapes that do not fit together.
    """
    latent = len(flow)
    if (
        flow.ndim != 5
        or flow.shape[1] != latent
        or flow.shape[-1] != 2
        or mask.shape != flow.shape[:-1]
        or frames.ndim != 4
        or min(latent, len(frames)) < 1
    ):
        raise UsageError(
            "Expected frames (F', H, W, 3), flow (F, F, gh, gw, 2) and mask (F, F, gh, gw), got"
            f" {frames.shape}, {flow.shape} and {mask.shape}."
        )
    places = np.linspace(0, len(frames) - 1, latent).round().astype(int)
    drawn: Picture = frames[places].copy()
    for i in range(latent - 1):
        drawn[i] = _draw(drawn[i], flow[i, i + 1], mask[i, i + 1] != 0)
    return drawn


def _draw(picture: Picture, flow: NDArray[np.int8], kept: NDArray[np.bool_]) -> Picture:
    height, width = picture.shape[:2]
    patch = np.array([width / kept.shape[1], height / kept.shape[0]]) * _OVERSAMPLING
    large = Image.fromarray(picture).resize(
        (width * _OVERSAMPLING, height * _OVERSAMPLING), Image.Resampling.NEAREST
    )
    pen = ImageDraw.Draw(large)
    thick = max(_OVERSAMPLING, round(float(patch.min()) / 10))
    for y, x in np.argwhere(kept):
        start = (np.array([x, y]) + 0.5) * patch
        step = flow[y, x].astype(float) * patch
        arrow(pen, start, step, thick)
    return np.asarray(large.resize((width, height), Image.Resampling.BOX))


def arrow(
    pen: ImageDraw.ImageDraw,
    start: NDArray[np.float64],
    step: NDArray[np.float64],
    thick: int,
    colour: tuple[int, int, int] | None = None,
) -> None:
    """An arrow with a dark rim from `start` by `step`, in pixels; a dot where `step` is 0. Coloured
    by direction, unless in `colour`.
    """
    length = float(np.hypot(*step))
    if length == 0:
        _dot(pen, start, thick * 1.2, _DARK)
        _dot(pen, start, thick * 0.7, colour or (255, 255, 255))
        return
    direction = step / length
    side = np.array([-direction[1], direction[0]])
    head = min(length * 0.6, thick * 4.0)
    tip, neck = start + step, start + step - direction * head
    for fill, grow in (
        (_DARK, thick * 0.5),
        (colour or colour_of(step), 0.0),
    ):  # a dark rim, then the arrow
        pen.line([*start, *neck], fill=fill, width=round(thick + 2 * grow))
        wide = side * (head * 0.5 + grow)
        point, back = tip + direction * grow, neck - direction * grow
        pen.polygon([*point, *(back + wide), *(back - wide)], fill=fill)
        _dot(pen, start, thick * 0.7 + grow, fill)


def _dot(
    pen: ImageDraw.ImageDraw,
    centre: NDArray[np.float64],
    radius: float,
    colour: tuple[int, int, int],
) -> None:
    pen.ellipse([*(centre - radius), *(centre + radius)], fill=colour)


def colour_of(step: NDArray[np.float64]) -> tuple[int, int, int]:
    """Hue by direction: red to the right, then clockwise through yellow, green and blue."""
    hue = (math.atan2(step[1], step[0]) / (2 * math.pi)) % 1.0
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.75, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)
