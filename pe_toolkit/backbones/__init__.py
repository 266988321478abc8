"""Backbones: video diffusion transformers behind one adapter. Imports nothing heavy until one is
loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pe_toolkit.backbones.catalogue.variants import VARIANTS, Variant, variant_for

if TYPE_CHECKING:
    from pe_toolkit.backbones.cogvideox.adapter import CogVideoXAdapter
    from pe_toolkit.backbones.loading import load_backbone

__all__ = ["VARIANTS", "CogVideoXAdapter", "Variant", "load_backbone", "variant_for"]


def __getattr__(name: str) -> Any:
    if name == "CogVideoXAdapter":
        from pe_toolkit.backbones.cogvideox.adapter import CogVideoXAdapter

        return CogVideoXAdapter
    if name == "load_backbone":
        from pe_toolkit.backbones.loading import load_backbone

        return load_backbone
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
