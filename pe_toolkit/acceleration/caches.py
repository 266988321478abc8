"""Step caches: late denoising steps reuse what earlier ones computed. Off during guided steps.

diffusers' caches are used as they are, with identifiers that hook CogVideoX, and with a gate in
front of every hook: in a guided step it calls the module itself, so that a card's positions always
act and nothing computed under them is handed on to the plain steps.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import (
    FirstBlockCacheConfig,
    MagCacheConfig,
    PyramidAttentionBroadcastConfig,
    TaylorSeerCacheConfig,
)

from pe_toolkit.acceleration import CACHES
from pe_toolkit.acceleration.timestep import read_timestep
from pe_toolkit.errors import UnsupportedError, UsageError

Guided = Callable[[int], bool]

# Class names of diffusers' cache hooks that the gate knows.
_HOOKS = {
    "PyramidAttentionBroadcastHook",
    "TaylorSeerCacheHook",
    "FBCHeadBlockHook",
    "FBCBlockHook",
    "MagCacheHeadHook",
    "MagCacheBlockHook",
}
_CONFIGS = (
    FirstBlockCacheConfig,
    MagCacheConfig,
    PyramidAttentionBroadcastConfig,
    TaylorSeerCacheConfig,
)


@dataclass(frozen=True)
class Schedule:
    """What a cache must know of a generation: its timesteps, descending, and how many of the first
    are guided.
    """

    timesteps: tuple[int, ...]
    guided: int = 0

    @property
    def steps(self) -> int:
        return len(self.timesteps)


def config_for(name: str, schedule: Schedule, ratios: list[float] | None = None) -> Any:
    """diffusers' configuration of a cache, for CogVideoX.

    - `pab`: attention of every second step is reused between t = 100 and 800 (its authors' range).
    - `taylorseer`: whole blocks are skipped and the output is extrapolated linearly, in every
      second step, from 40 steps on in two of three. diffusers' default patterns match no module
      of CogVideoX; matching `attn1` alone saves a fifth only, and at 5b's size keeps 18 GB.
    - `first-block`: the other blocks are skipped while the first one's residual changes by less
      than 15 %.
    - `mag`: blocks are skipped while the calibrated error stays below 0.12, two steps at most.

    Thresholds from `benchmarks.caches` on the bundled backbone (docs/performance.md).

    `schedule.guided` steps are not seen by the caches, except that `mag` counts them.

    Raises:
        UsageError: an unknown name.
        UnsupportedError: `mag` without calibrated ratios.
    """
    if name == "pab":
        # The timestep is the gate's: the pipeline's own is None outside of its loop.
        return PyramidAttentionBroadcastConfig(
            spatial_attention_block_skip_range=2,
            spatial_attention_timestep_skip_range=(100, 800),
            spatial_attention_block_identifiers=("transformer_blocks",),
            current_timestep_callback=lambda: 0,
        )
    if name == "taylorseer":
        return TaylorSeerCacheConfig(
            # Coarse steps cannot be extrapolated as far.
            cache_interval=3 if schedule.steps >= 40 else 2,
            # The guided steps are a warm-up already; two full steps give a first difference.
            disable_cache_before_step=2 if schedule.guided else max(2, schedule.steps // 5),
            max_order=1,
            taylor_factors_dtype=torch.float32,  # one small tensor: the output, not the blocks
            skip_predict_identifiers=[r"transformer_blocks\.\d+"],
            cache_identifiers=["proj_out"],
        )
    if name == "first-block":
        return FirstBlockCacheConfig(threshold=0.15)
    if name == "mag":
        if ratios is None:
            raise UnsupportedError(
                "Expected a backbone with calibrated ratios for --cache mag, got one without.",
                "Use --cache taylorseer or pab, which need none.",
            )
        if len(ratios) != schedule.steps:
            raise UsageError(f"Expected {schedule.steps} ratios, got {len(ratios)}.")
        return MagCacheConfig(
            threshold=0.12,
            max_skip_steps=2,
            retention_ratio=max(0.2, schedule.guided / schedule.steps),
            num_inference_steps=schedule.steps,
            mag_ratios=ratios,
        )
    raise UsageError(f"Expected a cache out of {', '.join(CACHES)}, got {name!r}.")


@contextlib.contextmanager
def cached(
    transformer: Any, name: str, schedule: Schedule, ratios: list[float] | None = None
) -> Iterator[int]:
    """Enable a cache while the context is open; yields how many hooks it put in.

    Enter it before `held_off`, which keeps it out of the guided steps.

    Raises:
        UsageError: an unknown name, or another cache is enabled already.
        UnsupportedError: `mag` without ratios, or a transformer on which nothing was hooked.
    """
    if name == "none":
        yield 0
        return
    if transformer.is_cache_enabled:
        raise UsageError(
            f"Expected a transformer without a cache for --cache {name}, got one with "
            f"{type(transformer._cache_config).__name__}.",
            "Call pipe.transformer.disable_cache() first, or leave --cache out.",
        )
    config = config_for(name, schedule, ratios)
    now = [0]
    if name == "pab":
        config.current_timestep_callback = lambda: now[0]
    handle = transformer.register_forward_pre_hook(
        lambda module, args, kwargs: now.__setitem__(0, _timestep(args, kwargs)), with_kwargs=True
    )
    transformer.enable_cache(config)
    try:
        count = len(list(_hooks(transformer)))
        if not count:
            raise UnsupportedError(
                f"Expected the cache {name} to hook this transformer, but it found nothing.",
                "Leave --cache out.",
            )
        yield count
    finally:
        handle.remove()
        transformer.disable_cache()


@contextlib.contextmanager
def held_off(transformer: Any, guided: Guided) -> Iterator[None]:
    """Keep whatever cache is enabled out of the steps for which `guided(timestep)` is true.

    Works for caches that the user enabled as well. A new generation (the timestep goes up) begins
    with empty caches, also after one that was interrupted.

    Raises:
        UnsupportedError: a cache that cannot be held off (FasterCache and others), by name; also
            inside, at a pass with another cache than at the beginning.
    """
    config = getattr(transformer, "_cache_config", None)

    def look(module: Any, args: tuple[Any, ...]) -> None:
        now = getattr(transformer, "_cache_config", None)
        if now is not None and now is not config:
            raise UnsupportedError(
                f"Expected no {type(now).__name__} to be switched on under a card: it would answer "
                "in place of guided steps.",
                "Call pipe.transformer.enable_cache(...) before the card is applied.",
            )

    with _watched(transformer, look), _gated(transformer, config, guided):
        yield


@contextlib.contextmanager
def _watched(transformer: Any, look: Callable[[Any, tuple[Any, ...]], None]) -> Iterator[None]:
    handle = transformer.register_forward_pre_hook(look)
    try:
        yield
    finally:
        handle.remove()


@contextlib.contextmanager
def _gated(transformer: Any, config: Any, guided: Guided) -> Iterator[None]:
    """Keep the cache of that configuration out of the guided steps."""
    if config is None:
        yield
        return
    if not isinstance(config, _CONFIGS):
        known = ", ".join(kind.__name__.removesuffix("Config") for kind in _CONFIGS)
        raise UnsupportedError(
            f"Expected one of {known}, got {type(config).__name__}: it cannot be kept out of the "
            "guided steps.",
            "Call pipe.transformer.disable_cache(), or use `--cache`.",
        )
    off, last = [False], [-1]

    def before(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        t = _timestep(args, kwargs)
        if t > last[0]:
            transformer._reset_stateful_cache()
            _keep_context(transformer)
        last[0], off[0] = t, guided(t)

    before_all = transformer.register_forward_pre_hook(before, with_kwargs=True)
    changed = []
    for hook in _hooks(transformer):
        changed.append((hook.fn_ref, hook.fn_ref.forward))
        hook.fn_ref.forward = _gate(hook, hook.fn_ref.forward, off)
    try:
        yield
    finally:
        before_all.remove()
        for reference, forward in changed:
            reference.forward = forward


def _gate(hook: Any, forward: Callable[..., Any], off: list[bool]) -> Callable[..., Any]:
    counts = type(hook).__name__ == "MagCacheBlockHook" and hook.is_tail

    def run(*args: Any, **kwargs: Any) -> Any:
        if not off[0]:
            return forward(*args, **kwargs)
        out = hook.fn_ref.original_forward(*args, **kwargs)
        if counts:  # its ratios belong to step numbers
            hook._advance_step(hook.state_manager.get_state())
        return out

    return run


def _hooks(transformer: Any) -> Iterator[Any]:
    """Every cache hook of a transformer."""
    for module in transformer.modules():
        registry = getattr(module, "_diffusers_hook", None)
        for hook in registry.hooks.values() if registry is not None else ():
            if type(hook).__name__ in _HOOKS:
                yield hook


def _keep_context(transformer: Any) -> None:
    """A reset inside of a pass forgets the pass's own cache context."""
    from diffusers.hooks.hooks import CacheContext, _set_cache_context

    _set_cache_context(transformer, CacheContext("cond_uncond"))


def _timestep(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    return read_timestep(kwargs["timestep"] if "timestep" in kwargs else args[2])
