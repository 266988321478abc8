"""A card that holds the phase of its reference: in training, in pipelines, and switched off."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    CogVideoXVideoToVideoPipeline,
    EulerDiscreteScheduler,
    UniPCMultistepScheduler,
)
from PIL import Image

from pe_toolkit.apply import ApplyRequest, CardWarning, applied, generate
from pe_toolkit.apply.contexts import ground_of
from pe_toolkit.backbones import VARIANTS
from pe_toolkit.backbones.cogvideox.drawing import redraw, restore
from pe_toolkit.card import MotionCard
from pe_toolkit.errors import CardError, UsageError
from pe_toolkit.motion.ground import Ground
from pe_toolkit.motion.phase import imprinted, phases, quantised, radians
from pe_toolkit.motion.renewed import renewing
from pe_toolkit.training import TrainConfig, train
from pe_toolkit.training.events import PreviewFrames
from tests import test_image_to_video
from tests.tiny import FRAMES, GUIDANCE, SIDE, TOKENS, moving_square, tiny_adapter

PHASE = (1.5, 2.0)
PROMPT = "a red circle"


def trained(adapter, **changes):
    config = TrainConfig(recipe="rich", phase=PHASE, ground=0.0, steps=5, inner_steps=1, samples=1)
    events = list(train(adapter, moving_square(), dataclasses.replace(config, **changes)))
    return events[-1].card, events


def arguments(seed=3, **more):
    return {
        "prompt": PROMPT,
        "num_frames": FRAMES,
        "height": SIDE,
        "width": SIDE,
        "num_inference_steps": 5,
        "guidance_scale": GUIDANCE,
        "max_sequence_length": TOKENS,
        "generator": torch.Generator().manual_seed(seed),
        "output_type": "latent",
    } | more


def bearing(adapter, noise):
    """That noise with the reference's phase, made here from the clip."""
    stored = quantised(phases(adapter.encode(moving_square().frames).latents[0], PHASE[0]))
    return imprinted(noise, radians(stored), *PHASE)


@pytest.mark.parametrize("scheduler", ["ddim", "dpm"])
@pytest.mark.parametrize("positions", ["rotary", "absolute"])
def test_a_stock_pipeline_begins_with_the_phase(positions, scheduler):
    adapter = tiny_adapter(positions, scheduler)
    card, _ = trained(adapter)
    assert card.spec.recipe.phase.to_dict() == {"radius": 1.5, "gamma": 2.0}
    assert card.tensors["phase"].shape == (3, 4, 5)
    pipe, seen = adapter.pipe, []
    plain = pipe(**arguments()).frames

    def keep(pipe, step, timestep, values):
        seen.append(values["latents"])
        return values

    with applied(pipe, card, 0.0, phase=1.0):  # the phase alone
        alone = pipe(**arguments(callback_on_step_end=keep)).frames

    def drawn():
        """The noise as the pipeline draws it, and the generator as it is then (DPM goes on)."""
        generator = torch.Generator().manual_seed(3)
        return torch.randn(1, 3, 4, SIDE // 4, SIDE // 4, generator=generator), generator

    noise, generator = drawn()
    begun = bearing(adapter, noise)
    redraw(pipe.scheduler, renewing(PHASE[0]), begun)
    by_hand = pipe(**arguments(latents=begun, generator=generator)).frames
    restore(pipe.scheduler)
    assert torch.equal(alone, by_hand)
    assert not torch.equal(alone, plain)
    # DPM would draw the phase away again.
    _, generator = drawn()
    faded = pipe(**arguments(latents=begun, generator=generator)).frames
    assert torch.equal(alone, faded) is (scheduler == "ddim")
    assert len(seen) == 5
    noise, generator = drawn()
    with applied(pipe, card, 0.0, phase=1.0):  # latents of the user's own, too
        given = pipe(**arguments(latents=noise, generator=generator)).frames
    assert torch.equal(given, by_hand)
    assert "prepare_latents" not in vars(pipe)
    assert "step" not in vars(pipe.scheduler)
    assert torch.equal(pipe(**arguments()).frames, plain)


@pytest.mark.parametrize(
    ("scheduler", "dtype"),
    [
        (EulerDiscreteScheduler, torch.float32),  # its noise is thousands of times as strong
        (EulerDiscreteScheduler, torch.bfloat16),
        (UniPCMultistepScheduler, torch.float32),
        (CogVideoXDDIMScheduler, torch.float16),
        (CogVideoXDDIMScheduler, torch.bfloat16),
    ],
)
def test_any_scheduler_and_precision_begins_with_the_phase(scheduler, dtype):
    adapter = tiny_adapter()
    card, _ = trained(adapter)
    pipe = adapter.pipe.to(dtype)
    own = {"timestep_spacing": "trailing"} if scheduler is EulerDiscreteScheduler else {}
    pipe.scheduler = scheduler.from_config(pipe.scheduler.config, **own)
    pipe.scheduler.set_timesteps(5)
    assert (pipe.scheduler.init_noise_sigma != 1) == bool(own)
    plain = pipe(**arguments()).frames
    shape = (1, 3, 4, SIDE // 4, SIDE // 4)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(3), dtype=dtype)
    begin = bearing(tiny_adapter(), noise.float()).to(dtype)
    with applied(pipe, card, 0.0, phase=1.0):
        made = pipe(**arguments()).frames
    by_hand = pipe(**arguments(latents=begin)).frames
    assert made.isfinite().all()
    torch.testing.assert_close(made, by_hand, rtol=2e-2, atol=2e-2)
    assert not torch.allclose(made, plain, rtol=2e-2, atol=2e-2)
    assert torch.equal(pipe(**arguments()).frames, plain)


def test_only_the_generations_of_the_pipeline_keep_the_phase():
    """With a scheduler that draws: one after the other, of another pipeline, and one that fails."""
    adapter = tiny_adapter(scheduler="dpm")
    card, _ = trained(adapter)
    pipe = adapter.pipe
    other = type(pipe)(**pipe.components)
    other.set_progress_bar_config(disable=True)
    plain = other(**arguments(4)).frames

    def fail(pipe, step, timestep, values):
        raise KeyboardInterrupt

    with applied(pipe, card, 0.0, phase=1.0):
        first = pipe(**arguments()).frames
        assert "step" not in vars(pipe.scheduler)  # it has ended
        assert torch.equal(other(**arguments(4)).frames, plain)
        two = pipe(**arguments() | {"prompt": [PROMPT, PROMPT]} | {
            "generator": [torch.Generator().manual_seed(n) for n in (3, 4)]
        }).frames  # fmt: skip
        torch.testing.assert_close(two[:1], first, rtol=1e-4, atol=1e-4)
        with pytest.raises(KeyboardInterrupt):
            pipe(**arguments(callback_on_step_end=fail))
        own = pipe.scheduler
        pipe.scheduler = type(own).from_config(own.config)
        assert torch.equal(pipe(**arguments()).frames, first)
    assert "step" not in vars(own)
    assert "step" not in vars(pipe.scheduler)
    assert torch.equal(other(**arguments(4)).frames, plain)


def test_a_card_can_leave_the_means_to_the_noise():
    adapter = tiny_adapter()
    card, _ = trained(adapter)
    left = dataclasses.replace(card.spec.recipe.phase, mean=False)
    recipe = dataclasses.replace(card.spec.recipe, phase=left)
    other = MotionCard(dataclasses.replace(card.spec, recipe=recipe, digest=""), card.tensors)
    shape = (1, 3, 4, SIDE // 4, SIDE // 4)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    angles = radians(torch.from_numpy(card.tensors["phase"]))
    made = []
    for one, mean in ((card, True), (other, False)):
        begin = imprinted(noise, angles, *PHASE, mean=mean)
        with applied(adapter.pipe, one, 0.0, phase=1.0):
            made.append(adapter.pipe(**arguments()).frames)
        assert torch.equal(made[-1], adapter.pipe(**arguments(latents=begin)).frames)
    assert not torch.equal(*made)


def test_off_is_bit_for_bit_the_card_without_it():
    adapter = tiny_adapter()
    card, _ = trained(adapter)
    tensors = {name: values for name, values in card.tensors.items() if name != "phase"}
    recipe = dataclasses.replace(card.spec.recipe, phase=None)
    bare = MotionCard(dataclasses.replace(card.spec, recipe=recipe, digest=""), tensors)
    videos = []
    for one, phase in ((card, 0.0), (bare, None), (card, None), (card, 1.0), (card, 0.5)):
        with applied(adapter, one, phase=phase):
            videos.append(adapter.pipe(**arguments()).frames)
    off, without, default, whole, half = videos
    assert torch.equal(off, without)
    assert torch.equal(default, whole)
    assert not torch.equal(whole, off)
    assert not torch.equal(half, whole)
    with applied(adapter, card, 0.0):  # strength speaks for both
        assert torch.equal(adapter.pipe(**arguments()).frames, adapter.pipe(**arguments()).frames)
    with pytest.raises(UsageError, match="phase from 0 to 1"), applied(adapter, card, phase=1.5):
        pass
    none = "no --phase with a card that holds no phase, got 0.5"  # as `pe apply`
    with pytest.raises(UsageError, match=none), applied(adapter, bare, phase=0.5):
        pass
    with pytest.raises(UsageError, match=none):
        ApplyRequest(prompts=(PROMPT,), phase=0.5).seeds_for(bare.spec)


def test_what_is_fixed_to_the_camera_goes_with_it_as_far_as_it_is_told_to():
    adapter = tiny_adapter()
    card, _ = trained(adapter, ground=1.25)
    assert card.spec.recipe.ground == 1.25
    assert ground_of(trained(adapter)[0].spec, 1.0) is None
    rows = tuple((1.0, 0.0, 0.0, 1.0, 0.5 * f, 0.0) for f in range(3))
    motion = dataclasses.replace(card.spec.reference.motion, camera=rows)
    reference = dataclasses.replace(card.spec.reference, motion=motion)
    moving = MotionCard(
        dataclasses.replace(card.spec, reference=reference, digest=""), card.tensors
    )
    width = card.spec.grid.width

    def by_hand(times):
        """What a stock pipeline makes of the noise that a camera moves so far."""
        noise = torch.randn(
            1, 3, 4, SIDE // 4, SIDE // 4, generator=torch.Generator().manual_seed(3)
        )
        shift = torch.tensor([[0.5 * f * times / width, 0.0] for f in range(3)])
        ground = Ground(1.25, torch.eye(2).repeat(3, 1, 1), shift)
        angles = radians(torch.from_numpy(card.tensors["phase"]))
        begin = imprinted(noise, angles, *PHASE, 1.0, ground)
        return adapter.pipe(**arguments(latents=begin)).frames

    with applied(adapter.pipe, moving, 0.0, phase=1.0):
        made = adapter.pipe(**arguments()).frames
    assert torch.equal(made, by_hand(1))
    assert not torch.equal(made, by_hand(0))
    shift = ground_of(moving.spec, 1.0).shift
    torch.testing.assert_close(ground_of(moving.spec, 0.5).shift, shift / 2)
    unread = dataclasses.replace(reference, motion=None)
    rests = dataclasses.replace(card.spec, reference=unread, digest="")
    assert not ground_of(rests, 1.0).shift.any()
    # Only a camera that was read to rest has more of the lowest frequencies, not one turned off.
    assert ground_of(rests, 1.0).rests
    assert ground_of(card.spec, 1.0).rests
    assert not ground_of(moving.spec, 0.0).rests
    assert ground_of(card.spec, 1.0).over_time(5).rests


def test_a_batch_gets_it_in_every_sample():
    adapter = tiny_adapter()
    card, _ = trained(adapter)
    with applied(adapter, card):
        single = [adapter.pipe(**arguments(seed)).frames for seed in (3, 4)]
        generators = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
        both = adapter.pipe(**arguments(prompt=[PROMPT] * 2, generator=generators)).frames
    assert torch.allclose(both, torch.cat(single), atol=1e-4)


@pytest.mark.parametrize("scheduler", ["ddim", "dpm"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_training_begins_as_applying_does(dtype, scheduler):
    """At learning rate 0 and from no start, the training's preview is the applied card's video."""
    adapter = tiny_adapter(scheduler=scheduler)
    adapter.pipe.to(dtype)
    card, events = trained(
        adapter, start="zero", learning_rates=(0.0, 0.0), preview=True, prompts=(PROMPT,), seed=3
    )
    preview = next(event.frames for event in events if isinstance(event, PreviewFrames))
    [made] = generate(adapter, [PROMPT], [3], card=card)
    [plain] = generate(adapter, [PROMPT], [3], card=card, phase=0.0)
    assert np.array_equal(preview, made.frames)
    assert not np.array_equal(made.frames, plain.frames)


@pytest.mark.parametrize("kind", ["1.0", "1.5"])
def test_image_to_video_keeps_its_picture(kind):
    adapter = test_image_to_video.adapter_of(kind)
    clip = moving_square()
    config = TrainConfig(recipe="rich", phase=PHASE, steps=5, inner_steps=0, samples=1)
    card = list(train(adapter, clip, config))[-1].card
    told = []  # what the transformer is given in the first pass of each generation

    def keep(module, args, kwargs):
        told.append(kwargs["hidden_states"].detach().clone())

    hook = adapter.transformer.register_forward_pre_hook(keep, with_kwargs=True)
    [made] = generate(adapter, [PROMPT], [3], card=card, image=clip.frames[0])
    first, count = told[0], len(told)
    [off] = generate(adapter, [PROMPT], [3], card=card, image=clip.frames[0], phase=0.0)
    hook.remove()
    assert made.frames.shape == off.frames.shape
    assert not np.array_equal(made.frames, off.frames)
    # The picture is told beside the noise, which alone bears the phase.
    noise, picture = zip(*(x.chunk(2, dim=2) for x in (first, told[count])), strict=True)
    assert torch.equal(*picture)
    assert picture[0].any()
    assert not torch.equal(*noise)


def test_a_pipeline_that_begins_with_a_clip_is_warned_of():
    adapter = tiny_adapter()
    card, _ = trained(adapter)
    pipe = CogVideoXVideoToVideoPipeline(**adapter.pipe.components)
    pipe.set_progress_bar_config(disable=True)
    video = [Image.fromarray(frame) for frame in moving_square().frames]
    call = {k: v for k, v in arguments(video=video, strength=1.0).items() if k != "num_frames"}
    with pytest.warns(CardWarning, match="phase is left out"), applied(pipe, card):
        pipe(**call)
    assert "prepare_latents" not in vars(pipe)


@pytest.mark.parametrize("scheduler", ["ddim", "dpm"])
def test_latents_are_optimised_from_noise_that_bears_the_phase(tmp_path, scheduler):
    """The card replays what was trained, whatever noise it is given; it says where it began."""
    config = TrainConfig(
        recipe="rich", mode="latents", phase=PHASE, steps=5, inner_steps=1, preview=True,
        prompts=(PROMPT,), seed=3,
    )  # fmt: skip
    adapter = tiny_adapter(scheduler=scheduler)
    *seen, last = train(adapter, moving_square(), config)
    shown = next(event.frames for event in seen if type(event).__name__ == "PreviewFrames")
    last.card.save(tmp_path / "card.safetensors")
    card = MotionCard.load(tmp_path / "card.safetensors")
    assert card.spec.recipe.phase.to_dict() == {"radius": 1.5, "gamma": 2.0}
    assert card.tensors["phase"].shape == (3, 4, 5)
    [made] = generate(adapter, [PROMPT], [3], card=card)
    assert np.array_equal(made.frames, shown)
    with pytest.raises(CardError, match=r"came with 2\.0"):
        dataclasses.replace(card.spec, format_version="1.4", digest="")
    plain = list(train(adapter, moving_square(), dataclasses.replace(config, phase=())))[-1].card
    assert not np.array_equal(plain.tensors["latents"], card.tensors["latents"])
    with pytest.raises(UsageError, match="bear the phase already"):
        next(generate(adapter, [PROMPT], [3], card=card, phase=0.5))
    with pytest.raises(UsageError, match="bear the phase already"):
        ApplyRequest(prompts=(PROMPT,), phase=0.5).seeds_for(card.spec)


def test_recipes_and_requests():
    variant = tiny_adapter().variant
    rich = TrainConfig(recipe="rich").resolve(variant)
    assert (rich.phase, rich.start, rich.start_scale) == ((2.83, 3.0), "auto", 1.0)
    published = TrainConfig(recipe="rich").resolve(VARIANTS["cogvideox-5b"])
    assert (published.start, published.phase) == ("auto", (2.83, 2.0))
    assert TrainConfig(recipe="rich").resolve(VARIANTS["bundled"]).phase == (2.83, 3.0)
    assert rich.inner_steps == 0
    assert TrainConfig(recipe="default").resolve(variant).phase is None
    off = TrainConfig(recipe="rich").with_overrides({"phase": "off"}).resolve(variant)
    assert off.phase is None
    assert TrainConfig().with_overrides({"phase": "2"}).resolve(variant).phase == (2.0, 3.0)
    for wrong in ("20", "2,0.5", "-1"):
        with pytest.raises(UsageError, match="phase RADIUS,GAMMA"):
            TrainConfig().with_overrides({"phase": wrong}).resolve(variant)
    optimised = TrainConfig(recipe="rich", mode="latents").resolve(variant)
    assert (optimised.inner_steps, optimised.phase) == (variant.inner_steps, (2.83, 3.0))
    latents = TrainConfig(recipe="rich", mode="latents", steps=5, inner_steps=1)
    latents = latents.with_overrides({"phase": "off"})
    card = list(train(tiny_adapter(), moving_square(), latents))[-1].card
    assert card.spec.recipe.phase is None
    with pytest.raises(UsageError, match="no --phase with a card that holds no phase"):
        ApplyRequest(prompts=(PROMPT,), phase=0.5).seeds_for(card.spec)
