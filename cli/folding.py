"""Lines for a terminal of some width, broken between words and never inside a command."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from typing import TextIO

_COMMAND = re.compile(
    r"(?<=[:.,] )(?:then |or )?(?:pe [a-z]+|pip install|hf auth|mkdir|export|python -m) .*$"
)
"""What a person copies: to the end of the line, on a line of its own."""
LEAST = 40


def width_of(stream: TextIO) -> int | None:
    """Columns of the terminal behind `stream`, None for a file: it gets whole lines."""
    try:
        if not stream.isatty():
            return None
    except (AttributeError, ValueError):  # closed, or not a file at all
        return None
    import shutil  # here, because every command imports this file

    return max(LEAST, shutil.get_terminal_size().columns)


def fold(text: str, width: int | None, indent: str = "") -> str:
    """`text` with its lines broken between words at `width`; what comes after the first is
    indented. A command at the end of a line stays whole, so that it can be copied.
    """
    if width is None:
        return text
    return "\n".join(
        part for line in text.split("\n") for part in _folded(line, width, indent)
    )  # fmt: skip


def _folded(line: str, width: int, indent: str) -> Iterator[str]:
    if len(line) <= width:
        yield line
        return
    match = _COMMAND.search(line)
    head = line[: match.start()].rstrip() if match else line
    own = line[: len(line) - len(line.lstrip())] + indent
    yield from textwrap.wrap(
        head, width, subsequent_indent=own, break_long_words=False, break_on_hyphens=False
    ) or [""]  # fmt: skip
    if match:
        yield own + match[0]


def column(name: str, value: str, width: int, total: int | None) -> Iterator[str]:
    """`name  value` with the value beside it, or below it where one of its words is too long."""
    indent = " " * (width + 2)
    first = f"{name:<{width}}  "
    for line in value.split("\n"):
        if total is not None and max(map(len, line.split()), default=0) > total - len(indent):
            yield first.rstrip()
            first = "  "
            yield from textwrap.wrap(
                line, total, initial_indent="  ", subsequent_indent="  ",
                break_long_words=False, break_on_hyphens=False,
            )  # fmt: skip
        elif total is not None and len(first) + len(line) > total:
            yield from textwrap.wrap(
                line, total, initial_indent=first, subsequent_indent=indent,
                break_long_words=False, break_on_hyphens=False,
            )  # fmt: skip
        else:
            yield (first + line).rstrip()
        first = indent
