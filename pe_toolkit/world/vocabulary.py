"""The small world that the bundled backbone knows: colours, shapes, backgrounds and the words for
them.

Captions read `a {colour} {shape} on a {background} background`, with `and a {colour} {shape}` after
the first shape for two objects, and `a textured {background} background` where it shows a pattern.
Motion is never in the caption: that is what cards are for.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

# RGB, 0..255. Every object colour is at least 110 units away from every background.
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (225, 35, 35),
    "green": (60, 225, 60),
    "blue": (50, 90, 255),
    "yellow": (245, 225, 45),
    "white": (250, 250, 250),
    "magenta": (235, 60, 225),
    "cyan": (50, 225, 235),
    "orange": (250, 140, 25),
}
BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "black": (10, 10, 12),
    "grey": (105, 105, 110),
    "blue": (20, 35, 105),
    "green": (15, 80, 40),
    "brown": (95, 55, 25),
}
SHAPES: tuple[str, ...] = ("circle", "square", "triangle", "cross")
TEXTURED = "textured"
"""Before the background's colour: it shows a pattern. Without the word it may."""
WORDS: tuple[str, ...] = tuple(
    dict.fromkeys(["a", "on", "and", "background", *COLOURS, *BACKGROUNDS, *SHAPES, TEXTURED])
)
POSSIBLE: dict[str, tuple[str, ...]] = {
    "colours": tuple(COLOURS), "shapes": SHAPES, "backgrounds": tuple(BACKGROUNDS),
}  # fmt: skip
"""What can stand where in a caption."""
_NAMES = frozenset(name for names in POSSIBLE.values() for name in names)
_THING = rf"an? ({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})"
_CAPTION = re.compile(
    rf"{_THING}(?P<second> and {_THING})? on a (?:{TEXTURED} )?({'|'.join(BACKGROUNDS)}) background"
)


_PAIR = rf"(?:{'|'.join(COLOURS)}) (?:{'|'.join(SHAPES)})"
_GROUND = rf"(?:{'|'.join(BACKGROUNDS)}) background"
_TOKEN = re.compile(rf"\b(?:{_PAIR}|{_GROUND})\b|\w+|[^\w\s]+")


def caption(objects: list[tuple[str, str]], background: str, *, textured: bool = False) -> str:
    """`[(colour, shape), ...]` and a background name -> the caption in the vocabulary."""
    return (
        " and ".join(
            f"{'an' if colour[0] in 'aeiou' else 'a'} {colour} {shape}" for colour, shape in objects
        )
        + f" on a {f'{TEXTURED} ' if textured else ''}{background} background"
    )


# One prompt per colour, cycling shapes and backgrounds; training cards without --prompt uses these.
TRAINING_PROMPTS: tuple[str, ...] = tuple(
    caption([(colour, shape)], background)
    for colour, shape, background in zip(
        ("red", "cyan", "yellow", "magenta", "green", "white", "orange", "blue"),
        itertools.cycle(("circle", "square", "cross", "triangle")),
        itertools.cycle(("grey", "black", "blue", "brown", "green")),
        strict=False,
    )
)


@dataclass(frozen=True)
class Doubts:
    """What of some prompts the bundled backbone cannot draw as they are written.

    Attributes:
        unknown: words that it has never seen.
        misplaced: words that it knows, where it has never seen them: `grey circle`.
        forms: prompts of known words, each at its place, that are no caption of its kind.
        kinds: of `POSSIBLE`, where a replacement is to be found.
    """

    unknown: tuple[str, ...]
    misplaced: tuple[str, ...]
    forms: tuple[str, ...]
    kinds: tuple[str, ...]


def doubts(prompts: Iterable[str]) -> Doubts:
    """What of prompts cannot be drawn as it is written, in order, without repeats."""
    unknown: dict[str, None] = {}
    misplaced: dict[str, None] = {}
    forms: dict[str, None] = {}
    kinds: set[str] = set()
    for prompt in prompts:
        words, sound = _words(prompt), True
        for before, word, after in zip(["", *words], words, [*words[1:], ""], strict=False):
            kind = _place(before, after)
            if word not in WORDS:
                unknown[word] = None
                kinds |= {kind} if kind else set(POSSIBLE)
            elif word in _NAMES and kind and word not in POSSIBLE[kind]:
                pair = (before, word) if kind == "shapes" else (word, after)
                misplaced[" ".join(pair)] = None
                kinds.add(kind)
            else:
                continue
            sound = False
        if sound and not _CAPTION.fullmatch(" ".join(words)):
            forms[prompt] = None
    return Doubts(tuple(unknown), tuple(misplaced), tuple(forms),
                  tuple(kind for kind in POSSIBLE if kind in kinds))  # fmt: skip


def meant(word: str, kinds: Iterable[str]) -> str:
    """The name of `POSSIBLE` that an unknown word is another spelling of, or a plural: `gray` ->
    `grey`; "" if there is none.

    Args:
        kinds: of `POSSIBLE`, where to look.
    """
    names = [name for kind in kinds for name in POSSIBLE[kind]]
    return next(iter(get_close_matches(word, names, 1, 0.75)), "")


def tokens(prompt: str) -> int:
    """How many tokens the bundled tokenizer makes of a prompt: a colour with its shape is one, and
    so is the end.
    """
    return len(_TOKEN.findall(" ".join(prompt.lower().split()))) + 1


def things(prompt: str) -> int | None:
    """How many things a caption of the bundled backbone names; None for another kind of text."""
    match = _CAPTION.fullmatch(" ".join(_words(prompt)))
    return None if match is None else 1 + (match["second"] is not None)


def _place(before: str, after: str) -> str:
    """Of which kind a word must be that stands between two others; "" where they do not tell."""
    if after == "background":
        return "backgrounds"
    if after in SHAPES:
        return "colours"
    return "shapes" if before in COLOURS and after in ("", "on", "and") else ""


def _words(prompt: str) -> list[str]:
    """The words of a prompt as the bundled tokenizer parts them, without punctuation; `an` is `a`
    to it.
    """
    return ["a" if word == "an" else word for word in re.findall(r"\w+", prompt.lower())]


def describe() -> str:
    """One line that lists what the bundled backbone can draw."""
    colours, grounds = "|".join(COLOURS), "|".join(BACKGROUNDS)
    thing = f"a {{{colours}}} {{{'|'.join(SHAPES)}}}"
    return f"{thing} [and {thing}] on a [{TEXTURED}] {{{grounds}}} background"
