"""Regions that take whole things, against positions that are made of the paths of a reference."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from pe_toolkit.card import MotionCard
from pe_toolkit.card.motion_words import card_motion
from pe_toolkit.card.spec import CardSpec
from pe_toolkit.editing import Change, changed, things
from pe_toolkit.editing.cards import fields_of
from pe_toolkit.editing.fields import Fields, masked, stilled
from pe_toolkit.grid import TokenGrid
from pe_toolkit.motion.blending import FOLD
from pe_toolkit.motion.layers import inside
from pe_toolkit.motion.moves import Moves, Subject
from pe_toolkit.training.describe import motion_spec
from tests.registry.cards import GOLDEN

GRID = TokenGrid(3, 4, 4)
LATENT = (8, 8)
LEFT = np.tile(np.repeat([1.0, 0.0], 4), (8, 1))  # half of the picture


def _subject(place: torch.Tensor) -> Subject:
    """A thing as large as a patch, on its way."""
    cover = torch.zeros(tuple(GRID), dtype=torch.bool)
    for f, (x, y) in enumerate(place.round().long().tolist()):
        cover[f, y, x] = True
    still = torch.zeros(GRID.frames, dtype=torch.float64)
    return Subject(place - place[1], place, still, still, 0.5, cover, seen=True)


def _moves() -> Moves:
    """One goes down at the left, the other up at the right."""
    one = torch.tensor([[0.0, 0.0], [0.25, 1.5], [0.0, 3.0]], dtype=torch.float64)
    other = torch.tensor([[3.0, 3.0], [2.75, 2.0], [3.0, 0.0]], dtype=torch.float64)
    rest = torch.eye(2, dtype=torch.float64).repeat(GRID.frames, 1, 1)
    shift = torch.zeros(GRID.frames, 2, dtype=torch.float64)
    return Moves(1, rest, shift, (_subject(one), _subject(other)))


def _fields(moves: Moves, phase: bool = True) -> Fields:
    """As a training with the phase in the noise has them."""
    layers = inside(GRID, moves.layers(GRID, placed=phase), fold=FOLD if phase else 0.0)
    offsets = torch.stack(list(layers.values())).double().unflatten(1, tuple(GRID)).numpy()
    rng = np.random.default_rng(0)
    flow = rng.integers(-1, 2, (3, 3, 4, 4, 2)).astype(np.int8)
    angles = rng.uniform(0, 6, (3, 2, 13)) if phase else None
    return Fields(
        offsets[None], tuple(layers), flow, np.ones((3, 3, 4, 4), bool), angles, 2.83, LATENT
    )


def _spec(**recipe: Any) -> CardSpec:
    spec = MotionCard.load(GOLDEN / "rotary-offset.safetensors").spec
    training = replace(spec.training, loss=((1.0, 0.5),) * spec.guided_steps)
    return replace(spec, training=training, recipe=replace(spec.recipe, start="layers", **recipe))


def _started(start: str) -> CardSpec:
    card = _spec()
    return replace(card, recipe=replace(card.recipe, start=start))


def _only(moves: Moves, goes: tuple[bool, bool], phase: bool = True) -> Fields:
    fields = _fields(moves, phase)
    return things.only(fields, masked(fields, stilled(fields), LEFT), motion_spec(moves), goes)


@pytest.mark.parametrize("phase", [True, False])
def test_positions_of_all_things_are_those_of_the_card(phase: bool) -> None:
    found, fields = _only(_moves(), (True, True), phase), _fields(_moves(), phase)
    np.testing.assert_allclose(found.offsets, fields.offsets, atol=1e-3)
    assert found.layers == fields.layers == ("subject", "subject-2")
    np.testing.assert_array_equal(found.flow, fields.flow)
    assert found.mask.all()


@pytest.mark.parametrize("phase", [True, False])
def test_what_is_outside_stands_where_the_middle_frame_has_it(phase: bool) -> None:
    moves = _moves()
    first, second = moves.subjects
    place = second.place[1].expand(3, 2)
    stands = replace(second, place=place, path=torch.zeros_like(second.path))
    wanted = _fields(replace(moves, subjects=(first, stands)), phase)
    found = _only(moves, (True, False), phase)
    np.testing.assert_allclose(found.offsets, wanted.offsets, atol=1e-3)
    # What is compared after applying is the way of the thing that goes on, from where it is.
    for f, (here, there) in enumerate(zip(first.place, second.place, strict=True)):
        (x, y), (away, down) = here.round().int().tolist(), there.round().int().tolist()
        assert found.mask[f, :, y, x].all()
        np.testing.assert_array_equal(found.flow[f, :, y, x], _fields(moves).flow[f, :, y, x])
        assert not found.mask[f, :, down, away].any()
        assert not found.flow[f, :, down, away].any()
    # The phase stays that of the region: cut by its border.
    if phase:
        assert not np.allclose(found.phase, _fields(moves).phase)


def test_which_things_are_in_a_region() -> None:
    moves, spec = _moves(), _spec()
    fields, motion = _fields(moves), motion_spec(moves)
    assert things.chosen(spec, fields, motion, LEFT) == (True, False)
    assert things.chosen(spec, fields, motion, 1 - LEFT) == (False, True)
    assert things.chosen(spec, fields, motion, np.ones(LATENT)) == (True, True)
    first = np.zeros(LATENT)
    first[:2, :2] = 1  # where it is in one frame of three
    assert things.chosen(spec, fields, motion, first) is None
    first[:5, :2] = 1  # in two
    assert things.chosen(spec, fields, motion, first) == (True, False)


@pytest.mark.parametrize(
    ("spec", "fields", "motion"),
    [
        pytest.param({"inner_steps": 1}, {}, {}, id="optimised"),
        pytest.param({"feedback": 2}, {}, {}, id="corrected"),
        pytest.param({"start_scale": 1.5}, {}, {}, id="farther"),
        pytest.param({}, {}, {"disc": (0.2, 1.5, 1.5)}, id="cut by the border"),
        pytest.param({}, {}, {"disc": (1.5, 3.3, 1.5)}, id="cut below"),
        pytest.param({"start": "flow"}, {}, {}, id="one path"),
        pytest.param({}, {"layers": ("camera", "subject", "subject-2")}, {}, id="more layers"),
        pytest.param({}, {}, {"disc": None}, id="places unknown"),
        pytest.param({}, {}, {"size": (1.0, 1.0, 2.0)}, id="grows"),
        pytest.param({}, {}, {"turn": (0.0, 0.0, 90.0)}, id="turns"),
    ],
)
def test_other_cards_are_cut_by_the_border(
    spec: dict[str, Any], fields: dict[str, Any], motion: dict[str, Any]
) -> None:
    moves = _moves()
    known = motion_spec(moves)
    first, *others = known.subjects
    card = _spec()
    found = things.chosen(
        replace(card, recipe=replace(card.recipe, **spec)),
        replace(_fields(moves), **fields),
        replace(known, subjects=(replace(first, **motion), *others)),
        np.ones(LATENT),
    )
    assert found is None


@pytest.mark.parametrize("phase", [True, False])
def test_things_of_two_cards_side_by_side_sit_as_those_of_one(phase: bool) -> None:
    """Each card has one of the two that are in `_moves`: whole, and in its place."""
    moves = _moves()
    both, wanted = motion_spec(moves), _fields(moves, phase)
    cards = []
    for subject in moves.subjects:
        alone = replace(moves, subjects=(subject,))
        cards.append((_started("flow"), _fields(alone, phase), motion_spec(alone)))
    one, other = cards
    found = things.beside(one, other, LEFT)
    assert found == both
    put = things.together(masked(one[1], other[1], LEFT), found)
    assert put.layers == wanted.layers
    np.testing.assert_allclose(put.offsets, wanted.offsets, atol=1e-6)
    # The other way round, each is where the other card goes on.
    assert things.beside(other, one, LEFT) is None
    assert things.beside(other, one, 1 - LEFT) is not None
    # As a region of one card asks, of both.
    for spec in (_spec(inner_steps=1), _spec(feedback=2), _started("zero")):
        assert things.beside(one, (spec, *other[1:]), LEFT) is None
        assert things.beside((spec, *one[1:]), other, LEFT) is None
    assert things.beside(one, (*other[:2], None), LEFT) is None
    pans = replace(both, camera=((1.0, 0.0, 0.0, 1.0, 1.0, 0.0), *both.camera[1:]))
    assert things.beside((*one[:2], pans), other, LEFT) is None


def test_before_a_camera_that_moves_regions_are_cut_by_the_border() -> None:
    moves = _moves()
    motion = motion_spec(moves)
    pans = replace(motion, camera=((1.0, 0.0, 0.0, 1.0, 1.0, 0.0), *motion.camera[1:]))
    assert things.chosen(_spec(), _fields(moves), pans, np.ones(LATENT)) is None


def test_words_of_such_a_card_tell_what_goes_on() -> None:
    """One thing goes right in the upper row, the other left in the lower one."""
    old = MotionCard.load(GOLDEN / "rotary-offset-disc.safetensors")
    told = replace(old.spec, recipe=replace(old.spec.recipe, start="layers"), digest="")
    card = MotionCard(told, old.tensors)
    upper = np.zeros((32, 32))
    upper[:16] = 1
    new = changed(card, Change(mask=upper))
    motion, before = new.spec.reference.motion, card.spec.reference.motion
    assert motion is not None
    assert before is not None
    assert motion.subjects == before.subjects[:1]
    assert "one subject" in card_motion(new.spec)
    assert [(e.what, dict(e.settings)) for e in new.spec.edits or ()] == [
        ("mask", {"covered": 0.5, "things": 1.0})
    ]
    ways = fields_of(new).offsets[0].sum(0)[..., 2]  # (F, H, W) columns
    steps = np.diff(ways, axis=0)
    assert (steps[:, 0] < 0).all()
    # Of the row in which nothing goes on, the blend with the other one.
    assert (abs(steps[:, 1]) < abs(steps[:, 0])).all()
    # Beside another card it goes on with what that one has there.
    back = changed(card, Change(reverse=True))
    two = changed(card, Change(mask=upper, outside=back)).spec
    assert two.reference.motion is not None
    assert back.spec.reference.motion is not None
    assert two.reference.motion.subjects == (
        before.subjects[0],
        back.spec.reference.motion.subjects[1],
    )
    assert two.recipe.layers == ("subject", "subject-2")
    assert [dict(e.settings)["things"] for e in two.edits or ()] == [2.0]
    # Of one that was cut once more, nothing is known in numbers.
    again = changed(new, Change(mask=upper))
    assert again.spec.reference.motion is None
