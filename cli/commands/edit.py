"""`pe edit`: correct what a card says of itself."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pe_toolkit.cli import options, parameters
from pe_toolkit.cli.errors import Session

if TYPE_CHECKING:
    from pe_toolkit.card import CardSpec, MotionCard
    from pe_toolkit.registry.entry import Entry
    from pe_toolkit.registry.resolve import Found


@click.command(
    epilog="""\b
Example:
  pe edit wave.safetensors --license MIT -o wave-mit.safetensors
  pe edit wave --author "Ada" --card-version 1.0.1
  pe edit wave.safetensors --score fidelity=0.81 -o wave.safetensors --force"""
)
@click.argument("card", type=parameters.CARD_TEXT, metavar="CARD")
@click.option(
    "-o",
    "--output",
    type=parameters.PATH,
    metavar="NEW.safetensors",
    help="Where the new card goes. Default: for a card of the registry, the registry.",
)
@click.option("--name", metavar="N", help="Another name.")
@click.option("--author", metavar="A", help="Another author.")
@click.option("--license", metavar="L", help="Another license.")
@click.option("--card-version", "version", metavar="V", help="Another version, like 1.0.1.")
@click.option(
    "--score",
    "scores",
    type=parameters.Pair(),
    multiple=True,
    metavar="NAME=NUMBER",
    help="Something that was measured; repeat.",
)
@click.option(
    "--force",
    is_flag=True,
    help="Overwrite NEW, or take the name and version in the registry from the card that has them.",
)
@options.common
@click.pass_obj
def edit(
    session: Session,
    /,
    card: str,
    output: Path | None,
    name: str | None,
    author: str | None,
    license: str | None,
    version: str | None,
    scores: tuple[tuple[str, str], ...],
    force: bool,
) -> None:
    """Correct what a card says of itself, without training.

    A card that is out in the world is never changed: this makes a new one with the same motion,
    another digest, and the old one's digest as its parent.
    """
    from pe_toolkit.card import MotionCard, printable
    from pe_toolkit.card.edit import revised
    from pe_toolkit.cli import files
    from pe_toolkit.cli.names import watched
    from pe_toolkit.cli.remote import find
    from pe_toolkit.errors import CardError, UsageError

    measured = {key: _number(key, text) for key, text in scores}
    if output is not None:
        files.check_suffix(output, ".safetensors")
        files.check_outputs([output], force=force)
    found = find(session, card)
    if output is None:
        _check_registered(found, card)
    old = MotionCard.load(found.path)
    try:
        new = revised(
            old, name=name, author=author, license=license, version=version, scores=measured
        )
    except CardError as error:
        raise UsageError(error.message, error.hint) from error

    if output is not None:
        info = new.save(output, force=force)
        place, more = str(output), {"path": output, "sha256": info.sha256}
    else:
        assert found.entry is not None
        with watched(session) as given:
            entry = _keep(new, found.entry, name, force=force)
            given.append(entry)
        place, more = str(entry.reference), {"entry": entry.to_dict(), "sha256": entry.digest[7:]}
    rows = _changes(old.spec, new.spec)
    rows |= {f"score {printable(key)}": f"{value:g}" for key, value in measured.items()}
    session.out.table(rows | {"parent": old.digest, "digest": new.digest})
    session.out.talk(f"{place} is a new card; {card} is as it was." if place != card else
                     f"{place} is a new card.")  # fmt: skip
    session.out.event("summary", **more, digest=new.digest, parent=old.digest)


def _check_registered(found: Found, card: str) -> None:
    """Without a place for the new card, the old one must be in the registry.

    Raises:
        UsageError: it is not.
    """
    from pe_toolkit.card import printable
    from pe_toolkit.errors import UsageError

    if found.entry is None and found.origin is not None:
        raise UsageError(
            "Expected -o NEW.safetensors for a card that is on a remote.",
            f"Or give it a name here first: pe pull {printable(card)}",
        )
    if found.entry is None:
        raise UsageError(
            "Expected -o NEW.safetensors for a card that is a file.",
            f"To replace the old one: -o {printable(str(found.path))} --force",
        )


def _changes(old: CardSpec, new: CardSpec) -> dict[str, str]:
    """Each text that is another now: `old -> new`."""
    from pe_toolkit.card import printable

    return {
        key: printable(f"{getattr(old, key) or '-'} -> {getattr(new, key) or '-'}")
        for key in ("name", "author", "license", "version")
        if getattr(old, key) != getattr(new, key)
    }


def _number(name: str, text: str) -> float:
    from pe_toolkit.errors import UsageError

    try:
        return float(text)
    except ValueError:
        raise UsageError(f"Expected a number for --score {name}, got {text!r}.") from None


def _keep(new: MotionCard, old: Entry, name: str | None, *, force: bool) -> Entry:
    """Into the registry, under the old one's name there unless the card has a new one."""
    from pe_toolkit.errors import OutputExistsError
    from pe_toolkit.registry.store import Store

    with tempfile.TemporaryDirectory(prefix="pe-") as folder:
        path = Path(folder) / "card.safetensors"
        new.save(path)
        try:
            return Store().add(path, None if name else old.name, force=force)
        except OutputExistsError as error:
            raise OutputExistsError(
                error.message,
                "The corrected card is another card: raise its version with --card-version, or "
                "take this one with --force; `pe rm --undo` then brings the old card back.",
            ) from error
