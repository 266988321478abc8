"""What a recipe puts in place of a backbone's defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pe_toolkit.backbones.catalogue.variants import Variant

RECIPES = ("auto", "default", "paper", "fast", "rich")
# The official configuration: what `--recipe paper` changes whatever the backbone.
PAPER: dict[str, Any] = {
    "tau": 2.0, "mask": "nonzero", "inner_steps": 5, "learning_rates": (0.002, 0.001), "samples": 1,
    "start": "zero", "parametrisation": "table",
}  # fmt: skip
# The same, where it speaks about CogVideoX: guidance 7 (dynamic on 5b), 50 steps, and the negative
# prompt that its command line uses unless told otherwise.
PAPER_COGVIDEOX: dict[str, Any] = {
    "steps": 50,
    "guidance_scale": 7.0,
    "negative_prompt": "bad quality, distortions, unrealistic, distorted image, watermark, "
    "signature",
}


class Noise(NamedTuple):
    """Radius (cycles per picture) and gamma of the phase, the ground, and whether the mean of every
    plane bears the phase, of a kind of motion.
    """

    radius: float
    gamma: float
    ground: float
    mean: bool = True


# Everything that carries motion without optimising: the phase of the reference in the initial noise
# (docs/experiments.md), and positions that start from its flow, once as far, or where one path does
# not say it from its camera, and stay there: as coordinates, which say the same as angles in a
# tenth of the space.
RICH: dict[str, Any] = {
    "phase": (2.83, 2.0), "start": "auto", "start_scale": 1.0, "inner_steps": 0,
    "parametrisation": "offset",
}  # fmt: skip
BUNDLED: dict[str, Any] = {
    "phase": (2.83, 3.0), "ground": 1.0, "guidance_scale": 3.25,
    "noise_of": {
        "one": Noise(2.83, 4.0, 1.2), "two": Noise(4.0, 3.0, 0.0, mean=False),
        "roll": Noise(2.83, 3.0, 0.0, mean=False), "camera": Noise(2.83, 3.0, 1.3),
    },
}  # fmt: skip
"""Of `rich` on the bundled backbones, as measured with the weights of 26 November 2026: at a gamma
of 2 colours of the reference show, without a ground no background moves and clips of one card are
too alike, two things are followed better with a finer phase and no ground, and one before a camera
that rests needs less of the phase; where there is no ground, means of planes that are the
reference's bring its colours and take the prompt's shapes. Stronger guidance than without a card
keeps the prompt's shapes against the reference's layout (docs/experiments.md)."""
# The first 10 of 50 steps, by count: at another number of steps the same share.
PAPER_SHARE = 0.2


def changes(recipe: str, variant: Variant, mode: str) -> Mapping[str, Any]:
    """Settings by their names in `TrainConfig` and `Resolved`.

    Args:
        recipe: one of `RECIPES`; of `auto` and `default` there are none.
        variant: the backbone's defaults.
        mode: `positions` or `latents`.
    """
    if recipe == "paper":
        return PAPER if variant.bundled else PAPER | PAPER_COGVIDEOX
    if recipe == "fast":
        return fast(variant)
    if recipe == "rich":
        noise = BUNDLED if variant.bundled else {"phase": RICH["phase"]}
        # Latents are what is optimised, have no positions to start from, and were measured with the
        # phase alone.
        return {"phase": noise["phase"]} if mode == "latents" else RICH | noise
    return {}


def fast(variant: Variant) -> dict[str, Any]:
    """`--recipe fast`: one inner step instead of K, K times as long.

    Adam's first steps are about as long as the learning rate whatever the gradient, so one of K
    times the length goes as far as K. Taking one gradient K times (`reuse`) does the same for the
    same number of passes: compared by `benchmarks/fast.py`, numbers in docs/experiments.md.
    """
    names = ("learning_rates", "latent_learning_rates")
    longer = {n: tuple(rate * variant.inner_steps for rate in getattr(variant, n)) for n in names}
    return {"inner_steps": 1, **longer}
