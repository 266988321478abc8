"""The scores of videos with and without a card, metric by metric, as one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pe_toolkit.evaluation import metric
from pe_toolkit.visual.labels import BACKGROUND, FOREGROUND, font

WIDTH, ROW, TOP = 900, 46, 54
LEFT, RIGHT = 230, 640  # of the strips, in pixels
DOTS = {"card": (96, 165, 250), "plain": (251, 146, 60)}
WORDS = {"card": "with the card", "plain": "without"}
LINE = (63, 63, 70)
SCALE = 2  # Pillow draws without antialiasing: draw large, then shrink


def strips(rows: Sequence[Mapping[str, Any]], found: Mapping[str, Any]) -> NDArray[np.uint8]:
    """One strip per metric, worst to best from left to right: a dot for each video, those with the
    card above; at the right the area under the curve with its interval.

    Returns:
        `(H, 900, 3)` uint8 RGB.
    """
    height = TOP + ROW * len(found)
    image = Image.new("RGB", (WIDTH * SCALE, height * SCALE), BACKGROUND)
    pen = ImageDraw.Draw(image)

    def text(x: float, y: float, words: str, size: int = 14, fill: Any = FOREGROUND) -> None:
        pen.text((x * SCALE, y * SCALE), words, fill=fill, font=font(size * SCALE), anchor="lm")

    text(12, 18, "videos with and without a card, each against its reference")
    for x, kind in ((LEFT, "card"), (LEFT + 130, "plain")):
        dot(pen, x + 4, 40, DOTS[kind])
        text(x + 14, 40, WORDS[kind], 13)
    text(12, 40, "better to the right", 13)
    text(RIGHT + 20, 40, "AUC [95 %]", 13)
    for number, (name, row) in enumerate(found.items()):
        y = TOP + ROW * number + ROW // 2
        text(12, y, name)
        pen.line([LEFT * SCALE, y * SCALE, RIGHT * SCALE, y * SCALE], fill=LINE, width=SCALE)
        strip(pen, y, rows, name)
        middle, low, high = row["auc"]
        gaps = f", undefined {row['undefined']:.0%}" if row["undefined"] else ""
        text(RIGHT + 20, y, f"{middle:.2f} [{low:.2f}, {high:.2f}]{gaps}")
    small = image.resize((WIDTH, height), Image.Resampling.LANCZOS)
    return np.asarray(small.quantize(48).convert("RGB"))  # a third of the bytes


def strip(pen: ImageDraw.ImageDraw, y: int, rows: Sequence[Mapping[str, Any]], name: str) -> None:
    """The dots of one metric."""
    sign = -1 if metric(name.partition(",")[0]).better == "lower" else 1
    values = {
        kind: [
            sign * row["scores"][name]
            for row in rows
            if row["kind"] == kind and row["scores"][name] is not None
        ]
        for kind in DOTS
    }
    every = [value for kind in values.values() for value in kind]
    if not every:
        return
    low, high = min(every), max(every)
    span = (high - low) or 1.0
    for kind, off in (("card", -8), ("plain", 8)):
        for value in values[kind]:
            dot(pen, LEFT + (value - low) / span * (RIGHT - LEFT), y + off, DOTS[kind])


def dot(pen: ImageDraw.ImageDraw, x: float, y: float, colour: tuple[int, int, int]) -> None:
    """A disc of 3 pixels."""
    pen.ellipse(
        [(x - 3) * SCALE, (y - 3) * SCALE, (x + 3) * SCALE, (y + 3) * SCALE],
        fill=colour,
        outline=BACKGROUND,
    )
