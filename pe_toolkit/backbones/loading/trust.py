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
from pe_toolkit.backbones.loading import configurations, files
from pe_toolkit.backbones.loading.configurations import refused, shown
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
ADAPTER = "adapter_config.json"


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
        raise refused(
            where, f"a pipeline out of {', '.join(PIPELINES)}", shown(pipeline), remote=True
        )
    parts = {}
    for name, value in index.items():
        if name.startswith("_") or not isinstance(value, list) or value == [None, None]:
            continue
        if name not in CLASSES:
            raise refused(where, f"no parts but {', '.join(CLASSES)}", shown(name))
        library, kinds = CLASSES[name]
        if len(value) != 2 or value[0] != library or value[1] not in kinds:
            raise refused(
                where, f"{library}'s {' or '.join(kinds)} as its {name}", shown(value), remote=True
            )
        parts[name] = str(value[1])
    lacking = [name for name in CLASSES if name not in parts]
    if lacking:
        raise refused(where, f"the parts {', '.join(CLASSES)}", f"none for {', '.join(lacking)}")
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
            raise refused(where, f"{part}/{config}", "no such file")
        configurations.check(part, files.read_json(folder / part / config), where)
    for name in sorted(files.there(folder / "tokenizer")):
        if name.endswith(".json"):
            value = files.read_json(folder / "tokenizer" / name, files.MOST_TOKENIZER)
            configurations.check_tokenizer(name, value, where)
    if (folder / "text_encoder" / ADAPTER).exists():  # transformers would load what it names
        raise refused(where, "a text encoder without an adapter", f"text_encoder/{ADAPTER}")
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
