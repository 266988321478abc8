"""Applying a card: exact at strength 0 and after exit, isolated, bounded to its grid, by noise
level.
"""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest
import torch
from diffusers import CogVideoXVideoToVideoPipeline
from PIL import Image

from pe_toolkit.apply import CardWarning, applied, generate, replay, weights_at
from pe_toolkit.backbones import CogVideoXAdapter
from pe_toolkit.card import MotionCard
from pe_toolkit.errors import CardError, MismatchError, UnsupportedError, UsageError
from pe_toolkit.training import TrainConfig, train
from tests.tiny import FRAMES, SIDE, TOKENS, moving_square, tiny_adapter, tiny_pipe

KINDS = [("rotary", "angle"), ("rotary", "table"), ("absolute", "table")]


def card_for(adapter, form="angle", **changes):
    config = TrainConfig(
        prompts=("a red circle",), samples=1, parametrisation=form, learning_rates=(0.1, 0.1)
    )
    return list(train(adapter, moving_square(), dataclasses.replace(config, **changes)))[-1].card


def run(pipe, prompt="a blue square", seed=5, **options):
    options = {"num_inference_steps": 5, "guidance_scale": 4.0, "num_frames": FRAMES, **options}
    prompts = prompt if isinstance(prompt, list) else [prompt]
    return pipe(
        prompt=prompts,
        width=SIDE,
        height=SIDE,
        max_sequence_length=TOKENS,
        generator=[torch.Generator("cpu").manual_seed(seed + i) for i in range(len(prompts))],
        output_type="latent",
        **options,
    ).frames


@pytest.mark.parametrize(("positions", "form"), KINDS)
def test_exact_at_strength_zero_and_after_exit(positions, form):
    adapter = tiny_adapter(positions)
    card = card_for(adapter, form)
    pipe = adapter.pipe
    processors = dict(pipe.transformer.attn_processors)
    plain = run(pipe)
    with applied(pipe, card) as log:
        guided = run(pipe)
    assert not torch.equal(guided, plain)
    assert log.guided_steps == card.spec.guided_steps
    assert torch.equal(run(pipe), plain)
    with applied(pipe, card, strength=0.0) as log:
        assert torch.equal(run(pipe), plain)
    assert log.guided_steps == 0
    with pytest.raises(ZeroDivisionError), applied(pipe, card):
        raise ZeroDivisionError
    assert torch.equal(run(pipe), plain)
    assert pipe.transformer.attn_processors == processors
    assert not pipe.transformer._forward_pre_hooks
    assert not pipe.transformer.patch_embed._forward_hooks


@pytest.mark.parametrize(("positions", "form"), KINDS)
def test_a_zero_card_is_the_plain_pipeline_through_our_processor(positions, form):
    adapter = tiny_adapter(positions)
    card = card_for(adapter, form)
    zero = {**card.tensors, "positions": np.zeros_like(card.tensors["positions"])}
    blank = MotionCard(dataclasses.replace(card.spec, digest=""), zero)
    plain = run(adapter.pipe)
    with applied(adapter.pipe, blank) as log:
        assert torch.equal(run(adapter.pipe), plain)
    assert log.guided_steps


def test_strength_scales_the_effect():
    adapter = tiny_adapter()
    card = card_for(adapter)
    plain = run(adapter.pipe)
    change = []
    for strength in (0.25, 0.5, 1.0):
        with applied(adapter.pipe, card, strength):
            change.append(float((run(adapter.pipe) - plain).norm()))
    assert 0 < change[0] < change[1] < change[2]


def test_two_pipelines_of_one_class_do_not_see_each_other():
    first, second = tiny_adapter(), tiny_adapter()
    card = card_for(first)
    plain = run(second.pipe)
    with applied(first.pipe, card):
        assert torch.equal(run(second.pipe), plain)
        with applied(second.pipe, card):
            inner = run(second.pipe)
        assert torch.equal(run(second.pipe), plain)
        assert torch.equal(run(first.pipe), inner)


@pytest.mark.parametrize(("positions", "form"), [("rotary", "angle"), ("absolute", "table")])
def test_one_card_at_a_time(positions, form):
    adapter = tiny_adapter(positions)
    card = card_for(adapter, form)
    plain = run(adapter.pipe)
    other = CogVideoXVideoToVideoPipeline(**adapter.pipe.components)  # of the same transformer
    with applied(adapter.pipe, card):
        outer = run(adapter.pipe)
        for pipe in (adapter.pipe, other):
            with (
                pytest.raises(UnsupportedError, match="one card at a time"),
                applied(pipe, card),
            ):
                pass
        with applied(adapter.pipe, card, 0.0):  # changes nothing
            assert torch.equal(run(adapter.pipe), outer)
    assert torch.equal(run(adapter.pipe), plain)
    with applied(other, card), applied(tiny_adapter(positions).pipe, card):
        pass


@pytest.mark.parametrize(
    ("first", "strength", "guided"), [(1.0, 0.5, 0), (None, 0.5, 0), (None, 1.0, 3)]
)
def test_a_video_to_video_generation_that_begins_below_the_card_says_so(first, strength, guided):
    """Also where another one was guided before, under the same card."""
    adapter = tiny_adapter()
    card = card_for(adapter, steps=10, guided_range=(0.98, 1.0))
    pipe = CogVideoXVideoToVideoPipeline(**adapter.pipe.components)
    pipe.set_progress_bar_config(disable=True)
    video = [Image.fromarray(frame) for frame in moving_square().frames]

    def make(strength=strength):
        return pipe(
            video=video, prompt="a blue square", strength=strength, num_inference_steps=20,
            guidance_scale=4.0, width=SIDE, height=SIDE, max_sequence_length=TOKENS,
            generator=torch.Generator("cpu").manual_seed(1), output_type="latent",
        ).frames  # fmt: skip

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with applied(pipe, card) as log:
            if first is not None:
                make(first)
                log.timesteps.clear()
            made = make()
    assert torch.equal(made, make()) == (log.guided_steps == 0)
    assert (log.guided_steps > 0) == (guided > 0)
    texts = [str(w.message) for w in said if w.category is CardWarning]
    assert any("guided no step" in text and "video-to-video" in text for text in texts) == (
        guided == 0
    )


def test_a_batch_of_prompts_and_guidance_one_work():
    adapter = tiny_adapter()
    card = card_for(adapter)
    with applied(adapter.pipe, card):
        both = run(adapter.pipe, ["a blue square", "a red circle"])
        torch.testing.assert_close(both[:1], run(adapter.pipe), rtol=1e-4, atol=1e-4)
        assert run(adapter.pipe, guidance_scale=1.0).shape == both[:1].shape


def test_same_bytes_in_and_out_of_a_batch():
    adapter = tiny_adapter()
    card = card_for(adapter)
    many = list(generate(adapter, ["a blue square", "a red circle"], [1, 2], card=card))
    alone = next(iter(generate(adapter, ["a red circle"], [2], card=card)))
    assert [(v.prompt, v.seed) for v in many] == [
        ("a blue square", 1), ("a blue square", 2), ("a red circle", 1), ("a red circle", 2),
    ]  # fmt: skip
    assert np.array_equal(many[-1].frames, alone.frames)
    assert alone.frames.shape == (FRAMES, SIDE, SIDE, 3)


def test_other_step_counts_and_schedulers_go_by_noise_level():
    adapter = tiny_adapter(guided_range=(0.6, 1.0))
    card = card_for(adapter)
    assert card.spec.guided_steps >= 2
    with applied(adapter.pipe, card) as log:
        run(adapter.pipe, num_inference_steps=12)
    assert log.guided_steps > card.spec.guided_steps
    made = next(iter(generate(adapter, ["a red circle"], [1], card=card, scheduler="dpm", steps=8)))
    assert made.guided_steps >= card.spec.guided_steps
    assert type(adapter.pipe.scheduler).__name__ == "CogVideoXDDIMScheduler"


def test_guiding_no_step_is_an_error():
    adapter = tiny_adapter(guided_range=(0.999, 1.0))
    card = card_for(adapter)
    far = dataclasses.replace(
        card.spec, schedule=dataclasses.replace(card.spec.schedule, noise=(0.013,)), digest=""
    )
    far = MotionCard(far, card.tensors)
    with pytest.raises(UsageError, match="none did") as caught:
        list(generate(adapter, ["a red circle"], [1], card=far, steps=7))
    assert "--steps 5" in str(caught.value.hint)
    with pytest.raises(CardError, match="none did") as caught:  # the card's own number of steps
        list(generate(adapter, ["a red circle"], [1], card=far))
    assert "--steps" not in str(caught.value.hint)


def test_weights_at():
    levels = [1.0, 0.9, 0.7]
    assert weights_at(levels, 0.9) == [(1, 1.0)]
    assert weights_at(levels, 1.0) == [(0, 1.0)]
    assert weights_at(levels, 0.7) == [(2, 1.0)]
    (a, wa), (b, wb) = weights_at(levels, 0.75)
    assert {a: round(wa, 6), b: round(wb, 6)} == {1: 0.25, 2: 0.75}
    assert weights_at(levels, 0.61) == [(2, 1.0)]  # within half a step
    assert weights_at(levels, 0.59) == []
    assert weights_at([], 0.5) == []
    assert weights_at([0.9], 0.9) == [(0, 1.0)]


def test_another_grid_backbone_or_kind_is_refused():
    adapter = tiny_adapter()
    card = card_for(adapter)
    with applied(adapter.pipe, card), pytest.raises(MismatchError, match=r"num_frames=9|9 frames"):
        run(adapter.pipe, num_frames=17)
    other = CogVideoXAdapter(tiny_pipe("absolute"))
    with pytest.raises(MismatchError), applied(other, card):
        pass
    with pytest.raises(UnsupportedError, match="positions card"), replay(adapter, card):
        pass
    with pytest.raises(UsageError, match="finite"), applied(adapter, card, float("nan")):
        pass


def test_fused_projections_are_refused_by_name():
    adapter = tiny_adapter()
    card = card_for(adapter)
    adapter.pipe.fuse_qkv_projections()
    with pytest.raises(UnsupportedError, match="fused"), applied(adapter.pipe, card):
        pass
    adapter.pipe.unfuse_qkv_projections()
    with applied(adapter.pipe, card) as log:  # as the message says
        run(adapter.pipe)
    assert log.timesteps


def test_latents_cards_replay_to_the_trained_video():
    adapter = tiny_adapter(guided_range=(0.6, 1.0))
    config = TrainConfig(
        prompts=("a red circle",), mode="latents", seed=5, learning_rates=(0.1, 0.1), preview=True
    )
    events = list(train(adapter, moving_square(), config))
    card, preview = events[-1].card, events[-2]
    with pytest.raises(UnsupportedError, match="latents card"), applied(adapter.pipe, card):
        pass
    made = next(iter(generate(adapter, ["a red circle"], [5], card=card)))
    assert np.abs(made.frames.astype(int) - preview.frames.astype(int)).max() <= 1


def test_replay_puts_back_what_it_replaced_and_checks_the_size():
    adapter = tiny_adapter()
    card = card_for(adapter, mode="latents")
    pipe, own = adapter.pipe, adapter.pipe.prepare_latents
    plain = run(pipe)

    def theirs(*args, **options):
        return own(*args, **options)

    pipe.prepare_latents = theirs
    with replay(pipe, card) as outer:
        replayed = run(pipe, **outer.arguments())
        with pytest.raises(UnsupportedError, match="one card at a time"), replay(pipe, card):
            pass
        assert torch.equal(run(pipe, **outer.arguments()), replayed)
        with pytest.raises(MismatchError, match="latents"):
            run(pipe, num_frames=FRAMES + 8, **outer.arguments())
    assert pipe.prepare_latents is theirs
    del pipe.prepare_latents
    assert torch.equal(run(pipe), plain)
    assert not torch.equal(replayed, plain)


def test_a_plain_pipeline_gives_no_warning():
    adapter = tiny_adapter()
    card = card_for(adapter)
    with warnings.catch_warnings():
        warnings.simplefilter("error", CardWarning)
        with applied(adapter.pipe, card):
            run(adapter.pipe)


@pytest.mark.parametrize("kind", ["positions", "latents"])
def test_a_vae_whose_weights_are_elsewhere_is_refused_only_when_it_is_needed(kind):
    mode = {"mode": "latents"} if kind == "latents" else {}
    adapter = tiny_adapter("rotary")
    card = card_for(adapter, **mode)

    def generation(pipe):
        if kind == "positions":
            with applied(pipe, card):
                return run(pipe)
        with replay(pipe, card) as stored:
            return run(pipe, **stored.arguments())

    expected = generation(tiny_adapter("rotary").pipe)
    pipe = tiny_adapter("rotary").pipe
    pipe.enable_group_offload(
        onload_device=torch.device("cpu"),
        offload_device=torch.device("cpu"),
        offload_type="block_level",
        num_blocks_per_group=1,
    )
    with pytest.warns(CardWarning, match='Only output_type="latent" will work'):
        assert torch.equal(generation(pipe), expected)  # nothing is decoded
    context = applied if kind == "positions" else replay
    with (
        pytest.warns(CardWarning, match="block-level"),
        context(pipe, card),
        pytest.raises(UnsupportedError, match="VAE whose weights are there"),
    ):
        pipe.decode_latents(expected)
    assert not pipe.vae.decoder._forward_pre_hooks
    theirs = CogVideoXAdapter(pipe)
    for refused in (
        lambda: theirs.decode(expected, FRAMES),
        lambda: theirs.encode_clip(moving_square().frames),
    ):
        with pytest.raises(UnsupportedError, match="VAE whose weights are there"):
            refused()


def lying(card, **changes):
    """The card with other numbers in its description, sealed anew: sound to every reader."""
    parts = {}
    for name, value in changes.items():
        part, _, field = name.partition("_")
        parts.setdefault(part, {})[field] = value
    spec = card.spec
    made = {k: dataclasses.replace(getattr(spec, k), **v) for k, v in parts.items()}
    return MotionCard(dataclasses.replace(spec, digest="", **made), card.tensors)


LIES = [
    ({"schedule_steps": 10_000}, "at most 1000 steps, got 10000"),
    ({"clip_frames": 4}, "a clip that this backbone can generate, got 4 frames"),
    ({"clip_frames": 1}, "a clip that this backbone can generate, got 1 frames"),
    ({"clip_frames": 17}, "a token grid of 5x4x4 for 17 frames"),
    ({"clip_frames": 10_000}, "a token grid of 2500x4x4"),
    ({"clip_width": 64}, "a token grid of 3x4x8"),
    ({"recipe_block": 1000}, r"blocks up to \d, got 1000"),
]


@pytest.fixture(scope="module")
def both_kinds():
    adapter = tiny_adapter()
    return adapter, card_for(adapter), card_for(adapter, mode="latents")


@pytest.mark.parametrize("latents", [False, True], ids=["positions", "latents"])
@pytest.mark.parametrize(("changes", "said"), LIES, ids=lambda value: str(value)[:24])
def test_a_sealed_card_that_says_what_cannot_be(both_kinds, changes, said, latents):
    adapter, *cards = both_kinds
    card = lying(cards[latents], **changes)
    with pytest.raises(CardError, match=said) as caught:
        next(generate(adapter, ["a red circle"], [5], card=card))
    assert "--" not in f"{caught.value.message} {caught.value.hint}"  # no option would help


def test_latents_for_timesteps_that_never_come(both_kinds):
    adapter, _, latents = both_kinds
    first, *rest = latents.spec.schedule.timesteps
    for steps in ((first, *(t - 1 for t in rest)), (5000, *rest)):
        card = lying(latents, schedule_timesteps=steps)
        with pytest.raises(CardError, match="latents for timesteps that come in 5 steps"):
            next(generate(adapter, ["a red circle"], [5], card=card))


def test_prompts_and_seeds_may_come_from_iterators():
    made = generate(tiny_adapter(), (p for p in ["a red circle", "a blue square"]), iter([1, 2]))
    assert [(m.prompt, m.seed) for m in made] == [
        (prompt, seed) for prompt in ("a red circle", "a blue square") for seed in (1, 2)
    ]


def test_generate_takes_what_applied_takes(tmp_path):
    adapter = tiny_adapter()
    card = card_for(adapter)
    card.save(tmp_path / "c.safetensors")
    (wanted,) = generate(adapter, ["a red circle"], [1], card=card)
    for path in (tmp_path / "c.safetensors", str(tmp_path / "c.safetensors")):
        (made,) = generate(adapter.pipe, ["a red circle"], [1], card=path, steps=5)
        assert np.array_equal(made.frames, wanted.frames)
        assert made.guided_steps == wanted.guided_steps > 0


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"strength": "1"}, "finite strength, got '1'"),
        ({"strength": None}, "finite strength, got None"),
        ({"phase": "x"}, "phase from 0 to 1, got 'x'"),
        ({"kv_from": moving_square().frames}, "clip as --kv-from, got ndarray"),
    ],
    ids=["text", "none", "phase", "frames"],
)
def test_what_is_no_number_and_no_clip_is_refused(both_kinds, options, text):
    adapter, card, _ = both_kinds
    with pytest.raises(UsageError, match=text), applied(adapter, card, **options):
        pass
    with pytest.raises(UsageError, match=text):
        next(generate(adapter, ["a red circle"], [1], card=card, **options))


def test_what_is_no_card_and_no_list_is_refused(both_kinds):
    adapter, card, _ = both_kinds
    for wrong in (5, card.spec):
        with pytest.raises(UsageError, match="a card or the path of one"), applied(adapter, wrong):
            pass
    for prompts, seeds, options, text in (
        (["a red circle"], [1], {"card": 5}, "a card or the path of one, got 5"),
        (["a red circle"], [1], {"guidance_scale": "3"}, "finite guidance scale, got 3"),
        ("a red circle", [1], {}, "a list of prompts"),
        (None, [1], {}, "a list of prompts, got None"),
        (["a red circle"], 1, {}, "a list of seeds, got 1"),
    ):
        with pytest.raises(UsageError, match=text):
            next(generate(adapter, prompts, seeds, **options))
    with pytest.raises(UnsupportedError):
        next(generate(None, ["a red circle"], [1]))
