"""From a name to a loaded adapter, one question a file: which device and dtype (`device`), what may
be loaded at all (`trust`) and what its configurations may say (`configurations`), which files make
a pipeline (`files`), where they are and how they come (`hub`), the loading itself (`load`,
`build`), and LoRA weights on top (`lora`, `lora_keys`, `lora_weights`).

Imports nothing heavy: `trust`, `configurations`, `files` and `hub` know no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pe_toolkit.backbones.loading.build import PartLoaded
    from pe_toolkit.backbones.loading.device import (
        check_device,
        choose,
        default_dtype,
        nearest_dtype,
        pick_device,
    )
    from pe_toolkit.backbones.loading.hub import prepare_download
    from pe_toolkit.backbones.loading.load import load_backbone
    from pe_toolkit.backbones.loading.lora import Lora
    from pe_toolkit.backbones.loading.lora_weights import load_loras

__all__ = [
    "Lora",
    "PartLoaded",
    "check_device",
    "choose",
    "default_dtype",
    "load_backbone",
    "load_loras",
    "nearest_dtype",
    "pick_device",
    "prepare_download",
]
_PLACES = {
    "Lora": "lora",
    "PartLoaded": "build",
    "load_backbone": "load",
    "load_loras": "lora_weights",
    "prepare_download": "hub",
}


def __getattr__(name: str) -> Any:
    if name in __all__:
        module = import_module(f"pe_toolkit.backbones.loading.{_PLACES.get(name, 'device')}")
        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
