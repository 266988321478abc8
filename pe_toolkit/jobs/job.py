"""What a job is, and how one ends."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class Job:
    """One piece of work.

    Attributes:
        name: for people and for file names, as `pe_toolkit.video.names.file_name` makes them.
        work: `module:function`, called with `args` and a `Place`; what it returns, a dictionary
            that JSON can hold, is the job's result.
        args: what JSON can hold. Other arguments are another job.
        needs: ids of the jobs that have to be done before.
    """

    name: str
    work: str
    args: Mapping[str, Any] = field(hash=False)
    needs: tuple[str, ...] = ()

    @functools.cached_property
    def id(self) -> str:
        """The name, and ten digits that stand for what is done."""
        text = json.dumps([self.work, self.args], sort_keys=True, allow_nan=False)
        return f"{self.name}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


@dataclass(frozen=True)
class Place:
    """Where a job works.

    Attributes:
        folder: that of the whole list: results go below it.
        id: of the job: names that no other job uses.
        device: as `load_backbone` takes it; None for its choice.
    """

    folder: Path
    id: str
    device: str | None = None


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes:
        state: `done`; `there`: it was done before, perhaps by somebody else just now; `failed`.
        record: what is in its file; None if it failed.
        message, hint: what went wrong, and what to do next.
        trace: of an error that nobody expected; "" otherwise.
    """

    job: Job
    state: Literal["done", "there", "failed"]
    record: Mapping[str, Any] | None = None
    message: str = ""
    hint: str | None = None
    trace: str = ""
