"""A suite in memory: which clips, which part of each, which prompts and seeds."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pe_toolkit.card.spec import LARGEST_SEED
from pe_toolkit.errors import UsageError

PUBLISHED = ("Caption", "Subject", "Scene")
"""The kinds of prompts of DiTFlow: what the clip shows; something else in the same place; something
else somewhere else (`easy`, `medium` and `hard` in its data)."""
UNRELATED = 2
"""How many other clips of a suite the leak is counted from."""
ALL = "All"
"""What the tables call all kinds together."""


@dataclass(frozen=True)
class Prompt:
    """What to show, and of which kind that is."""

    kind: str
    text: str
    number: int | None = None
    """Which one of its clip, from 1, where others were left out; None: as it stands."""


@dataclass(frozen=True)
class SuiteClip:
    """One reference.

    Attributes:
        name: unique in the suite; goes into file names.
        source: where its frames come from, as JSON has it: see `pe_toolkit.suites.reading`.
        prompts: of all kinds.
        seeds: of the generations; each prompt with each seed.
        unrelated: sources of clips that have nothing to do with this one, for the leak.
        group: its class of motion; "" where there are none.
        number: which one of the suite, from 0, where others were left out; None: as it stands.
    """

    name: str
    source: Mapping[str, Any] = field(hash=False)
    prompts: tuple[Prompt, ...]
    seeds: tuple[int, ...]
    unrelated: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)
    group: str = ""
    number: int | None = None

    def begun(self, seeds: int) -> SuiteClip:
        """With that many seeds: the first ones, then counting on from the largest.

        Raises:
            UsageError: there are no more.
        """
        own, missing = self.seeds[:seeds], max(0, seeds - len(self.seeds))
        if max(own) + missing > LARGEST_SEED:
            raise UsageError(
                f"Expected seeds of {self.name!r} up to {LARGEST_SEED}, got {missing} more after "
                f"{max(own)}.",
                "Ask for fewer, or give smaller ones.",
            )
        more = tuple(max(own) + n + 1 for n in range(missing))
        return dataclasses.replace(self, seeds=own + more)


@dataclass(frozen=True)
class Suite:
    """References to evaluate with.

    Attributes:
        name: goes into the tables.
        clips: one or more.
    """

    name: str
    clips: tuple[SuiteClip, ...]

    @property
    def kinds(self) -> tuple[str, ...]:
        """The published ones first, others as they come."""
        found = dict.fromkeys(prompt.kind for clip in self.clips for prompt in clip.prompts)
        known = [kind for kind in PUBLISHED if kind in found]
        return (*known, *(kind for kind in found if kind not in PUBLISHED))

    @property
    def groups(self) -> tuple[str, ...]:
        """Classes of motion, as they come."""
        return tuple(dict.fromkeys(clip.group for clip in self.clips if clip.group))

    def with_unrelated(self) -> Suite:
        """Each clip with the next `UNRELATED` others of the suite that are of another film; those
        of which there is none have no leak.
        """
        films = [_film(clip.source) for clip in self.clips]
        clips = []
        for place, clip in enumerate(self.clips):
            after = (*range(place + 1, len(films)), *range(place))
            others = [n for n in after if films[n] != films[place]][:UNRELATED]
            sources = tuple(self.clips[n].source for n in others)
            clips.append(dataclasses.replace(clip, unrelated=sources))
        return dataclasses.replace(self, clips=tuple(clips))

    def part(self, references: int | None = None, seeds: int | None = None) -> Suite:
        """The first `references` clips, each with `seeds` seeds.

        Raises:
            UsageError: more references than there are.
        """
        clips: Iterable[SuiteClip] = self.clips
        if references is not None:
            if references > len(self.clips):
                raise UsageError(
                    f"Expected up to {len(self.clips)} references of the suite {self.name}, got "
                    f"{references}."
                )
            clips = self.clips[:references]
        if seeds is not None:
            clips = [clip.begun(seeds) for clip in clips]
        return dataclasses.replace(self, clips=tuple(clips))

    def of_kinds(self, kinds: Sequence[str]) -> Suite:
        """With the prompts of these kinds only; all of them if none is named.

        Raises:
            UsageError: a kind that there is not.
        """
        if not kinds:
            return self
        for kind in kinds:
            if kind not in self.kinds:
                raise UsageError(
                    f"Expected kinds of prompts out of {', '.join(self.kinds)}, got {kind!r}."
                )
        clips = []
        for place, clip in enumerate(self.clips):
            # Numbered before, so that the jobs are those of the whole suite.
            own = tuple(
                dataclasses.replace(prompt, number=number)
                for number, prompt in enumerate(clip.prompts, 1)
                if prompt.kind in kinds
            )
            if own:
                clips.append(dataclasses.replace(clip, prompts=own, number=place))
        return dataclasses.replace(self, clips=tuple(clips))


def _film(source: Mapping[str, Any]) -> object:
    """What the clip is a part of: the same for two spans of one file, whatever its path says."""
    return os.path.realpath(source["path"]) if "path" in source else dict(source)
