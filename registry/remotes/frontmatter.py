"""The metadata of a README, between two lines of dashes: read, and kept as somebody wrote it.

Nothing here raises for what stands there: what is not sound metadata is text like any other.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import yaml  # type: ignore[import-untyped]

MAX_FRONT = 1 << 16
"""Bytes of metadata that we are willing to read: PyYAML needs a second for 64 KiB."""

_ALIAS = re.compile(r"\*[\w-]")


@dataclass(frozen=True)
class Front:
    """Metadata: its values, and the lines that they were read from, without the dashes."""

    values: dict[str, Any]
    lines: tuple[str, ...] = ()


def parts(text: str) -> tuple[Front, str]:
    """The metadata of a README and the rest; what is not sound metadata belongs to the rest."""
    lines = text.split("\n")
    end = _end(lines)
    if end is None or _size(lines[1:end]) > MAX_FRONT:
        return Front({}), text
    try:
        values = yaml.safe_load("\n".join(lines[1:end]))
    except Exception:  # of all kinds: a tag such as `!!int` takes the value apart unseen
        return Front({}), text
    if values is not None and not isinstance(values, dict):
        return Front({}), text
    return Front(values or {}, tuple(lines[1:end])), "\n".join(lines[end + 1 :])


def split(text: str) -> tuple[dict[str, Any], str]:
    """As `parts`, with the values alone."""
    front, body = parts(text)
    return front.values, body


def size(text: str) -> int:
    """Bytes of metadata that a README begins with; 0 for none."""
    lines = text.split("\n")
    end = _end(lines)
    return 0 if end is None else _size(lines[1:end])


def _end(lines: list[str]) -> int | None:
    """Where the second line of dashes stands, if the text begins with the first."""
    if lines[0].rstrip() != "---":
        return None
    return next((n for n, line in enumerate(lines[1:], 1) if line.rstrip() == "---"), None)


def _size(lines: list[str]) -> int:
    return len("\n".join(lines).encode("utf-8", "replace"))


def kept(front: Front, dropped: Collection[str]) -> list[str]:
    """The lines without the keys in `dropped`: as they were written, with their comments.

    Raises:
        Exception: if that cannot be done.
    """
    wanted = {key: value for key, value in front.values.items() if key not in dropped}
    node = yaml.compose("\n".join(front.lines), yaml.SafeLoader)
    if node is None:
        return [line for line in front.lines if line.startswith("#")]
    lines = _cut(front.lines, node, dropped)
    # Without aliases: their values would have to be compared as often as they are named.
    aliases = any(_ALIAS.search(line) for line in lines or () if not line.startswith("#"))
    if lines is not None and not aliases and _values(lines) == wanted:
        return lines
    # Written in a style that cannot be cut into lines: every value is spelled as it was, at least.
    node.value = [(key, value) for key, value in node.value if key.value not in dropped]
    node.flow_style = False
    if not node.value:
        return []
    text = yaml.serialize(node, Dumper=yaml.SafeDumper, allow_unicode=True, width=1000)
    return str(text).rstrip("\n").split("\n")


def _cut(lines: tuple[str, ...], node: Any, dropped: Collection[str]) -> list[str] | None:
    """The lines of the keys that stay, and all comments that have lines of their own."""
    starts = [key.start_mark.line for key, _ in node.value]
    if node.flow_style or any(key.start_mark.column for key, _ in node.value):
        return None
    stays = [line for line in lines[: starts[0]] if line.startswith("#")]
    for (key, _), start, end in zip(node.value, starts, [*starts[1:], len(lines)], strict=True):
        stays += [
            line for line in lines[start:end] if key.value not in dropped or line.startswith("#")
        ]
    return stays


def _values(lines: list[str]) -> dict[str, Any] | None:
    """What the lines say by themselves; None if they cannot stand behind others."""
    if any(line.startswith("...") for line in lines):
        return None
    try:
        values = yaml.safe_load("\n".join(lines))
    except Exception:  # as above
        return None
    return {} if values is None else values


def dumped(key: str, value: Any) -> list[str]:
    """One entry of somebody else's metadata, written anew."""
    text = yaml.safe_dump({key: value}, sort_keys=False, allow_unicode=True, width=1000)
    return str(text).rstrip("\n").split("\n")
