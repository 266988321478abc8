"""Scenes by class: what turns, scales and moves is drawn where the truth says, and every class
holds what its name promises.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from pe_toolkit.world.metrics import track
from pe_toolkit.world.motions import CLASSES, sample_motion, scenes_of, through_camera, travelled
from pe_toolkit.world.scenes import Scene, Thing, render, sample_scene, trajectory

STILL = np.zeros((2, 2), np.float32)


def _thing(shape: str, path=((0.5, 0.5), (0.5, 0.5)), radius: float = 0.2, angle=None) -> Thing:
    turned = None if angle is None else np.asarray(angle, np.float32)
    return Thing(
        "white", shape, np.asarray(path, np.float32), np.full(2, radius, np.float32), turned
    )


def _lit(scene: Scene) -> np.ndarray:
    return render(scene, 100)[..., 0] > 128


def test_what_was_drawn_before_is_drawn_still():
    rng = np.random.default_rng(5)
    scenes = [sample_scene(rng, two=0.3) for _ in range(6)]
    means = [float(render(scene, 64).mean()) for scene in scenes]
    assert means == pytest.approx(
        [68.89133, 75.14748, 36.34171, 69.00044, 27.47587, 114.78132], abs=0.02
    )


def test_an_angle_turns_a_shape_clockwise_about_its_place():
    upright = Scene("x", (_thing("triangle", angle=(0, np.pi / 2)),), "black", "flat", STILL, 0)
    before, after = _lit(upright)
    assert (after == np.rot90(before, -1)).mean() > 0.999  # rot90 turns counter-clockwise
    rows = np.flatnonzero(before.any(1))
    assert rows.min() == pytest.approx(50 - 1.2 * 20, abs=1)  # the tip is on top ...
    columns = np.flatnonzero(after.any(0))
    assert columns.max() + 1 == pytest.approx(50 + 1.2 * 20, abs=1)  # ... and then at the right
    assert (_lit(dataclasses.replace(upright, things=(_thing("triangle"),)))[0] == before).all()


def test_a_square_on_its_corner_is_as_wide_as_its_diagonal():
    scene = Scene("x", (_thing("square", angle=(0, np.pi / 4)),), "black", "flat", STILL, 0)
    widths = [np.ptp(np.flatnonzero(lit.any(0))) + 1 for lit in _lit(scene)]
    assert widths[0] == pytest.approx(2 * 0.89 * 20, abs=1)
    assert widths[1] == pytest.approx(2 * 0.89 * 20 * np.sqrt(2), abs=1.5)


def _ground(**moves) -> np.ndarray:
    shift = np.asarray(moves.pop("shift", STILL), np.float32)
    arrays = {name: np.asarray(value, np.float32) for name, value in moves.items()}
    return render(Scene("x", (), "grey", "texture", shift, 7, **arrays, contrast=12), 64).astype(
        int
    )


def test_a_camera_shifts_scales_and_turns_a_texture():
    first, shifted = _ground(shift=[(0, 0), (8 / 64, 4 / 64)])
    assert np.abs(shifted[4:, 8:] - first[:-4, :-8]).max() <= 1
    first, large = _ground(scale=[1, 3])
    # The screen's pixel 3 j - 63 shows what pixel j showed.
    shown = np.arange(21, 43)
    assert (
        np.abs(large[np.ix_(3 * shown - 63, 3 * shown - 63)] - first[np.ix_(shown, shown)]).max()
        <= 1
    )
    first, turned = _ground(turn=[0, np.pi / 2])
    assert np.abs(turned - np.rot90(first, -1)).max() <= 1
    assert np.abs(turned - first).max() > 20
    # In that order: turned, scaled, then shifted.
    _, all_of_it = _ground(turn=[0, np.pi / 2], scale=[1, 3], shift=[(0, 0), (6 / 64, 0)])
    inside = 3 * shown - 63 + 6 < 64
    assert (
        np.abs(
            all_of_it[np.ix_(3 * shown - 63, (3 * shown - 63 + 6)[inside])]
            - np.rot90(first, -1)[np.ix_(shown, shown[inside])]
        ).max()
        <= 1
    )


def test_what_is_fixed_to_the_ground_goes_with_it():
    scale, turn = np.array([1, 2], np.float32), np.array([0, np.pi / 2], np.float32)
    shift = np.array([(0, 0), (0.1, 0)], np.float32)
    seen = through_camera(_thing("cross", [(0.6, 0.5)] * 2, 0.1), shift, scale, turn)
    assert seen.path == pytest.approx(np.array([(0.6, 0.5), (0.6, 0.7)]), abs=1e-6)
    assert seen.radius == pytest.approx(np.array([0.1, 0.2]))
    assert seen.angle == pytest.approx(turn)


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_is_drawn_where_its_truth_says(name):
    for scene in scenes_of(name, 3, seed=1):
        frames = render(scene)
        assert frames.shape == (33, 128, 128, 3)
        assert scene.family == name
        things = scene.things if name == "two" else scene.things[:1]
        assert len(scene.things) == len(things)
        if len(things) == 1 and name != "enters":
            found = track(frames, things[0].colour)
            # The centre of a cut or turned triangle is not where it is anchored.
            assert np.abs(found - trajectory(scene)[0][::4]).max() < 0.04


def test_every_class_holds_what_its_name_says():
    of = {name: scenes_of(name, 12, seed=2) for name in CLASSES}
    paths = {name: [scene.things[0].path for scene in of[name]] for name in CLASSES}
    assert all(travelled(path) >= 0.24 for path in paths["translation"])
    assert all(np.abs(path[-1] - path[0]).max() >= 0.6 for path in paths["across"])
    assert all(0.07 < np.ptp(path, axis=0).max() < 0.16 for path in paths["small"])
    for scene in of["zoom"]:
        sizes = scene.things[0].radius
        assert 1.49 < max(sizes[-1] / sizes[0], sizes[0] / sizes[-1]) < 2.11
        assert sizes[-1] / sizes[0] == pytest.approx(scene.scale[-1] / scene.scale[0], rel=1e-5)
    for scene in of["roll"]:
        assert 49 < np.rad2deg(abs(scene.turn[-1])) < 121
        assert scene.things[0].angle == pytest.approx(scene.turn)
        assert scene.things[0].shape != "circle"
    for scene in of["pan"]:
        assert np.diff(scene.shift, axis=0) == pytest.approx(
            np.diff(scene.things[0].path, axis=0), abs=1e-6
        )
    assert all(travelled(path) == 0 for path in paths["held"])
    assert all(travelled(scene.shift) >= 0.24 for scene in of["held"])
    for scene in of["two"]:
        one, other = (np.diff(path, axis=0).ravel() for path in trajectory(scene))
        assert one @ other < 0.41 * np.linalg.norm(one) * np.linalg.norm(other)
        assert len({thing.colour for thing in scene.things}) == 2
    for path in paths["stops"]:
        steps = np.linalg.norm(np.diff(path, axis=0), axis=1)
        comes_back = np.linalg.norm(path[-1] - path[0]) < 0.05
        assert comes_back or (steps < 1e-6).mean() > 0.15
    for scene in of["enters"]:
        lit = np.array([(frame > 128).any() for frame in render(_bare(scene), 64)])
        assert lit[0] != lit[-1]
        assert 0.08 < (~lit).mean() < 0.6


def _bare(scene: Scene) -> Scene:
    thing = dataclasses.replace(scene.things[0], colour="white")
    return dataclasses.replace(scene, background="black", style="flat", things=(thing,))


def test_a_scene_depends_on_its_own_number_only():
    for name in CLASSES:
        few, many = scenes_of(name, 2), scenes_of(name, 4)
        assert [s.caption for s in few] == [s.caption for s in many[:2]]
        assert all(
            (a.things[0].path == b.things[0].path).all() for a, b in zip(few, many, strict=False)
        )
        assert not (many[0].things[0].path == many[2].things[0].path).all()
        short = sample_motion(name, np.random.default_rng(0), frames=9)
        assert render(short, 32).shape == (9, 32, 32, 3)
    with pytest.raises(ValueError, match="translation, across"):
        sample_motion("teleport", np.random.default_rng(0))
