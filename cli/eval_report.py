"""`pe eval --html`: the page of a pair or of a suite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pe_toolkit.cli import files
from pe_toolkit.cli.output import Output, size_text
from pe_toolkit.cli.progress import Progress
from pe_toolkit.errors import DependencyError, OutputExistsError, UsageError

if TYPE_CHECKING:
    from pe_toolkit.evaluation.records import ScoredVideo
    from pe_toolkit.evaluation.report import Column
    from pe_toolkit.evaluation.report.media import Frames, Track
    from pe_toolkit.evaluation.trackers.base import Tracker
    from pe_toolkit.evaluation.tracks import Points, Visible

POINTS = 8
"""A side: enough to see how things move, few enough to see the things."""


def check(path: Path | None) -> None:
    """Refuse a place where no page can go; an older report may be replaced, as the tables are.

    Raises:
        UsageError: another ending.
        OutputExistsError, OutputError: something else is there, or nothing can be written.
    """
    from pe_toolkit.evaluation.report import is_report

    if path is None:
        return
    check_name(path)
    if files.there(path) and path.is_file() and not is_report(path):
        raise OutputExistsError(
            f"Expected no file at {path}, or an older report, got another file.",
            "Choose another name.",
        )
    files.check_outputs([path], force=True)


def check_name(path: Path) -> None:
    """Refuse another ending.

    Raises:
        UsageError: it is no .html.
    """
    if path.suffix.lower() not in (".html", ".htm"):
        raise UsageError(
            f"Expected --html to end in .html, got {path.name!r}.", f"--html {path.stem}.html"
        )


def write(
    path: Path,
    records: Sequence[ScoredVideo],
    folder: Path,
    title: str,
    columns: Mapping[str, Column],
    out: Output,
    following: Tracker | None = None,
) -> None:
    """Write the page and say what is in it. `following`: whose points it draws over the videos;
    default: those of the usual tracker, where it is installed.
    """
    from pe_toolkit.evaluation.report import write_report

    if not records:
        out.warn("No report: no video was made.")
        return
    number = len({p for r in records for p in (r.reference, r.video)})
    with Progress(out, "report", number) as bar:
        written = write_report(
            path,
            records,
            folder,
            title=title,
            columns=columns,
            track=usual(out) if following is None else points_of(following),
            force=True,
            on_progress=lambda done, _: bar.reach(done),
        )
    for name, why in written.unread.items():
        out.warn(f"Not in the report: {name}: {why}")
    if written.left_out:
        out.warn(f"{written.left_out} videos are not in the report: it would grow too large.")
    videos = "1 video" if written.videos == 1 else f"{written.videos} videos"
    out.talk(f"{path}: {videos}, {size_text(written.size)}; open it in a browser.")
    out.event("report", path=path, videos=written.videos, size_bytes=written.size)


def usual(out: Output) -> Track | None:
    """What the page draws over the videos; None where no tracker is installed."""
    from pe_toolkit.evaluation.trackers import tracker
    from pe_toolkit.evaluation.trackers.lucas_kanade import opencv

    try:
        opencv()
    except DependencyError as error:
        out.talk(f"No tracks in the report: {error.hint}")
        return None
    return points_of(tracker("lk"))


def points_of(following: Tracker) -> Track:
    """What a page draws, of a tracker."""
    from pe_toolkit.evaluation.trackers.base import grid_points

    def track(frames: Frames) -> tuple[Points, Visible]:
        height, width = frames.shape[1:3]
        found = following.track(frames, grid_points(width, height, POINTS))
        return found.points, found.visible

    return track
