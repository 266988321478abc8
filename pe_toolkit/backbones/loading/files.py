"""Which files make a pipeline, and which of them a folder does not have. No torch.

A part's weights are `model.safetensors` or the shards that an index names; where only those of one
variant were saved (`save_pretrained(variant="fp16")`), they are those.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pe_toolkit.errors import BackboneError

INDEX = "model_index.json"
STEMS = {
    "transformer": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
}
"""Parts with weights, and how their files begin."""
CONFIGS = {part: "config.json" for part in STEMS} | {"scheduler": "scheduler_config.json"}
TOKENIZERS = ("tokenizer.json", "spiece.model")
"""One of them is the tokenizer."""
PARTS = (*STEMS, "scheduler", "tokenizer")
MOST_JSON, MOST_TOKENIZER = 1 << 21, 1 << 26
"""Bytes: configurations and lists of shards; tokenizers."""
MOST_SHARDS = 1000
_SHARD = re.compile(r"[A-Za-z0-9_][\w.-]*\.safetensors", re.ASCII)
PICKLED = (".bin", ".pt", ".pth", ".ckpt")


@dataclass(frozen=True)
class Weights:
    """The weights of a part.

    Attributes:
        files: within the part's folder.
        variant: such as `fp16`, None for the plain ones.
    """

    files: tuple[str, ...]
    variant: str | None = None


def read_json(path: Path, most: int = MOST_JSON) -> dict[str, Any]:
    """An object from a file of JSON.

    Raises:
        BackboneError: it cannot be read, is too long, or no JSON object.
    """
    what = f"{path.parent.name}/{path.name}"
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise BackboneError(
            f"Expected to read {what} of the model, got: {error.strerror}.",
        ) from error
    if len(data) > most:
        raise BackboneError(f"Expected at most {most} bytes in {what} of the model, got more.")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BackboneError(f"Expected JSON in {what} of the model: it is damaged.") from error
    if not isinstance(value, dict):
        raise BackboneError(f"Expected a JSON object in {what} of the model.")
    return value


def shards(index: Mapping[str, Any], what: str) -> tuple[str, ...]:
    """The files that an index of shards names.

    Raises:
        BackboneError: it names none, too many, or something that is no file beside it.
    """
    found = index.get("weight_map")
    names = set(found.values()) if isinstance(found, dict) and _strings(found) else set()
    if not 0 < len(names) <= MOST_SHARDS or not all(map(_SHARD.fullmatch, names)):
        raise BackboneError(
            f"Expected {what} of the model to name .safetensors files beside it, it does not."
        )
    return tuple(sorted(names))


def _strings(found: Mapping[str, Any]) -> bool:
    return all(isinstance(name, str) for name in found.values())


def weights(
    part: str, names: Collection[str], read: Callable[[str], Mapping[str, Any]]
) -> Weights | None:
    """The weights of a part, if its folder has some as safetensors, whole or in shards.

    Args:
        names: of the files in its folder.
        read: the JSON object in one of them.
    """
    stem = STEMS[part]
    if f"{stem}.safetensors" in names:
        return Weights((f"{stem}.safetensors",))
    index = f"{stem}.safetensors.index.json"
    if index in names:
        return Weights(shards(read(index), f"{part}/{index}"))
    whole = re.compile(rf"{stem}\.(\w+)\.safetensors", re.ASCII)
    parted = re.compile(rf"{stem}\.safetensors\.index\.(\w+)\.json", re.ASCII)
    variants = {m[1]: name for name in names if (m := whole.fullmatch(name))}
    indices = {m[1]: name for name in names if (m := parted.fullmatch(name))}
    if len({*variants, *indices}) != 1:
        return None
    (variant,) = {*variants, *indices}
    if variant in variants:
        return Weights((variants[variant],), variant)
    name = indices[variant]
    return Weights(shards(read(name), f"{part}/{name}"), variant)


def there(folder: Path) -> set[str]:
    """The files in a folder; a link that leads nowhere is none."""
    try:
        return {path.name for path in folder.iterdir() if path.is_file()}
    except OSError:
        return set()


def missing(folder: Path) -> list[str]:
    """The files that a pipeline in `folder` lacks, as far as what is there tells.

    Raises:
        BackboneError: a list of parts or shards that cannot be read.
    """
    if not (folder / INDEX).is_file():
        return [INDEX]
    lacking = []
    for part, value in read_json(folder / INDEX).items():
        if part in PARTS and isinstance(value, list) and value != [None, None]:
            lacking += [f"{part}/{name}" for name in _missing(folder, part)]
    return lacking


def _missing(folder: Path, part: str) -> list[str]:
    names = there(folder / part)
    if part == "tokenizer":
        return [] if names.intersection(TOKENIZERS) else [TOKENIZERS[-1]]
    needed = [CONFIGS[part]]
    if part in STEMS:
        found = weights(part, names, lambda name: read_json(folder / part / name))
        needed += found.files if found is not None else [f"{STEMS[part]}.safetensors"]
    return [name for name in needed if name not in names]
