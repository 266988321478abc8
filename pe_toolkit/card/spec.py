"""Everything a motion card says about itself, as frozen dataclasses (see docs/card-format.md).

Building one checks it: every wrong type, length, range or contradiction is a `CardError` that
names the field. Integers are accepted for floats and lists for tuples, and come out in one
spelling, so that equal descriptions have equal bytes.
"""

# `ruled()` is `dataclasses.field()`, which the linter does not see.
# ruff: noqa: RUF009

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import ClassVar

from pe_toolkit.backbones.reading import KINDS
from pe_toolkit.backbones.ways import WAYS
from pe_toolkit.card.migrations import FORMAT, FORMAT_VERSION, SINCE, UNTIL, reaches
from pe_toolkit.card.schema import (
    Flag,
    Integer,
    ListOf,
    MapOf,
    Nullable,
    Number,
    Record,
    Section,
    Text,
    TextOrNumber,
    optional,
    refuse,
    ruled,
)
from pe_toolkit.card.text import canonical_json
from pe_toolkit.embedding import LAYERED, names, positions
from pe_toolkit.errors import CardError
from pe_toolkit.extensions import NAME
from pe_toolkit.grid import MAX_SIDE, TokenGrid
from pe_toolkit.shown import shown

FIRST_FAMILY, FIRST_OBJECTIVE = "cogvideox", "amf"
"""The only ones of cards before 1.4."""
MAX_GUIDED_STEPS = 1000
MASKS = ("nonzero", "forward-backward", "consistent", "none", "tracked")
STARTS = ("zero", "flow", "layers")
WHOLE, CAMERA = "whole", "camera"
"""Layers of positions: of one path for everything, and of a camera."""
MAX_READ_BLOCKS = 16
MAX_LAYERS = 8
MAX_PARENTS = 8
MAX_EDITS = 32

_SEMVER = r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?"
_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|\+00:00)"
_TAGGED = Text(pattern=r"sha256:[0-9a-f]{64}", like='"sha256:" and 64 hex digits')
_SIDE = Integer(1, 16_384)
LARGEST_SEED = 2**63 - 1
_SEED = Integer(0, LARGEST_SEED)
_SECONDS = Number(0, 1e7)
_FPS = Number(0, 1000, open_low=True)
_UNIT = Number(0, 1)
_MEASURED = Number(-1e4, 1e4, decimals=4)


@dataclass(frozen=True)
class BackboneSpec(Section):
    """The backbone that the card was made for."""

    place: ClassVar[str] = "backbone"

    family: str = ruled(
        Text(most=64, pattern=r"[a-z0-9][a-z0-9_.-]*", like='a family\'s name such as "cogvideox"')
    )
    """Family of architectures: any (since 1.4), also one that this pe-toolkit cannot drive, so that
    every card can be shown and kept. Until 1.3, "cogvideox"."""
    variant: str = ruled(Text(pattern=r"[A-Za-z0-9][\w.-]*", like="a name without slashes"))
    """Name in the variant table, such as "bundled" or "cogvideox-5b"."""
    model_id: str | None = ruled(
        Nullable(
            Text(
                pattern=r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?",
                like="a hub id such as owner/name (local paths are never stored)",
            )
        )
    )
    """Hub id, or None. A local path is never stored."""
    revision: str | None = ruled(Nullable(Text()))
    """Hub revision, or None."""
    fingerprint: str = ruled(_TAGGED)
    """Digest of the architecture ("sha256:..."); must match exactly."""
    weights_digest: str | None = ruled(Nullable(_TAGGED))
    """Digest of the weights ("sha256:..."), known for the bundled backbone, else None."""
    positions: str = ruled(Text(choices=positions()))
    """How the backbone encodes positions."""


@dataclass(frozen=True)
class GridSpec(Section):
    """The token grid: latent frames, patch rows, patch columns."""

    place: ClassVar[str] = "grid"

    frames: int = ruled(Integer(1, MAX_SIDE))
    height: int = ruled(Integer(1, MAX_SIDE))
    width: int = ruled(Integer(1, MAX_SIDE))

    @property
    def tokens(self) -> int:
        """All video tokens."""
        return self.frames * self.height * self.width

    def token_grid(self) -> TokenGrid:
        """The same as the value that the rest of the package uses."""
        return TokenGrid(self.frames, self.height, self.width)

    def __str__(self) -> str:
        return str(self.token_grid())


@dataclass(frozen=True)
class ClipSpec(Section):
    """The generated clip: frames, pixels, frames per second."""

    place: ClassVar[str] = "clip"

    frames: int = ruled(Integer(1, 10_000))
    width: int = ruled(_SIDE)
    height: int = ruled(_SIDE)
    fps: float = ruled(_FPS)


@dataclass(frozen=True)
class ScheduleSpec(Section):
    """The denoising schedule of training; one timestep and noise level per guided step."""

    place: ClassVar[str] = "schedule"

    scheduler: str = ruled(Text())
    """Class name of the scheduler."""
    steps: int = ruled(Integer(1, 10_000))
    guidance_scale: float = ruled(Number(0, 1000))
    dynamic_cfg: bool = ruled(Flag())
    timesteps: tuple[int, ...] = ruled(ListOf(Integer(0, 1_000_000), 1, MAX_GUIDED_STEPS))
    noise: tuple[float, ...] = ruled(ListOf(_UNIT, 1, MAX_GUIDED_STEPS))
    """`sqrt(1 - alphas_cumprod[t])` of each guided step, never rising."""
    negative_prompt: str | None = optional(Text(most=2000))
    """What the card was trained to avoid; None: nothing (since 1.3)."""

    def check_together(self) -> None:
        guided = len(self.timesteps)
        if len(self.noise) != guided:
            raise CardError(
                f"Expected `schedule.noise` to have {guided} entries, one per guided step, "
                f"got {len(self.noise)}."
            )
        if guided > self.steps:
            raise CardError(f"Expected at most {self.steps} guided steps, got {guided}.")
        if any(b > a for a, b in zip(self.noise, self.noise[1:], strict=False)):
            raise refuse("schedule.noise", "never rising", list(self.noise))


@dataclass(frozen=True)
class ReadingSpec(Section):
    """How the reference's motion was read off the transformer, where not as in the paper: the
    attention of `recipe.block` at timestep 0 (since 1.3).
    """

    place: ClassVar[str] = "recipe.reading"

    blocks: tuple[int, ...] = ruled(ListOf(Integer(0, 1000), 1, MAX_READ_BLOCKS))
    """Transformer blocks whose logits were averaged, rising."""
    by: str = ruled(Text(choices=KINDS))
    """`content`: without rotary embedding, and matched both ways."""
    timestep: int = ruled(Integer(0, 1_000_000))
    """What the transformer was told about the noise of the (clean) latents."""

    def check_together(self) -> None:
        if any(b <= a for a, b in zip(self.blocks, self.blocks[1:], strict=False)):
            raise refuse("recipe.reading.blocks", "rising block numbers", list(self.blocks))


@dataclass(frozen=True)
class PhaseSpec(Section):
    """What of the reference's phase the card holds, for the initial noise (since 1.4)."""

    place: ClassVar[str] = "recipe.phase"

    radius: float = ruled(Number(0, 16))
    """Cycles per picture: the phase of lower frequencies is kept."""
    gamma: float = ruled(Number(1, 1000))
    """What the magnitudes of those in the noise are divided by."""
    mean: bool | None = optional(Flag())
    """Whether the mean of every plane bears it as well; it does if left out (since 2.0)."""


@dataclass(frozen=True)
class BelowSpec(Section):
    """How much of each layer acts in the later steps (since 2.0)."""

    place: ClassVar[str] = "recipe.below"

    noise: float = ruled(_UNIT)
    """Above and at this noise level, all of all layers acts."""
    times: tuple[float, ...] = ruled(ListOf(Number(0, 4), 1, MAX_LAYERS))
    """Below it, how many times each of them; 0: not at all."""


@dataclass(frozen=True)
class RecipeSpec(Section):
    """How the card was trained."""

    place: ClassVar[str] = "recipe"

    name: str = ruled(Text())
    """"default", "paper", or the name of another recipe."""
    objective: str = ruled(Text(pattern=NAME.pattern, like="a name such as amf"))
    """What was minimised. Another than `amf` since 1.4; applying a card asks nothing of it, so that
    one of an objective that is not installed here applies like any other."""
    block: int = ruled(Integer(0, 1000))
    """Transformer block of the generation whose attention was matched."""
    tau: float = ruled(Number(0, 1e6, open_low=True))
    """Temperature of the soft displacement."""
    mask: str = ruled(Text(choices=MASKS))
    inner_steps: int = ruled(Integer(0, 10_000))
    """Optimisation steps per guided step (K)."""
    learning_rates: tuple[float, ...] = ruled(ListOf(Number(0, 1000), 2, 2))
    """At the first and at the last guided step."""
    parametrisation: str | None = ruled(Nullable(Text(choices=names())))
    """What `positions` holds; None in a latents card."""
    dtype: str = ruled(Text(choices=("float32", "bfloat16", "float16")))
    """Precision of the backbone in training."""
    guided_range: tuple[float, ...] = ruled(ListOf(_UNIT, 2, 2))
    """Lowest and highest noise level at which steps are guided."""
    start: str = ruled(Text(choices=STARTS))
    """How the positions were initialised."""
    seed: int = ruled(_SEED)
    kv: str = ruled(Text(choices=("none", "required")))
    """Whether applying needs keys and values of the reference clip."""
    kv_noise: str | None = optional(Text(choices=("generation",)))
    """The noise of the reference whose keys and values are required: that of each generation (since
    1.4). Without it, that of a generation with `seed`, whatever is generated."""
    reference_block: int | None = optional(Integer(0, 1000))
    """Transformer block that the reference's motion was read from, if another than `block`
    (in cards of 1.1 and 1.2)."""
    reading: ReadingSpec | None = optional(Record(ReadingSpec))
    """How the reference was read, if not by the attention of `block` at timestep 0 (since 1.3)."""
    start_scale: float | None = optional(Number(0, 100, open_low=True))
    """How far a start of `flow` or `layers` moved the positions, in times of the reference's own
    motion; 1 if it is left out (since 1.3)."""
    phase: PhaseSpec | None = optional(Record(PhaseSpec))
    """Of the tensor `phase`, if there is one (since 1.4)."""
    ground: float | None = optional(Number(0, 100, open_low=True))
    """How much of the noise that bears the phase is fixed to the camera of `reference.motion`, in
    times of what is so anyway (`pe_toolkit.motion.ground`; of a camera that rests, twice as much at
    frequencies up to 1; since 2.0); nothing if left out."""
    layers: tuple[str, ...] | None = optional(
        ListOf(
            Text(
                pattern=r"whole|camera|subject(-[2-8])?",
                like="`whole`, `camera`, `subject` or `subject-2` to `subject-8`",
            ),
            1,
            MAX_LAYERS,
        )
    )
    """What each layer of offsets moves, of a card of the parametrisation `offset` (since 2.0)."""
    below: BelowSpec | None = optional(Record(BelowSpec))
    """How much of each layer acts in the later steps (since 2.0); as much as before if it is left
    out."""
    feedback: int | None = optional(Integer(1, 16))
    """Rounds in which generations corrected the ways that positions say (since 2.0)."""

    def check_together(self) -> None:
        self._check_layers()
        low, high = self.guided_range
        if low > high:
            raise refuse("recipe.guided_range", "[low, high] with low <= high", [low, high])
        if self.start_scale is not None and self.start == "zero":
            raise CardError(
                f"Expected `recipe.start_scale` with the start `flow` or `layers` only, got "
                f"{self.start!r}."
            )
        if self.kv_noise is not None and self.kv != "required":
            raise CardError(
                f"Expected `recipe.kv_noise` with `recipe.kv` required only, got {self.kv!r}."
            )
        if self.reading is not None and self.reference_block is not None:
            raise CardError(
                "Expected `recipe.reading` or `recipe.reference_block`, which it replaced, got "
                "both."
            )

    def _check_layers(self) -> None:
        layered = self.parametrisation in LAYERED
        if layered != (self.layers is not None):
            with_or_without = "with" if layered else "without"
            raise CardError(
                f"Expected a recipe of the parametrisation {shown(self.parametrisation)} "
                f"{with_or_without} `recipe.layers`."
            )
        if self.layers is not None and len(set(self.layers)) < len(self.layers):
            raise refuse("recipe.layers", "different names", list(self.layers))
        below, count = self.below, len(self.layers or ())
        if below is not None and len(below.times) != count:
            numbers = f"{count} numbers, one for each of `recipe.layers`"
            raise refuse("recipe.below.times", numbers, list(below.times))
        if self.feedback is not None and self.layers is None:
            raise CardError(
                f"Expected `recipe.feedback` with `recipe.layers` only, got {self.feedback}."
            )

    def reads(self) -> tuple[tuple[int, ...], str, int]:
        """Blocks, kind and timestep of the reading of the reference."""
        if self.reading is not None:
            return self.reading.blocks, self.reading.by, self.reading.timestep
        block = self.block if self.reference_block is None else self.reference_block
        return (block,), "attention", 0


@dataclass(frozen=True)
class SampleSpec(Section):
    """One prompt and seed that the card was trained on."""

    place: ClassVar[str] = "samples[]"

    prompt: str = ruled(Text(least=0, most=2000))
    seed: int = ruled(_SEED)


@dataclass(frozen=True)
class SubjectSpec(Section):
    """How one thing of the reference moves beyond what the camera makes it (since 2.0)."""

    place: ClassVar[str] = "reference.motion.subjects[]"

    path: tuple[tuple[float, ...], ...] = ruled(ListOf(ListOf(_MEASURED, 2, 2), 1, MAX_SIDE))
    """(dx, dy) in patches, of every latent frame."""
    share: float = ruled(Number(0, 1, decimals=4))
    """Of the squared displacements that the mask keeps, how much this motion explains."""
    size: tuple[float, ...] | None = optional(ListOf(_MEASURED, 1, MAX_SIDE))
    """Of every latent frame, in times of that in the frame with A = 1; where it changes."""
    turn: tuple[float, ...] | None = optional(ListOf(_MEASURED, 1, MAX_SIDE))
    """Of every latent frame, degrees clockwise against that frame; where it changes."""
    disc: tuple[float, ...] | None = optional(ListOf(_MEASURED, 3, 3))
    """(x, y, r) in patches, of a disc in its place in the middle frame, as large as what it covers,
    where that is known. (0, 0) is the middle of the first patch."""

    def check_together(self) -> None:
        if self.disc is not None and self.disc[2] < 0:
            raise refuse(f"{self.place}.disc", "x, y and a radius from 0 up", list(self.disc))


STILL = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)
"""What `reference.motion.camera` says of a latent frame that the camera rests in."""


@dataclass(frozen=True)
class MotionSpec(Section):
    """The motion of the reference in numbers (since 2.0): what words about it are made from."""

    place: ClassVar[str] = "reference.motion"

    camera: tuple[tuple[float, ...], ...] = ruled(ListOf(ListOf(_MEASURED, 6, 6), 1, MAX_SIDE))
    """(a11, a12, a21, a22, bx, by) of every latent frame: what does not move by itself is at
    c + A (p - c) + b patches, if p is where it is in the frame of A = 1, b = 0, and c the centre of
    the grid; x before y."""
    subjects: tuple[SubjectSpec, ...] = ruled(ListOf(Record(SubjectSpec), 0, MAX_LAYERS))

    @property
    def rests(self) -> bool:
        """Whether the camera does, in every latent frame."""
        return all(row == STILL for row in self.camera)

    @property
    def camera_alone(self) -> bool:
        """Whether the camera moves, and nothing else was seen to."""
        return not self.subjects and not self.rests


@dataclass(frozen=True)
class ReferenceSpec(Section):
    """The reference clip: its identity and size, never its pixels."""

    place: ClassVar[str] = "reference"

    sha256: str = ruled(Text(pattern=r"[0-9a-f]{64}", like="64 hex digits"))
    duration: float = ruled(_SECONDS)
    frames: int = ruled(Integer(1, 100_000_000))
    width: int = ruled(Integer(1, 65_536))
    height: int = ruled(Integer(1, 65_536))
    fps: float = ruled(Number(0, 1e6, open_low=True))
    start: float = ruled(_SECONDS)
    """Where the used span begins, in seconds."""
    matched: float = ruled(_UNIT)
    """Share of the displacements between different frames that are not 0, of patches that move and
    can be followed through the clip; whatever the mask kept."""
    used: float | None = optional(Number(0, 1e7, open_low=True))
    """Seconds from the first used frame to the last (since 1.2)."""
    fit: str | None = optional(Text(choices=("crop", "pad", "stretch")))
    """How pictures of `width` x `height` were brought to the size of `clip` (since 1.2; without
    it, those were the sizes after that)."""
    encoded: str | None = optional(Text(choices=WAYS))
    """How the VAE encoded it: in one pass, eight frames at a time, or in tiles as well (since
    1.4)."""
    motion: MotionSpec | None = optional(Record(MotionSpec))
    """Its motion in numbers, where it was measured (since 2.0)."""


@dataclass(frozen=True)
class TrainingSpec(Section):
    """How training went."""

    place: ClassVar[str] = "training"

    loss: tuple[tuple[float, ...], ...] = ruled(
        ListOf(ListOf(Number(0, 1e30), 2, 2), 0, MAX_GUIDED_STEPS)
    )
    """First and last loss of every guided step; empty only without inner steps."""
    device: str = ruled(Text())


@dataclass(frozen=True)
class EditSpec(Section):
    """One thing that was done to a card without training (since 2.0)."""

    place: ClassVar[str] = "edits[]"

    what: str = ruled(
        Text(most=64, pattern=r"[a-z][a-z0-9-]*", like="lower-case letters, digits and -")
    )
    """Such as "mirror"."""
    settings: Mapping[str, float | str] = ruled(MapOf(TextOrNumber(), 16))


@dataclass(frozen=True)
class CardSpec(Section):
    """The whole description of a motion card.

    `digest` is "" until the tensors are known: `MotionCard(spec, tensors)` fills it in. To change
    a sealed card, build another: `MotionCard(replace(card.spec, name="x", digest=""), tensors)`.
    """

    name: str = ruled(Text())
    version: str = ruled(Text(pattern=_SEMVER, like="a semantic version such as 1.0.0"))
    author: str = ruled(Text(least=0))
    license: str = ruled(Text(least=0))
    created: str = ruled(Text(pattern=_TIME, like="a UTC time such as 2026-01-31T12:00:00Z"))
    kind: str = ruled(Text(choices=("positions", "latents")))
    backbone: BackboneSpec = ruled(Record(BackboneSpec))
    grid: GridSpec = ruled(Record(GridSpec))
    clip: ClipSpec = ruled(Record(ClipSpec))
    schedule: ScheduleSpec = ruled(Record(ScheduleSpec))
    recipe: RecipeSpec = ruled(Record(RecipeSpec))
    samples: tuple[SampleSpec, ...] = ruled(ListOf(Record(SampleSpec), 1, 256))
    reference: ReferenceSpec = ruled(Record(ReferenceSpec))
    training: TrainingSpec = ruled(Record(TrainingSpec))
    scores: Mapping[str, float] = ruled(MapOf(Number()))
    software: Mapping[str, str] = ruled(MapOf(Text()))
    parent: str | None = optional(_TAGGED)
    """Digest of the card that this one was made from without training (of 1.4; `parents` since)."""
    parents: tuple[str, ...] | None = optional(ListOf(_TAGGED, 1, MAX_PARENTS))
    """Digests of the cards that this one was made from without training, the first of which gave
    all that is not said otherwise (since 2.0)."""
    edits: tuple[EditSpec, ...] | None = optional(ListOf(Record(EditSpec), 1, MAX_EDITS))
    """What was done, since the training of the first card of the line, in order (since 2.0)."""
    digest: str = ruled(
        Text(least=0, pattern=r"(sha256:[0-9a-f]{64})?", like='"sha256:" and 64 hex digits'), ""
    )
    format: str = ruled(Text(choices=(FORMAT,)), FORMAT)
    format_version: str = ruled(
        Text(pattern=r"1\.[0-4]|2\.(0|[1-9]\d{0,5})", like="a version such as 2.0"),
        FORMAT_VERSION,
    )

    def check_together(self) -> None:
        if re.fullmatch(_TIME, self.created):
            try:
                datetime.fromisoformat(self.created)
            except ValueError:
                raise refuse("created", "a date that exists", self.created) from None
        self._check_kind()
        self._check_version()
        self._check_measured()
        self._check_line()
        guided, losses = self.guided_steps, len(self.training.loss)
        if losses != guided and not (losses == 0 and self.recipe.inner_steps == 0):
            raise CardError(
                f"Expected `training.loss` to have {guided} entries, one per guided step, "
                f"got {losses}."
            )

    def _check_version(self) -> None:
        """A card has nothing that came after the format version that it claims, nor what went."""
        mine = self.format_version
        for since, keys in SINCE.items():
            if reaches(mine, since):
                continue
            for key in keys:
                if _at(self, key) is not None:
                    raise _not_in(mine, f"without `{key}`", f"which came with {since}")
        for until, keys in UNTIL.items():
            for key in keys:
                if not reaches(until, mine) and _at(self, key) is not None:
                    raise _not_in(mine, f"without `{key}`", f"which went after {until}")
        form, family = self.recipe.parametrisation, self.backbone.family
        if not reaches(mine, "1.1") and self.recipe.mask == "tracked":
            raise _not_in(mine, "without the mask `tracked`", "which came with 1.1")
        if not reaches(mine, "1.4") and family != FIRST_FAMILY:
            wanted = f"for the family {FIRST_FAMILY!r}, got {shown(family)}"
            raise _not_in(mine, wanted, "others came with 1.4")
        if not reaches(mine, "1.4") and (goal := self.recipe.objective) != FIRST_OBJECTIVE:
            wanted = f"with the objective {FIRST_OBJECTIVE!r}, got {shown(goal)}"
            raise _not_in(mine, wanted, "others came with 1.4")
        if not reaches(mine, "2.0") and form in LAYERED:
            raise _not_in(mine, f"without the parametrisation `{form}`", "which came with 2.0")
        if not reaches(mine, "2.0") and self.recipe.start == "layers":
            raise _not_in(mine, "without the start `layers`", "which came with 2.0")

    def _check_measured(self) -> None:
        """What is measured of the reference has an entry per latent frame."""
        motion = self.reference.motion
        if motion is None:
            return
        frames, place = self.grid.frames, "reference.motion"
        counted = {f"{place}.camera": len(motion.camera)}
        counted |= {
            f"{place}.subjects[{i}].{name}": len(values)
            for i, s in enumerate(motion.subjects)
            for name in ("path", "size", "turn")
            if (values := getattr(s, name)) is not None
        }
        for path, count in counted.items():
            if count != frames:
                raise CardError(
                    f"Expected `{path}` to have {frames} entries, one per latent frame, "
                    f"got {count}."
                )

    def _check_line(self) -> None:
        """Where the card comes from."""
        if self.parents is not None and len(set(self.parents)) < len(self.parents):
            raise refuse("parents", "different digests", list(self.parents))
        if self.edits is not None and self.parents is None:
            raise CardError("Expected a card with `edits` to have `parents`, got none.")

    def _check_kind(self) -> None:
        form = self.recipe.parametrisation
        if self.recipe.ground is not None and self.recipe.phase is None:
            raise CardError(
                "Expected a card with `recipe.ground` to have `recipe.phase`, got none."
            )
        if self.kind == "latents":
            if form is not None:
                raise refuse("recipe.parametrisation", "null in a latents card", form)
            if self.recipe.phase is not None and not reaches(self.format_version, "2.0"):
                raise CardError(
                    f"Expected a latents card of format {self.format_version} without "
                    "`recipe.phase`, which came with 2.0 there."
                )
            if len(self.samples) != 1:
                raise CardError(
                    f"Expected a latents card to have one sample, got {len(self.samples)}."
                )
        elif form is None:
            known = " or ".join(f'"{name}"' for name in names())
            raise refuse("recipe.parametrisation", f"{known} in a positions card", form)
        else:
            self._check_form(form)

    def _check_form(self, form: str) -> None:
        kind = self.backbone.positions
        if form not in names(kind):
            known = " or ".join(f'"{name}"' for name in names(kind))
            raise CardError(
                f"Expected `recipe.parametrisation` {known} for {kind} positions, got "
                f'"{form}": there is nothing to {"rotate" if form == "angle" else "change so"}.'
            )

    @property
    def guided_steps(self) -> int:
        """Number of guided steps (G)."""
        return len(self.schedule.timesteps)

    @property
    def came_from(self) -> tuple[str, ...]:
        """Digests of the cards that this one was made from without training; none: trained."""
        return self.parents or ((self.parent,) if self.parent else ())

    @property
    def shares(self) -> bool:
        """Whether one set of positions may serve all guided steps (since 2.0)."""
        return reaches(self.format_version, "2.0") and self.kind == "positions"

    @property
    def packs(self) -> bool:
        """Whether `flow_mask` has a bit for each displacement (since 2.0), not a byte."""
        return reaches(self.format_version, "2.0")

    def unsealed(self) -> CardSpec:
        """The same description without its digest."""
        return replace(self, digest="")

    def canonical(self) -> bytes:
        """The text of the metadata key: canonical JSON of everything."""
        return canonical_json(self.to_dict())

    def canonical_without_digest(self) -> bytes:
        """What the digest covers beside the tensors."""
        return canonical_json({k: v for k, v in self.to_dict().items() if k != "digest"})


def _at(spec: object, key: str) -> object:
    """The value at `a.b.c`; None where a section on the way is left out."""
    for name in key.split("."):
        spec = None if spec is None else getattr(spec, name)
    return spec


def _not_in(version: str, wanted: str, why: str) -> CardError:
    return CardError(f"Expected a card of format {version} {wanted}: {why}.")


def utc_now() -> str:
    """The present in the spelling of `created`, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
