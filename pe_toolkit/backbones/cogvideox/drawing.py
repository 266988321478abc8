"""Something else in place of the noise that a scheduler draws at every step, as CogVideoX's DPM."""

from __future__ import annotations

import functools
import inspect
import types
import warnings
from collections.abc import Callable
from typing import Any

import torch
from diffusers import CogVideoXDPMScheduler

from pe_toolkit.motion.renewed import Renewal


def redraw(
    scheduler: Any, again: Renewal, began: torch.Tensor, done: Callable[[], None] | None = None
) -> None:
    """From now on `scheduler` takes what `again` makes of what it draws, in generations that began
    with the noise `began`; generators go on as ever. `restore` undoes it.

    Of schedulers that draw, CogVideoX's DPM is known. One that draws with a `step` of the user's
    own, or of another class, is left alone, and warned of.

    Args:
        done: called after the last step of a generation.
    """
    restore(scheduler)
    own, part = type(scheduler).step, 0.0
    known = own is CogVideoXDPMScheduler.step
    plain = inspect.unwrap(own)
    if "step" in scheduler.__dict__ or "randn_tensor" not in plain.__globals__:
        if isinstance(scheduler, CogVideoXDPMScheduler):
            _warn(scheduler)
        return

    def draw(*args: Any, **options: Any) -> torch.Tensor:
        drawn: torch.Tensor = plain.__globals__["randn_tensor"](*args, **options)
        if not known:
            _warn(scheduler)
        # Another pipeline may have the same scheduler.
        return again(drawn, began, part) if known and drawn.shape == began.shape else drawn

    # A copy with `draw` among its globals: other schedulers of the class, in other threads too,
    # draw as ever.
    copied = types.FunctionType(
        plain.__code__, plain.__globals__ | {"randn_tensor": draw}, plain.__name__,
        plain.__defaults__, plain.__closure__,
    )  # fmt: skip
    copied.__kwdefaults__ = plain.__kwdefaults__
    signature = inspect.signature(own)

    @functools.wraps(own)  # the pipeline looks at the signature
    def step(self: Any, *args: Any, **options: Any) -> Any:
        nonlocal part
        if not known:
            return copied(self, *args, **options)
        timestep = int(signature.bind(self, *args, **options).arguments["timestep"])
        part = fresh(self, timestep)
        result = copied(self, *args, **options)
        if done is not None and _following(self, timestep) < 0:
            done()
        return result

    step.redraws = True  # type: ignore[attr-defined]
    scheduler.step = types.MethodType(step, scheduler)


def restore(scheduler: Any) -> None:
    """Undo `redraw`."""
    if getattr(scheduler.__dict__.get("step"), "redraws", False):
        del scheduler.step  # the method of the class is there again


def _warn(scheduler: Any) -> None:
    warnings.warn(
        f"{type(scheduler).__name__} draws noise at every step, and the card's phase gets lost in "
        "it: take CogVideoXDDIMScheduler or CogVideoXDPMScheduler.",
        stacklevel=4,
    )


def _following(scheduler: Any, timestep: int) -> int:
    """The timestep after a step, below 0 after the last one."""
    count = int(scheduler.num_inference_steps or 1)
    return timestep - int(scheduler.config.num_train_timesteps) // count


def fresh(scheduler: Any, timestep: int) -> float:
    """u of `motion.renewed` for a step of CogVideoX's DPM: sqrt(1 - exp(-2 h)), with exp(2 h) the
    signal-to-noise ratio (of variances) after it, in times of that before.
    """
    following, kept = _following(scheduler, timestep), scheduler.alphas_cumprod
    now, then = kept[timestep], kept[following] if following >= 0 else scheduler.final_alpha_cumprod
    return float((1 - now / (1 - now) * (1 - then) / then) ** 0.5)
