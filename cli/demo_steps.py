"""The parts of `pe demo`: the reference, new prompts, measuring and the pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pe_toolkit.cli import files
from pe_toolkit.cli.output import Output
from pe_toolkit.cli.progress import Progress
from pe_toolkit.errors import OutputError

if TYPE_CHECKING:
    from pe_toolkit.backbones.contract import Backbone
    from pe_toolkit.card import MotionCard
    from pe_toolkit.cli.requests.demo import DemoOptions
    from pe_toolkit.world.metrics import Measurement
    from pe_toolkit.world.scenes import Scene

FAMILY = "orbit"
"""A path that no generation takes by chance, and that one look recognises."""
APART = 10_000
"""Far from the seeds of training, which count up from --seed."""


@dataclass(frozen=True)
class Places:
    """The files of a demo."""

    folder: Path
    count: int = 2

    @property
    def reference(self) -> Path:
        return self.folder / "ref.mp4"

    @property
    def card(self) -> Path:
        return self.folder / "card.safetensors"

    @property
    def scored(self) -> Path:
        return self.folder / "card-scored.safetensors"

    @property
    def together(self) -> Path:
        return self.folder / "side-by-side.mp4"

    @property
    def sheet(self) -> Path:
        return self.folder / "sheet.png"

    def video(self, number: int, with_card: bool) -> Path:
        """`new-1.mp4`, `new-1-no-card.mp4`."""
        return self.folder / f"new-{number}{'' if with_card else '-no-card'}.mp4"

    def all(self) -> list[Path]:
        """Everything that a demo writes."""
        videos = [self.video(n, w) for n in range(1, self.count + 1) for w in (False, True)]
        return [self.reference, self.card, self.scored, *videos, self.together, self.sheet]


@dataclass
class Row:
    """One generated video, and what was measured on it."""

    prompt: str
    seed: int
    with_card: bool
    frames: Any
    score: Measurement | None = None

    def measured(self, path: Any) -> Row:
        """Measure against the prompt and the true path `(F, 2)` of the reference."""
        from pe_toolkit.world.metrics import measure

        self.score = measure(self.frames, self.prompt, path)
        return self

    def facts(self) -> dict[str, object]:
        """Plain values for JSON."""
        assert self.score is not None
        return {
            "prompt": self.prompt,
            "seed": self.seed,
            "with_card": self.with_card,
            "cosine": self.score.cosine,
            "trajectory_error": self.score.trajectory_error,
            "visibility": self.score.visibility,
            "prompt_followed": self.score.adherent,
        }


def check(places: Places, *, force: bool) -> None:
    """Make the folder, and see that nothing is in the way.

    Raises:
        OutputError, OutputExistsError, UsageError: as `files.check_outputs`.
    """
    try:
        places.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"Expected to make the folder {places.folder}, but: {error.strerror}.",
            "Choose another place.",
        ) from error
    files.check_outputs(places.all(), force=force)


def make_reference(seed: int, variant: Any) -> tuple[Scene, Any, Any]:
    """A moving shape: the scene, its uint8 frames `(F, H, W, 3)` and its true path `(F, 2)`."""
    import numpy as np

    from pe_toolkit.world.scenes import render, sample_scene, trajectory

    rng = np.random.default_rng(seed)
    scene = sample_scene(rng, (FAMILY,), frames=variant.frames, styles=("flat",))
    return scene, render(scene, variant.width), trajectory(scene)[0]


def new_pairs(scene: Scene, seed: int) -> list[tuple[str, int]]:
    """Two prompts that share no colour, shape or background with the reference, and new seeds."""
    from pe_toolkit.world.vocabulary import (
        BACKGROUNDS,
        COLOURS,
        SHAPES,
        TRAINING_PROMPTS,
        caption,
    )

    thing, pairs = scene.things[0], []
    colours = [c for c in COLOURS if c != thing.colour]
    shapes = [s for s in SHAPES if s != thing.shape]
    grounds = [b for b in BACKGROUNDS if b != scene.background]
    for number in range(2):
        options = (
            caption([(colours[(seed + 3 * number + k) % len(colours)], shapes[number])], ground)
            for k, ground in enumerate(grounds[number:] + grounds[:number])
        )
        prompt = next(text for text in options if text not in TRAINING_PROMPTS)
        pairs.append((prompt, seed + APART + number))
    return pairs


def generate_rows(
    adapter: Backbone,
    card: MotionCard,
    pairs: Sequence[tuple[str, int]],
    path: Any,
    request: DemoOptions,
    places: Places,
    out: Output,
) -> list[Row]:
    """Each new prompt and seed without and with the card: written, and measured against `path`."""
    from pe_toolkit.apply import generate
    from pe_toolkit.video import write_video

    rows = []
    with Progress(out, "video", 2 * len(pairs)) as bar:
        for number, (prompt, seed) in enumerate(pairs, 1):
            for used in (None, card):
                # A scale or a number of steps of its own would make the comparison unfair.
                videos = generate(adapter, [prompt], [seed], card=used, steps=request.steps)
                made = next(iter(videos))
                place = places.video(number, used is not None)
                write_video(place, made.frames, made.fps, force=request.force)
                row = Row(prompt, seed, used is not None, made.frames)
                rows.append(row.measured(path))
                out.event("generated", video=place, seconds=made.seconds, **row.facts())
                bar.step(f"{place.name}, {made.seconds:.1f} s")
    return rows


def draw_pictures(
    places: Places, reference: Any, rows: Sequence[Row], fps: float, *, force: bool
) -> None:
    """One video with everything side by side, and one sheet with a row of frames per video."""
    from pe_toolkit.video import write_image, write_video
    from pe_toolkit.visual import contact_sheet, side_by_side

    first = ("reference", reference)
    words = [("card" if row.with_card else "no card", row) for row in rows]
    short = [first, *((word, row.frames) for word, row in words)]
    long = [first, *((f"{word}: {row.prompt}", row.frames) for word, row in words)]
    write_video(places.together, side_by_side(short), fps, force=force)
    write_image(places.sheet, contact_sheet(long), force=force)


def save_scored(card: MotionCard, rows: Sequence[Row], place: Path, *, force: bool) -> None:
    """The card as a new one that says what was measured with it; the first one stays."""
    from pe_toolkit.card.edit import mean_scores, revised

    values = [r.score.cosine for r in rows if r.score is not None and r.with_card]
    revised(card, scores=mean_scores("cosine", values)).save(place, force=force)


def mean(rows: Sequence[Row], with_card: bool) -> float:
    """Mean cosine of the videos with or without the card."""
    values = [r.score.cosine for r in rows if r.score is not None and r.with_card == with_card]
    return sum(values) / len(values)


def tell(out: Output, places: Places, rows: Sequence[Row], trained: float, seconds: float) -> None:
    """Say what was measured and what to look at."""
    width = max(len(row.prompt) for row in rows)
    out.data(f"\n{'motion fidelity':<{width}}  card  cosine  error  prompt followed")
    for row in rows:
        assert row.score is not None
        out.data(
            f"{row.prompt:<{width}}  {'yes' if row.with_card else 'no':<4}  "
            f"{row.score.cosine:6.2f}  {row.score.trajectory_error:5.2f}  "
            f"{'yes' if row.score.adherent else 'no'}"
        )
    out.data(
        f"\nMean cosine {mean(rows, True):.2f} with the card, {mean(rows, False):.2f} without "
        "(1: moves as the reference, 0: unrelated).\n"
        "Error: how far the two paths lie apart, in picture widths."
    )
    out.data(f"Card after {trained:.0f} s, everything after {seconds:.0f} s.")
    out.data(f"Look at {places.sheet} and {places.together}; all files are in {places.folder}.")
    if not out.json:
        out.talk("Next, with a clip of your own: pe train YOUR.mp4 -o card.safetensors")
