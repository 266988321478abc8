"""A lock that the system frees when its holder dies."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


class HeldError(Exception):
    """Another process holds the lock."""


@contextlib.contextmanager
def held(place: Path, *, wait: bool) -> Iterator[None]:
    """Hold the file `place` as a lock; it is gone afterwards.

    Where a lock cannot be had (Windows, some network folders), nothing is checked.

    Args:
        wait: until another process has let go of it.

    Raises:
        HeldError: without `wait`, if another process holds it.
    """
    handle = _take(place, wait)
    try:
        yield
    finally:
        if handle is not None:
            with contextlib.suppress(OSError):
                place.unlink()  # while it is still ours
            os.close(handle)


def _take(place: Path, wait: bool) -> int | None:
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
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            os.close(handle)
            raise HeldError from error
        except OSError:  # a file system without locks
            os.close(handle)
            place.unlink(missing_ok=True)
            return None
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(handle), os.stat(place)):
                return handle
        os.close(handle)  # its last holder took the file away in between: once more
