"""What the jobs of tests/test_jobs.py do; importable in the processes that do them."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from pe_toolkit.errors import ClipError
from pe_toolkit.jobs.job import Place


def square(args: dict[str, Any], place: Place) -> dict[str, Any]:
    """The number, squared; leaves a line in the file `done`, to be counted."""
    with (place.folder / "done").open("a") as file:
        file.write(f"{args['number']}\n")
    return {"square": args["number"] ** 2, "pid": os.getpid()}


def refuse(args: dict[str, Any], place: Place) -> dict[str, Any]:
    raise ClipError(f"Expected a clip, got {args['number']}.", "Use another one.")


def break_down(args: dict[str, Any], place: Place) -> dict[str, Any]:
    raise RuntimeError("a bug")


def die_once(args: dict[str, Any], place: Place) -> dict[str, Any]:
    """Kills its own process the first time."""
    mark = place.folder / f"died-{args['number']}"
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return square(args, place)


def die(args: dict[str, Any], place: Place) -> dict[str, Any]:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def wait_for(args: dict[str, Any], place: Place) -> dict[str, Any]:
    """Says that it began, and ends when the file `go` is there."""
    (place.folder / f"began-{os.getpid()}").touch()
    go = Path(args["go"])
    deadline = time.monotonic() + 60
    while not go.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return square(args, place)


def write(args: dict[str, Any], place: Place) -> dict[str, Any]:
    """A file, which the result names."""
    name = f"n{args['number']}.txt"
    (place.folder / name).write_text(str(args["number"]))
    return {"video": name}
