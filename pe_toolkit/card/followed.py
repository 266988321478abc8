"""`reference.matched` in words: the same in `pe show`, `pe train` and the README on the Hub."""

from __future__ import annotations

LITTLE = 0.01
"""On the bundled backbone 24 references that cross the picture have 1.9 % to 14 %; of two real
clips one has 0.4 % (nothing can be followed) and one 0.1 % (what can be followed hardly moves);
scenes at rest and noise have 0.0 % (`python -m benchmarks.followed`)."""


def followed(share: float, variant: str = "") -> str:
    """How much of a reference can be learned from.

    Args:
        share: `reference.matched`, [0, 1].
        variant: `backbone.variant`. What little is was measured on the bundled ones only, and is
            said of no other.
    """
    percent = f"{share:.1%}" if share < 0.1 else f"{share:.0%}"
    text = f"{percent} of the picture moves and can be followed"
    little = variant.startswith("bundled") and share < LITTLE
    return f"{text}: little to learn from" if little else text
