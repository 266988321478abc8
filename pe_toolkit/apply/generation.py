"""`generate`: videos from prompts and seeds with the stock pipeline."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pe_toolkit.apply.checks import card_of
from pe_toolkit.apply.contexts import applied
from pe_toolkit.apply.latents import replaced_steps, replay
from pe_toolkit.apply.parts import check_parts, check_strength, is_finite
from pe_toolkit.apply.positions import Application
from pe_toolkit.apply.sense import check_replayed, guided_none
from pe_toolkit.apply.step_cache import step_cache
from pe_toolkit.backbones import finite
from pe_toolkit.backbones.contract import Backbone
from pe_toolkit.backbones.families import backbone_of
from pe_toolkit.card import CardSpec, MotionCard
from pe_toolkit.card.asked import checked_prompts, checked_seeds
from pe_toolkit.card.sampling import fit_of
from pe_toolkit.errors import UsageError
from pe_toolkit.video import Clip
from pe_toolkit.video.picture import resize


@dataclass(frozen=True)
class Generated:
    """One video, and how it came about.

    Attributes:
        prompt, seed: of this one.
        frames: uint8 RGB `(F, H, W, 3)`.
        fps: frames per second at which they are to be shown.
        guided_steps: denoising steps in which the card acted; 0 without a card.
        scheduler: name of its class.
        seconds: that it took.
    """

    prompt: str
    seed: int
    frames: NDArray[np.uint8]
    fps: float
    guided_steps: int
    scheduler: str
    seconds: float


def generate(
    adapter: Backbone | Any,
    prompts: Iterable[str],
    seeds: Iterable[int],
    *,
    card: MotionCard | str | Path | None = None,
    strength: float = 1.0,
    steps: int | None = None,
    guidance_scale: float | None = None,
    negative_prompt: str | None = None,
    scheduler: str | None = None,
    cache: str = "none",
    compile: bool = False,
    on_step: Callable[[int, int], None] | None = None,
    kv_from: Clip | None = None,
    no_kv: bool = False,
    phase: float | None = None,
    camera: float | None = None,
    subject: float | None = None,
    image: NDArray[np.uint8] | None = None,
) -> Iterator[Generated]:
    """Generate prompts x seeds with the stock pipeline, one video at a time (same bytes in and out
    of a batch).

    Steps, guidance scale, negative prompt, frames and size come from the card, else from the
    backbone. Between two videos the card stays on the pipeline: take them all, or close the
    iterator, before the pipeline is used for something else.

    Args:
        adapter: a backbone, or a pipeline that pe-toolkit drives, as for `applied`.
        card: of any kind, or the path of one.
        strength: as in `applied`; at 0 a latents card gives its frames, size and schedule only.
        negative_prompt: instead of the card's; "" for none.
        scheduler: `ddim` or `dpm`, or None to keep the pipeline's. `ddim` is without dynamic
            guidance, whatever the card says: CogVideoX has it for DPM only.
        cache: one of `acceleration.CACHES`; off during the guided steps.
        compile: compile the blocks of the transformer: pays from a few generations on.
        on_step: called after every denoising step with how many are done, and of how many.
        kv_from, no_kv, phase, camera, subject: as in `applied`.
        image: uint8 RGB `(H, W, 3)`: the first frame, for image-to-video backbones. Another size
            is cropped, padded or stretched as the reference of the card was; cropped without one.

    Raises:
        UsageError: empty or too long prompts, seeds that are none, an unknown scheduler or cache, a
            part that the card does not hold, a card that guides no step, a latents card with
            another strength than 0 and 1 or another scheduler.
        UnsupportedError: `cache="mag"` on a backbone that is not calibrated.
        MismatchError: a card that does not fit.
        CardError: a card that says what cannot be on this backbone.
        BackboneError: NaN or infinity out of the transformer or the VAE; names the dtype to use.
    """
    adapter = backbone_of(adapter)
    card = None if card is None else card_of(card)
    prompts = _checked(adapter, prompts, image)
    seeds = checked_seeds(seeds)
    _check_latents(card, strength, scheduler)
    _check_numbers(strength, steps, guidance_scale)
    call = _call(adapter, card, steps, guidance_scale, negative_prompt, scheduler)
    with adapter.scheduler_swapped(scheduler), contextlib.ExitStack() as stack:
        stack.enter_context(adapter.compiled(compile))
        stack.enter_context(step_cache(adapter, card, strength, call.steps, cache))
        reference = {"kv_from": kv_from, "no_kv": no_kv}
        parts = {"phase": phase, "camera": camera, "subject": subject}
        acting = _acting(stack, adapter, card, strength, call.steps, reference, parts)
        if image is not None:
            acting.extra["image"] = _begin(image, call, card)
        inner = acting.extra.get("callback_on_step_end")
        acting.extra["callback_on_step_end"] = _watching(adapter.dtype, on_step, inner)
        stack.enter_context(adapter.finite_decoding())
        for prompt, seed in product(prompts, seeds):
            yield _video(adapter, prompt, seed, call, acting)


def _checked(
    adapter: Backbone, prompts: Iterable[str], image: NDArray[np.uint8] | None
) -> list[str]:
    adapter.check_image(image)
    found = checked_prompts(prompts)
    for prompt in found:
        adapter.check_prompt(prompt)
    return found


def _check_numbers(strength: float, steps: int | None, guidance_scale: float | None) -> None:
    check_strength(strength)
    if steps is not None and not (isinstance(steps, SupportsIndex) and 1 <= int(steps) <= 1000):
        raise UsageError(f"Expected steps from 1 to 1000, got {steps}.")
    if guidance_scale is not None and not is_finite(guidance_scale):
        raise UsageError(f"Expected a finite guidance scale, got {guidance_scale}.")


def _check_latents(card: MotionCard | None, strength: float, scheduler: str | None) -> None:
    """A latents card acts wholly or not at all, with the scheduler that it was made with."""
    if card is None or card.spec.kind != "latents":
        return
    if strength not in (0, 1):
        raise UsageError(f"Expected a strength of 0 or 1 with a latents card, got {strength}.")
    if strength and scheduler is not None:
        raise UsageError(
            f"Expected no scheduler with a latents card, got {scheduler}: its latents are those of "
            f"{card.spec.schedule.scheduler}.",
            "Leave it out.",
        )


@dataclass(frozen=True)
class _Call:
    """What every call of the pipeline is given. Sizes in pixels, `fps` frames per second."""

    frames: int
    width: int
    height: int
    fps: float
    steps: int
    guidance_scale: float
    dynamic_cfg: bool
    negative_prompt: str


def _call(
    adapter: Backbone,
    card: MotionCard | None,
    steps: int | None,
    scale: float | None,
    negative_prompt: str | None,
    scheduler: str | None,
) -> _Call:
    """What a person asked for, else what the card says, else the backbone."""
    variant = adapter.variant
    if card is not None:
        clip, own = card.spec.clip, card.spec.schedule
        frames, width, height, fps = clip.frames, clip.width, clip.height, clip.fps
        usual, guidance, dynamic = own.steps, own.guidance_scale, own.dynamic_cfg
        negative = own.negative_prompt
    else:
        frames, (width, height) = adapter.frames, adapter.size
        fps, usual, guidance, dynamic, negative = 8.0, 50, 6.0, False, None
        if variant is not None:
            fps, usual, guidance = variant.fps, variant.steps, variant.guidance_scale
            dynamic, negative = variant.dynamic_cfg, variant.negative_prompt
    if negative_prompt is not None and negative_prompt not in ("", negative):
        adapter.check_prompt(negative_prompt, "a negative prompt")  # else it would be cut
    negative = negative if negative_prompt is None else negative_prompt
    return _Call(
        frames,
        width,
        height,
        fps,
        steps=usual if steps is None else steps,
        guidance_scale=guidance if scale is None else scale,
        dynamic_cfg=dynamic and adapter.changes_guidance(scheduler),
        negative_prompt=negative or "",
    )


def _begin(image: NDArray[np.uint8], call: _Call, card: MotionCard | None) -> Image.Image:
    """The picture at the size of the video."""
    fit = "crop" if card is None else fit_of(card.spec)
    return Image.fromarray(resize(image, (call.width, call.height), fit))


@dataclass(frozen=True)
class _Acting:
    """The card while it acts.

    Attributes:
        spec: of the card; None without one, and at strength 0.
        log: what a positions card did.
        replaced: how many steps of a generation begin with latents of a card.
        extra: arguments of the pipeline.
    """

    spec: CardSpec | None
    log: Application | None
    extra: dict[str, Any]
    replaced: int = 0

    def guided(self, steps: int) -> int:
        """How many steps of the last generation were guided.

        Raises:
            UsageError: none, of a card that was to guide some.
        """
        if self.log is None:
            return self.replaced
        if self.spec is not None and not self.log.guided_steps:
            raise guided_none(self.spec, steps)
        return self.log.guided_steps


def _acting(
    stack: contextlib.ExitStack,
    adapter: Backbone,
    card: MotionCard | None,
    strength: float,
    steps: int,
    reference: dict[str, Any],
    parts: dict[str, Any],
) -> _Acting:
    """Let the card act until the stack is left; at strength 0 it gives its size and schedule.

    `reference` goes to `applied` or `replay` as it is, `parts` to `applied`.
    """
    if card is not None:
        check_parts(card.spec, **parts)
    spec = card.spec if card is not None and strength else None
    if card is not None and card.spec.kind == "positions":
        context = applied(adapter, card, strength, **parts, **reference)
        return _Acting(spec, stack.enter_context(context), {})
    if card is None or not strength:
        return _Acting(None, None, {})
    replaying = stack.enter_context(replay(adapter, card, **reference))
    check_replayed(adapter, card.spec, steps)
    extra = replaying.arguments()
    extra.pop("negative_prompt", None)  # decided by the call
    return _Acting(spec, None, extra, replaced_steps(adapter, card.spec, steps))


def _video(adapter: Backbone, prompt: str, seed: int, call: _Call, acting: _Acting) -> Generated:
    began = time.monotonic()
    if acting.log is not None:
        acting.log.timesteps.clear()
    video = adapter.video(
        prompt,
        negative_prompt=call.negative_prompt,
        frames=call.frames,
        width=call.width,
        height=call.height,
        steps=call.steps,
        guidance_scale=call.guidance_scale,
        dynamic_cfg=call.dynamic_cfg,
        generator=torch.Generator("cpu").manual_seed(seed),
        **acting.extra,
    )
    guided = acting.guided(call.steps)
    pixels = np.rint(video * 255).astype(np.uint8)
    seconds = time.monotonic() - began
    return Generated(prompt, seed, pixels, call.fps, guided, adapter.scheduler_name, seconds)


def _watching(dtype: torch.dtype, on_step: Callable[[int, int], None] | None, inner: Any) -> Any:
    """A `callback_on_step_end` that counts, around the one of a latents card if there is one, and
    refuses latents that are not finite: after the first step, and after the last.
    """

    def callback(pipe: Any, step: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        if step in (0, int(pipe.num_timesteps) - 1):
            finite.check(values["latents"], "transformer", dtype)
        if inner is not None:
            values = inner(pipe, step, timestep, values)
        if on_step is not None:
            on_step(step + 1, int(pipe.num_timesteps))
        return values

    return callback
