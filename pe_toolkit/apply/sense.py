"""Whether what a card says can be, on the backbone that it was made for.

The reader checks that a card is whole and every number in its range. Whoever makes a card by hand
can still write 10,000 steps, or latents for timesteps that never come, and seal that.
"""

from __future__ import annotations

from pe_toolkit.backbones.contract import Backbone
from pe_toolkit.card import CardSpec
from pe_toolkit.errors import CardError, PeError, UsageError

_HAND_MADE = "The card was made by hand, or for another scheduler. Make one: pe train REF."


def check_sense(adapter: Backbone, spec: CardSpec) -> None:
    """Refuse numbers that no training on this backbone writes.

    Args:
        spec: of a card for this architecture.

    Raises:
        CardError: for such a number.
    """
    clip, longest = spec.clip, adapter.most_steps
    size = f"{clip.frames} frames of {clip.width}x{clip.height}"
    try:
        grid = str(adapter.grid_for(clip.frames, clip.width, clip.height))
    except UsageError as error:
        raise _senseless(f"a clip that this backbone can generate, got {size}") from error
    if grid != str(spec.grid):
        raise _senseless(f"a token grid of {grid} for {size}, got {spec.grid}")
    if spec.schedule.steps > longest:
        raise _senseless(f"at most {longest} steps, got {spec.schedule.steps}")
    blocks, _, timestep = spec.recipe.reads()
    last = adapter.blocks - 1
    if (block := max(spec.recipe.block, *blocks)) > last:
        raise _senseless(f"blocks up to {last}, got {block}")
    if timestep >= longest:
        raise _senseless(f"a reference read at a timestep below {longest}, got {timestep}")
    if spec.kind == "latents":
        there = set(adapter.timesteps(spec.schedule.steps))
        never = [t for t in spec.schedule.timesteps if t not in there]
        if never:
            raise _senseless(
                f"latents for timesteps that come in {spec.schedule.steps} steps of "
                f"{adapter.scheduler_name}, got some for {never[0]}"
            )


def check_replayed(adapter: Backbone, spec: CardSpec, steps: int) -> None:
    """Refuse a number of steps in which none of a card's latents has its turn.

    Raises:
        UsageError: for such a number.
    """
    there = set(adapter.timesteps(steps))
    if not there.intersection(spec.schedule.timesteps):
        raise UsageError(
            f"Expected steps in which the card's latents have their turn, got {steps}.",
            f"Use --steps {spec.schedule.steps}, as the card was trained with.",
        )


def guided_none(spec: CardSpec, steps: int) -> PeError:
    """The error for a generation that a card guided in no step."""
    first, last = spec.schedule.noise[0], spec.schedule.noise[-1]
    message = (
        f"Expected {steps} steps to visit the noise levels {last:.3f} .. {first:.3f} that the card "
        "guides, but none did."
    )
    if steps == spec.schedule.steps:  # as the card itself says
        return CardError(message, _HAND_MADE)
    return UsageError(message, f"Use --steps {spec.schedule.steps}, as the card was trained with.")


def _senseless(expected: str) -> CardError:
    return CardError(f"Expected a card with {expected}.", _HAND_MADE)
