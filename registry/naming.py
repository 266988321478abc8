"""Names and the rows of the index: which fit a reference, and what to say when none does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path

from pe_toolkit.errors import OutputExistsError, UsageError
from pe_toolkit.registry import semver
from pe_toolkit.registry.entry import Entry
from pe_toolkit.registry.errors import RegistryError
from pe_toolkit.registry.references import LocalReference, local
from pe_toolkit.shown import printable

_SEARCHED = (
    "name", "version", "author", "license", "kind", "form", "family", "variant", "positions",
    "prompts",
)  # fmt: skip
"""Facts (`entry.facts`) that have words. Sizes, dates and digests fit by chance."""


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


def fits(reference: LocalReference, entry: Entry) -> bool:
    """Whether a card has the name, and the version or the digest, of a reference."""
    if entry.name != reference.name:
        return False
    if reference.digest:
        return entry.digest.startswith(reference.digest)
    return reference.version in (None, entry.version)


def searched(entry: Entry) -> str:
    """Everything about a card that the words of `pe list` are looked for in, in lower case."""
    values = [entry.name, entry.version, entry.origin or ""]
    for fact in _SEARCHED:
        value = entry.facts.get(fact)
        values += value if isinstance(value, list) else [str(value or "")]
    return "\n".join(values).casefold()


def versions(have: Iterable[str]) -> str:
    """The highest few, for a message."""
    found = sorted(set(have), key=semver.order, reverse=True)
    more = f" and {len(found) - 8} more" if len(found) > 8 else ""
    return ", ".join(found[:8]) + more


def last_removed(reference: LocalReference | None, entries: Sequence[Entry]) -> list[Entry]:
    """Of the removed cards, those that fit and were removed last, in one step.

    Raises:
        RegistryError: if none fits.
    """
    found = [
        entry
        for entry in entries
        if entry.removed is not None and (reference is None or fits(reference, entry))
    ]
    if not found:
        raise nothing_to_restore(reference)
    last = max(entry.step for entry in found)  # not the time: a clock may go backwards
    return [entry for entry in found if entry.step == last]


def highest(entries: Iterable[Entry]) -> Entry:
    """The highest release; a pre-release only if there is no release."""
    return max(entries, key=lambda e: (semver.is_release(e.version), semver.order(e.version)))


def meaning(entries: Iterable[Entry]) -> Entry | None:
    """What a name alone means; None if there is no such card, or if cards of several sources have
    that name.

    Args:
        entries: all of that name.
    """
    found = list(entries)
    return highest(found) if found and not several_sources(found) else None


def change_of_meaning(name: str, before: Iterable[Entry], after: Iterable[Entry]) -> str | None:
    """What a command has changed about a name alone, in words; None if it means what it meant.

    Args:
        before, after: every card that was, or is, in the registry.
    """
    old = [entry for entry in before if entry.name == name]
    new = [entry for entry in after if entry.name == name]
    was, now = meaning(old), meaning(new)
    if not old or (was and was.digest) == (now and now.digest):
        return None
    if now is not None:
        said = f"{name} alone now means {now.reference}"
        if was and was.reference == now.reference:  # `--force`
            return f"{said} with file {now.digest[:19]}, before {was.digest[:19]}."
        return f"{said}, before {was.reference}." if was else f"{said}."
    ones = [f"{e.reference} ({printable(e.source) or 'a file'})" for e in _of_each(new)]
    return f"{name} alone means nothing any more, because its cards come from several sources: " + (
        f"write {' or '.join(ones)}."
    )


def _of_each(entries: Iterable[Entry]) -> list[Entry]:
    """The highest card of each source."""
    sources: dict[str, list[Entry]] = {}
    for entry in entries:
        sources.setdefault(entry.source, []).append(entry)
    return [highest(found) for _, found in sorted(sources.items())]


def several_sources(entries: Sequence[Entry]) -> bool:
    """Whether a name alone could mean the card of one or of another: both differ in their bytes."""
    return len({e.source for e in entries}) > 1 and len({e.digest for e in entries}) > 1


def check_source(name: str, entries: Sequence[Entry]) -> None:
    """Make sure that all cards of a name come from one source.

    Raises:
        UsageError: if not; it spells out the highest of each.
    """
    if not several_sources(entries):
        return
    ones = _of_each(entries)
    spelt = " or ".join(f"{e.reference} ({printable(e.source) or 'a file'})" for e in ones[:4])
    raise UsageError(
        f"Expected {name} to come from one source, but it comes from {len(ones)}.",
        f"Write {spelt}. `pe tag` gives one of them another name, `pe rm` takes one away.",
    )


def cannot_come_back(entry: Entry, there: Entry) -> OutputExistsError:
    """The error for a removed card whose name and version another one has by now."""
    name = entry.reference
    if there.digest == entry.digest:
        return OutputExistsError(
            f"Expected {name} to be gone, but the same card is there again already.",
            "Leave it out: nothing of it has to be brought back.",
        )
    return OutputExistsError(
        f"Expected {name} to be free, but another card has it.",
        # By its digest: what was removed last is then the other one.
        f"Give that one another name first: pe tag {name} NEW, then pe rm {name}, "
        f"then pe rm --undo {entry.name}@{entry.digest[:19]}",
    )


def nothing_to_restore(reference: LocalReference | None) -> RegistryError:
    """The error for `pe rm --undo` when there is nothing that was removed."""
    what = f"the card {reference}" if reference else "a card"
    return RegistryError(
        f"Expected {what} among the removed ones, but it is not there.",
        "`pe list --removed` shows what can be brought back. After `pe gc` nothing can.",
    )


def missing(entries: Sequence[Entry], reference: LocalReference) -> RegistryError:
    """The error for a card that is not there, with what the user may have meant."""
    there = [entry for entry in entries if entry.removed is None]
    have = [entry.version for entry in there if entry.name == reference.name]
    message = f"Expected the card {reference} in the local registry, but it is not there."
    if have:
        return RegistryError(message, f"There is {reference.name} {versions(have)}.")
    near = get_close_matches(reference.name, {entry.name for entry in there}, 3)
    if near:
        return RegistryError(message, f"Did you mean {' or '.join(near)}? `pe list` shows all.")
    if Path(reference.name).exists():
        return RegistryError(message, f"For the file of that name, write ./{reference.name}")
    if any(entry.name == reference.name for entry in entries):
        return RegistryError(message, f"It was removed: pe rm --undo {reference}")
    return RegistryError(
        message, "`pe list` shows what is there, `pe add CARD` adds a file, `pe pull` fetches."
    )
