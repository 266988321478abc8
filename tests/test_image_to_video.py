"""Image-to-video: the trainer's loop is the pipeline's, cards train and apply, published shapes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from diffusers import CogVideoXImageToVideoPipeline, CogVideoXTransformer3DModel
from PIL import Image

from pe_toolkit.apply import applied, generate, replay
from pe_toolkit.backbones import CogVideoXAdapter, variant_for
from pe_toolkit.backbones.cogvideox import hooks
from pe_toolkit.backbones.cogvideox.sampling import CogVideoXSampler
from pe_toolkit.errors import MismatchError, UnsupportedError, UsageError
from pe_toolkit.training import TrainConfig, train
from pe_toolkit.training.events import Finished, GuidedStep, PreviewFrames
from tests.tiny import (
    FRAMES,
    GUIDANCE,
    SIDE,
    TOKENS,
    moving_square,
    tiny_adapter,
    tiny_pipe,
    tiny_variant,
)

PROMPTS = ["a red circle", "a blue square"]
PICTURE = np.random.default_rng(1).integers(0, 255, (SIDE, SIDE, 3)).astype(np.uint8)
KINDS = ("1.0", "1.5")
CONFIG = TrainConfig(prompts=(PROMPTS[0],), samples=1, recipe="default", seed=3, preview=True)


def adapter_of(kind: str) -> CogVideoXAdapter:
    """1.0 has learned positions beside its rotary ones, 1.5 has `ofs` and `patch_size_t`."""
    text_to_video = tiny_pipe("rotary", "dpm", patch_size_t=2 if kind == "1.5" else None)
    config = dict(text_to_video.transformer.config)
    config = {k: v for k, v in config.items() if not k.startswith("_")} | {"in_channels": 8}
    config |= (
        {"ofs_embed_dim": 8}
        if kind == "1.5"
        else {"use_learned_positional_embeddings": True, "sample_frames": FRAMES}
    )
    torch.manual_seed(0)
    parts = {k: v for k, v in text_to_video.components.items() if k != "transformer"}
    transformer = CogVideoXTransformer3DModel(**config).eval()
    if kind == "1.0":  # a trained table is not the sincos one that it began with
        transformer.patch_embed.pos_embedding += 0.3 * torch.randn(
            transformer.patch_embed.pos_embedding.shape
        )
    pipe = CogVideoXImageToVideoPipeline(transformer=transformer, **parts)
    pipe.set_progress_bar_config(disable=True)
    return CogVideoXAdapter(pipe, tiny_variant("rotary", dynamic_cfg=True))


def stock(adapter, prompts, seeds, **options):
    return adapter.pipe(
        image=[Image.fromarray(PICTURE)] * len(prompts),
        prompt=prompts,
        num_frames=FRAMES,
        width=SIDE,
        height=SIDE,
        num_inference_steps=5,
        guidance_scale=GUIDANCE,
        use_dynamic_cfg=True,
        generator=[torch.Generator("cpu").manual_seed(s) for s in seeds],
        max_sequence_length=TOKENS,
        output_type="latent",
        **options,
    ).frames


@pytest.mark.parametrize("kind", KINDS)
def test_the_loop_is_the_pipelines_bit_for_bit(kind):
    adapter = adapter_of(kind)
    sampler = CogVideoXSampler(
        adapter, PROMPTS, [3, 4], steps=5, guidance_scale=GUIDANCE, dynamic_cfg=True,
        frames=FRAMES, width=SIDE, height=SIDE, image=PICTURE,
    )  # fmt: skip
    for index in range(5):
        sampler.step(index)
    assert torch.equal(sampler.latents, stock(adapter, PROMPTS, [3, 4]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kv", [False, True])
def test_a_card_applied_to_its_own_sample_gives_the_trained_latents(kind, kv):
    adapter = adapter_of(kind)
    config = dataclasses.replace(CONFIG, kv=kv, learning_rates=(0.05, 0.05))
    events = list(train(adapter, moving_square(), config, image=PICTURE))
    assert isinstance(events[-1], Finished)
    card = events[-1].card
    assert all(e.loss_last < e.loss_first for e in events if isinstance(e, GuidedStep))
    with applied(adapter, card, kv_from=moving_square() if kv else None) as log:
        latents = stock(adapter, PROMPTS[:1], [3])
    assert log.guided_steps == card.spec.guided_steps
    preview = next(e for e in events if isinstance(e, PreviewFrames))
    assert np.array_equal(preview.frames, adapter.decode(latents, FRAMES))
    [made] = generate(
        adapter, PROMPTS[:1], [3], card=card, image=PICTURE, kv_from=moving_square() if kv else None
    )
    assert np.array_equal(made.frames, preview.frames)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("first", [0.995, 1.0])
def test_latents_replayed_are_the_video_of_the_training(kind, first):
    """With DPM: it draws noise at every step, after the image's latents and the first noise."""
    adapter = adapter_of(kind)
    assert type(adapter.pipe.scheduler).__name__ == "CogVideoXDPMScheduler"
    config = dataclasses.replace(
        CONFIG, mode="latents", learning_rates=(0.05, 0.05), guided_range=(0.95, first)
    )
    events = list(train(adapter, moving_square(), config, image=PICTURE))
    preview = next(e for e in events if isinstance(e, PreviewFrames))
    assert isinstance(events[-1], Finished)
    card = events[-1].card
    [made] = generate(adapter, PROMPTS[:1], [3], card=card, image=PICTURE)
    assert np.array_equal(made.frames, preview.frames)
    before = adapter.pipe.__dict__.get("prepare_latents")
    with replay(adapter.pipe, card) as replaying:
        latents = stock(adapter, PROMPTS[:1], [3], **replaying.arguments())
    assert adapter.pipe.__dict__.get("prepare_latents") is before
    assert np.array_equal(adapter.decode(latents, FRAMES), preview.frames)
    [other] = generate(adapter, PROMPTS[:1], [3], image=PICTURE)
    assert not np.array_equal(other.frames, preview.frames)


def test_the_reference_begins_its_own_training():
    adapter = adapter_of("1.0")
    clip, config = moving_square(), dataclasses.replace(CONFIG, preview=False)
    cards = []
    for image in (None, clip.frames[0], PICTURE):
        events = list(train(adapter, clip, config, image=image))
        assert isinstance(events[-1], Finished)
        cards.append(events[-1].card.tensors["positions"])
    assert np.array_equal(cards[0], cards[1])
    assert not np.array_equal(cards[0], cards[2])


def test_the_reference_pass_sees_the_first_frame_as_the_pipeline_scales_it():
    adapter = adapter_of("1.0")
    frames = moving_square().frames
    ours = adapter.encode_image(frames)
    pixels = adapter.pipe.video_processor.preprocess(Image.fromarray(frames[0]), SIDE, SIDE)
    adapter.pipe.vae.config.scaling_factor  # noqa: B018  (the pipeline read it when it was built)
    with torch.no_grad():
        mode = adapter.pipe.vae.encode(pixels[:, :, None]).latent_dist.mode()[:, :, 0]
    torch.testing.assert_close(ours[:, 0], mode * adapter.pipe.vae_scaling_factor_image)
    assert not ours[:, 1:].any()
    adapter.pipe.vae.register_to_config(invert_scale_latents=True)
    again = adapter.encode_image(frames)
    torch.testing.assert_close(again[:, 0], mode / adapter.pipe.vae_scaling_factor_image)
    assert tiny_adapter().encode_image(frames) is None


def test_what_does_not_fit_is_refused():
    adapter = adapter_of("1.0")
    with pytest.raises(UsageError, match="learned its positions") as caught:
        adapter.latent_shape(17, SIDE, SIDE)
    assert caught.value.hint == f"Use --frames {FRAMES} --size {SIDE}x{SIDE}."
    with pytest.raises(UsageError, match="learned"):
        adapter.latent_shape(FRAMES, 2 * SIDE, SIDE)
    with pytest.raises(UsageError, match="got none"):
        list(generate(adapter, PROMPTS[:1], [3]))
    with pytest.raises(UsageError, match="Expected no image"):
        list(train(tiny_adapter(), moving_square(), CONFIG, image=PICTURE))
    events = list(train(adapter, moving_square(), dataclasses.replace(CONFIG, preview=False)))
    with (
        pytest.raises(MismatchError, match="architecture"),
        applied(tiny_adapter(), events[-1].card),
    ):
        pass
    pipe = tiny_pipe()
    pipe.transformer.register_to_config(in_channels=12)
    with pytest.raises(UnsupportedError, match="12 input channels"):
        CogVideoXAdapter(pipe)


# Published configurations (transformer/config.json), fields that differ from the defaults.
COMMON = {
    "num_layers": 42, "num_attention_heads": 48, "in_channels": 32, "out_channels": 16,
    "use_rotary_positional_embeddings": True,
}  # fmt: skip
PUBLISHED = {
    "cogvideox-5b-i2v": COMMON | {"use_learned_positional_embeddings": True},
    "cogvideox1.5-5b-i2v": COMMON
    | {
        "patch_size_t": 2, "sample_width": 300, "sample_height": 300, "sample_frames": 81,
        "ofs_embed_dim": 512, "patch_bias": False,
    },
}  # fmt: skip
GRIDS = {"cogvideox-5b-i2v": (13, 30, 45), "cogvideox1.5-5b-i2v": (11, 48, 85)}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configurations_at_native_size_on_meta(name):
    variant = variant_for(name)
    assert variant == variant_for(variant.hub_id)
    with torch.device("meta"):
        transformer = CogVideoXTransformer3DModel(**PUBLISHED[name])
    small = adapter_of("1.0").pipe
    small.vae.register_to_config(latent_channels=16)
    small.register_modules(transformer=transformer)
    small.vae_scale_factor_spatial = 8
    adapter = CogVideoXAdapter(small, variant)
    size = (variant.frames, variant.width, variant.height)
    grid = adapter.grid_for(*size)
    assert tuple(grid) == GRIDS[name]
    assert adapter.positions == "rotary"  # learned or not: rotary is what is optimised
    shape = adapter.latent_shape(*size)
    assert shape[1] == 16
    form = adapter.form(variant.parametrisation, *size)
    delta = torch.zeros(form.shape, device="meta", requires_grad=True)
    half = torch.empty(grid.tokens, 64, device="meta")
    value = type(form)((half, half), grid).embed(delta)
    latents, image = (torch.empty(1, *shape, device="meta") for _ in range(2))
    text = torch.empty(1, 226, 4096, device="meta")
    with hooks.positions(transformer, "rotary", lambda _: value):
        q, k = adapter.queries_and_keys(latents, text, 999, variant.block, None, image)
    assert q.shape == k.shape == (1, 48, grid.tokens, 64)


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_a_picture_of_another_shape_is_fitted_as_the_reference(fit, monkeypatch):
    adapter = adapter_of("1.5")
    wide = np.zeros((SIDE, 4 * SIDE, 3), np.uint8)
    middle = slice(2 * SIDE - SIDE // 4, 2 * SIDE + SIDE // 4)
    wide[SIDE // 4 : -SIDE // 4, middle] = 255  # a square
    shape = {
        "crop": (SIDE // 2, SIDE // 2),
        "pad": (SIDE // 8, SIDE // 8),
        "stretch": (SIDE // 8, SIDE // 2),
    }[fit]
    seen: list[tuple[int, int]] = []
    encode = adapter.pipe.vae.encode

    def watched(x, *args, **options):
        bright = x[0, 0, 0] > 0
        if bright.any():
            seen.append((int(bright.any(0).sum()), int(bright.any(1).sum())))
        return encode(x, *args, **options)

    monkeypatch.setattr(adapter.pipe.vae, "encode", watched)
    clip = dataclasses.replace(moving_square(), fit=fit, source_size=(2 * SIDE, SIDE))
    config = dataclasses.replace(CONFIG, preview=False)
    *_, last = train(adapter, clip, config, image=wide)
    assert isinstance(last, Finished)
    assert shape in seen
    seen.clear()
    assert last.card.spec.reference.fit == fit
    list(generate(adapter, [PROMPTS[0]], [3], card=last.card, image=wide))
    assert shape in seen
    seen.clear()
    list(generate(adapter, [PROMPTS[0]], [3], steps=2, image=wide))
    assert seen == [(SIDE // 2, SIDE // 2)]
