"""`pe eval` of one pair of clips: read, follow, score, print."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from pe_toolkit.card.reader import verify_card
from pe_toolkit.cli import as_trained, eval_report
from pe_toolkit.cli.output import Output
from pe_toolkit.cli.progress import reading
from pe_toolkit.cli.requests.eval import PairOptions
from pe_toolkit.errors import DependencyError
from pe_toolkit.evaluation import metric, pair, prepare, trackers
from pe_toolkit.evaluation.contract import Metric, Pair
from pe_toolkit.evaluation.records import ScoredVideo
from pe_toolkit.evaluation.report import Column
from pe_toolkit.evaluation.report.page import WAYS
from pe_toolkit.evaluation.trackers import tracker
from pe_toolkit.evaluation.tracks import load_tracks
from pe_toolkit.video import Clip, read_clip
from pe_toolkit.video.movie import OnProgress

WORTH = (
    "To compare with: of rendered shapes mf is 0.87 in the mean of videos with their card, 0.58 of "
    "those without, and not 0 of the opposite motion either (docs/metrics.md)."
)
SIGNS = {**WAYS, "neither": ""}


def run(out: Output, asked: PairOptions, html: Path | None = None) -> None:
    """Score the pair and say it, and write the page `html` of it.

    Raises:
        UsageError, ClipError, DependencyError: as `evaluation.pair`.
    """
    wanted = None if asked.names is None else {name: metric(name) for name in asked.names}
    clip: Path | Clip = asked.reference
    if asked.card is not None:
        clip = as_trained.read(asked.reference, verify_card(asked.card).spec, out, "--ref")
    with reading(out) as bar:
        reference, video, notes, totals = pair.read_counted(
            clip, asked.video, align=asked.align, frames=asked.frames, size=asked.size,
            on_progress=bar,
        )  # fmt: skip
    for note in notes:
        out.talk(note)
    if not any((asked.card, asked.frames, asked.size, asked.tracks_ref)):
        as_trained.tell_card(asked.video, out)
    with reading(out) as bar:
        unrelated = _unrelated(asked, bar)
    two = Pair(reference, video, prompt=asked.prompt, unrelated=unrelated)
    with contextlib.redirect_stdout(sys.stderr):  # what metrics of other packages print is no data
        results, source = _scored(two, wanted, asked, totals, out)
    names = [r.name for r in results]
    rows = {name: metric(name) for name in names}
    out.table({r.name: _cell(r, rows[r.name]) for r in results})
    if any(r.name == "mf" and r.value is not None for r in results):
        out.talk(WORTH)
    for r in results:
        one = rows[r.name]
        out.event(
            "metric", name=r.name, value=r.value, why=r.why, title=one.title, low=one.low,
            high=one.high, better=one.better,
        )  # fmt: skip
    if html is not None:
        _report(html, asked, results, rows, out)
    out.event(
        "summary",
        reference=asked.reference,
        video=asked.video,
        card=asked.card,
        frames=len(reference),
        tracks=source,
        notes=notes,
        scores={r.name: r.value for r in results},
    )


def _report(
    html: Path,
    asked: PairOptions,
    results: Sequence[pair.Result],
    rows: Mapping[str, Metric],
    out: Output,
) -> None:
    name = os.fsencode(asked.reference.name).decode("utf-8", "backslashreplace")
    record = ScoredVideo(
        case=name,
        reference=str(asked.reference),
        kind="",
        prompt=asked.prompt or "",
        seed=None,
        method=os.fsencode(asked.video.name).decode("utf-8", "backslashreplace"),
        video=str(asked.video),
        scores={r.name: r.value for r in results},
    )
    columns = {name: Column(name, one.better, one.title) for name, one in rows.items()}
    following = None if asked.tracker == "lk" else tracker(asked.tracker)
    eval_report.write(html, [record], Path(), "Motion of a pair", columns, out, following)
    if asked.tracks_ref is not None:
        out.talk("The points on the page are the usual tracker's; the scores are of the files.")
    if asked.card is not None:
        out.talk("The page shows the whole reference; the scores are of the part of the card.")


def _unrelated(asked: PairOptions, bar: OnProgress) -> tuple[pair.Frames, ...]:
    return tuple(
        read_clip(path, frames=asked.frames, size=asked.size, fit="stretch", on_progress=bar).frames
        for path in asked.unrelated
    )


def _scored(
    two: Pair,
    wanted: dict[str, Metric] | None,
    asked: PairOptions,
    totals: tuple[int, int],
    out: Output,
) -> tuple[list[pair.Result], str]:
    """What was measured, and whose tracks it was measured with."""
    for name, one in (wanted or {}).items():
        if "tracks" not in one.needs:
            pair.check_needs(name, one, two)
        prepare(name, one)
    if asked.tracker != "lk":
        trackers.prepare(asked.tracker)
    source = "none"
    if wanted is None or any("tracks" in one.needs for one in wanted.values()):
        two, source = _with_tracks(two, asked, totals, out, needed=wanted is not None)
    names = list(wanted) if wanted is not None else pair.default_names(two)
    return pair.score(two, names), source


def _with_tracks(
    two: Pair, asked: PairOptions, totals: tuple[int, int], out: Output, *, needed: bool
) -> tuple[Pair, str]:
    """The pair with tracks, and where these are from. Without `needed`, it does without where no
    tracker is installed.
    """
    if asked.tracks_ref is not None and asked.tracks_video is not None:
        tracks = load_tracks(asked.tracks_ref), load_tracks(asked.tracks_video)
        return pair.with_tracks(two, *tracks, asked.align, totals=totals), "files"
    try:
        found = pair.with_tracks(
            two, *pair.tracks_of_both(two, tracker(asked.tracker), asked.grid or pair.GRID)
        )
    except DependencyError as error:
        if needed or asked.tracker != "lk":
            raise
        out.warn(f"{error.message} {error.hint} Only what needs no tracks is measured.")
        return two, "none"
    return found, asked.tracker


def _cell(result: pair.Result, one: Metric) -> str:
    if result.value is None:
        return f"-      {one.title}: {result.why}"
    spread = f"{one.low:g} to {one.high:g}".replace("-inf to", "up to").replace(" to inf", " up")
    sign = SIGNS[one.better]
    return f"{result.value:<6.3f} {one.title} ({spread}{', ' + sign if sign else ''})"
