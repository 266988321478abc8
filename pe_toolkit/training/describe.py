"""From a finished run to its card."""

from __future__ import annotations

import dataclasses
from importlib.metadata import version
from typing import TYPE_CHECKING

import torch

from pe_toolkit import __version__
from pe_toolkit.backbones.reading import Reading
from pe_toolkit.card import (
    BackboneSpec,
    CardSpec,
    ClipSpec,
    GridSpec,
    MotionCard,
    MotionSpec,
    PhaseSpec,
    ReadingSpec,
    RecipeSpec,
    ReferenceSpec,
    SampleSpec,
    ScheduleSpec,
    SubjectSpec,
    TrainingSpec,
    utc_now,
)
from pe_toolkit.card.compat import UNNAMED
from pe_toolkit.card.edit import shared
from pe_toolkit.card.schema import Integer, ListOf
from pe_toolkit.card.tensors import packed
from pe_toolkit.training.start import begun, scale

if TYPE_CHECKING:
    from pe_toolkit.backbones.contract import Backbone, Sampler
    from pe_toolkit.motion.moves import Moves, Subject
    from pe_toolkit.training.config import Resolved
    from pe_toolkit.training.modes import Mode
    from pe_toolkit.training.prepare import Run
    from pe_toolkit.training.reference import Reference
    from pe_toolkit.training.start import Layers
    from pe_toolkit.video import Clip

_SIZE = ListOf(Integer(1, 65_536), 2, 2)


def _reading_spec(settings: Resolved) -> ReadingSpec | None:
    """The reading, unless it is the paper's at the block of the generation."""
    reading = settings.reading
    if reading == Reading((settings.block,)):
        return None
    return ReadingSpec(blocks=reading.blocks, by=reading.by, timestep=reading.timestep)


def build_card(
    run: Run,
    sampler: Sampler,
    guided: list[int],
    mode: Mode,
    reference: Reference,
    losses: list[tuple[float, float]],
    feedback: int = 0,
) -> MotionCard:
    """Everything known about the run, and its tensors in half precision."""
    config, settings, flow = run.config, run.settings, reference.flow
    positions = settings.parametrisation is not None
    stored, layers = mode.stored().numpy(), mode.layers
    tensors = {
        "positions" if positions else "latents": shared(stored) if positions else stored,
        "flow": flow.displacement.numpy(),
        "flow_mask": packed(flow.mask.numpy()),
    }
    if (phase := reference.phase(run)) is not None:
        tensors["phase"] = phase.cpu().numpy()
    frames, width, height = run.shape
    row = run.backbone.variant
    spec = CardSpec(
        name=config.name,
        version=config.card_version,
        author=config.author,
        license=config.license,
        created=utc_now(),
        kind="positions" if positions else "latents",
        backbone=_backbone(run.backbone),
        grid=GridSpec(frames=run.grid.frames, height=run.grid.height, width=run.grid.width),
        clip=ClipSpec(frames=frames, width=width, height=height, fps=row.fps if row else 8.0),
        schedule=_schedule(settings, sampler, guided),
        recipe=_recipe(
            settings,
            run.backbone.dtype,
            layers,
            start := begun(flow, reference.moves, settings),
            scale(start, reference.moves, settings),
            feedback,
        ),
        samples=tuple(
            SampleSpec(prompt=p, seed=s) for p, s in zip(run.prompts, run.seeds, strict=True)
        ),
        reference=_reference(run.clip, reference),
        training=TrainingSpec(loss=tuple(losses), device=run.backbone.device.type),
        scores={},
        software={"pe-toolkit": __version__}
        | {name: version(name) for name in ("torch", "diffusers", "transformers")},
    )
    return MotionCard(spec, tensors)


def _backbone(backbone: Backbone) -> BackboneSpec:
    return BackboneSpec(
        family=backbone.family,
        variant=backbone.variant.name if backbone.variant else UNNAMED,
        model_id=backbone.model_id,
        revision=backbone.revision,
        fingerprint=backbone.fingerprint(),
        weights_digest=backbone.weights_digest,
        positions=backbone.positions,
    )


def _schedule(settings: Resolved, sampler: Sampler, guided: list[int]) -> ScheduleSpec:
    return ScheduleSpec(
        scheduler=sampler.scheduler_name,
        steps=settings.steps,
        guidance_scale=settings.guidance_scale,
        dynamic_cfg=settings.dynamic_cfg,
        timesteps=tuple(sampler.times[i] for i in guided),
        noise=tuple(sampler.noise[i] for i in guided),
        negative_prompt=settings.negative_prompt or None,
    )


def _recipe(
    settings: Resolved,
    dtype: torch.dtype,
    layers: Layers | None,
    start: str,
    times: float,
    feedback: int,
) -> RecipeSpec:
    moved = start != "zero" and times != 1
    return RecipeSpec(
        name=settings.recipe,
        objective=settings.objective,
        block=settings.block,
        tau=settings.tau,
        mask=settings.mask,
        inner_steps=settings.inner_steps,
        learning_rates=settings.learning_rates,
        parametrisation=settings.parametrisation,
        dtype=str(dtype).removeprefix("torch."),
        guided_range=settings.guided_range,
        start=start,
        seed=settings.seed,
        kv="required" if settings.kv else "none",
        kv_noise="generation" if settings.kv else None,
        reading=_reading_spec(settings),
        start_scale=times if moved else None,
        phase=_phase_spec(settings),
        ground=settings.ground if settings.phase and settings.ground else None,
        layers=None if layers is None else layers.names,
        below=None if layers is None else layers.below,
        feedback=feedback or None,
    )


def _phase_spec(settings: Resolved) -> PhaseSpec | None:
    if not settings.phase:
        return None
    radius, gamma = settings.phase
    return PhaseSpec(radius=radius, gamma=gamma, mean=None if settings.phase_mean else False)


def motion_spec(moves: Moves) -> MotionSpec:
    """What was read of camera and subjects, as a card says it."""
    rows = torch.cat([moves.linear.flatten(1), moves.shift], 1)
    return MotionSpec(
        camera=tuple(_rounded(row) for row in rows),
        subjects=tuple(
            SubjectSpec(
                path=tuple(_rounded(point) for point in subject.path),
                share=round(min(1.0, subject.share), 4),
                size=_rounded(subject.size.exp()) if bool(subject.size.any()) else None,
                turn=_rounded(subject.turn.rad2deg()) if bool(subject.turn.any()) else None,
                disc=_disc(subject, moves),
            )
            for subject in moves.subjects
        ),
    )


def _disc(subject: Subject, moves: Moves) -> tuple[float, ...] | None:
    """What stands for what it covers, in the anchor frame; None where that is not known."""
    if subject.cover is None or not bool(subject.cover.any()):
        return None
    areas = subject.cover.double().sum((1, 2))
    area = areas[areas > 0].mean()  # not while it is hidden
    place = subject.place[moves.anchor].double()
    return _rounded(torch.cat([place, (area / torch.pi).sqrt()[None]]))


def _rounded(values: torch.Tensor) -> tuple[float, ...]:
    return tuple(round(value, 4) + 0.0 for value in values.tolist())


def of_clip(clip: Clip) -> ReferenceSpec:
    """What a card says of its clip, as far as that is known before anything is read of it.

    Raises:
        CardError: a value that no card may hold.
    """
    rules = {field.name: field.metadata["rule"] for field in dataclasses.fields(ReferenceSpec)}
    # By themselves first: others are computed from these.
    own = {"duration": clip.duration, "frames": clip.total_frames, "fps": clip.fps, "fit": clip.fit}
    for name, value in own.items():
        rules[name].check(value, f"{ReferenceSpec.place}.{name}")
    known = clip.source_size is not None
    width, height = _SIZE.check(clip.source_size if known else clip.size, "source_size")
    return ReferenceSpec(
        sha256=clip.sha256,
        duration=clip.duration,
        frames=clip.total_frames,
        width=width,
        height=height,
        fps=clip.total_frames / clip.duration if clip.duration else clip.fps,
        start=clip.start,
        matched=0.0,
        used=clip.used if known and clip.used > 0 else None,
        fit=clip.fit if known else None,
    )


def _reference(clip: Clip, reference: Reference) -> ReferenceSpec:
    return dataclasses.replace(
        of_clip(clip),
        matched=reference.flow.followed,
        encoded=reference.encoded,
        motion=motion_spec(reference.moves),
    )
