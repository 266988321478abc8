"""The guided steps: in each, optimise a little, then denoise once with the result."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pe_toolkit.training import events
from pe_toolkit.training.schedule import learning_rate

if TYPE_CHECKING:
    from pe_toolkit.backbones.contract import KeysValues, Sampler
    from pe_toolkit.training.modes import Mode
    from pe_toolkit.training.prepare import Run
    from pe_toolkit.training.resume import ResumeState


@dataclass
class Guidance:
    """The steps of one training, from where an interrupted one stopped.

    Attributes:
        guided: indices of the guided steps, rising.
        kv: keys and values of the reference, if they are injected.
        losses: first and last loss of every finished guided step.
        first: the step to begin with.
    """

    run: Run
    sampler: Sampler
    guided: list[int]
    mode: Mode
    kv: KeysValues | None
    saved: ResumeState | None
    losses: list[tuple[float, float]] = field(default_factory=list)
    first: int = 0
    _active: bool = False
    _at: int = 0

    def resume(self) -> events.Resumed:
        """Go on from the saved state.

        Raises:
            ResumeError: no state, a damaged one, or one of another run.
        """
        assert self.saved is not None  # whoever resumes has a state
        self.first = self._at = self.saved.load(self.sampler, self.mode, self.losses)
        return events.Resumed(sum(index < self.first for index in self.guided))

    def steps(self, stack: contextlib.ExitStack) -> Iterator[events.Event]:
        """All steps up to the last guided one; no word of each where nothing is optimised and
        nothing denoised.

        Checkpointing and compiled blocks stay until `stack` is closed: a preview goes on with them.
        """
        backbone, config = self.run.backbone, self.run.config
        kv = self.kv
        with contextlib.ExitStack() as guiding:
            guiding.enter_context(backbone.parked("vae"))
            level = backbone.checkpointing_level(
                config.checkpointing,
                self.run.grid.tokens,
                self.run.settings.block,
                to_positions=self.run.form is not None,
                compiled=config.compile,
            )
            yield events.Optimising(level)
            stack.enter_context(backbone.checkpointed(level))
            stack.enter_context(backbone.compiled(config.compile))
            inject: Any = self._positions
            if kv is not None:
                guiding.enter_context(
                    kv.injected(
                        lambda _: self._active,
                        lambda: self.sampler.times[self._at],
                        lambda: self.sampler.part,
                    )
                )
                inject = kv.unless_recording(self._positions)
            guiding.enter_context(backbone.positions_from(inject))
            for index in range(self.first, self.guided[-1] + 1):
                yield from self._step(index)

    def _step(self, index: int) -> Iterator[events.Event]:
        """Optimise if the step is guided, denoise, keep the state."""
        self._active, self._at = index in self.guided, index
        began, trace = time.monotonic(), list[float]()
        if self._active:
            place, settings = self.guided.index(index), self.run.settings
            rate = learning_rate(settings.learning_rates, place, len(self.guided))
            for loss in self.mode.optimise(index, rate, settings.inner_steps):
                trace.append(loss)
                yield events.InnerStep(place, len(trace) - 1, loss)
            if trace:
                self.losses.append((trace[0], trace[-1]))
        # Nothing looks at what the last guided step would give, except a preview; and at what any
        # gives, where positions stay as they begin.
        if self.run.config.preview or (index < self.guided[-1] and not self._settled):
            self.sampler.step(index)
        if self._settled and not self.run.config.preview:
            return  # it took no time, and there is nothing to keep
        if self.saved is not None:
            self.saved.save(index + 1, self.sampler, self.mode, self.losses)
            yield events.Saved(self.saved.path)
        if self._active:
            yield events.GuidedStep(
                self.guided.index(index),
                len(self.guided),
                self.sampler.noise[index],
                trace[0] if trace else None,
                trace[-1] if trace else None,
                time.monotonic() - began,
            )

    @property
    def _settled(self) -> bool:
        return self.run.form is not None and self.run.settings.inner_steps == 0

    def _positions(self, timestep: Any) -> Any:
        """What is injected now: only guided steps have other positions than the model's own."""
        return self.mode.current if self._active else None
