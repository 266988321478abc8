"""The text side of the bundled backbone: a word-level tokenizer and a tiny T5 encoder."""

from __future__ import annotations

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from pe_toolkit.world.vocabulary import WORDS

TEXT_TOKENS = 16


def tokenizer() -> PreTrainedTokenizerFast:
    """One token a word; words outside the vocabulary become `<unk>`."""
    vocabulary = {word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", *WORDS])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.normalizer = normalizers.Lowercase()
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
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


def encoder() -> T5EncoderModel:
    """A two-layer T5 encoder, trained together with the transformer."""
    return T5EncoderModel(
        T5Config(
            vocab_size=3 + len(WORDS),
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
