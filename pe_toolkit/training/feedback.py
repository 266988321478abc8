"""Positions corrected by what generations make of them: an optimisation without gradients.

Generations follow positions in part, and of several things in the same way for many seeds: a third
of the squared error of their ways is that of the card, not of the seed (docs/experiments.md). So
generations of other prompts and seeds are made and read as the reference was, and what is the same
in all of them is taken from the ways that positions say (iterative learning control). With p_k(f)
where thing k of the reference is in latent frame f, q_ik(f) where that of generation i is, both
less their means over time, and N generations,

    e_k(f) = mean_i (q_ik(f) - p_k(f)),
    d_k(f) <- d_k(f) - RATE r e_k(f),    r = max(0, 1 - s^2 / (N |e|^2)),

s^2 the variance between generations: what is not seen to be the same in all changes nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from torch import Tensor

from pe_toolkit.card.spec import LARGEST_SEED
from pe_toolkit.motion.moves import Moves
from pe_toolkit.training import events
from pe_toolkit.training.config import GENERATIONS
from pe_toolkit.training.modes import Mode, PositionMode
from pe_toolkit.training.reference import Reference, read_reference
from pe_toolkit.training.start import begun, first_positions
from pe_toolkit.world.vocabulary import BACKGROUNDS, COLOURS, SHAPES, caption, things

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pe_toolkit.backbones.contract import Sampler
    from pe_toolkit.training.prepare import Run

RATE = 0.8
"""Of what was seen, how much is corrected."""
APART = 1000
"""Between the seeds of two rounds, and those of the samples."""
NAMED = 2
"""Things that a caption of the bundled backbone names at most."""


@dataclass
class Feedback:
    """The rounds of one training.

    Attributes:
        samplers: the generations of each round, not begun.
        preview: the first training sample once more, if it is to be shown.
        done: rounds that corrected something.
        shown: the first sample with the positions of the last such round, uint8 RGB; None where
            nothing was corrected.
    """

    samplers: list[Sampler]
    preview: Sampler | None
    done: int = 0
    shown: NDArray[np.uint8] | None = None

    @classmethod
    def asked(cls, run: Run) -> Self:
        """As many as were asked for, while prompts can be encoded."""
        samplers = generations(run)
        if not samplers or not run.config.preview:
            return cls(samplers, None)
        first = replace(run, prompts=run.prompts[:1], seeds=run.seeds[:1])
        return cls(samplers, first.sampler())

    def rounds(
        self, run: Run, guided: list[int], mode: Mode, reference: Reference, silence: Tensor
    ) -> Iterator[events.Event]:
        """Correct the positions of `mode`, round by round.

        Nothing is corrected but several things before a camera that rests, which have a layer each:
        one alone goes where it should. On the bundled backbones there have to be two.

        Args:
            run: with the noise of what moves.
            guided: indices of the guided steps.
            mode: holds the positions of the reference's own motion.
            reference: what generations should do.
            silence: `encode_text([""])`.
        """
        moves = reference.moves
        if not self.samplers or not isinstance(mode, PositionMode):
            return
        named = len(moves.subjects) == NAMED or not run.variant.bundled
        if not (named and moves.two and begun(reference.flow, moves, run.settings) == "layers"):
            yield events.Corrected(0, 0, 0, 0.0, 0.0)
            return
        told = _Told(run, guided, mode, reference)
        told.go(moves)
        for index, sampler in enumerate(self.samplers):
            steps = len(sampler.times)
            for step in told.denoised(sampler):
                yield events.FeedbackStep(index * steps + step, len(self.samplers) * steps)
            made = [_read(run, frames, silence) for frames in told.decoded(sampler)]
            moves, count, beside, trust = after(moves, made, reference.moves)
            if trust:
                told.go(moves)
                self.done += 1
            yield events.Corrected(index + 1, len(self.samplers), count, beside, trust)
        if self.preview is not None and self.done:
            for _ in told.denoised(self.preview):
                pass
            self.shown = told.decoded(self.preview)[0]


@dataclass(frozen=True)
class _Told:
    """Generations of a training, told where to go by the positions of `mode`."""

    run: Run
    guided: list[int]
    mode: PositionMode
    reference: Reference

    def go(self, moves: Moves) -> None:
        """From now on, the ways of `moves`."""
        run, form = self.run, self.run.form
        assert form is not None  # of positions
        start, layers = first_positions(form, self.reference.flow, moves, run.settings)
        self.mode.restart(start.to(run.backbone.device), layers)

    def denoised(self, sampler: Sampler) -> Iterator[int]:
        """From noise to the end; yields how many steps are done."""
        active = False
        self.reference.begin(self.run, sampler)
        with self.run.backbone.positions_from(lambda _: self.mode.current if active else None):
            for index in range(len(sampler.times)):
                active = index in self.guided
                sampler.step(index)
                yield index + 1

    def decoded(self, sampler: Sampler) -> list[NDArray[np.uint8]]:
        """Their frames."""
        run = self.run
        return [run.backbone.decode(one[None], run.shape[0]) for one in sampler.latents]


def _read(run: Run, frames: NDArray[np.uint8], silence: Tensor) -> Moves:
    clip = replace(run.clip, frames=frames)
    return read_reference(replace(run, clip=clip), silence).moves


def generations(run: Run) -> list[Sampler]:
    """Those of all rounds: of the user's prompts, on the bundled backbones of those that name two
    things, or else of captions that do.
    """
    asked, bundled = run.config.prompts, run.variant.bundled
    own = [prompt for prompt in asked if not bundled or things(prompt) == NAMED]
    found = []
    for index in range(run.settings.feedback):
        first = (run.settings.seed + APART * (index + 1)) % (LARGEST_SEED - GENERATIONS)
        rng = np.random.default_rng(first)
        prompts = [
            own[i % len(own)] if own else _two(rng) for i in range(GENERATIONS)
        ]  # fmt: skip
        seeds = [first + i for i in range(GENERATIONS)]
        found.append(replace(run, prompts=prompts, seeds=seeds).sampler())
    return found


def _two(rng: np.random.Generator) -> str:
    """A caption of two things of other colours."""
    colours = rng.choice(list(COLOURS), 2, replace=False)
    shapes = rng.choice(SHAPES, 2)
    things = [(str(colour), str(shape)) for colour, shape in zip(colours, shapes, strict=True)]
    return caption(things, str(rng.choice([name for name in BACKGROUNDS if name not in colours])))


def after(told: Moves, made: list[Moves], wanted: Moves) -> tuple[Moves, int, float, float]:
    """What to tell the next generations, where those that were told `told` did what is `made`, and
    should have done `wanted`.

    Returns:
        the moves; in how many generations the things were found; how far their ways are off in the
        mean (root mean square, patches); and r of the formula of this module: 0, nothing changes.
    """
    seen = [error for one in made if (error := errors(one, wanted)) is not None]
    if not seen:
        return told, 0, 0.0, 0.0
    error, trust = same(torch.stack(seen))
    beside = float(error.square().sum(-1).mean().sqrt())
    if trust:
        told = corrected(told, RATE * trust * error)
    return told, len(seen), beside, trust


def errors(found: Moves, wanted: Moves) -> Tensor | None:
    """How far things are beside their ways, `(n, F, 2)` float64 in patches, with the order of
    `found` that fits best; None where another number of things was read, or a camera that moves.
    """
    if found.camera or len(found.subjects) != len(wanted.subjects):
        return None
    own, true = (
        torch.stack([subject.place.double() for subject in moves.subjects])
        for moves in (found, wanted)
    )
    own, true = (ways - ways.mean(1, keepdim=True) for ways in (own, true))
    orders = itertools.permutations(range(len(own)))
    return min((own[list(order)] - true for order in orders), key=lambda e: float(e.square().sum()))


def same(each: Tensor) -> tuple[Tensor, float]:
    """What is the same in N errors.

    Args:
        each: `(N, ...)`.

    Returns:
        their mean `(...)`, and r of the formula of this module, in [0, 1]; 0 of one alone, which
        says nothing of others.
    """
    mean = each.mean(0)
    whole = float(mean.square().mean())
    if len(each) < 2 or not whole:
        return mean, 0.0
    chance = float(each.var(0).mean()) / len(each)
    return mean, max(0.0, 1 - chance / whole)


def corrected(moves: Moves, less: Tensor) -> Moves:
    """With ways that are `(n, F, 2)` shorter, and places as they are."""
    less = less - less[:, moves.anchor, None]
    subjects = [
        replace(subject, path=subject.path - own)
        for subject, own in zip(moves.subjects, less, strict=True)
    ]
    return replace(moves, subjects=tuple(subjects))
