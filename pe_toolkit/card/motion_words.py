"""`reference.motion` in words: the same in `pe show` and `pe train`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pe_toolkit.motion.words import subject_words, words

if TYPE_CHECKING:
    from pe_toolkit.card.spec import MotionSpec


def motion_words(motion: MotionSpec) -> str:
    """Camera and subjects in one line; `motion.words.NOTHING` of neither."""
    subjects = [subject_words(s.path, s.size, s.turn, motion.camera) for s in motion.subjects]
    return words(motion.camera, subjects)
