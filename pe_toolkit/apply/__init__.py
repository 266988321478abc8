"""Applying a card: an ordinary generation in which the card's positions replace the model's own.

    with applied(pipe, card):
        video = pipe(prompt="...").frames[0]

The pipeline stays the user's: hooks come off on exit, whatever happens inside, and its output
without the card is bit for bit what it was before.

positions    what the card says at each timestep
checks       whether it fits
contexts     `applied`
latents      `replay`
switches     step caches and schedulers
generation   `generate`
"""

from __future__ import annotations

from pe_toolkit.apply.checks import CardWarning, check_card
from pe_toolkit.apply.contexts import applied
from pe_toolkit.apply.generation import Generated, generate
from pe_toolkit.apply.latents import Replay, replay
from pe_toolkit.apply.positions import Application, CardPositions, weights_at

__all__ = [
    "Application",
    "CardPositions",
    "CardWarning",
    "Generated",
    "Replay",
    "applied",
    "check_card",
    "generate",
    "replay",
    "weights_at",
]
