"""`pe search`: find cards on the Hugging Face Hub, or in a shared folder."""

from __future__ import annotations

import click

from pe_toolkit.cli import options
from pe_toolkit.cli.errors import Session
from pe_toolkit.cli.output import safe


@click.command(
    epilog="""\b
Example:
  pe search wave --backbone cogvideox-5b
  pe search --author zoe
  pe search wave --in file:///shared/cards"""
)
@click.argument("words", nargs=-1, metavar="[WORDS]...")
@click.option("--backbone", metavar="NAME|HUB_ID", help="Cards for this backbone only.")
@click.option("--author", metavar="OWNER", help="Cards of this user or organisation only.")
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=30, show_default=True, metavar="N",
    help="Show up to N.",
)  # fmt: skip
@click.option("--in", "where", metavar="URL", help="A folder, file:///folder, instead of the Hub.")
@options.common
@click.pass_obj
def search(
    session: Session,
    /,
    words: tuple[str, ...],
    backbone: str | None,
    author: str | None,
    limit: int,
    where: str | None,
) -> None:
    """Find cards on the Hugging Face Hub.

    Those whose name has all the words. Private ones are found with a token that may see them.
    "signed": a signature lies beside the card; `pe show` says by which key.
    """
    from pe_toolkit.cli.remote import prepare
    from pe_toolkit.registry.remotes import search_remote

    prepare(session)
    remote = search_remote(where, tell=session.out.talk)
    found = remote.search(words, backbone=backbone, author=author, limit=limit)
    rows = []
    for card in found:
        session.out.event("card", **card.to_dict())
        access = " ".join(
            ("private",) * card.private + ("gated",) * card.gated + ("signed",) * card.signed
        )
        # Cut as well as made safe: a stranger's README chose these words.
        values = (card.reference, card.version, card.backbone, card.license, access)
        shown = [safe(value.replace("\n", " ")) for value in values]
        rows.append([shown[0][:250], *(value[:40] for value in shown[1:])])
    widths = [max((len(row[n]) for row in rows), default=0) for n in range(5)]
    for row in rows:
        columns = [f"{value:<{width}}" for value, width in zip(row, widths, strict=True) if width]
        session.out.data("  ".join(columns).rstrip())
    if not found:
        session.out.talk("Nothing found.")
    elif len(found) == limit:
        session.out.talk(f"Perhaps there are more: --limit {limit} was reached.")
    session.out.event("summary", cards=len(found))
