"""What a generation switches on for its time: a step cache, another scheduler."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from pe_toolkit.acceleration import caches, ratios
from pe_toolkit.apply.positions import Application, CardPositions
from pe_toolkit.apply.sense import timesteps_of
from pe_toolkit.backbones.cogvideox.adapter import CogVideoXAdapter
from pe_toolkit.card import MotionCard
from pe_toolkit.errors import UsageError


@contextlib.contextmanager
def step_cache(
    adapter: CogVideoXAdapter, card: MotionCard | None, strength: float, steps: int, name: str
) -> Iterator[None]:
    """A step cache that knows how many of the first steps a card guides."""
    if name == "none":
        yield
        return
    timesteps = tuple(int(t) for t in timesteps_of(adapter, steps))
    guided = 0
    if card is not None and strength and card.spec.kind == "latents":
        guided = len(card.spec.schedule.timesteps)
    elif card is not None and strength:
        select = CardPositions(adapter, card, strength, Application(strength))
        guided = sum(select.guides(t) for t in timesteps)
    values = None
    if name == "mag":
        row = ratios.load(
            adapter.variant.name if adapter.variant else "this model", adapter.weights_digest
        )
        values = ratios.ratios_for(row, timesteps)
    with caches.cached(adapter.transformer, name, caches.Schedule(timesteps, guided), values):
        yield


@contextlib.contextmanager
def swapped_scheduler(adapter: CogVideoXAdapter, name: str | None) -> Iterator[None]:
    """Swap the pipeline's scheduler for the time of a generation."""
    from diffusers import CogVideoXDDIMScheduler, CogVideoXDPMScheduler

    kinds = {"ddim": CogVideoXDDIMScheduler, "dpm": CogVideoXDPMScheduler}
    if name is None:
        yield
        return
    if name not in kinds:
        raise UsageError(f"Expected a scheduler out of {', '.join(kinds)}, got {name!r}.")
    before = adapter.pipe.scheduler
    adapter.pipe.scheduler = kinds[name].from_config(before.config)
    try:
        yield
    finally:
        adapter.pipe.scheduler = before
