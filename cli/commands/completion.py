"""`pe completion`: the script that lets a shell complete what is typed after `pe`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from pe_toolkit.cli import options
from pe_toolkit.cli.errors import Session

SHELLS = ("bash", "zsh", "fish")


@click.command(
    epilog="""\b
Example:
  pe completion
  pe completion bash"""
)
@click.argument("shell", type=click.Choice(SHELLS), required=False)
@options.common
@click.pass_obj
def completion(session: Session, /, shell: str | None) -> None:
    """Let the shell complete commands, options, cards and backbones.

    Prints the script for SHELL, by default the one you use. To try it: eval "$(pe completion)".
    To keep it:

    \b
    pe completion bash > ~/.local/share/bash-completion/completions/pe
    pe completion zsh > "${fpath[1]}/_pe"
    pe completion fish > ~/.config/fish/completions/pe.fish
    """
    from click.shell_completion import get_completion_class

    from pe_toolkit.cli.main import cli
    from pe_toolkit.errors import UsageError

    name = shell or Path(os.environ.get("SHELL", "")).name
    if name not in SHELLS:
        raise UsageError(
            f"Expected a shell out of {', '.join(SHELLS)}, got {name or 'none'!r}.",
            "Name one: pe completion bash",
        )
    kind = get_completion_class(name)
    assert kind is not None
    script = kind(cli, {}, "pe", "_PE_COMPLETE").source().strip()
    session.out.data(script)
    session.out.event("summary", shell=name, script=script)
