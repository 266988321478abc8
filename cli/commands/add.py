"""`pe add`: keep a card in the local registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pe_toolkit.cli import options, parameters
from pe_toolkit.cli.errors import Session
from pe_toolkit.cli.output import size_text

if TYPE_CHECKING:
    from pe_toolkit.registry.references import LocalReference


@click.command(
    epilog="""\b
Example:
  pe add wave.safetensors
  pe add wave.safetensors big-wave@1.1.0"""
)
@click.argument("card", type=parameters.CARD_TEXT, metavar="CARD")
@click.argument("name", type=parameters.LOCAL, required=False, metavar="[NAME[@V]]")
@click.option(
    "--force",
    is_flag=True,
    help="Take the name from another card; `pe rm --undo` brings that one back.",
)
@options.common
@click.pass_obj
def add(session: Session, /, card: str, name: LocalReference | None, force: bool) -> None:
    """Keep a card in the local registry, under a name and a version.

    The card is checked completely and copied. Without NAME it goes by the name and version that
    stand in the card.
    """
    from pe_toolkit.cli.names import watched
    from pe_toolkit.cli.remote import find, warn_version
    from pe_toolkit.errors import UsageError
    from pe_toolkit.registry import signature_files
    from pe_toolkit.registry.store import Store

    if name is not None and name.digest:
        raise UsageError(
            f"Expected NAME or NAME@1.2.0, got {name}.", "The digest follows from the card."
        )
    found = find(session, card)
    with watched(session) as given:
        entry = Store().add(
            found.path,
            name.name if name else None,
            name.version if name else None,
            origin=found.origin,
            force=force,
        )
        given.append(entry)
    for signature in found.signatures():
        signature_files.keep(entry.digest, signature)
    session.out.talk(f"{entry.reference} is in the registry, {size_text(entry.size)}.")
    warn_version(session, entry)
    session.out.data(f"{entry.reference}  file {entry.digest}")
    session.out.event("summary", entry=entry.to_dict())
