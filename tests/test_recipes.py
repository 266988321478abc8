"""What a recipe makes of a backbone's defaults, and the paper's ten steps on the real schedules."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from diffusers import CogVideoXDDIMScheduler, CogVideoXDPMScheduler

from pe_toolkit.apply import applied, generate, replay
from pe_toolkit.apply.request import ApplyRequest
from pe_toolkit.backbones import VARIANTS, CogVideoXAdapter, load_backbone, variant_for
from pe_toolkit.backbones.cogvideox.sampling import noise_levels
from pe_toolkit.card import MotionCard
from pe_toolkit.cli import machine, train_steps
from pe_toolkit.cli.commands.train import train as train_command
from pe_toolkit.cli.main import cli
from pe_toolkit.cli.output import Output
from pe_toolkit.cli.requests.train import TrainOptions
from pe_toolkit.errors import UsageError
from pe_toolkit.training import TrainConfig
from pe_toolkit.training.events import GuidedStep, PreviewFrames
from pe_toolkit.training.recipes import PAPER_SHARE
from pe_toolkit.training.schedule import guided_steps
from pe_toolkit.training.shape import Shape
from pe_toolkit.training.trainer import train
from pe_toolkit.video import clip, write_video
from tests.test_image_to_video import adapter_of as image_to_video
from tests.tiny import FRAMES, SIDE, TOKENS, moving_square, tiny_adapter, tiny_pipe

FIRST_TEN = list(range(999, 800, -20))


def stock_latents(adapter, prompt, seed, negative, steps, scale, dynamic):
    """What the pipeline itself makes, as whoever calls it would."""
    return adapter.pipe(
        prompt=prompt,
        negative_prompt=negative or None,
        num_frames=FRAMES,
        width=SIDE,
        height=SIDE,
        num_inference_steps=steps,
        guidance_scale=scale,
        use_dynamic_cfg=dynamic,
        generator=torch.Generator("cpu").manual_seed(seed),
        max_sequence_length=TOKENS,
        output_type="latent",
    ).frames


def test_unless_told_otherwise_the_recipe_is_what_is_best_on_the_backbone():
    bundled, published = VARIANTS["bundled"], VARIANTS["cogvideox-5b"]
    assert TrainConfig() == TrainConfig(recipe="auto")
    assert TrainConfig(seed=3).resolve(bundled) == TrainConfig(recipe="rich", seed=3).resolve(
        bundled
    )
    assert TrainConfig().resolve(published) == TrainConfig(recipe="default").resolve(published)
    # What only optimising can serve, or one number of a recipe, asks for the default's others.
    for asked in ({"inner_steps": 2}, {"mode": "latents"}, {"objective": "smm"}, {"tau": 3.0}):
        assert TrainConfig(**asked).resolve(bundled).recipe == "default"


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
    bundled = variant_for("bundled")  # other rates for latents than for positions
    for mode, rates in (("positions", (0.018, 0.009)), ("latents", (0.03, 0.03))):
        got = TrainConfig(recipe="fast", mode=mode).resolve(bundled)
        assert (got.inner_steps, got.learning_rates) == (1, pytest.approx(rates))
        paper = TrainConfig(recipe="paper", mode=mode).resolve(bundled)
        assert paper.learning_rates == (0.002, 0.001)
    asked = TrainConfig(recipe="fast", learning_rates=(0.5, 0.5), inner_steps=4).resolve(variant)
    assert (asked.inner_steps, asked.learning_rates) == (4, (0.5, 0.5))
    with pytest.raises(UsageError, match="default, paper, fast"):
        TrainConfig(recipe="slow").resolve(variant)  # type: ignore[arg-type]


@pytest.mark.parametrize(("scheduler", "dynamic"), [("ddim", False), ("dpm", True)])
def test_a_pipeline_of_the_users_own_is_guided_as_its_scheduler_wants(scheduler, dynamic):
    adapter = CogVideoXAdapter(tiny_pipe("rotary", scheduler))
    config = TrainConfig(
        prompts=("a red circle",), block=1, inner_steps=0, steps=5, guided_range=(0.9, 1.0)
    )
    *_, last = train(adapter, moving_square(), config)
    assert last.card.spec.schedule.dynamic_cfg is dynamic
    assert last.card.spec.schedule.scheduler == type(adapter.pipe.scheduler).__name__


def test_another_scheduler_for_a_generation_wins_and_has_no_dynamic_guidance():
    adapter = tiny_adapter("rotary", "dpm", dynamic_cfg=True)
    *_, last = train(adapter, moving_square(), TrainConfig(prompts=("a red circle",)))
    assert last.card.spec.schedule.dynamic_cfg
    scale = last.card.spec.schedule.guidance_scale
    [made] = generate(adapter, ["a red circle"], [3], card=last.card, scheduler="ddim")
    before = adapter.pipe.scheduler
    adapter.pipe.scheduler = CogVideoXDDIMScheduler.from_config(before.config)
    with applied(adapter, last.card):
        latents = stock_latents(adapter, "a red circle", 3, "", 5, scale, dynamic=False)
    assert np.array_equal(made.frames, adapter.decode(latents, FRAMES))
    adapter.pipe.scheduler = before
    [own] = generate(adapter, ["a red circle"], [3], card=last.card)
    with applied(adapter, last.card):
        latents = stock_latents(adapter, "a red circle", 3, "", 5, scale, dynamic=True)
    assert np.array_equal(own.frames, adapter.decode(latents, FRAMES))


def published(name, **changes):
    """A tiny model under the name of a published one, so that recipes treat it as such."""
    row = variant_for(name)
    scheduler = "dpm" if row.dynamic_cfg else "ddim"
    own = {"name": name, "hub_id": row.hub_id, "dynamic_cfg": row.dynamic_cfg}
    return tiny_adapter(row.positions, scheduler, **own, **changes)


def trained(adapter, **changes):
    """A card of `--recipe paper` and the frames that its training ended with."""
    config = TrainConfig(
        prompts=("a red circle",), recipe="paper", seed=3, steps=10, inner_steps=1, preview=True
    )
    events = list(train(adapter, moving_square(), dataclasses.replace(config, **changes)))
    return events[-1].card, next(e for e in events if isinstance(e, PreviewFrames)).frames


@pytest.mark.parametrize("name", ["cogvideox-5b", "cogvideox-2b"])
def test_a_paper_card_on_its_own_sample_gives_the_trained_video(name):
    adapter = published(name)
    card, frames = trained(adapter)
    negative = TrainConfig(recipe="paper").resolve(variant_for(name)).negative_prompt
    assert card.spec.schedule.negative_prompt == negative
    assert (card.spec.format_version, "negative_prompt" in card.spec.schedule.to_dict()) == (
        "2.0", True,
    )  # fmt: skip
    [made] = generate(adapter, ["a red circle"], [3], card=card)
    assert np.array_equal(made.frames, frames)
    # Whatever is asked for wins, also nothing.
    for asked in ("", "blue square"):
        [other] = generate(adapter, ["a red circle"], [3], card=card, negative_prompt=asked)
        with applied(adapter, card):
            latents = stock_latents(
                adapter, "a red circle", 3, asked, 10, 7.0, adapter.variant.dynamic_cfg
            )
        assert np.array_equal(other.frames, adapter.decode(latents, FRAMES))
        assert not np.array_equal(other.frames, frames)


def test_a_paper_card_of_latents_is_replayed_with_its_negative_prompt():
    adapter = published("cogvideox-2b")
    card, frames = trained(adapter, mode="latents", learning_rates=(0.05, 0.05))
    [made] = generate(adapter, ["a red circle"], [3], card=card)
    assert np.array_equal(made.frames, frames)
    [other] = generate(adapter, ["a red circle"], [3], card=card, negative_prompt="blue square")
    assert not np.array_equal(other.frames, frames)
    with replay(adapter, card) as replaying:
        latents = adapter.pipe(
            prompt="a red circle", num_frames=FRAMES, width=SIDE, height=SIDE,
            num_inference_steps=10, guidance_scale=7.0,
            generator=torch.Generator("cpu").manual_seed(3), max_sequence_length=TOKENS,
            output_type="latent", **replaying.arguments(),
        ).frames  # fmt: skip
    assert np.array_equal(adapter.decode(latents, FRAMES), frames)


def test_latents_replayed_with_dpm_draw_the_noise_that_they_were_trained_with() -> None:
    adapter = published("cogvideox-5b")
    card, frames = trained(adapter, mode="latents", learning_rates=(0.05, 0.05))
    [made] = generate(adapter, ["a red circle"], [3], card=card)
    assert np.array_equal(made.frames, frames)


@pytest.mark.parametrize("mode", ["positions", "latents"])
def test_the_plain_comparison_has_the_cards_negative_prompt_too(mode):
    adapter = published("cogvideox-5b")
    card, frames = trained(adapter, mode=mode, learning_rates=(0.05, 0.05))
    request = ApplyRequest(prompts=("a red circle",), no_card=True)
    negative = card.spec.schedule.negative_prompt
    for asked, used in ((None, negative), ("", ""), ("blue square", "blue square")):
        told = dataclasses.replace(request, negative_prompt=asked).settings(card.spec)
        assert told.negative_prompt == used
    if mode == "latents":  # the card is not there to say so, and the variant's scale is another
        assert request.settings(card.spec).guidance_scale == 7.0
    [made] = request.generate(adapter, card, request.prompts, [3])
    assert made.guided_steps == 0
    latents = stock_latents(adapter, "a red circle", 3, negative, 10, 7.0, dynamic=True)
    assert np.array_equal(made.frames, adapter.decode(latents, FRAMES))
    assert not np.array_equal(made.frames, frames)


def test_a_card_without_a_negative_prompt_says_nothing_of_one():
    card, _ = trained(tiny_adapter())
    assert "negative_prompt" not in card.spec.schedule.to_dict()


def command(*more: str, reference: str = "ref.mp4") -> TrainOptions:
    """The options of `pe train REF -o CARD ...` as the command takes them."""
    with train_command.make_context("train", [reference, "-o", "c.safetensors", *more]) as context:
        return TrainOptions.of(**context.params)


def test_the_published_24_frames_only_where_a_backbone_leaves_the_choice(tmp_path):
    reference = tmp_path / "ref.mp4"
    write_video(reference, moving_square(56, 64).frames, fps=8)
    paper = command("--recipe", "paper", reference=str(reference))
    own = command("--recipe", "default")
    for name, row in VARIANTS.items():
        shape = Shape.of_variant(row)
        fixed = name == "cogvideox-5b-i2v"
        assert shape.fixed_size == row.fixed_size == fixed, name
        assert paper.frames_for(row) == (49 if fixed else 24), name
        assert own.frames_for(row) == row.frames
        small = dataclasses.replace(shape, width=SIDE, height=SIDE)
        if name.startswith("cogvideox-5b"):
            clip = train_steps.read_reference(paper, small, Output())
            assert len(clip.frames) == (49 if fixed else 24)
    assert paper.frames_for(None) == 24
    assert own.frames_for(None) is None
    asked = command("--recipe", "paper", "--frames", "17")
    assert asked.frames_for(variant_for("cogvideox-5b")) == 17


@pytest.mark.parametrize("more", [("--frames", "24"), ("--size", "640x480"), ("--frames", "81")])
def test_another_size_than_the_learned_one_is_refused_before_anything_is_loaded(more):
    shape = Shape.of_variant(variant_for("cogvideox-5b-i2v"))
    with pytest.raises(UsageError, match="49 frames of 720x480, the one size") as caught:
        command(*more).check_for(shape)
    assert caught.value.hint == "Leave --frames and --size out."
    command("--frames", "49", "--size", "720x480").check_for(shape)
    command(*more).check_for(Shape.of_variant(variant_for("cogvideox1.5-5b-i2v")))


def test_memory_is_planned_for_the_frames_that_are_trained():
    for name, frames in (("cogvideox-5b", 24), ("THUDM/CogVideoX-5b-I2V", 49), ("./folder", 24)):
        _, row, _ = machine.resolve(name, None)
        assert command("--recipe", "paper").purpose(row).frames == frames
    assert command().purpose(None).frames is None


def test_paper_on_an_image_to_video_folder_with_learned_positions(tmp_path, monkeypatch):
    """33 frames learned: 24 would be refused, after the model was loaded. The folder tells so
    before, and the clip is read once.
    """
    monkeypatch.chdir(tmp_path)
    reads = []
    opening = clip.open_source
    monkeypatch.setattr(clip, "open_source", lambda *a: (reads.append(a), opening(*a))[1])
    learned = image_to_video("1.0").pipe
    config = {k: v for k, v in learned.transformer.config.items() if not k.startswith("_")}
    parts = learned.components | {
        "transformer": type(learned.transformer)(**config | {"sample_frames": 33}).eval()
    }
    type(learned)(**parts).save_pretrained("folder")
    write_video("ref.mp4", moving_square(40, 64).frames, fps=8)
    call = ["train", "ref.mp4", "-o", "c.safetensors", "--backbone", "./folder", "--prompt"]
    call += ["a red circle", "--recipe", "paper", "--steps", "5", "--set", "K=1"]
    result = CliRunner().invoke(cli, [*call, "--set", "block=1"])
    assert result.exit_code == 0, result.output
    assert MotionCard.load(tmp_path / "c.safetensors").spec.clip.frames == 33
    assert len(reads) == 1
    assert Shape.of_folder(tmp_path / "folder") == Shape.of_adapter(load_backbone("./folder"))
    assert Shape.of_folder(tmp_path) is None


def test_paper_guides_a_fifth_whatever_the_steps():
    adapter = tiny_adapter()
    config = TrainConfig(prompts=("a red circle",), recipe="paper", steps=10, inner_steps=1)
    steps = [e for e in train(adapter, moving_square(), config) if isinstance(e, GuidedStep)]
    assert [step.total for step in steps] == [2, 2]


def test_an_objective_that_is_named_is_optimised() -> None:
    row = VARIANTS["bundled"]
    assert TrainConfig().resolve(row).recipe == "rich"
    assert TrainConfig().resolve(row).objective == "amf"
    for name in ("amf", "smm"):
        asked = TrainConfig(objective=name).resolve(row)
        assert (asked.recipe, asked.objective) == ("default", name)
        assert TrainConfig().with_overrides({"objective": name}).resolve(row).recipe == "default"
    with pytest.raises(UsageError, match="positions are not optimised, got 0 with smm"):
        TrainConfig(recipe="rich", objective="smm").resolve(row)


def test_a_radius_alone_keeps_the_recipes_gamma() -> None:
    row = VARIANTS["bundled"]
    asked = TrainConfig().with_overrides({"phase": "4"}).resolve(row)
    assert asked.phase == (4.0, TrainConfig().resolve(row).phase[1])  # type: ignore[index]
    plain = TrainConfig(recipe="default").with_overrides({"phase": "4"}).resolve(row)
    assert plain.phase == (4.0, 2.0)
    with pytest.raises(UsageError, match="--set reading=content, got reading="):
        TrainConfig().with_overrides({"reading": ""})


@pytest.mark.parametrize("radius", [2, 2.0, np.float32(2), (2,)])
def test_a_radius_may_stand_by_itself(radius) -> None:
    found = TrainConfig(phase=radius).resolve(VARIANTS["bundled"])
    assert found == TrainConfig(phase=(2.0,)).resolve(VARIANTS["bundled"])
    assert TrainConfig(phase=()).resolve(VARIANTS["bundled"]).phase is None


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"phase": "x"}, "two numbers or one as phase"),
        ({"learning_rates": 0.1}, "two numbers as learning_rates, got 0.1"),
        ({"learning_rates": ("a", 1)}, "two numbers as learning_rates"),
        ({"guided_range": 0.5}, "two numbers as guided_range, got 0.5"),
        ({"reference_blocks": 5}, "whole numbers as reference_blocks, got 5"),
        ({"seed": "1"}, "whole number of seed, got '1'"),
        ({"tau": "x"}, "a number as tau, got 'x'"),
        ({"guidance_scale": "6"}, "a number as guidance_scale, got '6'"),
    ],
)
def test_what_is_no_number_is_refused_by_name(changes, text) -> None:
    with pytest.raises(UsageError, match=text):
        TrainConfig(**changes).resolve(VARIANTS["bundled"])


def test_the_noise_that_positions_go_with_is_part_of_rich() -> None:
    row = VARIANTS["bundled"]
    for asked in ({"phase": (3.0, 2.0)}, {"ground": 1.0}, {"guided_range": (0.0, 1.0)}):
        assert TrainConfig(**asked).resolve(row).recipe == "rich"  # type: ignore[arg-type]
    assert TrainConfig(inner_steps=2).resolve(row).recipe == "default"
    assert TrainConfig(phase=()).resolve(row).ground == 0.0
    with pytest.raises(UsageError, match="a phase with a ground, got none"):
        TrainConfig(phase=(), ground=1.0).resolve(row)
    with pytest.raises(UsageError, match="a phase with a ground, got none"):
        TrainConfig(recipe="default", ground=1.0).resolve(row)
