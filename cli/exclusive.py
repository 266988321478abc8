"""One process at a time for one output: the second is refused before it has done any work."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from pe_toolkit.errors import UsageError
from pe_toolkit.jobs.locks import HeldError, held


@contextlib.contextmanager
def only_one(output: Path) -> Iterator[None]:
    """Hold `OUTPUT.lock` while this is open. The system frees the lock of a process that dies.

    Where a lock cannot be had (Windows, some network folders), nothing is checked.

    Raises:
        UsageError: another process holds it.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(held(output.with_name(output.name + ".lock"), wait=False))
        except HeldError as error:
            raise UsageError(
                f"Expected no other training into {output}, but one is at work.",
                "Wait for it, or choose another -o.",
            ) from error
        yield
