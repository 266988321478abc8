"""`pe gc`: delete for ever what was removed."""

from __future__ import annotations

import click

from pe_toolkit.cli import options
from pe_toolkit.cli.errors import Session
from pe_toolkit.cli.output import size_text


@click.command(
    epilog="""\b
Example:
  pe gc --dry-run
  pe gc"""
)
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted.")
@options.common
@click.pass_obj
def gc(session: Session, /, dry_run: bool) -> None:
    """Delete what was removed from the local registry, for ever, and free its room.

    Cards that are there, and cards that another process is adding, are never touched.
    """
    from pe_toolkit.registry.store import Store
    from pe_toolkit.shown import printable

    done = Store().gc(dry_run=dry_run)
    session.out.data(
        f"{'Would delete' if dry_run else 'Deleted'} {done.cards} removed "
        f"card{'s' * (done.cards != 1)} and {done.files} file{'s' * (done.files != 1)}, "
        f"{size_text(done.bytes)}."
    )
    if done.kept:
        session.out.warn(f"{done.kept} files are in use and stay until the next pe gc.")
    if done.spared:
        session.out.warn(
            "Left alone, because only a newer pe-toolkit may read it, or the disk does not let us: "
            f"{done.spared} file{'s' * (done.spared != 1)} without a name."
        )
    if done.unnamed:
        session.out.warn(
            f"Left alone for two weeks: {len(done.unnamed)} sound "
            f"card{'s' * (len(done.unnamed) != 1)} that no name leads to and that nobody removed. "
            "pe verify --all --rebuild gives each the name that it bears, pe add FILE NAME another."
        )
        for card in done.unnamed:
            days = card.seconds / 86400
            session.out.data(f"{printable(str(card.path))}  {days:.1f} days left")
    if done.looked:
        session.out.talk(
            f"{done.looked} card{'s' * (done.looked != 1)} of remotes that commands only looked "
            "at: kept for two weeks from the last time."
        )
    session.out.event(
        "summary", dry_run=dry_run, cards=done.cards, files=done.files, size_bytes=done.bytes,
        kept=done.kept, spared=done.spared,
        looked=done.looked,
        unnamed=[{"path": card.path, "seconds_left": card.seconds} for card in done.unnamed],
    )  # fmt: skip
