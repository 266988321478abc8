"""Parts of the bundled backbone's training that no weights show."""

from __future__ import annotations

from unittest import mock

import torch
import torch.nn.functional as F

from benchmarks.backbone import bind, text, things
from benchmarks.backbone.latents import order_matters, untextured
from benchmarks.backbone.transformer import plain_attention


def test_attention_on_cpus_is_what_pipelines_compute():
    # It was not: the text encoder was trained without its relative positions, at another scale.
    torch.manual_seed(0)
    encoder = text.encoder().eval()
    torch.nn.init.normal_(
        encoder.encoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight
    )
    ids = text.token_ids(text.tokenizer(), ["a red circle on a grey background", ""])
    with torch.no_grad():
        wanted = encoder(ids)[0]
        with mock.patch.object(F, "scaled_dot_product_attention", plain_attention):
            got = encoder(ids)[0]
    torch.testing.assert_close(got, wanted)
    q, k, v = torch.randn(3, 2, 3, 5, 8)
    torch.testing.assert_close(plain_attention(q, k, v), F.scaled_dot_product_attention(q, k, v))


def test_captions_whose_words_could_change_places():
    assert order_matters("a blue cross on a green background")
    assert order_matters("a red cross and a white circle on a grey background")
    assert not order_matters("a red cross on a green background")
    assert not order_matters("a red cross and a white cross on a grey background")


def test_the_word_for_texture_can_be_left_out():
    said = "a red cross and a white circle on a textured grey background"
    assert untextured(said) == "a red cross and a white circle on a grey background"
    assert untextured(untextured(said)) == untextured(said)


def test_an_encoder_that_learns_a_word_says_the_same_of_the_others():
    torch.manual_seed(0)
    old = text.encoder(len(text.TOKENS) - 1).eval()
    new = things.encoder_of(old, steps=20)
    assert new.shared.weight.shape[0] == len(text.TOKENS)
    assert things.encoder_of(new) is new
    tok = text.tokenizer()
    ids = text.token_ids(tok, ["an orange cross on a blue background", ""])
    with torch.no_grad():
        assert torch.equal(new(ids)[0], old(ids)[0])
    said = text.token_ids(tok, ["an orange cross on a textured blue background"])[0]
    assert tok.convert_ids_to_tokens(int(said[4])) == "textured"
    assert int(said[4]) == len(text.TOKENS) - 1  # what was trained keeps its row


def test_timesteps_of_binding_reach_everywhere():
    found = torch.cat([bind.timesteps(4, torch.Generator().manual_seed(i)) for i in range(50)])
    assert found.min() < 50
    assert found.max() > 950
    assert ((found // 250).bincount() == 50).all()
