"""Running a list of jobs: what is done is skipped, what fails stops nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pe_toolkit.jobs.folder import JobFolder
from pe_toolkit.jobs.job import Job, Outcome
from pe_toolkit.jobs.pools import Pool


@dataclass
class Tally:
    """How a list of jobs went.

    Attributes:
        there: ids of jobs that were done before, or by another run meanwhile.
        done: ids of jobs that this run did.
        failed: how each of the others ended.
    """

    there: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    failed: list[Outcome] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """Count one more."""
        if outcome.state == "failed":
            self.failed.append(outcome)
        else:
            (self.done if outcome.state == "done" else self.there).append(outcome.job.id)


def run(jobs: Sequence[Job], folder: JobFolder, pool: Pool) -> Iterator[Outcome]:
    """Do all jobs that are not done yet, as many at a time as the pool takes.

    A job begins when those that it needs are done; if one of them failed, it fails, too.

    Yields:
        How each job ended: those that were there first, the others as they end.

    Raises:
        PeError: as `JobFolder.done`.
        ValueError: a job needs one that is neither in the list nor before it.
    """
    known: set[str] = set()
    for job in jobs:
        if lacking := set(job.needs) - known:
            raise ValueError(f"{job.id} needs {', '.join(sorted(lacking))}")
        known.add(job.id)
    ended: dict[str, Outcome] = {}
    waiting: dict[str, Job] = {}
    for job in jobs:
        record = folder.done(job)
        if record is None:
            waiting[job.id] = job
        elif job.id not in ended:
            ended[job.id] = Outcome(job, "there", record)
            yield ended[job.id]
    running = 0
    while waiting or running:
        for job in _ready(waiting, ended):
            lost = [ended[need].job for need in job.needs if ended[need].state == "failed"]
            if lost:
                ended[job.id] = _without(waiting.pop(job.id), lost[0])
                yield ended[job.id]
            elif pool.free > 0:
                pool.submit(waiting.pop(job.id))
                running += 1
        if running:
            outcome = pool.wait()
            running -= 1
            ended[outcome.job.id] = outcome
            yield outcome


def _ready(waiting: dict[str, Job], ended: dict[str, Outcome]) -> list[Job]:
    return [job for job in waiting.values() if all(need in ended for need in job.needs)]


def _without(job: Job, lost: Job) -> Outcome:
    return Outcome(job, "failed", None, f"Expected {lost.name} to be done before, but it failed.")
