"""Write docs/cli.md from the commands' own help, so that it cannot drift.

python docs/generate_cli.py            # write
python docs/generate_cli.py --check    # exit 1 and show the difference if it is out of date
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from pe_toolkit.cli.main import cli

PAGE = Path(__file__).with_name("cli.md")
WIDTH = 100
HEAD = """\
# The command line

<!-- Written by docs/generate_cli.py from the commands themselves: edit those, then `make docs`. -->

Exit codes: 0 done, 1 it went wrong, 2 the request makes no sense, 3 a card was made, but there was
little to learn from in its reference, 130 interrupted (Ctrl-C).
"""


def commands(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """(`pe train`, its help text) for a command and everything below it."""
    # Width and colour are given here: the page must not depend on who writes it, and where.
    with click.Context(
        command,
        info_name=" ".join(path),
        terminal_width=WIDTH,
        max_content_width=WIDTH,
        color=False,
        help_option_names=["-h", "--help"],
    ) as context:
        yield " ".join(path), command.get_help(context)
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                child = command.get_command(context, name)
                if child is not None and not child.hidden:
                    yield from commands(child, (*path, name))


def page() -> str:
    """The whole of docs/cli.md."""
    parts = [HEAD]
    for name, text in commands(cli, ("pe",)):
        lines = "\n".join(line.rstrip() for line in text.splitlines())
        parts.append(f"## {name}\n\n```text\n{lines}\n```\n")
    return "\n".join(parts)


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    wanted = page()
    if not parser.parse_args().check:
        PAGE.write_text(wanted, encoding="utf-8", newline="\n")
        return 0
    found = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    if found == wanted:
        return 0
    difference = difflib.unified_diff(
        found.splitlines(), wanted.splitlines(), "docs/cli.md", "the commands' help", lineterm=""
    )
    print("\n".join(difference))
    print("docs/cli.md is out of date: run `make docs`.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
