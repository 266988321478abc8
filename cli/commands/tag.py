"""`pe tag`: another name for a card."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pe_toolkit.cli import options, parameters
from pe_toolkit.cli.errors import Session

if TYPE_CHECKING:
    from pe_toolkit.registry.references import LocalReference


@click.command(
    epilog="""\b
Example:
  pe tag wave wave@1.1.0
  pe tag wave@1.0.0 my-favourite"""
)
@click.argument("card", type=parameters.LOCAL, metavar="NAME[@V]")
@click.argument("new", type=parameters.LOCAL, metavar="NEW[@V]")
@click.option(
    "--force",
    is_flag=True,
    help="Take the name from another card; `pe rm --undo` brings that one back.",
)
@options.common
@click.pass_obj
def tag(session: Session, /, card: LocalReference, new: LocalReference, force: bool) -> None:
    """Give a card in the local registry another name or version.

    It keeps the names it has, and takes no more room: names point to one copy.
    """
    from pe_toolkit.cli.names import watched
    from pe_toolkit.cli.remote import warn_version
    from pe_toolkit.registry.store import Store

    with watched(session) as given:
        entry = Store().tag(card, new, force=force)
        given.append(entry)
    session.out.talk(f"{entry.reference} is in the registry.")
    warn_version(session, entry)
    session.out.data(f"{entry.reference}  file {entry.digest}")
    session.out.event("summary", entry=entry.to_dict())
