"""The group: lazy imports, versions, help with examples, near misses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from pe_toolkit.cli.main import COMMANDS, cli

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden" / "rotary-angle.safetensors"


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["--version"],
        ["show", str(GOLDEN)],
        ["verify", str(GOLDEN)],
        ["train", "--help"],
    ],
    ids=lambda words: " ".join(words[:1] + words[1:][-1:] * (words[-1] == "--help")),
)
def test_light_commands_import_nothing_heavy(words: list[str]) -> None:
    code = (
        "import sys; from pe_toolkit.cli.main import cli; "
        "code = cli.main(sys.argv[1:], standalone_mode=False); "
        "heavy = {'torch', 'diffusers', 'transformers', 'rich', 'cv2', 'av'} & set(sys.modules); "
        "print('heavy:', sorted(heavy), 'code:', code)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True, check=True
    )
    tail = run.stdout.splitlines()[-1]
    assert tail in ("heavy: [] code: 0", "heavy: [] code: None"), run.stdout + run.stderr


@pytest.mark.skipif(os.name == "nt", reason="POSIX process times")
@pytest.mark.parametrize("words", [["--help"], ["show", str(GOLDEN)], ["verify", str(GOLDEN)]])
def test_light_commands_are_fast(words: list[str]) -> None:
    # Time on the processor, best of three: a busy machine must not fail a test of our imports.
    best = float("inf")
    for _ in range(3):
        before = os.times()
        run = [sys.executable, "-m", "pe_toolkit", *words]
        subprocess.run(run, cwd=ROOT, capture_output=True, check=True)
        after = os.times()
        spent = after.children_user + after.children_system
        best = min(best, spent - before.children_user - before.children_system)
    assert 0 < best < 0.5


def test_help_imports_no_command() -> None:
    code = (
        "import sys; from pe_toolkit.cli.main import COMMANDS, cli;"
        "cli.main(['--help'], standalone_mode=False);"
        "assert not [n for n in COMMANDS if f'pe_toolkit.cli.{n}' in sys.modules]"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_has_debug_and_ends_with_an_example(name: str) -> None:
    result = CliRunner().invoke(cli, [name, "--help"])
    assert result.exit_code == 0
    assert "--debug" in result.stdout
    head, _, example = result.stdout.partition("Example:")
    lines = [line.strip() for line in example.strip().splitlines()]
    assert lines
    assert all(line.startswith(f"pe {name}") for line in lines)
    # The table of the group says the same as the command itself.
    assert COMMANDS[name].split(": ")[0].rstrip(".") in " ".join(head.split())


def test_examples_parse() -> None:
    """The copyable examples use options that exist."""
    import shlex

    for name in COMMANDS:
        text = CliRunner().invoke(cli, [name, "--help"], terminal_width=200).stdout
        for line in text.partition("Example:")[2].strip().splitlines():
            words = shlex.split(line)[2:]
            command = cli.get_command(
                cli.make_context("pe", [name, "--help"], resilient_parsing=True), name
            )
            assert command is not None
            command.make_context(name, words)


def test_version() -> None:
    import pe_toolkit

    result = CliRunner().invoke(cli, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"pe-toolkit {pe_toolkit.__version__}\n")


@pytest.mark.parametrize(
    ("typed", "meant"), [("trian", "train"), ("verfy", "verify"), ("aply", "apply")]
)
def test_unknown_command_suggests_the_near_one(typed: str, meant: str) -> None:
    result = CliRunner().invoke(cli, [typed])
    assert result.exit_code == 2
    assert f"Did you mean `pe {meant}`?" in result.stderr
    assert result.stdout == ""


def test_unknown_command_without_near_one() -> None:
    result = CliRunner().invoke(cli, ["xyzzy"])
    assert result.exit_code == 2
    assert "No such command 'xyzzy'." in result.stderr
    assert "Did you mean" not in result.stderr


def test_unknown_option_is_exit_2() -> None:
    result = CliRunner().invoke(cli, ["show", "--jsno", str(GOLDEN)])
    assert result.exit_code == 2
    assert "--json" in result.stderr
