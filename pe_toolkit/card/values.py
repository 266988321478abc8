"""What the numbers in a card must be, looked at as bytes, and the digest over them.

Without numpy, whose import takes longer than to read a card: `pe verify`, `pe add` and `pe pull`
do nothing else with the numbers. Deleting all good bytes from a piece of a tensor leaves the bad
ones, at a nanosecond a byte.
"""

from __future__ import annotations

import hashlib
from itertools import chain

from pe_toolkit.card.spec import CardSpec
from pe_toolkit.card.text import canonical_json
from pe_toolkit.errors import CardError

Data = bytes | bytearray | memoryview

_DAMAGED = "The card is damaged. Fetch it again."
# A float16 is NaN or infinite if all five bits of its exponent are set. They are in the second of
# its two bytes.
_EXPONENT = 0x7C
_FINITE = bytes(byte for byte in range(256) if byte & _EXPONENT != _EXPONENT)


def check_numbers(kind: str, data: Data, step: int) -> None:
    """Finite float16 numbers.

    Args:
        kind: name of the tensor.
        data: little-endian bytes, whole numbers.
        step: the guided step that they belong to, for the message.

    Raises:
        CardError: if one is NaN or infinite.
    """
    if bytes(data)[1::2].translate(None, _FINITE):
        raise CardError(
            f"Expected finite numbers in {kind!r}, got NaN or infinity at guided step {step}.",
            "The card is of no use: training diverged. Train it again.",
        )


def check_flow(spec: CardSpec, data: Data) -> None:
    """Displacements (dx, dy) that end inside the grid.

    Args:
        spec: says the grid.
        data: `flow`, int8 (F, F, height, width, 2).

    Raises:
        CardError: if one leaves the grid.
    """
    _, height, width = spec.grid.token_grid()
    pairs = bytes(data)
    across, down = pairs[0::2], pairs[1::2]
    columns = ((across[place::width], place, width) for place in range(width))
    rows = ((_row(down, place, height, width), place, height) for place in range(height))
    for piece, place, side in chain(columns, rows):
        # All displacements, as int8, that lead from `place` to a place inside.
        inside = bytes(step & 0xFF for step in range(-place, side - place))
        if piece.translate(None, inside):
            raise CardError(
                f"Expected every displacement in 'flow' to stay in the {spec.grid} grid, "
                "got one that leaves it.",
                _DAMAGED,
            )


def _row(data: bytes, row: int, height: int, width: int) -> bytes:
    """One row of every plane: as whole rows, or column by column, whichever are fewer pieces."""
    plane = height * width
    if len(data) // plane < width:
        starts = range(row * width, len(data), plane)
        return b"".join(data[start : start + width] for start in starts)
    return b"".join(data[start::plane] for start in range(row * width, (row + 1) * width))


def check_mask(spec: CardSpec, data: Data) -> None:
    """A mask of 0 and 1, in bytes or in bits; then the bits that fill the last byte are 0.

    Raises:
        CardError: if there is something else.
    """
    if spec.packs:
        frames, height, width = spec.grid.token_grid()
        spare = -(frames * frames * height * width) % 8
        if data[-1] & ((1 << spare) - 1):
            raise CardError("Expected 0 in the last bits of 'flow_mask', got 1.", _DAMAGED)
    elif bytes(data).translate(None, b"\0\1"):
        raise CardError("Expected 0 and 1 in 'flow_mask', got something else.", _DAMAGED)


class ContentDigest:
    """The in-file digest (docs/card-format.md, "Digest"), piece by piece.

    Tensors have to come in the order of their names.
    """

    def __init__(self, spec: CardSpec) -> None:
        self._state = hashlib.sha256(spec.canonical_without_digest() + b"\n")

    def begin(self, name: str, dtype: str, shape: tuple[int, ...]) -> None:
        """The next tensor; its bytes follow by `update`."""
        self._state.update(canonical_json([name, dtype, list(shape)]) + b"\n")

    def update(self, data: Data) -> None:
        """Further bytes of the tensor."""
        self._state.update(data)

    def text(self) -> str:
        """ "sha256:" and 64 hex digits."""
        return "sha256:" + self._state.hexdigest()


def check_digest(spec: CardSpec, digest: str) -> None:
    """Compare the digest in a description with that of the content.

    Raises:
        CardError: if they differ.
    """
    if spec.digest != digest:
        raise CardError(
            f"Expected the digest {spec.digest}, got {digest}: "
            "the content is not what was written.",
            "The card is damaged or was changed. Fetch it again.",
        )
