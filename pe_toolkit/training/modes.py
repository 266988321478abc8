"""What is optimised in a guided step: the positions, or the latents."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch

from pe_toolkit.backbones.contract import Sampler
from pe_toolkit.backbones.precision import unrounded
from pe_toolkit.embedding.base import PositionalForm
from pe_toolkit.errors import TrainingError
from pe_toolkit.objectives.base import Objective
from pe_toolkit.training.scaling import GradientScaling
from pe_toolkit.training.start import Layers


class Mode(Protocol):
    """One way to guide: `current` is what the position hooks inject, `results` what was optimised
    in each guided step, in float16.
    """

    problem: Problem
    current: Any
    results: list[torch.Tensor]
    carried: torch.Tensor

    @property
    def layers(self) -> Layers | None:
        """Those of the positions, if they have some."""
        ...

    def stored(self) -> torch.Tensor:
        """What the card holds: float16, of every guided step, on the CPU."""
        ...

    def optimise(self, index: int, rate: float, inner_steps: int) -> Iterator[float]:
        """Run the inner steps of one guided step; yields the loss before each, and the last one
        after.
        """
        ...


class Pending:
    """A number on its way from the device.

    `float(tensor)` waits until a GPU has done everything that it was asked so far, later steps
    included. This asks for the copy at once and later waits for the copy alone.
    """

    def __init__(self, value: torch.Tensor) -> None:
        self._value, self._there = value, None
        if value.is_cuda:
            self._value = value.to("cpu", non_blocking=True)
            self._there = torch.cuda.Event()
            self._there.record(torch.cuda.current_stream(value.device))

    def number(self) -> float:
        """The value, once it is there."""
        if self._there is not None:
            self._there.synchronize()
        return float(self._value)


class Problem:
    """The loss of all samples at one step of the trajectory, as a function of what is optimised."""

    def __init__(
        self,
        sampler: Sampler,
        objective: Objective,
        block: int,
        reuse: int = 1,
    ) -> None:
        self.sampler, self.objective, self.block = sampler, objective, block
        self.reuse = reuse
        self.scaling = GradientScaling(sampler.dtype == torch.float16)

    @torch.enable_grad()
    def backward(self, index: int, latents: torch.Tensor, embed: Any = None) -> torch.Tensor:
        """Accumulate gradients of the mean loss over samples; returns that loss, still on the
        device.

        `latents` is `(N, ...)`; `embed` rebuilds the injected positions for every chunk,
        because each backward pass frees its graph. Only the conditional branch is used (the paper,
        section 4.2).
        """
        sampler, count = self.sampler, latents.shape[0]
        total = torch.zeros((), device=latents.device)
        for first in range(0, count, sampler.together):
            part = slice(first, first + sampler.together)
            if embed is not None:
                embed()
            tapped = self._tapped(index, latents[part], part)
            share = tapped[0].shape[0] / count
            total = total + self.scaling.backward(self.objective, tapped, share)
        return total

    def _tapped(self, index: int, latents: torch.Tensor, part: slice) -> tuple[torch.Tensor, ...]:
        """What the objective reads of the block."""
        if self.objective.reads == "features":
            return (self.sampler.features(index, latents, part, self.block),)
        return self.sampler.queries_and_keys(index, latents, part, self.block)

    def descend(
        self,
        parameter: torch.Tensor,
        index: int,
        rate: float,
        inner_steps: int,
        loss: Callable[[], torch.Tensor],
    ) -> Iterator[float]:
        """Adam's steps on `parameter` (default betas and epsilon, new state in every guided step).

        `loss` leaves its gradient in `parameter.grad`. Yields the loss before each step. Its value
        is read one step late: while the device computes, the next step is already asked for, and
        reading does not wait for that (see `Pending`).

        In float16, all of them are taken again (and their losses yielded) from where `parameter`
        was, with gradients scaled lower, if one gradient was too large.

        Raises:
            TrainingError: if the loss is not finite, or a gradient too large however it is scaled.
        """
        if not self.scaling.active:
            yield from self._attempt(parameter, index, rate, inner_steps, loss, None)
            return
        start = parameter.detach().clone()
        undoing = parameter.register_hook(self.scaling.undo)
        try:
            while True:
                lost = torch.zeros((), dtype=torch.bool, device=parameter.device)
                yield from self._attempt(parameter, index, rate, inner_steps, loss, lost)
                if not Pending(lost).number():
                    return
                self.scaling.lower(index)
                with torch.no_grad():
                    parameter.copy_(start)
        finally:
            undoing.remove()

    def _attempt(
        self,
        parameter: torch.Tensor,
        index: int,
        rate: float,
        inner_steps: int,
        loss: Callable[[], torch.Tensor],
        lost: torch.Tensor | None,
    ) -> Iterator[float]:
        """The steps of `descend`; a gradient that is not finite sets `lost` and counts as zero."""
        adam = torch.optim.Adam([parameter], lr=rate)
        waiting: Pending | None = None
        for inner in range(inner_steps):
            if inner % self.reuse == 0:
                adam.zero_grad(set_to_none=True)
                value = Pending(loss())
                if parameter.grad is None:
                    raise TrainingError(
                        "Expected a loss that depends on what is optimised, got one that does not.",
                        "The objective comes from another package: its `loss` is to be computed "
                        "from what it is given.",
                    )
                if lost is not None and parameter.grad is not None:
                    broken = ~parameter.grad.isfinite().all()
                    parameter.grad.masked_fill_(broken, 0)
                    lost |= broken
            adam.step()
            if waiting is not None:
                yield self._finite(waiting, index)
            waiting = value
        if waiting is not None:
            yield self._finite(waiting, index)

    @staticmethod
    def _finite(value: Pending, index: int) -> float:
        loss = value.number()
        if loss < 0:
            raise TrainingError(
                f"Expected a loss of at least 0, got {loss} at step {index}.",
                "The objective comes from another package: its `loss` is a distance, such as 1 - "
                "cosine (pe_toolkit.objectives.base.Objective).",
            )
        if not math.isfinite(loss):
            raise TrainingError(
                f"Expected a finite loss, got {loss} at step {index}.",
                "Lower the learning rate (--set lr=...), or use --dtype float32 or bfloat16.",
            )
        return loss


class PositionMode:
    """Optimise a delta on the positions, shared by all samples; warm-started from the previous
    guided step. Of layers, it is the last one.
    """

    def __init__(
        self,
        problem: Problem,
        form: PositionalForm,
        start: torch.Tensor,
        layers: Layers | None = None,
    ) -> None:
        self.problem, self.form, self.layers = problem, form, layers
        self.carried = start
        self.current: Any = None
        self.results: list[torch.Tensor] = []

    def optimise(self, index: int, rate: float, inner_steps: int) -> Iterator[float]:
        problem = self.problem
        delta = self.carried.clone().requires_grad_()

        def embed() -> None:
            self.current = self._embedded(delta, index)

        def loss() -> torch.Tensor:
            return problem.backward(index, problem.sampler.latents, embed)

        yield from problem.descend(delta, index, rate, inner_steps, loss)
        # The card holds half precision: go on with exactly what applying it will use.
        self.results.append(delta.detach().half())
        self.carried = self.results[-1].float()
        self.current = self._embedded(self.carried, index)

    def restart(self, start: torch.Tensor, layers: Layers | None) -> None:
        """Begin from other positions, in all steps that were guided; nothing is optimised, and all
        layers act in all of them.
        """
        self.layers = layers
        self.results = [start.detach().half() for _ in self.results]
        self.carried = start.detach().half().float()
        self.current = self._embedded(self.carried, 0)

    def _embedded(self, delta: torch.Tensor, index: int) -> Any:
        """As it is injected at a step."""
        if self.layers is None:
            return self.form.embed(delta)
        return self.form.embed(self.layers.total(delta, self.problem.sampler.noise[index]))

    def stored(self) -> torch.Tensor:
        """`(T, ...)`, or `(T, L, S, 3)` with layers."""
        results = [r.cpu() for r in self.results]
        if self.layers is not None:
            results = [self.layers.stored(r) for r in results]
        return torch.stack(results)


class LatentMode:
    """Optimise z_t itself (one sample). In bfloat16 it stays float32 up to the transformer and in
    the scheduler's step: rounding it would take away a fifth or more of what was optimised.
    """

    current: Any = None
    layers: Layers | None = None

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.carried = torch.zeros(0)
        self.results: list[torch.Tensor] = []

    def optimise(self, index: int, rate: float, inner_steps: int) -> Iterator[float]:
        problem, sampler = self.problem, self.problem.sampler
        latents = sampler.latents.detach().float().clone().requires_grad_()
        yield from problem.descend(
            latents, index, rate, inner_steps, lambda: problem.backward(index, latents)
        )
        # Bit for bit the sampler's own at learning rate 0, half precision (as stored) otherwise.
        kept = sampler.latents
        if rate > 0 and inner_steps:
            kept = latents.detach().half().to(unrounded(sampler.dtype))
        self.results.append(kept.half())
        sampler.latents = kept

    def stored(self) -> torch.Tensor:
        """`(T, F', C, h, w)`."""
        return torch.stack([r[0].cpu() for r in self.results])
