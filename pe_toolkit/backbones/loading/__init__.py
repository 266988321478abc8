"""From a name to a loaded adapter, one question a file: which device and dtype (`device`), what may
be loaded at all (`trust`), which files make a pipeline (`files`), where they are and how they come
(`hub`), and the loading itself (`load`, `build`).

Imports nothing heavy: `trust`, `files` and `hub` know no torch.
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

__all__ = [
    "PartLoaded",
    "check_device",
    "choose",
    "default_dtype",
    "load_backbone",
    "nearest_dtype",
    "pick_device",
    "prepare_download",
]
_PLACES = {"load_backbone": "load", "prepare_download": "hub", "PartLoaded": "build"}


def __getattr__(name: str) -> Any:
    if name in __all__:
        module = import_module(f"pe_toolkit.backbones.loading.{_PLACES.get(name, 'device')}")
        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
