"""`reference.motion` in words: the same in `pe show` and `pe train`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pe_toolkit.motion.words import border_words, places, subject_words, words

if TYPE_CHECKING:
    from pe_toolkit.card.spec import MotionSpec, SubjectSpec


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


def _border(subject: SubjectSpec, motion: MotionSpec, sides: tuple[int, int]) -> str:
    if subject.disc is None:
        return ""
    return border_words(places(subject.path, subject.disc, motion.camera, sides), sides)
