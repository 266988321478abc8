"""A table as text: JSON, CSV, Markdown and LaTeX, in the layout of Table 1 of DiTFlow: methods by
kinds of prompts, the metrics side by side.
"""

from __future__ import annotations

import csv
import dataclasses
import html
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from pe_toolkit.shown import printable
from pe_toolkit.suites.scoring import column
from pe_toolkit.suites.suite import ALL
from pe_toolkit.suites.tables import Cell, Table, arrow, shown

NOTE = (
    "Means over references, with 95 % bootstrap intervals over references. (3 of 4): of so many "
    "videos; the others could not be measured, and such a mean is never the best."
)


def to_json(table: Table, about: Mapping[str, Any]) -> str:
    """Everything: cells with their intervals, and every video.

    Args:
        about: what made it: the command, settings, versions.
    """
    columns = {
        name: {"label": column(name).label, "higher_is_better": column(name).higher}
        for name in table.metrics
    }
    value = {
        "suite": table.suite,
        "kinds": table.kinds,
        "classes": table.groups,
        "metrics": columns,
        "rows": [dataclasses.asdict(row) for row in table.rows],
        "videos": table.videos,
        "done": table.done,
        "planned": table.planned,
        "about": dict(about),
    }
    return json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def to_csv(table: Table) -> str:
    """One line for each method, kind and metric, then for each method, class of motion and metric;
    no class is all classes.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    head = "method kind class metric mean low high references videos missing"
    writer.writerow(head.split())
    for row in table.rows:
        lines = [(kind, "", cells) for kind, cells in row.cells.items()]
        lines += [(ALL, group, cells) for group, cells in row.groups.items()]
        for kind, group, cells in lines:
            for name, cell in cells.items():
                own = [cell.mean, cell.low, cell.high, cell.references, cell.videos, cell.missing]
                line = [row.method, kind, group, name, *own]
                writer.writerow(["" if v is None else _inert(v) for v in line])
    return out.getvalue()


def videos_csv(table: Table) -> str:
    """One line for each video, with all its scores."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    first = ("method", "reference", "kind", "class", "prompt", "seed")
    last = ("seconds", "video")
    writer.writerow([*first, *table.metrics, *last])
    for video in table.videos:
        scores = [video["scores"].get(name) for name in table.metrics]
        row = [*(video[k] for k in first), *scores, *(video[k] for k in last)]
        writer.writerow(["" if value is None else _inert(value) for value in row])
    return out.getvalue()


def _inert(value: object) -> object:
    """A text that no spreadsheet takes for a formula."""
    text = isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r")
    return f"'{value}" if text else value


def heads(table: Table) -> list[tuple[str, str]]:
    """(kind, metric with its arrow) of every column of the short table."""
    return [
        (kind, f"{column(name).label} {arrow(column(name))}".strip())
        for kind in table.kinds
        for name in table.headline
    ]


def cells(table: Table) -> list[tuple[str, list[Cell | None]]]:
    """Method and cells of every row of the short table; None where nothing is done yet."""
    return [
        (
            row.method,
            [row.cells[kind].get(name) for kind in table.kinds for name in table.headline],
        )
        for row in table.rows
    ]


def by_class(table: Table) -> tuple[list[tuple[str, str]], list[tuple[str, list[Cell | None]]]]:
    """The table by class of motion: (method, metric with its arrow) of every column, and class and
    cells of every row. No rows where the suite has no classes.
    """
    names = table.by_class
    head = [
        (row.method, f"{column(name).label} {arrow(column(name))}".strip())
        for row in table.rows
        for name in names
    ]
    body = [
        (group, [row.groups[group].get(name) for row in table.rows for name in names])
        for group in table.groups
    ]
    return head, body


def best(table: Table) -> list[frozenset[int]]:
    """For each column, which rows are the best of those in which all was measured: more than one
    where the same number is shown; none with fewer than two.
    """
    out: list[frozenset[int]] = []
    rows = cells(table)
    for index, name in enumerate(n for _ in table.kinds for n in table.headline):
        there = {i: c for i, (_, row) in enumerate(rows) if (c := row[index]) is not None}
        most = max((cell.references for cell in there.values()), default=0)
        whole = {i: c for i, c in there.items() if not c.missing and c.references == most}
        own = {i: cell.mean for i, cell in whole.items()}
        higher = column(name).higher
        if len(own) < 2 or higher is None:
            out.append(frozenset())
        else:
            first = shown((max if higher else min)(own.values()))
            out.append(frozenset(i for i, mean in own.items() if shown(mean) == first))
    return out


def pieces(cell: Cell | None) -> list[str]:
    """What a cell says: its mean, its interval, and of how much it is, where that is not all."""
    if cell is None:
        return ["-"]
    return [text for text in (shown(cell.mean), between(cell), cell.rests_on) if text]


def between(cell: Cell) -> str:
    """`[low, high]`; empty with one reference."""
    if cell.low is None or cell.high is None:
        return ""
    return f"[{shown(cell.low)}, {shown(cell.high)}]"


def to_markdown(table: Table) -> str:
    """The short table, then one with every metric."""
    lines = [
        f"# {table.suite}: {table.done} of {table.planned} videos",
        "",
        NOTE,
        "",
        _methods(table),
        "",
    ]
    columns = [f"{kind} {metric}" for kind, metric in heads(table)]
    if columns:
        lines += _markdown(["method", *columns], [_row(label, own) for label, own in cells(table)])
    every = [column(name).label + " " + arrow(column(name)) for name in table.metrics]
    last = table.kinds[-1]
    body = [
        [row.method, *(_cell(row.cells[last].get(name)) for name in table.metrics), _cost(row)]
        for row in table.rows
    ]
    lines += ["", f"## {_md(last)}", "", *_markdown(["method", *every, "s a video"], body)]
    head, classes = by_class(table)
    if classes and head:
        top = ["class", *(f"{label}: {metric}" for label, metric in head)]
        rows = [_row(group, own) for group, own in classes]
        lines += ["", "## By class of motion", "", *_markdown(top, rows)]
    return "\n".join(lines) + "\n"


def _methods(table: Table) -> str:
    """What the methods, which are called as on the command line, are in papers."""
    return f"Methods: {'; '.join(f'{row.method} ({row.label})' for row in table.rows)}."


def _row(label: str, own: list[Cell | None]) -> list[str]:
    return [label, *map(_cell, own)]


def _cell(cell: Cell | None) -> str:
    return " ".join(pieces(cell))


def _cost(row: Any) -> str:
    if row.seconds is None:
        return "-"
    card = "" if row.training is None else f" (card: {row.training:.1f})"
    return f"{row.seconds:.1f}{card}"


def _markdown(head: list[str], body: list[list[str]]) -> list[str]:
    safe = [[_md(text).replace("|", "\\|") for text in row] for row in (head, *body)]
    lines = ["| " + " | ".join(row) + " |" for row in safe]
    return [lines[0], "|" + " --- |" * len(head), *lines[1:]]


def _md(text: str) -> str:
    """Text of a person, with no HTML in it."""
    return html.escape(printable(text), quote=False)


def to_latex(table: Table) -> str:
    """A `tabular` for `booktabs` and `multirow`-free LaTeX; intervals small, the best bold. A
    second one by class of motion, if there are classes.
    """
    top_rows = best(table)
    rows = [
        (label, [_tex_cell(cell, index in top_rows[i]) for i, cell in enumerate(own)])
        for index, (label, own) in enumerate(cells(table))
    ]
    about = f"% {table.suite}: {table.done} of {table.planned} videos. {NOTE}"
    if not table.headline:  # nothing is measured yet: no columns
        return about + "\n"
    lines = [about, f"% {_methods(table)}", *_tabular("Method", table.kinds, table.headline, rows)]
    _, classes = by_class(table)
    if classes and table.by_class:
        own = [(group, [_tex_cell(cell, False) for cell in found]) for group, found in classes]
        labels = [row.method for row in table.rows]
        lines += ["", "% By class of motion.", *_tabular("Class", labels, table.by_class, own)]
    return "\n".join(lines) + "\n"


def _tabular(
    first: str,
    groups: Sequence[str],
    names: Sequence[str],
    rows: Sequence[tuple[str, list[str]]],
) -> list[str]:
    """Columns: the metrics `names` under each of the `groups`."""
    width = len(names)
    top = " & ".join(rf"\multicolumn{{{width}}}{{c}}{{{_tex(group)}}}" for group in groups)
    rules = " ".join(
        rf"\cmidrule(lr){{{2 + i * width}-{1 + (i + 1) * width}}}" for i in range(len(groups))
    )
    marks = {True: r"$\uparrow$", False: r"$\downarrow$", None: ""}
    second = " & ".join(
        f"{_tex(column(name).label)} {marks[column(name).higher]}".strip()
        for _ in groups
        for name in names
    )
    return [
        rf"\begin{{tabular}}{{l{'c' * width * len(groups)}}}",
        r"\toprule",
        f"& {top} \\\\",
        rules,
        f"{first} & {second} \\\\",
        r"\midrule",
        *(" & ".join([_tex(label), *texts]) + r" \\" for label, texts in rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]


def _tex_cell(cell: Cell | None, winner: bool) -> str:
    if cell is None:
        return "--"
    mean, *small = pieces(cell)
    mean = rf"\textbf{{{mean}}}" if winner else mean
    return f"{mean} {{\\tiny {' '.join(small)}}}" if small else mean


_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
}  # fmt: skip


def _tex(text: str) -> str:
    return "".join(_TEX.get(character, character) for character in printable(text))
