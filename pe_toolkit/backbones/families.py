"""Which families of backbones there are, one line each; none is imported before it is met.

Torch-free: cards are read by the names here.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

    from pe_toolkit.backbones.contract import Backbone


class Family(NamedTuple):
    """How a family is known, and where it is.

    Attributes:
        transformer: class name of the transformer in its pipelines.
        module, backbone: where its `Backbone` is, which is made of a pipeline.
        folder: module whose `native(folder)` reads a pipeline's folder without torch; "" for none.
    """

    transformer: str
    module: str
    backbone: str
    folder: str = ""


class Native(NamedTuple):
    """What the configurations in a folder say before its weights are loaded.

    Attributes:
        positions: `rotary` or `absolute`.
        frames, width, height: of a clip in pixels.
        fixed_size: whether others are impossible.
    """

    positions: str
    frames: int
    width: int
    height: int
    fixed_size: bool


FAMILIES = {
    "cogvideox": Family(
        "CogVideoXTransformer3DModel",
        "pe_toolkit.backbones.cogvideox.adapter",
        "CogVideoXAdapter",
        "pe_toolkit.backbones.cogvideox.folder",
    ),
}
"""By the name that cards record (`backbone.family`)."""


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
    known = {family.transformer: family for family in FAMILIES.values()}
    found = known.get(kind, next(iter(known.values())))
    return getattr(import_module(found.module), found.backbone)(pipe)  # type: ignore[no-any-return]


def native(folder: Path) -> Native | None:
    """What a pipeline's folder says of itself; None where no family understands it."""
    readers = (import_module(family.folder) for family in FAMILIES.values() if family.folder)
    return next((found for reader in readers if (found := reader.native(folder))), None)
