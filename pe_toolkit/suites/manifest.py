"""A suite as a file, YAML or JSON (docs/evaluate.md):

    pe_suite: 1
    name: garden
    seeds: [1, 2]
    clips:
      - name: dog
        path: dog.mp4               # from the folder of this file
        frames: [0, 48, 2]          # or start: 0.5, end: 2.5 (seconds); default: all of it
        prompts:
          Caption: a dog runs in a garden
          Scene: [a plane in the sky, a bear in the snow]

It is read strictly: an unknown key is an error, not a setting without effect.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import yaml  # type: ignore[import-untyped]

from pe_toolkit.card.asked import same_noise
from pe_toolkit.card.schema import (
    Integer,
    ListOf,
    MapOf,
    Number,
    Record,
    Section,
    Text,
    optional,
    refuse,
    ruled,
)
from pe_toolkit.card.spec import LARGEST_SEED
from pe_toolkit.errors import CardError, SuiteError
from pe_toolkit.shown import shown
from pe_toolkit.suites.suite import ALL, Prompt, Suite, SuiteClip

MOST_BYTES = 4 * 1024**2
MOST_CLIPS = 10_000
MOST_PROMPTS = 100
"""Of one kind and clip."""
SEED = 42
"""Where nothing else is said, as in `pe apply`."""
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
NAME_WORDS = "letters, digits, `.`, `_` and `-`, a letter or digit first"
SUFFIXES = (".yaml", ".yml", ".json")
WHERE = "See docs/evaluate.md for what a suite holds."


@dataclass(frozen=True)
class _Prompts:
    """One prompt, or a list of them."""

    def check(self, value: object, path: str) -> tuple[str, ...]:
        one = Text(most=2000)
        if isinstance(value, str):
            return (one.check(value, path),)
        if not isinstance(value, list | tuple):
            raise refuse(path, "a prompt (in quotes, if it is a word of YAML) or a list", value)
        return ListOf(one, 1, MOST_PROMPTS).check(value, path)


@dataclass(frozen=True)
class ClipRow(Section):
    """An entry of `clips`."""

    place: ClassVar[str] = ""

    name: str = ruled(Text(most=80, pattern=NAME, like=NAME_WORDS))
    path: str = ruled(Text(most=1000))
    prompts: Mapping[str, tuple[str, ...]] = ruled(MapOf(_Prompts(), most=20))
    frames: tuple[int, ...] | None = optional(ListOf(Integer(0, 10**7), 3, 3))
    start: float | None = optional(Number(0, 1e6))
    end: float | None = optional(Number(0, 1e6, open_low=True))
    seeds: tuple[int, ...] | None = optional(ListOf(Integer(0, LARGEST_SEED), 1, 1000))

    def check_together(self) -> None:
        _check_seeds(self.seeds, repr(self.name))
        if not self.prompts:
            raise CardError(f"Expected {self.name!r} to have prompts, got none.")
        for kind in self.prompts:
            if kind == ALL or len(kind) > 40:
                raise CardError(
                    f"Expected the kinds of prompts of {self.name!r} to be names of up to 40 "
                    f"characters other than {ALL}, got {kind!r}."
                )
        if self.frames is not None:
            first, stop, step = self.frames
            if self.start is not None or self.end is not None:
                raise CardError(f"Expected frames or seconds of {self.name!r}, got both.")
            if step < 1 or len(range(first, stop, step)) < 2:
                raise CardError(
                    f"Expected frames [FIRST, STOP, STEP] of {self.name!r} that are two or more, "
                    f"got [{first}, {stop}, {step}]."
                )
        texts = [text for own in self.prompts.values() for text in own]
        if twice := next((text for text in texts if texts.count(text) > 1), None):
            raise CardError(
                f"Expected each prompt of {self.name!r} once, got {shown(twice)} twice."
            )
        if self.end is not None and self.end <= (self.start or 0):
            raise CardError(
                f"Expected an end of {self.name!r} after its start, got {self.end:g} s."
            )


@dataclass(frozen=True)
class ManifestRow(Section):
    """The whole file."""

    pe_suite: int = ruled(Integer(1, 1))
    name: str = ruled(Text(most=80, pattern=NAME, like=NAME_WORDS))
    clips: tuple[ClipRow, ...] = ruled(ListOf(Record(ClipRow), 1, MOST_CLIPS))
    about: str | None = optional(Text(least=0, most=2000))
    seeds: tuple[int, ...] | None = optional(ListOf(Integer(0, LARGEST_SEED), 1, 1000))

    def check_together(self) -> None:
        _check_seeds(self.seeds, "the suite")
        names = [clip.name for clip in self.clips]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise CardError(f"Expected every clip to have its own name, got {shown(twice)} twice.")


def _check_seeds(seeds: tuple[int, ...] | None, whose: str) -> None:
    if seeds is None:
        return
    if len(set(seeds)) < len(seeds):
        raise CardError(f"Expected seeds of {whose} that differ, got {list(seeds)[:20]}.")
    if same := same_noise(seeds):
        raise CardError(
            f"Expected seeds of {whose} that differ, got {same[0]} and {same[1]}, which give the "
            "same videos: torch uses the lowest 32 bits of a seed."
        )


def read_manifest(path: Path) -> Suite:
    """A suite from a YAML or JSON file. Paths in it are from its folder; they are not opened here.

    Raises:
        SuiteError: it cannot be read, or is no suite: says where and why.
    """
    try:
        data = path.read_bytes() if path.stat().st_size <= MOST_BYTES else None
    except OSError as error:
        raise SuiteError(
            f"Expected a suite in {path}, but: {error.strerror or error}.", WHERE
        ) from error
    if data is None:
        raise SuiteError(f"Expected a suite of up to {MOST_BYTES // 2**20} MB in {path}.", WHERE)
    try:
        rows = ManifestRow.from_dict(parsed(data, str(path)), "suite")
    except CardError as error:  # the rules are those of cards
        raise SuiteError(f"{path}: {error.message}", WHERE) from error
    seeds = rows.seeds or (SEED,)
    return Suite(rows.name, tuple(_clip(row, path.parent, seeds) for row in rows.clips))


def _clip(row: ClipRow, folder: Path, seeds: tuple[int, ...]) -> SuiteClip:
    source: dict[str, Any] = {"path": str((folder / row.path).absolute())}
    for key, value in (("frames", row.frames), ("start", row.start), ("end", row.end)):
        if value is not None:
            source[key] = list(value) if isinstance(value, tuple) else value
    prompts = tuple(Prompt(kind, text) for kind, texts in row.prompts.items() for text in texts)
    return SuiteClip(row.name, source, prompts, row.seeds or seeds)


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Plain YAML: no aliases, which can grow without bounds, and no key twice."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not read")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [key.value for key, _ in node.value]
        if twice := next((key for key in keys if keys.count(key) > 1), None):
            raise yaml.YAMLError(f"the key {twice!r} stands there twice")
        return super().construct_mapping(node, deep)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A mapping of JSON, with no key twice."""
    keys = [key for key, _ in pairs]
    if twice := next((key for key in keys if keys.count(key) > 1), None):
        raise ValueError(f"the key {twice!r} stands there twice")
    return dict(pairs)


def parsed(data: bytes, name: str) -> Any:
    """The value of a YAML or JSON text; JSON, if `name` says so, of which not all is YAML.

    Raises:
        SuiteError: it is neither.
    """
    try:
        if name.lower().endswith(".json"):
            return json.loads(data.decode("utf-8-sig"), object_pairs_hook=_once)
        return yaml.load(data.decode("utf-8-sig"), _Loader)
    except Exception as error:  # of all kinds: a tag such as `!!int` takes the value apart unseen
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        why = " ".join(str(getattr(error, "problem", None) or error).split())[:200]
        raise SuiteError(f"Expected YAML or JSON in {name}{where}, but: {why}.", WHERE) from error
