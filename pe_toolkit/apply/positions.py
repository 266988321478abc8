"""What a positions card injects at each timestep."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from pe_toolkit.acceleration.timestep import read_timestep
from pe_toolkit.backbones.contract import Backbone
from pe_toolkit.card import BelowSpec, MotionCard
from pe_toolkit.embedding import LAYERED
from pe_toolkit.errors import MismatchError


@dataclass
class Application:
    """What an applied card did.

    Attributes:
        strength: with which it was applied.
        timesteps: those that were guided since the context was entered.
    """

    strength: float
    timesteps: set[int] = field(default_factory=set)

    @property
    def guided_steps(self) -> int:
        """How many denoising steps the card guided; 0 before a generation, and at strength 0, but
        for those in which keys and values are injected.
        """
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
    """Looks up and mixes what a positions card injects at each timestep.

    `layers` says how much of each layer of a card that has some; None: all of all.
    """

    def __init__(
        self,
        adapter: Backbone,
        card: MotionCard,
        strength: float,
        log: Application,
        layers: Sequence[float] | None = None,
    ) -> None:
        spec = card.spec
        self.adapter, self.log, self.strength = adapter, log, strength
        form = spec.recipe.parametrisation
        assert form is not None  # a positions card always has one (checked by the card layer)
        self.form = adapter.form(form, spec.clip.frames, spec.clip.width, spec.clip.height)
        self.levels = list(spec.schedule.noise)
        self.deltas = torch.from_numpy(np.ascontiguousarray(card.tensors["positions"]))
        self.below: BelowSpec | None = None
        if form in LAYERED:
            shares = torch.ones(self.deltas.shape[1]) if layers is None else torch.tensor(layers)
            self.deltas = self.deltas.float() * shares[:, None, None]
            self.below = spec.recipe.below
            if self.below is None:
                self.deltas = self.deltas.sum(1)
        own = tuple(self.deltas.shape[1 if self.below is None else 2 :])
        if own != tuple(self.form.shape):
            raise MismatchError(
                f"Expected positions of shape {tuple(self.form.shape)} per step, got {own}.",
                "This card was made for another model; `pe show` says which.",
            )
        # The last one only: absolute tables of a CogVideoX-2b card would be 1.3 GB together.
        self.last: tuple[int, Any] | None = None
        self.visited: set[int] = set()
        """Timesteps of this generation's passes so far, guided or not."""
        self.unguided: set[int] = set()
        """Those of the last generation of which none was guided."""
        self._guided, self._before = False, -1

    def __call__(self, timestep: torch.Tensor) -> Any:
        """The injected positions at a timestep, or None to leave the model's own."""
        t = read_timestep(timestep)
        if t > self._before:
            self.close()
        self._before = t
        self.visited.add(t)
        if self.last is None or self.last[0] != t:
            self.last = None  # before the next one is made: two need twice the memory
            self.last = (t, self._at(t))
        if self.last[1] is not None:
            self.log.timesteps.add(t)
            self._guided = True
        return self.last[1]

    def close(self) -> None:
        """A generation is over: the next one visits timesteps of its own."""
        if self.visited and not self._guided:
            self.unguided = self.visited
        self.visited, self._guided = set(), False

    def guides(self, t: int) -> bool:
        """Whether the card says anything at a timestep."""
        return bool(self._mix(t))

    def _noise(self, t: int) -> float:
        noise = self.adapter.noise_level(t)
        # Levels stored by one library version may differ from another's in the last digits.
        return next((level for level in self.levels if abs(level - noise) < 1e-7), noise)

    def _mix(self, t: int) -> list[tuple[int, float]]:
        return weights_at(self.levels, self._noise(t))

    def _at(self, t: int) -> Any:
        mix = self._mix(t)
        if not mix:
            return None
        if len(self.deltas) == 1:  # one set for all steps
            mix = [(0, 1.0)]
        delta = (
            self.deltas[mix[0][0]].float()
            if len(mix) == 1
            else sum(self.deltas[i].float() * w for i, w in mix)
        )
        if self.below is not None:
            times = self.below.times if self._noise(t) < self.below.noise else ()
            shares = torch.tensor(times or (1.0,) * len(delta))  # type: ignore[arg-type]
            delta = (delta * shares[:, None, None]).sum(0)
        return self.form.embed((delta * self.strength).to(self.adapter.device))  # type: ignore[union-attr]
