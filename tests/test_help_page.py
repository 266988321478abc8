"""docs/cli.md says what the commands say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from pe_toolkit.cli.main import COMMANDS, cli
from pe_toolkit.cli.sections import Sectioned

ROOT = Path(__file__).parent.parent


def test_help_page_is_up_to_date() -> None:
    result = subprocess.run(
        [sys.executable, "docs/generate_cli.py", "--check"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("name", ["train", "apply"])
def test_long_helps_are_in_sections_and_nothing_is_lost(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert isinstance(command, Sectioned)
    text = CliRunner().invoke(cli, [name, "--help"], terminal_width=80).stdout
    for param in command.params:
        if isinstance(param, click.Option):
            assert text.count(f"{param.opts[-1]} ") >= 1, param.name
    titles = [line for line in text.splitlines() if line.endswith(":") and line[0] != " "]
    assert titles[0] == "Options:"
    assert "For experts: memory and speed:" in titles
    known = {param.name for param in command.params}
    named = [name for names in command.sections.values() for name in names]
    assert len(named) == len(set(named))
    assert known - set(named) <= {
        "json",
        "as_json",
        "debug",
        "card_path",
        "reference",
        "references",
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_eighty_columns(name: str) -> None:
    text = CliRunner().invoke(cli, [name, "--help"], terminal_width=80).stdout
    assert [line for line in text.splitlines() if len(line) > 80] == []
