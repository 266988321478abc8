"""The small world that the bundled backbone knows: colours, shapes, backgrounds and the words for
them.

Captions read `a {colour} {shape} on a {background} background`, with `and a {colour} {shape}` after
the first shape for two objects. Motion is never in the caption: that is what cards are for.
"""

from __future__ import annotations

import itertools

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
WORDS: tuple[str, ...] = tuple(
    dict.fromkeys(["a", "on", "and", "background", *COLOURS, *BACKGROUNDS, *SHAPES])
)
# One prompt per colour, cycling shapes and backgrounds; training cards without --prompt uses these.
TRAINING_PROMPTS: tuple[str, ...] = tuple(
    f"a {colour} {shape} on a {background} background"
    for colour, shape, background in zip(
        ("red", "cyan", "yellow", "magenta", "green", "white", "orange", "blue"),
        itertools.cycle(("circle", "square", "cross", "triangle")),
        itertools.cycle(("grey", "black", "blue", "brown", "green")),
        strict=False,
    )
)


def caption(objects: list[tuple[str, str]], background: str) -> str:
    """`[(colour, shape), ...]` and a background name -> the caption in the vocabulary."""
    return (
        " and ".join(f"a {colour} {shape}" for colour, shape in objects)
        + f" on a {background} background"
    )


def unknown_words(prompt: str) -> list[str]:
    """Words of `prompt` that the bundled text encoder has never seen, in order, without repeats."""
    words = prompt.lower().replace(",", " ").replace(".", " ").split()
    return list(dict.fromkeys(word for word in words if word not in WORDS))


def describe() -> str:
    """One line that lists what the bundled backbone can draw."""
    colours, grounds = "|".join(COLOURS), "|".join(BACKGROUNDS)
    thing = f"a {{{colours}}} {{{'|'.join(SHAPES)}}}"
    return f"{thing} [and {thing}] on a {{{grounds}}} background"
