"""A table on the terminal: methods by kinds of prompts, as wide as there is room."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from pe_toolkit.cli.output import Output

if TYPE_CHECKING:
    from pe_toolkit.suites.tables import Table

MOST = 200


def draw(table: Table, out: Output, width: int | None) -> None:
    """Print the short table on stdout: all its metrics side by side, or one after the other where
    that is too wide.

    Args:
        width: columns of the terminal; None for a file.
    """
    names = table.headline
    room = width or MOST
    text = _text(table, names, MOST)
    if max(map(len, text.splitlines()), default=0) <= room:
        out.data(text)
        return
    for name in names:
        out.data(_text(table, (name,), room))


def _text(table: Table, names: tuple[str, ...], width: int) -> str:
    from rich import box
    from rich.console import Console
    from rich.table import Table as Drawn
    from rich.text import Text

    from pe_toolkit.card.text import printable
    from pe_toolkit.suites.formats import between
    from pe_toolkit.suites.scoring import column
    from pe_toolkit.suites.tables import arrow, shown

    drawn = Drawn(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    drawn.add_column("method")
    for kind in table.kinds:
        for name in names:
            label = f"{printable(kind)}\n{column(name).label} {arrow(column(name))}".strip()
            drawn.add_column(Text(label), justify="right", no_wrap=True)
    for row in table.rows:
        cells = []
        for kind in table.kinds:
            for name in names:
                cell = row.cells[kind].get(name)
                text = "-" if cell is None else f"{shown(cell.mean)}\n{between(cell)}"
                cells.append(Text(text.strip()))
        drawn.add_row(Text(row.label), *cells)
    stream = io.StringIO()
    Console(file=stream, width=width, color_system=None, legacy_windows=False).print(drawn)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines() if line.strip())
