"""`generate`: videos from prompts and seeds with the stock pipeline."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pe_toolkit.acceleration.compiling import compiled
from pe_toolkit.apply.contexts import applied
from pe_toolkit.apply.latents import replay
from pe_toolkit.apply.positions import Application
from pe_toolkit.apply.sense import check_replayed, guided_none
from pe_toolkit.apply.switches import step_cache
from pe_toolkit.backbones import finite
from pe_toolkit.backbones.contract import Backbone
from pe_toolkit.card import MotionCard
from pe_toolkit.card.sampling import fit_of
from pe_toolkit.video import Clip
from pe_toolkit.video.picture import resize


@dataclass(frozen=True)
class Generated:
    """One video: uint8 RGB frames `(F, H, W, 3)`, and how it came about. `scheduler` is the name of
    its class.
    """

    prompt: str
    seed: int
    frames: NDArray[np.uint8]
    fps: float
    guided_steps: int
    scheduler: str
    seconds: float


def generate(
    adapter: Backbone,
    prompts: Sequence[str],
    seeds: Sequence[int],
    *,
    card: MotionCard | None = None,
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
    image: NDArray[np.uint8] | None = None,
) -> Iterator[Generated]:
    """Generate prompts x seeds with the stock pipeline, one video at a time (same bytes in and out
    of a batch).

    Steps, guidance scale, negative prompt, frames and size come from the card, else from the
    backbone.

    Args:
        card: of any kind.
        strength: as in `applied`; at 0 a latents card gives its frames, size and schedule only.
        negative_prompt: instead of the card's; "" for none.
        scheduler: `ddim` or `dpm`, or None to keep the pipeline's. `ddim` is without dynamic
            guidance, whatever the card says: CogVideoX has it for DPM only.
        cache: one of `acceleration.CACHES`; off during the guided steps.
        compile: compile the blocks of the transformer: pays from a few generations on.
        on_step: called after every denoising step with how many are done, and of how many.
        kv_from, no_kv: as in `applied`.
        image: uint8 RGB `(H, W, 3)`: the first frame, for image-to-video backbones. Another size
            is cropped, padded or stretched as the reference of the card was; cropped without one.

    Raises:
        UsageError: empty or too long prompts, an unknown scheduler or cache, or a card that guides
            no step.
        UnsupportedError: `cache="mag"` on a backbone that is not calibrated.
        MismatchError: a card that does not fit.
        CardError: a card that says what cannot be on this backbone.
        BackboneError: NaN or infinity out of the transformer or the VAE; names the dtype to use.
    """
    variant, spec = adapter.variant, card.spec if card is not None else None
    adapter.check_image(image)
    for prompt in prompts:
        adapter.check_prompt(prompt)
    if spec is not None:
        frames, width, height, fps = (
            spec.clip.frames,
            spec.clip.width,
            spec.clip.height,
            spec.clip.fps,
        )
        steps = steps or spec.schedule.steps
        guidance_scale = spec.schedule.guidance_scale if guidance_scale is None else guidance_scale
        dynamic, negative = spec.schedule.dynamic_cfg, spec.schedule.negative_prompt
    else:
        frames, (width, height) = adapter.frames, adapter.size
        fps, dynamic = (variant.fps, variant.dynamic_cfg) if variant else (8.0, False)
        negative = variant.negative_prompt if variant else None
        steps = steps or (variant.steps if variant else 50)
        guidance_scale = (
            guidance_scale
            if guidance_scale is not None
            else (variant.guidance_scale if variant else 6.0)
        )
    if negative_prompt is not None and negative_prompt not in ("", negative):
        adapter.check_prompt(negative_prompt, "a negative prompt")  # else it would be cut
    negative = negative if negative_prompt is None else negative_prompt
    with adapter.scheduler_swapped(scheduler), contextlib.ExitStack() as stack:
        log: Application | None = None
        extra: dict[str, Any] = {}
        stack.enter_context(compiled(adapter.transformer, compile))
        stack.enter_context(step_cache(adapter, card, strength, steps, cache))
        if card is not None and card.spec.kind == "latents" and strength:
            replaying = replay(adapter, card, kv_from=kv_from, no_kv=no_kv)
            extra = stack.enter_context(replaying).arguments()
            check_replayed(adapter, card.spec, steps)
            extra.pop("negative_prompt", None)  # decided above
        elif card is not None and card.spec.kind == "positions":
            log = stack.enter_context(
                applied(adapter, card, strength, kv_from=kv_from, no_kv=no_kv)
            )
        if image is not None:
            fit = "crop" if spec is None else fit_of(spec)
            extra["image"] = Image.fromarray(resize(image, (width, height), fit))
        extra["callback_on_step_end"] = _watching(
            adapter.dtype, on_step, extra.get("callback_on_step_end")
        )
        stack.enter_context(adapter.finite_decoding())
        for prompt in prompts:
            for seed in seeds:
                began = time.monotonic()
                if log is not None:
                    log.timesteps.clear()
                generator = torch.Generator("cpu").manual_seed(seed)
                video = adapter.video(
                    prompt,
                    negative_prompt=negative or "",
                    frames=frames,
                    width=width,
                    height=height,
                    steps=steps,
                    guidance_scale=guidance_scale,
                    dynamic_cfg=dynamic and scheduler != "ddim",
                    generator=generator,
                    **extra,
                )
                if log is not None and strength and not log.guided_steps:
                    assert spec is not None
                    raise guided_none(spec, steps)
                guided = log.guided_steps if log else spec.guided_steps if spec and strength else 0
                pixels = np.rint(video * 255).astype(np.uint8)
                used = adapter.scheduler_name
                seconds = time.monotonic() - began
                yield Generated(prompt, seed, pixels, fps, guided, used, seconds)


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
