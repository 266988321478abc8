"""Scenes by class of motion: what they say they do is what is drawn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pe_toolkit.world.metrics import track
from pe_toolkit.world.motions import CLASSES, PERIOD, TURNING, scenes
from pe_toolkit.world.scenes import Scene, Thing, render, sample_scene
from pe_toolkit.world.vocabulary import COLOURS

FRAMES = 9


def _flat(scene: Scene) -> Scene:
    return replace(scene, style="flat")


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_is_the_same_each_time_and_named(name: str) -> None:
    first, again, other = scenes(name, 2), scenes(name, 2), scenes(name, 2, seed=1)
    assert [s.family for s in first] == [name, name]
    np.testing.assert_array_equal(render(first[0]), render(again[0]))
    np.testing.assert_array_equal(first[1].things[0].path, scenes(name, 5)[1].things[0].path)
    assert not np.array_equal(first[0].things[0].path, other[0].things[0].path)


@pytest.mark.parametrize("name", [name for name in CLASSES if name not in ("two", "entering")])
def test_the_thing_is_where_its_path_says(name: str) -> None:
    for scene in scenes(name, 3, frames=FRAMES):
        (thing,) = scene.things
        found = track(render(_flat(scene)), thing.colour)
        # The centre of what is drawn; a triangle's lies a little below its middle, and what is cut
        # off by the border is missing.
        off = found - thing.path
        assert np.abs(off - off.mean(0)).max() < 0.05, name


def _steps(path: np.ndarray) -> float:
    return float(np.linalg.norm(path[-1] - path[0]))


def test_classes_move_as_they_say() -> None:
    for scene in scenes("across", 10):
        assert 0.65 < np.abs(scene.things[0].path[-1] - scene.things[0].path[0]).max() < 0.73
    for scene in scenes("small", 10):
        assert 0.059 < _steps(scene.things[0].path) < 0.121
    for scene in scenes("zoom", 10):
        radius = scene.things[0].radius
        assert 1.49 < max(radius[-1] / radius[0], radius[0] / radius[-1]) < 1.91
        np.testing.assert_allclose(scene.zoom, radius / 0.19, rtol=1e-5)
    for scene in scenes("roll", 10):
        thing = scene.things[0]
        assert thing.shape in TURNING
        assert thing.angle is not None
        assert 0.49 < abs(thing.angle[-1] - thing.angle[0]) / PERIOD[thing.shape] < 0.91
    for scene in scenes("pan", 10):
        path = scene.things[0].path
        np.testing.assert_allclose(scene.shift, path - path[0], atol=1e-6)
    for scene in scenes("held", 10):
        assert _steps(scene.things[0].path) == 0
        assert _steps(scene.shift) > 0.29
    for scene in scenes("two", 10):
        first, second = scene.things
        assert first.colour != second.colour
        apart = np.linalg.norm(first.path - second.path, axis=1).min()
        assert apart > 0.9 * (first.radius[0] + second.radius[0])


def test_what_enters_or_leaves_is_not_seen_at_one_end() -> None:
    kinds = set()
    for scene in scenes("entering", 10):
        colour = np.array(COLOURS[scene.things[0].colour])
        near = np.abs(render(_flat(scene)).astype(int) - colour).sum(-1) < 30
        seen = near.mean((1, 2))[[0, -1]] > 0.005
        assert sorted(seen) == [False, True]
        kinds.add(bool(seen[0]))
    assert kinds == {True, False}


def test_a_turned_square_is_the_picture_turned() -> None:
    frames = 2
    middle = np.full((frames, 2), 0.5, np.float32)
    angle = np.array([0, np.pi / 2], np.float32)
    thing = Thing("red", "triangle", middle, np.full(frames, 0.2, np.float32), angle)
    none = np.zeros((frames, 2), np.float32)
    video = render(Scene("roll", (thing,), "grey", "flat", none, 0), 64).astype(int)
    # Clockwise: what pointed up points to the right.
    assert np.abs(video[1] - np.rot90(video[0], -1)).max() <= 1


def test_a_texture_turns_and_grows_with_the_camera() -> None:
    frames = 2
    none, one = np.zeros((frames, 2), np.float32), np.array([1, 2], np.float32)
    scene = Scene("zoom", (), "grey", "texture", none, 3)
    turned = render(replace(scene, turn=np.array([0, np.pi / 2], np.float32)), 64).astype(int)
    assert np.abs(turned[1] - np.rot90(turned[0], -1)).max() <= 1
    grown = render(replace(scene, zoom=one), 64).astype(float)
    # Twice as large: the middle half of the first picture fills the second.
    inner = grown[0][16:48, 16:48]
    small = grown[1].reshape(32, 2, 32, 2, 3).mean((1, 3))
    assert np.abs(inner - small).max() < 1.5


def test_scenes_of_the_world_before_are_drawn_as_before() -> None:
    scene = sample_scene(np.random.default_rng(0), ("pan",))
    still = np.zeros(33, np.float32)
    with_both = replace(scene, zoom=still + 1, turn=still)
    np.testing.assert_array_equal(render(scene), render(with_both))
