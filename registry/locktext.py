"""The text of a lock file: what we write, and nothing else is read.

A small part of TOML, so that other tools read it too; but no TOML parser takes it apart here. A
lock file comes with a stranger's project, and a key of a hundred thousand dots costs such a parser
gigabytes. Here a line is a comment, a table or one value, each as `render` writes it: the work
grows with the number of bytes, which is bounded.
"""

from __future__ import annotations

import io
import json
import os
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

from pe_toolkit.errors import UsageError
from pe_toolkit.registry.references import PathReference, RemoteReference, parse
from pe_toolkit.registry.signature_files import FINGERPRINT
from pe_toolkit.shown import printable, shown

FILE = Path("pe.lock")
FORMAT = 1
MAX_BYTES = 1 << 20
"""Of a lock file: some 4,000 pins."""
_HEAD = "# Written by `pe lock`. Commit it; `pe lock --check` compares.\n"
_TABLE = "[[card]]"
_LINE = re.compile(r"([a-z0-9]{1,16}) = (.+)", re.ASCII)
_NUMBER = re.compile(r"0|[1-9][0-9]{0,15}", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True)
class Pin:
    """One card of a project."""

    card: str
    """The reference as the project writes it; a path is relative to the lock file."""
    sha256: str
    """SHA-256 of the whole file, 64 hex digits."""
    size: int
    """Bytes."""
    version: str
    origin: str | None = None
    """Where it came from, exactly; None for a file. Whoever wrote the lock file chose this text."""
    signer: str | None = None
    """The fingerprint of the key that signed it, `SHA256:...`; None for a card that need not be
    signed."""


_REQUIRED = ("card", "sha256", "size", "version")
_KEYS = tuple(field.name for field in fields(Pin))


def render(pins: Iterable[Pin]) -> bytes:
    """The text, one table a card, sorted, so that two branches merge line by line.

    Raises:
        UsageError: if a name is no text, or there are more pins than `read` takes.
    """
    lines = [_HEAD, f"version = {FORMAT}\n"]
    for pin in sorted(pins, key=lambda pin: pin.card):
        lines.append(f"\n{_TABLE}\n")
        values = ((key, getattr(pin, key)) for key in _KEYS)
        lines += [f"{key} = {_text(value)}\n" for key, value in values if value is not None]
    try:
        data = "".join(lines).encode("utf-8")
    except UnicodeEncodeError as error:  # a file name that is not text
        raise UsageError(
            "Expected names that UTF-8 can hold, got a file name that it cannot.",
            "Rename that file, or add it to the registry: pe add CARD NAME",
        ) from error
    if len(data) > MAX_BYTES:
        raise UsageError(
            f"Expected a lock file of at most {MAX_BYTES} bytes, got {len(data)}.",
            "Use one for each part of the project: pe lock CARD... -f PART/pe.lock",
        )
    return data


def read(data: bytes) -> list[Pin]:
    """The pins in the bytes of a lock file, in their order.

    Raises:
        ValueError: if `render` does not write that; says in which line.
    """
    if len(data) > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES} bytes")
    head: dict[str, str | int] = {}
    tables: list[tuple[int, dict[str, str | int]]] = []
    table, number = head, 0
    for number, raw in enumerate(io.BytesIO(data), 1):
        line = raw.decode("utf-8").rstrip("\r\n")
        if not line or line.startswith("#"):
            continue
        if line == _TABLE:
            table = {}
            tables.append((number, table))
            continue
        key, value = _pair(line, number)
        if key in table:
            raise ValueError(f"line {number}: {key} for a second time")
        if key not in (("version",) if table is head else _KEYS):
            raise ValueError(f"line {number}: {key} is none of its keys")
        table[key] = value
    if head.get("version") != FORMAT:
        raise ValueError(f"version {shown(head.get('version'))} instead of {FORMAT}")
    pins: dict[str, Pin] = {}
    for number, values in tables:
        made = _pin(values, number)
        if (same := key_of(made.card)) in pins:
            raise ValueError(f"line {number}: {printable(made.card)} is pinned for a second time")
        pins[same] = made
    return list(pins.values())


def key_of(card: str) -> str:
    """The same text for every spelling of a card in a lock file."""
    reference = parse(card)
    if isinstance(reference, RemoteReference):
        return reference.key
    if not isinstance(reference, PathReference):
        return card
    path = os.path.normpath(card)
    # `./wave` is another card than `wave` of the registry.
    return path if os.path.isabs(path) else f"./{path}"


def word(text: str) -> str:
    """A word of a lock file for a command that is to be copied: one word, whatever is in it."""
    return printable(shlex.quote(text))


def _pair(line: str, number: int) -> tuple[str, str | int]:
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError(f"line {number} is {shown(line[:100])}, which `pe lock` does not write")
    key, text = match.groups()
    value: object = None
    if text.startswith('"'):
        try:
            value = json.loads(text)
        except ValueError:
            value = None
    elif _NUMBER.fullmatch(text):
        value = int(text)
    # Spelled as we spell it: no second way to write a value, no half of a surrogate pair.
    if not isinstance(value, str | int) or _text(value) != text:
        raise ValueError(f"line {number}: {key} is not written as `pe lock` writes it")
    return key, value


def _pin(values: dict[str, str | int], number: int) -> Pin:
    missing = [key for key in _REQUIRED if key not in values]
    if missing:
        raise ValueError(f"line {number}: a card without {missing[0]}")
    for key, value in values.items():
        if isinstance(value, int) != (key == "size"):
            raise ValueError(f"line {number}: {key} of a card has the wrong type")
    pin = Pin(**values)  # type: ignore[arg-type]  # checked just above
    if _SHA256.fullmatch(pin.sha256) is None:
        raise ValueError(f"line {number}: sha256 is {shown(pin.sha256)} instead of 64 hex digits")
    if pin.signer is not None and FINGERPRINT.fullmatch(pin.signer) is None:
        raise ValueError(f"line {number}: signer is {shown(pin.signer)} instead of SHA256:...")
    _check_card(pin.card, number)
    return pin


def _check_card(card: str, number: int) -> None:
    """A card is spelled in one way only: another would be a pin that nobody looks at."""
    try:
        reference = parse(card)
    except UsageError as error:
        raise ValueError(f"line {number}: {shown(card)} names no card") from error
    if not isinstance(reference, PathReference) and str(reference) != card:
        raise ValueError(f"line {number}: {shown(card)} instead of {shown(str(reference))}")


def _text(value: str | int) -> str:
    """A TOML value: JSON's strings are TOML's, apart from one character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
