"""What the tensors of a card must be: names, element types, shapes, values, and the digest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pe_toolkit.card.spec import CardSpec
from pe_toolkit.card.text import canonical_json, shown
from pe_toolkit.errors import CardError

Array = NDArray[Any]
Layout = Mapping[str, tuple[str, tuple[int, ...]]]
"""Name -> (element type, shape)."""

DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
}
MAX_CHANNELS = 65_536

_DAMAGED = "The card is damaged. Fetch it again."


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


def check_layout(spec: CardSpec, layout: Layout) -> None:
    """Exactly the tensors of this kind of card, with the element types and shapes they must have.

    Raises:
        CardError: naming the tensor that is missing, unknown or wrong.
    """
    main = spec.kind  # "positions" or "latents"
    frames, height, width = spec.grid.token_grid()
    expected: dict[str, tuple[str, tuple[int | str, ...]]] = {
        main: ("F16", _main_shape(spec)),
        "flow": ("I8", (frames, frames, height, width, 2)),
        "flow_mask": ("U8", (frames, frames, height, width)),
    }
    for name in layout:
        if name not in expected:
            raise CardError(
                f"Expected the tensors {', '.join(expected)}, got the unknown {shown(name)}.",
                _DAMAGED,
            )
    for name, (dtype, shape) in expected.items():
        if name not in layout:
            raise CardError(f"Expected the tensor {name!r}, but it is missing.", _DAMAGED)
        have_dtype, have = layout[name]
        if have_dtype != dtype:
            raise CardError(f"Expected {name!r} in {dtype}, got {have_dtype}.", _DAMAGED)
        fits = len(have) == len(shape) and all(
            1 <= h <= MAX_CHANNELS if isinstance(want, str) else h == want
            for h, want in zip(have, shape, strict=True)
        )
        if not fits:
            raise CardError(
                f"Expected {name!r} of shape ({', '.join(map(str, shape))}) for a {spec.grid} grid "
                f"and {spec.guided_steps} guided steps, got {have}.",
                _DAMAGED,
            )
    _check_free_sides(spec, layout[main][1])


def _main_shape(spec: CardSpec) -> tuple[int | str, ...]:
    """Shape of the main tensor; a string stands for a side that the description does not fix."""
    steps, tokens = spec.guided_steps, spec.grid.tokens
    if spec.kind == "latents":
        return (steps, "frames", "channels", "height", "width")
    if spec.backbone.positions == "absolute":
        return (steps, tokens, "inner_dim")
    if spec.recipe.parametrisation == "angle":
        return (steps, 2, tokens, "head_dim/2")
    return (steps, 2, 2, tokens, "head_dim")


def _check_free_sides(spec: CardSpec, shape: tuple[int, ...]) -> None:
    if spec.kind == "latents":
        frames, height, width = spec.grid.token_grid()
        _, f, _, h, w = shape
        # One token covers patch_size_t latent frames and a square of latent pixels.
        if f % frames or h % height or w % width or h // height != w // width:
            raise CardError(
                f"Expected 'latents' to cut into a {spec.grid} grid of square patches, "
                f"got {f}x{h}x{w}.",
                _DAMAGED,
            )
    elif len(shape) == 5 and shape[-1] % 2:  # rotary table: channels turn in pairs
        raise CardError(f"Expected an even head_dim in 'positions', got {shape[-1]}.", _DAMAGED)


def check_values(spec: CardSpec, tensors: Mapping[str, Array]) -> None:
    """Finite numbers, displacements that stay in the grid, a mask of 0 and 1.

    Raises:
        CardError: naming the tensor.
    """
    main = tensors[spec.kind]
    for index, step in enumerate(main):  # step by step: no second copy of a large tensor
        if not np.isfinite(step).all():
            raise CardError(
                f"Expected finite numbers in {spec.kind!r}, got NaN or infinity at guided step "
                f"{index}.",
                "The card is of no use: training diverged. Train it again.",
            )
    _, height, width = spec.grid.token_grid()
    flow = tensors["flow"].astype(np.int16)
    x, y = flow[..., 0] + np.arange(width), flow[..., 1] + np.arange(height)[:, None]
    if x.min() < 0 or x.max() >= width or y.min() < 0 or y.max() >= height:
        raise CardError(
            f"Expected every displacement in 'flow' to stay in the {spec.grid} grid, "
            "got one that leaves it.",
            _DAMAGED,
        )
    if tensors["flow_mask"].max() > 1:
        raise CardError("Expected 0 and 1 in 'flow_mask', got something else.", _DAMAGED)


def content_digest(spec: CardSpec, tensors: Mapping[str, Array]) -> str:
    """The in-file digest, "sha256:" and 64 hex digits (docs/card-format.md, "Digest")."""
    state = hashlib.sha256(spec.canonical_without_digest() + b"\n")
    layout = layout_of(tensors)
    for name in sorted(tensors):
        dtype, shape = layout[name]
        state.update(canonical_json([name, dtype, list(shape)]) + b"\n")
        state.update(tensor_bytes(tensors[name]))
    return "sha256:" + state.hexdigest()


def tensor_bytes(array: Array) -> memoryview:
    """Little-endian row-major bytes, without a copy where the array already lies so."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
