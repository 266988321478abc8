"""The training loop: reference clip -> events -> motion card."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pe_toolkit.acceleration.compiling import compiled
from pe_toolkit.backbones.catalogue.variants import VARIANTS, Variant
from pe_toolkit.backbones.cogvideox import hooks, own
from pe_toolkit.backbones.cogvideox.adapter import CogVideoXAdapter
from pe_toolkit.backbones.cogvideox.keyvalue import ReferenceKeysValues
from pe_toolkit.backbones.cogvideox.sampling import Sampler
from pe_toolkit.backbones.machine.offload import sent_away
from pe_toolkit.errors import MotionError
from pe_toolkit.motion.flow import AttentionMotionFlow
from pe_toolkit.objectives.amf import AmfObjective
from pe_toolkit.training import events, memory, quantized
from pe_toolkit.training.config import PAPER_SHARE, Resolved, TrainConfig
from pe_toolkit.training.describe import build_card
from pe_toolkit.training.modes import LatentMode, Mode, PositionMode, Problem
from pe_toolkit.training.resume import ResumeState
from pe_toolkit.training.schedule import guided_steps, learning_rate
from pe_toolkit.training.start import first_delta
from pe_toolkit.video import Clip, require_motion
from pe_toolkit.video.picture import resize
from pe_toolkit.world.vocabulary import TRAINING_PROMPTS

# Content that CogVideoX draws well and that has nothing to do with most references.
GENERAL_PROMPTS = (
    "a golden retriever running through a sunny meadow, cinematic, high detail",
    "a red sports car driving on a coastal road, cinematic, high detail",
    "a sailing boat on a calm sea at sunset, cinematic, high detail",
    "a robot walking through a neon-lit city street, cinematic, high detail",
)


def train(
    adapter: CogVideoXAdapter,
    clip: Clip,
    config: TrainConfig,
    *,
    state: Path | None = None,
    resume: bool = False,
    image: NDArray[np.uint8] | None = None,
) -> Iterator[events.Event]:
    """Learn the motion of a clip.

    Args:
        adapter: the backbone. Its weights are frozen while this runs and left as they were.
        clip: the reference; its frame count and size are those of the generations.
        config: what to do; None fields take the backbone's defaults.
        state: where to keep the resumable state (written after every guided step), or None.
        resume: continue from `state`.
        image: uint8 RGB `(H, W, 3)`, with image-to-video backbones only: what the training
            samples begin with, brought to the size of the clip with the clip's `fit`. Default: the
            reference's own first frame.

    Yields:
        Events; the last is `Finished` with the card. Nothing else is written.

    Raises:
        UsageError: a request that makes no sense, found before any work.
        MotionError: nothing in the reference can be matched and moves.
        TrainingError: the loss is not finite.
        BackboneError: latents of the reference, or a preview, that are not finite.
        ResumeError: the state belongs to another run.
        UnsupportedError: weights that training cannot work with: quantized in another way than
            `fp8` or `int8`, or compiled blocks whose weights leave; attention processors of the
            user, or SageAttention, on rotary positions.
    """
    began = time.monotonic()
    require_motion(clip)
    variant = adapter.variant or _nearest_variant(adapter)
    settings = config.resolve(variant)
    quantized.check_trainable(adapter.transformer)
    quantized.check_compiled(adapter.pipe.transformer, config.compile)
    if adapter.positions == "rotary":
        own.check_trainable(hooks.attention_modules(adapter.transformer))
    frames, height, width = clip.frames.shape[:3]
    grid = adapter.grid_for(frames, width, height)
    adapter.check_block(settings.block)
    for block in settings.reading.blocks:
        adapter.check_block(block)
    prompts, seeds = _samples(adapter, config, settings)
    if image is None and adapter.image_to_video:
        image = clip.frames[0]
    if image is not None:
        image = resize(image, clip.size, clip.fit)
    adapter.check_image(image)
    form = None
    if settings.parametrisation is not None:
        form = adapter.form(settings.parametrisation, frames, width, height)

    with _frozen(adapter.transformer), sent_away(adapter.pipe), contextlib.ExitStack() as stack:
        sampler = Sampler(
            adapter,
            prompts,
            seeds,
            steps=settings.steps,
            guidance_scale=settings.guidance_scale,
            dynamic_cfg=settings.dynamic_cfg,
            negative_prompt=settings.negative_prompt,
            frames=frames,
            width=width,
            height=height,
            image=image,
        )
        if settings.guided_first:
            share = max(1, round(settings.steps * PAPER_SHARE))
            settings = dataclasses.replace(
                settings, guided_range=(sampler.noise[share - 1], sampler.noise[0])
            )
        noise = sampler.latents / sampler.scheduler.init_noise_sigma  # that it begins with
        guided = guided_steps(sampler.noise, settings.guided_range)
        yield events.Started(
            settings.mode,
            len(guided),
            settings.inner_steps,
            len(prompts),
            str(grid),
            f"{len(guided)} guided of {settings.steps} steps, K = {settings.inner_steps}, block "
            f"{settings.block}",
        )
        silence = adapter.encode_text([""])
        # From here on nothing is read any more: 9.5 GB of a CogVideoX in 16 bits.
        stack.enter_context(memory.parked(adapter.pipe, ("text_encoder",)))
        latents, way = adapter.encode(clip.frames)
        condition = adapter.encode_image(clip.frames)
        q, k = adapter.reference_queries_and_keys(
            latents, settings.reading, frames, width, height, condition, silence
        )
        flow = AttentionMotionFlow.from_qk(
            q.float(), k.float(), grid, mask=settings.mask, mutual=settings.reading.mutual
        )
        del q, k  # 0.2 to 0.5 GB that nothing looks at any more
        yield events.ReferenceMatched(flow.matched, flow.moving, flow.followed)
        if not flow.mask.any():
            raise MotionError(
                f"Expected motion in the reference, but the mask '{settings.mask}' keeps nothing "
                "of it "
                f"({flow.matched:.0%} of the patches were matched, {flow.moving:.0%} also move).",
                "Use a clip with clearer motion, a longer span, or --set mask=none.",
            )
        objective = AmfObjective(flow, settings.tau)
        problem = Problem(adapter, sampler, objective, settings.block, settings.reuse)
        mode: Mode
        if form is not None:
            mode = PositionMode(problem, form, first_delta(form, flow, settings).to(adapter.device))
        else:
            mode = LatentMode(problem)

        losses: list[tuple[float, float]] = []
        first = 0
        saved = (
            ResumeState(state, settings, prompts, clip, adapter, image, config.preview, way)
            if state is not None
            else None
        )
        if saved is not None and resume:
            first = saved.load(sampler, mode, losses)
            yield events.Resumed(len(losses))
        active, at = [False], [first]
        transformer = adapter.transformer
        kv = None
        if settings.kv:
            kv = ReferenceKeysValues(
                adapter, latents, settings.seed, frames, width, height, condition
            )
            kv.follow(noise)

        def positions(timestep: Any) -> Any:
            return mode.current if active[0] else None

        with contextlib.ExitStack() as guiding:
            guiding.enter_context(memory.parked(adapter.pipe, ("vae",)))
            level = memory.checkpointing_level(
                config.checkpointing,
                adapter,
                grid.tokens,
                settings.block,
                rotary=_rotary(adapter, form),
                compiled=config.compile,
            )
            yield events.Optimising(level)
            stack.enter_context(memory.checkpointed(transformer, level))
            stack.enter_context(compiled(transformer, config.compile))
            inject: Any = positions
            if kv is not None:
                now = kv.injected(
                    lambda _: active[0], lambda: sampler.times[at[0]], lambda: sampler.part
                )
                guiding.enter_context(now)
                inject = kv.unless_recording(positions)
            guiding.enter_context(hooks.positions(transformer, adapter.positions, inject))
            for index in range(first, guided[-1] + 1):
                active[0], at[0] = index in guided, index
                if index in guided:
                    step_began = time.monotonic()
                    rate = learning_rate(settings.learning_rates, guided.index(index), len(guided))
                    trace: list[float] = []
                    for loss in mode.optimise(index, rate, settings.inner_steps):
                        trace.append(loss)
                        yield events.InnerStep(guided.index(index), len(trace) - 1, loss)
                    if trace:
                        losses.append((trace[0], trace[-1]))
                # Nothing looks at what the last guided step would give, except a preview.
                if config.preview or index < guided[-1]:
                    sampler.step(index)
                if saved is not None:
                    saved.save(index + 1, sampler, mode, losses)
                    yield events.Saved(saved.path)
                if index in guided:
                    yield events.GuidedStep(
                        guided.index(index),
                        len(guided),
                        sampler.noise[index],
                        trace[0] if trace else None,
                        trace[-1] if trace else None,
                        time.monotonic() - step_began,
                    )
        if config.preview:
            for index in range(guided[-1] + 1, len(sampler.timesteps)):
                sampler.step(index)
            fps = adapter.variant.fps if adapter.variant else clip.fps
            yield events.PreviewFrames(adapter.decode(sampler.latents[:1], frames), fps)
        card = build_card(
            adapter, variant, clip, config, settings, sampler, guided, mode.results, flow, losses,
            list(zip(prompts, seeds, strict=True)), way,
        )  # fmt: skip
    yield events.Finished(card, time.monotonic() - began)


def _nearest_variant(adapter: CogVideoXAdapter) -> Variant:
    """Defaults for a model that no row names: those of the closest CogVideoX."""
    kind = "-i2v" if adapter.image_to_video else ""
    name = f"cogvideox-5b{kind}" if adapter.positions == "rotary" else "cogvideox-2b"
    row = VARIANTS[f"cogvideox1.5-5b{kind}" if adapter.transformer.config.patch_size_t else name]
    # The scheduler is the user's: dynamic guidance goes with the recommended one (DPM) only.
    same = type(adapter.pipe.scheduler).__name__ == row.scheduler
    return row if same else dataclasses.replace(row, dynamic_cfg=False)


def _samples(
    adapter: CogVideoXAdapter, config: TrainConfig, settings: Resolved
) -> tuple[list[str], list[int]]:
    bundled = adapter.variant is not None and adapter.variant.bundled
    known = config.prompts or (TRAINING_PROMPTS if bundled else GENERAL_PROMPTS)
    for prompt in known:
        adapter.check_prompt(prompt)
    count = (
        max(settings.samples, len(config.prompts)) if config.samples is None else settings.samples
    )
    if settings.mode == "latents":
        count = 1
    return [known[i % len(known)] for i in range(count)], [settings.seed + i for i in range(count)]


def _rotary(adapter: CogVideoXAdapter, form: Any) -> bool:
    """Whether the gradient goes to rotary tables."""
    return form is not None and adapter.positions == "rotary"


@contextlib.contextmanager
def _frozen(module: torch.nn.Module) -> Iterator[None]:
    """No weight gradients (the official code computes and keeps them for 55 % of the model), eval
    mode.
    """
    training = module.training
    wanted = {name: p.requires_grad for name, p in module.named_parameters()}
    module.requires_grad_(False)
    module.eval()
    try:
        yield
    finally:
        for name, p in module.named_parameters():
            p.requires_grad_(wanted[name])
        module.train(training)
