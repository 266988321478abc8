"""The folder of a list of jobs: one record for each job that is done, and a journal.

    DIR/records/ID.json     what was asked, what came out, when, where and with which versions
    DIR/journal.jsonl       a line when a job begins and when it ends: how often each was done

Results are written by the jobs themselves, each where it wants to. Records are written whole, and
after everything else of their job: a job without a record is not done, nor is one whose files are
gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pe_toolkit.errors import OutputError, PeError
from pe_toolkit.jobs.job import Job
from pe_toolkit.jobs.locks import held
from pe_toolkit.writing import write_atomically

MADE = ("card", "video", "reference")
"""Keys of a result that name files below the folder."""


class JobFolder:
    """Records of jobs below `path`, which is made if it is missing.

    Raises:
        OutputError: it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records = path / "records"
        try:
            self.records.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"Expected to make the folder {path}, but: {error.strerror or error}.",
                "Choose another place.",
            ) from error

    def file(self, job: Job) -> Path:
        """Where the record of a job is, or will be."""
        return self.records / f"{job.id}.json"

    def record(self, job: Job) -> dict[str, Any] | None:
        """What is known of a job; None if it never ended.

        Raises:
            PeError: the file is no record.
        """
        path = self.file(job)
        try:
            value: dict[str, Any] = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            raise _damaged(path) from error
        known = isinstance(value, dict) and value.get("job") == job.id
        if not (known and isinstance(value.get("result"), dict)):
            raise _damaged(path)
        return value

    def done(self, job: Job) -> dict[str, Any] | None:
        """The record of a job whose files are all there (`MADE`); None if it is to be done.

        Raises:
            PeError: as `record`.
        """
        record = self.record(job)
        if record is None:
            return None
        made = (record["result"].get(key) for key in MADE)
        there = all((self.path / name).is_file() for name in made if isinstance(name, str))
        return record if there else None

    def again(self, job: Job) -> None:
        """Let a job be done anew, whatever it made before."""
        self.file(job).unlink(missing_ok=True)

    def own(self, id: str, digest: str) -> None:
        """Note that a file with this SHA-256 is a job's to replace: until it is done no record says
        what it made, and whoever goes on has to know it from what somebody else put there.
        """
        with (self.records / f"{id}.own").open("a", encoding="ascii") as file:
            file.write(f"{digest}\n")

    def owned(self, id: str) -> set[str]:
        """What `own` noted of a job that is not done."""
        try:
            return set((self.records / f"{id}.own").read_text(encoding="ascii").split())
        except (OSError, ValueError):
            return set()

    def keep(self, job: Job, record: Mapping[str, Any]) -> None:
        """Write the record of a job that is done.

        Raises:
            OutputError: it cannot be written.
        """
        text = json.dumps(record, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
        write_atomically(self.file(job), [text.encode("utf-8", "backslashreplace")], force=True)
        (self.records / f"{job.id}.own").unlink(missing_ok=True)

    @contextlib.contextmanager
    def holding(self, job: Job) -> Iterator[None]:
        """Nobody else does this job while this is open; waits for whoever does."""
        with held(self.records / f".{job.id}.lock", wait=True):
            yield

    def note(self, job: Job, what: str) -> None:
        """A line in the journal. It is for people: where it cannot be written, nothing is said."""
        line = {"time": now(), "clock": round(time.time(), 3), "job": job.id}
        line |= {"what": what, "pid": os.getpid()}
        with (
            contextlib.suppress(OSError),
            (self.path / "journal.jsonl").open("ab") as file,
        ):
            file.write(json.dumps(line).encode() + b"\n")  # one write: lines of two never mix


def now() -> str:
    """The time in UTC, as records have it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _damaged(path: Path) -> PeError:
    return PeError(
        f"Expected the record of a job in {path}, but it is none.",
        "Delete the file: the job is done again.",
    )
