"""Doing one job, in whatever process."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import time
import traceback
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pe_toolkit.errors import PeError, out_of_memory
from pe_toolkit.jobs.folder import JobFolder, now
from pe_toolkit.jobs.job import Job, Outcome, Place

SOFTWARE = ("torch", "diffusers", "transformers")


def do(job: Job, path: Path, device: str | None) -> Outcome:
    """Do a job and write its record, unless it is done already. Its errors are its outcome; what
    the work prints, such as a metric of another package, goes to stderr: stdout is for data.

    Raises:
        KeyboardInterrupt, SystemExit: nothing else.
    """
    try:
        folder = JobFolder(path)
        with folder.holding(job):
            there = folder.done(job)
            if there is not None:
                return Outcome(job, "there", there)
            with contextlib.redirect_stdout(sys.stderr):
                record = _done(job, folder, device)
            return Outcome(job, "done", record)
    except PeError as error:
        return Outcome(job, "failed", None, error.message, error.hint)
    except Exception as error:
        if out_of_memory(error):
            hint = "Fewer at a time (--jobs), a smaller --backbone, or fewer --frames."
            return Outcome(job, "failed", None, "Out of memory.", hint)
        text = " ".join(str(error).split()) or "no message"
        message = f"Unexpected error: {type(error).__name__}: {text}"
        hint = "This should not happen. Please report it with the traceback (--debug)."
        return Outcome(job, "failed", None, message, hint, traceback.format_exc())


def _done(job: Job, folder: JobFolder, device: str | None) -> dict[str, Any]:
    module, _, name = job.work.partition(":")
    folder.note(job, "begin")
    began, clock = now(), time.monotonic()
    result = getattr(import_module(module), name)(
        dict(job.args), Place(folder.path, job.id, device)
    )
    record = {
        "job": job.id,
        "work": job.work,
        "args": dict(job.args),
        "result": result,
        "run": {
            "began": began,
            "seconds": round(time.monotonic() - clock, 3),
            "device": result.pop("device", None) or device or "cpu",
            "machine": platform.node(),
            "threads": os.environ.get("OMP_NUM_THREADS"),
            "versions": versions(),
        },
    }
    folder.keep(job, record)
    folder.note(job, "end")
    return record


def versions() -> dict[str, str]:
    """Of everything that decides what a result looks like."""
    import pe_toolkit

    found = {"pe-toolkit": pe_toolkit.__version__, "python": platform.python_version()}
    for name in SOFTWARE:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
