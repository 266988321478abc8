"""The text of a report. Nothing of a record gets into it unescaped; nothing in it asks a network.

The policy in the head lets run only the one script that is written here, by its digest, and lets
load nothing but the videos that the page itself holds.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from typing import Literal

import numpy as np

from pe_toolkit.evaluation.intervals import interval
from pe_toolkit.evaluation.records import ScoredVideo
from pe_toolkit.evaluation.report.media import Media
from pe_toolkit.shown import printable

MARK = '<meta name="generator" content="pe-toolkit report">'
"""By which a report is known."""
PLAIN = "none"
"""The method without a card: it comes first."""
Better = Literal["higher", "lower", "neither"]
SIGNS: Mapping[Better, str] = {"higher": " ↑", "lower": " ↓", "neither": ""}
WAYS: Mapping[Better, str] = {
    "higher": "higher is better",
    "lower": "lower is better",
    "neither": "neither way is better",
}


@dataclass(frozen=True)
class Column:
    """What the name of a score means.

    Attributes:
        label: at the head of its column.
        better: which way.
        title: a sentence, for the list below the table.
    """

    label: str
    better: Better = "neither"
    title: str = ""


def page(
    records: Sequence[ScoredVideo],
    media: Mapping[str, Media],
    *,
    title: str,
    columns: Mapping[str, Column],
) -> str:
    """The page.

    Args:
        records: at least one.
        media: of every path that the records name.
        title: its heading.
        columns: what the names of scores mean.
    """
    names = list(dict.fromkeys(name for record in records for name in record.scores))
    known = {name: columns.get(name) or Column(name) for name in names}
    methods = sorted(dict.fromkeys(r.method for r in records), key=lambda m: m != PLAIN)
    shown = list(dict.fromkeys(p for r in records for p in (r.reference, r.video)))
    number = {path: index for index, path in enumerate(shown)}
    style, script = _asset("report.css"), _asset("report.js")
    any_tracks = any(media[path].tracks for path in shown)
    parts = [
        _head(title, style, script),
        _about(records, methods, title),
        _summaries(records, methods, known),
        _legend(known),
        _controls(tracks=any_tracks),
        _cases(records, methods, known, media, number),
        _table(records, known),
        f"</main><script>{script}</script>",
        *(_data(number[path], media[path]) for path in shown if media[path].mp4),
        "</body></html>\n",
    ]
    return "\n".join(part for part in parts if part)


def text_of(value: str) -> str:
    """Text of a stranger, to be read: what is invisible or turns directions is written out."""
    return escape(printable(value), quote=True)


@cache
def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def _head(title: str, style: str, script: str) -> str:
    policy = (
        f"default-src 'none'; script-src 'sha256-{_digest(script)}'; style-src "
        f"'sha256-{_digest(style)}'; media-src blob:; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">{MARK}'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="referrer" content="no-referrer"><link rel="icon" href="data:,">'
        f"<title>{text_of(title)}</title><style>{style}</style></head><body><main>"
    )


def _about(records: Sequence[ScoredVideo], methods: Sequence[str], title: str) -> str:
    cases = len({record.case for record in records})
    references = len({record.reference for record in records})
    counted = ", ".join(
        _count(n, word)
        for n, word in (
            (references, "reference"), (cases, "case"), (len(methods), "method"),
            (len(records), "video"),
        )
    )  # fmt: skip
    return (
        f"<h1>{text_of(title)}</h1><p>{counted}. A case is one reference, one prompt and one seed; "
        "its videos stand beside each other, the reference first.</p>"
    )


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _summaries(
    records: Sequence[ScoredVideo], methods: Sequence[str], known: Mapping[str, Column]
) -> str:
    kinds = list(dict.fromkeys(record.kind for record in records))
    parts = ["<h2>Summary</h2>", _summary(records, methods, known, "")]
    parts.append(
        '<p class="small">Mean over references, with the 95 % bootstrap interval over references; '
        "bold: the best of a column. (3 of 4): of so many videos; the others could not be "
        "measured, and such a mean is never the best.</p>"
    )
    if len(kinds) > 1:
        own = {kind or "no kind": [r for r in records if r.kind == kind] for kind in kinds}
        parts.append(_grouped("By kind of prompt", own, methods, known))
    if groups := list(dict.fromkeys(record.group for record in records if record.group)):
        own = {group: [r for r in records if r.group == group] for group in groups}
        parts.append(_grouped("By class of motion", own, methods, known))
    return "".join(parts) if known else ""


def _grouped(
    title: str,
    groups: Mapping[str, Sequence[ScoredVideo]],
    methods: Sequence[str],
    known: Mapping[str, Column],
) -> str:
    tables = "".join(_summary(own, methods, known, name) for name, own in groups.items())
    return f"<details><summary>{title}</summary>{tables}</details>"


def _summary(
    records: Sequence[ScoredVideo], methods: Sequence[str], known: Mapping[str, Column], kind: str
) -> str:
    cells = {
        (method, name): _mean([r for r in records if r.method == method], name)
        for method in methods
        for name in known
    }
    best = {name: _best([cells[m, name] for m in methods], known[name].better) for name in known}
    head = "".join(f'<th scope="col">{_heading(column)}</th>' for column in known.values())
    rows = []
    for method in methods:
        row = ""
        for name in known:
            found = cells[method, name]
            if found is None:
                row += "<td>-</td>"
                continue
            mean, low, high, own, of = found
            between = "" if low is None else f" <small>[{low:.3f}, {high:.3f}]</small>"
            between += "" if own == of else f" <small>({own} of {of})</small>"
            won = mean == best[name] and own == of
            row += f"<td>{f'<b>{mean:.3f}</b>' if won else f'{mean:.3f}'}{between}</td>"
        rows.append(f'<tr><th scope="row">{_method(method)}</th>{row}</tr>')
    caption = f"<caption>{text_of(kind)}</caption>" if kind else ""
    return (
        f'<div class="wide"><table>{caption}<thead><tr><th scope="col">method</th>{head}</tr>'
        f"</thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


Mean = tuple[float, float | None, float | None, int, int]


def _mean(records: Sequence[ScoredVideo], name: str) -> Mean | None:
    """Each reference counts once, however many videos it has: the mean and its interval, of how
    many videos it is, and how many there are.
    """
    own: dict[str, list[float]] = {}
    for record in records:
        if (value := record.scores.get(name)) is not None:
            own.setdefault(record.reference, []).append(value)
    if not own:
        return None
    asked = sum(name in record.scores for record in records)
    count = sum(map(len, own.values()))
    return (*interval([float(np.mean(values)) for values in own.values()]), count, asked)


def _best(found: Sequence[Mean | None], better: Better) -> float | None:
    means = [cell[0] for cell in found if cell is not None and cell[3] == cell[4]]
    if better == "neither" or len(means) < 2:
        return None
    return max(means) if better == "higher" else min(means)


def _heading(column: Column) -> str:
    """Its label, with what it is and which way is better for whoever points at it."""
    told = "; ".join(filter(None, [column.title, WAYS[column.better]]))
    return f'<span title="{text_of(told)}">{text_of(column.label)}{SIGNS[column.better]}</span>'


def _legend(known: Mapping[str, Column]) -> str:
    items = "".join(
        f"<dt>{_heading(column)}</dt><dd>{text_of(column.title)}; {WAYS[column.better]}</dd>"
        for column in known.values()
        if column.title
    )
    if not items:
        return ""
    return f"<details><summary>What the numbers mean</summary><dl>{items}</dl></details>"


def _controls(*, tracks: bool) -> str:
    box = '<label><input type="checkbox" id="tracks"> draw tracks</label>' if tracks else ""
    return (
        f'<h2>Videos</h2><p class="controls"><button type="button" id="play">Pause</button>{box}'
        '<a href="#all">Go to the table of all videos</a></p>'
    )


def _table(records: Sequence[ScoredVideo], known: Mapping[str, Column]) -> str:
    heads = [("case", True), ("kind", True), ("prompt", True), ("seed", False), ("method", True)]
    heads += [(_heading(column), False) for column in known.values()]
    head = "".join(
        f'<th scope="col" data-text="{int(text)}"><button type="button">{name}</button></th>'
        for name, text in [*heads, ("seconds", False)]
    )
    numbers = _case_numbers(records)
    rows = []
    for record in records:
        row = "".join(
            f"<td>{text_of(cell)}</td>" for cell in (record.case, record.kind, record.prompt)
        )
        row += (
            "<td>-</td>"
            if record.seed is None
            else f'<td data-n="{record.seed}">{record.seed}</td>'
        )
        row += f"<td>{_method(record.method)}</td>"
        for value in (*(record.scores.get(name) for name in known), record.seconds):
            number = None if value is None else float(value)  # numpy's are written otherwise
            row += "<td>-</td>" if number is None else f'<td data-n="{number!r}">{number:.3f}</td>'
        rows.append(f'<tr data-case="{numbers[record.case]}">{row}</tr>')
    return (
        '<h2 id="all">All videos</h2><p class="small">A click on a heading sorts the table, and '
        "the videos above with it; a click on a row goes to its videos.</p>"
        f'<div class="wide"><table id="table"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _case_numbers(records: Sequence[ScoredVideo]) -> dict[str, int]:
    return {case: i for i, case in enumerate(dict.fromkeys(r.case for r in records))}


def _cases(
    records: Sequence[ScoredVideo],
    methods: Sequence[str],
    known: Mapping[str, Column],
    media: Mapping[str, Media],
    number: Mapping[str, int],
) -> str:
    order = {method: index for index, method in enumerate(methods)}
    parts = ['<div id="cases">']
    for case, index in _case_numbers(records).items():
        own = sorted((r for r in records if r.case == case), key=lambda r: order[r.method])
        first = own[0]
        seed = "" if first.seed is None else f"seed {first.seed}"
        facts = [text_of(first.group), text_of(first.kind), seed]
        about = ", ".join(filter(None, facts))
        figures = _figure("reference", "", media[first.reference], number[first.reference])
        for record in own:
            scores = "".join(
                f"<div><dt>{_heading(known[name])}</dt><dd>"
                f"{'-' if value is None else f'{value:.3f}'}</dd></div>"
                for name, value in record.scores.items()
            )
            name = _method(record.method)
            figures += _figure(name, scores, media[record.video], number[record.video])
        parts.append(
            f'<article id="c{index}"><h3>{text_of(first.prompt) or "(no prompt)"}</h3>'
            f'<p class="small">{text_of(case)}{": " if about else ""}{about}</p>'
            f'<div class="row">{figures}</div></article>'
        )
    return "".join([*parts, "</div>"])


def _method(name: str) -> str:
    return f"{PLAIN} (no card)" if name == PLAIN else text_of(name)


def _figure(name: str, scores: str, one: Media, number: int) -> str:
    """A video below its name, which is escaped already."""
    if one.mp4:
        inside = (
            f'<div class="screen"><video muted loop playsinline preload="none" data-v="{number}" '
            f'width="{one.width}" height="{one.height}" aria-label="{name}"></video>'
            f'<canvas width="{one.width}" height="{one.height}"></canvas></div>'
        )
    else:
        inside = f'<p class="missing">{text_of(one.why)}</p>'
    below = f'<dl class="scores">{scores}</dl>' if scores else ""
    return f"<figure>{inside}<figcaption>{name}</figcaption>{below}</figure>"


def _data(number: int, one: Media) -> str:
    """Inert text: nothing of it runs or loads before it is asked for."""
    video = base64.b64encode(one.mp4).decode("ascii")
    out = f'<script type="text/plain" id="v{number}">{video}</script>'
    if one.tracks:
        flat = [[c for p in row for c in (p or (-1, -1))] for row in one.tracks]
        about = json.dumps({"fps": round(one.fps, 4), "points": flat}, separators=(",", ":"))
        out += f'<script type="text/plain" id="t{number}">{about}</script>'
    return out
