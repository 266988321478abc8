"""What a piece of work does, and the files and cards that it leaves. No line of gradio, and torch
only once it works.
"""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pe_toolkit.cli import files, loading, machine, train_steps
from pe_toolkit.cli.loading import BackboneOptions
from pe_toolkit.cli.output import Output
from pe_toolkit.cli.page.work import Job
from pe_toolkit.errors import PeError, UsageError
from pe_toolkit.video.names import file_name

if TYPE_CHECKING:
    from pe_toolkit.backbones.catalogue.variants import Variant
    from pe_toolkit.backbones.contract import Backbone
    from pe_toolkit.card import CardSpec, MotionCard
    from pe_toolkit.card.spec import MotionSpec
    from pe_toolkit.registry.entry import Entry
    from pe_toolkit.training.request import TrainRequest
    from pe_toolkit.video import Clip

DRAWN = 512
"""Pixels of the longer side of what arrows are drawn on: on 128 they would be dots."""
ARROW = 1.5
"""Patches that an arrow of a camera's motion is long at most: longer ones cross each other."""
GALLERY = 60
"""Cards that the gallery shows; more are found by their words."""


class Said(Output):
    """What the commands would print goes to the job that is worked at, and through it to the page.
    (`json`: no bars are drawn on the terminal.)
    """

    def __init__(self) -> None:
        super().__init__(json=True)
        self.job: Job | None = None

    def talk(self, text: str) -> None:
        if self.job is not None:
            self.job.words.append(text)
            self.job.changed()

    def warn(self, text: str) -> None:
        if self.job is not None:
            self.job.warnings.append(text)
            self.job.changed()

    def event(self, name: str, /, **fields: Any) -> None:
        """Nothing on stdout."""

    def pass_on(self, event: object) -> None:
        """Of a model that is being read, how far it is."""
        total = getattr(event, "total", 0)
        if self.job is not None and type(event).__name__ == "PartLoaded" and total:
            done = event.done  # type: ignore[attr-defined]
            self.job.tell(done / total, f"{done / 1e9:.1f} of {total / 1e9:.1f} GB")


@dataclass(frozen=True)
class Seen:
    """A clip as the model gets it, its motion drawn on it, and what is to be said of it: how much
    can be followed, what moves, and what camera and subjects explain.
    """

    clip: Path
    followed: Path
    apart: Path
    first: str
    words: tuple[str, ...]
    parts: tuple[str, ...]


@dataclass(frozen=True)
class Trained:
    """A card that was made here: its file, a copy that the page may give away, and the clip that it
    was made from.
    """

    card: Path
    served: Path
    reference: Path
    spec: CardSpec
    little: bool


@dataclass
class Studio:
    """The model, loaded once and kept, and everything that is made with it.

    Args:
        options: which model, and how it is loaded.
        served: the one folder whose files the page may show; it goes with the page.
        output: where cards and videos are kept.
    """

    options: BackboneOptions
    served: Path
    output: Path
    adapter: Backbone | None = None
    name: str = ""
    variant: Variant | None = None
    loads: int = 0
    trained: dict[str, Trained] = field(default_factory=dict)
    said: Said = field(default_factory=Said)
    plain: dict[Any, Path] = field(default_factory=dict)
    _numbers: Any = field(default_factory=lambda: itertools.count(1))

    # The model.

    def load(self, job: Job) -> Backbone:
        """The model; read when it is first asked for.

        Raises:
            PeError: as `pe_toolkit.backbones.load_backbone`.
        """
        self.said.job = job
        if self.adapter is None:
            asked = self.options
            job.tell(0.0, "Starting torch")
            name, self.variant, remark = machine.resolve(
                asked.backbone or "auto", asked.device, asked.copy_of
            )
            if remark:
                self.said.talk(remark)
            job.tell(0.0, f"Loading {name}")
            self.adapter = loading.load(name, asked.revision, asked, self.said)
            self.name, self.loads = name, self.loads + 1
        return self.adapter

    @property
    def bundled(self) -> bool:
        """Whether it is one of those that draw coloured shapes."""
        return self.variant is not None and self.variant.bundled

    # A clip.

    def see(self, job: Job, request: TrainRequest) -> Seen:
        """Read a clip and its motion, and draw it as `pe flow` does.

        Raises:
            ClipError, MotionError: it cannot be read, or nothing in it moves.
        """
        from pe_toolkit.cli.look_words import look_words
        from pe_toolkit.training import look
        from pe_toolkit.training.drawing import look_panels
        from pe_toolkit.video import write_video
        from pe_toolkit.visual import part_words

        clip, adapter = self._read(job, request), self.load(job)
        job.tell(0.4, "Looking for what moves")
        config = request.config(self.variant)
        found = look(adapter, clip, config)
        job.tell(0.8, "Drawing it")
        shown = []
        for name, frames in zip(
            ("clip", "followed", "apart"),
            (clip.frames, *look_panels(found, clip.frames)),
            strict=True,
        ):
            place = self.place(f"{name}.mp4")
            write_video(place, frames, adapter.defaults().fps)
            shown.append(place)
        first, *more = look_words(found, self.name, config.resolve(adapter.defaults()))
        return Seen(
            shown[0], shown[1], shown[2], first, tuple(more), tuple(part_words(found.apart))
        )

    def given(self, clip: str | None) -> Path | None:
        """A file that came to the page, and no other of this machine.

        Raises:
            UsageError: it lies elsewhere.
        """
        if not clip:
            return None
        path = Path(clip)
        if not path.resolve().is_relative_to(self.served.resolve()):
            raise UsageError("Expected a file that was given to this page.", "Drop it here.")
        return path

    def _read(self, job: Job, request: TrainRequest) -> Clip:
        """The clip as the model wants it, once what makes no sense was refused."""
        from pe_toolkit.training.shape import Shape

        request.check()
        adapter = self.load(job)
        shape = (
            Shape.of_adapter(adapter) if self.variant is None else Shape.of_variant(self.variant)
        )
        request.check_for(shape)
        job.tell(0.0, "Reading the clip")
        return train_steps.read_reference(request, shape, self.said)

    def example(self) -> Path:
        """The first clip of `pe demo`, for whoever has none at hand."""
        from pe_toolkit.backbones import variant_for
        from pe_toolkit.cli.demo_steps import MOTIONS, make_reference
        from pe_toolkit.video import write_video

        motion, variant = MOTIONS[0], variant_for("bundled")
        _, frames = make_reference(motion, 0, variant)
        return write_video(self.place(f"{motion.name}.mp4"), frames, variant.fps)

    # A training.

    def train(self, job: Job, request: TrainRequest) -> Trained:
        """Learn the motion of a clip; the card is written as soon as it is there.

        Raises:
            PeError: as `pe train`.
        """
        from pe_toolkit.card.followed import little
        from pe_toolkit.training import train

        files.make_folder(self.output)
        clip, adapter = self._read(job, request), self.load(job)
        job.tell(0.0, "Reading its motion")
        events: Any = train(adapter, clip, request.config(self.variant))
        with contextlib.closing(events):  # when it is stopped, hooks come off the model now
            card = _followed(job, events)
        train_steps.warn_unfollowed(card, self.said)
        served = self.place(f"{file_name(request.card_name)}.safetensors")
        card.save(served)
        try:
            place = self.free(request.card_name, ".safetensors")
            card.save(place)
        except (PeError, OSError) as error:  # the work is not lost for it
            why = error.message if isinstance(error, PeError) else str(error)
            self.said.warn(f"{why} Download the card: it goes with this page.")
            place = served
        done = Trained(place, served, request.reference, card.spec, little(card.spec))
        self.trained[place.name] = done
        return done

    # Cards.

    def entries(self, words: str = "") -> list[Entry]:
        """The cards of the local registry that contain every word."""
        from pe_toolkit.registry.store import Store

        return Store().entries(words.split())

    def made(self) -> list[tuple[str, str]]:
        """(what to show, value) of every card that was made here, the newest first."""
        return [
            (f"{t.spec.name} (made here, {name})", name)
            for name, t in reversed(list(self.trained.items()))
        ]

    def choices(self) -> list[tuple[str, str]]:
        """As `made`, then those of the registry."""
        return self.made() + [
            (f"{e.reference} ({e.facts['variant']})", str(e.reference)) for e in self.entries()
        ]

    def path(self, chosen: str) -> Path:
        """The file of a card that `choices` names, and of no other.

        Raises:
            UsageError: no card is chosen.
            RegistryError: there is none of that name.
        """
        if chosen in self.trained:
            return self.trained[chosen].card
        if not chosen:
            raise UsageError(
                "Expected a card, but none is chosen.", "Choose one, or learn a motion first."
            )
        from pe_toolkit.registry.references import local
        from pe_toolkit.registry.store import Store

        store = Store()
        return store.check(store.resolve(local(chosen))).path

    def keep(self, chosen: str, name: str) -> Entry:
        """Keep a card that was made here in the local registry.

        Raises:
            PeError: as `pe add`.
        """
        from pe_toolkit.registry.references import local
        from pe_toolkit.registry.store import Store

        wanted = local(name.strip()) if name.strip() else None
        version = wanted.version if wanted else None
        return Store().add(self.path(chosen), wanted.name if wanted else None, version)

    def preview(self, path: Path, digest: str) -> Path:
        """A picture of the motion that a card holds, drawn once."""
        place = self.served / "previews" / f"{digest[-64:]}.png"
        if not place.exists():
            from pe_toolkit.card import MotionCard
            from pe_toolkit.video import write_image

            place.parent.mkdir(exist_ok=True)
            write_image(place, motion_picture(MotionCard.load(path)), force=True)
        return place

    # Files.

    def place(self, name: str) -> Path:
        """A new file that the page may show, in a folder of its own."""
        folder = self.served / f"{next(self._numbers):04d}"
        folder.mkdir()
        return folder / name

    def free(self, name: str, suffix: str) -> Path:
        """A file that is not there yet, in the folder where results are kept."""
        files.make_folder(self.output)
        for place in files.numbered(file_name(name), suffix):
            if not files.there(self.output / place):
                return self.output / place
        raise AssertionError("there is always another number")


def _followed(job: Job, events: Any) -> MotionCard:
    """Run a training; its job says how far it is. The card."""
    from pe_toolkit.training import events as kinds

    steps = inner = 1
    for event in events:
        match event:
            case kinds.Started():
                steps, inner = event.guided_steps, max(event.inner_steps, 1)
                job.words.append(event.message)
            case kinds.ReferenceMatched():
                lines, warning = train_steps.matched_words(event, steps)
                job.words += lines
                job.warnings += [warning] if warning else []
                steps = event.guided_steps or steps
                job.tell(0.02)
            case kinds.InnerStep():
                job.losses.append(event.loss)
                done = event.step + (event.inner + 1) / inner
                job.tell(done / steps, f"Guided step {event.step + 1} of {steps}")
            case kinds.GuidedStep():
                job.tell((event.index + 1) / steps, f"Guided step {event.index + 1} of {steps}")
            case kinds.FeedbackStep():
                job.tell(event.step / event.steps, f"Feedback, step {event.step} of {event.steps}")
            case kinds.Corrected():
                job.words.append(train_steps.corrected_words(event))
            case kinds.Finished():
                return event.card
    raise AssertionError("training ended without a card")


def motion_picture(card: MotionCard) -> Any:
    """uint8 RGB: what moves in the reference of a card, from its first frame to its last, on a dark
    ground: a card holds no picture of it.
    """
    import numpy as np

    from pe_toolkit.visual import flow_arrows

    flow, mask = card.tensors["flow"], card.mask
    rows, columns = flow.shape[2:4]
    side = max(1, DRAWN // max(rows, columns))
    if card.spec.reference.motion is not None and card.spec.recipe.start == "layers":
        return measured_picture(card.spec.reference.motion, (rows, columns), rows * side)
    picture = np.full((rows * side, columns * side, 3), 24, np.uint8)
    for at in range(len(flow) - 1):
        pair, moves = slice(at, at + 2), np.abs(flow[at : at + 2, at : at + 2]).sum(-1) > 0
        kept = mask[pair, pair] & moves
        picture = flow_arrows(np.stack([picture, picture]), flow[pair, pair], kept)[0]
    return picture


def measured_picture(motion: MotionSpec, grid: tuple[int, int], height: int) -> Any:
    """uint8 RGB: the camera and the subjects of a card whose positions come from them. Its patches
    hardly say what moves.
    """
    import numpy as np

    from pe_toolkit.visual import field_picture, path_picture
    from pe_toolkit.visual.fields import fitting

    rows = np.array(motion.camera, float).reshape(-1, 6)
    linear, shift = rows[:, :4].reshape(-1, 2, 2), rows[:, 4:]
    turned = np.abs(linear - np.eye(2)).max((1, 2))
    if turned.max() > 0:  # a zoom or a roll: an arrow for each patch, to where it is at its height
        y, x = np.mgrid[: grid[0], : grid[1]]
        at = np.stack([x, y], -1) - (np.array(grid[::-1]) - 1) / 2
        far, first = int(np.argmax(turned + np.arange(len(turned)) * 1e-6)), 0
        if far < len(turned) // 2:
            far, first = len(turned) - 1, far
        moved = [at @ linear[f].T + shift[f] for f in (first, far)]
        field = moved[1] - moved[0]
        longest = float(np.hypot(*np.moveaxis(field, -1, 0)).max())
        return field_picture(field * min(1.0, ARROW / longest), height=height)
    ways = [("camera", -shift)] if np.ptp(shift, axis=0).max() > 0 else []
    ways += [(str(n), np.array(s.path, float)) for n, s in enumerate(motion.subjects)]
    middled = [(name, way - (way.max(0) + way.min(0)) / 2) for name, way in ways]
    return path_picture(fitting(middled, grid)[0], grid, height=height)
