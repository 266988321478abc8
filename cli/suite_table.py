"""A table on the terminal: methods by kinds of prompts, then classes of motion by methods, as wide
as there is room.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pe_toolkit.cli.output import Output

if TYPE_CHECKING:
    from pe_toolkit.suites.tables import Cell, Table

Head = list[tuple[str, str]]
Rows = Sequence["tuple[str, list[Cell | None]]"]
MOST = 200


def draw(table: Table, out: Output, width: int | None) -> None:
    """Print the short table on stdout: all its metrics side by side, or one after the other where
    that is too wide.

    Args:
        width: columns of the terminal; None for a file.
    """
    from pe_toolkit.suites.formats import by_class, cells, heads

    _fitting("method", heads(table), cells(table), len(table.headline), out, width)
    head, classes = by_class(table)
    if classes:
        _fitting("class", head, classes, len(table.by_class), out, width)


def _fitting(
    first: str, head: Head, rows: Rows, metrics: int, out: Output, width: int | None
) -> None:
    """All columns side by side if they fit, or those of one metric after the other, as many beside
    each other as fit.
    """
    room = width or MOST
    text = _text(first, head, rows, MOST)
    if _wide(text) <= room:
        out.data(text)
        return
    for n in range(metrics):
        some = [(label, own[n::metrics]) for label, own in rows]
        left = head[n::metrics]
        while left:
            count = len(left)
            while count > 1 and _wide(_text(first, left[:count], _first(some, count), MOST)) > room:
                count -= 1
            out.data(_text(first, left[:count], _first(some, count), room))
            left, some = left[count:], [(label, own[count:]) for label, own in some]


def _wide(text: str) -> int:
    return max(map(len, text.splitlines()), default=0)


def _first(rows: Rows, count: int) -> Rows:
    return [(label, own[:count]) for label, own in rows]


def _text(first: str, head: Head, rows: Rows, width: int) -> str:
    from rich import box
    from rich.console import Console
    from rich.table import Table as Drawn
    from rich.text import Text

    from pe_toolkit.shown import printable
    from pe_toolkit.suites.formats import pieces

    drawn = Drawn(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    drawn.add_column(first, no_wrap=True)
    for above, metric in head:
        drawn.add_column(Text(f"{printable(above)}\n{metric}"), justify="right", no_wrap=True)
    for label, own in rows:
        drawn.add_row(Text(printable(label)), *(Text("\n".join(pieces(cell))) for cell in own))
    stream = io.StringIO()
    Console(file=stream, width=width, color_system=None, legacy_windows=False).print(drawn)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines() if line.strip())
