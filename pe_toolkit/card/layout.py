"""Which tensors a card must have, of which types and shapes. Needs no numpy."""

from __future__ import annotations

import math
from collections.abc import Mapping

from pe_toolkit.card.spec import CardSpec
from pe_toolkit.embedding import HEAD, LAYERS, TOKENS, form_for
from pe_toolkit.errors import CardError
from pe_toolkit.motion.disc import half_disc
from pe_toolkit.shown import shown

Layout = Mapping[str, tuple[str, tuple[int, ...]]]
"""Name -> (element type, shape)."""
MAX_CHANNELS = 65_536

_DAMAGED = "The card is damaged. Fetch it again."


def check_layout(spec: CardSpec, layout: Layout) -> None:
    """Exactly the tensors of this kind of card, with the element types and shapes they must have.

    Raises:
        CardError: naming the tensor that is missing, unknown or wrong.
    """
    main = spec.kind  # "positions" or "latents"
    frames, height, width = spec.grid.token_grid()
    pairs = (frames, frames, height, width)
    one_for_all = spec.shares and main in layout and layout[main][1][:1] == (1,)
    expected: dict[str, tuple[str, tuple[int | str, ...]]] = {
        main: ("F16", (1 if one_for_all else spec.guided_steps, *_step_shape(spec))),
        "flow": ("I8", (*pairs, 2)),
        "flow_mask": ("U8", (packed_bytes(math.prod(pairs)),) if spec.packs else pairs),
    }
    if spec.recipe.phase is not None:
        kept = len(half_disc(spec.recipe.phase.radius))
        expected["phase"] = ("U8", ("frames", "channels", kept))
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
    if "phase" in expected and (got := layout["phase"][1][0]) % frames:
        raise CardError(
            f"Expected 'phase' of a multiple of {frames} latent frames, got {got}.", _DAMAGED
        )


def packed_bytes(bits: int) -> int:
    """Bytes that so many bits take."""
    return -(-bits // 8)


def _step_shape(spec: CardSpec) -> tuple[int | str, ...]:
    """Shape of the main tensor at one step; strings are sides that the description leaves open."""
    if spec.kind == "latents":
        return ("frames", "channels", "height", "width")
    assert spec.recipe.parametrisation is not None  # checked with the description
    shape = form_for(spec.backbone.positions, spec.recipe.parametrisation).shape
    known = {TOKENS: spec.grid.tokens, LAYERS: len(spec.recipe.layers or ())}
    return tuple(known.get(side, side) if isinstance(side, str) else side for side in shape)


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
    elif _step_shape(spec)[-1] == HEAD and shape[-1] % 2:  # rotary: channels turn in pairs
        raise CardError(f"Expected an even head_dim in 'positions', got {shape[-1]}.", _DAMAGED)
