"""One process at a time for one output: the second is refused before it has done any work."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from pe_toolkit.errors import UsageError


@contextlib.contextmanager
def only_one(output: Path) -> Iterator[None]:
    """Hold `OUTPUT.lock` while this is open. The system frees the lock of a process that dies.

    Where a lock cannot be had (Windows, some network folders), nothing is checked.

    Raises:
        UsageError: another process holds it.
    """
    place = output.with_name(output.name + ".lock")
    handle = _take(place, output)
    try:
        yield
    finally:
        if handle is not None:
            with contextlib.suppress(OSError):
                place.unlink()  # while it is still ours
            os.close(handle)


def _take(place: Path, output: Path) -> int | None:
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    while True:
        try:
            handle = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError:  # what cannot be written is said elsewhere, with better words
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(handle)
            raise UsageError(
                f"Expected no other training into {output}, but one is at work.",
                "Wait for it, or choose another -o.",
            ) from error
        except OSError:  # a file system without locks
            os.close(handle)
            place.unlink(missing_ok=True)
            return None
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(handle), os.stat(place)):
                return handle
        os.close(handle)  # its last holder took the file away in between: once more
