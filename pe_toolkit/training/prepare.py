"""Before any work: what is asked, held against what the backbone can do."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pe_toolkit.card.asked import check_words, checked_prompts, checked_seeds
from pe_toolkit.errors import CardError, UsageError, option
from pe_toolkit.motion.disc import fits
from pe_toolkit.objectives.others import objective_of
from pe_toolkit.shown import shown
from pe_toolkit.training import events
from pe_toolkit.training.config import Resolved, TrainConfig
from pe_toolkit.training.describe import of_clip
from pe_toolkit.training.modes import LatentMode, Mode, PositionMode, Problem
from pe_toolkit.training.recipes import PAPER_SHARE
from pe_toolkit.training.schedule import guided_steps
from pe_toolkit.training.start import first_positions
from pe_toolkit.video import Clip, require_motion
from pe_toolkit.video.picture import resize

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pe_toolkit.backbones.catalogue.variants import Variant
    from pe_toolkit.backbones.contract import Backbone, Sampler
    from pe_toolkit.embedding.base import PositionalForm
    from pe_toolkit.grid import TokenGrid
    from pe_toolkit.motion.moves import Moves
    from pe_toolkit.training.reference import Reference


@dataclass(frozen=True)
class Run:
    """A training whose request makes sense: everything that the following steps go by.

    Attributes:
        variant: the row that defaults came from.
        prompts, seeds: one of each per sample.
        grid: the token grid of clip and generations.
        form: what is optimised; None in latents mode.
        image: uint8 RGB `(H, W, 3)` that the samples begin with (image-to-video), else None.
    """

    backbone: Backbone
    clip: Clip
    config: TrainConfig
    settings: Resolved
    variant: Variant
    prompts: list[str]
    seeds: list[int]
    grid: TokenGrid
    form: PositionalForm | None
    image: NDArray[np.uint8] | None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(frames, width, height) of clip and generations in pixels."""
        frames, height, width = self.clip.frames.shape[:3]
        return frames, width, height

    def sampler(self) -> Sampler:
        """The generations that are guided, at their beginning."""
        frames, width, height = self.shape
        settings = self.settings
        return self.backbone.sampler(
            self.prompts,
            self.seeds,
            steps=settings.steps,
            guidance_scale=settings.guidance_scale,
            dynamic_cfg=settings.dynamic_cfg,
            negative_prompt=settings.negative_prompt,
            frames=frames,
            width=width,
            height=height,
            image=self.image,
        )

    def guiding(self, sampler: Sampler) -> tuple[Run, list[int]]:
        """Which steps are guided; the run with the range that they lie in.

        Raises:
            UsageError: none is.
        """
        run = self
        if self.settings.guided_first:
            share = max(1, round(self.settings.steps * PAPER_SHARE))
            bounds = (sampler.noise[share - 1], sampler.noise[0])
            settings = dataclasses.replace(self.settings, guided_range=bounds)
            run = dataclasses.replace(self, settings=settings)
        return run, guided_steps(sampler.noise, run.settings.guided_range)

    def seeing(self, moves: Moves, sampler: Sampler) -> tuple[Run, list[int]]:
        """The run, and which steps are guided, once it is known what moves; what was asked
        for stays (docs/experiments.md).

        - With a start of `auto` a camera that moves but does not roll guides all steps, on the
          bundled backbones, where there is a ground and nothing is optimised: the last steps decide
          where a background's texture is. Of one that rolls they fray the edges of things.
        - Phase and ground are those of its kind (`Moves.kind`): there is no ground where that takes
          motions away, of two things and before a camera that rolls; there the means of planes are
          left to the noise. A phase that was measured with its ground is not taken without.

        Raises:
            UsageError: no step is guided.
        """
        changes: dict[str, Any] = {"noise_of": None}
        settings, asked = self.settings, self.config
        moved = settings.start == "auto" and moves.camera and not moves.rolls
        free = not settings.inner_steps and asked.guided_range is None and self.variant.bundled
        if moved and settings.ground and free:
            changes["guided_range"] = (0.0, 1.0)
        if noise := (settings.noise_of or {}).get(moves.kind):
            with_it = asked.ground is None or not noise.ground
            if asked.phase is None and with_it and fits(noise.radius, *sampler.latents.shape[-2:]):
                changes["phase"] = (noise.radius, noise.gamma)
            if asked.ground is None:
                changes["ground"] = noise.ground
            if asked.phase is None:
                changes["phase_mean"] = noise.mean or bool(changes.get("ground", settings.ground))
        run = dataclasses.replace(self, settings=dataclasses.replace(settings, **changes))
        return run, guided_steps(sampler.noise, run.settings.guided_range)

    def mode(self, sampler: Sampler, reference: Reference, silence: torch.Tensor) -> Mode:
        """What is optimised, against the objective that the reference sets; `silence` is
        `encode_text([""])`.
        """
        settings, seen = self.settings, reference.seen_by(self, silence)
        objective = objective_of(settings.objective, seen, settings.tau)
        problem = Problem(sampler, objective, settings.block, settings.reuse)
        if self.form is None:
            return LatentMode(problem)
        start, layers = first_positions(self.form, reference.flow, reference.moves, settings)
        return PositionMode(problem, self.form, start.to(self.backbone.device), layers)

    def started(self, guided: list[int]) -> events.Started:
        """The first event."""
        settings = self.settings
        inner = f"K = {settings.inner_steps}"
        if self.form is not None and not settings.inner_steps:
            inner = "nothing optimised"
        return events.Started(
            settings.mode,
            len(guided),
            settings.inner_steps,
            len(self.prompts),
            str(self.grid),
            f"{len(guided)} guided of {settings.steps} steps, {inner}, block {settings.block}",
        )


def prepare(
    backbone: Backbone, clip: Clip, config: TrainConfig, image: NDArray[np.uint8] | None
) -> Run:
    """Fill in the defaults and refuse what cannot work.

    Raises:
        UsageError: a request that makes no sense.
        UnsupportedError: weights, compiled blocks, attention or a scheduler that training cannot
            work with.
        MotionError: nothing in the clip moves.
    """
    config = checked(config)
    _check_clip(clip)
    require_motion(clip)
    variant = backbone.defaults()
    settings = config.resolve(variant)
    backbone.check_trainable(compiled=config.compile)
    frames, height, width = clip.frames.shape[:3]
    grid = backbone.grid_for(frames, width, height)
    if grid.frames < 2:
        raise UsageError(
            f"Expected two latent frames of tokens or more, between which something can move, got "
            f"one: {frames} frames.",
            f"Use more ({option('frames')}).",
        )
    steps = settings.mode == "latents" or bool(settings.inner_steps)
    if steps or config.preview or settings.feedback:
        backbone.check_scheduler(stepping=True)
    if steps and torch.is_inference_mode_enabled():
        raise UsageError(
            "Expected a training outside of torch.inference_mode(), which takes its gradients away."
        )
    for block in (settings.block, *settings.reading.blocks):
        backbone.check_block(block)
    prompts, seeds = samples(backbone, variant, config, settings)
    if image is None and backbone.image_to_video:
        image = clip.frames[0]
    backbone.check_image(image)
    if image is not None:
        image = resize(image, clip.size, clip.fit)
    form = None
    if settings.parametrisation is not None:
        form = backbone.form(settings.parametrisation, frames, width, height)
    return Run(backbone, clip, config, settings, variant, prompts, seeds, grid, form, image)


def _check_clip(clip: Clip) -> None:
    """Refuse now what neither the training nor the card at its end can work with."""
    hint = "Read it with pe_toolkit.read_clip."
    if not isinstance(clip, Clip):
        raise UsageError(f"Expected a clip, got {shown(clip)}.", hint)
    frames = clip.frames
    if not isinstance(frames, np.ndarray):
        raise UsageError(
            f"Expected a clip of frames in a NumPy array, got {type(frames).__name__}.", hint
        )
    if frames.ndim != 4 or frames.shape[3] != 3 or not frames.size or frames.dtype != np.uint8:
        raise UsageError(
            f"Expected a clip of frames uint8 (F, H, W, 3), got {frames.dtype} {frames.shape}.",
            hint,
        )
    try:
        of_clip(clip)
    except CardError as error:
        raise UsageError(error.message, hint) from error


def checked(config: TrainConfig) -> TrainConfig:
    """The request, whose words a card can hold.

    Raises:
        UsageError: they, the prompts or the seeds make no sense.
    """
    prompts = tuple(checked_prompts(config.prompts))
    check_words(
        name=config.name,
        card_version=config.card_version,
        author=config.author,
        license=config.license,
    )
    (seed,) = checked_seeds([config.seed])
    return dataclasses.replace(config, prompts=prompts, seed=seed)


def samples(
    backbone: Backbone, variant: Variant, config: TrainConfig, settings: Resolved
) -> tuple[list[str], list[int]]:
    """Prompts and seeds, one of each per sample; prompts are taken in turn.

    Raises:
        UsageError: an empty or too long prompt.
    """
    known = config.prompts or variant.training_prompts
    for prompt in known:
        backbone.check_prompt(prompt)
    count: Any = settings.samples
    if config.samples is None:
        count = max(settings.samples, len(config.prompts))
    if settings.mode == "latents":
        count = 1
    seeds = checked_seeds(settings.seed + i for i in range(count))
    return [known[i % len(known)] for i in range(count)], seeds
