"""What a recipe makes of a backbone's defaults, and the paper's ten steps on the real schedules."""

from __future__ import annotations

import dataclasses

import pytest
from diffusers import CogVideoXDDIMScheduler, CogVideoXDPMScheduler

from pe_toolkit.backbones import variant_for
from pe_toolkit.backbones.sampling import noise_levels
from pe_toolkit.errors import UsageError
from pe_toolkit.training import TrainConfig
from pe_toolkit.training.config import PAPER_SHARE
from pe_toolkit.training.events import GuidedStep
from pe_toolkit.training.trainer import guided_steps, train
from tests.tiny import moving_square, tiny_adapter

FIRST_TEN = list(range(999, 800, -20))


@pytest.mark.parametrize("name", ["cogvideox-2b", "cogvideox-5b", "cogvideox-5b-i2v"])
def test_paper_on_cogvideox_is_the_published_configuration(name):
    variant = variant_for(name)
    # Whatever the row's own defaults become, the recipe stays.
    variant = dataclasses.replace(variant, tau=9.0, inner_steps=1, samples=4, start="flow", steps=9)
    got = TrainConfig(recipe="paper").resolve(variant)
    assert (got.tau, got.mask, got.inner_steps, got.samples, got.start) == (
        2,
        "nonzero",
        5,
        1,
        "zero",
    )
    assert got.learning_rates == (0.002, 0.001)
    assert (got.steps, got.guidance_scale, got.parametrisation) == (50, 7.0, "table")
    assert got.block == {"cogvideox-2b": 15}.get(name, 20)
    assert got.dynamic_cfg == (name != "cogvideox-2b")
    assert "bad quality" in got.negative_prompt
    assert got.guided_first
    assert not got.kv


@pytest.mark.parametrize(
    ("name", "kind", "shift"),
    [
        ("cogvideox-2b", CogVideoXDDIMScheduler, 3.0),
        ("cogvideox-5b", CogVideoXDPMScheduler, 1.0),
    ],
)
def test_the_first_ten_of_fifty_by_count_and_by_noise(name, kind, shift):
    """Schedulers as published: scheduler/scheduler_config.json of 2b and 5b."""
    scheduler = kind(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
        prediction_type="v_prediction", rescale_betas_zero_snr=True, snr_shift_scale=shift,
        timestep_spacing="trailing",
    )  # fmt: skip
    scheduler.set_timesteps(50)
    noise = noise_levels(scheduler, scheduler.timesteps)
    share = round(50 * PAPER_SHARE)
    by_count = guided_steps(noise, (noise[share - 1], noise[0]))
    assert [int(scheduler.timesteps[i]) for i in by_count] == FIRST_TEN
    for steps in (50, 25, 30, 100):
        scheduler.set_timesteps(steps)
        noise = noise_levels(scheduler, scheduler.timesteps)
        assert guided_steps(noise, variant_for(name).guided_range) == list(range(steps // 5))


def test_paper_on_the_bundled_backbone_keeps_its_own_schedule():
    variant = variant_for("bundled")
    got = TrainConfig(recipe="paper").resolve(variant)
    assert (got.steps, got.guidance_scale, got.negative_prompt) == (
        variant.steps, variant.guidance_scale, "",
    )  # fmt: skip
    asked = TrainConfig(recipe="paper", guided_range=(0.9, 1.0), tau=3.0).resolve(variant)
    assert (asked.guided_first, asked.guided_range, asked.tau) == (False, (0.9, 1.0), 3.0)


def test_fast_goes_as_far_in_one_step():
    variant = variant_for("cogvideox-5b")
    got = TrainConfig(recipe="fast").resolve(variant)
    assert got.inner_steps == 1
    assert got.learning_rates == pytest.approx((0.01, 0.005))
    asked = TrainConfig(recipe="fast", learning_rates=(0.5, 0.5), inner_steps=4).resolve(variant)
    assert (asked.inner_steps, asked.learning_rates) == (4, (0.5, 0.5))
    with pytest.raises(UsageError, match="default, paper, fast"):
        TrainConfig(recipe="slow").resolve(variant)  # type: ignore[arg-type]


def test_paper_guides_a_fifth_whatever_the_steps():
    adapter = tiny_adapter()
    config = TrainConfig(prompts=("a red circle",), recipe="paper", steps=10, inner_steps=1)
    steps = [e for e in train(adapter, moving_square(), config) if isinstance(e, GuidedStep)]
    assert [step.total for step in steps] == [2, 2]
