"""Another motion made of a card's, without training, as a new card. Needs no torch, but for the
angles of cards before 2.0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pe_toolkit.card import MotionCard
from pe_toolkit.card.edit import edited, renewed
from pe_toolkit.card.spec import CAMERA, WHOLE, BelowSpec, CardSpec, EditSpec
from pe_toolkit.card.tensors import unpacked
from pe_toolkit.editing import fields as fieldwork
from pe_toolkit.editing import measured, things
from pe_toolkit.editing.fields import COLUMNS, ROWS, Fields, Floats
from pe_toolkit.editing.sizes import (
    check_fixed,
    check_phase,
    latent_frames,
    latents,
    on_latents,
    patches,
)
from pe_toolkit.errors import MismatchError, UnsupportedError, UsageError, option
from pe_toolkit.grid import TokenGrid
from pe_toolkit.motion.stored import quantised, radians
from pe_toolkit.shown import printable

AXES = {"left-right": COLUMNS, "up-down": ROWS}
MOST_UNSAID = 0.05
"""Share (of root mean squares) of optimised angles that coordinates may leave unsaid."""
FASTEST = 16.0
FITTING = {
    "architecture": "Train both with the same backbone.",
    "token grid": "Change the frames or the size of one of them first.",
    "kind of phase": "Train both with --recipe rich, or both without.",
}
"""What brings two cards together that do not have the same of these."""

EDITABLE = "Expected a card whose motion can be edited: it says where each patch counts as being."
FREE = (
    f"Train a card of the same clip with --recipe rich or {option('parametrisation')} offset and "
    "edit that one. What a card says of itself (name, author, license, version) can always be "
    "edited."
)
"""What to do with a card whose motion cannot be edited."""


@dataclass(frozen=True)
class Change:
    """What is done to the motion of a card, in this order; the defaults do nothing.

    Attributes:
        reverse: play it backwards.
        speed: times as fast, 1/16 to 16, from the first frame on. Above 1 it stands still at the
            end, below 1 its end is not reached.
        mirror: `left-right`, `up-down`, or both.
        frames: of the clip.
        size: (width, height) of the clip in pixels.
        then: a card whose motion follows, each in half of the clip.
        mask: `(height, width)` numbers in [0, 1] of any size, stretched over the picture: the
            motion stays where it is 1. `outside`: the card whose motion is where it is 0; None:
            nothing moves there. Of several things whose places a card knows, or two cards, each
            goes on whole or not at all, as most of its way lies (`editing.things`); otherwise the
            border is softened (`editing.fields.SOFT`).
    """

    reverse: bool = False
    speed: float = 1.0
    mirror: tuple[str, ...] = ()
    frames: int | None = None
    size: tuple[int, int] | None = None
    then: MotionCard | None = None
    mask: Floats | None = None
    outside: MotionCard | None = None


def changed(card: MotionCard, change: Change, **more: Any) -> MotionCard:
    """A new card whose motion is that of `card`, changed; its parents are the cards it is made of.

    Args:
        more: fields of the description that are others in the new card, such as `name`.

    Raises:
        UsageError: nothing would change, or a value that makes no sense.
        UnsupportedError: latents, positions that need the reference's keys and values, or such as
            no coordinates can say.
        MismatchError: cards that are not of the same backbone, grid and kind of phase.
    """
    _check(card, change)
    work = _Work(card)
    if change.reverse:
        work.play_backwards()
    if change.speed != 1:
        work.pace(change.speed)
    for name in change.mirror:
        work.mirror(name)
    clip = card.spec.clip
    if change.frames is not None and change.frames != clip.frames:
        work.stretch(change.frames)
    if change.size is not None and change.size != (clip.width, clip.height):
        work.resize(*change.size)
    if change.then is not None:
        work.go_on(change.then)
    if change.mask is not None:
        work.cut_out(change.mask, change.outside)
    if not work.edits:
        raise UsageError(
            "Expected something to change, but the motion would be what it is.",
            "Name a mirror, a speed, another size or number of frames, or a mask.",
        )
    return work.card(more)


class _Work:
    """A card's motion, what is known of it, and what was done to both."""

    def __init__(self, card: MotionCard) -> None:
        self.first, self.others = card, list[MotionCard]()
        self.fields, self.clip = _named(card), card.spec.clip
        self.motion = card.spec.reference.motion
        self.edits: list[EditSpec] = []
        self.beside = False  # whether another card's motion is outside of a mask

    def play_backwards(self) -> None:
        self._time(np.arange(self.fields.grid.frames - 1, -1, -1, dtype=np.float64))
        self.fields = fieldwork.reversed_(self.fields)
        self._note("reverse")

    def pace(self, speed: float) -> None:
        self._time(np.arange(self.fields.grid.frames) * speed)
        self.fields = fieldwork.paced(self.fields, speed)
        self._note("speed", times=float(speed))

    def mirror(self, name: str) -> None:
        axis, grid = AXES[name], self.fields.grid
        sides = (grid.height, grid.width)
        self.motion = measured.mirrored(self.motion, axis, sides[axis])
        self.fields = fieldwork.mirrored(self.fields, axis)
        self._note("mirror", axis=name)

    def stretch(self, frames: int) -> None:
        check_fixed(self.first.spec, "its number of frames")
        count = latent_frames(self.first.spec, frames)
        self._time(np.linspace(0, self.fields.grid.frames - 1, count))
        self.fields = fieldwork.with_frames(self.fields, count)
        self.clip = replace(self.clip, frames=frames)
        self._note("frames", count=float(frames))

    def resize(self, width: int, height: int) -> None:
        check_fixed(self.first.spec, "its size")
        rows, columns = patches(self.first, width, height)
        before = self.fields.grid
        if self.fields.phase is not None:
            check_phase(self.fields.radius, latents(TokenGrid(before.frames, rows, columns)))
        self.motion = measured.sized(self.motion, columns / before.width, rows / before.height)
        grid = TokenGrid(before.frames, rows, columns)
        self.fields = fieldwork.sized(self.fields, rows, columns, latents(grid))
        self.clip = replace(self.clip, width=width, height=height)
        self._note("size", width=float(width), height=float(height))

    def go_on(self, other: MotionCard) -> None:
        frames = self.fields.grid.frames
        if frames < 3:
            raise UsageError(
                f"Expected three latent frames or more for one motion after another, got {frames}.",
                f"Give the card more first ({option('frames')}).",
            )
        self.motion = measured.joined(self.motion, other.spec.reference.motion)
        self.fields = fieldwork.joined(*self._fitted(other))
        if _rests(self.first) and _rests(other):
            self.fields = fieldwork.kept_inside(self.fields)
        self._note("then", card=other.digest)

    def cut_out(self, mask: Floats, outside: MotionCard | None) -> None:
        rest, settings = fieldwork.stilled(self.fields), dict[str, float | str]()
        if outside is not None:
            self.fields, rest = self._fitted(outside)
            settings, self.beside = {"outside": outside.digest}, True
        there = on_latents(mask, self.fields.latent)
        before, motion, self.motion = self.fields, self.motion, None
        self.fields = fieldwork.masked(before, rest, there)
        if outside is not None:
            other = outside.spec, rest, outside.spec.reference.motion
            self.motion = things.beside((self.first.spec, before, motion), other, there)
            if self.motion is not None:
                self.fields = things.together(self.fields, self.motion)
                settings["things"] = float(len(self.motion.subjects))
        elif motion is not None:
            inside = things.chosen(self.first.spec, before, motion, there)
            if inside is not None:
                self.fields = things.only(before, self.fields, motion, inside)
                self.motion = things.stayed(motion, inside)
                settings["things"] = float(sum(inside))
        self._note("mask", covered=round(float(there.mean()), 4), **settings)

    def card(self, more: Mapping[str, Any]) -> MotionCard:
        spec, most = renewed(self.first)[0], self._guiding()
        frames, height, width = self.fields.grid
        phase = spec.recipe.phase
        recipe = replace(
            spec.recipe,
            parametrisation="offset",
            layers=self.fields.layers,
            below=_below_spec(self.fields),
            ground=self._ground(),
            guided_range=most.recipe.guided_range,
            phase=None
            if phase is None
            else replace(phase, radius=self.fields.radius, gamma=self._gamma(), mean=self._mean()),
        )
        return edited(
            self.first,
            self.edits,
            others=self.others,
            tensors=_tensors(self.fields),
            grid=replace(spec.grid, frames=frames, height=height, width=width),
            clip=self.clip,
            recipe=recipe,
            schedule=most.schedule,
            reference=replace(spec.reference, motion=self.motion),
            **more,
        )

    def _guiding(self) -> CardSpec:
        """The card that guides to the lowest noise, where one set of positions is that of all: what
        one camera asks for is lost on fewer steps (`training.prepare.Run.seeing`), and others take
        it.
        """
        specs = [renewed(card)[0] for card in (self.first, *self.others)]
        if len(self.fields.offsets) > 1:
            return specs[0]
        return min(specs, key=lambda spec: min(spec.schedule.noise, default=1.0))

    def _gamma(self) -> float:
        """The smallest of all cards: a phase that was made for a ground is not too weak without."""
        cards = (self.first, *self.others)
        return min(c.spec.recipe.phase.gamma for c in cards if c.spec.recipe.phase is not None)

    def _mean(self) -> bool | None:
        """Left to the noise where one of the cards leaves it. Edits that take the ground away do
        not: they were measured with the reference's.
        """
        phases = [card.spec.recipe.phase for card in (self.first, *self.others)]
        return False if any(p is not None and p.mean is False for p in phases) else None

    def _ground(self) -> float | None:
        """What all cards have of it. What is fixed to a camera of which nothing is known any more
        would stay where it is: right where all rest. Things that are put side by side are two: a
        ground takes their motions from them.
        """
        cards = (self.first, *self.others)
        grounds = [card.spec.recipe.ground or 0.0 for card in cards]
        known = self.motion is not None or all(_rests(card) for card in cards)
        return min(grounds) or None if known and not self.beside else None

    def _note(self, what: str, **settings: float | str) -> None:
        self.edits.append(EditSpec(what=what, settings=settings))

    def _time(self, times: NDArray[Any]) -> None:
        self.motion = measured.timed(self.motion, times)

    def _fitted(self, other: MotionCard) -> tuple[Fields, Fields]:
        """These fields and those of another card, both with the coarser phase of the two.

        Raises:
            MismatchError: they do not.
        """
        self.others.append(other)
        here, there = self.fields, _named(other)
        ours, theirs = self.first.spec, other.spec
        many = len(here.offsets) > 1 or len(there.offsets) > 1
        compared: list[tuple[str, Any, Any]] = [
            ("architecture", ours.backbone.fingerprint, theirs.backbone.fingerprint),
            ("token grid", here.grid, there.grid),
            # One set of positions for all guided steps serves others as well (`_guiding`).
            ("guided range", _guided(ours, many), _guided(theirs, many)),
            ("kind of phase", _phase(here), _phase(there)),
            ("number of sets of positions", len(here.offsets), len(there.offsets)),
        ]
        for what, wanted, came in compared:
            if wanted != came:
                raise MismatchError(
                    f"Expected two cards of the same {what}, got {printable(str(wanted))} and "
                    f"{printable(str(came))}.",
                    FITTING.get(what, "Train both alike."),
                )
        # Of one thing and of two the phases are of other radii.
        return fieldwork.coarser(here, there.radius), fieldwork.coarser(there, here.radius)


def _guided(spec: CardSpec, many: bool) -> tuple[float, ...] | None:
    return spec.recipe.guided_range if many else None


def _named(card: MotionCard) -> Fields:
    """`fields_of`, where the layer of one path for everything is called the camera's if that is all
    that moves (a pan): what says so, the motion in numbers, does not outlive all edits.
    """
    fields, motion = fields_of(card), card.spec.reference.motion
    pans = fields.layers == (WHOLE,) and motion is not None and motion.camera_alone
    return replace(fields, layers=(CAMERA,)) if pans else fields


def fields_of(card: MotionCard) -> Fields:
    """The motion of a positions card as fields.

    Angles that are the same for q and k and proportional to the backbone's frequencies are
    coordinates in another spelling; optimised ones are brought to the nearest.

    Raises:
        UnsupportedError: as `changed`.
    """
    spec, tensors = renewed(card)
    if spec.kind == "latents":
        raise UnsupportedError(
            "Expected a card of positions, got latents: they belong to one prompt and seed.",
            "Train one without --mode latents.",
        )
    if spec.recipe.kv == "required":
        raise UnsupportedError(
            "Expected a card that needs no keys and values of its reference: those move as the "
            "reference does.",
            "Train one without --kv-from.",
        )
    frames, height, width = spec.grid.token_grid()
    positions = tensors["positions"].astype(np.float64)
    if spec.recipe.parametrisation == "offset":
        layers = tuple(spec.recipe.layers or ())
    elif spec.recipe.parametrisation == "angle" and spec.backbone.family == "cogvideox":
        positions, layers = _coordinates(positions, _steps(spec))[:, None], (WHOLE,)
    else:
        raise UnsupportedError(
            f"{EDITABLE} Got the parametrisation {spec.recipe.parametrisation!r}, which does not.",
            FREE,
        )
    phase = tensors.get("phase")
    return Fields(
        positions.reshape(len(positions), len(layers), frames, height, width, 3),
        layers,
        tensors["flow"],
        unpacked(spec, tensors),
        None if phase is None else radians(phase),
        0.0 if spec.recipe.phase is None else spec.recipe.phase.radius,
        latents(spec.grid.token_grid()),
        None if (below := spec.recipe.below) is None else (below.noise, below.times),
    )


def _steps(spec: CardSpec) -> tuple[float, float, float]:
    """Coordinates of the card's model between neighbouring tokens, by axis.

    Raises:
        UnsupportedError: the model is none of the table.
    """
    from pe_toolkit.backbones import VARIANTS
    from pe_toolkit.backbones.catalogue.architectures import coordinate_steps

    variant = VARIANTS.get(spec.backbone.variant)
    if variant is None:
        raise UnsupportedError(
            f"Expected angles of a model that is known, got {spec.backbone.variant!r}: how far its "
            "coordinates go from token to token is not.",
            FREE,
        )
    grid = spec.grid.token_grid()
    return coordinate_steps(variant, (grid.frames, grid.height, grid.width))


def _coordinates(angles: Floats, steps: Sequence[float]) -> Floats:
    """`(T, 2, S, head_dim / 2)` angles of CogVideoX -> the offsets in tokens `(T, S, 3)` nearest to
    them; `steps`: coordinates of the model between neighbouring tokens, by axis.

    Raises:
        UnsupportedError: they are not near.
    """
    from pe_toolkit.embedding.rotary import axis_dims, frequencies

    axes = [axis.numpy() for axis in frequencies(axis_dims(2 * angles.shape[-1]))]
    if sum(map(len, axes)) != angles.shape[-1]:
        raise UnsupportedError(
            f"Expected heads of a multiple of 16 columns, got {2 * angles.shape[-1]}: which angle "
            "belongs to frame, row or column is not known.",
            FREE,
        )
    found, begin, left = [], 0, 0.0
    for rates in axes:
        part = angles[..., begin : begin + len(rates)]
        begin += len(rates)
        offset = (part @ rates).mean(1) / (rates @ rates)  # (T, S)
        left += float(np.square(part - offset[:, None, :, None] * rates).sum())
        found.append(offset)
    share = np.sqrt(left / max(float(np.square(angles).sum()), 1e-12))
    if share > MOST_UNSAID:
        raise UnsupportedError(
            f"{EDITABLE} The positions of this one were optimised freely: {share:.0%} of what they "
            "say is no place.",
            FREE,
        )
    offsets: Floats = np.stack(found, -1) / np.asarray(steps)
    return offsets


def _tensors(fields: Fields) -> dict[str, Any]:
    offsets = fields.offsets
    made = {
        "positions": offsets.reshape(*offsets.shape[:2], -1, 3).astype(np.float16),
        "flow": np.ascontiguousarray(fields.flow),
        "flow_mask": fields.mask,
    }
    if fields.phase is not None:
        made["phase"] = quantised(fields.phase)
    return made


def _below_spec(fields: Fields) -> BelowSpec | None:
    if fields.below is None:
        return None
    noise, times = fields.below
    return BelowSpec(noise=noise, times=times)


def _phase(fields: Fields) -> str:
    return "none" if fields.phase is None else "in the noise"


def _rests(card: MotionCard) -> bool:
    """Whether its camera is known to rest: a ground without a camera says so too."""
    motion = card.spec.reference.motion
    if motion is None:
        return card.spec.recipe.ground is not None
    return motion.rests


def _check(card: MotionCard, change: Change) -> None:
    if not 1 / FASTEST <= change.speed <= FASTEST:
        raise UsageError(f"Expected a speed from 1/16 to 16, got {change.speed:g}.")
    if unknown := [name for name in change.mirror if name not in AXES]:
        raise UsageError(f"Expected a mirror out of {', '.join(AXES)}, got {unknown[0]!r}.")
    if change.outside is not None and change.mask is None:
        raise UsageError("Expected a mask or a region with a card for what is outside of it.")
    mask = change.mask
    if mask is None:
        return
    if (
        mask.ndim != 2
        or not mask.size
        or not (np.isfinite(mask).all() and mask.min() >= 0 and mask.max() <= 1)
    ):
        raise UsageError("Expected a mask of numbers in [0, 1], rows x columns.")
    if not 0 < on_latents(mask, latents(card.spec.grid.token_grid())).mean() < 1:
        raise UsageError("Expected a mask that covers a part of the picture, got all or nothing.")
