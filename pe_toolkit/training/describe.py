"""From a finished run to its card."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np
import torch

from pe_toolkit import __version__
from pe_toolkit.backbones.reading import Reading
from pe_toolkit.card import (
    BackboneSpec,
    CardSpec,
    ClipSpec,
    GridSpec,
    MotionCard,
    ReadingSpec,
    RecipeSpec,
    ReferenceSpec,
    SampleSpec,
    ScheduleSpec,
    TrainingSpec,
    utc_now,
)
from pe_toolkit.card.compat import UNNAMED

if TYPE_CHECKING:
    from pe_toolkit.backbones.catalogue.variants import Variant
    from pe_toolkit.backbones.cogvideox.adapter import CogVideoXAdapter
    from pe_toolkit.backbones.cogvideox.sampling import Sampler
    from pe_toolkit.motion.flow import AttentionMotionFlow
    from pe_toolkit.training.config import Resolved, TrainConfig
    from pe_toolkit.video import Clip


def _reading_spec(settings: Resolved) -> ReadingSpec | None:
    """The reading, unless it is the paper's at the block of the generation."""
    reading = settings.reading
    if reading == Reading((settings.block,)):
        return None
    return ReadingSpec(blocks=reading.blocks, by=reading.by, timestep=reading.timestep)


def build_card(
    adapter: CogVideoXAdapter,
    variant: Variant,
    clip: Clip,
    config: TrainConfig,
    settings: Resolved,
    sampler: Sampler,
    guided: list[int],
    results: list[torch.Tensor],
    flow: AttentionMotionFlow,
    losses: list[tuple[float, float]],
    samples: list[tuple[str, int]],
    encoded: str | None,
) -> MotionCard:
    """Everything known about the run, and its tensors in half precision."""
    frames, height, width = clip.frames.shape[:3]
    positions = settings.parametrisation is not None
    stacked = torch.stack(results).detach().to("cpu", torch.float16)
    tensors = {
        "positions" if positions else "latents": (stacked if positions else stacked[:, 0]).numpy(),
        "flow": flow.displacement.numpy(),
        "flow_mask": flow.mask.numpy().astype(np.uint8),
    }
    grid = flow.grid
    source_width, source_height = clip.source_size or clip.size
    known = clip.source_size is not None
    spec = CardSpec(
        name=config.name,
        version=config.card_version,
        author=config.author,
        license=config.license,
        created=utc_now(),
        kind="positions" if positions else "latents",
        backbone=BackboneSpec(
            family=adapter.family,
            variant=adapter.variant.name if adapter.variant else UNNAMED,
            model_id=adapter.model_id,
            revision=adapter.revision,
            fingerprint=adapter.fingerprint(),
            weights_digest=adapter.weights_digest,
            positions=adapter.positions,
        ),
        grid=GridSpec(frames=grid.frames, height=grid.height, width=grid.width),
        clip=ClipSpec(
            frames=frames,
            width=width,
            height=height,
            fps=adapter.variant.fps if adapter.variant else 8.0,
        ),
        schedule=ScheduleSpec(
            scheduler=type(sampler.scheduler).__name__,
            steps=settings.steps,
            guidance_scale=settings.guidance_scale,
            dynamic_cfg=settings.dynamic_cfg,
            timesteps=tuple(sampler.times[i] for i in guided),
            noise=tuple(sampler.noise[i] for i in guided),
            negative_prompt=settings.negative_prompt or None,
        ),
        recipe=RecipeSpec(
            name=settings.recipe,
            objective="amf",
            block=settings.block,
            tau=settings.tau,
            mask=settings.mask,
            inner_steps=settings.inner_steps,
            learning_rates=settings.learning_rates,
            parametrisation=settings.parametrisation,
            dtype=str(adapter.dtype).removeprefix("torch."),
            guided_range=settings.guided_range,
            start=settings.start,
            seed=settings.seed,
            kv="required" if settings.kv else "none",
            kv_noise="generation" if settings.kv else None,
            reading=_reading_spec(settings),
            start_scale=settings.start_scale
            if settings.start == "flow" and settings.start_scale != 1
            else None,
        ),
        samples=tuple(SampleSpec(prompt=prompt, seed=seed) for prompt, seed in samples),
        reference=ReferenceSpec(
            sha256=clip.sha256,
            duration=clip.duration,
            frames=clip.total_frames,
            width=source_width,
            height=source_height,
            fps=clip.total_frames / clip.duration if clip.duration else clip.fps,
            start=clip.start,
            matched=flow.followed,
            used=clip.used if known and clip.used > 0 else None,
            fit=clip.fit if known else None,
            encoded=encoded,
        ),
        training=TrainingSpec(loss=tuple(losses), device=adapter.device.type),
        scores={},
        software={"pe-toolkit": __version__}
        | {name: version(name) for name in ("torch", "diffusers", "transformers")},
    )
    return MotionCard(spec, tensors)
