"""From what a person writes behind `--suite` to a suite."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from pe_toolkit.errors import SuiteError, UsageError
from pe_toolkit.suites import bundled, folders
from pe_toolkit.suites.manifest import SUFFIXES, read_manifest
from pe_toolkit.suites.suite import Suite

FORMS = (*bundled.NAMES, *(f"{name}:FOLDER" for name in folders.READERS), "a .yaml or .json file")


def load_suite(text: str, references: int | None = None, seeds: int | None = None) -> Suite:
    """The suite of that name, in that folder or in that file.

    Args:
        text: a name of `bundled.NAMES`, `READER:FOLDER` (`folders.READERS`), or a manifest.
        references: only the first ones; of rendered suites as many as wanted.
        seeds: how many for each prompt; default: what the suite says.

    Raises:
        UsageError: none of these, or more references than there are.
        SuiteError: it cannot be read.
    """
    if text in bundled.NAMES:
        return bundled.bundled(text, references).part(seeds=seeds)
    kind, colon, place = text.partition(":")
    if colon and kind in folders.READERS:
        folder = Path(place).expanduser()
        if not folder.is_dir():
            raise SuiteError(f"Expected a folder at {folder}, but there is none.")
        return folders.READERS[kind](folder).with_unrelated().part(references, seeds)
    path = Path(text).expanduser()
    if path.suffix.lower() in SUFFIXES:
        return read_manifest(path).with_unrelated().part(references, seeds)
    near = get_close_matches(text, [*bundled.NAMES, *folders.READERS], n=1)
    raise UsageError(
        f"Expected a suite, one of {', '.join(FORMS)}, got {text!r}.",
        f"Did you mean {near[0]}?" if near else None,
    )
