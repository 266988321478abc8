"""Prompts from options and files, and what to say about them before a model is loaded."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pe_toolkit.cli.output import Output
from pe_toolkit.errors import UsageError
from pe_toolkit.shown import short, shown

if TYPE_CHECKING:
    from pe_toolkit.world.vocabulary import Doubts

MAX_FILE_BYTES = 1 << 20
MOST_NAMED = 8
"""A suite of captions of real clips has hundreds of words that the bundled backbone lacks."""


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
            f"Expected {what} to be valid Unicode, got {shown(text)}.",
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
    """Warn of what the bundled backbone cannot draw as a prompt says it, with what is possible
    there: a word that it has never seen, a colour that it knows from elsewhere only, or another
    form than that of its captions. It says nothing of it itself, and draws another colour.
    """
    if not backbone.startswith("bundled"):
        return
    from pe_toolkit.backbones import VARIANTS
    from pe_toolkit.world.vocabulary import POSSIBLE, describe, doubts, tokens

    if (row := VARIANTS.get(backbone)) is not None:  # longer ones are refused
        prompts = [p for p in prompts if tokens(p) <= row.max_text_tokens]
    found = doubts(prompts)
    doubted = {p: d for p in prompts if (d := doubts([p])).unknown or d.misplaced}
    lines = []
    for prompt, doubt in list(doubted.items())[:MOST_NAMED]:
        # Of one prompt it is plain which is meant.
        whose = f" for {shown(prompt)}" if len(set(prompts)) > 1 else ""
        said = ", ".join(_said(doubt))
        lines.append(f"the bundled backbone {said}, and will draw something else{whose}.")
    if len(doubted) > MOST_NAMED:
        lines[-1] += f" {len(doubted) - MOST_NAMED} more prompts have such words."
    if lines:
        possible = "; ".join(f"{kind}: {', '.join(POSSIBLE[kind])}" for kind in found.kinds)
        lines[-1] += f" Possible {possible}."
    for line in lines:
        out.warn(line)
    if found.forms:
        out.warn(
            "the bundled backbone knows one form of captions, and "
            f"{_listed([shown(text) for text in found.forms])} "
            f"{'has' if len(found.forms) == 1 else 'have'} another: it may draw something else. "
            f"It knows: {describe()}"
        )


def _said(doubt: Doubts) -> list[str]:
    """What the bundled backbone cannot draw of one prompt, with the words that may be meant."""
    from pe_toolkit.world.vocabulary import meant

    words = [
        short(word) + (f" (did you mean {near}?)" if (near := meant(word, doubt.kinds)) else "")
        for word in doubt.unknown
    ]
    said = [f"does not know {_listed(words)}"] if words else []
    return said + ([f"knows no {_listed(doubt.misplaced, ' and no ')}"] if doubt.misplaced else [])


def _listed(texts: Sequence[str], comma: str = ", ") -> str:
    more = f" and {len(texts) - MOST_NAMED} more" if len(texts) > MOST_NAMED else ""
    return comma.join(texts[:MOST_NAMED]) + more
