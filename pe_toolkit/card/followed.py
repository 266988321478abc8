"""`reference.matched` in words: the same in `pe show`, `pe train` and the README on the Hub."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pe_toolkit.card.spec import CardSpec, MotionSpec

LITTLE = 0.05
"""On the bundled backbone, read by content, 24 references that cross the picture have 7.6 % to
21 %; eight scenes at rest have 0 to 4.0 %, noise has 0.2 % and 1.9 %, two real clips, of which it
knows nothing, 9.6 % and 3.5 % (`python -m benchmarks.followed`)."""


def little(spec: CardSpec) -> bool:
    """Whether the reference of a card is below the line, or its pictures were looked at and nothing
    moves; never, where it was not measured, nor where its positions come from a camera, a slow
    thing or two things, which displacements hardly show: zooms transfer (docs/experiments.md), and
    of the one of `pe demo` 2.7 % is followed.
    """
    if spec.recipe.start == "layers" or not spec.backbone.variant.startswith("bundled"):
        return False
    return spec.reference.matched < LITTLE or nothing_was_seen(spec.reference.motion)


def nothing_was_seen(motion: MotionSpec | None) -> bool:
    """Whether in a reference neither a camera nor a subject was seen to move; False, where that
    was not looked at.
    """
    return motion is not None and not motion.subjects and motion.rests


def followed(share: float, little: bool = False, *, read: bool = False) -> str:
    """How much of a reference can be learned from.

    Args:
        share: `reference.matched`, [0, 1].
        little: whether that is to be called little (`little`).
        read: whether the motion comes from the pictures, whatever displacements there are.
    """
    percent = f"{share:.1%}" if share < 0.1 else f"{share:.0%}"
    if read and share < LITTLE:
        return f"its motion is read from the pictures; {percent} of them can be followed by patches"
    text = f"{percent} of the picture moves and can be followed"
    return f"{text}: little to learn from" if little else text


def followed_by(spec: CardSpec) -> str:
    """How much of its reference the card learned from."""
    if spec.edits:
        said = followed(spec.reference.matched)
        return f"before it was edited, {said}"
    read = spec.recipe.start == "layers"
    return followed(spec.reference.matched, little(spec), read=read)
