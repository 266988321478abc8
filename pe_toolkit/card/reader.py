"""Reading a card: everything is checked before anything is handed out.

Needs numpy only: no torch, no diffusers, and no library that parses the file for us. A file is
read once, into memory that its own checked header has sized.
"""

from __future__ import annotations

import hashlib
import math
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from pe_toolkit.card.header import ITEM_BYTES, Header, encode_header, read_header
from pe_toolkit.card.migrations import UPGRADE
from pe_toolkit.card.motion_card import MotionCard
from pe_toolkit.card.spec import CardSpec
from pe_toolkit.card.tensors import DTYPES, Array, check_layout, tensor_bytes
from pe_toolkit.card.text import printable
from pe_toolkit.errors import CardError, CardVersionError

_CHUNK = 1 << 20
_UNSOUND = "The card is damaged or was made by hand. Fetch it again, or train it again."


@dataclass(frozen=True)
class CardInfo:
    """What a card file says, without its tensors."""

    spec: CardSpec
    size_bytes: int
    sha256: str
    """SHA-256 of the whole file, 64 hex digits: the name of the card."""
    tensors: Mapping[str, tuple[str, tuple[int, ...]]]
    """Name -> (element type such as "F16", shape)."""

    def summary(self) -> dict[str, Any]:
        """Plain values for JSON: the description, the file, and the tensors with their bytes."""
        return {
            "card": self.spec.to_dict(),
            "guided_steps": self.spec.guided_steps,
            "size_bytes": self.size_bytes,
            "sha256": self.sha256,
            "tensors": {
                name: {
                    "dtype": dtype,
                    "shape": list(shape),
                    "bytes": math.prod(shape) * ITEM_BYTES[dtype],
                }
                for name, (dtype, shape) in self.tensors.items()
            },
        }


def read_info(path: str | Path) -> CardInfo:
    """Read what a card says, and hash the file, without loading tensors.

    Checks the header, the description and the shapes, not the digest and not the numbers:
    `verify_card` does that.

    Raises:
        CardVersionError: for a card of a newer format.
        CardError: for anything that is not a sound card; says what it is and what to do.
    """
    with _opened(path) as (stream, size):
        header, spec = _read_front(stream, size)
        state = hashlib.sha256(header.raw)
        while chunk := stream.read(_CHUNK):
            state.update(chunk)
    return CardInfo(spec, size, state.hexdigest(), _layout(header))


read_spec = read_info
"""The name under which the other layers know `read_info`."""


def read_card(path: str | Path) -> MotionCard:
    """Read a whole card: header, description, shapes, finite numbers and digest are checked.

    Raises:
        CardVersionError: for a card of a newer format.
        CardError: for anything that is not a sound card; says what it is and what to do.
    """
    return _read(path)[0]


def verify_card(path: str | Path) -> CardInfo:
    """Check everything that `read_card` checks, and say what the file is.

    Raises:
        CardVersionError: for a card of a newer format.
        CardError: for anything that is not a sound card; says what it is and what to do.
    """
    return _read(path)[1]


def _read(path: str | Path) -> tuple[MotionCard, CardInfo]:
    with _opened(path) as (stream, size):
        header, spec = _read_front(stream, size)
        state = hashlib.sha256(header.raw)
        tensors: dict[str, Array] = {}
        for name, entry in header.tensors.items():
            array = np.empty(entry.shape, DTYPES[entry.dtype])
            buffer = tensor_bytes(array)
            if stream.readinto(buffer) != len(buffer):  # type: ignore[attr-defined]
                raise CardError("Expected the whole file, but it was cut off while it was read.")
            state.update(buffer)
            tensors[name] = array
        card = MotionCard(spec, tensors)
    return card, CardInfo(spec, size, state.hexdigest(), _layout(header))


def _read_front(stream: BinaryIO, size: int) -> tuple[Header, CardSpec]:
    """The header and the description, checked against each other."""
    header = read_header(stream, size)
    try:
        spec = CardSpec.from_dict(header.description)
        check_layout(spec, _layout(header))
        if not spec.digest:
            raise CardError("Expected a card with a digest, got an empty one.")
    except CardError as error:
        if header.newer_minor:
            version = header.description["format_version"]
            raise CardVersionError(
                f"{error.message} The card is of the newer format {version}.",
                UPGRADE,
            ) from error
        raise
    # One content, one file: what the digest does not cover (spacing, order, escapes) is fixed.
    if encode_header(spec.canonical(), _layout(header)) != header.raw:
        raise CardError(
            "Expected the header in its canonical form, got another spelling of it.",
            "The file was changed by another program. Fetch it again.",
        )
    return header, spec


def _layout(header: Header) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {name: (entry.dtype, entry.shape) for name, entry in header.tensors.items()}


@contextmanager
def _opened(path: str | Path) -> Iterator[tuple[BinaryIO, int]]:
    """The file and its size; errors inside come out naming the file."""
    where = printable(str(path))
    try:
        # Looked at before it is opened: opening a named pipe would wait for ever.
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise CardError(
                "Expected a motion card, got a folder.", "Name the .safetensors file inside it."
            )
        if not stat.S_ISREG(mode):
            raise CardError("Expected a motion card, got a device or pipe.", "Name a file.")
        with open(path, "rb") as stream:
            yield stream, os.fstat(stream.fileno()).st_size
    except CardError as error:
        raise type(error)(f"{where}: {error.message}", error.hint or _UNSOUND) from error
    except FileNotFoundError as error:
        raise CardError(
            f"{where}: Expected a motion card, but there is no such file.",
            "Check the path. `pe train REF -o CARD.safetensors` makes a card.",
        ) from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise CardError(
            f"{where}: Expected a readable file, but: {reason}.",
            "Check the path and its permissions.",
        ) from error
