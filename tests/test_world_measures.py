"""The measures of the classes of motion on rendered clips, whose truth is known: all but perfect
there, and nothing where nothing is.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from benchmarks import class_table
from benchmarks.classes import pair
from pe_toolkit.errors import UsageError
from pe_toolkit.world.attributes import seen
from pe_toolkit.world.class_metrics import (
    angles,
    assigned,
    compared,
    measured,
    more_things,
    observe,
    parse_all,
    slope,
)
from pe_toolkit.world.ground import ground_motion
from pe_toolkit.world.motions import CLASSES, scenes_of
from pe_toolkit.world.scenes import Scene, Thing, render

SLOPES = ("size", "angle", "ground", "ground_size", "ground_angle")


@pytest.mark.parametrize("name", CLASSES)
def test_a_rendered_clip_scores_all_but_perfectly(name):
    (_, _, scene) = scenes_of(name, 3, seed=9)
    frames = render(scene)
    found = measured(frames, scene.caption, scene)
    what = seen(frames, scene.caption, leaning=name == "roll")
    assert what.adherent
    assert found["extra"] == 0
    for key in ("cosine", "cosine_worse", "ground_cosine", "absent"):
        assert found.get(key, 1) > 0.98, key
    for key in SLOPES:
        assert found.get(key, 1) == pytest.approx(1, abs=0.06), key
    for key in ("error", "error_worse", "place"):
        assert found.get(key, 0) < 0.01, key
    assert found.get("textured", 1) == 1
    assert set(found) >= {*class_table.MEASURES[name]} - {"textured"}


@pytest.mark.parametrize("name", ["zoom", "roll", "pan", "held"])
def test_a_still_clip_has_none_of_a_camera_s_motion(name):
    scene = scenes_of(name, 1, seed=9)[0]
    frames = np.repeat(render(scene)[:1], 33, axis=0)
    found = measured(frames, scene.caption, scene)
    for key in (*SLOPES, "cosine", "ground_cosine"):
        assert abs(found.get(key, 0)) < 0.02, key
    if name in ("zoom", "roll"):  # backwards is the opposite, not nothing
        found = measured(render(scene)[::-1], scene.caption, scene)
        for key in ("size", "angle", "ground_size", "ground_angle"):
            assert found.get(key, -1) == pytest.approx(-1, abs=0.06), key


def test_a_ground_that_shows_nothing_does_not_move():
    rng = np.random.default_rng(0)
    scene = scenes_of("translation", 1)[0]
    for style in ("flat", "gradient"):
        frames = render(dataclasses.replace(scene, style=style))[::4].astype(np.float64)
        # What a decoder leaves: blotches of two grey values, eight pixels wide, new in every frame.
        blotches = rng.normal(0, 2, (9, 16, 16, 1)).repeat(8, 1).repeat(8, 2)
        found = ground_motion(np.clip(frames + blotches, 0, 255).astype(np.uint8))
        assert not found.textured
        assert np.abs(found.shift).max() < 0.08, style
        assert np.abs(np.log(found.scale)).max() < 0.08
        assert np.abs(found.turn).max() < 0.08


def test_two_objects_are_compared_by_the_better_assignment():
    one, other = (np.linspace(a, b, 9) for a, b in (((0, 0), (0.5, 0)), ((1, 1), (1, 0.4))))
    cosines, errors = assigned(np.stack([other, one]), np.stack([one, other]))
    assert cosines == pytest.approx([1, 1])
    assert errors == pytest.approx([0, 0])
    cosines, _ = assigned(np.stack([one, one]), np.stack([one, other]))
    assert cosines == pytest.approx([1, 0])


def test_a_second_thing_at_the_other_side_is_seen():
    scene = scenes_of("across", 1)[0]
    assert not any(more_things(frame, 1) for frame in render(scene))
    (thing,) = scene.things
    ghost = dataclasses.replace(thing, path=thing.path - np.array([0.75, 0], np.float32))
    found = observe(render(dataclasses.replace(scene, things=(thing, ghost))), scene.caption)
    assert found.extra
    frame = render(scenes_of("two", 1)[0])[0]
    assert more_things(frame, 1)
    assert not more_things(frame, 2)


def test_the_angle_of_a_shape_is_that_of_its_corners():
    axis = np.linspace(0, 1, 9)
    true = np.deg2rad(110) * axis
    for shape, folds in (("square", 4), ("cross", 4), ("triangle", 3)):
        thing = Thing(
            "white",
            shape,
            np.full((9, 2), 0.5, np.float32),
            np.full(9, 0.22, np.float32),
            true.astype(np.float32),
        )
        still = np.zeros((9, 2), np.float32)
        frames = render(Scene("roll", (thing,), "black", "flat", still, 0), 64)
        found = angles([(frame[..., 0] > 128) * 1.0 for frame in frames], folds)
        assert found - found[0] == pytest.approx(true, abs=0.02)
    disc = [np.ones((64, 64)) * (np.hypot(*np.mgrid[-32:32, -32:32]) < 12)] * 9
    assert np.ptp(angles(disc, 4)) == 0


def test_the_same_way_elsewhere_is_away_from_its_place():
    (_, _, scene) = scenes_of("translation", 3, seed=9)
    (thing,) = scene.things
    moved = dataclasses.replace(thing, path=thing.path + np.float32([0.0, 0.1]))
    found = measured(render(dataclasses.replace(scene, things=(moved,))), scene.caption, scene)
    assert found["cosine"] > 0.98
    assert found["error"] < 0.02
    assert found["place"] == pytest.approx(0.1, abs=0.02)


def test_what_never_enters_is_not_absent():
    scene = next(s for s in scenes_of("enters", 8) if s.things[0].path[0].max() > 1)
    stays = dataclasses.replace(
        scene, things=(dataclasses.replace(scene.things[0], path=scene.things[0].path * 0 + 0.5),)
    )
    found = measured(render(stays), scene.caption, scene)
    assert found["absent"] == 0
    assert found["cosine"] == 0


def test_slopes_leave_out_what_was_not_seen():
    assert slope(np.array([0, np.nan, 2]), np.array([0.0, 1, 1])) == pytest.approx(2)
    assert np.isnan(slope(np.array([np.nan, np.nan, 2]), np.array([0.0, 1, 1])))
    assert np.isnan(slope(np.array([0.0, 1, 2]), np.ones(3)))


def test_every_object_of_a_prompt_is_judged_by_its_own_colour():
    scene = scenes_of("two", 1, seed=9)[0]
    frames, (objects, ground) = render(scene), parse_all(scene.caption)
    (first, shape), (second, _) = objects
    other = next(s for s in ("circle", "square") if s != shape)
    wrong = seen(
        frames, f"a {first} {other} and a {second} {objects[1][1]} on a {ground} background"
    )
    assert wrong.colour_ok
    assert not wrong.shape_ok
    assert wrong.background_ok
    for prompt in ("a mauve circle on a grey background", "a red circle", "two red circles"):
        with pytest.raises(UsageError, match="Expected a prompt like"):
            parse_all(prompt)


def test_another_reference_s_motion_is_about_nothing():
    scenes = scenes_of("translation", 6, seed=4)
    found = [observe(render(s), s.caption, ground=False) for s in scenes]
    own = [compared(f, s)["cosine"] for f, s in zip(found, scenes, strict=True)]
    foreign = [compared(f, s)["cosine"] for f in found for s in scenes if s is not None]
    assert min(own) > 0.98
    assert abs((np.sum(foreign) - np.sum(own)) / 30) < 0.3


def test_a_prompt_names_nothing_of_its_reference_and_leaks_are_counted():
    for name in CLASSES:
        for r, scene in enumerate(scenes_of(name, 3)):
            prompt, seed = pair(scene, r, 1)
            objects, ground = parse_all(prompt)
            assert len(objects) == len(scene.things)
            assert not {c for c, _ in objects} & {t.colour for t in scene.things}
            assert not {s for _, s in objects} & {t.shape for t in scene.things}
            assert ground != scene.background
            assert (prompt, seed) == pair(scene, r, 1) != pair(scene, r, 2)
    what = {
        "colours": [scene.things[0].colour],
        "shapes": ["none of these"],
        "background": scene.background,
    }
    assert class_table.leaks({"seen": what}, scene) == {"colour": 1, "shape": 0, "background": 1}
    lines = [
        {"class": "zoom", "reference": r, "pair": k, "row": "plain", "values": {"size": r + k}}
        for r in range(3)
        for k in range(2)
    ]
    entry = class_table.summary(lines, ["zoom", "roll"])["zoom"]["plain"]
    assert entry["size"][0] == pytest.approx(1.5)
    assert entry["size"][3] == 6
    assert entry["adherent"] is None
