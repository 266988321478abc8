"""Progress: bars on a terminal, plain lines elsewhere, events under `--json`."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

from pe_toolkit.cli.output import Output

PATIENCE = 0.5
"""Seconds."""


class Progress:
    """A bar over `total` things with a note; use it in a `with` block.

    Args:
        out: the sink; nothing is drawn under `--json`.
        what: what is counted, such as "guided steps".
        total: how many there are.
    """

    def __init__(self, out: Output, what: str, total: int) -> None:
        self.out, self.what, self.total = out, what, total
        self.done = 0.0
        self.live = not out.json and sys.stderr.isatty()
        self._began, self._base = time.monotonic(), 0.0
        self._task: Any = None

    def __enter__(self) -> Self:
        if self.live:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                TextColumn,
                TimeRemainingColumn,
            )
            from rich.progress import Progress as Bars

            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}", markup=False),
                TimeRemainingColumn(compact=True),
            )
            self.out.bars = Bars(*columns, console=Console(stderr=True)).__enter__()
            self._task = self.out.bars.add_task(self.what, total=self.total, note="")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        bars, self.out.bars = self.out.bars, None
        if bars is not None:
            bars.__exit__(kind, value, trace)

    def reach(self, count: int) -> None:
        """`count` things are done; seen on a terminal only."""
        self.done = float(count)
        self._draw("")

    def at(self, count: float, note: str) -> None:
        """`count` things are done; on a terminal the bar, elsewhere a line."""
        self.done = count
        if self.live:
            self._draw(note)
        elif not self.out.json:
            self.out.talk(f"{self.what}: {note}")

    def skip(self, count: int) -> None:
        """`count` things were done in an earlier run: they say nothing about the pace."""
        self.done = self._base = float(count)
        self._began = time.monotonic()
        self._draw("")

    def part(self, fraction: float, note: str) -> None:
        """Part of the current thing is done; seen on a terminal only."""
        if self.live:
            self.out.bars.update(self._task, completed=self.done + min(fraction, 1.0), note=note)

    def step(self, note: str) -> None:
        """One more is done."""
        self.done += 1
        if self.live:
            self._draw(note)
        elif not self.out.json:
            rest = self.remaining()
            eta = f", about {rest:.0f} s left" if rest is not None and rest >= 1 else ""
            self.out.talk(f"{self.what} {self.done:.0f}/{self.total}: {note}{eta}")

    def remaining(self) -> float | None:
        """Seconds that the rest will take at the pace so far, or None if nothing is done yet."""
        count = self.done - self._base
        if count <= 0:
            return None
        return (time.monotonic() - self._began) / count * max(self.total - self.done, 0)

    def _draw(self, note: str) -> None:
        if self.live:
            self.out.bars.update(self._task, completed=self.done, note=note)


@contextlib.contextmanager
def reading(out: Output) -> Iterator[Callable[[int, int], None]]:
    """The `on_progress` of `read_clip`: a bar, once reading has taken longer than a person waits
    without a question.
    """
    began, bar = time.monotonic(), None
    with contextlib.ExitStack() as stack:

        def draw(done: int, total: int) -> None:
            nonlocal bar
            if bar is not None and (total != bar.total or done == 1):  # begins again
                stack.close()
                bar = None
            if bar is None and time.monotonic() - began > PATIENCE:
                bar = stack.enter_context(Progress(out, "frame read", total))
            if bar is not None:
                bar.reach(done)

        yield draw
