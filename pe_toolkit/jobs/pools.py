"""Where jobs are done: what every pool can, and the one that does them in this process."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from pe_toolkit.jobs.job import Job, Outcome
from pe_toolkit.jobs.work import do


class Pool(Protocol):
    """A place that does jobs; use it in a `with` block. Leaving it ends what is still at work."""

    @property
    def free(self) -> int:
        """How many more jobs it takes now."""
        ...

    def submit(self, job: Job) -> None:
        """Begin a job; only while there is a place free."""
        ...

    def wait(self) -> Outcome:
        """How one of the jobs at work ended; only while there is one."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Here:
    """In this process, one job at a time.

    Args:
        path: folder of the records.
        device: as `load_backbone` takes it.
    """

    def __init__(self, path: Path, device: str | None = None) -> None:
        self._path, self._device = path, device
        self._job: Job | None = None

    @property
    def free(self) -> int:
        return 0 if self._job else 1

    def submit(self, job: Job) -> None:
        self._job = job

    def wait(self) -> Outcome:
        assert self._job is not None
        job, self._job = self._job, None
        return do(job, self._path, self._device)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None
