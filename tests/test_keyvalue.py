"""Keys and values of the reference: what is recorded, where it goes in, cards that require it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from pe_toolkit.apply import CardWarning, applied, generate
from pe_toolkit.backbones import variant_for
from pe_toolkit.backbones.cogvideox import hooks
from pe_toolkit.backbones.cogvideox.keyvalue import ReferenceKeysValues
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
    return events[-1].card, next(e for e in events if isinstance(e, PreviewFrames)).frames


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
    assert "--kv-from" in str(caught.value.hint)
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
