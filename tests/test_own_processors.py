"""Attention processors of the user: at work under a card, named where they cannot be."""

from __future__ import annotations

import warnings

import pytest
import torch
from diffusers.models.attention_processor import CogVideoXAttnProcessor2_0

from pe_toolkit.apply import applied
from pe_toolkit.backbones.cogvideox import hooks
from pe_toolkit.errors import UnsupportedError
from pe_toolkit.training import TrainConfig, train
from tests.tiny import FRAMES, SIDE, TOKENS, moving_square, tiny_adapter

CONFIG = TrainConfig(prompts=("a red circle",), samples=1, learning_rates=(0.1, 0.1))


class Own(CogVideoXAttnProcessor2_0):
    """As people write them."""


class Across(CogVideoXAttnProcessor2_0):
    """Normalises before it puts the heads in front of the tokens."""

    def __call__(
        self, attn, hidden_states, encoder_hidden_states, attention_mask=None, image_rotary_emb=None
    ):
        norm = attn.norm_k

        class Swapped(torch.nn.Module):
            def forward(self, key):
                return norm(key.transpose(1, 2)).transpose(1, 2)

        attn.norm_k = Swapped()
        try:
            return super().__call__(
                attn, hidden_states, encoder_hidden_states, attention_mask, image_rotary_emb
            )
        finally:
            attn.norm_k = norm


class Unnormalised(CogVideoXAttnProcessor2_0):
    def __call__(
        self, attn, hidden_states, encoder_hidden_states, attention_mask=None, image_rotary_emb=None
    ):
        norm, attn.norm_k = attn.norm_k, None
        try:
            return super().__call__(
                attn, hidden_states, encoder_hidden_states, attention_mask, image_rotary_emb
            )
        finally:
            attn.norm_k = norm


class Hidden(CogVideoXAttnProcessor2_0):
    def __call__(self, *args, **kwargs):
        return super().__call__(*args, **kwargs)


def tables(form, adapter):
    generator = torch.Generator().manual_seed(1)
    made = adapter.form(form, FRAMES, SIDE, SIDE)
    return made.embed(torch.randn(made.shape, generator=generator) * 0.3)


def one_pass(adapter, rotary):
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(2, 3, 4, 8, 8, generator=generator)
    text = torch.randn(2, TOKENS, 16, generator=generator)
    with torch.no_grad(), hooks.positions(adapter.transformer, "rotary", lambda _: rotary):
        return adapter.forward(x, text, torch.tensor([500, 500]), None)


@pytest.mark.parametrize("form", ["angle", "table"])
@pytest.mark.parametrize("kind", [Own, Across])
def test_two_pairs_of_tables_reach_a_processor_that_knows_one(form, kind):
    adapter = tiny_adapter()
    rotary = tables(form, adapter)
    assert not torch.equal(rotary[0][0], rotary[1][0])
    wanted = one_pass(adapter, rotary)
    only_queries = one_pass(adapter, rotary[0])
    adapter.transformer.set_attn_processor(kind())
    before = dict(adapter.transformer.attn_processors)
    got = one_pass(adapter, rotary)
    torch.testing.assert_close(got, wanted, rtol=0, atol=2e-5)
    assert (wanted - only_queries).abs().max() > 1e-3  # the keys' tables do matter
    assert adapter.transformer.attn_processors == before
    for attn in hooks.attention_modules(adapter.transformer):
        assert not attn._forward_pre_hooks
        assert not attn._forward_hooks
        assert not attn.norm_k._forward_hooks


def test_equal_tables_need_no_turn():
    adapter = tiny_adapter()
    for_query, _ = tables("angle", adapter)
    same = (for_query, tuple(table.clone() for table in for_query))
    wanted = one_pass(adapter, same)
    adapter.transformer.set_attn_processor(Unnormalised())
    for attn in hooks.attention_modules(adapter.transformer):
        attn.norm_k.weight.data.fill_(1.0)
    assert one_pass(adapter, same).shape == wanted.shape


def test_keys_that_cannot_be_reached_are_refused_by_name():
    adapter = tiny_adapter()
    adapter.transformer.set_attn_processor(Unnormalised())
    with pytest.raises(UnsupportedError, match=r"attn\.norm_k, got Unnormalised") as caught:
        one_pass(adapter, tables("angle", adapter))
    assert "set_attn_processor" in str(caught.value.hint)
    for attn in hooks.attention_modules(adapter.transformer):
        assert not attn._forward_pre_hooks


def test_hidden_parameters_are_warned_of_and_given():
    adapter = tiny_adapter()
    rotary = tables("angle", adapter)
    wanted = one_pass(adapter, rotary)
    adapter.transformer.set_attn_processor(Hidden())
    with pytest.warns(UserWarning, match="attention processor Hidden does not name"):
        got = one_pass(adapter, rotary)
    torch.testing.assert_close(got, wanted, rtol=0, atol=2e-5)
    assert all(type(p) is Hidden for p in adapter.transformer.attn_processors.values())


@pytest.mark.parametrize("mode", ["positions", "latents"])
def test_a_training_on_rotary_positions_names_them(mode):
    adapter = tiny_adapter()
    adapter.transformer.set_attn_processor(Own())
    config = TrainConfig(prompts=("a red circle",), samples=1, mode=mode)
    with pytest.raises(UnsupportedError, match="for a training, got Own"):
        list(train(adapter, moving_square(), config))


def test_a_training_on_absolute_positions_keeps_them():
    plain = list(train(tiny_adapter("absolute"), moving_square(), CONFIG))[-1].card
    adapter = tiny_adapter("absolute")
    adapter.transformer.set_attn_processor(Own())
    card = list(train(adapter, moving_square(), CONFIG))[-1].card
    assert card.digest != ""
    assert (card.tensors["positions"] != 0).any()
    assert abs(card.tensors["positions"] - plain.tensors["positions"]).max() < 0.05


@pytest.mark.parametrize("change", ["stock", "own", "fused"])
@pytest.mark.parametrize("before", [CogVideoXAttnProcessor2_0, Own])
def test_processors_set_while_a_card_is_applied_are_refused(before, change):
    adapter = tiny_adapter()
    card = list(train(adapter, moving_square(), CONFIG))[-1].card
    adapter.transformer.set_attn_processor(before())
    own = dict(adapter.transformer.attn_processors)
    kwargs = card.pipe_kwargs() | {"output_type": "latent"}
    with applied(adapter, card):
        if change == "fused":
            adapter.transformer.fuse_qkv_projections()
        else:
            adapter.transformer.set_attn_processor(
                CogVideoXAttnProcessor2_0() if change == "stock" else Own()
            )
        with pytest.raises(UnsupportedError, match="that stay as they are") as caught:
            adapter.pipe("a red circle", **kwargs)
        assert "before `applied`" in caught.value.hint
    assert adapter.transformer.attn_processors == own
    adapter.pipe("a red circle", **kwargs)


@pytest.mark.parametrize("positions", ["rotary", "absolute"])
def test_keys_and_values_of_a_reference_need_block_0(positions):
    adapter = tiny_adapter(positions)
    card = list(train(adapter, moving_square(), CONFIG))[-1].card
    adapter.transformer.set_attn_processor(Own())
    with (
        pytest.raises(UnsupportedError, match="keys and values of a reference, got Own"),
        applied(adapter, card, kv_from=moving_square()),
    ):
        pass
    with warnings.catch_warnings(), applied(adapter, card):
        warnings.simplefilter("error")
