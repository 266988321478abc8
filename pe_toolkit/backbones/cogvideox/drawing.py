"""Schedulers that draw noise at every step, and something else in place of what they draw."""

from __future__ import annotations

import contextlib
import functools
import inspect
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from diffusers import CogVideoXDPMScheduler

from pe_toolkit.motion.renewed import Renewal

Draws = Callable[[torch.Tensor, float], torch.Tensor]
"""What is taken instead of noise `(N, F', C, h, w)` that is drawn, which makes up that share (0 to
1) of the noise after the step.
"""


def instead(again: Renewal, began: torch.Tensor) -> Draws:
    """What `again` makes of what is drawn in generations that began with that noise."""
    return lambda drawn, part: again(drawn, began, part)


@contextlib.contextmanager
def drawing(scheduler: Any, instead: Draws) -> Iterator[None]:
    """While the context is open, `scheduler` takes `instead` of what it draws, as `redrawn` says.
    A `step` of the user's own is there again on exit.
    """
    before = scheduler.__dict__.get("step")
    redrawn(scheduler, instead)
    try:
        yield
    finally:
        scheduler.__dict__.pop("step", None)  # the method of the class is there again
        if before is not None:
            scheduler.step = before


def redrawn(scheduler: Any, instead: Draws) -> None:
    """From now on, `scheduler` takes `instead` of what it draws; generators go on as ever.

    Of schedulers that draw, CogVideoX's DPM is known. Another one is left alone, and warned of once
    it draws.
    """
    own = type(scheduler).step
    plain = inspect.unwrap(own)
    if "randn_tensor" not in plain.__globals__:  # it cannot draw as diffusers' schedulers do
        return
    part: list[float] = []

    def draw(*args: Any, **options: Any) -> torch.Tensor:
        drawn: torch.Tensor = plain.__globals__["randn_tensor"](*args, **options)
        if part:
            return instead(drawn, part[-1])
        warnings.warn(
            f"{type(scheduler).__name__} draws noise at every step, and the card's phase gets lost "
            "in it: take CogVideoXDDIMScheduler or CogVideoXDPMScheduler.",
            stacklevel=4,
        )
        return drawn

    copied = _with_globals(plain, randn_tensor=draw)
    signature = inspect.signature(own)

    @functools.wraps(own)  # the pipeline looks at the signature
    def step(self: Any, *args: Any, **options: Any) -> Any:
        if isinstance(self, CogVideoXDPMScheduler):
            timestep = signature.bind(self, *args, **options).arguments["timestep"]
            part[:] = [fresh(self, int(timestep))]
        return copied(self, *args, **options)

    scheduler.step = types.MethodType(step, scheduler)


def _with_globals(function: Any, **changed: Any) -> Any:
    """A copy with other globals: who calls `function`, in another thread too, calls it as ever."""
    made = types.FunctionType(
        function.__code__,
        function.__globals__ | changed,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    made.__kwdefaults__ = function.__kwdefaults__
    return made


def fresh(scheduler: Any, timestep: int) -> float:
    """u of `motion.renewed` for a step of CogVideoX's DPM: sqrt(1 - exp(-2 h)), with exp(2 h) the
    signal-to-noise ratio (of variances) after it, in times of that before.
    """
    config, count = scheduler.config, int(scheduler.num_inference_steps or 1)
    following = timestep - config.num_train_timesteps // count
    kept = scheduler.alphas_cumprod
    now, then = kept[timestep], kept[following] if following >= 0 else scheduler.final_alpha_cumprod
    return float((1 - now / (1 - now) * (1 - then) / then) ** 0.5)
