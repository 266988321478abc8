"""Jobs on a Ray cluster: one task for each, with its share of a GPU. Needs the extra `ray`.

The folder of the records, and whatever a job reads, has to be seen by all machines under the same
path. A task whose worker or machine dies is given out again by Ray; its record and its lock see to
it that nothing is done twice.
"""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pe_toolkit.errors import DependencyError, PeError
from pe_toolkit.jobs.job import Job, Outcome
from pe_toolkit.jobs.processes import ATTEMPTS
from pe_toolkit.jobs.work import do


class Cluster:
    """Tasks on a Ray cluster.

    Args:
        path: folder of the records, seen by all machines.
        address: of the cluster, as `ray.init` takes it: `auto`, `HOST:PORT`, `ray://HOST:PORT`.
        gpus: share of a GPU that a job gets; 0 for jobs on the CPU.
        cpus: how many CPUs a job gets.

    Raises:
        DependencyError: Ray is not installed.
        PeError: there is no cluster at that address.
    """

    def __init__(self, path: Path, address: str, gpus: float = 0.0, cpus: int = 1) -> None:
        self._ray = _connect(address)
        self._path = path.absolute()
        self._task = self._ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=ATTEMPTS - 1)(do)
        self._gpus = gpus
        self._jobs: dict[Any, Job] = {}

    @property
    def free(self) -> int:
        return 1  # Ray keeps what it has no place for yet

    def submit(self, job: Job) -> None:
        device = None if self._gpus else "cpu"
        self._jobs[self._task.remote(job, self._path, device)] = job

    def wait(self) -> Outcome:
        (task, *_), _ = self._ray.wait(list(self._jobs), num_returns=1)
        job = self._jobs.pop(task)
        try:
            outcome = self._ray.get(task)
        except self._ray.exceptions.RayError as error:  # not what the job raised: that is its end
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            return Outcome(
                job,
                "failed",
                None,
                f"Expected a Ray task to do {job.name}, but it was lost: {first}",
                "See the dashboard or the logs of the cluster; the same command does what is left.",
            )
        assert isinstance(outcome, Outcome)
        return outcome

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for task in self._jobs:
            with contextlib.suppress(self._ray.exceptions.RayError):
                self._ray.cancel(task, force=True)
        self._jobs.clear()


def _connect(address: str) -> Any:
    try:
        import ray
    except ImportError as error:
        raise DependencyError(
            "Expected Ray for --ray, but it is not installed.", "pip install 'pe-toolkit[ray]'"
        ) from error
    if not ray.is_initialized():
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, RuntimeError) as error:
            first = " ".join(str(error).split())[:200]
            raise PeError(
                f"Expected a Ray cluster at {address}, but: {first}.",
                "Begin one with `ray start --head`, and name its address.",
            ) from error
    return ray
