"""The trainer: its loop is the pipeline's, it learns, it resumes, it is deterministic, it freezes
the weights.
"""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from pe_toolkit.apply import applied
from pe_toolkit.backbones.cogvideox.sampling import CogVideoXSampler
from pe_toolkit.backbones.reading import Reading
from pe_toolkit.card import MotionCard
from pe_toolkit.errors import MotionError, ResumeError, UnsupportedError, UsageError
from pe_toolkit.training import TrainConfig, resume, train
from pe_toolkit.training.events import Finished, GuidedStep, InnerStep, PreviewFrames, Resumed
from tests import test_image_to_video
from tests.tiny import FRAMES, GUIDANCE, SIDE, TOKENS, clip_of, moving_square, tiny_adapter

PROMPTS = ["a red circle", "a blue square"]
CONFIG = TrainConfig(prompts=tuple(PROMPTS), recipe="default", seed=3)


def finished(adapter, config=CONFIG, clip=None, **options):
    events = list(train(adapter, clip or moving_square(), config, **options))
    assert isinstance(events[-1], Finished)
    return events[-1].card, events


def stock_latents(adapter, guidance_scale, dynamic):
    return adapter.pipe(
        prompt=PROMPTS,
        num_frames=FRAMES,
        width=SIDE,
        height=SIDE,
        num_inference_steps=5,
        guidance_scale=guidance_scale,
        use_dynamic_cfg=dynamic,
        generator=[torch.Generator("cpu").manual_seed(s) for s in (3, 4)],
        max_sequence_length=TOKENS,
        output_type="latent",
    ).frames


@pytest.mark.parametrize("positions", ["rotary", "absolute"])
@pytest.mark.parametrize(("scheduler", "dynamic"), [("ddim", False), ("dpm", True)])
@pytest.mark.parametrize("guidance_scale", [1.0, 4.0])
def test_the_loop_is_the_pipelines_bit_for_bit(positions, scheduler, dynamic, guidance_scale):
    adapter = tiny_adapter(positions, scheduler)
    sampler = CogVideoXSampler(
        adapter,
        PROMPTS,
        [3, 4],
        steps=5,
        guidance_scale=guidance_scale,
        dynamic_cfg=dynamic,
        frames=FRAMES,
        width=SIDE,
        height=SIDE,
    )
    for index in range(5):
        sampler.step(index)
    assert torch.equal(sampler.latents, stock_latents(adapter, guidance_scale, dynamic))


def all_samples(monkeypatch):
    """The latents of every sample of a training, as they are when it ends; a preview shows one."""
    held, init = [], CogVideoXSampler.__init__

    def keep(self, *args, **options):
        held.append(self)
        init(self, *args, **options)

    monkeypatch.setattr(CogVideoXSampler, "__init__", keep)
    return lambda: held[-1].latents


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("scheduler", "dynamic"), [("ddim", False), ("dpm", True)])
@pytest.mark.parametrize(
    ("positions", "form"), [("rotary", "angle"), ("rotary", "table"), ("absolute", "table")]
)
def test_learning_rate_zero_changes_nothing(
    positions, form, scheduler, dynamic, dtype, monkeypatch
):
    adapter = tiny_adapter(positions, scheduler, dynamic_cfg=dynamic)
    adapter.pipe.to(dtype)
    latents = all_samples(monkeypatch)
    config = dataclasses.replace(
        CONFIG, parametrisation=form, learning_rates=(0.0, 0.0), preview=True
    )
    card, events = finished(adapter, config)
    assert not card.tensors["positions"].any()
    stock = stock_latents(adapter, GUIDANCE, dynamic)
    assert stock.dtype == dtype
    assert torch.equal(latents(), stock)
    preview = next(e for e in events if isinstance(e, PreviewFrames))
    assert np.array_equal(preview.frames, adapter.decode(stock[:1], FRAMES))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", ["1.0", "1.5"])
def test_learning_rate_zero_changes_nothing_from_an_image_either(kind, dtype, monkeypatch):
    adapter = test_image_to_video.adapter_of(kind)
    adapter.pipe.to(dtype)
    latents = all_samples(monkeypatch)
    config = dataclasses.replace(CONFIG, learning_rates=(0.0, 0.0), preview=True)
    card, _ = finished(adapter, config, image=test_image_to_video.PICTURE)
    assert not card.tensors["positions"].any()
    assert torch.equal(latents(), test_image_to_video.stock(adapter, PROMPTS, [3, 4]))


@pytest.mark.parametrize("guidance_scale", [1.0, 4.0])
def test_one_sample_after_the_other_as_on_a_gpu(guidance_scale):
    """The memory model counts a denoising step as both halves of guidance of one sample."""
    adapter, batches, ends = tiny_adapter(scheduler="dpm"), [], []
    handle = adapter.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: batches.append(len(kwargs["hidden_states"])), with_kwargs=True
    )
    for together in (3, 1):
        sampler = CogVideoXSampler(
            adapter, [PROMPTS[0]] * 3, [3, 4, 5], steps=3, guidance_scale=guidance_scale,
            dynamic_cfg=True, frames=FRAMES, width=SIDE, height=SIDE,
        )  # fmt: skip
        sampler.together = together
        ends.append([sampler.step(index) for index in range(3)][-1])
    handle.remove()
    both = 1 if guidance_scale == 1 else 2
    assert batches == [3 * both] * 3 + [both] * 9
    assert torch.allclose(*ends, atol=1e-4)
    assert not torch.allclose(ends[0][0], ends[0][1], atol=0.1)


def test_latents_mode_at_learning_rate_zero_is_the_pipeline(monkeypatch):
    adapter = tiny_adapter()
    ours = all_samples(monkeypatch)
    config = TrainConfig(
        prompts=(PROMPTS[0],), seed=3, mode="latents", learning_rates=(0.0, 0.0), preview=True
    )
    _, events = finished(adapter, config)
    preview = next(e for e in events if isinstance(e, PreviewFrames))
    latents = adapter.pipe(
        prompt=PROMPTS[0],
        num_frames=FRAMES,
        width=SIDE,
        height=SIDE,
        num_inference_steps=5,
        guidance_scale=GUIDANCE,
        generator=torch.Generator("cpu").manual_seed(3),
        max_sequence_length=TOKENS,
        output_type="latent",
    ).frames
    assert torch.equal(ours(), latents)
    assert np.array_equal(preview.frames, adapter.decode(latents, FRAMES))


@pytest.mark.parametrize(
    ("positions", "form"), [("rotary", "angle"), ("rotary", "table"), ("absolute", "table")]
)
def test_training_lowers_the_loss_and_leaves_the_weights_alone(positions, form):
    adapter = tiny_adapter(positions, inner_steps=6)
    before = {k: v.clone() for k, v in adapter.transformer.state_dict().items()}
    processors = dict(adapter.transformer.attn_processors)
    config = dataclasses.replace(CONFIG, parametrisation=form, learning_rates=(0.05, 0.05))
    card, events = finished(adapter, config)
    steps = [e for e in events if isinstance(e, GuidedStep)]
    assert steps
    assert all(s.loss_last < s.loss_first for s in steps)
    assert len([e for e in events if isinstance(e, InnerStep)]) == 6 * len(steps)
    assert card.tensors["positions"].shape[0] == len(steps) == card.spec.guided_steps
    assert all(torch.equal(v, before[k]) for k, v in adapter.transformer.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in adapter.transformer.parameters())
    assert adapter.transformer.attn_processors == processors


def test_latents_mode_lowers_the_loss():
    adapter = tiny_adapter(inner_steps=6)
    card, events = finished(
        adapter, TrainConfig(prompts=(PROMPTS[0],), mode="latents", learning_rates=(0.05, 0.05))
    )
    assert all(e.loss_last < e.loss_first for e in events if isinstance(e, GuidedStep))
    assert card.spec.kind == "latents"


def test_same_seed_same_card():
    cards = [finished(tiny_adapter())[0] for _ in range(2)]
    # Frames made in memory: nobody knows how they were sampled.
    assert (cards[0].spec.reference.used, cards[0].spec.reference.fit) == (None, None)
    same = [dataclasses.replace(c.spec, created="2026-01-01T00:00:00Z", digest="") for c in cards]
    assert same[0] == same[1]
    assert (
        MotionCard(same[0], cards[0].tensors).digest == MotionCard(same[1], cards[1].tensors).digest
    )


@pytest.mark.parametrize("mode", ["positions", "latents"])
@pytest.mark.parametrize("scheduler", ["ddim", "dpm"])
def test_an_interrupted_run_continues_to_the_same_card(tmp_path, mode, scheduler):
    prompts = tuple(PROMPTS) if mode == "positions" else (PROMPTS[0],)
    config = TrainConfig(prompts=prompts, mode=mode, recipe="default")
    options = {"guided_range": (0.5, 1.0)}
    whole, _ = finished(tiny_adapter(scheduler=scheduler, **options), config)
    state = tmp_path / "card.safetensors.resume"
    run = train(tiny_adapter(scheduler=scheduler, **options), moving_square(), config, state=state)
    for event in run:
        if isinstance(event, GuidedStep) and event.index == 0:
            run.close()  # as a kill between two steps would
    card, events = finished(
        tiny_adapter(scheduler=scheduler, **options), config, state=state, resume=True
    )
    assert any(isinstance(e, Resumed) and e.step == 1 for e in events)
    key = "positions" if mode == "positions" else "latents"
    assert np.array_equal(card.tensors[key], whole.tensors[key])
    assert card.spec.training.loss == whole.spec.training.loss


def test_a_resumed_run_that_optimises_nothing_says_how_far_it_was(tmp_path):
    config = TrainConfig(prompts=(PROMPTS[0],), recipe="default", inner_steps=0, preview=True)
    options, state = {"guided_range": (0.5, 1.0)}, tmp_path / "card.safetensors.resume"
    run = train(tiny_adapter(**options), moving_square(), config, state=state)
    for event in run:
        if isinstance(event, GuidedStep) and event.index == 1:
            run.close()
    _, events = finished(tiny_adapter(**options), config, state=state, resume=True)
    assert [e.step for e in events if isinstance(e, Resumed)] == [2]
    assert next(e.index for e in events if isinstance(e, GuidedStep)) == 2


@pytest.mark.parametrize("mode", ["positions", "latents"])
def test_a_resume_state_holds_no_more_than_the_card(tmp_path, mode):
    config = TrainConfig(prompts=(PROMPTS[0],), mode=mode, recipe="default")
    options = {"guided_range": (0.5, 1.0)}
    state = tmp_path / "state.resume"
    whole, _ = finished(tiny_adapter(**options), config, state=state)
    run = train(tiny_adapter(**options), moving_square(), config, state=state)
    for event in run:
        if isinstance(event, GuidedStep):
            run.close()
    tensors = load_file(state)
    [name] = [n for n in tensors if n.startswith(("result.", "carried"))]
    card = whole.tensors[mode]
    assert (tensors[name].dtype, tensors[name].numel()) == (torch.float16, card[0].size)
    # As earlier versions wrote it: the same numbers in float32, and the last ones twice.
    with safe_open(state, "pt") as file:
        about = json.loads(file.metadata()["pe"])
    del about["gradient_limit"]
    facts = json.loads(about["identity"])
    for later in ("objective", "phase", "phase_mean", "noise_of"):
        del facts["settings"][later]
    facts["settings"]["radius_of_two"] = None
    about["identity"] = json.dumps(facts, sort_keys=True)
    wide = tensors[name].float()
    tensors |= {name: wide, "carried": wide.clone() if mode == "positions" else torch.zeros(0)}
    save_file(tensors, state, {"pe": json.dumps(about)})
    card, _ = finished(tiny_adapter(**options), config, state=state, resume=True)
    assert np.array_equal(card.tensors[mode], whole.tensors[mode])


def test_resume_says_that_the_noise_is_not_what_an_earlier_version_had():
    """No option brings it back: of two things the means of its planes are left to the noise now."""
    ours = json.dumps({"settings": {"phase": [4.0, 3.0], "phase_mean": False}})
    theirs = json.dumps({"settings": {"phase": [4.0, 3.0]}})
    assert resume._difference(theirs, ours, "another clip") == "the noise of an earlier version"


def test_resume_says_what_of_the_clip_is_another(tmp_path):
    state, clip = tmp_path / "state.resume", moving_square()
    adapter = tiny_adapter()
    run = train(adapter, clip, CONFIG, state=state)
    while not state.exists():
        next(run)
    run.close()
    for change, says in (
        ({"frames": clip.frames[:8]}, r"--frames 9 \(now 8\)"),
        ({"frames": clip.frames[::-1], "start": 0.5}, r"--start 0.0 \(now 0.5\)"),
        ({"frames": clip.frames[::-1], "end": 0.5}, r"--end None \(now 0.5\)"),
        ({"frames": clip.frames[::-1]}, "other frames of the same clip"),
        ({"frames": clip.frames[::-1], "sha256": "1" * 64}, "another reference clip"),
    ):
        other = dataclasses.replace(clip, **change)
        with pytest.raises(ResumeError, match=says) as caught:
            list(train(adapter, other, CONFIG, state=state, resume=True))
        assert "--force instead of --resume" in caught.value.hint  # without either it is refused


def test_resume_refuses_another_run(tmp_path):
    state = tmp_path / "state.resume"
    adapter = tiny_adapter()
    list(train(adapter, moving_square(), CONFIG, state=state))
    with pytest.raises(ResumeError, match="tau"):
        list(
            train(
                adapter,
                moving_square(),
                dataclasses.replace(CONFIG, tau=9.0),
                state=state,
                resume=True,
            )
        )
    state.write_bytes(b"damaged")
    with pytest.raises(ResumeError, match="damaged"):
        list(train(adapter, moving_square(), CONFIG, state=state, resume=True))
    state.unlink()
    with pytest.raises(ResumeError, match="found none"):
        list(train(adapter, moving_square(), CONFIG, state=state, resume=True))


def test_a_trained_card_applied_to_its_own_sample_gives_the_trained_latents():
    adapter = tiny_adapter()
    config = dataclasses.replace(CONFIG, preview=True)
    card, events = finished(adapter, config)
    preview = next(e for e in events if isinstance(e, PreviewFrames))
    with applied(adapter.pipe, card) as log:
        latents = stock_latents(adapter, GUIDANCE, False)
    assert log.guided_steps == card.spec.guided_steps
    assert np.array_equal(preview.frames, adapter.decode(latents[:1], FRAMES))


def test_a_still_reference_is_refused():
    still = clip_of(np.broadcast_to(moving_square().frames[:1], (FRAMES, SIDE, SIDE, 3)).copy())
    with pytest.raises(MotionError):
        finished(tiny_adapter(), clip=still)


NAN = float("nan")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"sha256": ""}, "reference.sha256"),
        ({"sha256": "x"}, "reference.sha256"),
        ({"duration": -1.0}, "reference.duration"),
        ({"duration": NAN}, "reference.duration"),
        ({"duration": "1"}, "reference.duration"),
        ({"total_frames": 0}, "reference.frames"),
        ({"start": -3.0}, "reference.start"),
        ({"fps": 0.0}, "reference.fps"),
        ({"fps": NAN}, "reference.fps"),
        ({"source_size": (0, 0)}, "source_size"),
        ({"source_size": 32}, "source_size"),
        ({"fit": "x"}, "reference.fit"),
        ({"frames": torch.zeros(FRAMES, SIDE, SIDE, 3)}, "NumPy array, got Tensor"),
        ({"frames": [[0]]}, "NumPy array, got list"),
        ({"frames": np.zeros((0, SIDE, SIDE, 3), np.uint8)}, "uint8"),
    ],
)
def test_what_no_card_can_say_of_a_clip_is_refused_before_any_work(changes, text):
    clip = dataclasses.replace(moving_square(), **changes)
    with pytest.raises(UsageError, match=text) as caught:
        next(train(tiny_adapter(), clip, CONFIG))
    assert "read_clip" in caught.value.hint


@pytest.mark.parametrize("clip", [None, "ref.mp4", moving_square().frames])
def test_a_clip_is_what_read_clip_gives(clip):
    with pytest.raises(UsageError, match="Expected a clip, got"):
        next(train(tiny_adapter(), clip, CONFIG))


@pytest.mark.parametrize(
    ("config", "error", "text"),
    [
        (TrainConfig(prompts=("",)), UsageError, "empty"),
        (
            TrainConfig(prompts=("a red circle a red circle a red circle",)),
            UsageError,
            "at most 8 tokens",
        ),
        (TrainConfig(prompts=tuple(PROMPTS), mode="latents"), UnsupportedError, "one prompt"),
        (TrainConfig(block=3), UsageError, "block from 0 to 2"),
        (TrainConfig(tau=-1.0), UsageError, "tau"),
        (TrainConfig(guided_range=(0.2, 0.21)), UsageError, "at least one step"),
    ],
)
def test_bad_requests_are_refused(config, error, text):
    config = dataclasses.replace(config, prompts=config.prompts or tuple(PROMPTS))
    with pytest.raises(error, match=text):
        list(train(tiny_adapter(), moving_square(), config))


def test_angle_is_refused_on_absolute_backbones():
    with pytest.raises(UnsupportedError, match="angle"):
        list(
            train(
                tiny_adapter("absolute"),
                moving_square(),
                dataclasses.replace(CONFIG, parametrisation="angle"),
            )
        )


def test_overrides_name_the_known_keys():
    assert TrainConfig().with_overrides({"tau": "6", "lr": "0.1,0.2", "K": "3"}).learning_rates == (
        0.1,
        0.2,
    )
    with pytest.raises(UsageError, match="block, tau"):
        TrainConfig().with_overrides({"nope": "1"})
    with pytest.raises(UsageError, match="tau=2"):
        TrainConfig().with_overrides({"tau": "x"})


def test_the_reference_may_be_read_from_another_block() -> None:
    adapter = tiny_adapter(reading=Reading((2,)))
    config = dataclasses.replace(CONFIG, prompts=("a red circle",), samples=1)
    other, _ = finished(adapter, config)
    same, _ = finished(adapter, dataclasses.replace(config, block=1))
    named, _ = finished(
        adapter, dataclasses.replace(config, block=1).with_overrides({"reference_block": "2"})
    )
    assert (other.spec.recipe.block, other.spec.recipe.reads()) == (1, ((2,), "attention", 0))
    assert same.spec.recipe.reading is None  # a block that is asked for counts for both
    assert not np.array_equal(same.tensors["flow"], other.tensors["flow"])
    assert np.array_equal(named.tensors["positions"], other.tensors["positions"])


def test_the_reference_may_be_read_by_content() -> None:
    adapter = tiny_adapter(reading=Reading((0, 1), "content", 200))
    config = dataclasses.replace(CONFIG, prompts=("a red circle",), samples=1)
    card, _ = finished(adapter, config)
    assert card.spec.recipe.reads() == ((0, 1), "content", 200)
    paper, _ = finished(adapter, dataclasses.replace(config, recipe="paper"))
    assert paper.spec.recipe.reading is None
    named, _ = finished(
        tiny_adapter(),
        config.with_overrides({"reading": "content", "reference_block": "1,0"}),
    )
    assert np.array_equal(named.tensors["flow"], card.tensors["flow"])
    for key, value, expected in (
        ("reading", "shape", "a reading out of attention, content, got shape"),
        ("reference_block", "1,1", "different reference blocks, got 1,1"),
        ("reference_block", "-1", "reference blocks from 0, got -1"),
        ("reference_block", "9", "a block from 0 to"),
        ("start_scale", "0", "a start scale above 0"),
    ):
        with pytest.raises(UsageError, match=expected):
            finished(adapter, config.with_overrides({key: value}))
    with pytest.raises(UsageError, match="reference_block=4,6, got reference_block=x"):
        config.with_overrides({"reference_block": "x"})


def test_the_start_is_the_path_of_the_reference_times_its_scale() -> None:
    config = dataclasses.replace(
        CONFIG, prompts=("a red circle",), samples=1, inner_steps=0, start="flow"
    ).with_overrides({"start_scale": "0.2"})
    once, _ = finished(tiny_adapter(), config)
    half, _ = finished(tiny_adapter(), config.with_overrides({"start_scale": "0.1"}))
    assert (once.spec.recipe.start_scale, half.spec.recipe.start_scale) == (0.2, 0.1)
    assert np.abs(once.tensors["positions"]).max() > 0.1
    np.testing.assert_allclose(
        half.tensors["positions"], 0.5 * once.tensors["positions"].astype(np.float32), atol=4e-3
    )


def test_where_nothing_is_optimised_nothing_is_denoised() -> None:
    """The reference is read in one pass, and the card is that of the steps that were not taken."""
    config = dataclasses.replace(
        CONFIG, prompts=("a red circle",), samples=1, inner_steps=0, start="flow"
    )
    passes, cards = [], []
    for preview in (False, True):
        adapter, calls = tiny_adapter(), []
        handle = adapter.transformer.register_forward_pre_hook(lambda *_, n=calls: n.append(1))
        with handle:
            card, _ = finished(adapter, dataclasses.replace(config, preview=preview))
        passes.append(len(calls))
        cards.append(card)
    assert passes[0] == 1
    assert passes[1] > 5  # a preview is a whole generation
    for name, tensor in cards[0].tensors.items():
        np.testing.assert_array_equal(cards[1].tensors[name], tensor)


def test_without_inner_steps_there_is_no_loss_to_report(capsys: pytest.CaptureFixture[str]) -> None:
    from pe_toolkit.cli.errors import Session
    from pe_toolkit.cli.output import Output
    from pe_toolkit.cli.train_steps import draw

    config = dataclasses.replace(CONFIG, prompts=("a red circle",), samples=1, inner_steps=0)
    for preview in (False, True):
        _, events = finished(tiny_adapter(), dataclasses.replace(config, preview=preview))
        steps = [e for e in events if isinstance(e, GuidedStep)]
        assert bool(steps) == preview  # without one, none is taken
        assert all(e.loss_first is None and e.loss_last is None for e in steps)
        session = Session()
        session.out = Output()
        draw(iter(events), session)
        said = capsys.readouterr().err
        assert "nan" not in said
        assert "nothing optimised" in said
        assert ("guided step" in said) == preview
