"""The outside of a card file, read with bounds before anything in it is used.

A card is a safetensors file: 8 bytes little-endian length of the header, the header (JSON, padded
with spaces), then the tensor bytes. This module knows that layout and trusts nothing in it; it
imports no library that would parse the file for us.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from pe_toolkit.card.migrations import check_version
from pe_toolkit.card.text import canonical_json, strict_json
from pe_toolkit.errors import CardError
from pe_toolkit.shown import shown

METADATA_KEY = "pe_card"
MAX_HEADER_BYTES = 1 << 20
MAX_FILE_BYTES = 4 << 30
MAX_TENSORS = 16
MAX_DIMENSIONS = 8
ITEM_BYTES = {"F32": 4, "F16": 2, "I8": 1, "U8": 1}
"""Element types a card may use, in the order in which tensors are laid out (largest first)."""

_DAMAGED = "The file is damaged or was made by hand. Fetch it again."
_OTHER = "Motion cards are made by `pe train` and end in .safetensors."
_NO_PICKLE = "pe-toolkit never loads pickles, ever: they run code. Train or fetch a motion card."
_FOREIGN = "These are other weights, perhaps a LoRA or a model. " + _OTHER


@dataclass(frozen=True)
class TensorEntry:
    """One tensor as the header announces it; `start` and `stop` count from the header's end."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True)
class Header:
    """A header whose layout is sound. What the description says is not checked yet."""

    raw: bytes
    """Length field, JSON and padding, as found."""
    text: bytes
    """The metadata value: the description as JSON."""
    description: dict[str, Any]
    """The same, parsed; its format version is one that we read."""
    newer_minor: bool
    """Written by a newer pe-toolkit of the same major format version."""
    tensors: Mapping[str, TensorEntry]
    """In file order."""


def encode_header(text: bytes, tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> bytes:
    """Length field, JSON and padding of a card; the tensor bytes follow in `file_order`.

    Equal to what the safetensors library writes for the same content.

    Raises:
        CardError: if the description is too long for a card.
    """
    entries: list[bytes] = []
    offset = 0
    for name in file_order(tensors):
        dtype, shape = tensors[name]
        size = math.prod(shape) * ITEM_BYTES[dtype]
        entry = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + size]}
        # Not sorted: the library writes dtype, shape, data_offsets.
        fields = b",".join(canonical_json(k) + b":" + canonical_json(v) for k, v in entry.items())
        entries.append(canonical_json(name) + b":{" + fields + b"}")
        offset += size
    metadata = canonical_json({METADATA_KEY: text.decode("utf-8")})
    body = b"{" + b",".join([b'"__metadata__":' + metadata, *entries]) + b"}"
    body += b" " * (-len(body) % 8)
    if len(body) > MAX_HEADER_BYTES:
        raise CardError(
            f"Expected a description of at most {MAX_HEADER_BYTES} bytes, got {len(body)}.",
            "Use fewer or shorter prompts.",
        )
    if 8 + len(body) + offset > MAX_FILE_BYTES:
        raise CardError(
            f"Expected a card of at most {MAX_FILE_BYTES} bytes, got {8 + len(body) + offset}.",
            "Guide fewer steps.",
        )
    return len(body).to_bytes(8, "little") + body


def file_order(tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> list[str]:
    """Names in file order: larger element types first, then I8 before U8, then by name."""
    rank = list(ITEM_BYTES)
    return sorted(tensors, key=lambda name: (rank.index(tensors[name][0]), name))


def read_header(stream: BinaryIO, size: int) -> Header:
    """Read and check the header of an open file of `size` bytes; leaves `stream` at the tensors.

    Raises:
        CardVersionError: for a card of a newer format.
        CardError: for anything else that is not a sound card header.
    """
    if size == 0:
        raise CardError("Expected a motion card, got an empty file.", _DAMAGED)
    start = stream.read(16)
    if size < 8 or len(start) < 8:
        raise CardError(
            f"Expected a motion card, got a file of {size} bytes, too short to be one.", _DAMAGED
        )
    length = int.from_bytes(start[:8], "little")
    if start[8:9] != b"{":
        raise _stranger(start, length, size)
    if length > size - 8:
        raise CardError(
            f"Expected a header of {length} bytes, but the file has {size} bytes: it is cut off, "
            "or its length field lies.",
            _DAMAGED,
        )
    if length > MAX_HEADER_BYTES:
        raise CardError(
            f"Expected a header of at most {MAX_HEADER_BYTES} bytes, got {length}.", _FOREIGN
        )
    if size > MAX_FILE_BYTES:
        raise CardError(f"Expected a file of at most {MAX_FILE_BYTES} bytes, got {size}.", _FOREIGN)
    body = start[8 : 8 + length]
    body += stream.read(length - len(body))
    if len(body) != length:
        raise CardError(f"Expected a header of {length} bytes, got {len(body)}.", _DAMAGED)
    stream.seek(8 + length)
    return _parse(start[:8] + body, size)


def _stranger(start: bytes, length: int, size: int) -> CardError:
    """The error for a file that does not even begin like safetensors."""
    if start[:2] == b"PK":
        what, hint = "a zip archive (perhaps a .pt file, which holds pickles)", _NO_PICKLE
    elif start[0] == 0x80 and start[1] <= 5:
        what, hint = "a pickle", _NO_PICKLE
    elif start[:8] == b"\x89PNG\r\n\x1a\n":
        what, hint = "a PNG picture", _OTHER
    elif start[4:8] == b"ftyp":
        what, hint = "an MP4 video", _OTHER + " To learn from this clip: pe train CLIP -o CARD"
    elif start.startswith(b"version https://"):
        what, hint = "a Git LFS pointer", "Fetch the file itself: git lfs pull"
    elif length > size - 8 and start.lstrip()[:1] in (b"{", b"["):
        what, hint = "a JSON file", _OTHER
    elif length > size - 8:
        what, hint = f"a file that announces a header of {length} bytes in {size} bytes", _OTHER
    else:
        what, hint = "a file without a safetensors header", _OTHER
    return CardError(f"Expected a motion card, got {what}.", hint)


def _parse(raw: bytes, size: int) -> Header:
    data = strict_json(raw[8:], "the header")
    if not isinstance(data, dict):
        raise CardError(f"Expected the header to be an object, got {shown(data)}.", _DAMAGED)
    text = _metadata(data.pop("__metadata__", None))
    description = strict_json(text, "the card's description")
    newer_minor = check_version(description)
    if len(data) > MAX_TENSORS:
        raise CardError(f"Expected up to {MAX_TENSORS} tensors, got {len(data)}.", _DAMAGED)
    entries = {name: _entry(name, value) for name, value in data.items()}
    ordered = dict(sorted(entries.items(), key=lambda item: (item[1].start, item[1].stop)))
    offset = 0
    for name, entry in ordered.items():
        if entry.start != offset:
            raise CardError(
                f"Expected tensor {shown(name)} to begin at byte {offset}, got {entry.start}: "
                "tensors must touch and not overlap.",
                _DAMAGED,
            )
        offset = entry.stop
    have = size - len(raw)
    if offset != have:
        state = "the file is cut off" if have < offset else "the file has bytes to spare"
        raise CardError(f"Expected {offset} bytes of tensors, got {have}: {state}.", _DAMAGED)
    return Header(raw, text, description, newer_minor, ordered)


def _metadata(metadata: object) -> bytes:
    if not isinstance(metadata, dict) or METADATA_KEY not in metadata:
        raise CardError(
            f"Expected a motion card, got a safetensors file without {METADATA_KEY!r}.", _FOREIGN
        )
    if len(metadata) != 1:
        extra = next(key for key in metadata if key != METADATA_KEY)
        raise CardError(
            f"Expected {METADATA_KEY!r} to be the only metadata key, got {shown(extra)} too.",
            _DAMAGED,
        )
    text = metadata[METADATA_KEY]
    if not isinstance(text, str):
        raise CardError(f"Expected {METADATA_KEY!r} to be a string, got {shown(text)}.", _DAMAGED)
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise CardError(f"Expected {METADATA_KEY!r} to be valid Unicode.", _DAMAGED) from None


def _entry(name: str, value: object) -> TensorEntry:
    label = f"tensor {shown(name)}"
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise CardError(
            f"Expected {label} to have dtype, shape and data_offsets, got {shown(value)}.", _DAMAGED
        )
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise CardError(
            f"Expected {label} to be one of {', '.join(ITEM_BYTES)}, got {shown(dtype)}.", _DAMAGED
        )
    if not _integers(shape, 1) or not 1 <= len(shape) <= MAX_DIMENSIONS:
        raise CardError(
            f"Expected {label} to have 1 to {MAX_DIMENSIONS} sides of at least 1, "
            f"got {shown(shape)}.",
            _DAMAGED,
        )
    if not _integers(offsets, 0) or len(offsets) != 2:
        raise CardError(f"Expected {label} to have two offsets, got {shown(offsets)}.", _DAMAGED)
    size, span = math.prod(shape) * ITEM_BYTES[dtype], offsets[1] - offsets[0]
    if size != span:
        raise CardError(
            f"Expected {label} of shape {shown(shape)} to take {shown(size)} bytes, "
            f"got {shown(span)}.",
            _DAMAGED,
        )
    return TensorEntry(dtype, tuple(shape), offsets[0], offsets[1])


def _integers(value: object, low: int) -> bool:
    return isinstance(value, list) and all(type(v) is int and v >= low for v in value)
