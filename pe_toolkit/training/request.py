"""What a person asks of a training before anything is read: a clip, how it is sampled, and how the
motion is learned. It makes what `train` takes: the clip and a `TrainConfig`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pe_toolkit.backbones.machine.placement import Purpose
from pe_toolkit.card.sampling import usual_fit, usual_rate
from pe_toolkit.embedding import form_for
from pe_toolkit.errors import ClipError, UsageError, option
from pe_toolkit.objectives import check_name
from pe_toolkit.training.config import TrainConfig
from pe_toolkit.training.shape import Shape, latent_frames

if TYPE_CHECKING:
    from pe_toolkit.backbones.catalogue.variants import Variant
    from pe_toolkit.video import Clip
    from pe_toolkit.video.movie import OnProgress
    from pe_toolkit.video.picture import Fit, Picture

PAPER_FRAMES = 24
"""The published setting: the first 24 frames, six latent frames. Not where a backbone has learned
its positions for one frame count.
"""


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """A request; None means what the recipe and the backbone say.

    Attributes:
        reference: a video, a GIF or a folder of images.
        start: seconds of the reference to leave out before the first frame.
        end: seconds of the reference after which no frame is taken; None: its own end.
        frames: how many to use, 2 or more.
        fps: take them at this rate; default: the whole span, evenly, or in the published recipe the
            first ones at the clip's own rate.
        size: (width, height) in pixels.
        fit: how the clip is brought to that size, as in `read_clip`.
        overrides: settings without a field of their own, as in `TrainConfig.with_overrides`.
        kv_from: the reference again, to inject its keys and values.
        image: a picture that the samples begin with, for image-to-video backbones.
        name: in the card; default: that of the reference without its suffix.

    The others are those of `TrainConfig`.
    """

    reference: Path
    start: float = 0.0
    end: float | None = None
    frames: int | None = None
    fps: float | None = None
    size: tuple[int, int] | None = None
    fit: Fit | None = None
    prompts: tuple[str, ...] = ()
    samples: int | None = None
    mode: Literal["positions", "latents"] = "positions"
    recipe: Literal["auto", "default", "paper", "fast", "rich"] = "auto"
    parametrisation: str | None = None
    objective: str | None = None
    steps: int | None = None
    guidance_scale: float | None = None
    seed: int = 0
    overrides: tuple[tuple[str, str], ...] = ()
    kv_from: Path | None = None
    image: Path | None = None
    checkpointing: Literal["auto", "off", "little", "partly", "on"] = "auto"
    compile: bool = False
    name: str | None = None
    author: str = ""
    license: str = ""
    card_version: str = "1.0.0"

    def check(self) -> None:
        """Refuse what makes no sense whatever the backbone, before anything is read.

        Raises:
            UsageError: an end that is not after the start; keys and values of another clip; more
                than one sample or a form of positions in latents mode; an unknown objective; a
                setting that is unknown or given twice; a text that no card may hold.
        """
        if self.end is not None and not self.start < self.end < math.inf:
            raise UsageError(
                f"Expected {option('end')} after {option('start')} ({self.start:g} s), got "
                f"{self.end:g} s.",
                "Both count from the first frame of the clip.",
            )
        if self.kv_from is not None and not _same(self.kv_from, self.reference):
            raise UsageError(
                f"Expected {option('kv_from')} to be the reference itself ({self.reference}), got "
                f"{self.kv_from}.",
                "Name the same file: the card remembers one clip.",
            )
        from pe_toolkit.card.asked import check_words

        if self.frames is not None and self.frames < 2:
            raise UsageError(f"Expected {option('frames')} of 2 or more, got {self.frames}.")
        check_words(
            name=self.card_name,
            card_version=self.card_version,
            author=self.author,
            license=self.license,
        )
        self._config().with_overrides(dict(self.overrides)).check_mode()
        if self.mode == "latents" and self.parametrisation:
            raise UsageError(
                f"Expected no {option('parametrisation')} with {option('mode')} latents: no "
                "positions are learned.",
                "Leave it out.",
            )
        keys = [key for key, _ in self.overrides]
        if self.objective is not None:
            check_name(self.objective)
            keys.append("objective")
        if twice := next((key for key in keys if keys.count(key) > 1), None):
            raise UsageError(
                f"Expected each {option('overrides')} key once, got {twice!r} more than once."
                if twice != "objective" or self.objective is None
                else f"Expected one objective, got {option('objective')} and "
                f"{option('overrides')} objective."
            )

    def check_for(self, shape: Shape) -> None:
        """Refuse what the backbone cannot serve.

        Raises:
            UsageError: another size than the only one of the backbone.
            UnsupportedError: a form that its kind of positions does not have.
        """
        if self.parametrisation is not None:
            form_for(shape.positions, self.parametrisation, shape.name)
        shape.check(self.frames, self.size)

    def config(self, variant: Variant | None = None, *, preview: bool = False) -> TrainConfig:
        """What `train` takes. With a variant, numbers out of range are found before any work.

        Raises:
            UsageError, UnsupportedError: as `TrainConfig.with_overrides` and `TrainConfig.resolve`.
        """
        config = self._config(preview).with_overrides(dict(self.overrides))
        if variant is not None:
            config.resolve(variant)
        return config

    def glance(self, on_progress: OnProgress | None = None) -> Clip:
        """The reference for a first look, where the backbone's shape is not known yet.

        Args:
            on_progress: as in `read_clip`.

        Raises:
            ClipError: it cannot be read, is too short, or ends before `end`.
        """
        from pe_toolkit.video import read_clip

        clip = read_clip(
            self.reference,
            start=self.start,
            end=self.end,
            frames=33,
            size=(128, 128),
            on_progress=on_progress,
        )
        return self._ends_within(clip)

    def read(self, shape: Shape, on_progress: OnProgress | None = None) -> Clip:
        """The reference as the recipe and the backbone want it.

        Args:
            on_progress: as in `read_clip`.

        Raises:
            ClipError: it cannot be read, is too short, or ends before `end`.
        """
        from pe_toolkit.video import read_clip

        frames = self.frames_for(shape)
        assert frames is not None  # the shape knows
        clip = read_clip(
            self.reference,
            start=self.start,
            end=self.end,
            frames=frames,
            fps=usual_rate(self.recipe) if self.fps is None else self.fps,
            size=self.size or (shape.width, shape.height),
            fit=self.fit or usual_fit(self.recipe),
            min_frames=latent_frames(frames),
            on_progress=on_progress,
        )
        return self._ends_within(clip)

    def _ends_within(self, clip: Clip) -> Clip:
        """The clip, unless its end was asked for where there is none: nobody would find out.

        Raises:
            ClipError: more than a frame beyond the clip.
        """
        frame = clip.duration / clip.total_frames  # lengths are rounded, up too
        if self.end is not None and self.end > clip.duration + frame:
            raise ClipError(
                f"Expected {option('end')} within the clip, but '{clip.source}' ends at "
                f"{clip.duration:.2f} s and the end is {self.end:g} s.",
                f"Choose an end up to {clip.duration:.2f} s, or leave it out.",
            )
        return clip

    def read_image(self) -> Picture | None:
        """The picture that the samples begin with: uint8 RGB `(H, W, 3)`.

        Raises:
            ClipError: it cannot be read as a picture.
        """
        from pe_toolkit.video.image import read_image

        return None if self.image is None else read_image(self.image)

    def frames_for(self, own: Shape | Variant | None) -> int | None:
        """Frames to train with; `own` is None for a backbone not known before it is loaded.

        Returns:
            `frames`, else the published count where the recipe and the backbone allow it, else the
            backbone's own, None if that is not known.
        """
        if self.frames is not None or own is None:
            published = PAPER_FRAMES if self.recipe == "paper" else None
            return published if self.frames is None else self.frames
        if self.recipe == "paper" and not own.fixed_size:
            return min(own.frames, PAPER_FRAMES)
        return own.frames

    def purpose(self, variant: Variant | None) -> Purpose:
        """What `--offload auto` has to have room for."""
        frames = self.frames_for(variant)
        return Purpose(("train",), frames, self.size, self.checkpointing, compiled=self.compile)

    @property
    def card_name(self) -> str:
        """The name that the card gets."""
        if self.name is not None:
            return self.name
        # A file may be called by bytes that are no text; a card may not.
        stem = self.reference.stem.encode("utf-8", "replace").decode()
        return stem[:200] or "motion"

    def _config(self, preview: bool = False) -> TrainConfig:
        return TrainConfig(
            prompts=self.prompts,
            samples=self.samples,
            mode=self.mode,
            recipe=self.recipe,
            parametrisation=self.parametrisation,
            objective=self.objective,
            steps=self.steps,
            guidance_scale=self.guidance_scale,
            seed=self.seed,
            kv=self.kv_from is not None,
            checkpointing=self.checkpointing,
            compile=self.compile,
            name=self.card_name,
            author=self.author,
            license=self.license,
            card_version=self.card_version,
            preview=preview,
        )


def _same(first: Path, second: Path) -> bool:
    return first.exists() and second.exists() and first.samefile(second)
