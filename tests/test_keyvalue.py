"""Keys and values of the reference: what is recorded, where it goes in, cards that require it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from diffusers import CogVideoXVideoToVideoPipeline
from PIL import Image

from pe_toolkit.apply import CardWarning, applied, generate
from pe_toolkit.backbones import variant_for
from pe_toolkit.backbones.cogvideox import hooks
from pe_toolkit.backbones.cogvideox.keyvalue import ReferenceKeysValues
from pe_toolkit.backbones.cogvideox.sampling import CogVideoXSampler
from pe_toolkit.card import MotionCard
from pe_toolkit.errors import MismatchError, UsageError
from pe_toolkit.training import TrainConfig, train
from pe_toolkit.training.events import Finished, PreviewFrames
from tests import plain
from tests.tiny import FRAMES, GUIDANCE, SIDE, TOKENS, clip_of, moving_square, tiny_adapter

PROMPT = "a red circle"
CONFIG = TrainConfig(prompts=(PROMPT,), samples=1, seed=3, kv=True, preview=True)


def reference(adapter, seed=3):
    latents = adapter.encode_clip(moving_square().frames)
    return ReferenceKeysValues(adapter, latents, seed, FRAMES, SIDE, SIDE)


def trained(adapter, **changes):
    events = list(train(adapter, moving_square(), dataclasses.replace(CONFIG, **changes)))
    assert isinstance(events[-1], Finished)
    frames = [e.frames for e in events if isinstance(e, PreviewFrames)]
    return events[-1].card, frames[0] if frames else None


def noise_of(seed, dtype=None):
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.randn(1, 3, 4, 8, 8, generator=generator, dtype=dtype)


def arguments(seed=3):
    return {
        "prompt": PROMPT, "num_frames": FRAMES, "width": SIDE, "height": SIDE,
        "num_inference_steps": 5, "guidance_scale": GUIDANCE, "max_sequence_length": TOKENS,
        "generator": [torch.Generator("cpu").manual_seed(seed)], "output_type": "latent",
    }  # fmt: skip


@pytest.mark.parametrize("positions", ["rotary", "absolute"])
def test_it_is_the_equations_in_float64(positions):
    adapter = tiny_adapter(positions)
    for name in ("transformer", "vae", "text_encoder"):
        getattr(adapter.pipe, name).double()
    other = plain.PlainModel(adapter.transformer.state_dict(), 2, 2, 8)
    tables = plain.rotary_tables((3, 4, 4), 16) if positions == "rotary" else None
    added = None if tables else plain.sincos_table((3, 4, 4), 32)
    pair = (tables, tables) if tables else None
    kv = reference(adapter)
    if tables:
        kv.rotary = tables
    t = 700
    alpha = adapter.pipe.scheduler.alphas_cumprod[t].double()
    noisy = alpha.sqrt() * kv.latents + (1 - alpha).sqrt() * kv.noise
    text = torch.randn(2, TOKENS, 16, dtype=torch.float64)
    # K and V are the same whatever the text says.
    want = other.queries_keys(noisy, text[:1], t, 0, pair, added, want="kv")
    for ours, plains in zip(kv.at(t), want, strict=True):
        torch.testing.assert_close(ours, plains, rtol=0, atol=2e-5)  # the sine of t is float32

    x = torch.randn(2, 3, 4, 8, 8, dtype=torch.float64)
    with kv.injected(lambda _: True):
        got = adapter.queries_and_keys(x, text, t, 2, tables)
    expected = other.queries_keys(x, text, t, 2, pair, added, injected=want)
    for ours, plains in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, plains, rtol=0, atol=2e-5)
    without = other.queries_keys(x, text, t, 2, pair, added)
    assert (without[0] - expected[0]).abs().max() > 1e-2


@pytest.mark.parametrize("positions", ["rotary", "absolute"])
def test_a_reference_that_generates_itself_changes_nothing(positions):
    adapter = tiny_adapter(positions)
    kv = reference(adapter)
    before = dict(adapter.transformer.attn_processors)
    t = torch.tensor([700, 700])
    noisy = adapter.pipe.scheduler.add_noise(kv.latents, kv.noise, t[:1]).expand(2, -1, -1, -1, -1)
    text = torch.randn(2, TOKENS, 16)
    moved = torch.randn_like(noisy)
    with torch.no_grad():
        want = adapter.forward(noisy, text, t, kv.rotary)
        other = adapter.forward(moved, text, t, kv.rotary)
        with kv.injected(lambda timestep: timestep == 700):
            got = adapter.forward(noisy, text, t, kv.rotary)
            changed = adapter.forward(moved, text, t, kv.rotary)
            elsewhere = adapter.forward(moved, text, t - 100, kv.rotary)
        assert torch.equal(elsewhere, adapter.forward(moved, text, t - 100, kv.rotary))
    torch.testing.assert_close(got, want, rtol=0, atol=2e-5)
    assert (changed - other).abs().max() > 1e-3
    assert adapter.transformer.attn_processors == before
    assert not adapter.transformer._forward_pre_hooks


@pytest.mark.parametrize("prompts", [1, 2])
@pytest.mark.parametrize("positions", ["rotary", "absolute"])
def test_a_new_seed_noises_the_reference_with_its_own_noise(positions, prompts):
    """Queries and keys behind two blocks in the first guided pass, against the equations."""
    adapter = tiny_adapter(positions)
    card, _ = trained(adapter, preview=False, learning_rates=(0.1, 0.1))
    assert card.spec.recipe.kv_noise == "generation"
    pipe = adapter.pipe
    for name in ("transformer", "vae", "text_encoder"):
        getattr(pipe, name).double()
    seen: dict[str, torch.Tensor] = {}
    block = adapter.transformer.transformer_blocks[2].attn1
    handles = [
        layer.register_forward_hook(lambda m, a, y, name=name: seen.setdefault(name, y))
        for name, layer in (("q", block.norm_q), ("k", block.norm_k))
    ]
    given = arguments() | {
        "prompt": [PROMPT] * prompts,
        "generator": [torch.Generator("cpu").manual_seed(7 + i) for i in range(prompts)],
    }
    with applied(pipe, card, kv_from=moving_square()):
        pipe(**given)
    for handle in handles:
        handle.remove()

    # The same in float64, with the noise that these seeds give.
    other = plain.PlainModel(adapter.transformer.state_dict(), 2, 2, 8)
    noise = torch.cat([noise_of(7 + i, torch.float64) for i in range(prompts)])
    t = card.spec.schedule.timesteps[0]
    alpha = pipe.scheduler.alphas_cumprod[t].double()
    latents = adapter.encode_clip(moving_square().frames)
    delta = torch.from_numpy(card.tensors["positions"][0]).double()
    tables = base = added = None
    if positions == "rotary":
        cos, sin = plain.rotary_tables((3, 4, 4), 16)
        turn = delta.repeat_interleave(2, -1)
        tables = [(cos * d.cos() - sin * d.sin(), sin * d.cos() + cos * d.sin()) for d in turn]
        base = ((cos, sin), (cos, sin))
    else:
        added = plain.sincos_table((3, 4, 4), 32)
    noisy = alpha.sqrt() * latents + (1 - alpha).sqrt() * noise
    with torch.no_grad():
        text = pipe.encode_prompt(
            [PROMPT] * prompts, "", num_videos_per_prompt=1, max_sequence_length=TOKENS
        )
    silent = torch.zeros(prompts, TOKENS, 16, dtype=torch.float64)
    injected = other.queries_keys(noisy, silent, t, 0, base, added, want="kv")
    injected = tuple(torch.cat([part] * 2) for part in injected)
    moved = None if added is None else added + delta
    want = other.queries_keys(
        torch.cat([noise] * 2), torch.cat([text[1], text[0]]), t, 2, tables, moved, injected
    )
    for name, wanted, table in zip("qk", want, tables or (None, None), strict=True):
        got = seen[name][:, :, TOKENS:]
        if table is not None:
            got = plain.rotated(got, *table)
        error = float((got - wanted).abs().max())
        assert error < 1e-5, (name, error)
    # With the noise of the training's seed, as cards before 1.4 have it, it is another pass.
    noisy = alpha.sqrt() * latents + (1 - alpha).sqrt() * noise_of(3, torch.float64)
    fixed = other.queries_keys(noisy, silent[:1], t, 0, base, added, want="kv")
    assert (fixed[0] - injected[0][:1]).abs().max() > 1e-2


def test_cards_before_1_4_keep_the_noise_of_their_seed():
    adapter = tiny_adapter()
    card, _ = trained(adapter)
    recipe = dataclasses.replace(card.spec.recipe, kv_noise=None)
    old = MotionCard(dataclasses.replace(card.spec, recipe=recipe, digest=""), card.tensors)

    def make(card, seed):
        with applied(adapter, card, kv_from=moving_square()):
            return adapter.pipe(**arguments(seed)).frames

    assert torch.equal(make(card, 3), make(old, 3))  # the training's own seed
    assert not torch.equal(make(card, 7), make(old, 7))
    assert "prepare_latents" not in vars(adapter.pipe)
    assert "add_noise" not in vars(adapter.pipe.scheduler)


def test_noise_that_is_given_and_noise_that_is_added():
    adapter = tiny_adapter()
    kv, given = reference(adapter), noise_of(11)
    with kv.injected(lambda _: False):
        adapter.pipe(**arguments() | {"latents": given})
    assert torch.equal(kv.noise, given)
    pipe = CogVideoXVideoToVideoPipeline(**adapter.pipe.components)
    pipe.set_progress_bar_config(disable=True)
    adapter.pipe = pipe
    video = [Image.fromarray(frame) for frame in moving_square().frames]
    options = {k: v for k, v in arguments(5).items() if k != "num_frames"}
    with kv.injected(lambda _: False):
        pipe(video=video, strength=0.5, **options)
    generator = torch.Generator().manual_seed(5)
    torch.randn(1, 4, 3, 8, 8, generator=generator)  # the video's latents are drawn first
    assert torch.equal(kv.noise, torch.randn(1, 3, 4, 8, 8, generator=generator))
    with pytest.raises(MismatchError, match="size of the reference"):
        kv.follow(given[:, :2])


def test_every_sample_of_a_training_has_its_own_noise():
    """In one pass on a CPU, one by one as on a GPU: the same."""
    cards = []
    for together in (2, 1):
        adapter = tiny_adapter()
        made = CogVideoXSampler.__init__

        def init(self, *args, _made=made, _together=together, **options):
            _made(self, *args, **options)
            self.together = _together

        CogVideoXSampler.__init__ = init
        try:
            cards.append(trained(adapter, samples=2, preview=False)[0])
        finally:
            CogVideoXSampler.__init__ = made
    one, other = (card.tensors["positions"].astype(np.float32) for card in cards)
    np.testing.assert_allclose(one, other, atol=2e-3)
    alone = trained(tiny_adapter(), samples=1, preview=False)[0]
    assert np.abs(alone.tensors["positions"].astype(np.float32) - one).max() > 2e-3


@pytest.mark.parametrize(
    ("positions", "scheduler"), [("rotary", "dpm"), ("rotary", "ddim"), ("absolute", "ddim")]
)
def test_a_card_with_keys_and_values_gives_the_trained_latents(positions, scheduler):
    adapter = tiny_adapter(positions, scheduler)
    card, frames = trained(adapter)
    assert card.spec.recipe.kv == "required"
    with applied(adapter.pipe, card, kv_from=moving_square()) as log:
        latents = adapter.pipe(**arguments()).frames
    assert log.guided_steps == card.spec.guided_steps
    assert np.array_equal(frames, adapter.decode(latents, FRAMES))
    # ... which it does not without them: the test above can fail.
    with pytest.warns(CardWarning, match="without them"), applied(adapter, card, no_kv=True):
        bare = adapter.pipe(**arguments()).frames
    assert not torch.equal(latents, bare)


@pytest.mark.parametrize("name", ["cogvideox-5b", "cogvideox-2b"])
def test_the_published_setting_gives_the_trained_video_again(name):
    """`--recipe paper --kv-from REF`, on a tiny model under the published name."""
    row = variant_for(name)
    adapter = tiny_adapter(
        row.positions, "dpm" if row.dynamic_cfg else "ddim",
        name=name, hub_id=row.hub_id, dynamic_cfg=row.dynamic_cfg,
    )  # fmt: skip
    card, frames = trained(adapter, recipe="paper", steps=10, inner_steps=1)
    [made] = generate(adapter, [PROMPT], [3], card=card, kv_from=moving_square())
    assert np.array_equal(made.frames, frames)
    [other] = generate(
        adapter, [PROMPT], [3], card=card, kv_from=moving_square(), negative_prompt=""
    )
    assert not np.array_equal(other.frames, frames)


def test_keys_and_values_alone_and_latents_cards():
    adapter = tiny_adapter()
    card, frames = trained(adapter, mode="latents", learning_rates=(0.05, 0.05))
    [made] = generate(adapter, [PROMPT], [3], card=card, kv_from=moving_square())
    assert np.array_equal(made.frames, frames)
    card, _ = trained(adapter)
    plain_latents = adapter.pipe(**arguments()).frames
    with applied(adapter, card, 0.0, kv_from=moving_square()):
        alone = adapter.pipe(**arguments()).frames
    with applied(adapter, card, 0.0):
        assert torch.equal(adapter.pipe(**arguments()).frames, plain_latents)
    assert not torch.equal(alone, plain_latents)


def test_cards_that_require_them_say_so():
    adapter = tiny_adapter()
    card, _ = trained(adapter)
    with (
        pytest.raises(UsageError, match=card.spec.reference.sha256) as caught,
        applied(adapter, card),
    ):
        pass
    assert "--kv-from" in caught.value.message
    assert "--no-kv" in str(caught.value.hint)
    other = clip_of(moving_square().frames[::-1].copy())
    with pytest.warns(CardWarning, match=other.sha256), applied(adapter, card, kv_from=other):
        pass
    longer = moving_square(17)
    with (
        pytest.raises(MismatchError, match="17 at 32x32"),
        applied(adapter, card, kv_from=longer),
    ):
        pass
    assert not adapter.transformer._forward_pre_hooks


def test_the_exchange_survives_checkpointing_and_a_tap_on_its_own_block():
    adapter = tiny_adapter()
    kv = reference(adapter)
    x, text = torch.randn(1, 3, 4, 8, 8), torch.randn(1, TOKENS, 16)
    grads = []
    for checkpointing in (False, True):
        if checkpointing:
            adapter.transformer.enable_gradient_checkpointing()
        latents = x.clone().requires_grad_()
        with kv.injected(lambda _: True):
            q, k = adapter.queries_and_keys(latents, text, 500, 2, kv.rotary)
            (q * k).sum().backward()
        grads.append(latents.grad)
    assert torch.equal(grads[0], grads[1])
    with kv.injected(lambda _: True), hooks.processors(adapter.transformer):
        _, k = adapter.queries_and_keys(x, text, 500, 0, kv.rotary)
    assert torch.equal(k, kv.at(500)[0])
