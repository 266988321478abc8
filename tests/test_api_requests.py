"""What an engineer may ask of the Python API: refused early, one card at a time, all put back."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    CogVideoXPipeline,
    CogVideoXVideoToVideoPipeline,
    EulerDiscreteScheduler,
    FirstBlockCacheConfig,
)
from diffusers.models.attention_processor import CogVideoXAttnProcessor2_0
from torch import nn

from pe_toolkit.acceleration import timestep
from pe_toolkit.acceleration.timestep import read_timestep
from pe_toolkit.apply import ApplyRequest, applied, generate, replay
from pe_toolkit.apply.parts import phase_strength
from pe_toolkit.backbones import CogVideoXAdapter
from pe_toolkit.card import MotionCard
from pe_toolkit.errors import PeError, UnsupportedError, UsageError
from pe_toolkit.training import TrainConfig, train
from pe_toolkit.training.events import GuidedStep
from pe_toolkit.training.request import TrainRequest
from tests.test_apply import card_for, run
from tests.tiny import moving_square, tiny_adapter, tiny_pipe

GOLDEN = Path(__file__).parent / "golden"
FAST = {"steps": 5, "guidance_scale": 4.0}


@pytest.fixture(scope="module")
def adapter():
    return tiny_adapter()


@pytest.mark.parametrize(
    ("prompts", "seeds", "more", "says"),
    [
        ("red", [1], {}, "Expected a list of prompts, got 'red'"),
        ([3], [1], {}, "Expected a list of prompts, got"),
        (["a"], [1.5], {}, "seeds that are whole numbers, got 1.5"),
        (["a"], [2**64], {}, "Expected a seed from 0 to"),
        (["a"], [-1], {}, "Expected a seed from 0 to"),
        (["a"], [1], {"steps": 0}, "steps from 1 to 1000, got 0"),
        (["a"], [1], {"steps": 1001}, "steps from 1 to 1000, got 1001"),
        (["a"], [1], {"guidance_scale": float("nan")}, "finite guidance scale, got nan"),
    ],
)
def test_what_generate_cannot_mean_is_refused(adapter, prompts, seeds, more, says):
    with pytest.raises(UsageError, match=says):
        next(generate(adapter, prompts, seeds, **more))


def test_seeds_of_numpy_are_seeds(adapter):
    first, second = (
        next(generate(adapter, ["a red"], seeds, **FAST)) for seeds in (np.arange(3, 5), [3])
    )
    assert first.seed == second.seed == 3
    assert np.array_equal(first.frames, second.frames)


def test_a_latents_card_says_what_it_did(adapter):
    card = card_for(adapter, mode="latents")
    made = next(generate(adapter, ["a red"], [1], card=card, steps=7, guidance_scale=4.0))
    there = set(adapter.timesteps(7)).intersection(card.spec.schedule.timesteps)
    assert made.guided_steps == len(there) < card.spec.guided_steps
    for more, says in (
        ({"strength": 0.5}, "strength of 0 or 1 with a latents card, got 0.5"),
        ({"strength": float("nan")}, "strength of 0 or 1"),
        ({"scheduler": "dpm"}, "no scheduler with a latents card"),
    ):
        with pytest.raises(UsageError, match=says):
            next(generate(adapter, ["a red"], [1], card=card, **more))
    backwards = CogVideoXVideoToVideoPipeline(**adapter.pipe.components)
    with (
        pytest.raises(UnsupportedError, match="begins with noise"),
        replay(backwards, card),
    ):
        pass


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name": ""}, "name"),
        ({"card_version": "1"}, "semantic version"),
        ({"author": "x" * 300}, "author"),
        ({"prompts": "red"}, "a list of prompts"),
        ({"seed": 2**63 - 1, "samples": 3}, "Expected a seed from 0 to"),
        ({"mode": "Latents"}, "a mode out of positions, latents, got 'Latents'"),
        ({"guided_range": (0.5,)}, "two numbers as guided_range"),
        ({"phase": (1.0, 2.0, 3.0)}, "two numbers as phase"),
        ({"learning_rates": (0.1, 0.1, 0.1)}, "two numbers as learning_rates"),
        ({"samples": 1.5}, "a whole number of samples"),
        ({"block": 1.0}, "a whole number of block"),
    ],
)
def test_what_a_card_cannot_say_is_refused_before_any_work(adapter, changes, says):
    config = TrainConfig(**{"prompts": ("a red",), "samples": 1, "recipe": "default"} | changes)
    with pytest.raises(UsageError, match=says):
        next(train(adapter, moving_square(), config))


def test_nothing_is_trained_or_replayed_under_a_card():
    own = tiny_adapter("absolute")
    card, latents = card_for(own, "table"), card_for(own, None, mode="latents")
    with applied(own.pipe, card):
        with pytest.raises(UnsupportedError, match="got a training while one is applied"):
            next(train(own, moving_square(), TrainConfig(prompts=("a red",), recipe="default")))
        with pytest.raises(UnsupportedError, match="one card at a time"), replay(own.pipe, latents):
            pass
    begun = train(own, moving_square(), TrainConfig(prompts=("a red",), recipe="default"))
    next(begun)
    with pytest.raises(UnsupportedError, match="being trained"), applied(own.pipe, card):
        pass
    begun.close()
    with applied(own.pipe, card):
        run(own.pipe)
    for second in (applied(own.pipe, card), replay(own.pipe, latents)):
        with (
            replay(own.pipe, latents),
            pytest.raises(UnsupportedError, match="one card at a time"),
            second,
        ):
            pass


class Own(nn.Module):
    """A processor that is a module, as adapters with weights of their own are."""

    def __init__(self):
        super().__init__()
        self.inner = CogVideoXAttnProcessor2_0()

    def forward(
        self, attn, hidden_states, encoder_hidden_states, attention_mask=None, image_rotary_emb=None
    ):
        return self.inner(
            attn, hidden_states, encoder_hidden_states, attention_mask, image_rotary_emb
        )


def test_processors_that_are_modules_take_part_and_come_back(adapter):
    card, pipe = card_for(adapter), tiny_pipe()
    with applied(pipe, card):
        wanted = run(pipe)
    pipe.transformer.set_attn_processor({name: Own() for name in pipe.transformer.attn_processors})
    before = dict(pipe.transformer.attn_processors)
    names = [name for name, _ in pipe.transformer.named_modules()]
    plain = run(pipe)
    with applied(pipe, card):
        found = run(pipe)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
    assert dict(pipe.transformer.attn_processors) == before
    assert sorted(name for name, _ in pipe.transformer.named_modules()) == sorted(names)
    assert torch.equal(run(pipe), plain)


@pytest.mark.parametrize("way", ["compile", "forward"])
def test_a_model_compiled_in_place_is_guided(way):
    """Its graph, made before the card came, would not run the card's hooks."""
    own = tiny_adapter("absolute")
    card, pipe = card_for(own, "table"), tiny_pipe("absolute")
    with applied(pipe, card):
        wanted = run(pipe)
    if way == "compile":
        pipe.transformer.compile(backend="eager")
    else:
        pipe.transformer.forward = torch.compile(pipe.transformer.forward, backend="eager")
    graph = pipe.transformer._compiled_call_impl, pipe.transformer.__dict__.get("forward")
    plain = run(pipe)
    with applied(pipe, card):
        found = run(pipe)
    assert torch.equal(found, wanted)
    assert not torch.equal(found, plain)
    assert graph == (pipe.transformer._compiled_call_impl, pipe.transformer.__dict__.get("forward"))
    assert torch.equal(run(pipe), plain)


def test_threads_read_timesteps_of_their_own():
    seen = []
    whole = torch.arange(9, 0, -1)
    assert read_timestep(whole[3:4]) == 6
    thread = threading.Thread(target=lambda: seen.append(dict(vars(timestep._READER))["_values"]))
    thread.start()
    thread.join()
    assert seen == [[]]
    assert read_timestep(whole[4:5]) == 5


def test_a_training_leaves_every_part_in_its_mode():
    own = tiny_adapter()
    own.pipe.transformer.train()
    own.pipe.transformer.transformer_blocks[0].eval()
    before = [part.training for part in own.pipe.transformer.modules()]
    card_for(own)
    assert [part.training for part in own.pipe.transformer.modules()] == before


def test_what_is_no_pipeline_or_picture_for_it_is_refused(adapter):
    parts = dict(adapter.pipe.components) | {"vae": None}
    with pytest.raises(PeError, match="with its VAE, got one without"):
        CogVideoXAdapter(CogVideoXPipeline(**parts))
    for image in (np.zeros((8, 8)), np.zeros((8, 8, 3)), "a.png"):
        with pytest.raises(UsageError, match=r"an image uint8 \(H, W, 3\)"):
            adapter.check_image(image)


def test_the_phase_goes_with_the_subjects_where_they_are_all_that_moves():
    spec, plain = (
        MotionCard.load(GOLDEN / f"{case}.safetensors").spec
        for case in ("rotary-offset", "rotary-angle")
    )
    two, seen = (
        dataclasses.replace(spec, recipe=dataclasses.replace(spec.recipe, layers=layers), digest="")
        for layers in (("subject", "subject-2"), ("camera", "subject"))
    )
    assert [phase_strength(one, 1.0, 0.25) for one in (two, seen, plain)] == [0.25, 1.0, 1.0]
    assert [phase_strength(one, 2.0, None) for one in (two, seen, plain)] == [1.0, 1.0, 1.0]
    assert phase_strength(two, 0.5, 4.0) == 1.0


OPTIMISED = TrainConfig(prompts=("a red",), samples=1, recipe="fast", seed=3)


def with_euler(**changes):
    """A pipeline whose scheduler counts in sigmas."""
    own = tiny_adapter()
    own.pipe.scheduler = EulerDiscreteScheduler.from_config(own.pipe.scheduler.config, **changes)
    return own


def test_latents_of_another_scale_are_neither_learned_nor_replayed(adapter):
    card, own = card_for(adapter, None, mode="latents"), with_euler()
    with pytest.raises(UnsupportedError, match="whose latents are scaled"), replay(own.pipe, card):
        pass
    with pytest.raises(UnsupportedError, match="whose steps a training cannot take"):
        next(train(own, moving_square(), OPTIMISED))
    settled = dataclasses.replace(OPTIMISED, recipe="rich", phase=(1.0, 2.0))
    assert list(train(own, moving_square(), settled))[-1].card.spec.kind == "positions"


def test_keys_and_values_with_timesteps_between_whole_ones(adapter):
    card, clip = card_for(adapter), moving_square()
    own, plain = with_euler(use_karras_sigmas=True), with_euler(use_karras_sigmas=True)
    with applied(own.pipe, card, kv_from=clip):
        assert not torch.equal(run(own.pipe), run(plain.pipe))


def test_a_training_gets_its_gradients_wherever_it_is_called(adapter):
    def learned():
        return list(train(adapter, moving_square(), OPTIMISED))[-1].card.tensors["positions"]

    wanted = learned()
    with torch.no_grad():
        assert np.array_equal(learned(), wanted)
    with torch.inference_mode(), pytest.raises(UsageError, match="outside of torch"):
        learned()


def test_a_call_of_the_pipeline_does_not_change_what_a_training_learns():
    own, config = tiny_adapter(), dataclasses.replace(OPTIMISED, kv=True, guided_range=(0.5, 1.0))
    cards = []
    for disturbed in (False, True):
        for event in train(own, moving_square(), config):
            if disturbed and isinstance(event, GuidedStep):
                run(own.pipe)
        cards.append(event.card.tensors["positions"])
    assert np.array_equal(*cards)


def test_a_model_compiled_under_a_card_is_guided(adapter):
    card, pipe = card_for(adapter), tiny_pipe()
    with applied(pipe, card):
        wanted = run(pipe)
        pipe.transformer = torch.compile(pipe.transformer, backend="eager")
        torch.testing.assert_close(run(pipe), wanted)


def test_a_cache_that_comes_under_a_card_is_refused(adapter):
    card, pipe = card_for(adapter), tiny_pipe()
    with applied(pipe, card):
        pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=0.1))
        with pytest.raises(UnsupportedError, match="Expected no FirstBlockCacheConfig"):
            run(pipe)
        pipe.transformer.disable_cache()
        run(pipe)


@pytest.mark.parametrize("twice", [0, 1])
def test_a_seed_twice_is_refused(twice):
    with pytest.raises(UsageError, match=f"got {twice} more than once"):
        ApplyRequest(prompts=("a",), seeds=(twice, 5, twice)).check()


def test_seeds_of_the_same_noise_are_one_seed_twice(adapter):
    same = (5, 5 + 2**32)
    first, second = (next(generate(adapter, ["a red"], [seed], **FAST)) for seed in same)
    assert np.array_equal(first.frames, second.frames)
    with pytest.raises(UsageError, match=f"got 5 and {5 + 2**32}, which give the same video"):
        ApplyRequest(prompts=("a",), seeds=same).check()
    ApplyRequest(prompts=("a",), seeds=(5, 6 + 2**32)).check()


@pytest.mark.parametrize("frames", [0, 1, -4])
def test_frames_that_are_no_clip_are_refused(frames):
    with pytest.raises(UsageError, match="of 2 or more"):
        TrainRequest(reference=Path("a.mp4"), frames=frames).check()
