"""What a training run is asked to do, and what that means for one backbone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pe_toolkit.backbones.variants import Variant
from pe_toolkit.errors import UnsupportedError, UsageError

MASKS = ("forward-backward", "nonzero", "consistent", "none")
# The official configuration (references.md 1.1): what `--recipe paper` changes whatever the
# backbone.
PAPER: dict[str, Any] = {
    "tau": 2.0, "mask": "nonzero", "inner_steps": 5, "learning_rates": (0.002, 0.001), "samples": 1,
    "start": "zero", "parametrisation": "table",
}  # fmt: skip


@dataclass(frozen=True)
class TrainConfig:
    """A request; None means the backbone's default (`pe_toolkit.backbones.VARIANTS`).

    Attributes:
        prompts: cycled over the samples; empty means a built-in list.
        samples: how many (prompt, seed) pairs are optimised together; seeds are `seed .. seed +
            samples - 1`.
        mode: `positions`, or `latents` (one prompt and one seed).
        recipe: `default`, or `paper`: the published DiTFlow setting.
        parametrisation: `angle` or `table`.
        steps, guidance_scale: of the denoising schedule.
        block: transformer block whose queries and keys are compared.
        tau: temperature of the soft displacement, above 0.
        mask: which reference displacements count; see `pe_toolkit.motion.masks`.
        inner_steps: optimiser steps in each guided step (K), 1 or more.
        learning_rates: Adam's, at the first and the last guided step; radians for `angle`.
        guided_range: (low, high) in noise, [0, 1].
        start: where positions begin: `zero`, or `flow`: moved along the reference's own flow.
    """

    prompts: tuple[str, ...] = ()
    samples: int | None = None
    mode: Literal["positions", "latents"] = "positions"
    recipe: Literal["default", "paper"] = "default"
    parametrisation: str | None = None
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
    name: str = "untitled"
    author: str = ""
    license: str = ""
    card_version: str = "1.0.0"
    preview: bool = False

    def with_overrides(self, pairs: Mapping[str, str]) -> TrainConfig:
        """Apply `--set KEY=VALUE` pairs: `block=3 tau=6 mask=nonzero K=5 lr=0.02,0.01 range=0.8,1
        start=zero`.

        Raises:
            UsageError: an unknown key (the message lists the known ones) or a value that does not
                parse.
        """
        changes: dict[str, Any] = {}
        for key, text in pairs.items():
            if key not in _OVERRIDES:
                raise UsageError(
                    f"Expected --set KEY=VALUE with KEY out of {', '.join(_OVERRIDES)}, got "
                    f"{key!r}."
                )
            field, parse, example = _OVERRIDES[key]
            try:
                changes[field] = parse(text)
            except ValueError as error:
                raise UsageError(f"Expected --set {key}={example}, got {key}={text}.") from error
        return dataclasses.replace(self, **changes)

    def resolve(self, variant: Variant) -> Resolved:
        """Fill in the backbone's defaults and check everything.

        Raises:
            UsageError: a value out of range.
            UnsupportedError: a request that the mode or backbone cannot serve.
        """
        paper = PAPER if self.recipe == "paper" else {}

        def pick(name: str) -> Any:
            own = getattr(self, name)
            return own if own is not None else paper.get(name, getattr(variant, name))

        samples = pick("samples")
        if self.mode == "latents":
            if len(self.prompts) > 1 or (self.samples or 1) > 1:
                raise UnsupportedError(
                    "Expected one prompt and one sample in latents mode, got "
                    f"{max(len(self.prompts), samples)}.",
                    "A latents card is bound to one prompt and one seed; use --mode positions for "
                    "several.",
                )
            samples = 1
        resolved = Resolved(
            samples=samples,
            mode=self.mode,
            recipe=self.recipe,
            parametrisation=None if self.mode == "latents" else pick("parametrisation"),
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
        )
        resolved.check()
        return resolved

    def _rates(self, variant: Variant) -> tuple[float, float]:
        if self.learning_rates is not None:
            return self.learning_rates
        if self.recipe == "paper":
            return PAPER["learning_rates"]  # type: ignore[no-any-return]
        return variant.latent_learning_rates if self.mode == "latents" else variant.learning_rates


@dataclass(frozen=True)
class Resolved:
    """Every number of a run, none missing."""

    samples: int
    mode: str
    recipe: str
    parametrisation: str | None
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

    def check(self) -> None:
        """Raise UsageError for the first value out of range."""
        low, high = self.guided_range[0], self.guided_range[-1]
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
            (self.start in ("zero", "flow"), "a start out of zero, flow", self.start),
            (self.block >= 0, "a block from 0", self.block),
            (0 <= self.seed < 2**63, "a seed from 0", self.seed),
        )
        for holds, expected, value in rules:
            if not holds:
                raise UsageError(f"Expected {expected}, got {value}.")


def _pair(text: str) -> tuple[float, float]:
    first, _, second = text.partition(",")
    return float(first), float(second or first)


_OVERRIDES: dict[str, tuple[str, Callable[[str], Any], str]] = {
    "block": ("block", int, "3"),
    "tau": ("tau", float, "2"),
    "mask": ("mask", str, "nonzero"),
    "K": ("inner_steps", int, "5"),
    "lr": ("learning_rates", _pair, "0.02,0.01"),
    "range": ("guided_range", _pair, "0.8,1.0"),
    "start": ("start", str, "flow"),
}
