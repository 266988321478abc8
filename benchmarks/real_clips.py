"""The clips of `benchmarks.real`: a folder of videos with prompts beside them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path

from benchmarks.transfer import say
from pe_toolkit.backbones.contract import Backbone
from pe_toolkit.errors import PeError
from pe_toolkit.video import Clip, read_clip

SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".gif")
OTHERS = 3
"""So many other clips stand for all of them, as in `benchmarks.classes`."""


@dataclasses.dataclass(frozen=True)
class Job:
    """One clip, its prompts, and the next clips of the folder by name, at most `OTHERS`."""

    name: str
    clip: Clip
    prompts: tuple[str, ...]
    others: tuple[tuple[str, Clip], ...] = ()


def jobs(folder: Path, adapter: Backbone) -> Iterator[Job]:
    """The clips of a folder that can be read, in the order of their names; after the last one comes
    the first.

    Raises:
        SystemExit: there is none, or two have one name.
    """
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise SystemExit(f"Expected videos in {folder}, found none.")
    for one, other in pairwise(sorted(paths, key=lambda path: path.stem)):
        if one.stem == other.stem:  # results are kept by it
            raise SystemExit(f"Expected clips with names of their own, got {one} and {other}.")

    @functools.lru_cache(maxsize=OTHERS + 2)  # clips are large
    def read(path: Path) -> Clip | None:
        try:
            return read_clip(path, frames=adapter.frames, size=adapter.size)
        except PeError as error:  # one of them is not the end of the evening
            say(error.message)
            return None

    for number, path in enumerate(paths):
        if (own := read(path)) is None:
            continue
        following = paths[number + 1 :] + paths[:number]
        known = ((near.stem, clip) for near in following if (clip := read(near)) is not None)
        yield Job(path.stem, own, prompts_of(path, adapter), tuple(islice(known, OTHERS)))


def prompts_of(path: Path, adapter: Backbone) -> tuple[str, ...]:
    """The prompts of a clip, each once."""
    for text in (path.with_suffix(".txt"), path.with_name("prompts.txt")):
        if text.is_file():
            lines = [line.strip() for line in text.read_text(encoding="utf-8").splitlines()]
            if found := tuple(dict.fromkeys(line for line in lines if line)):
                return found
    return adapter.defaults().training_prompts[-2:]
