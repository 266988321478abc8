"""What `benchmarks.real` measures of a video: its motion by two judges that no row has optimised,
how much it looks like its reference, and whether it shows its prompt.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.classes import likeness
from benchmarks.real_clips import Job
from benchmarks.transfer import say
from pe_toolkit import evaluation
from pe_toolkit.backbones.contract import Backbone
from pe_toolkit.backbones.reading import Reading
from pe_toolkit.errors import DependencyError, UsageError
from pe_toolkit.evaluation import pair, trackers
from pe_toolkit.evaluation.contract import Pair
from pe_toolkit.evaluation.following import ReferenceMotion
from pe_toolkit.evaluation.trackers.base import grid_points
from pe_toolkit.evaluation.tracks import Tracks
from pe_toolkit.motion.displacement import hard_displacement
from pe_toolkit.video import Clip
from pe_toolkit.world.attributes import seen

Frames = NDArray[np.uint8]

FOLLOWED = ("mf", "mf_speed", "frechet_distance", "dynamic_degree")
"""Of the tracks of a video and its reference, as `pe eval` has them; `mf` also of other clips."""
WEIGHTS = ("text_similarity", "driving_similarity_clip", "driving_similarity_dino")
"""Metrics of `pe eval` whose weights are fetched when they are asked for."""


@dataclasses.dataclass
class Measures:
    """Who measures.

    Attributes:
        reading: of the backbone as a judge (`real_rows.judge`); None: it judges nothing.
        tracker: by name; None: no points are followed.
        weights: out of `WEIGHTS`, those that are here.
    """

    adapter: Backbone
    reading: Reading | None
    tracker: str | None
    weights: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._tracks: dict[str, Tracks] = {}
        self._motion: tuple[str, ReferenceMotion] | None = None

    @property
    def judges(self) -> str:
        """Who says how a video moves: numbers of other judges are not compared with theirs."""
        read = (
            f"block {self.reading.blocks[0]} by {self.reading.by}" if self.reading else "no block"
        )
        return f"{self.tracker or 'no tracker'}, {read}"

    def done(self, entry: dict[str, Any], job: Job) -> bool:
        """Whether a record holds all that is measured now, by these judges, with these others."""
        same = entry["judges"] == self.judges and entry["others"] == [n for n, _ in job.others]
        return same and all(name in entry for name in self.weights)

    def of(self, job: Job, frames: Frames, prompt: str) -> dict[str, Any]:
        """All numbers of a video, uint8 RGB `(F, H, W, 3)`; None where one is not defined, no name
        where it was not to be had.
        """
        clips = [clip.frames for _, clip in job.others]
        found: dict[str, Any] = {"judges": self.judges, "others": [name for name, _ in job.others]}
        found |= self._scored(job, frames) | self._followed(job, frames)
        found["adherent"] = adherent(frames, prompt)
        found["like own"] = alike(frames, job.clip.frames)
        found["like other"] = mean([alike(frames, clip) for clip in clips])
        two = Pair(job.clip.frames, frames, prompt=prompt, unrelated=tuple(clips))
        found["leak"] = pair.score(two, ["leak"])[0].value if clips else None
        for name in self.weights:
            found[name] = pair.score(two, [name])[0].value
            if name != "text_similarity":
                others = [pair.score(Pair(clip, frames), [name])[0].value for clip in clips]
                found[f"{name} other"] = mean(others)
        return found

    def _scored(self, job: Job, frames: Frames) -> dict[str, Any]:
        """The score of `pe apply`, as the judging block reads it, or why there is none."""
        if self.reading is None:
            return {"score": None, "why": "no block is far enough from those of all rows"}
        if self._motion is None or self._motion[0] != job.name:
            self._motion = job.name, motion_of(self.adapter, job.clip, self.reading)
        found = self._motion[1].compare(frames)
        return {"score": found.score, "why": found.reason}

    def _followed(self, job: Job, frames: Frames) -> dict[str, Any]:
        """`FOLLOWED` by the tracker, and `mf` with the motion of other clips: what chance gives."""
        if self.tracker is None:
            return {}
        tracks = self._track(frames)

        def two(name: str, clip: Clip) -> Pair:
            if name not in self._tracks:
                self._tracks[name] = self._track(clip.frames)
            return pair.with_tracks(Pair(clip.frames, frames), self._tracks[name], tracks)

        found = {r.name: r.value for r in pair.score(two(job.name, job.clip), FOLLOWED)}
        others = [pair.score(two(*other), ["mf"])[0].value for other in job.others]
        return {**found, "mf other": mean(others)}

    def _track(self, frames: Frames) -> Tracks:
        assert self.tracker is not None
        return pair.tracks_of(frames, trackers.tracker(self.tracker))


@torch.no_grad()
def motion_of(adapter: Backbone, clip: Clip, reading: Reading) -> ReferenceMotion:
    """The motion of a clip, read as a judge reads it."""
    width, height = adapter.size
    with adapter.sent_away():
        q, k = adapter.reference_queries_and_keys(
            adapter.encode(clip.frames).latents, reading, adapter.frames, width, height,
            adapter.encode_image(clip.frames),
        )  # fmt: skip
    flow = hard_displacement(q, k, adapter.grid, mutual=reading.mutual)[0].cpu()
    return ReferenceMotion(adapter, flow, reading)


def adherent(frames: Frames, prompt: str) -> float | None:
    """1 where colours, shapes and background are the prompt's, else 0; None of a prompt that is
    none of the bundled world's, which alone can be told apart so.
    """
    try:
        return float(seen(frames, prompt).adherent)
    except UsageError:
        return None


def alike(one: Frames, two: Frames) -> float | None:
    """`benchmarks.classes.likeness`; None of plain pictures or other sizes."""
    if one.shape != two.shape:
        return None
    with np.errstate(invalid="ignore"):
        found = likeness(one, two)
    return None if math.isnan(found) else found


def mean(values: list[float | None]) -> float | None:
    """Of those that are defined."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def usable_tracker(name: str) -> str | None:
    """The tracker, tried on two plain frames; None, said, where what it needs is not installed.

    Raises:
        UsageError: there is none of that name.
    """
    try:
        trackers.tracker(name).track(np.zeros((2, 64, 64, 3), np.uint8), grid_points(64, 64, 1))
    except DependencyError as error:
        say(f"{error.message} {error.hint or ''} Without: no motion fidelity.")
        return None
    return name


def usable_weights(names: tuple[str, ...]) -> tuple[str, ...]:
    """Those metrics whose weights are here or could be fetched; of the others it is said.

    Raises:
        UsageError: one that is not among `WEIGHTS`.
    """
    if unknown := [name for name in names if name not in WEIGHTS]:
        raise UsageError(f"expected metrics out of {', '.join(WEIGHTS)}, got {unknown[0]}")
    return tuple(name for name in names if _fetched(name))


def _fetched(name: str) -> bool:
    try:
        evaluation.prepare(name, evaluation.metric(name))
    except DependencyError as error:
        say(f"{error.message} {name} can be added later: no video is made again for it.")
        return False
    return True
