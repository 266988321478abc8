"""The parts of `pe demo`: the references, new prompts, measuring and the pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pe_toolkit.cli import files
from pe_toolkit.cli.output import Output

if TYPE_CHECKING:
    from pe_toolkit.backbones.contract import Backbone
    from pe_toolkit.card import MotionCard
    from pe_toolkit.cli.requests.demo import DemoOptions
    from pe_toolkit.world.scenes import Scene

APART = 10_000
"""Far from the seeds of training, which count up from --seed."""


@dataclass(frozen=True)
class Motion:
    """What one reference of the demo shows: a class of `pe_toolkit.world.motions`, its words, and
    the number of `class_metrics` that says how much of it a video has (1: all), with its words.
    """

    name: str
    kind: str
    words: str
    measure: str
    measured: str


MOTIONS = (
    Motion("back", "stops", "a shape goes and comes back", "cosine", "same path"),
    Motion("zoom", "zoom", "a camera zooms", "size", "share of the zoom"),
    Motion("two", "two", "two shapes go ways of their own", "cosine", "same paths"),
)


@dataclass(frozen=True)
class Places:
    """The files of a demo: a folder for each motion, and two pictures of everything."""

    folder: Path

    def reference(self, motion: Motion) -> Path:
        return self.folder / motion.name / "ref.mp4"

    def card(self, motion: Motion) -> Path:
        return self.folder / motion.name / "card.safetensors"

    def video(self, motion: Motion, with_card: bool) -> Path:
        return self.folder / motion.name / ("new.mp4" if with_card else "new-no-card.mp4")

    @property
    def together(self) -> Path:
        return self.folder / "side-by-side.mp4"

    @property
    def sheet(self) -> Path:
        return self.folder / "sheet.png"

    def all(self) -> list[Path]:
        """Everything that a demo writes."""
        of_motions = [
            (self.reference(m), self.card(m), self.video(m, False), self.video(m, True))
            for m in MOTIONS
        ]
        return [place for places in of_motions for place in places] + [self.together, self.sheet]


@dataclass(frozen=True)
class Row:
    """One generated video, and what was measured on it."""

    motion: Motion
    prompt: str
    seed: int
    with_card: bool
    frames: Any
    seconds: float
    follows: float
    prompt_followed: bool

    def facts(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {
            "motion": self.motion.name,
            "prompt": self.prompt,
            "seed": self.seed,
            "with_card": self.with_card,
            "measure": self.motion.measure,
            "follows": self.follows,
            "prompt_followed": self.prompt_followed,
        }


def check(places: Places, *, force: bool) -> None:
    """Make the folders, and see that nothing is in the way.

    Raises:
        OutputError, OutputExistsError, UsageError: as `files.check_outputs`.
    """
    for folder in {place.parent: None for place in places.all()}:
        files.make_folder(folder)
    files.check_outputs(places.all(), force=force)


def make_reference(motion: Motion, seed: int, variant: Any) -> tuple[Scene, Any]:
    """A scene of known truth, and its uint8 frames `(F, H, W, 3)`."""
    import numpy as np

    from pe_toolkit.world.motions import sample_motion
    from pe_toolkit.world.scenes import render

    for attempt in range(1000):
        rng = np.random.default_rng([seed, MOTIONS.index(motion), attempt])
        scene = sample_motion(motion.kind, rng, frames=variant.frames)
        if motion.name != "back" or _comes_back(scene):
            return scene, render(scene, variant.width)
    raise AssertionError("two in three of that class come back")


def _comes_back(scene: Scene) -> bool:
    """Whether half of the longest way from the beginning is gone back at the end."""
    import numpy as np

    away = np.linalg.norm(scene.things[0].path - scene.things[0].path[0], axis=1)
    return bool(away[-1] < away.max() / 2)


def new_pair(scene: Scene, seed: int) -> tuple[str, int]:
    """A prompt that shares no colour, shape or background with the reference, and a new seed; of a
    camera that moves, with a texture, on which that is seen.
    """
    import numpy as np

    from pe_toolkit.world.motions import apart
    from pe_toolkit.world.vocabulary import (
        BACKGROUNDS,
        COLOURS,
        SHAPES,
        TRAINING_PROMPTS,
        caption,
    )

    rng, things = np.random.default_rng([seed, APART]), scene.things
    textured = scene.scale is not None or scene.turn is not None or bool(scene.shift.any())
    colours = [c for c in COLOURS if c not in {thing.colour for thing in things}]
    shapes = [s for s in SHAPES if s not in {thing.shape for thing in things}]
    grounds = [b for b in BACKGROUNDS if b != scene.background]
    while True:
        new = [str(c) for c in rng.choice(colours, len(things), replace=False)]
        named = [(c, str(rng.choice(shapes))) for c in new]
        prompt = caption(named, str(rng.choice(grounds)), textured=textured)
        if apart(new) and prompt not in TRAINING_PROMPTS:
            return prompt, seed + APART


def make_row(
    adapter: Backbone,
    card: MotionCard | None,
    motion: Motion,
    scene: Scene,
    request: DemoOptions,
) -> Row:
    """Generate the new prompt and seed with or without a card, and measure it."""
    from pe_toolkit.apply import generate
    from pe_toolkit.world.attributes import seen
    from pe_toolkit.world.class_metrics import measured

    prompt, seed = new_pair(scene, request.seed)
    # A scale or a number of steps of its own would make the comparison unfair.
    (made,) = generate(adapter, [prompt], [seed], card=card, steps=request.steps)
    follows = measured(made.frames, prompt, scene)[motion.measure]
    return Row(
        motion, prompt, seed, card is not None, made.frames, made.seconds,
        follows=follows if math.isfinite(follows) else 0.0,  # nothing is seen that could follow
        prompt_followed=bool(seen(made.frames, prompt).adherent),
    )  # fmt: skip


def draw_pictures(
    places: Places, shown: Sequence[tuple[Motion, Any, Sequence[Row]]], fps: float, *, force: bool
) -> None:
    """One video with everything, a line for each motion, and one sheet with a row of frames for
    each video.
    """
    import numpy as np

    from pe_toolkit.video import write_image, write_video
    from pe_toolkit.visual import contact_sheet, side_by_side

    lines, sheet = [], []
    for motion, reference, rows in shown:
        words = [("with its card" if row.with_card else "without", row) for row in rows]
        lines.append(
            side_by_side([("reference", reference), *((word, row.frames) for word, row in words)])
        )
        sheet.append((f"reference: {motion.words}", reference))
        sheet += [(f"{word}: {row.prompt}", row.frames) for word, row in words]
    write_video(places.together, np.concatenate(lines, axis=1), fps, force=force)
    write_image(places.sheet, contact_sheet(sheet), force=force)


def tell(
    out: Output,
    places: Places,
    shown: Sequence[tuple[Motion, Any, Sequence[Row]]],
    trained: float,
    seconds: float,
) -> None:
    """Say what was measured and what to look at."""
    out.data("\nmotion  measured           with its card  without  prompt followed")
    for motion, _, (with_card, without) in shown:
        out.data(
            f"{motion.name:<6}  {motion.measured:<17}  {with_card.follows:13.2f}  "
            f"{without.follows:7.2f}  {'yes' if with_card.prompt_followed else 'no'}"
        )
    out.data(
        "\nOf a path: 1 is the reference's, 0 an unrelated one. Of the zoom: 1 is all of the "
        "change of size."
    )
    out.data(f"{trained:.0f} s for the cards, {seconds:.0f} s for everything.")
    out.data(f"Look at {places.sheet} and {places.together}; all files are in {places.folder}.")
    if not out.json:
        out.talk("Next, with a clip of your own: pe train YOUR.mp4 -o card.safetensors")
