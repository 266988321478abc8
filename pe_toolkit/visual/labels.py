"""Text on pictures, with the font that Pillow brings along."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Picture = NDArray[np.uint8]

BACKGROUND = (24, 24, 27)
FOREGROUND = (235, 235, 235)
_DOTS = "..."


def font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    """Pillow's own font at `size` pixels (Latin letters; others are drawn as boxes)."""
    return ImageFont.load_default(size)


def shorten(text: str, width: int, size: int) -> str:
    """`text` on one line, cut at the end so that it is at most `width` pixels wide."""
    text = " ".join(text.split())
    face = font(size)
    if face.getlength(text) <= width:
        return text
    while text and face.getlength(text + _DOTS) > width:
        text = text[:-1]
    return text.rstrip() + _DOTS if text else ""


def wrapped(text: str, width: int, size: int) -> list[str]:
    """`text` on as many lines of at most `width` pixels as it needs; a longer word is cut."""
    face, lines = font(size), [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".lstrip()
        if face.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return [shorten(line, width, size) for line in lines]


def label(text: str, width: int, size: int = 14) -> Picture:
    """A dark strip `(size + 8, width, 3)` uint8 with one line of text, cut to fit."""
    strip = Image.new("RGB", (width, size + 8), BACKGROUND)
    line = shorten(text, width - 8, size)
    ImageDraw.Draw(strip).text((4, 3), line, fill=FOREGROUND, font=font(size))
    return np.asarray(strip)
