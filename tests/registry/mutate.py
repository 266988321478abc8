"""A seeded mutator of card files: from one flipped bit to well-formed lies with a right digest.

`mutants(seed)` gives bytes for ever, the same for the same seed, so that a number is enough to
repeat what went wrong; `huge_headers()` are few and written by hand. `judge` says what the reader
made of a file.
"""

from __future__ import annotations

import json
import random
import runpy
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np

from pe_toolkit.card import CardSpec, MotionCard, read_info, verify_card
from pe_toolkit.card.header import MAX_HEADER_BYTES, encode_header, file_order
from pe_toolkit.card.tensors import layout_of, tensor_bytes
from pe_toolkit.errors import CardError

GOLDEN = Path(__file__).parents[1] / "golden"
CARDS = [path.read_bytes() for path in sorted(GOLDEN.glob("*.safetensors"))]
MAKE = runpy.run_path(str(GOLDEN / "make.py"))
HOSTILE: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**63), 10**40, 0.5, 1e308, -1e308, 1e-320,
    "", " ", "\0", "\x1b]0;owned\x07", "\u202e", "a" * 201, "a" * 5000, "../../etc/passwd",
    "é" * 90,
    "\ud800", "<script>", "{{7*7}}", "%s%n", "1.0.0", "sha256:" + "0" * 64, [], {}, [[]], [0] * 300,
    {"a": 1}, [None], [1, 2, 3], "NaN", "Infinity", "2026-13-01T00:00:00Z", "positions", "latents",
]  # fmt: skip
TOKENS = [
    b"NaN", b"Infinity", b"-0", b"1e999", b"1E400", b"9" * 400, b"9" * 5000, b"-1", b"null", b"{}",
    b"[" * 200, b'"\\ud800"', b'"\\u0000"', b"\xff\xfe", b"0.0", b"1.", b"\x00", b"\\", b'"', b"",
]  # fmt: skip


def mutants(seed: int) -> Iterator[bytes]:
    """Mutated cards for ever."""
    rng = random.Random(seed)
    while True:
        yield mutant(rng)


def mutant(rng: random.Random) -> bytes:
    """One mutated card."""
    ways: list[tuple[Callable[[random.Random], bytes], int]] = [
        (_flipped, 25), (_cut, 10), (_spliced, 10), (_tokens, 15), (_description, 20),
        (_resealed, 10), (_layout, 8), (_length, 2),
    ]  # fmt: skip
    way = rng.choices([way for way, _ in ways], [weight for _, weight in ways])[0]
    return way(rng)


def _split(raw: bytes) -> tuple[bytes, bytes]:
    length = int.from_bytes(raw[:8], "little")
    return raw[8 : 8 + length], raw[8 + length :]


def _join(header: bytes, data: bytes) -> bytes:
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data


def _flipped(rng: random.Random) -> bytes:
    raw = bytearray(rng.choice(CARDS))
    end = len(raw) if rng.random() < 0.5 else 8 + len(_split(raw)[0])
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        place = rng.randrange(end)
        raw[place] = (
            rng.randrange(256) if rng.random() < 0.3 else raw[place] ^ 1 << rng.randrange(8)
        )
    return bytes(raw)


def _cut(rng: random.Random) -> bytes:
    raw = rng.choice(CARDS)
    place = rng.randrange(len(raw) + 1)
    return raw[:place] if rng.random() < 0.6 else raw + rng.randbytes(rng.randrange(1, 40))


def _spliced(rng: random.Random) -> bytes:
    raw, other = rng.choice(CARDS), rng.choice(CARDS)
    a, b = sorted(rng.randrange(len(raw)) for _ in range(2))
    c, d = sorted(rng.randrange(len(other)) for _ in range(2))
    return raw[:a] + rng.choice((b"", other[c:d], raw[a:b] * 2)) + raw[b:]


def _tokens(rng: random.Random) -> bytes:
    header, data = _split(rng.choice(CARDS))
    place = rng.randrange(len(header))
    stop = min(len(header), place + rng.choice((0, 1, 1, 2, 5)))
    return _join(header[:place] + rng.choice(TOKENS) + header[stop:], data)


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) below a JSON value."""
    keys = value.keys() if isinstance(value, dict) else range(len(value))
    found = [(value, key) for key in keys]
    for key in keys:
        if isinstance(value[key], dict | list):
            found += _places(value[key])
    return found


def _warped(rng: random.Random, value: Any) -> None:
    """Change one place of a JSON value: another value, gone, or one more."""
    container, key = rng.choice(_places(value))
    way = rng.random()
    if way < 0.7:
        container[key] = deepcopy(rng.choice(HOSTILE))
    elif way < 0.85:
        del container[key]
    elif isinstance(container, dict):
        container[rng.choice(("extra", "", "\x1b[2J", "name"))] = deepcopy(rng.choice(HOSTILE))
    else:
        container.insert(rng.randrange(len(container) + 1), deepcopy(rng.choice(HOSTILE)))


def _description(rng: random.Random) -> bytes:
    header, data = _split(rng.choice(CARDS))
    content = json.loads(header)
    spec = json.loads(content["__metadata__"]["pe_card"])
    for _ in range(rng.choice((1, 1, 2))):
        _warped(rng, spec)
    content["__metadata__"]["pe_card"] = json.dumps(
        spec, sort_keys=True, separators=(",", ":"), ensure_ascii=rng.random() < 0.2
    )
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
    return _join(text.encode("utf-8", "surrogatepass"), data)


def _resealed(rng: random.Random) -> bytes:
    """A description that is changed and sealed again: hostile, and often a valid card."""
    case = rng.choice(MAKE["CASES"])
    for _ in range(20):
        spec = MAKE["description"](case)
        spec[rng.choice(("name", "author", "license"))] = "".join(
            chr(
                rng.choice(
                    (27, 7, 10, 13, 0x202E, 0x9B, 60, 38, 0x1F4A9, rng.randrange(32, 0xD7FF))
                )
            )
            for _ in range(rng.randrange(1, 60))
        )
        if rng.random() < 0.4:
            _warped(rng, spec)
        tensors = MAKE["tensors"](case)
        if rng.random() < 0.3:
            array = tensors[rng.choice(sorted(tensors))]
            array.reshape(-1)[rng.randrange(array.size)] = rng.choice((0, 1, 100, -128, -1)) % 128
        if rng.random() < 0.1 and "positions" in tensors:
            tensors["positions"].reshape(-1)[0] = rng.choice((np.nan, np.inf, -np.inf))
        try:
            card = MotionCard(CardSpec.from_dict(spec), tensors)
        except (CardError, UnicodeEncodeError):
            continue
        layout = layout_of(card.tensors)
        raw = encode_header(card.spec.canonical(), layout)
        return raw + b"".join(tensor_bytes(card.tensors[name]) for name in file_order(layout))
    return rng.choice(CARDS)


def _layout(rng: random.Random) -> bytes:
    """Lies about element types, shapes and offsets; sizes that nobody has memory for."""
    header, data = _split(rng.choice(CARDS))
    content = json.loads(header)
    tensors = [name for name in content if name != "__metadata__"]
    entry = content[rng.choice(tensors)]
    way = rng.randrange(5)
    if way == 0:
        entry["shape"] = [
            rng.choice((0, 1, 2, 2**16, 2**31, 2**62, -1)) for _ in range(rng.randrange(10))
        ]
    elif way == 1:
        entry["data_offsets"] = [rng.choice((0, 1, -8, 2**40, 2**63, 10**30)) for _ in range(2)]
    elif way == 2:
        entry["dtype"] = rng.choice(("F64", "BF16", "I64", "F8_E4M3", "", "F16", None, 4))
    elif way == 3:
        content |= {f"t{i}": entry for i in range(rng.choice((1, 20, 500)))}
    else:
        _warped(rng, entry)
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
    return _join(text.encode("utf-8", "surrogatepass"), data)


def _length(rng: random.Random) -> bytes:
    raw = rng.choice(CARDS)
    length = rng.choice((0, 1, 7, len(raw), len(raw) - 8, 2**20, 2**31, 2**63, 2**64 - 1))
    return length.to_bytes(8, "little") + raw[8:]


def huge_headers() -> dict[str, bytes]:
    """Files with a header as large as is allowed, made to be slow or to fill the memory."""
    room = MAX_HEADER_BYTES - 64
    many = b",".join(b'"%05x":0' % i for i in range(room // 10))
    bodies = {
        "many keys": b"{" + many + b"}",
        "the last key twice": b"{" + many + b"," + many[-9:] + b"}",
        "empty lists": b'{"a":[' + b"[]," * (room // 3 - 8) + b"0]}",
        "empty objects": b'{"a":[' + b"{}," * (room // 3 - 8) + b"0]}",
        "lists in the metadata": b'{"__metadata__":{"pe_card":['
        + b"[]," * (room // 3 - 40)
        + b"0]}}",
        "deep lists": b'{"a":' + b"[" * (room - 8),
        "deep objects": b'{"a":' + b'{"":' * (room // 4 - 8),
        "a long integer": b'{"a":' + b"9" * (room - 8) + b"}",
        "a long fraction": b'{"a":1.' + b"9" * (room - 8) + b"}",
        "escapes": b'{"a":"' + rb"\u202e" * (room // 6 - 8) + b'"}',
        "quotes": b'{"a":"' + rb"\"" * (room // 2 - 8) + b'"}',
        "an open string": b'{"a":"' + rb"\"" * (room // 2 - 8),
        "a description of one word": b'{"__metadata__":{"pe_card":"' + b"a" * (room - 40) + b'"}}',
        "a deep description": b'{"__metadata__":{"pe_card":"'
        + rb"{\"a\":" * (room // 7 - 10)
        + b'"}}',
        "many programs": json.dumps(
            {"__metadata__": {"pe_card": json.dumps(_many_keys(room))}}
        ).encode(),
    }
    return {name: _join(body, b"") for name, body in bodies.items()}


def _many_keys(room: int) -> dict[str, Any]:
    spec: dict[str, Any] = MAKE["description"]("rotary-angle")
    return spec | {"software": {f"{i:x}": "" for i in range(room // 24)}}


class Verdict:
    """What the reader made of one file."""

    def __init__(self, valid: bool, seconds: float, message: str) -> None:
        self.valid, self.seconds, self.message = valid, seconds, message


def judge(path: Path) -> Verdict:
    """Read a file completely; anything but a `CardError` or a sound card is an exception here.

    Raises:
        AssertionError: if the file passes and yet is not the one way to write its content.
    """
    began = time.perf_counter()
    try:
        info = verify_card(path)
        refused = None
    except CardError as error:
        refused = error
    seconds = time.perf_counter() - began
    if refused is not None:
        assert refused.message
        assert refused.hint
        assert len(refused.message) < 1000 + len(str(path))
        assert refused.message.isprintable()
        return Verdict(False, seconds, refused.message)
    assert read_info(path) == info
    again = path.with_name(path.name + ".again.safetensors")
    assert MotionCard.load(path).save(again, force=True).sha256 == info.sha256
    assert again.read_bytes() == path.read_bytes()
    return Verdict(True, seconds, "")
