"""Applying a card: an ordinary generation in which the card's positions replace the model's own.

    with applied(pipe, card):
        video = pipe(prompt="...").frames[0]

The pipeline stays the user's: hooks come off on exit, whatever happens inside, and its output
without the card is bit for bit what it was before.

request      what is asked, before a model is loaded
drafts       which of several seeds follows best, seen in a fifth of the steps
positions    what the card says at each timestep
checks       whether it fits
contexts     `applied`
latents      `replay`
step_cache   off during the steps that a card guides
parts        which parts of a card can be turned up and down
sense        whether a prompt and a card go together
generation   `generate`
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pe_toolkit.apply.checks import CardWarning, check_card
    from pe_toolkit.apply.contexts import applied
    from pe_toolkit.apply.drafts import Draft
    from pe_toolkit.apply.generation import Generated, generate
    from pe_toolkit.apply.latents import Replay, replay
    from pe_toolkit.apply.positions import Application, CardPositions, weights_at
    from pe_toolkit.apply.request import ApplyRequest

# Lazy: a request is made and checked without torch.
_WHERE = {
    "Application": "positions",
    "ApplyRequest": "request",
    "CardPositions": "positions",
    "CardWarning": "checks",
    "Draft": "drafts",
    "Generated": "generation",
    "Replay": "latents",
    "applied": "contexts",
    "check_card": "checks",
    "generate": "generation",
    "replay": "latents",
    "weights_at": "positions",
}

__all__ = [
    "Application",
    "ApplyRequest",
    "CardPositions",
    "CardWarning",
    "Draft",
    "Generated",
    "Replay",
    "applied",
    "check_card",
    "generate",
    "replay",
    "weights_at",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"pe_toolkit.apply.{_WHERE[name]}"), name)
    globals()[name] = value
    return value
