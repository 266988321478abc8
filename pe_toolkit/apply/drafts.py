"""Drafts: which of several seeds follows the card best, seen in a fifth of the steps.

What a card makes of a prompt differs from seed to seed, of two things most. A generation of a fifth
of the steps is rough, but moves much as the whole one will (docs/experiments.md, *Drafts*).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pe_toolkit.apply.parts import things

if TYPE_CHECKING:
    from pe_toolkit.apply.generation import Generated
    from pe_toolkit.card import CardSpec

Judge = Callable[[Any], float | None]
SHARE = 0.2
"""Of the steps, how many a draft takes. Drafts of 4 of 20 steps choose as well as those of 6
(docs/experiments.md)."""
LEAST = 2
"""Steps of a draft."""
SPACING = 1000
"""Between the seeds that drafts are made of: those next to a seed may be asked for themselves."""
MOST = 16
PAY = 4
"""Of a card that moves several things: the mean cosine of two is 0.06 higher, that of the worse one
0.10, for 1.6 times the time; eight win no more, and one thing wins little (docs/experiments.md)."""


@dataclass(frozen=True)
class Draft:
    """A draft from one seed, and how well it follows, in [-1, 1]; None where that is not known."""

    seed: int
    follows: float | None


def that_pay(spec: CardSpec, *, bundled: bool) -> int:
    """How many drafts a video of a card is worth where nobody says how many, and asks for no seed.

    Args:
        bundled: whether the bundled backbone makes it; on another one nothing of it was measured,
            and a draft may take minutes.
    """
    return PAY if bundled and things(spec) > 1 else 1


def seeds_of(seed: int, count: int) -> list[int]:
    """The seed itself, and `count` - 1 others that belong to it."""
    return [seed + k * SPACING for k in range(count)]


def draft_steps(steps: int) -> int:
    """How many steps the drafts of a generation of `steps` take."""
    return max(min(LEAST, steps), round(steps * SHARE))


def judged(drafts: Iterable[Generated], follows: Judge) -> list[Draft]:
    """All drafts, the one that follows best first; as they came where that is not known.

    Args:
        drafts: all of them are made before the first is judged, which may run the model.
        follows: uint8 RGB frames `(F, H, W, 3)` -> how well they follow, or None.
    """
    found = [Draft(made.seed, follows(made.frames)) for made in list(drafts)]
    return sorted(found, key=lambda draft: math.inf if draft.follows is None else -draft.follows)
