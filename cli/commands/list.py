"""`pe list`: what is in the local registry."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from pe_toolkit.cli import options
from pe_toolkit.cli.errors import Session
from pe_toolkit.cli.output import size_text

if TYPE_CHECKING:
    from pe_toolkit.registry.entry import Entry

PAGE = 50
WIDEST = 40
HEAD = ("NAME", "MADE FOR", "KIND", "GRID", "SIZE", "ADDED", "ORIGIN", "AUTHOR")


@click.command(
    "list",
    epilog="""\b
Example:
  pe list
  pe list orbit bundled
  pe list --json""",
)
@click.argument("words", nargs=-1, metavar="[WORD...]")
@click.option("--removed", is_flag=True, help="What `pe rm --undo` can bring back.")
@click.option("--page", type=click.IntRange(1), metavar="N", help="Show this page.")
@click.option(
    "--limit",
    type=click.IntRange(1),
    metavar="N",
    help=f"Cards on a page. Default: {PAGE} on a terminal, else all.",
)
@options.common
@click.pass_obj
def list(
    session: Session, /, words: tuple[str, ...], removed: bool, page: int | None, limit: int | None
) -> None:
    """Say what is in the local registry, by name and version.

    Only cards that contain all WORDs: in the name, author, license, backbone, kind, prompts or
    origin. Into a pipe go plain lines, one a card, with the whole SHA-256 of its
    file.
    """
    from pe_toolkit.registry.store import Store

    out = session.out
    entries = Store().entries(words, removed=removed)
    person = sys.stdout.isatty() and not out.json
    if limit is None and (person or page is not None):
        limit = PAGE
    shown, first = entries, 0
    if limit is not None:
        first = ((page or 1) - 1) * limit
        shown = entries[first : first + limit]
    if out.json:
        for entry in shown:
            out.event("card", entry=entry.to_dict())
    elif shown:
        out.data("\n".join(_table(shown) if person else map(_line, shown)))
    if not entries:
        none = "Nothing was removed." if removed else "There are no cards here. pe add CARD"
        out.talk("No card is like that." if words else none)
    elif not shown:
        out.talk(f"There is no page {page}: {len(entries)} cards in all.")
    elif person and len(shown) < len(entries):
        more = f"; more: --page {(page or 1) + 1}" if first + len(shown) < len(entries) else ""
        out.talk(f"{first + 1} to {first + len(shown)} of {len(entries)} cards{more}")
    if differ := [e for e in shown if e.facts["version"] != e.version]:
        some = ", ".join(f"{e.reference} ({e.facts['version']})" for e in differ[:3])
        more = f" and {len(differ) - 3} more" if len(differ) > 3 else ""
        out.talk(f"Another version stands in the card itself: {some}{more}. `pe edit` corrects it.")
    out.event("summary", cards=len(shown), total=len(entries))


def _line(entry: Entry) -> str:
    """One card for other programs: the first four columns have no spaces."""
    from pe_toolkit.shown import printable  # a line break in a name must not make a line

    facts = entry.facts
    line = "  ".join(
        (str(entry.reference), entry.digest, str(entry.size), (entry.removed or entry.added)[:19],
         facts["variant"], facts["kind"], facts["grid"], entry.origin or "-", facts["author"])
    )  # fmt: skip
    return printable(line.rstrip())


def _table(entries: Sequence[Entry]) -> Sequence[str]:
    """Aligned columns for people; long strings are cut."""
    from pe_toolkit.shown import printable

    rows = [HEAD] if entries else []
    for entry in entries:
        facts = entry.facts
        kind = f"{facts['kind']}, {facts['form']}" if facts["form"] else facts["kind"]
        cells = (
            str(entry.reference), facts["variant"], kind, facts["grid"], size_text(entry.size),
            (entry.removed or entry.added)[:10], entry.source or "-", facts["author"] or "-",
        )  # fmt: skip
        rows.append(tuple(_cut(printable(cell)) for cell in cells))  # type: ignore[arg-type]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _cut(text: str) -> str:
    return text if len(text) <= WIDEST else text[: WIDEST - 3] + "..."
