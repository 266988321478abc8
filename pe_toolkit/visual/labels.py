"""Text on pictures, with the font that Pillow brings along."""

from __future__ import annotations

import unicodedata

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Picture = NDArray[np.uint8]

BACKGROUND = (24, 24, 27)
FOREGROUND = (235, 235, 235)
_DOTS = "..."
_LEFT_OUT = ("Mn", "Me", "So", "Sk", "Cf")
"""Categories: accents, frames, pictures, modifiers of pictures, what joins them."""
_PLAIN = str.maketrans(
    {"ß": "ss", "æ": "ae", "Æ": "AE", "ø": "o", "Ø": "O", "œ": "oe", "Œ": "OE", "ł": "l", "Ł": "L",
     "đ": "d", "\u0131": "i", "\u2013": "-", "\u2014": "-", "\u2019": "'", "\u2018": "'",
     "\u201c": '"', "\u201d": '"', "\u201e": '"', "\u00d7": "x", "°": " degrees"}
)  # fmt: skip


def font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    """Pillow's own font at `size` pixels. It has the letters of ASCII: see `readable`."""
    return ImageFont.load_default(size)


def readable(text: str) -> str:
    """`text` in the letters that the font has: without accents, and others by their numbers, such
    as `\\u5149`, so that two texts stay two. Pictures (emoji) are left out.
    """
    plain = unicodedata.normalize("NFKD", text.translate(_PLAIN))
    kept = "".join(c for c in plain if c.isascii() or unicodedata.category(c) not in _LEFT_OUT)
    return kept.encode("ascii", "backslashreplace").decode("ascii")


def shorten(text: str, width: int, size: int) -> str:
    """`text` on one line, cut at the end so that it is at most `width` pixels wide."""
    text = " ".join(readable(text).split())
    face = font(size)
    if face.getlength(text) <= width:
        return text
    while text and face.getlength(text + _DOTS) > width:
        text = text[:-1]
    return text.rstrip() + _DOTS if text else ""


def wrapped(text: str, width: int, size: int) -> list[str]:
    """`text` on as many lines of at most `width` pixels as it needs; a longer word is cut."""
    face, lines = font(size), [""]
    for word in readable(text).split():
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
