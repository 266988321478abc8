"""The one sink of the command line: talk on stderr, data on stdout, `--json` as lines of JSON.

Everything that is printed passes `printable`, so that neither a card from a stranger nor a file
name can steer the terminal.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TextIO

import click

from pe_toolkit.cli.folding import column, fold, width_of


def safe(text: str) -> str:
    """`text` with control and direction-changing characters as escapes; line breaks stay."""
    from pe_toolkit.shown import printable

    return "\n".join(printable(line) for line in text.split("\n"))


class Output:
    """Where a command says things.

    Attributes:
        json: print events and results as JSON lines on stdout instead of text.
    """

    def __init__(self, json: bool = False) -> None:
        self.json = json
        self.bars: Any = None
        """The live rich display, while there is one: text must go above its bars."""

    def talk(self, text: str) -> None:
        """A remark for a person, on stderr; an event `message` under `--json`."""
        if self.json:
            self.event("message", text=text)
        else:
            self._stderr(text)

    def warn(self, text: str) -> None:
        """Something that may not be what the user wants; on stderr in both modes."""
        self._stderr(f"Warning: {text}")
        if self.json:
            self.event("warning", text=text)

    def error(self, message: str, hint: str | None, exit_code: int) -> None:
        """`Error:` and `Hint:` on stderr; under `--json` also the last line on stdout."""
        self.fail(message, hint)
        with contextlib.suppress(OSError):  # stdout may be what went wrong
            self.event("error", message=message, hint=hint, exit_code=exit_code)

    def fail(self, message: str, hint: str | None) -> None:
        """`Error:` and `Hint:` on stderr, in both modes."""
        self._stderr(f"Error: {message}")
        if hint:
            self._stderr(f"Hint: {hint}")

    def trace(self, text: str) -> None:
        """A traceback, on stderr in both modes."""
        self._print(text.rstrip("\n"))

    def data(self, text: str) -> None:
        """A result for people, on stdout; nothing under `--json`, where `event` carries it."""
        if not self.json:
            _stdout(safe(text))

    def event(self, name: str, /, **fields: Any) -> None:
        """One JSON object on one line of stdout, under `--json` only."""
        if self.json:
            # ASCII only: no character of a card can act on a terminal, and any locale can print it.
            _stdout(json.dumps({"event": name} | plain(fields), allow_nan=False))

    def pass_on(self, event: object) -> None:
        """An event of the library: `GuidedStep(...)` -> `{"event": "guided-step", ...}`."""
        if self.json and dataclasses.is_dataclass(event):
            name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", type(event).__name__).lower()
            fields = {f.name: getattr(event, f.name) for f in dataclasses.fields(event)}
            self.event(name, **{k: v for k, v in fields.items() if _small(v)})

    def table(self, rows: Mapping[str, object]) -> None:
        """Two aligned columns on stdout; lines of one value stay together."""
        for line in aligned(rows, width_of(sys.stdout)):
            self.data(line)

    def made(self, paths: Iterable[object], rows: Mapping[str, object]) -> None:
        """Files that were made. A person gets the table `rows` of them; a program that reads stdout
        gets the bare `paths`, one a line, and the table goes to stderr.
        """
        if self.json:
            return
        if sys.stdout.isatty():
            self.table(rows)
            return
        for line in aligned(rows, width_of(sys.stderr)):
            self._print(line)
        for path in paths:
            self.data(str(path))

    def _stderr(self, text: str) -> None:
        self._print(fold(text, width_of(sys.stderr), "  "))

    def _print(self, text: str) -> None:
        try:
            if self.bars is not None:
                self.bars.console.print(safe(text), markup=False, highlight=False, soft_wrap=True)
            else:
                click.echo(safe(text), err=True)
        except OSError:  # nobody listens any more, or a log is full: the work is not lost for it
            deaf(sys.stderr)


def aligned(rows: Mapping[str, object], total: int | None = None) -> Iterator[str]:
    """The lines of two columns, `total` characters wide at most; None: as long as they are."""
    width = max(map(len, rows), default=0)
    for name, value in rows.items():
        yield from column(name, str(value), width, total)


def _stdout(text: str) -> None:
    """Print a line on stdout. A reader that has seen enough (`pe show CARD | head`) is no error:
    the work goes on, and what else is said there goes nowhere.
    """
    try:
        click.echo(text)
        sys.stdout.flush()
    except BrokenPipeError:
        deaf(sys.stdout)


def deaf(stream: TextIO) -> None:
    """Send everything that is still written to a stream to nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _small(value: object) -> bool:
    """Whether a value belongs into a line of JSON: frames, tensors and whole cards do not."""
    return getattr(value, "ndim", 0) == 0 and not hasattr(value, "tensors")


def plain(value: Any) -> Any:
    """`value` as JSON types: paths as text, NaN and infinity as null, numpy numbers as numbers,
    dataclasses as objects.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if value is None or isinstance(value, str | bool | int):
        return value
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list | tuple | set | frozenset) or hasattr(value, "__iter__"):
        return [plain(item) for item in value]
    return str(value)


def size_text(count: float) -> str:
    """Bytes for people: `1536` -> `1.5 kB`."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError
