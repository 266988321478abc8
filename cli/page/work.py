"""One piece of work at a time: everything that needs the model waits in one queue, in one thread.

A job belongs to no tab. Closing the tab that asked for it stops nothing; a tab that is opened later
can watch it, and stop it.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["waiting", "running", "done", "stopped", "failed"]
Explain = Callable[[BaseException], tuple[str, str | None]]

PACE = 0.25
"""Seconds between two looks at a job: as fast as a person can follow."""


class Stopped(Exception):  # noqa: N818 - no error: somebody asked for it
    """The work was asked to stop, and did."""


@dataclass(eq=False)
class Job:
    """A piece of work, and how far it is.

    Attributes:
        title: for people, such as "Training wave".
        kind: what it is for the page: `load`, `see`, `train` or `make`.
        task: does it, and tells the job how far it is. What it returns is the `result`.
        share: of it that is done, in [0, 1].
        note: what it does just now.
        words, warnings: what the library had to say.
        losses: of a training, one per optimiser step.
        made: results that are there before the end.
        error: message and hint of what went wrong.
    """

    title: str
    kind: str
    task: Callable[[Job], Any]
    number: int = 0
    state: State = "waiting"
    share: float = 0.0
    note: str = ""
    words: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    made: list[Any] = field(default_factory=list)
    result: Any = None
    error: tuple[str, str | None] | None = None
    asked_to_stop: bool = False
    _changes: int = 0
    _lock: threading.Condition = field(default_factory=threading.Condition)

    @property
    def over(self) -> bool:
        """Whether it ended, one way or another."""
        return self.state in ("done", "stopped", "failed")

    def tell(self, share: float | None = None, note: str | None = None) -> None:
        """How far it is; stops the work if somebody asked for that.

        Raises:
            Stopped: somebody did.
        """
        self.share = self.share if share is None else min(share, 1.0)
        self.note = self.note if note is None else note
        self.changed()
        if self.asked_to_stop:
            raise Stopped

    def changed(self) -> None:
        """Wake up whoever watches."""
        with self._lock:
            self._changes += 1
            self._lock.notify_all()

    def watch(self) -> Iterator[Job]:
        """The job, whenever something changed, and a last time when it is over."""
        seen = -1
        while True:
            with self._lock:
                self._lock.wait_for(lambda before=seen: self._changes != before)  # type: ignore[misc]
                seen, over = self._changes, self.over
            yield self
            if over:
                return
            with self._lock:
                self._lock.wait_for(lambda: self.over, PACE)


class Work:
    """The queue and its thread.

    Args:
        explain: message and hint of an exception, for people.
    """

    def __init__(self, explain: Explain) -> None:
        self._explain = explain
        self._jobs: list[Job] = []
        self._numbers = itertools.count(1)
        self._lock = threading.Condition()
        self._closed = False
        self.thread = threading.Thread(target=self._loop, name="pe-work", daemon=True)
        self.thread.start()

    @property
    def running(self) -> Job | None:
        """What is worked at just now."""
        return next((job for job in self._jobs if job.state == "running"), None)

    def submit(self, title: str, kind: str, task: Callable[[Job], Any]) -> Job:
        """Put a piece of work at the end of the queue."""
        job = Job(title, kind, task)
        with self._lock:
            job.number = next(self._numbers)
            self._jobs.append(job)
            self._lock.notify_all()
        return job

    def job(self, number: int) -> Job | None:
        """The job of that number."""
        return next((job for job in self._jobs if job.number == number), None)

    def last(self, kind: str) -> Job | None:
        """The newest job of a kind: the running one if there is one, else the last that was asked
        for. For a page that is opened, or opened again.
        """
        found = [job for job in self._jobs if job.kind == kind]
        running = [job for job in found if job.state == "running"]
        return next(iter(running or reversed(found)), None)

    def before(self, job: Job) -> list[Job]:
        """What is done before it."""
        return [other for other in self._jobs if not other.over and other.number < job.number]

    def stop(self, number: int) -> None:
        """Have a job stop: at once if it waits, else at its next step."""
        job = self.job(number)
        if job is None or job.over:
            return
        with self._lock:
            job.asked_to_stop = True
            if job.state == "waiting":
                job.state = "stopped"
        job.changed()

    def close(self, seconds: float) -> bool:
        """Stop everything and wait for it.

        Returns:
            Whether the work has ended.
        """
        with self._lock:
            self._closed = True
            self._lock.notify_all()
        for job in list(self._jobs):
            self.stop(job.number)
        self.thread.join(seconds)
        return not self.thread.is_alive()

    def _loop(self) -> None:
        while (job := self._next()) is not None:
            self._do(job)
            for other in list(self._jobs):  # their place in the queue is another
                if not other.over:
                    other.changed()

    def _next(self) -> Job | None:
        with self._lock:
            while not self._closed:
                job = next((job for job in self._jobs if job.state == "waiting"), None)
                if job is not None:
                    job.state = "running"
                    return job
                self._lock.wait()
            return None

    def _do(self, job: Job) -> None:
        began = time.monotonic()
        job.changed()
        try:
            job.result = job.task(job)
            job.share, state = 1.0, "done"
        except Stopped:
            state = "stopped"
        except BaseException as error:
            job.error, state = self._explain(error), "failed"
        job.note = f"{time.monotonic() - began:.0f} s"
        job.state = state  # type: ignore[assignment]
        job.task = _nothing  # what it holds, such as a model, may go
        job.changed()


def _nothing(job: Job) -> None:
    """In place of a task that was done."""
