"""What a training run is asked to do, and what that means for one backbone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal, SupportsFloat, SupportsIndex

from pe_toolkit.backbones.catalogue.variants import Variant
from pe_toolkit.backbones.machine.recompute import CHECKPOINTING
from pe_toolkit.backbones.reading import KINDS, TIMESTEPS, Reading
from pe_toolkit.card.spec import LARGEST_SEED, MASKS, MAX_READ_BLOCKS
from pe_toolkit.card.spec import STARTS as OF_CARDS
from pe_toolkit.errors import UnsupportedError, UsageError, option
from pe_toolkit.objectives import check_name, names
from pe_toolkit.shown import shown
from pe_toolkit.training.recipes import RECIPES, RICH, Noise, changes

if TYPE_CHECKING:
    from pe_toolkit.motion.moves import Kind

MODES = ("positions", "latents")
AMF = "amf"
"""The objective where none is named."""
STARTS = (*OF_CARDS, "auto")
GENERATIONS = 4
"""In each round of feedback."""


@dataclass(frozen=True)
class TrainConfig:
    """A request; None means the backbone's default (`pe_toolkit.backbones.VARIANTS`).

    Attributes:
        prompts: cycled over the samples; empty means a built-in list.
        samples: how many (prompt, seed) pairs are optimised together; seeds are `seed .. seed +
            samples - 1`.
        mode: `positions`, or `latents` (one prompt and one seed).
        recipe: `auto`: what is measured to be best on the backbone (`chosen_recipe`); `default`;
            `paper`: the published DiTFlow setting, but for the keys and values of
            the reference (`kv`), and for the latents that most published rows optimise (`mode`;
            docs/reproduce.md says which row needs what); `fast`: one inner step at a
            larger rate (`training.recipes.fast`); `rich`: what carries motion without optimising
            (`training.recipes.RICH`), and in latents mode noise that bears the reference's phase.
        parametrisation: one of `pe_toolkit.embedding.names()`: `angle`, `table` or `offset`.
        objective: what "the same motion" means, one of `pe_toolkit.objectives.names()`: `amf` (the
            default), the baselines `smm`, `moft`, `motionclone`, or one that an installed package
            adds. Whoever names one wants it optimised: recipe `auto` is `default` then.
        steps, guidance_scale: of the denoising schedule.
        block: transformer block whose queries and keys are compared.
        tau: temperature of the soft displacement, above 0.
        mask: which reference displacements count; see `pe_toolkit.motion.masks`.
        inner_steps: optimiser steps in each guided step (K), 0 (nothing is optimised) or more.
        learning_rates: Adam's, at the first and the last guided step; radians for `angle`.
        guided_range: (low, high) in noise, [0, 1].
        start: where positions begin: `zero`; `flow`: moved along the reference's own flow, as one
            path; `layers`: by its camera and by each of its subjects, as coordinates (`offset`),
            read by content; `auto`, of a reference read by content: `layers` for several things
            before a camera that rests or pans, one slow thing, one that is shown to grow, one that
            moves otherwise than the camera, and where one path does not say what moves; else
            `flow`. All are zero where nothing is read (`training.start.unsaid`).
        start_scale: how far, in times of that motion; above 1 within 0.6 of the picture.
        phase: (radius in cycles per picture, gamma) of the reference's phase in the initial noise
            (`pe_toolkit.motion.phase`), or the radius alone, with the recipe's gamma; () for none.
            Default: the recipe's, of `rich` on the bundled backbones by what moves
            (`training.recipes.BUNDLED`).
        ground: with a phase: how much of the noise is fixed to the reference's camera
            (`pe_toolkit.motion.ground`), in times of what is so anyway; 0 for nothing. Before one
            that rests the phase is then that of what moves alone (`motion.foreground`). Default:
            as of `phase`; 0 of two things before a camera that rests, and where it rolls.
        feedback: rounds, 0 to 16, in which the ways of several things, before a camera that rests,
            are corrected by what generations make of them (`pe_toolkit.training.feedback`); where
            nothing is optimised, and with a start scale of 1. The generations are of `prompts`,
            which have to name as many things as move; on the bundled backbones of those of them
            that name two things, or else of captions that do.
        reading: how the reference's motion is read, `attention` or `content`
            (`pe_toolkit.backbones.reading`). Default: the backbone's, but `attention` if blocks are
            given.
        reference_blocks: blocks that it is read from; without noise others may see it best.
            Default: `block` if that is given, else the backbone's.
        reuse: compute a gradient in every `reuse`-th inner step only, and take the last one again
            in between; 1 computes all.
        kv: inject keys and values of the reference into the first block in guided steps; applying
            the card then needs the clip.
        checkpointing: `auto` (as much as memory asks for), `off`, `little` (recompute all but
            attention and feed-forward matrices), `partly` (all but attention and the second of
            them), or `on`; with `compile` the two between are `on`.
            Changes no result.
        compile: compile the blocks of the transformer: pays from some minutes of training on.
        name, author, license, card_version: go into the card as they are; the version is semantic.
        preview: denoise the first sample to the end, and yield it as `PreviewFrames`.
    """

    prompts: tuple[str, ...] = ()
    samples: int | None = None
    mode: Literal["positions", "latents"] = "positions"
    recipe: Literal["auto", "default", "paper", "fast", "rich"] = "auto"
    parametrisation: str | None = None
    objective: str | None = None
    steps: int | None = None
    guidance_scale: float | None = None
    seed: int = 0
    block: int | None = None
    tau: float | None = None
    mask: str | None = None
    inner_steps: int | None = None
    learning_rates: tuple[float, float] | None = None
    guided_range: tuple[float, float] | None = None
    start: str | None = None
    start_scale: float | None = None
    phase: tuple[float, ...] | float | None = None
    ground: float | None = None
    feedback: int = 0
    reading: str | None = None
    reference_blocks: tuple[int, ...] | None = None
    reuse: int = 1
    kv: bool = False
    checkpointing: Literal["auto", "off", "little", "partly", "on"] = "auto"
    compile: bool = False
    name: str = "untitled"
    author: str = ""
    license: str = ""
    card_version: str = "1.0.0"
    preview: bool = False

    def with_overrides(self, pairs: Mapping[str, str]) -> TrainConfig:
        """Apply `--set KEY=VALUE` pairs: `block=3 tau=6 mask=nonzero K=5 lr=0.02,0.01 range=0.8,1
        start=zero start_scale=1 phase=2.83,2 ground=1.5 feedback=2 reuse=2 reading=content
        reference_block=4,6 objective=amf`.

        Raises:
            UsageError: an unknown key (the message lists the known ones) or a value that does not
                parse.
        """
        changes: dict[str, Any] = {}
        for key, text in pairs.items():
            if key not in _OVERRIDES:
                near = get_close_matches(key, _OVERRIDES, n=1)
                raise UsageError(
                    f"Expected --set KEY=VALUE with KEY out of {', '.join(_OVERRIDES)}, got "
                    f"{key!r}.",
                    f"Did you mean {near[0]}?" if near else None,
                )
            field, parse, example = _OVERRIDES[key]
            try:
                changes[field] = parse(text)
            except ValueError as error:
                raise UsageError(f"Expected --set {key}={example}, got {key}={text}.") from error
        return dataclasses.replace(self, **changes)

    def _check_words(self) -> None:
        words = (("recipe", self.recipe, RECIPES),
                 ("checkpointing", self.checkpointing, CHECKPOINTING))  # fmt: skip
        for name, value, known in words:
            if value not in known:
                raise UsageError(f"Expected a {name} out of {', '.join(known)}, got {value!r}.")

    def _check_numbers(self) -> None:
        """What is no number, or no list of them, before any is compared."""
        for name in ("guidance_scale", "tau", "start_scale", "ground"):
            if not isinstance(value := getattr(self, name), SupportsFloat | None):
                raise UsageError(f"Expected a number as {name}, got {shown(value)}.")
        lists = {
            "learning_rates": (SupportsFloat, "two numbers"),
            "guided_range": (SupportsFloat, "two numbers"),
            "phase": (SupportsFloat, "two numbers or one"),
            "reference_blocks": (SupportsIndex, "whole numbers"),
        }
        for name, (kind, expected) in lists.items():
            value = getattr(self, name)
            if value is None or (name == "phase" and isinstance(value, SupportsFloat)):
                continue
            if not isinstance(value, list | tuple) or not all(isinstance(v, kind) for v in value):
                raise UsageError(f"Expected {expected} as {name}, got {shown(value)}.")

    def check_mode(self) -> None:
        """Refuse what the mode cannot serve on any backbone.

        Raises:
            UsageError: no such mode.
            UnsupportedError: more than one prompt or sample in latents mode.
        """
        if self.mode not in MODES:
            raise UsageError(f"Expected a mode out of {', '.join(MODES)}, got {self.mode!r}.")
        if self.mode == "latents" and (len(self.prompts) > 1 or (self.samples or 1) > 1):
            mode, prompts, samples = option("mode"), option("prompts"), option("samples")
            raise UnsupportedError(
                f"Expected one prompt and one sample with {mode} latents, got more: latents belong "
                "to one prompt and one seed.",
                f"Use one {prompts} and {samples} 1, or {mode} positions.",
            )

    def resolve(self, variant: Variant) -> Resolved:
        """Fill in the backbone's defaults and check everything.

        Raises:
            UsageError: a value out of range, or of another type.
            UnsupportedError: a request that the mode or backbone cannot serve.
        """
        self._check_words()
        self._check_numbers()
        if self.recipe == "auto":
            return dataclasses.replace(self, recipe=self.chosen_recipe(variant)).resolve(variant)
        self.check_mode()
        paper = self.recipe == "paper"
        changed = changes(self.recipe, variant, self.mode)

        def pick(name: str) -> Any:
            own = getattr(self, name, None)
            return own if own is not None else changed.get(name, getattr(variant, name))

        layered = self.mode == "positions" and pick("start") == "layers"
        if layered:
            changed = {"parametrisation": "offset", **changed}
        phase = pick("phase")
        phase = (phase,) if isinstance(phase, SupportsFloat) else phase or None
        if phase is not None and len(phase) == 1:
            phase = (*phase, changed.get("phase", RICH["phase"])[1])
        ground = changed.get("ground", 0.0) if phase else 0.0
        resolved = Resolved(
            samples=1 if self.mode == "latents" else pick("samples"),
            guided_first=paper and self.guided_range is None,
            negative_prompt=pick("negative_prompt"),
            reuse=self.reuse,
            kv=self.kv,
            reading=self._reading(variant, layered),
            mode=self.mode,
            recipe=self.recipe,
            parametrisation=None if self.mode == "latents" else pick("parametrisation"),
            objective=self.objective or AMF,
            steps=pick("steps"),
            guidance_scale=float(pick("guidance_scale")),
            dynamic_cfg=variant.dynamic_cfg,
            seed=self.seed,
            block=pick("block"),
            tau=float(pick("tau")),
            mask=pick("mask"),
            inner_steps=pick("inner_steps"),
            learning_rates=self._rates(variant),
            guided_range=tuple(pick("guided_range")),
            start="zero" if self.mode == "latents" else pick("start"),
            start_scale=float(pick("start_scale")),
            phase=phase,
            phase_mean=True,
            noise_of=changed.get("noise_of") if phase else None,
            ground=float(ground if self.ground is None else self.ground),
            feedback=self.feedback,
        )
        resolved.check()
        self._check_shown(variant)
        return resolved

    def _check_shown(self, variant: Variant) -> None:
        if self.feedback and not (self.prompts or variant.bundled):
            raise UsageError(
                f"Expected prompts ({option('prompts')}) with feedback: its generations have to "
                "show as many things as move in the reference."
            )

    def chosen_recipe(self, variant: Variant) -> Literal["default", "rich"]:
        """What `auto` means: `rich` on the bundled backbones, where it was measured to carry motion
        better in a fraction of the time (docs/experiments.md), for positions about which nothing
        was asked but the noise that they go with; else `default`.
        """
        own = (
            self.parametrisation, self.inner_steps, self.learning_rates, self.start,
            self.start_scale, self.tau,
        )  # fmt: skip
        plain = all(value is None for value in own) and self.reuse == 1 and not self.kv
        plain = plain and self.mode == "positions" and self.objective is None
        return "rich" if variant.bundled and plain else "default"

    def _reading(self, variant: Variant, layered: bool) -> Reading:
        own = Reading((variant.block if self.block is None else self.block,))
        if self.block is None and self.recipe != "paper" and variant.reading is not None:
            own = variant.reading
        if self.reference_blocks is not None:
            own = Reading(tuple(sorted(self.reference_blocks)))
        by = self.reading or ("content" if layered else own.by)  # things are told by content
        return own if by == own.by else Reading(own.blocks, by, TIMESTEPS.get(by, 0))

    def _rates(self, variant: Variant) -> tuple[float, float]:
        if self.learning_rates is not None:
            return self.learning_rates
        latents = self.mode == "latents" and self.recipe != "paper"
        name = "latent_learning_rates" if latents else "learning_rates"
        changed = changes(self.recipe, variant, self.mode)
        rates: tuple[float, float] = changed.get(name, getattr(variant, name))
        return rates


@dataclass(frozen=True)
class Resolved:
    """Every number of a run, none missing."""

    samples: int
    guided_first: bool
    """Guide the first fifth of the steps, whatever their noise levels."""
    negative_prompt: str
    reuse: int
    kv: bool
    reading: Reading
    """How the reference is read."""
    mode: str
    recipe: str
    parametrisation: str | None
    objective: str
    steps: int
    guidance_scale: float
    dynamic_cfg: bool
    seed: int
    block: int
    tau: float
    mask: str
    inner_steps: int
    learning_rates: tuple[float, float]
    guided_range: tuple[float, ...]
    start: str
    start_scale: float
    phase: tuple[float, float] | None
    """Radius and gamma of the reference's phase in the initial noise (`motion.phase`)."""
    phase_mean: bool
    """Whether the mean of every plane of that noise bears it as well."""
    noise_of: Mapping[Kind, Noise] | None
    """By `Moves.kind`, where it is another one; None once it is known what moves."""
    ground: float
    """How much of that noise is fixed to the camera (`motion.ground`)."""
    feedback: int
    """Rounds of `training.feedback`."""

    def check(self) -> None:
        """Raise UsageError for the first value out of range."""
        check_name(self.objective)
        self._check_shapes()
        low, high = self.guided_range
        rules = (
            (1 <= self.samples <= 64, "samples from 1 to 64", self.samples),
            (1 <= self.steps <= 1000, "steps from 1 to 1000", self.steps),
            (
                1 <= self.guidance_scale <= 100,
                "a guidance scale from 1 to 100",
                self.guidance_scale,
            ),
            (0 < self.tau <= 1000, "a tau above 0", self.tau),
            (self.mask in MASKS, f"a mask out of {', '.join(MASKS)}", self.mask),
            (0 <= self.inner_steps <= 1000, "K from 0 to 1000", self.inner_steps),
            (
                all(0 <= r < 10 for r in self.learning_rates),
                "learning rates from 0 to 10",
                self.learning_rates,
            ),
            (0 <= low <= high <= 1, "a guided range LOW,HIGH within 0 to 1", self.guided_range),
            (self.start in STARTS, f"a start out of {', '.join(STARTS)}", self.start),
            (0 < self.start_scale <= 100, "a start scale above 0, to 100", self.start_scale),
            (
                self.phase is None or (0 <= self.phase[0] <= 16 and 1 <= self.phase[1] <= 1000),
                "a phase RADIUS,GAMMA of 0 to 16 cycles and 1 to 1000",
                self.phase,
            ),
            (0 <= self.ground <= 100, "a ground from 0 to 100", self.ground),
            (self.block >= 0, "a block from 0", self.block),
            (self.reading.by in KINDS, f"a reading out of {', '.join(KINDS)}", self.reading.by),
            (
                all(block >= 0 for block in self.reading.blocks),
                "reference blocks from 0",
                ",".join(map(str, self.reading.blocks)),
            ),
            (
                0 < len(set(self.reading.blocks)) == len(self.reading.blocks) <= MAX_READ_BLOCKS,
                f"up to {MAX_READ_BLOCKS} different reference blocks",
                ",".join(map(str, self.reading.blocks)),
            ),
            (not self.ground or self.phase is not None, "a phase with a ground", "none"),
            (
                self.inner_steps > 0 or self.mode == "latents" or self.objective == AMF,
                "K above 0 (or another recipe) with an objective: positions are not optimised",
                f"{self.inner_steps} with {self.objective}",
            ),
            (1 <= self.reuse <= 1000, "a reuse from 1 to 1000", self.reuse),
            (0 <= self.seed <= LARGEST_SEED, "a seed from 0 to 2^63 - 1", self.seed),
        )
        _hold(rules)
        self._check_feedback()

    def _check_feedback(self) -> None:
        rules = (
            (0 <= self.feedback <= 16, "rounds of feedback from 0 to 16", self.feedback),
            (
                not self.feedback or (self.mode == "positions" and not self.inner_steps),
                "positions and a K of 0 (--recipe rich) with feedback",
                f"{self.mode}, K = {self.inner_steps}",
            ),
            (
                not self.feedback or (self.start_scale == 1 and not self.kv),
                "a start scale of 1 and no keys and values with feedback, which brings ways to "
                "those of the reference",
                f"{self.start_scale:g}" + (" and keys and values" if self.kv else ""),
            ),
        )
        _hold(rules)

    def _check_shapes(self) -> None:
        for name in ("samples", "steps", "block", "inner_steps", "feedback", "reuse", "seed"):
            if not isinstance(value := getattr(self, name), SupportsIndex):
                raise UsageError(f"Expected a whole number of {name}, got {shown(value)}.")
        for name in ("learning_rates", "guided_range", "phase"):
            if (value := getattr(self, name)) is not None and len(value) != 2:
                raise UsageError(f"Expected two numbers as {name}, got {value}.")


def _hold(rules: Iterable[tuple[bool, str, Any]]) -> None:
    for holds, expected, value in rules:
        if not holds:
            raise UsageError(f"Expected {expected}, got {value}.")


def _pair(text: str) -> tuple[float, float]:
    first, _, second = text.partition(",")
    return float(first), float(second or first)


def _phase(text: str) -> tuple[float, ...]:
    if text == "off":
        return ()
    radius, _, gamma = text.partition(",")
    return (float(radius), float(gamma)) if gamma else (float(radius),)


def _kind(text: str) -> str:
    if not text:  # what is no kind of reading is said with those that there are
        raise ValueError(text)
    return text


def _blocks(text: str) -> tuple[int, ...]:
    return tuple(int(block) for block in text.split(","))


def override_examples() -> list[str]:
    """`key=example` for every key of `with_overrides`; all values where there are few."""
    few = {
        "mask": MASKS, "start": sorted(STARTS), "reading": KINDS, "objective": names(),
    }  # fmt: skip
    return [
        f"{key}={value}"
        for key, (_, _, example) in _OVERRIDES.items()
        for value in few.get(key, (example,))
    ]


_OVERRIDES: dict[str, tuple[str, Callable[[str], Any], str]] = {
    "block": ("block", int, "3"),
    "tau": ("tau", float, "2"),
    "mask": ("mask", str, "nonzero"),
    "K": ("inner_steps", int, "5"),
    "lr": ("learning_rates", _pair, "0.02,0.01"),
    "range": ("guided_range", _pair, "0.8,1.0"),
    "start": ("start", str, "flow"),
    "start_scale": ("start_scale", float, "1.5"),
    "phase": ("phase", _phase, "2.83,2"),
    "ground": ("ground", float, "1.5"),
    "feedback": ("feedback", int, "2"),
    "reuse": ("reuse", int, "2"),
    "reading": ("reading", _kind, "content"),
    "reference_block": ("reference_blocks", _blocks, "4,6"),
    "objective": ("objective", str, "amf"),
}
