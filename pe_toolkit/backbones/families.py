"""Which family drives a pipeline: one line each."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pe_toolkit.backbones.contract import Backbone

FAMILIES = {
    "CogVideoXTransformer3DModel": ("pe_toolkit.backbones.cogvideox.adapter", "CogVideoXAdapter"),
}
"""Class of the transformer -> module and class of the backbone. Imported when one is met."""


def backbone_of(pipe: Any) -> Backbone:
    """A pipeline of the user's as a backbone; a backbone is one already.

    Raises:
        UnsupportedError: no family drives it.
    """
    if isinstance(getattr(pipe, "family", None), str):
        return pipe  # type: ignore[no-any-return]
    transformer = getattr(pipe, "transformer", None)
    kind = type(getattr(transformer, "_orig_mod", transformer)).__name__
    # What nobody knows, the first family refuses by name.
    module, name = FAMILIES.get(kind, next(iter(FAMILIES.values())))
    return getattr(import_module(module), name)(pipe)  # type: ignore[no-any-return]
