"""Text of strangers, made safe to be shown: in a message, on a terminal, on a page."""

from __future__ import annotations

import re

_BLANK = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0d\uffa0"
    "\U00016fe4\U0001d159\U000e0100-\U000e01ef]"
    "|(?<![^\\x00-\\x7f])[\ufe0e\ufe0f]"  # after a symbol they choose how it is drawn, as in emoji
)
"""What `str.isprintable` lets pass although nothing is to be seen: fillers, blanks, and selectors
of variants (Unicode's Default_Ignorable_Code_Point, and blank patterns)."""

_SHOWN = 80
"""How many characters of a value a message repeats."""


def printable(text: str) -> str:
    """`text` with everything that could steer a terminal written out as an escape.

    Control characters, escape sequences, line breaks, and invisible and direction-changing
    characters come out as `\\x1b`, `\\n`, `\\u202e` and so on, and so do letters that look like
    nothing (`\\u3164`): two names that differ must look different. Cards come from strangers: show
    no string of a card without this.
    """
    if text.isprintable() and (text.isascii() or _BLANK.search(text) is None):  # almost always
        return text
    return _BLANK.sub(
        lambda match: _escaped(match[0]),
        "".join(char if char.isprintable() else _escaped(char) for char in text),
    )


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def shown(value: object) -> str:
    """A short, safe rendering of any value for an error message."""
    try:
        text = printable(repr(value))
    except ValueError:  # an integer with more digits than Python is willing to write
        return f"a huge {type(value).__name__}"
    return short(text)


def short(text: str) -> str:
    """At most 80 characters of a text; `...` stands for the rest of a longer one."""
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
