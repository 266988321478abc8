"""Where the jobs of a command are done: here, in processes, on a cluster."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pe_toolkit.cli import machine
from pe_toolkit.cli.requests.eval import JobOptions
from pe_toolkit.errors import UsageError

if TYPE_CHECKING:
    from pe_toolkit.jobs.pools import Pool


def pool_for(
    options: JobOptions, path: Path, device: str | None, *, small: bool
) -> tuple[Pool, str]:
    """The pool, and in words what it is.

    Args:
        path: folder of the records.
        device: as `--device` says.
        small: whether the backbone is one for CPUs.

    Raises:
        UsageError: options that contradict each other.
        DependencyError, PeError: as `pe_toolkit.jobs.cluster.Cluster`.
    """
    if options.ray is not None:
        if options.jobs is not None:
            raise UsageError(
                "Expected --jobs or --ray, got both.", "A cluster takes as many as it has places."
            )
        from pe_toolkit.jobs.cluster import Cluster

        gpus = options.gpus_per_job
        if gpus is None:
            gpus = 0.0 if small or device == "cpu" else 1.0
        return Cluster(path, options.ray, gpus), f"a Ray cluster, {gpus:g} GPUs a job"
    if options.gpus_per_job is not None:
        raise UsageError("Expected --gpus-per-job with --ray, got it without.")
    devices = places(options.jobs, device, len(machine.gpus()[0]))
    if len(devices) == 1:
        from pe_toolkit.jobs.pools import Here

        if not sys.stderr.isatty():  # bars of the libraries, for nobody
            os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        return Here(path, devices[0]), f"one process on {devices[0] or 'the CPU'}"
    from pe_toolkit.jobs.processes import Processes

    threads = None
    if "OMP_NUM_THREADS" not in os.environ and not any(devices):
        threads = max(1, (os.cpu_count() or 1) // len(devices))
    words = ", ".join(dict.fromkeys(place or "cpu" for place in devices))
    return Processes(path, devices, threads), f"{len(devices)} processes on {words}"


def places(jobs: int | None, device: str | None, gpus: int) -> list[str | None]:
    """A device for each process: every GPU once, or in turn as often as there are jobs."""
    if device is None and gpus:
        count = jobs or gpus
        return [f"cuda:{index % gpus}" for index in range(count)]
    return [device] * (jobs or 1)
