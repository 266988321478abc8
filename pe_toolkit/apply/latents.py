"""`replay`: the stored latents of a latents card."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pe_toolkit.apply.checks import card_of, check_card, keys_values, vae_check
from pe_toolkit.backbones.alone import alone
from pe_toolkit.backbones.contract import Backbone
from pe_toolkit.backbones.families import backbone_of
from pe_toolkit.backbones.precision import unrounded
from pe_toolkit.card import CardSpec, MotionCard
from pe_toolkit.errors import MismatchError, UnsupportedError
from pe_toolkit.video import Clip


@dataclass(frozen=True)
class Replay:
    """Pass `callback_on_step_end` and, where the card has one, `negative_prompt` to the pipeline,
    together with the card's steps and guidance.
    """

    callback_on_step_end: Any
    negative_prompt: str | None = None

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments to add to a `pipe(...)` call; change the dictionary first if the
        negative prompt is to be another.
        """
        out: dict[str, Any] = {"callback_on_step_end": self.callback_on_step_end}
        if self.negative_prompt is not None:
            out["negative_prompt"] = self.negative_prompt
        return out


def replaced_steps(adapter: Backbone, spec: CardSpec, steps: int) -> int:
    """At how many of `steps` denoising steps a latents card has latents to put in."""
    return len(set(adapter.timesteps(steps)).intersection(spec.schedule.timesteps))


@contextlib.contextmanager
def replay(
    pipe: Any, card: MotionCard | str | Path, *, kv_from: Clip | None = None, no_kv: bool = False
) -> Iterator[Replay]:
    """Replay a latents card: `with replay(pipe, card) as r: pipe(prompt=..., **r.arguments())`.

    They are not rounded to bfloat16 where the pipeline works in that: it gets them in float32, and
    only the transformer's input is cast.

    The stored z_t take the place of the pipeline's own at each guided step, those of the first step
    after the pipeline has drawn its noise: the generator is then where it was in training, which
    matters to DPM (it draws noise at every step) and to image-to-video (the image's latents are
    drawn before). `kv_from` and `no_kv` as in `applied`.

    Raises:
        UnsupportedError: a positions card (use `applied`), a pipeline that begins with a clip, a
            scheduler that keeps latents in another scale (Euler, Heun), or a card that is applied
            to the model already.
        MismatchError: another backbone or size; also inside, of a generation.
        UnsupportedError: also inside, a VAE that cannot decode as it is offloaded.
    """
    card = card_of(card)
    if card.spec.kind != "latents":
        raise UnsupportedError(
            "Expected a latents card, got a positions card.", "Use applied(pipe, card)."
        )
    adapter = backbone_of(pipe)
    check_card(adapter, card)
    adapter.check_scheduler()
    if not adapter.begins_with_noise:
        raise UnsupportedError(
            "Expected a pipeline that begins with noise, got one that begins with a clip: a "
            "latents card says where a generation is from its first step on.",
            "Use the text-to-video pipeline, or a card of positions.",
        )
    stored = {
        t: torch.from_numpy(z)[None]
        for t, z in zip(
            card.spec.schedule.timesteps, np.ascontiguousarray(card.tensors["latents"]), strict=True
        )
    }
    first = max(stored)

    def exchange(t: int | None, latents: torch.Tensor) -> torch.Tensor:
        kept = None if t is None else stored.get(t)
        return latents if kept is None else _like(latents, kept)

    whole = first == max(adapter.timesteps(card.spec.schedule.steps))
    kv = keys_values(adapter, card, kv_from, no_kv)
    with alone(adapter.transformer), contextlib.ExitStack() as stack:
        stack.enter_context(vae_check(adapter))
        if kv is not None or adapter.dtype == torch.bfloat16:
            stack.enter_context(adapter.reachable())
        if kv is not None:
            stack.enter_context(kv.injected(lambda t: t in stored))
        stack.enter_context(adapter.held_off(lambda t: t in stored))
        stack.enter_context(adapter.casting_inputs())
        if whole:
            stack.enter_context(adapter.beginning_with(_stored(stored[first])))
        yield Replay(adapter.step_callback(exchange), card.spec.schedule.negative_prompt)


def _stored(start: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """What a generation begins with instead of its noise: `start` `(1, ...)`."""

    def change(noise: torch.Tensor) -> torch.Tensor:
        if noise.shape[1:] != start.shape[1:]:
            raise MismatchError(
                f"Expected a generation with latents {tuple(start.shape[1:])} as the card's, got "
                f"{tuple(noise.shape[1:])}.",
                "Use the card's frames, width and height.",
            )
        return _like(noise, start)

    return change


def _like(latents: torch.Tensor, stored: torch.Tensor) -> torch.Tensor:
    """Stored latents for each sample of the pipeline's own."""
    return stored.to(latents.device, unrounded(latents.dtype)).expand_as(latents).clone()
