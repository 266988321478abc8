"""Whole things in a region: of several things of which a card says where they are, those whose ways
lie in the region go on, the others stand where the middle frame has them.

A region cuts through what is wider than it, and what is cut follows neither way. Where a card knows
paths and places, positions are made of them once more instead (`motion.moves.Moves.layers`), with
no way for what is outside. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pe_toolkit.card.spec import CardSpec, MotionSpec, SubjectSpec
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
    recipe = spec.recipe
    if not (several and motion.rests) or recipe.start != "layers":
        return None
    if recipe.inner_steps or recipe.feedback:  # positions say other ways than the reference's
        return None
    if recipe.start_scale not in (None, 1.0) or not _inside(motion.subjects, fields):
        return None
    if any(one.size or one.turn for one in motion.subjects):
        return None
    sides = np.array(mask.shape[::-1]) / [fields.grid.width, fields.grid.height]
    at = ((_places(motion.subjects) + 0.5) * sides).astype(np.int64)  # (n, F, 2)
    x, y = np.moveaxis(np.clip(at, 0, np.array(mask.shape[::-1]) - 1), -1, 0)
    found = (mask[y, x] >= 0.5).mean(1) >= INSIDE
    return tuple(found.tolist()) if found.any() else None


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
    frames, height, width = fields.grid
    before, middle = _places(motion.subjects), frames // 2
    goes = np.asarray(inside)
    places = np.where(goes[:, None, None], before, before[:, middle, None])
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
    nearest = shares(before, height, width).argmax(0)  # (F, H, W)
    own = goes[nearest][:, None]
    return replace(
        edited,
        layers=fields.layers,
        offsets=np.broadcast_to(offsets, (len(fields.offsets), *offsets.shape)).copy(),
        flow=np.where(own[..., None], fields.flow, 0).astype(np.int8),
        mask=fields.mask & own,
    )


def _inside(subjects: Sequence[SubjectSpec], fields: Fields) -> bool:
    """Whether it is known that all are inside of the picture in the middle frame, as
    `motion.moves.Moves.origin` asks.
    """
    discs = [one.disc for one in subjects]
    if None in discs:
        return False
    x, y, radius = np.array(discs, np.float64).T
    low = np.minimum(x, y) + 0.5
    high = np.minimum(fields.grid.width - x, fields.grid.height - y) - 0.5
    return bool((np.minimum(low, high) >= ENOUGH * radius).all())


def _places(subjects: Sequence[SubjectSpec]) -> Floats:
    """`(n, F, 2)` (x, y) in patches."""
    discs = np.array([one.disc for one in subjects])
    found: Floats = discs[:, None, :2] + np.array([one.path for one in subjects])
    return found
