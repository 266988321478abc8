"""The one table from what went wrong to what the user reads and which exit code follows.

0    done
1    could not be done (`PeError` and its children, no memory, no disk, a bug)
2    the request makes no sense (`UsageError`, unknown options)
3    done, but with little to show for it (a training on a reference with little to learn from)
130  stopped by Ctrl-C or SIGTERM
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shlex
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import NoReturn, TextIO

import click

from pe_toolkit.cli.output import Output
from pe_toolkit.errors import OutputError, PeError, out_of_memory
from pe_toolkit.shown import printable

INTERRUPTED = 130
LESS = {"none": "model", "model": "group", "group": "sequential"}
"""The offload mode that needs less of the GPU than another."""
DISK = {
    errno.ENOSPC: ("the disk is full", "Free some space, or choose another place."),
    errno.EDQUOT: ("the disk quota is used up", "Free some space, or choose another place."),
    errno.EACCES: ("permission was denied", "Check the permissions, or choose another place."),
    errno.EPERM: ("permission was denied", "Check the permissions, or choose another place."),
    errno.EROFS: ("the disk is read-only", "Choose another place."),
    errno.EIO: ("the disk cannot be read or written there", "Check it, or choose another place."),
    errno.ENAMETOOLONG: ("that is longer than the disk can hold", "Choose a shorter path."),
    errno.ENOTDIR: ("a file lies where a folder is expected", "Move it, or choose another place."),
    errno.EEXIST: ("a file lies where a folder is expected", "Move it, or choose another place."),
}


@dataclass
class Session:
    """What a run knows about itself; `ctx.obj` of every command."""

    out: Output = field(default_factory=Output)
    debug: bool = False
    argv: tuple[str, ...] = ()
    offload: str = "auto"
    """The mode that is used; `auto` until something is placed: main memory is short then."""
    gpu: bool | None = None
    """Whether there is a GPU to move parts off; None before anybody has looked."""
    quantize: str | None = None
    """`none` or the format of the weights; None where a command has no such switch."""
    smaller: str = "a smaller --backbone."
    """Switches of this command that save memory."""
    batch: tuple[int, int] = (0, 0)
    """Of a batch of videos, how many were there before, and of how many."""
    made: Sequence[object] = ()
    """The videos of the batch that are done by now."""
    card_name: str = ""
    """What the local registry calls the card of the command, if it was named so."""
    card_called: str = ""
    """The card as it was given: a path, owner/name, or name and version in the registry."""
    code: int = 0
    """Exit code of a command that ends without an error."""
    resume: Path | None = None
    """The state that an interrupted training leaves behind."""
    rerun: bool = False
    """Whether the same command goes on where it stopped, as lists of jobs do."""
    anew: bool = False
    """Whether files were made that the same command does not go on with."""
    saved: Path | None = None
    """The card of a training that is on the disk, whatever else could not be written."""
    checkpointing: str | None = None
    """In a training one of its levels, or `auto` until it has chosen; None elsewhere."""
    cache: str = "none"
    """The step cache of a generation."""
    untiled: bool = False
    """Whether videos are decoded whole although `--vae-tiling` could be had."""


def report(exc: BaseException, session: Session) -> int:
    """Say what happened, on stderr, and return the exit code."""
    message, hint, code = describe(exc, session)
    if session.debug:
        session.out.trace(without_tokens("".join(traceback.format_exception(exc))))
    session.out.error(without_tokens(message), hint and without_tokens(hint), code)
    return code


def explainer(session: Session) -> Callable[[BaseException], tuple[str, str | None]]:
    """Message and hint of an exception, for a page; with `--debug` its traceback on stderr."""

    def explain(exc: BaseException) -> tuple[str, str | None]:
        if session.debug:
            session.out.trace(without_tokens("".join(traceback.format_exception(exc))))
        message, hint, _ = describe(exc, session)
        return without_tokens(message), hint and without_tokens(hint)

    return explain


def describe(exc: BaseException, session: Session) -> tuple[str, str | None, int]:
    """Message, hint and exit code of an exception."""
    if isinstance(exc, click.Abort):
        exc = exc.__cause__ or KeyboardInterrupt()
    if isinstance(exc, KeyboardInterrupt):
        return "Interrupted.", _how_to_resume(session), INTERRUPTED
    if isinstance(exc, OutputError):
        return exc.message, f"{exc.hint or ''}{_kept(session)}" or None, exc.exit_code
    if isinstance(exc, PeError):
        return exc.message, exc.hint, exc.exit_code
    if out_of_memory(exc):
        return "Out of memory.", _less_memory(session), 1
    if isinstance(exc, OSError) and exc.errno in DISK:
        reason, hint = DISK[exc.errno]
        place = f" at {exc.filename}" if exc.filename else ""
        hint += _of_the_cache(str(exc.filename)) + _kept(session)
        return f"Expected to read or write a file{place}, but {reason}.", hint, 1
    text = " ".join(str(exc).split()) or "no message"
    if isinstance(exc, ValueError) and (names := _settings_of_hub(exc)):
        return (
            f"Expected huggingface_hub to understand its settings, but: {text}.",
            f"Correct one of these variables: {', '.join(names)}.",
            2,
        )
    if sys.flags.optimize > 1 and "docstring" in text:  # transformers reads its own on import
        return (
            f"Expected docstrings in the libraries, but Python runs without them: {text}",
            "Run without -OO and without PYTHONOPTIMIZE=2; -O and PYTHONOPTIMIZE=1 will do.",
            1,
        )
    return (
        f"Unexpected error: {type(exc).__name__}: {text}",
        "This should not happen. Run again with --debug, and please report what it prints.",
        1,
    )


def _of_the_cache(path: str) -> str:
    """Which variable chose the place of a file that huggingface_hub keeps: nobody named it here."""
    for name in ("HF_HUB_CACHE", "HF_TOKEN_PATH", "HF_HOME"):
        place = os.environ.get(name)
        if place and Path(path).is_relative_to(place):
            return f" {name} says where: {printable(place)}"
    return ""


def _settings_of_hub(exc: BaseException) -> list[str]:
    """The variables that are set of huggingface_hub, if it could not be imported: it reads them
    then, and says what it does not understand without a name.
    """
    frames = (frame.f_code for frame, _ in traceback.walk_tb(exc.__traceback__))
    importing = any(
        code.co_name == "<module>" and "huggingface_hub" in Path(code.co_filename).parts
        for code in frames
    )
    return sorted(name for name in os.environ if name.startswith("HF_")) if importing else []


def without_tokens(text: str) -> str:
    """`text` without the token of the Hub, and without what looks like one: a traceback has the
    words of a server that may have repeated what we sent.
    """
    if "huggingface_hub" in sys.modules:
        with contextlib.suppress(Exception):  # it reads files; we are reporting an error already
            from huggingface_hub import get_token

            text = text.replace(get_token() or "\0", "***")
    text = re.sub(r"(https?://)[^/\s@]+@", r"\1***@", text)  # a password in HF_ENDPOINT or a proxy
    return re.sub(r"hf_[A-Za-z0-9]{20,}", "***", text)


def _less_memory(session: Session) -> str:
    """Which switches are left, the one that costs least first. What a training has finished is
    kept.
    """
    left = []
    if session.checkpointing in ("off", "little", "partly"):
        left.append("--checkpointing on")
    elif session.gpu is not False and session.offload in LESS:
        unsure = " (on a GPU)" if session.gpu is None else ""
        left.append(f"--offload {LESS[session.offload]}{unsure}")
    if session.quantize == "none" and (not left or session.offload != "none"):
        left.append("--quantize fp8")
    if session.untiled:  # the largest of all steps then, and tiles cost next to nothing
        left.insert(0, "--vae-tiling")
    if session.cache == "pab":  # keeps every block's attention; taylorseer one output of the whole
        left.insert(0, "--cache taylorseer")
    last = session.smaller if not left or ", or " in session.smaller else f"or {session.smaller}"
    hint = f"Try {', '.join([*left, last])}"
    if session.resume is not None and session.resume.exists():
        hint += (
            " Finished steps are saved: with another --checkpointing or --offload, --resume "
            "continues them."
        )
    return hint


def _how_to_resume(session: Session) -> str | None:
    before, total = session.batch
    if total:  # perhaps one is there whose score or comparison is not
        done = before + len(session.made)
        return f"{done} of {total} videos are done. Continue with: {_again(session)}"
    if session.rerun:
        return f"What is done is kept. Go on with: {shlex.join(['pe', *session.argv])}"
    if session.anew:
        again = shlex.join(["pe", *(word for word in session.argv if word != "--force"), "--force"])
        return f"What was made is there. Begin anew with: {again}"
    if session.resume is None:
        return "Nothing half-written was left behind."
    if not session.resume.exists():
        return "No guided step was finished, so nothing was saved. Run the same command again."
    return f"Finished steps are saved. Continue with: {_again(session)}"


def _kept(session: Session) -> str:
    """What of a training survives a disk that cannot be written, and how to go on."""
    if session.saved is not None:
        return f" The card is there: {session.saved}."
    if session.resume is None or not session.resume.exists():
        return ""
    return f" Finished steps are kept in {session.resume}. Then continue with: {_again(session)}"


def _again(session: Session) -> str:
    again = [word for word in session.argv if word != "--resume"]
    return shlex.join(["pe", *again, "--resume"])


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM end the work as Ctrl-C does: cleanly, with a resumable state."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def plain_warnings(session: Session) -> Iterator[None]:
    """Show warnings of pe-toolkit as `Warning: ...`, no place in the code; others as ever, but on
    one line that steers no terminal: what they quote may come from a stranger's file.
    """
    before = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if category.__module__.startswith("pe_toolkit."):
            session.out.warn(str(message))
        else:
            text = printable(" ".join(str(message).split()))
            before(text, category, filename, lineno, file, line)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = before
