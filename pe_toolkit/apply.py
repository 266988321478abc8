"""Applying a card: an ordinary generation in which the card's positions replace the model's own.

    with applied(pipe, card):
        video = pipe(prompt="...").frames[0]

The pipeline stays the user's: hooks come off on exit, whatever happens inside, and its output
without the card is bit for bit what it was before.
"""

from __future__ import annotations

import bisect
import contextlib
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pe_toolkit.backbones import hooks
from pe_toolkit.backbones.cogvideox import CogVideoXAdapter
from pe_toolkit.backbones.sampling import noise_levels
from pe_toolkit.card import MotionCard
from pe_toolkit.card.compat import check_fits
from pe_toolkit.errors import MismatchError, UnsupportedError, UsageError
from pe_toolkit.grid import TokenGrid


class CardWarning(UserWarning):
    """A card is used in another way than it was made for; it may still work."""


@dataclass
class Application:
    """What an applied card did: the timesteps that were guided since the context was entered."""

    strength: float
    timesteps: set[int] = field(default_factory=set)

    @property
    def guided_steps(self) -> int:
        """How many denoising steps the card guided; 0 before a generation, and at strength 0."""
        return len(self.timesteps)


def weights_at(levels: Sequence[float], noise: float) -> list[tuple[int, float]]:
    """How stored noise levels mix at one noise level: `[(index, weight), ...]`, weights adding up
    to 1.

    Levels descend. At a stored level exactly that one; between two, linear in noise; beyond the
    range the last one is held for half a step, after that nothing (an empty list).
    """
    if not levels:
        return []
    ascending = list(reversed(levels))
    last = len(levels) - 1
    if noise >= ascending[-1] or noise <= ascending[0]:
        edge, neighbour = (0, 1) if noise >= levels[0] else (last, last - 1)
        # The noise levels of one step of a single stored level are unknown: hold it for half a
        # percent.
        reach = abs(levels[edge] - levels[neighbour]) / 2 if last else 0.005
        return [(edge, 1.0)] if abs(noise - levels[edge]) <= reach + 1e-9 else []
    above = bisect.bisect_left(ascending, noise)
    if ascending[above] == noise:
        return [(last - above, 1.0)]
    low, high = ascending[above - 1], ascending[above]
    share = (noise - low) / (high - low)
    return [(last - above, share), (last - above + 1, 1 - share)]


class CardPositions:
    """Looks up, mixes and caches what a positions card injects at each timestep."""

    def __init__(
        self, adapter: CogVideoXAdapter, card: MotionCard, strength: float, log: Application
    ) -> None:
        spec = card.spec
        self.adapter, self.log, self.strength = adapter, log, strength
        form = spec.recipe.parametrisation
        assert form is not None  # a positions card always has one (checked by the card layer)
        self.form = adapter.form(form, spec.clip.frames, spec.clip.width, spec.clip.height)
        self.levels = list(spec.schedule.noise)
        self.deltas = torch.from_numpy(np.ascontiguousarray(card.tensors["positions"]))
        if tuple(self.deltas.shape[1:]) != tuple(self.form.shape):
            raise MismatchError(
                f"Expected positions of shape {tuple(self.form.shape)} per step, got "
                f"{tuple(self.deltas.shape[1:])}.",
                "This card was made for another model; `pe show` says which.",
            )
        self.cache: dict[int, Any] = {}

    def __call__(self, timestep: torch.Tensor) -> Any:
        """The injected positions at a timestep, or None to leave the model's own."""
        t = int(timestep.flatten()[0])
        if t not in self.cache:
            self.cache[t] = self._at(t)
        if self.cache[t] is not None:
            self.log.timesteps.add(t)
        return self.cache[t]

    def _at(self, t: int) -> Any:
        noise = noise_levels(self.adapter.pipe.scheduler, torch.tensor([t]))[0]
        # Levels stored by one library version may differ from another's in the last digits.
        noise = next((level for level in self.levels if abs(level - noise) < 1e-7), noise)
        mix = weights_at(self.levels, noise)
        if not mix:
            return None
        delta = (
            self.deltas[mix[0][0]].float()
            if len(mix) == 1
            else sum(self.deltas[i].float() * w for i, w in mix)
        )
        return self.form.embed((delta * self.strength).to(self.adapter.device))  # type: ignore[union-attr]


def _adapter(pipe: Any) -> CogVideoXAdapter:
    return pipe if isinstance(pipe, CogVideoXAdapter) else CogVideoXAdapter(pipe)


def check_card(adapter: CogVideoXAdapter, card: MotionCard) -> None:
    """Refuse a card that does not fit; warn where it might.

    Raises:
        MismatchError: wrong backbone, grid or frame count; says what would fit.
    """
    spec = card.spec
    grid = adapter.grid_for(spec.clip.frames, spec.clip.width, spec.clip.height)
    for text in check_fits(
        spec,
        family=adapter.family,
        fingerprint=adapter.fingerprint(),
        positions=adapter.positions,
        grid=grid,
        frames=spec.clip.frames,
        width=spec.clip.width,
        height=spec.clip.height,
        # A plain pipeline does not say what it is called; its architecture was compared above.
        variant=adapter.variant.name if adapter.variant else spec.backbone.variant,
        model_id=adapter.model_id,
        revision=adapter.revision,
        weights_digest=adapter.weights_digest,
    ):
        warnings.warn(text, CardWarning, stacklevel=4)


@contextlib.contextmanager
def applied(pipe: Any, card: MotionCard, strength: float = 1.0) -> Iterator[Application]:
    """Guide every generation of `pipe` by a positions card while the context is open.

    Args:
        pipe: a CogVideoX pipeline or its adapter, however loaded (LoRA, offload, compiled).
        card: a positions card for this backbone.
        strength: scales the card; 0 leaves the pipeline bit for bit alone, 1 is as trained.

    Yields:
        An `Application` that counts the guided steps.

    Raises:
        MismatchError: wrong backbone, or (inside, at the call) another grid or frame count than the
            card's.
        UnsupportedError: a latents card (use `replay`), fused QKV, or a nested card.
        UsageError: a strength that is not a finite number.
    """
    if card.spec.kind != "positions":
        raise UnsupportedError(
            "Expected a positions card, got a latents card: it holds the latents of one prompt "
            "and seed.",
            "Use replay(pipe, card), or train with --mode positions.",
        )
    if not np.isfinite(strength):
        raise UsageError(f"Expected a finite strength, got {strength}.")
    adapter = _adapter(pipe)
    check_card(adapter, card)
    log = Application(strength)
    if strength == 0:
        yield log
        return
    select = CardPositions(adapter, card, strength, log)
    expected = TokenGrid(card.spec.grid.frames, card.spec.grid.height, card.spec.grid.width)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_size_check(adapter, expected, card))
        stack.enter_context(hooks.positions(adapter.transformer, adapter.positions, select))
        yield log


@contextlib.contextmanager
def _size_check(adapter: CogVideoXAdapter, expected: TokenGrid, card: MotionCard) -> Iterator[None]:
    """Refuse, at the first forward pass, latents of another size than the card's."""
    config = adapter.transformer.config
    clip = card.spec.clip

    def before(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        x = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
        got = TokenGrid(
            x.shape[1] // (config.patch_size_t or 1),
            x.shape[3] // config.patch_size,
            x.shape[4] // config.patch_size,
        )
        if got != expected:
            raise MismatchError(
                f"Expected a generation of {clip.frames} frames at {clip.width}x{clip.height} "
                "(token grid "
                f"{expected}), which this card was trained for, got the grid {got}.",
                f"Call pipe(..., num_frames={clip.frames}, width={clip.width}, "
                f"height={clip.height}).",
            )

    handle = adapter.transformer.register_forward_pre_hook(before, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@dataclass(frozen=True)
class Replay:
    """Pass `latents` and `callback_on_step_end` to the pipeline, together with the card's steps and
    guidance.
    """

    latents: torch.Tensor | None
    callback_on_step_end: Any

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments to add to a `pipe(...)` call."""
        out: dict[str, Any] = {"callback_on_step_end": self.callback_on_step_end}
        if self.latents is not None:
            out["latents"] = self.latents
        return out


@contextlib.contextmanager
def replay(pipe: Any, card: MotionCard) -> Iterator[Replay]:
    """Replay a latents card: `with replay(pipe, card) as r: pipe(prompt=..., **r.arguments())`.

    The stored z_t take the place of the pipeline's own at each guided step.

    Raises:
        UnsupportedError: a positions card (use `applied`).
        MismatchError: another backbone or size.
    """
    if card.spec.kind != "latents":
        raise UnsupportedError(
            "Expected a latents card, got a positions card.", "Use applied(pipe, card)."
        )
    adapter = _adapter(pipe)
    check_card(adapter, card)
    stored = {
        t: torch.from_numpy(z)[None]
        for t, z in zip(
            card.spec.schedule.timesteps, np.ascontiguousarray(card.tensors["latents"]), strict=True
        )
    }
    first = max(stored)

    def callback(pipe: Any, step: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        steps = pipe.scheduler.timesteps
        if step + 1 < len(steps):
            kept = stored.get(int(steps[step + 1]))
            if kept is not None:
                latents = values["latents"]
                values["latents"] = kept.to(latents).expand_as(latents).clone()
        return values

    whole = first == max(int(t) for t in _timesteps(adapter, card.spec.schedule.steps))
    start = stored[first].to(adapter.device, adapter.dtype) if whole else None
    yield Replay(start, callback)


def _timesteps(adapter: CogVideoXAdapter, steps: int) -> torch.Tensor:
    import copy

    scheduler = copy.deepcopy(adapter.pipe.scheduler)
    scheduler.set_timesteps(steps)
    return scheduler.timesteps  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Generated:
    """One video: uint8 RGB frames `(F, H, W, 3)`, and how it came about."""

    prompt: str
    seed: int
    frames: NDArray[np.uint8]
    fps: float
    guided_steps: int
    seconds: float


def generate(
    adapter: CogVideoXAdapter,
    prompts: Sequence[str],
    seeds: Sequence[int],
    *,
    card: MotionCard | None = None,
    strength: float = 1.0,
    steps: int | None = None,
    guidance_scale: float | None = None,
    negative_prompt: str = "",
    scheduler: str | None = None,
) -> Iterator[Generated]:
    """Generate prompts x seeds with the stock pipeline, one video at a time (same bytes in and out
    of a batch).

    Steps, guidance scale, frames and size come from the card, else from the backbone.

    Args:
        scheduler: `ddim` or `dpm`, or None to keep the pipeline's.

    Raises:
        UsageError: empty or too long prompts, an unknown scheduler, or a card that guides no step.
        MismatchError: a card that does not fit.
    """
    variant, spec = adapter.variant, card.spec if card is not None else None
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
        dynamic = spec.schedule.dynamic_cfg
    else:
        frames, (width, height) = adapter.frames, adapter.size
        fps, dynamic = (variant.fps, variant.dynamic_cfg) if variant else (8.0, False)
        steps = steps or (variant.steps if variant else 50)
        guidance_scale = (
            guidance_scale
            if guidance_scale is not None
            else (variant.guidance_scale if variant else 6.0)
        )
    with _scheduler(adapter, scheduler), contextlib.ExitStack() as stack:
        log: Application | None = None
        extra: dict[str, Any] = {}
        if card is not None and card.spec.kind == "latents":
            extra = stack.enter_context(replay(adapter, card)).arguments()
        elif card is not None:
            log = stack.enter_context(applied(adapter, card, strength))
        for prompt in prompts:
            for seed in seeds:
                began = time.monotonic()
                if log is not None:
                    log.timesteps.clear()
                video = adapter.pipe(
                    prompt=prompt,
                    negative_prompt=negative_prompt or None,
                    num_frames=frames,
                    width=width,
                    height=height,
                    num_inference_steps=steps,
                    guidance_scale=guidance_scale,
                    use_dynamic_cfg=dynamic,
                    generator=torch.Generator("cpu").manual_seed(seed),
                    max_sequence_length=adapter.max_text_tokens,
                    output_type="np",
                    **extra,
                ).frames[0]
                if log is not None and strength and not log.guided_steps:
                    assert spec is not None
                    raise UsageError(
                        f"Expected {steps} steps to visit the noise levels "
                        f"{spec.schedule.noise[-1]:.3f} .. "
                        f"{spec.schedule.noise[0]:.3f} that the card guides, but none did.",
                        f"Use --steps {spec.schedule.steps}, as the card was trained with.",
                    )
                guided = log.guided_steps if log else (spec.guided_steps if spec else 0)
                pixels = np.rint(np.asarray(video) * 255).astype(np.uint8)
                yield Generated(prompt, seed, pixels, fps, guided, time.monotonic() - began)


@contextlib.contextmanager
def _scheduler(adapter: CogVideoXAdapter, name: str | None) -> Iterator[None]:
    """Swap the pipeline's scheduler for the time of a generation."""
    from diffusers import CogVideoXDDIMScheduler, CogVideoXDPMScheduler

    kinds = {"ddim": CogVideoXDDIMScheduler, "dpm": CogVideoXDPMScheduler}
    if name is None:
        yield
        return
    if name not in kinds:
        raise UsageError(f"Expected a scheduler out of {', '.join(kinds)}, got {name!r}.")
    before = adapter.pipe.scheduler
    adapter.pipe.scheduler = kinds[name].from_config(before.config)
    try:
        yield
    finally:
        adapter.pipe.scheduler = before
