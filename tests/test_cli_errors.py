"""The error table: what the user reads, where, and with which exit code."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from pe_toolkit.cli.errors import Session, describe
from pe_toolkit.cli.main import LazyGroup, cli
from pe_toolkit.cli.options import common, debug_option, machine_options
from pe_toolkit.errors import CardError, DeviceError, OutputExistsError, UsageError

ROOT = Path(__file__).parents[1]
CARD = str(ROOT / "tests" / "golden" / "rotary-angle.safetensors")


def run(action: Callable[[Session], None], *words: str) -> Result:
    """Run a group of the real class whose one command does `action`."""

    @click.command()
    @machine_options
    @common
    @click.pass_obj
    def work(session: Session, /, **options: object) -> None:
        action(session)

    class OneCommand(LazyGroup):
        def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
            return work if cmd_name == "train" else None

    group = OneCommand("pe", params=[])
    debug_option(group)
    return CliRunner().invoke(group, list(words) or ["train"])


def raiser(error: BaseException) -> Callable[[Session], None]:
    def action(session: Session) -> None:
        raise error

    return action


class OutOfMemoryError(RuntimeError):
    """Bears the name of torch's, by which the table knows it without importing torch."""


@pytest.mark.parametrize(
    ("error", "code", "message", "hint"),
    [
        (UsageError("Expected a, got b.", "Do c."), 2, "Expected a, got b.", "Do c."),
        (OutputExistsError("There is one.", "--force"), 2, "There is one.", "--force"),
        (CardError("Damaged."), 1, "Damaged.", None),
        (DeviceError("No GPU.", "Use bundled."), 1, "No GPU.", "Use bundled."),
        (MemoryError(), 1, "Out of memory.", "a smaller --backbone"),
        (OutOfMemoryError("CUDA"), 1, "Out of memory.", "a smaller --backbone"),
        (OSError(errno.ENOSPC, "No space left", "x.mp4"), 1, "the disk is full", "Free some space"),
        (PermissionError(errno.EACCES, "denied", "x.mp4"), 1, "x.mp4, but permission", "Check"),
        (OSError(errno.EROFS, "read-only"), 1, "the disk is read-only", "another place"),
        (KeyError("k"), 1, "Unexpected error: KeyError: 'k'", "--debug"),
        (ValueError("a\nb"), 1, "Unexpected error: ValueError: a b", "please report"),
        (KeyboardInterrupt(), 130, "Interrupted.", "Nothing half-written"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_table(error: BaseException, code: int, message: str, hint: str | None) -> None:
    result = run(raiser(error))
    assert result.exit_code == code
    assert result.stdout == ""
    assert result.stderr.lstrip().startswith("Error: ")
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    if hint is None:
        assert "Hint:" not in result.stderr
    else:
        assert hint in result.stderr.partition("Hint: ")[2]


def test_python_without_docstrings_is_named() -> None:
    """transformers reads those of its own classes while it is imported."""
    text = "No `Args` or `Parameters` section is found in the docstring of `BaseModelOutput`."
    script = (
        "from pe_toolkit.cli.errors import Session, describe\n"
        f"print(*describe(ValueError({text!r}), Session()))"
    )
    said = {
        flags: subprocess.run(
            [sys.executable, *flags, "-c", script], capture_output=True, text=True, check=True
        ).stdout
        for flags in ((), ("-O",), ("-OO",))
    }
    assert "Run without -OO and without PYTHONOPTIMIZE=2" in said["-OO",]
    assert "Unexpected" not in said["-OO",]
    assert said[()] == said["-O",]
    assert "This should not happen" in said[()]


def test_an_unexpected_error_is_one_line_and_a_hint() -> None:
    result = run(raiser(ZeroDivisionError("oh")))
    assert [line.split(":")[0] for line in result.stderr.splitlines()] == ["Error", "Hint"]


@pytest.mark.parametrize("words", [("train", "--debug"), ("--debug", "train")])
@pytest.mark.parametrize("error", [CardError("Damaged."), ZeroDivisionError("oh")])
def test_debug_shows_the_traceback_everywhere(words: tuple[str, ...], error: Exception) -> None:
    result = run(raiser(error), *words)
    assert result.exit_code == 1
    assert "Traceback (most recent call last)" in result.stderr
    assert "in action" in result.stderr
    assert f"Error: {'Damaged.' if isinstance(error, CardError) else 'Unexpected'}" in result.stderr


@pytest.mark.parametrize(
    ("offload", "switch"),
    [("none", "--offload model"), ("model", "--offload group"), ("group", "--offload sequential")],
)
def test_no_memory_names_the_next_switch(offload: str, switch: str) -> None:
    result = run(raiser(MemoryError()), "train", "--offload", offload)
    assert switch in result.stderr


def test_no_memory_after_the_last_switch() -> None:
    result = run(raiser(MemoryError()), "train", "--offload", "sequential")
    assert "Hint: Try a smaller --backbone." in result.stderr


@pytest.mark.parametrize(
    "text",
    [
        "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: 9 bytes",
        "[enforce fail at alloc_cpu.cpp:79] data. DefaultCPUAllocator: not enough memory: you",
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
        "CUDA driver error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        "MPS backend out of memory (MPS allocated: 17.8 GB, max allowed: 18.1 GB).",
    ],
)
def test_messages_that_count_as_no_memory(text: str) -> None:
    result = run(raiser(RuntimeError(text)))
    assert "Out of memory." in result.stderr
    assert "Unexpected error" in run(raiser(ValueError(text))).stderr


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: an illegal memory access was encountered",
        "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`",
        "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED",
    ],
)
def test_other_failures_of_a_gpu_do_not(text: str) -> None:
    assert "Unexpected error" in run(raiser(RuntimeError(text))).stderr


def test_a_cache_that_fills_memory_is_the_first_thing_to_change() -> None:
    """PAB keeps what every block's attention gave."""
    facts = {"gpu": True, "quantize": "none", "offload": "none"}
    for untiled in (False, True):
        session = Session(cache="pab", untiled=untiled, **facts)
        hint = describe(MemoryError(), session)[1]
        assert hint is not None
        assert hint.startswith("Try --cache taylorseer, ")
        assert "--offload model" in hint
    for cache in ("none", "taylorseer"):
        assert "--cache" not in str(describe(MemoryError(), Session(cache=cache, **facts))[1])


def test_apply_tells_which_cache_is_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*words: object, **more: object) -> None:
        raise MemoryError

    monkeypatch.setattr("pe_toolkit.cli.loading.load", full)
    card = ROOT / "tests" / "golden" / "rotary-angle.safetensors"
    words = ["apply", str(card), "--prompt", "a", "-o", str(tmp_path / "o.mp4"), "--cache", "pab"]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 1
    assert "Hint: Try --cache taylorseer, or a smaller --backbone" in result.stderr


def test_interrupt_says_how_to_resume(tmp_path: Path) -> None:
    state = tmp_path / "card.safetensors.resume"
    state.write_bytes(b"state")

    def action(session: Session) -> None:
        session.resume = state
        session.argv = ("train", "a b.mp4", "-o", "card.safetensors")
        raise KeyboardInterrupt

    result = run(action)
    assert result.exit_code == 130
    assert "pe train 'a b.mp4' -o card.safetensors --resume" in result.stderr
    state.unlink()
    result = run(action)
    assert "nothing was saved" in result.stderr
    assert "--resume" not in result.stderr


def test_an_interrupted_resume_is_not_told_twice(tmp_path: Path) -> None:
    state = tmp_path / "s"
    state.touch()

    def action(session: Session) -> None:
        session.resume, session.argv = state, ("train", "r.mp4", "--resume")
        raise KeyboardInterrupt

    assert run(action).stderr.count("--resume") == 1


def test_json_errors_end_stdout_with_one_object() -> None:
    result = run(raiser(UsageError("Expected a.", "Do b.")), "train", "--json")
    assert json.loads(result.stdout.splitlines()[-1]) == {
        "event": "error", "message": "Expected a.", "hint": "Do b.", "exit_code": 2,
    }  # fmt: skip
    assert "Error: Expected a." in result.stderr


def test_json_usage_errors_of_click() -> None:
    result = run(raiser(UsageError("never")), "train", "--json", "--no-such-option")
    assert result.exit_code == 2
    last = json.loads(result.stdout.splitlines()[-1])
    assert (last["event"], last["exit_code"]) == ("error", 2)


def test_messages_cannot_steer_the_terminal() -> None:
    result = run(raiser(CardError("bad \x1b[31m name \u202e", "do \x07 this")))
    assert "\x1b" not in result.stderr
    assert "\x07" not in result.stderr
    assert "\\x1b[31m" in result.stderr


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_with_130(number: signal.Signals) -> None:
    code = (
        "import signal, time; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import click\nfrom pe_toolkit.cli.main import LazyGroup\n"
        "class G(LazyGroup):\n"
        "    def get_command(self, ctx, name):\n"
        "        work = lambda: (print('up', flush=True), time.sleep(60))\n"
        "        return click.Command('train', callback=work)\n"
        "G('pe').main(['train'])\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "up\n"
    child.send_signal(number)
    _, err = child.communicate(timeout=30)
    assert child.returncode == 130
    assert "Error: Interrupted." in err
    assert "Traceback" not in err


def test_sigterm_handler_is_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    run(raiser(KeyError("x")))
    assert signal.getsignal(signal.SIGTERM) is before


def test_warnings_of_the_library_are_plain() -> None:
    class CardWarning(UserWarning):
        __module__ = "pe_toolkit.somewhere"

    def action(session: Session) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("made with other weights \x1b[2J", CardWarning, stacklevel=1)

    result = run(action)
    assert result.exit_code == 0
    assert result.stderr == "Warning: made with other weights \\x1b[2J\n"
    assert warnings.showwarning.__module__ != "pe_toolkit.cli.errors"


def test_warnings_of_others_steer_no_terminal() -> None:
    program = (
        "import warnings; from pe_toolkit.cli.errors import Session, plain_warnings\n"
        "with plain_warnings(Session()):\n"
        "    warnings.warn('no class \\x1b]0;evil\\x07\\nError: none')\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "UserWarning: no class \\x1b]0;evil\\x07 Error: none\n" in result.stderr
    assert "\x1b" not in result.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device here")
@pytest.mark.parametrize("words", [["show", "--json", CARD], ["show", CARD], ["shwo", "--json"],
                                   ["show", "--json", "no-such"], ["--help"]], ids=str)  # fmt: skip
def test_a_full_stdout_is_one_error_and_no_traceback(words: list[str]) -> None:
    with open("/dev/full", "w", encoding="ascii") as full:
        result = subprocess.run(
            [sys.executable, "-m", "pe_toolkit", *words],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False, cwd=ROOT,
        )  # fmt: skip
    assert result.returncode == (2 if "shwo" in words else 1)
    assert result.stderr.count("Error:") == 1
    assert "Traceback" not in result.stderr
    assert "Exception ignored" not in result.stderr


@pytest.mark.skipif(os.name == "nt", reason="no such pipes there")
@pytest.mark.parametrize("words", [["show", CARD], ["show", "--json", CARD], ["train", "--help"],
                                   ["--help"], ["--version"]], ids=str)  # fmt: skip
def test_a_reader_that_has_seen_enough_is_no_error(words: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    result = subprocess.run(
        [sys.executable, "-m", "pe_toolkit", *words],
        stdout=writing, stderr=subprocess.PIPE, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    os.close(writing)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.skipif(os.name == "nt", reason="no such shell there")
@pytest.mark.parametrize("words", ["show CARD", "show CARD --json", "list", "doctor --json"])
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_streams_that_were_closed_before(words: str, closed: str, tmp_path: Path) -> None:
    """As some services have them."""
    line = f"exec {sys.executable} -m pe_toolkit {words.replace('CARD', str(CARD))} {closed}"
    done = subprocess.run(
        ["sh", "-c", line], capture_output=True, text=True, check=False, cwd=ROOT,
        env=os.environ | {"PE_HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="no such pipes there")
def test_nobody_listens_to_what_is_said(tmp_path: Path) -> None:
    """What was asked for is done all the same, and the exit code says so."""
    reading, writing = os.pipe()
    os.close(reading)
    card = tmp_path / "new.safetensors"
    words = ["edit", str(CARD), "--name", "n", "-o", str(card)]
    for given, code in ((words, 0), (["show", "no-such-card"], 1)):
        result = subprocess.run(
            [sys.executable, "-m", "pe_toolkit", *given],
            stdout=subprocess.PIPE, stderr=writing, text=True, check=False, cwd=ROOT,
        )  # fmt: skip
        assert result.returncode == code
    os.close(writing)
    assert card.exists()
