"""What a run leaves beside its videos: tables, and a record of the run.

DIR/table.json, table.csv, table.md, table.tex     methods by kinds by metrics
DIR/videos.csv                                     every video with its scores
DIR/runs/TIME-PID.json                             command, settings, versions, what was done
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pe_toolkit.errors import OutputExistsError, SuiteError
from pe_toolkit.jobs.folder import JobFolder, now
from pe_toolkit.jobs.run import Tally
from pe_toolkit.jobs.work import versions
from pe_toolkit.suites import formats
from pe_toolkit.suites.plan import Plan
from pe_toolkit.suites.tables import Table
from pe_toolkit.writing import write_atomically

TABLES = ("table.md", "table.csv", "table.tex", "table.json", "videos.csv")


def write_tables(folder: Path, table: Table, about: Mapping[str, Any]) -> list[Path]:
    """Write a table in every form; each file whole, in place of an older one.

    Raises:
        OutputError: one cannot be written.
    """
    texts = (
        formats.to_markdown(table),
        formats.to_csv(table),
        formats.to_latex(table),
        formats.to_json(table, about),
        formats.videos_csv(table),
    )
    for name, text in zip(TABLES, texts, strict=True):
        _write(folder / name, text)
    return [folder / name for name in TABLES]


def other_videos(plan: Plan, folder: JobFolder) -> int:
    """How many videos in a folder are none of a plan: of other methods, references or settings."""
    own = {video.job.id for video in plan.videos}
    return sum(path.stem not in own for path in (folder.path / "videos").glob("*.mp4"))


def check_folder(folder: Path) -> None:
    """Refuse a folder in which something else has the name of a table.

    Raises:
        OutputExistsError: no run was recorded in it, and there is one.
    """
    if any((folder / "runs").glob("*.json")):  # then they are tables of ours
        return
    for name in TABLES:
        if os.path.lexists(folder / name):
            raise OutputExistsError(
                f"Expected no file at {folder / name}, but there is one, and no results of pe eval "
                "are beside it.",
                "Choose another -o.",
            )


def check_clips(plan: Plan, folder: JobFolder) -> None:
    """Refuse to go on with clips that are not those that some of the jobs were done with.

    Raises:
        SuiteError: a reference changed under its name.
        PeError: as `JobFolder.record`.
    """
    from pe_toolkit.video.sources import digest

    now: dict[str, str] = {}
    for job in plan.jobs:
        record, path = folder.record(job), job.args["clip"].get("path")
        was = None if record is None else record["result"].get("sha256")
        if was is None or path is None or not os.path.exists(path):
            continue
        if path not in now:
            now[path] = digest(Path(path))
        if now[path] != was:
            raise SuiteError(
                f"Expected {path} to be the clip that {job.name} was done with, but it has "
                "changed since.",
                "Put that clip back, give this one a name of its own in the suite, or choose "
                "another -o.",
            )


class RunRecord:
    """The file of one run, written when it begins and again when it ends, however it ends.

    Args:
        folder: that of the results.
        plan: what is to be done.
        command: the words that a person typed.
        pool: where jobs are done, in words.
    """

    def __init__(self, folder: Path, plan: Plan, command: Sequence[str], pool: str) -> None:
        began, self._clock = now(), time.monotonic()
        stamp = began.replace(":", "").replace("-", "")
        self.path = folder / "runs" / f"{stamp}-{os.getpid()}.json"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.about: dict[str, Any] = {
            "command": list(command),
            "suite": plan.suite.name,
            "references": len(plan.suite.clips),
            "methods": [method.name for method in plan.methods],
            "settings": plan.settings.to_dict() | {"backbone": plan.settings.backbone},
            "pool": pool,
            "versions": versions(),
            "began": began,
        }
        self.write(Tally(), "at work")

    def write(self, tally: Tally, state: str) -> None:
        """What became of it: `at work`, `finished`, `with failures` or `interrupted`."""
        value = self.about | {
            "state": state,
            "seconds": round(time.monotonic() - self._clock, 1),
            "there": len(tally.there),
            "done": tally.done,
            "failed": [
                {"job": o.job.id, "message": o.message, "hint": o.hint} for o in tally.failed
            ],
        }
        _write(self.path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def _write(path: Path, text: str) -> None:
    write_atomically(path, [text.encode("utf-8", "backslashreplace")], force=True)


def settings_in_words(plan: Plan) -> str:
    """One line for a person."""
    own = plan.settings
    said = {
        field.name: getattr(own, field.name)
        for field in dataclasses.fields(own)
        if field.name not in ("backbone", "overrides") and getattr(own, field.name) != field.default
    }
    said |= {name: ",".join(v) for name, v in said.items() if isinstance(v, tuple)}
    words = [own.backbone, *(f"{k} {v}" for k, v in said.items())]
    return ", ".join([*words, *(f"{key}={value}" for key, value in own.overrides)])
