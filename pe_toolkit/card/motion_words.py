"""`reference.motion` in words: the same in `pe show` and `pe train`. And what edits made of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pe_toolkit.motion.words import border_words, places, subject_words, words
from pe_toolkit.shown import printable

if TYPE_CHECKING:
    from pe_toolkit.card.spec import CardSpec, EditSpec, MotionSpec, SubjectSpec


def motion_words(motion: MotionSpec, sides: tuple[int, int]) -> str:
    """Camera and subjects in one line; `motion.words.NOTHING` of neither.

    Args:
        motion: of the card.
        sides: of its grid, height and width.
    """
    subjects = [
        subject_words(s.path, s.size, s.turn, motion.camera, _border(s, motion, sides))
        for s in motion.subjects
    ]
    return words(motion.camera, subjects)


def card_motion(spec: CardSpec) -> str:
    """What moves in the videos of a card, in one printable line. Some edits leave no motion in
    numbers, as two cards side by side: then it is said what they were. "" where nothing is known.
    """
    motion = spec.reference.motion
    if motion is not None:
        return motion_words(motion, (spec.grid.height, spec.grid.width))
    if spec.edits:
        cards = len(spec.came_from)
        made = f"put together of {cards} cards" if cards > 1 else "edited"
        return (
            f"{made} ({edits_words(spec.edits)}); not known in words, but `pe show --plot` draws it"
        )
    return ""


def edits_words(edits: Sequence[EditSpec]) -> str:
    """What was done to a card, in one printable line; other cards by the beginning of their
    digests.
    """
    return re.sub(r"\b([0-9a-f]{8})[0-9a-f]{56}\b", r"\1", "; ".join(map(edit_words, edits)))


def edit_words(edit: EditSpec) -> str:
    """One thing that was done to a card, printable."""
    values = (
        f"{key} {value if isinstance(value, str) else format(value, 'g')}"
        for key, value in edit.settings.items()
    )
    return printable(f"{edit.what}: {', '.join(values)}" if edit.settings else edit.what)


def _border(subject: SubjectSpec, motion: MotionSpec, sides: tuple[int, int]) -> str:
    if subject.disc is None:
        return ""
    return border_words(places(subject.path, subject.disc, motion.camera, sides), sides)
