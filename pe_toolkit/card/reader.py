"""Reading a card: everything is checked before anything is handed out.

Needs no torch, no diffusers, and no library that parses the file for us; numpy only for who wants
the tensors. A file is read once.
"""

from __future__ import annotations

import hashlib
import math
import os
import stat
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from pe_toolkit.card.header import (
    ITEM_BYTES,
    Header,
    TensorEntry,
    encode_header,
    read_header,
)
from pe_toolkit.card.layout import check_layout
from pe_toolkit.card.migrations import UPGRADE
from pe_toolkit.card.spec import CardSpec
from pe_toolkit.card.values import (
    ContentDigest,
    check_digest,
    check_flow,
    check_mask,
    check_numbers,
)
from pe_toolkit.errors import CardError, CardVersionError, PeError
from pe_toolkit.shown import printable

if TYPE_CHECKING:
    from pe_toolkit.card.tensors import Array

_CHUNK = 1 << 20
_UNSOUND = "The card is damaged or was made by hand. Fetch it again, or train it again."


@dataclass(frozen=True)
class CardInfo:
    """What a card file says, without its tensors.

    Attributes:
        spec: the description.
        size_bytes: of the whole file.
        sha256: of the whole file, 64 hex digits: the name of the card.
        tensors: name -> (element type such as "F16", shape).
    """

    spec: CardSpec
    size_bytes: int
    sha256: str
    tensors: Mapping[str, tuple[str, tuple[int, ...]]]

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


@contextmanager
def opened_card(path: str | Path) -> Iterator[tuple[CardSpec, dict[str, Array]]]:
    """The description and the tensors of a card; errors inside come out naming the file.

    Header, description and shapes are checked; numbers and digest are not: `MotionCard` does that.

    Raises:
        CardVersionError: for a card of a newer format.
        CardError: for anything that is not a card; says what it is and what to do.
    """
    import numpy as np

    from pe_toolkit.card.tensors import DTYPES, tensor_bytes

    with _opened(path) as (stream, size):
        header, spec = _read_front(stream, size)
        tensors: dict[str, Array] = {}
        for name, entry in header.tensors.items():
            array = np.empty(entry.shape, DTYPES[entry.dtype])
            buffer = tensor_bytes(array)
            if stream.readinto(buffer) != len(buffer):  # type: ignore[attr-defined]
                raise _cut_off()
            tensors[name] = array
        yield spec, tensors


def verify_card(path: str | Path) -> CardInfo:
    """Check everything that `read_card` checks, and say what the file is.

    Raises:
        CardVersionError: for a card of a newer format.
        CardError: for anything that is not a sound card; says what it is and what to do.
    """
    card = CheckedBytes(path)
    deque(card, maxlen=0)
    return card.info


class CheckedBytes:
    """The bytes of a card's file, in order, checked as `read_card` checks them while they pass.

    For a copy of which every byte was checked, whatever happens to the file meanwhile. Only the
    end of the iteration says that the card is sound; what was copied before an error is worthless.
    Takes memory for `flow`, `flow_mask` and a piece of the large tensor.

    Iterating raises CardError and CardVersionError as `verify_card`.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = path
        self._info: CardInfo | None = None

    @property
    def info(self) -> CardInfo:
        """What the card says; there once every byte has passed.

        Raises:
            CardError: before that: the card is not known to be sound.
        """
        if self._info is None:
            raise CardError(
                f"{printable(str(self._path))}: Expected every byte of the card to be checked, "
                "but some were not read yet.",
                "Iterate to the end first.",
            )
        return self._info

    def __iter__(self) -> Iterator[bytes]:
        self._info = None  # of an earlier pass: the file may be another by now
        with _opened(self._path) as (stream, size):
            header, spec = _read_front(stream, size)
            whole = hashlib.sha256(header.raw)
            yield header.raw
            # The digest covers the tensors by name, and the large one is the last of these. In the
            # file it is the first: the small ones are read before it.
            large, *small = header.tensors
            content, front = ContentDigest(spec), len(header.raw)
            rest = {name: _tensor(stream, front, header.tensors[name]) for name in small}
            for name in sorted(rest):
                content.begin(name, *_layout(header)[name])
                content.update(rest[name])
            content.begin(large, *_layout(header)[large])
            for step, piece in _pieces(stream, front, header.tensors[large]):
                check_numbers(large, piece, step)
                content.update(piece)
                whole.update(piece)
                yield piece
            check_flow(spec, rest["flow"])
            check_mask(spec, rest["flow_mask"])
            check_digest(spec, content.text())
            for data in rest.values():
                whole.update(data)
                yield data
        self._info = CardInfo(spec, size, whole.hexdigest(), _layout(header))


def _tensor(stream: BinaryIO, front: int, entry: TensorEntry) -> bytes:
    stream.seek(front + entry.start)
    return _exactly(stream, entry.stop - entry.start)


def _pieces(stream: BinaryIO, front: int, entry: TensorEntry) -> Iterator[tuple[int, bytes]]:
    """Step and bytes of the large tensor, in order; whole numbers of one step each."""
    steps = entry.shape[0]
    stream.seek(front + entry.start)
    for step in range(steps):
        left = (entry.stop - entry.start) // steps
        while left:
            piece = _exactly(stream, min(_CHUNK, left))
            left -= len(piece)
            yield step, piece


def _exactly(stream: BinaryIO, count: int) -> bytes:
    data = stream.read(count)
    if len(data) != count:
        raise _cut_off()
    return data


def _cut_off() -> CardError:
    return CardError("Expected the whole file, but it was cut off while it was read.")


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
    except PeError:  # of what was done with the file
        raise
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
