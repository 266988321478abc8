"""Jobs in processes of their own: one for each device of this machine.

A worker that dies (a kill, a crash of a driver) takes its job with it, which is given to another
one. If the process that gives out jobs dies, its workers end after the job that they are at.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import TracebackType
from typing import Self

from pe_toolkit.jobs.job import Job, Outcome
from pe_toolkit.jobs.work import do

ATTEMPTS = 3
"""How often a job is given out whose workers die."""


@dataclass
class _Worker:
    device: str | None
    process: SpawnProcess
    pipe: Connection
    job: Job | None = None


class Processes:
    """Spawned workers.

    Args:
        path: folder of the records.
        devices: one worker for each, as `load_backbone` takes it.
        threads: of each worker, for what is computed on the CPU; None: as many as it likes.
    """

    def __init__(
        self, path: Path, devices: Sequence[str | None], threads: int | None = None
    ) -> None:
        self._path, self._devices, self._threads = path, devices, threads
        self._workers: list[_Worker] = []
        self._attempts: dict[str, int] = {}

    @property
    def pids(self) -> list[int]:
        """Of the workers that are at work."""
        return [w.process.pid for w in self._workers if w.job is not None and w.process.pid]

    @property
    def free(self) -> int:
        return len(self._devices) - sum(worker.job is not None for worker in self._workers)

    def submit(self, job: Job) -> None:
        self._attempts[job.id] = 1
        self._give(job)

    def wait(self) -> Outcome:
        while True:
            busy = {worker.pipe: worker for worker in self._workers if worker.job is not None}
            worker = busy[wait(list(busy))[0]]  # type: ignore[index]
            job = worker.job
            assert job is not None
            try:
                outcome = worker.pipe.recv()
            except (EOFError, OSError):
                if (lost := self._lost(worker, job)) is not None:
                    return lost
                continue
            worker.job = None
            assert isinstance(outcome, Outcome)
            return outcome

    def _lost(self, worker: _Worker, job: Job) -> Outcome | None:
        """Another worker for the job of a dead one; how it ended if that makes no sense."""
        self._workers.remove(worker)
        worker.pipe.close()
        worker.process.join()
        if self._attempts[job.id] < ATTEMPTS:
            self._attempts[job.id] += 1
            self._give(job)
            return None
        code = worker.process.exitcode or 0
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return Outcome(
            job,
            "failed",
            None,
            f"Expected a worker to do {job.name}, but {ATTEMPTS} of them died ({how}).",
            "Signal 9 is often a machine without memory: fewer at a time (--jobs).",
        )

    def _give(self, job: Job) -> None:
        idle = next((worker for worker in self._workers if worker.job is None), None)
        if idle is None:
            taken = [worker.device for worker in self._workers]
            device = next(d for d in self._devices if taken.count(d) < self._devices.count(d))
            idle = self._start(device)
        idle.job = job
        # If it died idle, `wait` finds that out, and gives the job to another one.
        with contextlib.suppress(BrokenPipeError, ConnectionError):
            idle.pipe.send(job)

    def _start(self, device: str | None) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        with _environment(self._threads):
            process = context.Process(target=_serve, args=(theirs, self._path, device), daemon=True)
            process.start()
        theirs.close()
        worker = _Worker(device, process, ours)
        self._workers.append(worker)
        return worker

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in self._workers:
            worker.pipe.close()  # the idle ones end by themselves
            if worker.job is not None:
                worker.process.terminate()
        for worker in self._workers:
            worker.process.join()
        self._workers.clear()


QUIET = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",  # of several workers at once, nobody can read them
    # multiprocessing warns at exit of what killed workers left; the system has freed it by then.
    "PYTHONWARNINGS": "ignore::UserWarning:multiprocessing.resource_tracker",
}


@contextlib.contextmanager
def _environment(threads: int | None) -> Iterator[None]:
    """What a new process finds in its environment; most of it is read once, at imports."""
    wanted = QUIET | ({} if threads is None else {"OMP_NUM_THREADS": str(threads)})
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _serve(pipe: Connection, path: Path, device: str | None) -> None:
    """A worker's life."""
    # Ctrl-C goes to the whole group; whoever gives out the jobs ends this process as well.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        try:
            job = pipe.recv()
        except (EOFError, OSError):
            return
        outcome = do(job, path, device)
        with contextlib.suppress(BrokenPipeError, ConnectionError):
            pipe.send(outcome)
