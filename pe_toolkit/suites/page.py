"""A suite as the report wants it: records of scored videos, and what their scores are called."""

from __future__ import annotations

from pe_toolkit.evaluation.records import ScoredVideo
from pe_toolkit.evaluation.report import Column
from pe_toolkit.evaluation.report.page import Better
from pe_toolkit.suites.scoring import column
from pe_toolkit.suites.tables import Table


def scored_videos(table: Table) -> list[ScoredVideo]:
    """The videos that are there; their paths begin in the folder of the results."""
    numbers: dict[str, dict[tuple[str, str, int], int]] = {}
    out = []
    for video in table.videos:
        own = numbers.setdefault(video["reference"], {})
        number = own.setdefault((video["kind"], video["prompt"], video["seed"]), len(own) + 1)
        out.append(
            ScoredVideo(
                case=f"{video['reference']} {number}",
                reference=video["reference_video"],
                kind=video["kind"],
                prompt=video["prompt"],
                seed=video["seed"],
                method=video["method"],
                video=video["video"],
                scores=video["scores"],
                seconds=video["seconds"],
                group=video["class"],
            )
        )
    return sorted(out, key=lambda record: list(numbers).index(record.case.rsplit(" ", 1)[0]))


def columns(table: Table) -> dict[str, Column]:
    """What the scores of the suite mean."""
    better: dict[bool | None, Better] = {True: "higher", False: "lower", None: "neither"}
    found = {name: column(name) for name in table.metrics}
    return {
        name: Column(one.label, better[one.higher], one.title or name.replace("_", " "))
        for name, one in found.items()
    }
