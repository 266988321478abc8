"""Text in and out of a card: canonical JSON and strict parsing.

Canonical JSON is part of the format (`docs/card-format.md`): the digest is computed over it, so
changing it changes every digest.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, NoReturn

from pe_toolkit.errors import CardError
from pe_toolkit.shown import printable, shown

MAX_VALUES = 20_000
"""Values in one JSON text. The longest description has some 12,000; a list of a million empty lists
in a header of a megabyte would need a second and thirty times its size to read."""


def canonical_json(value: object) -> bytes:
    """UTF-8 JSON with sorted keys, no spaces, non-ASCII characters as they are, and no NaN.

    Raises:
        CardError: for NaN, infinity, lone surrogates, or a type that JSON does not know.
    """
    try:
        return json.dumps(
            value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        ).encode("utf-8")
    except (ValueError, TypeError, RecursionError) as error:
        raise CardError(f"Expected something that JSON can hold, got an error: {error}.") from error


def strict_json(data: bytes, what: str) -> Any:
    """Parse UTF-8 JSON; refuse duplicate keys, NaN, infinity, absurd nesting, too many values.

    Args:
        data: the bytes, whose size the caller has bounded.
        what: what they are, for the message, such as "the header".

    Raises:
        CardError: if this is not such JSON.
    """

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(items)
        if len(result) != len(items):
            # Once through: `keys.count` for each key takes minutes for a header full of them.
            twice, _ = Counter(key for key, _ in items).most_common(1)[0]
            raise CardError(
                f"Expected every key of {what} once, got {shown(twice)} more than once."
            )
        return result

    def constant(name: str) -> NoReturn:
        raise CardError(f"Expected finite numbers in {what}, got {name}.")

    if _count_values(data) > MAX_VALUES:
        raise CardError(
            f"Expected {what} to have at most {MAX_VALUES} values, got more.",
            "The file was made by hand. Fetch it again.",
        )
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=pairs, parse_constant=constant)
    except (ValueError, RecursionError) as error:  # also UnicodeDecodeError, JSONDecodeError
        reason = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
        raise CardError(
            f"Expected {what} to be JSON, but {printable(reason)}.",
            "The file is damaged, or not a motion card. Fetch it again.",
        ) from error


def _count_values(data: bytes) -> int:
    """How many values JSON text has at most, without parsing it: what ends or separates them."""
    plain = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    count, inside = 1, False
    for start in range(0, len(plain), 1 << 16):  # in pieces, or the list would outgrow the data
        pieces = plain[start : start + (1 << 16)].split(b'"')  # alternately in and out of strings
        outside = b"".join(pieces[inside::2])
        count += sum(outside.count(mark) for mark in (b",", b"]", b"}"))
        inside ^= len(pieces) % 2 == 0
    return count
