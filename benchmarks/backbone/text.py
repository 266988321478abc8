"""The text side of the bundled backbone: a tokenizer of things and words, and a tiny T5 encoder."""

from __future__ import annotations

import itertools

import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from pe_toolkit.world.vocabulary import BACKGROUNDS, COLOURS, SHAPES, TEXTURED, WORDS

TEXT_TOKENS = 16
# The transformer gives words no place, and so small an encoder does not learn to say whose colour a
# colour is: of "a blue cross on a green background" and its reverse it said the same to 5e-4, and
# both came out as the same picture. What belongs together is one token.
THINGS: tuple[str, ...] = (
    *(f"{colour} {shape}" for colour, shape in itertools.product(COLOURS, SHAPES)),
    *(f"{background} background" for background in BACKGROUNDS),
)
# New tokens come last: rows of embeddings that are trained keep their places.
TOKENS: tuple[str, ...] = (
    "<pad>", "</s>", "<unk>", *(word for word in WORDS if word != TEXTURED), *THINGS, TEXTURED,
)  # fmt: skip


def tokenizer() -> PreTrainedTokenizerFast:
    """One token for a shape with its colour (`blue cross`), for a background with its own (`green
    background`), and for every other word; words outside the vocabulary become `<unk>`.
    """
    vocabulary = {token: i for i, token in enumerate(TOKENS)}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.normalizer = normalizers.Sequence(
        [
            normalizers.Lowercase(),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Replace(Regex(r"\ban\b"), "a"),
        ]
    )
    token = Regex(rf"\b(?:{'|'.join(THINGS)})\b|\w+|[^\w\s]+")
    inner.pre_tokenizer = pre_tokenizers.Split(token, behavior="removed", invert=True)
    inner.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=TEXT_TOKENS,
    )


def encoder(tokens: int = len(TOKENS)) -> T5EncoderModel:
    """A two-layer T5 encoder of so many tokens, trained together with the transformer."""
    return T5EncoderModel(
        T5Config(
            vocab_size=tokens,
            d_model=96,
            d_kv=32,
            d_ff=192,
            num_layers=2,
            num_heads=3,
            dropout_rate=0.0,
            feed_forward_proj="gated-gelu",
            pad_token_id=0,
            eos_token_id=1,
        )
    )


def token_ids(tok: PreTrainedTokenizerFast, captions: list[str]) -> torch.Tensor:
    """`(n, TEXT_TOKENS)` padded token ids, as the stock pipeline makes them."""
    ids: torch.Tensor = tok(
        captions, padding="max_length", max_length=TEXT_TOKENS, truncation=True, return_tensors="pt"
    ).input_ids
    return ids
