"""A training loss curve as a small picture."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from pe_toolkit.errors import UsageError
from pe_toolkit.visual.labels import BACKGROUND, FOREGROUND, Picture, font

_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 12, 12, 28  # pixels around the plot
_LINE = (96, 165, 250)
_GRID = (63, 63, 70)


def loss_curve(
    losses: Sequence[float],
    size: tuple[int, int] = (480, 240),
    ends: tuple[str, str] | None = None,
) -> Picture:
    """Loss over optimisation steps, linear axes, values that are not finite left as gaps.

    Args:
        losses: one value per step.
        size: (width, height) in pixels, at least 160x100.
        ends: words below the first and the last value; None: the numbers of their steps.

    Returns:
        `(height, width, 3)` uint8 RGB.

    Raises:
        UsageError: no finite value, or a size too small for the axes.
    """
    losses = [float(v) for v in losses]
    finite = [v for v in losses if math.isfinite(v)]
    if not finite:
        raise UsageError(f"Expected at least one finite loss, got {len(losses)} values.")
    width, height = size
    if width < 160 or height < 100:
        raise UsageError(f"Expected a plot of at least 160x100 pixels, got {width}x{height}.")
    image = Image.new("RGB", size, BACKGROUND)
    pen, face = ImageDraw.Draw(image), font(12)
    low, high = min(finite), max(finite)
    part = 0.5 if math.isinf(high - low) else 1.0  # of values whose difference is no float
    right, bottom = width - _RIGHT, height - _BOTTOM

    def place(step: int, value: float) -> tuple[float, float]:
        across = step / max(1, len(losses) - 1)
        up = (value * part - low * part) / (high * part - low * part) if high > low else 0.5
        return _LEFT + across * (right - _LEFT), bottom - up * (bottom - _TOP)

    for value in (low, high) if high > low else (low,):
        y = place(0, value)[1]
        pen.line([_LEFT, y, right, y], fill=_GRID)
        pen.text((_LEFT - 6, y), f"{value:.3g}", fill=FOREGROUND, font=face, anchor="rm")
    first, last = ends or ("1", f"step {len(losses)}")
    pen.text((_LEFT, bottom + 6), first, fill=FOREGROUND, font=face)
    pen.text((right, bottom + 6), last, fill=FOREGROUND, font=face, anchor="ra")
    run: list[tuple[float, float]] = []
    for step, value in enumerate([*losses, math.nan]):  # the last one closes the last run
        if math.isfinite(value):
            run.append(place(step, value))
            continue
        if len(run) > 1:
            pen.line(run, fill=_LINE, width=2, joint="curve")
        elif run:
            x, y = run[0]
            pen.ellipse([x - 2, y - 2, x + 2, y + 2], fill=_LINE)
        run = []
    return np.asarray(image)
