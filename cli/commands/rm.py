"""`pe rm`: remove cards from the local registry, and bring them back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pe_toolkit.cli import options, parameters
from pe_toolkit.cli.errors import Session
from pe_toolkit.errors import UsageError

if TYPE_CHECKING:
    from pe_toolkit.registry.entry import Entry
    from pe_toolkit.registry.references import LocalReference


@click.command(
    epilog="""\b
Example:
  pe rm wave@1.0.0
  pe rm --undo
  pe rm --undo wave orbit@1.2.0"""
)
@click.argument("cards", type=parameters.LOCAL, nargs=-1, metavar="NAME[@V]...")
@click.option("--all", "every", is_flag=True, help="Every version of the names.")
@click.option("--undo", is_flag=True, help="Bring back what was removed last, of NAME or at all.")
@options.common
@click.pass_obj
def rm(session: Session, /, cards: tuple[LocalReference, ...], every: bool, undo: bool) -> None:
    """Remove cards from the local registry.

    `pe rm --undo` brings them back until `pe gc` deletes them. Files outside of the registry and
    repositories on the Hub are never touched.
    """
    from pe_toolkit.registry.store import Store

    if not cards and not undo:
        raise UsageError("Expected the name of a card.", "pe rm NAME@1.0.0, or pe rm --undo")
    if every and undo:
        raise UsageError("Expected --all or --undo, not both.", "pe rm --undo NAME")
    store = Store()
    # In one step: a typo in the last name must not leave the first ones removed, or brought back.
    done = store.restore(*cards) if undo else store.remove(*cards, every=every)
    for entry in done:
        session.out.data(f"{entry.reference}  file {entry.digest}")
    if undo:
        session.out.talk(f"{_count(done)} brought back.")
    else:
        session.out.talk(f"{_count(done)} removed. Back with: pe rm --undo")
    session.out.event(
        "summary", **{"restored" if undo else "removed": [entry.to_dict() for entry in done]}
    )


def _count(entries: list[Entry]) -> str:
    return f"{len(entries)} card{'s' * (len(entries) != 1)}"
