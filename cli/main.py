"""The `pe` command: a group that imports a command only when it is run, and the entry point.

`pe --help`, `pe --version`, `pe show` and `pe verify` must start fast: nothing here, and nothing
at the top of a command's module, may import torch, diffusers, numpy or rich.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import click

from pe_toolkit.cli.errors import Session, interruptible, plain_warnings, report
from pe_toolkit.cli.options import debug_option
from pe_toolkit.cli.output import deaf
from pe_toolkit.shown import printable

COMMANDS = {
    "train": "Learn the motion of a clip: reference clip -> motion card.",
    "apply": "Generate new videos that move as a motion card says.",
    "eval": "Measure a video against its reference, or methods on many clips.",
    "flow": "See what would be learned of a clip, before training.",
    "show": "Say what is in a motion card.",
    "verify": "Check motion cards completely.",
    "add": "Keep a card in the local registry.",
    "list": "Say what is in the local registry.",
    "edit": "Correct what a card says of itself, or edit its motion, without training.",
    "tag": "Give a card in the local registry another name or version.",
    "rm": "Remove cards from the local registry: `--undo` brings them back.",
    "gc": "Delete what was removed from the local registry, for ever.",
    "lock": "Pin the cards of a project by the SHA-256 of their files.",
    "push": "Bring a card to the Hugging Face Hub.",
    "pull": "Fetch a card from the Hugging Face Hub.",
    "search": "Find cards on the Hugging Face Hub.",
    "ui": "Open a page in the browser: learn a motion, make videos.",
    "demo": "See it work: make a reference, train, apply, measure.",
    "doctor": "Say what this machine can run.",
    "completion": "Let the shell complete commands, options, cards and backbones.",
}
"""Name -> first line of its help; module and function bear the same name."""


class LazyGroup(click.Group):
    """A group whose commands live in `pe_toolkit.cli.commands.<name>`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = getattr(import_module(f"pe_toolkit.cli.commands.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            near = get_close_matches(name, COMMANDS)
            advice = f" Did you mean `pe {near[0]}`?" if near else ""
            raise click.UsageError(f"No such command {name!r}.{advice}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):  # from the table: imports no command
            formatter.write_dl(list(COMMANDS.items()))

    # What nobody reads to its end, such as a page of help, is no error (`pe_toolkit.cli.output`).

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        with read_or_not():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with read_or_not():
            return super().invoke(ctx)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """As click's, but every error goes through the one table of `pe_toolkit.cli.errors`."""
        words = list(sys.argv[1:] if args is None else args)
        session = Session(argv=tuple(words))
        with interruptible(), plain_warnings(session):
            try:
                code = super().main(
                    words, prog_name or "pe", complete_var, False, obj=session, **extra
                )
            except click.ClickException as exc:
                if isinstance(exc, click.NoSuchOption) and (said := _meant_file(words)):
                    exc = click.UsageError(f"{exc.format_message()} {said}", exc.ctx)
                exc.show()
                if session.out.json or "--json" in words:
                    session.out.json = True
                    with contextlib.suppress(OSError):  # a full disk
                        session.out.event(
                            "error",
                            message=exc.format_message(),
                            hint=None,
                            exit_code=exc.exit_code,
                        )
                code = exc.exit_code
            except (Exception, KeyboardInterrupt) as exc:
                code = report(exc, session)
            else:
                code = code or session.code
        if not standalone_mode:
            return code
        sys.exit(code if isinstance(code, int) else 0)


def _meant_file(words: Sequence[str]) -> str:
    """What to write for a file whose name looks like an option; "" if there is none."""
    for word in words:
        if word.startswith("-") and os.path.lexists(word):
            return f"For the file of that name, write ./{printable(word)}"
    return ""


@contextlib.contextmanager
def read_or_not() -> Iterator[None]:
    """Ends with exit code 0 if the reader of stdout has closed it."""
    try:
        yield
    except BrokenPipeError:
        deaf(sys.stdout)
        raise click.exceptions.Exit(0) from None


def _version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from pe_toolkit.cli.versions import toolkit_version

        click.echo(f"pe-toolkit {toolkit_version()}")
        ctx.exit()


@click.command(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
Example:
  pe demo -o demo
  pe train ref.mp4 -o wave.safetensors
  pe apply wave.safetensors --prompt 'a red circle on a grey background'""",
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_version,
    help="Show the version and exit.",
)
@debug_option
def cli() -> None:
    """Take the motion of one video and give it to another.

    A reference clip becomes a motion card: one small file that carries the motion alone.
    """


def main() -> None:
    """Entry point of the `pe` script and of `python -m pe_toolkit`."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed before we began, as some services do
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # any locale can print any name
    cli()


if __name__ == "__main__":
    main()
