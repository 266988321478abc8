"""Backbones: video diffusion transformers behind one contract. Imports nothing heavy until one is
loaded.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pe_toolkit.backbones.catalogue.variants import VARIANTS, Variant, variant_for
    from pe_toolkit.backbones.cogvideox.adapter import CogVideoXAdapter
    from pe_toolkit.backbones.loading import load_backbone

_WHERE = {
    "VARIANTS": "catalogue.variants",
    "CogVideoXAdapter": "cogvideox.adapter",
    "Variant": "catalogue.variants",
    "load_backbone": "loading",
    "variant_for": "catalogue.variants",
}

__all__ = ["VARIANTS", "CogVideoXAdapter", "Variant", "load_backbone", "variant_for"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
