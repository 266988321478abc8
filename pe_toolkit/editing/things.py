"""Whole things in a region: of several things of which a card says where they are, those whose ways
lie in the region go on, the others stand where the middle frame has them.

A region cuts through what is wider than it, and what is cut follows neither way. Where a card knows
paths and places, positions are made of them once more instead (`motion.moves.Moves.layers`), with
no way for what is outside; or, of two cards side by side, with the ways of what each has in its
part of the picture. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pe_toolkit.card.spec import MAX_LAYERS, CardSpec, MotionSpec, SubjectSpec
from pe_toolkit.editing.fields import Fields, Floats
from pe_toolkit.editing.maps import tokens
from pe_toolkit.motion.blending import ENOUGH, FOLD, held, shares

INSIDE = 0.5
"""Of the frames, in how many a thing is in the region that goes on."""


def chosen(
    spec: CardSpec, fields: Fields, motion: MotionSpec, mask: Floats
) -> tuple[bool, ...] | None:
    """Which things of a card are in a region.

    Args:
        spec: of the card; its positions are those of its things, not optimised.
        fields, motion: what moves in it by now, and what is known of that.
        mask: `(h, w)` latents in [0, 1], the region.

    Returns:
        One for each subject; None where the card has not several with a layer each, before a camera
        that rests, where their places are not known, where they grow or turn, or the border cuts
        one in the middle frame (positions keep the layout of another one then), and where none of
        them is in the region.
    """
    several = len(motion.subjects) > 1 and len(fields.layers) == len(motion.subjects)
    as_read = spec.recipe.start == "layers" and spec.recipe.start_scale in (None, 1.0)
    if not (several and as_read and _known(spec, motion) and _inside(motion.subjects, fields)):
        return None
    found = _within(motion, fields, mask)
    return tuple(found) if any(found) else None


def beside(
    here: tuple[CardSpec, Fields, MotionSpec | None],
    there: tuple[CardSpec, Fields, MotionSpec | None],
    mask: Floats,
) -> MotionSpec | None:
    """What moves where a motion goes on in a region, and another one around it: the things of the
    one that are in the region, and those of the other that are not.

    Args:
        here, there: both cards, what moves in them by now, and what is known of it.
        mask: `(h, w)` latents in [0, 1], the region.

    Returns:
        None where one of the cards has nothing there, or where its things are not known as `chosen`
        asks; one alone will do, and one that the border cuts. None, too, of more than a card has
        layers.
    """
    found = list[SubjectSpec]()
    for (spec, fields, motion), wanted in ((here, True), (there, False)):
        if motion is None or not motion.subjects or not _known(spec, motion):
            return None
        which = zip(motion.subjects, _within(motion, fields, mask), strict=True)
        own = [one for one, inside in which if inside == wanted]
        if not own:
            return None
        found += own
    assert here[2] is not None  # it has subjects
    return replace(here[2], subjects=tuple(found)) if len(found) <= MAX_LAYERS else None


def _known(spec: CardSpec, motion: MotionSpec) -> bool:
    """Whether positions can be made once more of what is known of a card."""
    recipe = spec.recipe
    if recipe.inner_steps or recipe.feedback:  # positions say other ways than the reference's
        return False
    if not motion.rests or recipe.start == "zero":
        return False
    return all(one.disc and not (one.size or one.turn) for one in motion.subjects)


def _within(motion: MotionSpec, fields: Fields, mask: Floats) -> list[bool]:
    """Of each thing, whether it is in the region for most of the time."""
    sides = np.array(mask.shape[::-1]) / [fields.grid.width, fields.grid.height]
    at = ((_places(motion.subjects) + 0.5) * sides).astype(np.int64)  # (n, F, 2)
    x, y = np.moveaxis(np.clip(at, 0, np.array(mask.shape[::-1]) - 1), -1, 0)
    found: list[bool] = ((mask[y, x] >= 0.5).mean(1) >= INSIDE).tolist()
    return found


def stayed(motion: MotionSpec, inside: Sequence[bool]) -> MotionSpec:
    """What moves still."""
    kept = tuple(one for one, goes in zip(motion.subjects, inside, strict=True) if goes)
    return replace(motion, subjects=kept)


def only(fields: Fields, edited: Fields, motion: MotionSpec, inside: Sequence[bool]) -> Fields:
    """`edited`, whose phase is that of a region, with the positions and displacements of `fields`
    for the things that are inside, and none for the others, which stay where they are in the middle
    frame.

    Args:
        motion: before a camera that rests; all have places.
        inside: for each of its subjects.

    Returns:
        fields of the same shapes: offsets in patches, less than half a patch beyond the border.
    """
    before, goes = _places(motion.subjects), np.asarray(inside)
    _, height, width = fields.grid
    places = np.where(goes[:, None, None], before, before[:, fields.grid.frames // 2, None])
    nearest = shares(before, height, width).argmax(0)  # (F, H, W)
    own = goes[nearest][:, None]
    return replace(
        edited,
        layers=fields.layers,
        offsets=_offsets(fields, places),
        flow=np.where(own[..., None], fields.flow, 0).astype(np.int8),
        mask=fields.mask & own,
    )


def together(edited: Fields, motion: MotionSpec) -> Fields:
    """`edited`, with the positions of the things of `motion`, before a camera that rests; all have
    places.
    """
    names = tuple(f"subject-{k + 1}" if k else "subject" for k in range(len(motion.subjects)))
    offsets = _offsets(edited, _places(motion.subjects))
    return replace(edited, layers=names, offsets=offsets, below=None)


def _offsets(fields: Fields, places: Floats) -> Floats:
    """Of things with these places `(n, F, 2)`, as `motion.moves.Moves.layers` makes them."""
    frames, height, width = fields.grid
    middle = frames // 2
    away = (places[:, middle] - np.array([width - 1, height - 1]) / 2).mean(0)
    if fields.phase is None:
        away = np.zeros(2)  # as `training.start.first_layers`
    ways = places - places[:, middle, None] + away  # (n, F, 2)
    back = -shares(places, height, width)[..., None] * ways[:, :, None, None]
    at = tokens(height, width)[None]
    sides = np.array([height, width], np.float64)
    fold = FOLD if fields.phase is not None else 0.0
    layers = held(np.broadcast_to(at, back.shape[1:]), back[..., ::-1], sides, fold=fold)
    offsets = np.stack([np.pad(one, ((0, 0),) * 3 + ((1, 0),)) for one in layers])
    return np.broadcast_to(offsets, (len(fields.offsets), *offsets.shape)).copy()


def _inside(subjects: Sequence[SubjectSpec], fields: Fields) -> bool:
    """Whether all are inside of the picture in the middle frame, as `motion.moves.Moves.origin`
    asks; all have places.
    """
    x, y, radius = np.array([one.disc for one in subjects], np.float64).T
    low = np.minimum(x, y) + 0.5
    high = np.minimum(fields.grid.width - x, fields.grid.height - y) - 0.5
    return bool((np.minimum(low, high) >= ENOUGH * radius).all())


def _places(subjects: Sequence[SubjectSpec]) -> Floats:
    """`(n, F, 2)` (x, y) in patches."""
    discs = np.array([one.disc for one in subjects])
    found: Floats = discs[:, None, :2] + np.array([one.path for one in subjects])
    return found
