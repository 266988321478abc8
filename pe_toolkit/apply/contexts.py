"""`applied`: the hooks of a positions card, while a context is open."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from pe_toolkit.acceleration import caches
from pe_toolkit.apply.checks import (
    adapter_of,
    check_card,
    keys_values,
    size_check,
    vae_check,
)
from pe_toolkit.apply.positions import Application, CardPositions
from pe_toolkit.backbones.cogvideox import hooks
from pe_toolkit.backbones.cogvideox.adapter import CogVideoXAdapter
from pe_toolkit.card import MotionCard
from pe_toolkit.errors import UnsupportedError, UsageError
from pe_toolkit.grid import TokenGrid
from pe_toolkit.video import Clip


@contextlib.contextmanager
def applied(
    pipe: Any,
    card: MotionCard,
    strength: float = 1.0,
    *,
    kv_from: Clip | None = None,
    no_kv: bool = False,
) -> Iterator[Application]:
    """Guide every generation of `pipe` by a positions card while the context is open.

    The call stays the caller's: `card.spec.schedule` says with which steps, guidance scale and
    negative prompt the card was trained, `card.spec.clip` at which size.

    Args:
        pipe: a CogVideoX pipeline or its adapter, however loaded (LoRA, offload, compiled).
        card: a positions card for this backbone.
        strength: scales the card; 0 leaves the pipeline bit for bit alone, 1 is as trained.
        kv_from: the reference clip, at the card's frames and size: its keys and values are injected
            in the guided steps (see `pe_toolkit.backbones.cogvideox.keyvalue`), at any strength.
        no_kv: apply a card that requires them without.

    Yields:
        An `Application` that counts the guided steps.

    Raises:
        MismatchError: wrong backbone, or (inside, at the call) another grid or frame count than the
            card's.
        UnsupportedError: a latents card (use `replay`), fused QKV, or a nested card; inside, a VAE
            that cannot decode as it is offloaded.
        UsageError: a strength that is not a finite number, or no `kv_from` for a card that
            requires it (the message names the clip's hash).
    """
    if card.spec.kind != "positions":
        raise UnsupportedError(
            "Expected a positions card, got a latents card: it holds the latents of one prompt "
            "and seed.",
            "Use replay(pipe, card), or train with --mode positions.",
        )
    if not np.isfinite(strength):
        raise UsageError(f"Expected a finite strength, got {strength}.")
    adapter = adapter_of(pipe)
    check_card(adapter, card)
    log = Application(strength)
    kv = keys_values(adapter, card, kv_from, no_kv) if strength or kv_from is not None else None
    if strength == 0 and kv is None:
        yield log
        return
    select = CardPositions(adapter, card, strength, log)
    expected = TokenGrid(card.spec.grid.frames, card.spec.grid.height, card.spec.grid.width)
    with contextlib.ExitStack() as stack:
        stack.enter_context(vae_check(adapter))
        stack.enter_context(compiled_by_blocks(adapter))
        stack.enter_context(size_check(adapter, expected, card))
        inject: Callable[[Any], Any] = select
        if kv is not None:
            stack.enter_context(kv.injected(select.guides))
            inject = kv.unless_recording(select)
        stack.enter_context(hooks.positions(adapter.transformer, adapter.positions, inject))
        # A step cache, ours or the user's, must not answer in place of the guided steps.
        stack.enter_context(caches.held_off(adapter.transformer, select.guides))
        yield log


@contextlib.contextmanager
def compiled_by_blocks(adapter: CogVideoXAdapter) -> Iterator[None]:
    """For a transformer compiled as a whole: the module inside, its blocks compiled alike.

    A graph that was compiled before the card came would not run the card's hooks, silently: dynamo
    does not watch the hooks of submodules. Outside of the blocks there is little to gain.
    """
    pipe = adapter.pipe
    whole = pipe.transformer
    if whole is adapter.transformer:
        yield
        return
    inside, blocks = adapter.transformer, list(adapter.transformer.transformer_blocks)
    before = [block._compiled_call_impl for block in blocks]
    pipe.transformer = inside
    try:
        for block in blocks:
            if block._compiled_call_impl is None:
                block._compiled_call_impl = whole.dynamo_ctx(block._call_impl)
        yield
    finally:
        pipe.transformer = whole
        for block, call in zip(blocks, before, strict=True):
            block._compiled_call_impl = call
