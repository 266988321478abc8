"""LoRA weights that were asked for, and the file that holds them. No torch.

Safetensors only, because opening anything else can run code.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pe_toolkit.backbones.catalogue.names import HUB_ID
from pe_toolkit.backbones.loading import files, hub
from pe_toolkit.errors import UsageError

Say = Callable[[str], None]
USUAL = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors")
CONFIG = "adapter_config.json"
MOST = 100.0
"""Largest weight, either way."""


@dataclass(frozen=True)
class Lora:
    """LoRA weights that were asked for.

    Attributes:
        source: a .safetensors file, a folder with one, or `owner/name` on the Hub.
        weight: how much they count; 1 as trained, negative turns them round.
    """

    source: str
    weight: float = 1.0

    @classmethod
    def parse(cls, text: str) -> Lora:
        """`PATH[:WEIGHT]` or `OWNER/NAME[:WEIGHT]`.

        Raises:
            UsageError: no source, or a weight that is none.
        """
        source, colon, number = text.rpartition(":")
        if not colon or Path(text).exists() or "/" in number or "\\" in number:
            source, number = text, "1"
        try:
            weight = float(number)
        except ValueError:
            weight = math.nan
        if not source or not abs(weight) <= MOST:
            raise UsageError(
                f"Expected --lora PATH[:WEIGHT], with a weight from -{MOST:g} to {MOST:g}, got "
                f"{text!r}.",
                "Such as --lora style.safetensors:0.8.",
            )
        return cls(source, weight)

    @property
    def record(self) -> dict[str, object]:
        """What a video's JSON says of it: no path."""
        return {"name": Path(self.source).name, "weight": self.weight}


def find(source: str, say: Say = lambda _: None) -> Path:
    """The file with the weights; one on the Hub is fetched once.

    Raises:
        UsageError: there is none, more than one, or it is not safetensors.
        BackboneError: as `hub.fetch_one`.
    """
    path = Path(source).expanduser()
    if HUB_ID.fullmatch(source) and path.suffix not in (".safetensors", *files.PICKLED):
        return hub.fetch_one(source, lambda names: _pick(source, names), (CONFIG,), say)
    if path.is_dir():
        return path / _pick(source, files.there(path))
    if path.suffix != ".safetensors":
        raise _not_safetensors(source, path.name)
    if not path.is_file():
        raise UsageError(
            f"Expected LoRA weights, got {source}, which is not there.", "Check the path."
        )
    return path


def _pick(source: str, names: set[str]) -> str:
    """The one file of a folder or a repository that holds LoRA weights."""
    found = sorted(name for name in names if name.endswith(".safetensors"))
    usual = [name for name in USUAL if name in found]
    if usual or len(found) == 1:
        return (usual or found)[0]
    if found:
        raise UsageError(
            f"Expected one file of LoRA weights in {source}, got {len(found)}: "
            f"{', '.join(found[:4])}{' ...' if len(found) > 4 else ''}.",
            "Name the file itself; one of the Hub comes with `hf download OWNER/NAME FILE`.",
        )
    pickled = sorted(name for name in names if name.endswith(files.PICKLED))
    if pickled:
        raise _not_safetensors(source, pickled[0])
    raise UsageError(
        f"Expected LoRA weights in {source}, there is no .safetensors file.",
        "Name a .safetensors file, a folder with one, or OWNER/NAME on the Hub.",
    )


def _not_safetensors(source: str, name: str) -> UsageError:
    return UsageError(
        f"Expected LoRA weights as safetensors, got {source} ({name}): opening anything else can "
        "run code.",
        "Name a .safetensors file; safetensors.torch.save_file converts what you trust.",
    )
