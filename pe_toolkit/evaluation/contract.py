"""What a metric is, and the pair of clips that it looks at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from pe_toolkit.errors import UsageError, option
from pe_toolkit.evaluation.tracks import Tracks

if TYPE_CHECKING:
    from pe_toolkit.world.scenes import Scene

Frames = NDArray[np.uint8]

Need = Literal["tracks", "prompt", "truth", "class", "unrelated", "download"]
NEEDS: dict[Need, str] = {
    "tracks": "tracks of both clips",
    "prompt": "the prompt",
    "truth": "the true path of the reference",
    "class": "a rendered reference of a class of motion",
    "unrelated": "clips that have nothing to do with the reference",
    "download": "weights that are fetched when asked for by name",
}
"""What a metric may need beside the two clips, in words."""
HOW: dict[Need, str] = {
    "tracks": "Leave it out, or install a tracker.",
    "prompt": f"Give it: {option('prompt')}.",
    "truth": "Rendered references have it: pe eval --suite bundled.",
    "class": "Rendered references have one: pe eval --suite bundled-classes.",
    "unrelated": f"Give some: {option('unrelated')}.",
    "download": "",
}
"""What to do where it is missing."""


BETTER = ("higher", "lower", "neither")


@dataclass(frozen=True, eq=False)
class Pair:
    """A reference and a video that is to move as it does, frame by frame in step.

    Attributes:
        reference, video: `(F, H, W, 3)` uint8 RGB; as many frames in both, any sizes.
        reference_tracks, video_tracks: of these frames, in pixels of the reference; point n of both
            began at the same place.
        prompt: what the video was made from.
        truth: `(F', 2)` true path of the reference's object as (x, y) in [0, 1], of the bundled
            world.
        scene: what a reference of a class of motion (`world.motions`) was rendered from: then what
            counts is what the class says, of all its things.
        unrelated: clips that have nothing to do with the reference, each as `reference`.
    """

    reference: Frames
    video: Frames
    reference_tracks: Tracks | None = None
    video_tracks: Tracks | None = None
    prompt: str | None = None
    truth: NDArray[np.float64] | None = None
    scene: Scene | None = None
    unrelated: tuple[Frames, ...] = ()

    def has(self, need: Need) -> bool:
        """Whether what a metric needs is here."""
        there: dict[Need, bool] = {
            "tracks": self.reference_tracks is not None and self.video_tracks is not None,
            "prompt": bool(self.prompt),
            "truth": self.truth is not None or self.scene is not None,
            "class": self.scene is not None,
            "unrelated": bool(self.unrelated),
            "download": True,
        }
        return there[need]

    @property
    def both(self) -> tuple[Tracks, Tracks]:
        """The tracks of reference and video.

        Raises:
            UsageError: there are none.
        """
        if self.reference_tracks is None or self.video_tracks is None:
            raise UsageError(
                f"Expected {NEEDS['tracks']}, got none.",
                "Follow points through both first: `pair.tracks_of_both`, `pair.with_tracks`.",
            )
        return self.reference_tracks, self.video_tracks


@dataclass(frozen=True, eq=False)
class Metric:
    """One number that is said of a pair.

    Attributes:
        title: what it is, in a few words.
        score: the number; NaN where it is not defined.
        low, high: its range.
        better: which way.
        needs: what it needs beside the frames.
        undefined: why it may be NaN, in words.
        prepare: gets what it fetches, so that what cannot be had is known before any work; None:
            it fetches nothing.
    """

    title: str
    score: Callable[[Pair], float]
    low: float
    high: float
    better: Literal["higher", "lower", "neither"] = "higher"
    needs: frozenset[Need] = field(default_factory=frozenset)
    undefined: str = "nothing could be followed"
    prepare: Callable[[], None] | None = None
