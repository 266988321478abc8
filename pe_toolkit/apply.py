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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pe_toolkit.acceleration import caches, ratios
from pe_toolkit.backbones import hooks
from pe_toolkit.backbones.cogvideox import CogVideoXAdapter
from pe_toolkit.backbones.keyvalue import ReferenceKeysValues
from pe_toolkit.backbones.sampling import noise_levels
from pe_toolkit.card import MotionCard
from pe_toolkit.card.compat import check_fits
from pe_toolkit.errors import MismatchError, UnsupportedError, UsageError
from pe_toolkit.grid import TokenGrid
from pe_toolkit.video import Clip


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

    def guides(self, t: int) -> bool:
        """Whether the card says anything at a timestep."""
        return bool(self._mix(t))

    def _mix(self, t: int) -> list[tuple[int, float]]:
        noise = noise_levels(self.adapter.pipe.scheduler, torch.tensor([t]))[0]
        # Levels stored by one library version may differ from another's in the last digits.
        noise = next((level for level in self.levels if abs(level - noise) < 1e-7), noise)
        return weights_at(self.levels, noise)

    def _at(self, t: int) -> Any:
        mix = self._mix(t)
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
def applied(
    pipe: Any,
    card: MotionCard,
    strength: float = 1.0,
    *,
    kv_from: Clip | None = None,
    no_kv: bool = False,
) -> Iterator[Application]:
    """Guide every generation of `pipe` by a positions card while the context is open.

    Args:
        pipe: a CogVideoX pipeline or its adapter, however loaded (LoRA, offload, compiled).
        card: a positions card for this backbone.
        strength: scales the card; 0 leaves the pipeline bit for bit alone, 1 is as trained.
        kv_from: the reference clip, at the card's frames and size: its keys and values are injected
            in the guided steps (see `pe_toolkit.backbones.keyvalue`), at any strength.
        no_kv: apply a card that requires them without.

    Yields:
        An `Application` that counts the guided steps.

    Raises:
        MismatchError: wrong backbone, or (inside, at the call) another grid or frame count than the
            card's.
        UnsupportedError: a latents card (use `replay`), fused QKV, or a nested card.
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
    adapter = _adapter(pipe)
    check_card(adapter, card)
    log = Application(strength)
    kv = _keys_values(adapter, card, kv_from, no_kv) if strength or kv_from is not None else None
    if strength == 0 and kv is None:
        yield log
        return
    select = CardPositions(adapter, card, strength, log)
    expected = TokenGrid(card.spec.grid.frames, card.spec.grid.height, card.spec.grid.width)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_compiled_by_blocks(adapter))
        stack.enter_context(_size_check(adapter, expected, card))
        inject: Callable[[Any], Any] = select
        if kv is not None:
            stack.enter_context(kv.injected(select.guides))
            inject = kv.unless_recording(select)
        stack.enter_context(hooks.positions(adapter.transformer, adapter.positions, inject))
        # A step cache, ours or the user's, must not answer in place of the guided steps.
        stack.enter_context(caches.held_off(adapter.transformer, select.guides))
        yield log


def _keys_values(
    adapter: CogVideoXAdapter, card: MotionCard, clip: Clip | None, waived: bool
) -> ReferenceKeysValues | None:
    """Keys and values of the reference, if they are given, or a refusal if they must be.

    Raises:
        UsageError: the card requires them and there is no clip.
        MismatchError: a clip of another size than the card's.
    """
    spec, own = card.spec, card.spec.reference.sha256
    required = spec.recipe.kv == "required"
    if clip is None:
        if required and not waived:
            raise UsageError(
                "Expected the reference clip for this card: it was trained with the clip's keys "
                f"and values (sha256 {own}).",
                "Use --kv-from REF (kv_from=), or --no-kv (no_kv=True) to do without.",
            )
        if required:
            warnings.warn(
                "The card was trained with keys and values of its reference, and is applied "
                "without them: the motion may be weaker.",
                CardWarning,
                stacklevel=4,
            )
        return None
    frames, height, width = clip.frames.shape[:3]
    if (frames, width, height) != (spec.clip.frames, spec.clip.width, spec.clip.height):
        raise MismatchError(
            f"Expected a reference clip of {spec.clip.frames} frames at {spec.clip.width}x"
            f"{spec.clip.height} for this card's keys and values, got {frames} at {width}x{height}."
        )
    if clip.sha256 != own:
        warnings.warn(
            f"The card was made from the clip with sha256 {own}; keys and values come from "
            f"another one ({clip.sha256}).",
            CardWarning,
            stacklevel=4,
        )
    return ReferenceKeysValues(
        adapter,
        adapter.encode_clip(clip.frames),
        spec.recipe.seed,
        frames,
        width,
        height,
        adapter.encode_image(clip.frames),
    )


@contextlib.contextmanager
def _compiled_by_blocks(adapter: CogVideoXAdapter) -> Iterator[None]:
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
def replay(
    pipe: Any, card: MotionCard, *, kv_from: Clip | None = None, no_kv: bool = False
) -> Iterator[Replay]:
    """Replay a latents card: `with replay(pipe, card) as r: pipe(prompt=..., **r.arguments())`.

    The stored z_t take the place of the pipeline's own at each guided step. `kv_from` and `no_kv`
    as in `applied`.

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
    kv = _keys_values(adapter, card, kv_from, no_kv)
    with contextlib.ExitStack() as stack:
        if kv is not None:
            stack.enter_context(_compiled_by_blocks(adapter))
            stack.enter_context(kv.injected(lambda t: t in stored))
        stack.enter_context(caches.held_off(adapter.transformer, lambda t: t in stored))
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
    cache: str = "none",
    on_step: Callable[[int, int], None] | None = None,
    kv_from: Clip | None = None,
    no_kv: bool = False,
    image: NDArray[np.uint8] | None = None,
) -> Iterator[Generated]:
    """Generate prompts x seeds with the stock pipeline, one video at a time (same bytes in and out
    of a batch).

    Steps, guidance scale, frames and size come from the card, else from the backbone.

    Args:
        scheduler: `ddim` or `dpm`, or None to keep the pipeline's.
        cache: one of `acceleration.CACHES`; off during the guided steps.
        on_step: called after every denoising step with how many are done, and of how many.
        kv_from, no_kv: as in `applied`.
        image: uint8 RGB `(H, W, 3)`: the first frame, for image-to-video backbones.

    Raises:
        UsageError: empty or too long prompts, an unknown scheduler or cache, or a card that guides
            no step.
        UnsupportedError: `cache="mag"` on a backbone that is not calibrated.
        MismatchError: a card that does not fit.
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
        stack.enter_context(_cache(adapter, card, strength, steps, cache))
        if card is not None and card.spec.kind == "latents":
            replaying = replay(adapter, card, kv_from=kv_from, no_kv=no_kv)
            extra = stack.enter_context(replaying).arguments()
        elif card is not None:
            log = stack.enter_context(
                applied(adapter, card, strength, kv_from=kv_from, no_kv=no_kv)
            )
        if image is not None:
            extra["image"] = Image.fromarray(image)
        if on_step is not None:
            extra["callback_on_step_end"] = _reporting(on_step, extra.get("callback_on_step_end"))
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


def _reporting(on_step: Callable[[int, int], None], inner: Any) -> Any:
    """A `callback_on_step_end` that counts, around the one of a latents card if there is one."""

    def callback(pipe: Any, step: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        if inner is not None:
            values = inner(pipe, step, timestep, values)
        on_step(step + 1, int(pipe.num_timesteps))
        return values

    return callback


@contextlib.contextmanager
def _cache(
    adapter: CogVideoXAdapter, card: MotionCard | None, strength: float, steps: int, name: str
) -> Iterator[None]:
    """A step cache that knows how many of the first steps a card guides."""
    if name == "none":
        yield
        return
    timesteps = tuple(int(t) for t in _timesteps(adapter, steps))
    guided = 0
    if card is not None and strength and card.spec.kind == "latents":
        guided = len(card.spec.schedule.timesteps)
    elif card is not None and strength:
        select = CardPositions(adapter, card, strength, Application(strength))
        guided = sum(select.guides(t) for t in timesteps)
    values = None
    if name == "mag":
        row = ratios.load(
            adapter.variant.name if adapter.variant else "this model", adapter.weights_digest
        )
        values = ratios.ratios_for(row, timesteps)
    with caches.cached(adapter.transformer, name, caches.Schedule(timesteps, guided), values):
        yield


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
