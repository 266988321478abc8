"""Completion where it happens: in a real bash, at a terminal."""

from __future__ import annotations

import json
import os
import select
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from pe_toolkit.cli.main import cli
from pe_toolkit.registry.store import Store
from tests.registry.cards import GOLDEN

ROOT = Path(__file__).parents[1]
CARD = GOLDEN / "rotary-angle.safetensors"
BASH = shutil.which("bash")
SECONDS = 240.0  # for a machine that is busy with other things

pytestmark = pytest.mark.skipif(
    os.name == "nt" or BASH is None, reason="needs bash and a pseudo-terminal"
)


class Shell:
    """An interactive bash with the completion of `pe`; `pe` says with which words it was called."""

    def __init__(self, folder: Path) -> None:
        import pty

        assert BASH is not None
        commands = folder / "bin"
        commands.mkdir()
        command = commands / "pe"
        python = f"{shlex.quote(sys.executable)} -m pe_toolkit"
        command.write_text(
            f'#!{BASH}\n[ -n "$_PE_COMPLETE" ] && PYTHONPATH={shlex.quote(str(ROOT))} '
            f'exec {python} "$@"\nprintf "<%s>" "$@"\necho " END"\n'
        )
        command.chmod(0o755)
        environment = dict(os.environ, TERM="dumb", PATH=f"{commands}:{os.environ['PATH']}")
        self.main, side = pty.openpty()
        self.process = subprocess.Popen(
            [BASH, "--norc", "--noprofile", "-i"], cwd=folder, env=environment,
            stdin=side, stdout=side, stderr=side, start_new_session=True,
        )  # fmt: skip
        os.close(side)
        self.type('PS1="$ "; eval "$(_PE_COMPLETE=bash_source pe)"; echo READ""Y\n')
        self.until("READY")

    def type(self, text: str) -> None:
        os.write(self.main, text.encode())

    def until(self, what: str) -> str:
        """What the terminal shows from now until `what` comes."""
        seen, deadline = "", time.monotonic() + SECONDS
        while what not in seen:
            assert time.monotonic() < deadline, f"{what!r} did not come: {seen!r}"
            if select.select([self.main], [], [], 0.2)[0]:
                seen += os.read(self.main, 65536).decode(errors="replace")
        return seen

    def completed(self, line: str) -> list[str]:
        """The words that `pe` gets after a tab at the end of `line`."""
        self.type(f"{line}\t\n")
        shown = self.until(" END").partition(" END")[0]
        return shown[shown.index("<") + 1 : shown.rindex(">")].split("><")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.main)


def test_names_of_cards_in_bash(tmp_path: Path) -> None:
    Store().add(CARD, "tide", "1.0.0")
    Store().add(CARD, "wave", "1.0.0")
    (tmp_path / "tides.safetensors").touch()
    (tmp_path / "tide $(touch made).safetensors").touch()
    shell = Shell(tmp_path)
    try:
        assert shell.completed("pe show wa") == ["show", "wave"]
        assert shell.completed("pe add tides") == ["add", "tides.safetensors"]
        shell.type("bind 'set show-all-if-ambiguous on'; ")
        shell.type("COMP_WORDBREAKS=${COMP_WORDBREAKS//@/}\n")  # docs/registry.md
        assert shell.completed("pe rm wave@1") == ["rm", "wave@1.0.0"]
        shell.type("pe show ti\t")  # a name does not hide the file that begins like it
        assert {"tide", "tides.safetensors"} <= set(shell.until("tides.safetensors").split())
        assert not (tmp_path / "made").exists()
    finally:
        shell.close()


def test_pe_completion_prints_a_script_that_bash_takes(tmp_path: Path) -> None:
    assert BASH is not None
    made = CliRunner().invoke(cli, ["completion", "bash"])
    assert made.exit_code == 0
    script = tmp_path / "pe"
    script.write_text(made.stdout)
    asked = f"source {shlex.quote(str(script))} && complete -p pe"
    result = subprocess.run([BASH, "-c", asked], capture_output=True, text=True, check=True)
    assert "_pe_completion pe" in result.stdout
    said = CliRunner().invoke(cli, ["completion", "bash", "--json"])
    assert json.loads(said.stdout) == {
        "event": "summary", "shell": "bash", "script": made.stdout.rstrip("\n"),
    }  # fmt: skip
    for shell in ("zsh", "fish"):
        own = CliRunner().invoke(cli, ["completion"], env={"SHELL": f"/usr/bin/{shell}"})
        assert own.exit_code == 0
        assert "_PE_COMPLETE" in own.stdout
    unknown = CliRunner().invoke(cli, ["completion"], env={"SHELL": "/bin/dash"})
    assert unknown.exit_code == 2
    assert "pe completion bash" in unknown.stderr


@pytest.mark.parametrize(
    ("words", "incomplete", "expected"),
    [
        (["train", "--backbone"], "au", ["auto"]),
        (["apply", "--backbone"], "a", ["a"]),  # a folder
        (["train", "--backbone"], "cogvideox1", ["cogvideox1.5-5b", "cogvideox1.5-5b-i2v"]),
        (["train", "--set"], "K", ["K=5"]),
        (["train", "--set"], "start=", ["start=auto", "start=flow", "start=layers", "start=zero"]),
    ],
)
def test_backbones_and_settings_complete(
    words: list[str], incomplete: str, expected: list[str]
) -> None:
    complete = ShellComplete(cli, {}, "pe", "_PE_COMPLETE").get_completions
    assert [item.value for item in complete(words, incomplete)] == expected
