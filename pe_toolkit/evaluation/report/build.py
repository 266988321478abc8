"""From records and the files that they name to a page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pe_toolkit.errors import UsageError
from pe_toolkit.evaluation.records import ScoredVideo
from pe_toolkit.evaluation.report.media import Media, Track, read_media
from pe_toolkit.evaluation.report.page import MARK, WAYS, Column, page
from pe_toolkit.video import write_atomic

MOST_BYTES = 100_000_000
"""Of a page: more, and a phone gives up."""
OnProgress = Callable[[int, int], None]
"""Gets how many videos are read, and of how many."""


@dataclass(frozen=True)
class Written:
    """What became of a report.

    Attributes:
        path: of the page.
        size: in bytes.
        videos: how many are in it.
        unread: path -> why it could not be read.
        left_out: how many had no room.
    """

    path: Path
    size: int
    videos: int
    unread: Mapping[str, str]
    left_out: int


def build_report(
    records: Iterable[ScoredVideo],
    folder: Path | str = ".",
    *,
    title: str = "Motion transfer",
    columns: Mapping[str, Column] | None = None,
    track: Track | None = None,
    most_bytes: int = MOST_BYTES,
    on_progress: OnProgress | None = None,
) -> tuple[str, Mapping[str, Media]]:
    """The page as text, and the videos in it by path.

    Args:
        records: in the order in which the page shows them.
        folder: paths of the records that are relative begin here.
        title: of the page.
        columns: what the names of scores mean; a name without one stands for itself.
        track: follows points, which the page can draw over the videos (`media.Track`).
        most_bytes: videos that would make the page larger are left out.
        on_progress: called for each video.

    Raises:
        UsageError: no records, or a column that is better in no way that there is.
    """
    records = list(records)
    for name, column in (columns or {}).items():
        if column.better not in WAYS:
            raise UsageError(
                f"Expected {', '.join(WAYS)} as what is better of the column {name!r}, got "
                f"{column.better!r}."
            )
    if not records:
        raise UsageError("Expected at least one scored video for a report, got none.")
    paths = list(dict.fromkeys(p for r in records for p in (r.reference, r.video)))
    media: dict[str, Media] = {}
    room = most_bytes - 3000 * len(records)  # what stands around the videos
    for index, path in enumerate(paths):
        found = read_media(Path(folder) / path, track)
        need = len(found.mp4) * 4 // 3 + 12 * sum(map(len, found.tracks))
        if found.mp4 and need > room:
            found = Media(why=FULL)
        room -= need if found.mp4 else 0
        media[path] = found
        if on_progress is not None:
            on_progress(index + 1, len(paths))
    return page(records, media, title=title, columns=columns or {}), media


FULL = "left out: the page would grow too large"


def is_report(path: Path | str) -> bool:
    """Whether a file is such a page, which may be written anew. False if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return MARK.encode() in file.read(4096)
    except OSError:
        return False


def write_report(
    path: Path | str,
    records: Iterable[ScoredVideo],
    folder: Path | str = ".",
    *,
    title: str = "Motion transfer",
    columns: Mapping[str, Column] | None = None,
    track: Track | None = None,
    force: bool = False,
    on_progress: OnProgress | None = None,
) -> Written:
    """Write the page that `build_report` makes, whole or not at all.

    Raises:
        UsageError: as `build_report`.
        OutputExistsError, OutputError: as `video.write_atomic`.
    """
    text, media = build_report(
        records, folder, title=title, columns=columns, track=track, on_progress=on_progress
    )
    data = text.encode("utf-8", "backslashreplace")
    written = write_atomic(path, data, force=force)
    unread = {name: one.why for name, one in media.items() if one.why and one.why != FULL}
    return Written(
        written,
        len(data),
        sum(bool(one.mp4) for one in media.values()),
        unread,
        sum(one.why == FULL for one in media.values()),
    )
