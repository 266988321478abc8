"""Which parts of a card act, and how much of each: the layers of its positions, and its phase.

Needs no torch: requests are checked before a model is loaded.
"""

from __future__ import annotations

import math
from typing import SupportsFloat

from pe_toolkit.card import CardSpec
from pe_toolkit.card.spec import CAMERA, WHOLE
from pe_toolkit.errors import UsageError, option
from pe_toolkit.shown import shown


def of_camera(spec: CardSpec, layer: str) -> bool:
    """Whether a layer moves with the camera: the one of that name, or that of one path for
    everything where nothing but the camera was seen to move (a pan).
    """
    motion = spec.reference.motion
    return layer == CAMERA or (layer == WHOLE and motion is not None and motion.camera_alone)


def turned(spec: CardSpec) -> dict[str, bool]:
    """Whether `camera` and `subject` have a layer of the card to turn up and down, by name."""
    moved = [of_camera(spec, layer) for layer in spec.recipe.layers or ()]
    return {"camera": any(moved), "subject": not all(moved)}


def things(spec: CardSpec) -> int:
    """How many things the layers of a card move, each by itself; 0 where one path moves all."""
    return sum(layer not in (CAMERA, WHOLE) for layer in spec.recipe.layers or ())


def is_finite(value: object) -> bool:
    """Whether it is a finite number; text is none, whatever it says."""
    return isinstance(value, SupportsFloat) and math.isfinite(value)


def check_strength(strength: float) -> None:
    """Raises UsageError unless the strength is a finite number."""
    if not is_finite(strength):
        raise UsageError(f"Expected a finite strength, got {shown(strength)}.")


def check_parts(
    spec: CardSpec, *, camera: float | None, subject: float | None, phase: float | None
) -> None:
    """Refuse a strength for a part that the card does not have. None asks for nothing, and of a
    phase that is not there 0 may be had.

    Raises:
        UsageError: for that, for a strength that is not a finite number, and for a phase out of its
            range.
    """
    layers = spec.recipe.layers or ()
    known = f"its layers are {', '.join(layers)}" if layers else "it has no layers"
    there = turned(spec)
    for name, value, other in (("camera", camera, "subject"), ("subject", subject, "camera")):
        if value is None:
            continue
        if not is_finite(value):
            raise UsageError(f"Expected a finite {option(name)}, got {shown(value)}.")
        if not there[name]:
            own = f", and {option(other)} what it has" if there[other] else ""
            raise UsageError(
                f"Expected no {option(name)} with a card without a layer for it ({known}), got "
                f"{value:g}.",
                f"{option('strength')} turns the whole card up or down{own}. `pe show` says which "
                "layers a card has.",
            )
    if phase is None:
        return
    if not (is_finite(phase) and 0 <= phase <= 1):
        raise UsageError(f"Expected a phase from 0 to 1, got {shown(phase)}.")
    if spec.kind == "latents" and spec.recipe.phase is not None:
        raise UsageError(
            f"Expected no {option('phase')} with a latents card, got {phase:g}: its latents bear "
            "the phase already.",
            "Leave it out.",
        )
    if phase and spec.recipe.phase is None:
        raise UsageError(
            f"Expected no {option('phase')} with a card that holds no phase, got {phase:g}.",
            "Leave it out, or train the card with --recipe rich.",
        )


def phase_strength(spec: CardSpec, strength: float, subject: float | None) -> float:
    """How much of the phase where nothing is said of it: as much as of the card, and where subjects
    are all that moves, as of them: it says where they are.
    """
    there = turned(spec)
    alone = there["subject"] and not there["camera"]
    times = strength * (subject if alone and subject is not None else 1.0)
    return min(max(times, 0.0), 1.0)


def layer_strengths(
    spec: CardSpec, camera: float | None, subject: float | None
) -> tuple[float, ...] | None:
    """How much of each layer: `camera` speaks for those that move with it (`of_camera`), `subject`
    for all others; None: 1. None for a card without layers.
    """
    if spec.recipe.layers is None:
        return None
    given = (camera if of_camera(spec, name) else subject for name in spec.recipe.layers)
    return tuple(1.0 if value is None else float(value) for value in given)
