"""The step cache of a generation, which is off during the steps that a card guides."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from pe_toolkit.acceleration import caches, ratios
from pe_toolkit.apply.latents import replaced_steps
from pe_toolkit.apply.positions import Application, CardPositions
from pe_toolkit.backbones.contract import Backbone
from pe_toolkit.card import MotionCard


@contextlib.contextmanager
def step_cache(
    adapter: Backbone, card: MotionCard | None, strength: float, steps: int, name: str
) -> Iterator[None]:
    """A step cache that knows how many of the first steps a card guides."""
    if name == "none":
        yield
        return
    timesteps = tuple(adapter.timesteps(steps))
    guided = 0
    if card is not None and strength and card.spec.kind == "latents":
        guided = replaced_steps(adapter, card.spec, steps)
    elif card is not None and strength:
        select = CardPositions(adapter, card, strength, Application(strength))
        guided = sum(select.guides(t) for t in timesteps)
    values = None
    if name == "mag":
        row = ratios.load(
            adapter.variant.name if adapter.variant else "this model", adapter.weights_digest
        )
        values = ratios.ratios_for(row, timesteps)
    with adapter.cached(name, caches.Schedule(timesteps, guided), values):
        yield
