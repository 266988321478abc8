"""Prompts from options and files, and what to say about them before a model is loaded."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from pe_toolkit.cli.output import Output
from pe_toolkit.errors import UsageError

MAX_FILE_BYTES = 1 << 20


def clean(prompts: Sequence[str]) -> tuple[str, ...]:
    """The prompts without outer spaces.

    Raises:
        UsageError: for an empty one.
    """
    stripped = tuple(prompt.strip() for prompt in prompts)
    if not all(stripped):
        raise UsageError(
            "Expected a prompt that says what to show, got an empty one.",
            'Say it in words: --prompt "a red circle on a grey background"',
        )
    for prompt in stripped:
        check_unicode(prompt, "the prompt")
    return stripped


def check_unicode(text: str, what: str) -> None:
    """Bytes on the command line that are no text in this locale come in as lone surrogates, which
    neither a tokenizer nor a card takes.

    Raises:
        UsageError: if there are any.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise UsageError(
            f"Expected {what} to be valid Unicode, got {text!r}.",
            "Type it again, or write it as UTF-8 into a file for --prompt-file.",
        ) from None


def from_file(path: Path) -> list[str]:
    """One prompt a line; empty lines and lines that begin with # are skipped.

    Raises:
        UsageError: if the file cannot be read, is no UTF-8 text, or holds no prompt.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise UsageError(f"Expected at most {MAX_FILE_BYTES} bytes of prompts in {path}.")
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise UsageError(
            f"Expected a readable --prompt-file, got {path}: {error.strerror}.", "Check the path."
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(
            f"Expected {path} to be UTF-8 text, but it is not.", "Write one prompt a line."
        ) from error
    # Not `splitlines`: a form feed or a U+2028 is part of a prompt, and no end of a line.
    lines = [line.strip() for line in re.split("\r\n|\n|\r", text)]
    prompts = [line for line in lines if line and not line.startswith("#")]
    if not prompts:
        raise UsageError(f"Expected prompts in {path}, found none.", "Write one prompt a line.")
    return prompts


def warn_unknown(out: Output, prompts: Sequence[str], backbone: str) -> None:
    """Warn of words that the bundled backbone has never seen, with what it knows."""
    if not backbone.startswith("bundled"):
        return
    from pe_toolkit.world.vocabulary import describe, unknown_words

    words = list(dict.fromkeys(word for prompt in prompts for word in unknown_words(prompt)))
    if words:
        out.warn(
            f"the bundled backbone does not know {', '.join(words)}, and will draw something else. "
            f"It knows: {describe()}"
        )
