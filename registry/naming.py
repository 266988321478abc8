"""Names and the rows of the index: which fit a reference, and what to say when none does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pe_toolkit.errors import UsageError
from pe_toolkit.registry import semver
from pe_toolkit.registry.entry import Entry
from pe_toolkit.registry.errors import RegistryError
from pe_toolkit.registry.index import Index
from pe_toolkit.registry.references import LocalReference, local


def target(name: str, version: str) -> LocalReference:
    """Name and version that a card can have.

    Raises:
        UsageError: if one of them is malformed.
    """
    made = local(f"{name}@{version}")
    if made.version is None:
        raise UsageError(
            f"Expected a version such as 1.2.0, got {version!r}.",
            "A card cannot choose its digest.",
        )
    return made


def fits(reference: LocalReference, row: Sequence[Any]) -> bool:
    """Whether a row of that name has the version or the digest of a reference."""
    if reference.digest:
        return bool(row[2].startswith(reference.digest))
    return reference.version in (None, row[1])


def searched(entry: Entry) -> str:
    """Everything about a card that the words of `pe list` are looked for in, in lower case."""
    values = [entry.name, entry.version, entry.digest, entry.origin or ""]
    for value in entry.facts.values():
        values += value if isinstance(value, list) else [str(value)]
    return "\n".join(values).casefold()


def versions(have: Iterable[str]) -> str:
    """The highest few, for a message."""
    found = sorted(set(have), key=semver.order, reverse=True)
    more = f" and {len(found) - 8} more" if len(found) > 8 else ""
    return ", ".join(found[:8]) + more


def last_removed(
    reference: LocalReference | None, removed: Sequence[Sequence[Any]]
) -> list[Sequence[Any]]:
    """Of the removed rows, id in front, those that fit and were removed last, in one step.

    Raises:
        RegistryError: if none fits.
    """
    rows = [
        row
        for row in removed
        if reference is None or (row[1] == reference.name and fits(reference, row[1:]))
    ]
    if not rows:
        raise nothing_to_restore(reference)
    last = max(row[7] for row in rows)
    return [row for row in rows if row[7] == last]


def nothing_to_restore(reference: LocalReference | None) -> RegistryError:
    """The error for `pe rm --undo` when there is nothing that was removed."""
    what = f"the card {reference}" if reference else "a card"
    return RegistryError(
        f"Expected {what} among the removed ones, but it is not there.",
        "`pe list --removed` shows what can be brought back. After `pe gc` nothing can.",
    )


def missing(index: Index, reference: LocalReference) -> RegistryError:
    """The error for a card that is not there, with what the user may have meant."""
    rows = index.rows("removed IS NULL")
    have = [row[1] for row in rows if row[0] == reference.name]
    message = f"Expected the card {reference} in the local registry, but it is not there."
    if have:
        return RegistryError(message, f"There is {reference.name} {versions(have)}.")
    near = get_close_matches(reference.name, {row[0] for row in rows}, 3)
    if near:
        return RegistryError(message, f"Did you mean {' or '.join(near)}? `pe list` shows all.")
    if Path(reference.name).exists():
        return RegistryError(message, f"For the file of that name, write ./{reference.name}")
    if index.rows("removed IS NOT NULL AND name = ?", (reference.name,)):
        return RegistryError(message, f"It was removed: pe rm --undo {reference}")
    return RegistryError(
        message, "`pe list` shows what is there, `pe add CARD` adds a file, `pe pull` fetches."
    )
