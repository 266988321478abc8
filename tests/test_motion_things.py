"""One thing or two: the cut of real readings, against what is known to move."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pe_toolkit.grid import TokenGrid
from pe_toolkit.motion.flow import AttentionMotionFlow
from pe_toolkit.motion.things import OWN, things_of
from pe_toolkit.world.motions import scenes_of
from pe_toolkit.world.scenes import Scene, Thing
from tests.test_motion_moves import (
    GRID,
    OWN_SEED,
    camera_off,
    covers,
    flow_of,
    in_patches,
    looked,
    near,
    on_latent_frames,
)


@pytest.mark.parametrize(
    ("name", "number", "count", "seed"),
    [
        # The other half of the cut is a corner of the background; of its thirds the light at the
        # border seems to move by itself.
        ("translation", 1, 1, OWN_SEED),
        # As a whole, the cut takes the light behind the thing as well.
        ("translation", 13, 1, OWN_SEED),
        # By other weights, the cut tells the light half of the background.
        ("small", 2, 1, OWN_SEED),
        ("small", 10, 1, OWN_SEED),
        ("enters", 10, 1, OWN_SEED),
        ("two", 1, 2, OWN_SEED),
        # One path explains most of it, and each thing's own much more of itself.
        ("two", 3, 2, OWN_SEED),
        ("two", 7, 2, OWN_SEED),  # of the second, slow one its path explains little
        ("two", 18, 2, OWN_SEED),  # one half of the cut takes half of the background as well
        ("two", 19, 2, OWN_SEED),  # a light on the background is told before the second thing
        ("two", 1, 2, 77),  # of thirds; their own courses explain 0.9 and 0.68
        ("two", 2, 2, 77),  # one goes far, and the other's course explains 0.09 of both
    ],
)
def test_things_of_real_clips_are_counted(name: str, number: int, count: int, seed: int) -> None:
    scene = scenes_of(name, number + 1, seed=seed)[number]
    subjects = looked(scene).subjects
    assert len(subjects) == count
    if name == "enters":  # where it is out of sight, its place is not known
        return
    for thing in scene.things:
        true = on_latent_frames(thing.path, len(subjects[0].place)) - 0.5
        off = [float(np.linalg.norm(s.place.numpy() - true, axis=1).mean()) for s in subjects]
        assert min(off) < 1.0


def test_a_half_is_the_thing_where_the_cut_tells_a_background() -> None:
    (scene,) = scenes_of("pan", 24)[23:]
    moves = looked(scene)
    assert not moves.turns  # what is left beside the whole cut is laid on itself with a turn
    assert camera_off(moves, scene) < 0.5


def test_two_things_explain_what_they_cover_and_a_corner_does_not() -> None:
    paths = [[(0.25, 0.3 + 0.1 * f) for f in range(5)], [(0.75, 0.7 - 0.1 * f) for f in range(5)]]
    masks = [covers(p, 0.17, GRID) for p in paths]
    both = flow_of([in_patches(p) for p in paths], masks, GRID)
    found = things_of(both, near(*masks), GRID)
    assert len(found) == 2
    assert min(thing.own for thing in found) > 0.8
    # The second one's matches go anywhere: it is a part of the background that is told apart.
    chance = torch.Generator().manual_seed(0)
    jitter = torch.randint(-2, 3, both.displacement.shape, generator=chance).to(torch.int8)
    at = GRID.coordinates(dtype=torch.int8).unflatten(0, (8, 8))
    jitter = (at + jitter).clamp(0, 7) - at
    corner = (masks[1] > 0.5)[:, None, :, :, None]
    moves = torch.where(corner, jitter, both.displacement)
    one = things_of(AttentionMotionFlow(moves, both.mask, GRID), near(*masks), GRID)
    assert len(one) == 1
    assert one[0].own > OWN
    torch.testing.assert_close(
        one[0].course.place - one[0].course.place[2], in_patches(paths[0]), atol=0.5, rtol=0
    )


def test_two_parts_of_one_thing_are_one() -> None:
    path = [(0.5, 0.3 + 0.1 * f) for f in range(5)]
    sides = [covers([(x + side, y) for x, y in path], 0.13, GRID) for side in (-0.15, 0.15)]
    found = things_of(flow_of([in_patches(path)] * 2, sides, GRID), near(*sides), GRID)
    assert len(found) == 1
    torch.testing.assert_close(
        found[0].course.place - found[0].course.place[2], in_patches(path), atol=0.5, rtol=0
    )


@pytest.mark.parametrize(
    ("left", "right", "light", "jitter", "count"),
    [
        (0.3, 0.7, 0, 0, 2),
        (0.06, 0.6, 3, 0, 1),  # always cut by the border, as a light there would be
        (0.3, 0.7, 0, 1, 1),  # what the second one covers goes where its course does, but roughly
    ],
)
def test_two_things_are_told_beside_a_light_that_is_told_first(
    left: float, right: float, light: int, jitter: int, count: int
) -> None:
    paths = [[(left, 0.3 + 0.1 * f) for f in range(5)], [(right, 0.7 - 0.1 * f) for f in range(5)]]
    masks = [covers(p, 0.13, GRID) for p in paths]
    column = torch.zeros(5, 8, 8)
    column[:, :, light] = 1.0
    column = column * (1 - torch.stack(masks).amax(0))
    flow = flow_of([in_patches(p) for p in paths], masks, GRID)
    shape, chance = flow.displacement.shape, torch.Generator().manual_seed(0)
    about = torch.randint(-jitter, jitter + 1, shape, generator=chance).to(torch.int8)
    at = GRID.coordinates(dtype=torch.int8).unflatten(0, (8, 8))
    rough = (at + flow.displacement + about).clamp(0, 7) - at
    second = (masks[1] > 0.3)[:, None, :, :, None]
    moves = torch.where(second, rough, flow.displacement)
    flow = AttentionMotionFlow(moves, flow.mask, GRID)
    found = things_of(flow, near(column, *masks), GRID)
    assert len(found) == count
    if count == 2:
        goes = sorted(float(t.course.place[-1, 1] - t.course.place[0, 1]) for t in found)
        assert goes[0] < -2.5
        assert goes[1] > 2.5


def test_where_nothing_moves_nothing_is_explained() -> None:
    grid = TokenGrid(3, 4, 4)
    rest = AttentionMotionFlow(
        torch.zeros(3, 3, 4, 4, 2, dtype=torch.int8),
        torch.zeros(3, 3, 4, 4, dtype=torch.bool),
        grid,
    )
    assert all(thing.share == 0 for thing in things_of(rest, near(torch.zeros(3, 4, 4)), grid))


@pytest.mark.parametrize("style", ["flat", "texture"])
@pytest.mark.parametrize(
    ("start", "end", "stays"),
    [
        # The cut takes both as one: its middle goes half as far.
        ((0.2, 0.3), (0.75, 0.3), (0.5, 0.78)),
        ((0.7, 0.7), (0.3, 0.7), (0.5, 0.25)),
    ],
)
def test_one_that_goes_beside_one_that_rests_goes_as_far_as_it_does(
    start: tuple[float, float], end: tuple[float, float], stays: tuple[float, float], style: str
) -> None:
    count, radius = 33, np.full(33, 0.16)
    goes, rests = np.linspace(start, end, count), np.tile(stays, (count, 1))
    things = Thing("red", "circle", goes, radius), Thing("green", "square", rests, radius)
    (subject,) = looked(Scene("line", things, "blue", style, np.zeros((count, 2)), 1)).subjects
    true = on_latent_frames(goes, len(subject.place)) - 0.5
    assert float(np.linalg.norm(subject.place.numpy() - true, axis=1).mean()) < 0.3
