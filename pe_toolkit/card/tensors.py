"""The tensors of a card as numpy arrays: their types, bytes, values, and the digest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pe_toolkit.card.spec import CardSpec
from pe_toolkit.card.values import ContentDigest, check_flow, check_mask, check_numbers
from pe_toolkit.errors import CardError
from pe_toolkit.shown import shown

Array = NDArray[Any]
DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
}


def layout_of(tensors: Mapping[str, Array]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Element types and shapes of arrays.

    Raises:
        CardError: for an element type that cards do not use.
    """
    names = {dtype: name for name, dtype in DTYPES.items()}
    layout = {}
    for name, array in tensors.items():
        if not isinstance(array, np.ndarray) or array.dtype not in names:
            kind = getattr(array, "dtype", type(array).__name__)
            raise CardError(
                f"Expected tensor {shown(name)} as a numpy array of one of {', '.join(DTYPES)}, "
                f"got {shown(str(kind))}.",
                "Cards hold float16 numbers: convert the tensor first.",
            )
        layout[name] = (names[array.dtype], array.shape)
    return layout


def check_values(spec: CardSpec, tensors: Mapping[str, Array]) -> None:
    """Finite numbers, displacements that stay in the grid, a mask of 0 and 1.

    Raises:
        CardError: naming the tensor.
    """
    for index, step in enumerate(tensors[spec.kind]):  # no second copy of a large tensor
        check_numbers(spec.kind, tensor_bytes(step), index)
    check_flow(spec, tensor_bytes(tensors["flow"]))
    check_mask(spec, tensor_bytes(tensors["flow_mask"]))


def packed(mask: Array) -> Array:
    """A mask `(F, F, H, W)` of truth values, or 0 and 1, as cards hold it since 2.0: uint8, a bit
    for each, in that order, the highest bit of a byte first.
    """
    return np.packbits(mask.astype(bool).reshape(-1))


def unpacked(spec: CardSpec, tensors: Mapping[str, Array]) -> Array:
    """The mask of a sound card of any version: bool `(F, F, H, W)`."""
    frames, height, width = spec.grid.token_grid()
    shape = (frames, frames, height, width)
    stored = tensors["flow_mask"]
    if spec.packs:
        stored = np.unpackbits(stored, count=frames * frames * height * width)
    return stored.reshape(shape).astype(bool)


def content_digest(spec: CardSpec, tensors: Mapping[str, Array]) -> str:
    """The in-file digest, "sha256:" and 64 hex digits (docs/card-format.md, "Digest")."""
    digest = ContentDigest(spec)
    layout = layout_of(tensors)
    for name in sorted(tensors):
        digest.begin(name, *layout[name])
        digest.update(tensor_bytes(tensors[name]))
    return digest.text()


def tensor_bytes(array: Array) -> memoryview:
    """Little-endian row-major bytes, without a copy where the array already lies so."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
