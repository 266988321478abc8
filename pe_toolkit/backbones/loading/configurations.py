"""What a configuration of a pipeline may say. No torch.

The libraries take more from these files than sizes: the name of a repository whose kernels they
fetch and run, a quantizer, paths. All of that is refused, and every number has a bound, so that
none of them keeps a machine busy before a weight is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pe_toolkit.backbones.loading import files
from pe_toolkit.errors import BackboneError

# Far above every published CogVideoX, and far below what keeps a machine busy.
BOUNDS = {
    "transformer": {
        "num_layers": 256, "num_attention_heads": 256, "attention_head_dim": 512,
        "in_channels": 512, "out_channels": 512, "time_embed_dim": 16_384,
        "text_embed_dim": 32_768, "ofs_embed_dim": 16_384, "max_text_seq_length": 8192,
        "patch_size": 16, "patch_size_t": 16, "sample_width": 2048, "sample_height": 2048,
        "sample_frames": 2048, "temporal_compression_ratio": 64,
    },
    "vae": {
        "block_out_channels": 4096, "layers_per_block": 16, "latent_channels": 512,
        "in_channels": 64, "out_channels": 64, "norm_num_groups": 1024, "sample_width": 16_384,
        "sample_height": 16_384, "temporal_compression_ratio": 64,
    },
    "text_encoder": {
        "num_layers": 256, "num_decoder_layers": 256, "num_heads": 512, "d_model": 32_768,
        "d_ff": 131_072, "d_kv": 1024, "vocab_size": 2_000_000,
        "relative_attention_num_buckets": 4096,
    },
    "scheduler": {"num_train_timesteps": 100_000},
}  # fmt: skip
MOST_ITEMS = 4096
"""Entries of a list in a configuration."""
MOST_TABLE = 2 * 10**9
"""Numbers of a table of positions, which is made before any weight is read: 5b image-to-video has
54 million.
"""
MOST = 1_000_000
"""Any other whole number: `num_labels` becomes a table of that many names."""
MOST_LABELS = 10_000
MOST_DEPTH = 8
WIDTHS = {
    "transformer": ("num_attention_heads", "attention_head_dim"),
    "text_encoder": ("num_heads", "d_kv"),
}
MOST_WIDTH = 32_768
"""Channels of a layer: 5b has 3072, its text encoder 4096. One matrix of a feed-forward layer of so
many would have 17 GB.
"""
_CODE = re.compile(r"auto_map|custom_|trust_remote|kernel|quantiz|_implementation", re.IGNORECASE)
"""Keys that have a library fetch or run something, or read the weights in another way."""
_PLAIN = (None, False, True, "eager", "sdpa")
"""What older versions of transformers write for the attention."""
_FILES = ("vocab_file", "tokenizer_file", "merges_file", "model_file")


def check(part: str, config: Mapping[str, Any], where: str) -> None:
    """Refuse a configuration that names code, or numbers that keep the machine busy.

    Args:
        part: of the pipeline.
        where: the folder or repository, for messages.

    Raises:
        BackboneError: names the key.
    """
    file = f"{part}/{files.CONFIGS[part]}"
    bounds = BOUNDS[part]
    for key, value in _entries(config, file, where):
        _no_code(key, value, file, where)
        if isinstance(value, list | dict) and len(value) > MOST_ITEMS:
            raise refused(
                where, f"at most {MOST_ITEMS} entries of {shown(key)} in {file}", str(len(value))
            )
        most = MOST_LABELS if key in ("num_labels", "extra_ids") else MOST
        if key not in bounds and isinstance(value, int) and abs(value) > most:
            raise refused(where, f"{shown(key)} of at most {most} in {file}", shown(value))
    for key, most in bounds.items():
        value = config.get(key)
        for number in value if isinstance(value, list) else [value]:
            if number is None:
                continue
            whole = isinstance(number, int) and not isinstance(number, bool)
            if not whole or not 0 < number <= most:
                raise refused(where, f"{key} from 1 to {most} in {file}", shown(number))
    first, second = WIDTHS.get(part, ("", ""))
    width = (config.get(first) or 1) * (config.get(second) or 1)
    if width > MOST_WIDTH:
        raise refused(where, f"{first} x {second} of at most {MOST_WIDTH} in {file}", str(width))
    if part == "transformer":
        _check_table(config, where)
    elif part == "vae" and len(config.get("block_out_channels") or ()) > 16:
        raise refused(where, f"up to 16 block_out_channels in {file}", "more")


def check_tokenizer(name: str, config: Mapping[str, Any], where: str) -> None:
    """Refuse a file of a tokenizer that names code or files elsewhere.

    Args:
        name: of the file; `tokenizer.json` itself holds the words, which may be any.

    Raises:
        BackboneError: names the key.
    """
    file = f"tokenizer/{name}"
    if name == files.TOKENIZERS[0]:
        return
    for key, value in _entries(config, file, where):
        _no_code(key, value, file, where)
        if key in _FILES and isinstance(value, str) and re.search(r"[/\\]", value):
            raise refused(where, f"{key} beside {file}", shown(value))
        if key == "extra_ids" and isinstance(value, int) and value > MOST_LABELS:
            raise refused(where, f"{key} of at most {MOST_LABELS} in {file}", shown(value))


def _entries(value: Any, file: str, where: str, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Keys and values of an object and of all within; those of a list have the key of the list."""
    if depth > MOST_DEPTH:
        raise refused(where, f"at most {MOST_DEPTH} levels in {file}", "more")
    for key, item in value.items():
        yield key, item
        within = item if isinstance(item, list) else [item]
        for one in within:
            if isinstance(one, dict):
                yield from _entries(one, file, where, depth + 1)
            elif isinstance(item, list):
                yield key, one


def _check_table(config: Mapping[str, Any], where: str) -> None:
    numbers = 1
    for key in ("num_attention_heads", "attention_head_dim", "sample_frames", "sample_width",
                "sample_height"):  # fmt: skip
        numbers *= config.get(key) or 1
    numbers //= 4 * (config.get("patch_size") or 1) ** 2
    rotary = config.get("use_rotary_positional_embeddings") is True
    learned = config.get("use_learned_positional_embeddings") is True
    if numbers > MOST_TABLE and (learned or not rotary):
        raise refused(
            where,
            f"a table of positions of at most {MOST_TABLE} numbers in transformer/config.json",
            str(numbers),
        )


def _no_code(key: str, value: Any, file: str, where: str) -> None:
    plain = "_implementation" in key.lower() and value in _PLAIN
    if _CODE.search(key) and value is not None and not plain:
        raise refused(where, f"no code of its own ({shown(key)}) in {file}", "some", remote=True)


def refused(where: str, expected: str, got: str, *, remote: bool = False) -> BackboneError:
    """The error for a model that may not be loaded; `remote`: it would have run code."""
    return BackboneError(
        f"Expected {expected}, got {got}, at {where}.",
        "pe-toolkit loads CogVideoX-2b, -5b, 1.5 and what was trained from them"
        + (", and runs no code that comes with a model." if remote else "."),
    )


def shown(value: Any) -> str:
    """`value` for a message: short, and nothing that acts on a terminal."""
    return ascii(value)[:100]
