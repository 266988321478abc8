"""From the records of a suite to a table: methods by kinds of prompts by metrics."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pe_toolkit.evaluation import names as metric_names
from pe_toolkit.evaluation.intervals import interval
from pe_toolkit.jobs.folder import JobFolder
from pe_toolkit.suites.plan import Plan, Video
from pe_toolkit.suites.scoring import CLASS_HEADLINES, HEADLINES, Column
from pe_toolkit.suites.suite import ALL


@dataclass(frozen=True)
class Cell:
    """A mean over references with its 95 % interval.

    Attributes:
        mean: of the means of the references: each counts once, however many videos it has.
        low, high: 2.5 and 97.5 % of the means of 2,000 bootstrap samples of references (videos of
            one reference are not independent); None with one reference.
        references, videos: how many were measured.
        missing: videos that are there, but could not be measured.
    """

    mean: float
    low: float | None
    high: float | None
    references: int
    videos: int
    missing: int = 0

    @property
    def rests_on(self) -> str:
        """`(3 of 4)`: of how many videos it is a mean, where some were not measured; or ""."""
        return f"({self.videos} of {self.videos + self.missing})" if self.missing else ""


@dataclass(frozen=True)
class Row:
    """A method: cells by kind and metric, and what its videos cost.

    Attributes:
        seconds: median of a video, without the training of a card.
        training: median of the trainings of its cards; None if it has none.
        groups: cells by class of motion and metric, of all kinds together.
    """

    method: str
    label: str
    cells: Mapping[str, Mapping[str, Cell]]
    seconds: float | None
    training: float | None
    groups: Mapping[str, Mapping[str, Cell]] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """Everything that the written tables are made from.

    Attributes:
        kinds: columns, the last one for all together.
        metrics: names of the metrics that were measured.
        videos: one mapping for each video that is there.
        done, planned: how many videos are there, and of how many.
        groups: the classes of motion, if the clips of the suite have some.
    """

    suite: str
    kinds: tuple[str, ...]
    metrics: tuple[str, ...]
    rows: tuple[Row, ...]
    videos: tuple[Mapping[str, Any], ...]
    done: int
    planned: int
    groups: tuple[str, ...] = ()

    @property
    def headline(self) -> tuple[str, ...]:
        """The metrics of the short tables: two that say most, of those that are there."""
        return tuple(n for n in HEADLINES if n in self.metrics)[:2] or self.metrics[:2]

    @property
    def by_class(self) -> tuple[str, ...]:
        """The metrics of the table by class of motion."""
        return tuple(n for n in CLASS_HEADLINES if n in self.metrics) or self.headline


def build_table(plan: Plan, folder: JobFolder) -> Table:
    """The table of what is done by now."""
    found = [(video, record) for video in plan.videos if (record := folder.record(video.job))]
    names = {name for _, record in found for name in record["result"]["scores"]}
    metrics = _ordered(names)
    kinds = (*plan.suite.kinds, ALL) if len(plan.suite.kinds) > 1 else plan.suite.kinds
    trained = _training(plan, folder)
    rows = []
    for method in plan.methods:
        own = [(video, record) for video, record in found if video.method.name == method.name]
        rows.append(
            Row(
                method.name,
                method.label,
                {kind: _cells(own, kind, metrics) for kind in kinds},
                _median([record["result"]["seconds"] for _, record in own]),
                _median(trained.get(method.name, [])),
                {group: _cells(own, ALL, metrics, group) for group in plan.suite.groups},
            )
        )
    listed = tuple(_listed(video, record) for video, record in found)
    return Table(
        plan.suite.name, kinds, metrics, tuple(rows), listed, len(found), len(plan.videos),
        plan.suite.groups,
    )  # fmt: skip


def _ordered(found: Collection[str]) -> tuple[str, ...]:
    """Those of the short tables first, then as they are listed, then what is not installed here."""
    order = dict.fromkeys([*HEADLINES, *metric_names(), *sorted(found)])
    return tuple(name for name in order if name in found)


def _training(plan: Plan, folder: JobFolder) -> dict[str, list[float]]:
    """Seconds of the trainings of cards, by method."""
    owners: dict[str, set[str]] = {}
    for video in plan.videos:
        for need in video.job.needs:
            owners.setdefault(need, set()).add(video.method.name)
    out: dict[str, list[float]] = {}
    for job in {job.id: job for job in plan.cards}.values():
        if (record := folder.record(job)) is not None:
            for name in owners[job.id]:
                out.setdefault(name, []).append(record["result"]["seconds"])
    return out


def _cells(
    own: Sequence[tuple[Video, dict[str, Any]]],
    kind: str,
    metrics: Iterable[str],
    group: str | None = None,
) -> dict[str, Cell]:
    cells = {}
    for name in metrics:
        values: dict[str, list[float]] = {}
        missing = 0
        for video, record in own:
            if group not in (None, video.clip.group):
                continue
            if kind not in (ALL, video.kind) or name not in record["result"]["scores"]:
                continue
            value = record["result"]["scores"][name]
            if value is None:
                missing += 1
            else:
                values.setdefault(video.clip.name, []).append(value)
        if values:
            mean, low, high = interval([float(np.mean(v)) for v in values.values()])
            videos = sum(map(len, values.values()))
            cells[name] = Cell(mean, low, high, len(values), videos, missing)
    return cells


def _listed(video: Video, record: dict[str, Any]) -> dict[str, Any]:
    result = record["result"]
    return {
        "method": video.method.name,
        "reference": video.clip.name,
        "kind": video.kind,
        "class": video.clip.group,
        "prompt": video.prompt,
        "seed": video.seed,
        "scores": result["scores"],
        "video": result["video"],
        "reference_video": result["reference"],
        "seconds": result["seconds"],
        "device": result.get("device") or record["run"]["device"],
    }


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None


def arrow(metric: Column) -> str:
    """Which direction is better."""
    return {True: "↑", False: "↓", None: ""}[metric.higher]


def shown(value: float) -> str:
    """Three digits, as in the published tables."""
    return "-" if math.isnan(value) else f"{round(value, 3) + 0.0:.3f}"  # no -0.000
