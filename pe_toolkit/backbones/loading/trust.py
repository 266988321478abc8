"""What may be loaded: from a card, and from a folder or a repository. No torch.

Two rules. A card names a model of the table or none; any other model is named by the person who
runs it. And whatever is loaded is data: known classes, numbers within bounds, weights as
safetensors; a class that is not known here is never looked up by its name, because diffusers would
fetch the Python of a community pipeline and run it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pe_toolkit.backbones.catalogue.names import HUB_ID, is_of
from pe_toolkit.backbones.catalogue.variants import VARIANTS
from pe_toolkit.backbones.loading import files
from pe_toolkit.errors import BackboneError, UsageError

PIPELINES = (
    "CogVideoXPipeline",
    "CogVideoXImageToVideoPipeline",
    "CogVideoXVideoToVideoPipeline",
)
CLASSES = {
    "transformer": ("diffusers", ("CogVideoXTransformer3DModel",)),
    "vae": ("diffusers", ("AutoencoderKLCogVideoX",)),
    "scheduler": (
        "diffusers",
        (
            "CogVideoXDDIMScheduler", "CogVideoXDPMScheduler", "DDIMScheduler",
            "DPMSolverMultistepScheduler", "UniPCMultistepScheduler", "EulerDiscreteScheduler",
            "EulerAncestralDiscreteScheduler",
        ),
    ),
    "text_encoder": ("transformers", ("T5EncoderModel",)),
    "tokenizer": (
        "transformers",
        ("T5Tokenizer", "T5TokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend"),
    ),
}  # fmt: skip
_REVISION = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)*", re.ASCII)
COMMIT = re.compile(r"[0-9a-f]{40}")

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


@dataclass(frozen=True)
class Layout:
    """A pipeline that may be loaded: its class, and the classes of its parts."""

    pipeline: str
    parts: Mapping[str, str]


def of_card(variant: str, model_id: str | None, revision: str | None) -> tuple[str, str | None]:
    """Name and revision for `load_backbone(..., of_card=True)`, of what a card names.

    Args:
        variant, model_id, revision: of the card's backbone.

    Raises:
        UsageError: anything but a model of the table, at a branch, tag or commit of its own.
    """
    row = VARIANTS.get(variant)
    own = row is not None and (
        model_id is None if row.hub_id is None else model_id is None or is_of(row, model_id)
    )
    if not own and model_id is not None:
        raise UsageError(
            f"Expected a card for a model of pe-toolkit's table, got one that asks for {model_id}.",
            f"A card does not choose what is downloaded and run: if you trust {model_id}, name it "
            "yourself.",
        )
    if not own or row is None:
        raise UsageError(
            f"Expected a card that names a known backbone, got {variant!r} from a local folder.",
            "Name the folder with --backbone.",
        )
    if row.hub_id is None:
        return row.name, None
    if revision is not None and not is_revision(revision):
        raise UsageError(
            f"Expected a card at a branch, tag or commit of {model_id or row.hub_id}, got one at "
            f"{revision!r}.",
            "A card does not choose what is downloaded and run: name the model yourself.",
        )
    return row.name, revision


def is_revision(text: str) -> bool:
    """Whether `text` is the name of a branch, tag or commit; `refs/pr/1`, anybody's proposal, is
    none.
    """
    return is_readable(text) and not text.startswith("refs/")


def is_readable(text: str) -> bool:
    """Whether a revision may stand in a line for a person to copy: also `refs/pr/1`."""
    return _REVISION.fullmatch(text) is not None and ".." not in text and len(text) <= 100


def is_hub_id(text: str) -> bool:
    """Whether `text` is `owner/name`."""
    return HUB_ID.fullmatch(text) is not None


def check_index(index: Mapping[str, Any], where: str) -> Layout:
    """The classes of a `model_index.json`.

    Args:
        where: the folder or repository, for messages.

    Raises:
        BackboneError: a pipeline or a part that is not known here.
    """
    pipeline = index.get("_class_name")
    if not isinstance(pipeline, str) or pipeline not in PIPELINES:
        raise _refused(
            where, f"a pipeline out of {', '.join(PIPELINES)}", _shown(pipeline), remote=True
        )
    parts = {}
    for name, value in index.items():
        if name.startswith("_") or not isinstance(value, list) or value == [None, None]:
            continue
        if name not in CLASSES:
            raise _refused(where, f"no parts but {', '.join(CLASSES)}", _shown(name))
        library, kinds = CLASSES[name]
        if len(value) != 2 or value[0] != library or value[1] not in kinds:
            raise _refused(
                where, f"{library}'s {' or '.join(kinds)} as its {name}", _shown(value), remote=True
            )
        parts[name] = str(value[1])
    lacking = [name for name in CLASSES if name not in parts]
    if lacking:
        raise _refused(where, f"the parts {', '.join(CLASSES)}", f"none for {', '.join(lacking)}")
    return Layout(str(pipeline), parts)


def check_folder(folder: Path, where: str, *, weights: bool = True) -> Layout:
    """The classes of a pipeline in a folder, once all its configurations were read and found sound.

    Args:
        where: the folder or repository, for messages.
        weights: they have to be there as well.

    Raises:
        BackboneError: what is not as it should be.
    """
    if not (folder / files.INDEX).is_file():
        lacks = files.INDEX if folder.is_dir() else "such folder"
        raise BackboneError(
            f"Expected a CogVideoX model at {where}, but there is no {lacks}.",
            "Name the folder that `save_pretrained` of the pipeline wrote.",
        )
    layout = check_index(files.read_json(folder / files.INDEX), where)
    for part, config in files.CONFIGS.items():
        if not (folder / part / config).is_file():
            raise _refused(where, f"{part}/{config}", "no such file")
        check_config(part, files.read_json(folder / part / config), where)
    for name in sorted(files.there(folder / "tokenizer")):
        if name.endswith(".json"):
            value = files.read_json(folder / "tokenizer" / name, files.MOST_TOKENIZER)
            _no_code(value, f"tokenizer/{name}", where)
    if weights:
        for part in files.STEMS:
            check_weights(folder / part, part, where)
    return layout


def check_weights(folder: Path, part: str, where: str) -> files.Weights:
    """The weights in the folder of a part, all of which are there.

    Raises:
        BackboneError: none as safetensors, or not all.
    """
    names = files.there(folder)
    found = files.weights(part, names, lambda name: files.read_json(folder / name))
    if found is None:
        raise no_safetensors(part, names, where)
    lacking = [name for name in found.files if name not in names]
    if lacking:
        raise BackboneError(
            f"Expected {part}/{lacking[0]} in {where}, but it is not there"
            + (f", nor are {len(lacking) - 1} more." if len(lacking) > 1 else "."),
            "Copy or download the model again.",
        )
    return found


def no_safetensors(part: str, names: set[str], where: str) -> BackboneError:
    """The error for a part without safetensors weights among its files."""
    if any(name.endswith(files.PICKLED) for name in names):
        return BackboneError(
            f"Expected the weights of the {part} of {where} as safetensors, got "
            f"{min(n for n in names if n.endswith(files.PICKLED))[:80]}: opening such a file can "
            "run code.",
            "If you trust it, load it with diffusers (use_safetensors=False) and save it again: "
            "pipe.save_pretrained(FOLDER).",
        )
    many = [name for name in names if name.endswith(".safetensors")]
    got = "weights of several variants" if many else "none"
    return BackboneError(
        f"Expected weights at {where}, {part}/{files.STEMS[part]}.safetensors or its shards, got "
        f"{got}.",
        "Copy or download the model again." if not many else "Keep those of one variant.",
    )


def check_config(part: str, config: Mapping[str, Any], where: str) -> None:
    """Refuse a configuration that would keep the machine busy before a weight is read.

    Raises:
        BackboneError: names the key.
    """
    file = f"{part}/{files.CONFIGS[part]}"
    _no_code(config, file, where)
    for key, value in config.items():
        if isinstance(value, list | dict) and len(value) > MOST_ITEMS:
            raise _refused(
                where, f"at most {MOST_ITEMS} entries of {_shown(key)} in {file}", str(len(value))
            )
    for key, most in BOUNDS[part].items():
        value = config.get(key)
        for number in value if isinstance(value, list) else [value]:
            if number is None:
                continue
            whole = isinstance(number, int) and not isinstance(number, bool)
            if not whole or not 0 < number <= most:
                raise _refused(where, f"{key} from 1 to {most} in {file}", _shown(number))
    if part == "transformer":
        _check_table(config, where)
    elif part == "vae" and len(config.get("block_out_channels") or ()) > 16:
        raise _refused(where, f"up to 16 block_out_channels in {file}", "more")


def _check_table(config: Mapping[str, Any], where: str) -> None:
    numbers = 1
    for key in ("num_attention_heads", "attention_head_dim", "sample_frames", "sample_width",
                "sample_height"):  # fmt: skip
        numbers *= config.get(key) or 1
    numbers //= 4 * (config.get("patch_size") or 1) ** 2
    rotary = config.get("use_rotary_positional_embeddings") is True
    learned = config.get("use_learned_positional_embeddings") is True
    if numbers > MOST_TABLE and (learned or not rotary):
        raise _refused(
            where,
            f"a table of positions of at most {MOST_TABLE} numbers in transformer/config.json",
            str(numbers),
        )


def _no_code(config: Mapping[str, Any], file: str, where: str) -> None:
    for key in ("auto_map", "custom_pipelines", "trust_remote_code"):
        if key in config:
            raise _refused(where, f"no code of its own ({key}) in {file}", "some", remote=True)


def _refused(where: str, expected: str, got: str, *, remote: bool = False) -> BackboneError:
    return BackboneError(
        f"Expected {expected}, got {got}, at {where}.",
        "pe-toolkit loads CogVideoX-2b, -5b, 1.5 and what was trained from them"
        + (", and runs no code that comes with a model." if remote else "."),
    )


def _shown(value: Any) -> str:
    """`value` for a message: short, and nothing that acts on a terminal."""
    return ascii(value)[:100]
