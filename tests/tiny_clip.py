"""A real CLIP and a real DINO of tiny size, with random weights, in folders as the Hub has them."""

from __future__ import annotations

import json
from pathlib import Path

from pe_toolkit.world.vocabulary import WORDS

SMALL = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
         "num_attention_heads": 2}  # fmt: skip
PICTURES = {"image_size": 32, "patch_size": 16}


def save_tiny_clip(folder: Path) -> Path:
    """Write one into a folder that is there; it knows the words of the bundled world."""
    import transformers

    words = {word: k for k, word in enumerate(["<|startoftext|>", "<|endoftext|>"])}
    for word in WORDS:
        words[f"{word}</w>"] = len(words)
    for letter in "abcdefghijklmnopqrstuvwxyz":
        words.setdefault(letter, len(words))
        words.setdefault(f"{letter}</w>", len(words))
    (folder / "vocab.json").write_text(json.dumps(words))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    ends = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    config = transformers.CLIPConfig(
        text_config={**SMALL, **ends, "vocab_size": len(words)},
        vision_config={**SMALL, **PICTURES},
        projection_dim=8,
    )
    transformers.CLIPModel(config).save_pretrained(folder)
    transformers.CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt")
    ).save_pretrained(folder)
    return folder


def save_tiny_dino(folder: Path) -> Path:
    """Write one into a folder that is there."""
    import transformers

    transformers.ViTModel(transformers.ViTConfig(**SMALL, **PICTURES)).save_pretrained(folder)
    return folder


def as_fetched(hub: Path, name: str) -> Path:
    """The folder, made, in which a cache of the Hub keeps `owner/name`."""
    place = hub / f"models--{name.replace('/', '--')}"
    folder = place / "snapshots" / ("0" * 40)
    folder.mkdir(parents=True)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("0" * 40)
    return folder
