"""`applied`: the hooks of a positions card, while a context is open."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pe_toolkit.apply.checks import (
    CardWarning,
    card_of,
    check_card,
    keys_values,
    size_check,
    vae_check,
)
from pe_toolkit.apply.parts import check_parts, check_strength, layer_strengths, phase_strength
from pe_toolkit.apply.positions import Application, CardPositions
from pe_toolkit.backbones.alone import alone
from pe_toolkit.backbones.contract import Backbone, KeysValues
from pe_toolkit.backbones.families import backbone_of
from pe_toolkit.card import CardSpec, MotionCard
from pe_toolkit.errors import UnsupportedError
from pe_toolkit.motion.ground import Ground, still
from pe_toolkit.motion.phase import imprinting
from pe_toolkit.motion.renewed import renewing
from pe_toolkit.motion.similarities import times
from pe_toolkit.video import Clip


@contextlib.contextmanager
def applied(
    pipe: Any,
    card: MotionCard | str | Path,
    strength: float = 1.0,
    *,
    kv_from: Clip | None = None,
    no_kv: bool = False,
    phase: float | None = None,
    camera: float | None = None,
    subject: float | None = None,
) -> Iterator[Application]:
    """Guide every generation of `pipe` by a positions card while the context is open.

    The call stays the caller's: `card.spec.schedule` says with which steps, guidance scale and
    negative prompt the card was trained, `card.spec.clip` at which size.

    Args:
        pipe: a pipeline that pe-toolkit drives (CogVideoX), or its backbone, however loaded (LoRA,
            offload, compiled).
        card: a positions card for this backbone, or the path of one (`pe_toolkit.applied` takes
            names, too).
        strength: scales the card; 0 leaves the pipeline bit for bit alone (but for a `phase` that
            is given), 1 is as trained.
        kv_from: the reference clip, at the card's frames and size: its keys and values are injected
            in the guided steps (docs/reproduce.md), at any strength.
        no_kv: apply a card that requires them without.
        phase: how much of the reference's phase goes into the initial noise, if the card holds it:
            0 (none) to 1 (as trained). Default: `strength`, times `subject` for a card without a
            layer of a camera, but 1 at most. Of a scheduler that draws noise at every step, any
            above 0 keeps the noise of the beginning where the phase is (`motion.renewed`).
        camera: scales the layer of the positions that moves with the camera, on top of `strength`,
            and how far the noise that is fixed to it goes: 0 is off, 1 (the default) as trained.
        subject: scales all other layers, likewise.

    Yields:
        An `Application` that counts the guided steps. A generation that visits none of the noise
        levels that the card guides (a video-to-video pipeline at strength 0.8 and below begins
        beneath them) is warned of when the context is left.

    Raises:
        MismatchError: wrong backbone, or (inside, at the call) another token grid than the card's.
            (CogVideoX 1.5 fills up frames: a few frames more have the same grid.)
        UnsupportedError: a latents card (use `replay`), fused QKV, an attention processor that
            positions cannot reach, or a second card while one is applied; inside, a VAE that cannot
            decode as it is offloaded.
        UsageError: a strength that is not a finite number, a phase out of its range, a phase,
            `camera` or `subject` for a card that holds no such part, or no `kv_from` for a card
            that requires it (the message names the clip's hash).
    """
    card = _positions_of(card, strength)
    check_parts(card.spec, camera=camera, subject=subject, phase=phase)
    phase = phase_strength(card.spec, strength, subject) if phase is None else phase
    layers = layer_strengths(card.spec, camera, subject)
    adapter = backbone_of(pipe)
    check_card(adapter, card)
    log = Application(strength)
    kv = keys_values(adapter, card, kv_from, no_kv) if strength or kv_from is not None else None
    acts = bool(strength) or kv is not None or (bool(phase) and card.spec.recipe.phase is not None)
    with (
        alone(adapter.transformer) if acts else contextlib.nullcontext(),
        beginning(adapter, card, phase, camera),
        guided_by(adapter, card, strength, kv, log, layers) as select,
    ):
        yield log
    if select is not None:
        warn_unguided(log, card, select)


@contextlib.contextmanager
def beginning(
    adapter: Backbone, card: MotionCard, strength: float, camera: float | None = None
) -> Iterator[None]:
    """Generations begin with noise that bears the phase that the card holds, if it holds one; what
    of it is fixed to the camera moves `camera` times as far.
    """
    kept = card.spec.recipe.phase
    if kept is None or strength == 0:
        yield
        return
    if not adapter.begins_with_noise:
        warnings.warn(
            "The card's phase is left out: it belongs into the initial noise, and this pipeline "
            "begins with a clip.",
            CardWarning,
            stacklevel=5,
        )
        yield
        return
    stored = torch.from_numpy(np.ascontiguousarray(card.tensors["phase"]))
    ground = ground_of(card.spec, 1.0 if camera is None else camera)
    change = imprinting(
        stored, kept.radius, kept.gamma, strength, ground, mean=kept.mean is not False
    )
    with adapter.beginning_with(change, renewing(kept.radius)):
        yield


def ground_of(spec: CardSpec, camera: float) -> Ground | None:
    """How much of the noise is fixed to the card's camera, which moves `camera` times as far as it
    was read; one that was not read rests.
    """
    if spec.recipe.ground is None:
        return None
    frames, height, width = spec.grid.token_grid()
    if spec.reference.motion is None:
        return still(spec.recipe.ground, frames)
    rows = torch.tensor(spec.reference.motion.camera, dtype=torch.float64)
    linear, shift = times(rows[:, :4].reshape(-1, 2, 2), rows[:, 4:], camera)
    sides, rested = torch.tensor([width, height]), spec.reference.motion.rests
    return Ground(spec.recipe.ground, linear, shift / sides, rested)


@contextlib.contextmanager
def guided_by(
    adapter: Backbone,
    card: MotionCard,
    strength: float,
    kv: KeysValues | None,
    log: Application,
    layers: Sequence[float] | None = None,
) -> Iterator[CardPositions | None]:
    """The card's positions, and keys and values, in the guided steps; None where there are none."""
    if strength == 0 and kv is None:
        yield None
        return
    select = CardPositions(adapter, card, strength, log, layers)
    with contextlib.ExitStack() as stack:
        stack.enter_context(vae_check(adapter))
        stack.enter_context(adapter.reachable())
        stack.enter_context(size_check(adapter, card.spec.grid.token_grid(), card))
        inject: Callable[[Any], Any] = select
        if kv is not None:
            stack.enter_context(kv.injected(select.guides))
            inject = kv.unless_recording(select)
        stack.enter_context(adapter.positions_from(inject))
        # A step cache, ours or the user's, must not answer in place of the guided steps.
        stack.enter_context(adapter.held_off(select.guides))
        yield select


def _positions_of(card: MotionCard | str | Path, strength: float) -> MotionCard:
    card = card_of(card)
    if card.spec.kind != "positions":
        raise UnsupportedError(
            "Expected a positions card, got a latents card: it holds the latents of one prompt "
            "and seed.",
            "Use replay(pipe, card), or train with --mode positions.",
        )
    check_strength(strength)
    return card


def warn_unguided(log: Application, card: MotionCard, select: CardPositions) -> None:
    """Say so if of a generation there were passes and the card guided none of them."""
    select.close()
    if not select.unguided or not log.strength:
        return
    levels = [select.adapter.noise_level(t) for t in sorted(select.unguided)]
    first, last = card.spec.schedule.noise[0], card.spec.schedule.noise[-1]
    warnings.warn(
        f"The card guided no step: it guides noise levels of {last:.3f} to {first:.3f}, and the "
        f"generation visited {levels[0]:.3f} to {levels[-1]:.3f}. In a video-to-video pipeline, "
        "use a strength nearer to 1.",
        CardWarning,
        stacklevel=3,
    )
