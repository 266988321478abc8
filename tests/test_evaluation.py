"""The yardsticks measure what they say: on rendered clips, whose truth is known, they are all but
perfect.
"""

from __future__ import annotations

import numpy as np
import pytest

from pe_toolkit.errors import UsageError
from pe_toolkit.world.metrics import measure, parse, path_cosine, path_error, track
from pe_toolkit.world.scenes import (
    HELD_OUT_FAMILIES,
    TRAIN_FAMILIES,
    render,
    sample_path,
    sample_scene,
    trajectory,
)
from pe_toolkit.world.vocabulary import (
    BACKGROUNDS,
    COLOURS,
    TRAINING_PROMPTS,
    WORDS,
    Doubts,
    caption,
    doubts,
)

FAMILIES = TRAIN_FAMILIES + HELD_OUT_FAMILIES


def test_the_tracker_and_the_classifiers_score_on_rendered_clips():
    rng = np.random.default_rng(11)
    measured = []
    for _ in range(3):
        for family in FAMILIES:
            scene = sample_scene(rng, (family,))
            truth = trajectory(scene)[0].astype(np.float64)
            measured.append(measure(render(scene), scene.caption, truth))
    assert np.nanmean([m.cosine for m in measured]) > 0.98
    assert np.nanmean([m.trajectory_error for m in measured]) < 0.01
    assert np.mean([m.adherent for m in measured]) > 0.97
    assert all(m.visibility == 1 for m in measured)


def test_a_wrong_prompt_is_noticed_attribute_by_attribute():
    rng = np.random.default_rng(1)
    scene = sample_scene(rng, ("line",), styles=("flat",))
    frames = render(scene)
    colour, shape, background = parse(scene.caption)
    other = lambda table, name: next(n for n in table if n != name)  # noqa: E731
    wrong = measure(frames, f"a {other(COLOURS, colour)} {shape} on a {background} background")
    assert not wrong.colour_ok
    wrong = measure(
        frames, f"a {colour} {other(('circle', 'square'), shape)} on a {background} background"
    )
    assert not wrong.shape_ok
    wrong = measure(frames, f"a {colour} {shape} on a {other(BACKGROUNDS, background)} background")
    assert not wrong.background_ok


def test_another_motion_scores_about_zero_and_the_reverse_minus_one():
    rng = np.random.default_rng(2)
    cosines = []
    for _ in range(200):
        a, b = (
            sample_path(str(rng.choice(["line", "curve"])), 9, rng).astype(np.float64)
            for _ in range(2)
        )
        cosines.append(path_cosine(a, b))
        assert path_cosine(a, a) == pytest.approx(1)
        assert path_cosine(a[::-1], a) < path_cosine(a, a)
    assert abs(np.mean(cosines)) < 0.15


def test_an_invisible_object_scores_zero():
    empty = np.full((33, 64, 64, 3), 105, np.uint8)
    truth = np.stack([np.linspace(0.2, 0.8, 33), np.full(33, 0.5)], 1)
    found = measure(empty, "a red circle on a grey background", truth)
    assert found.cosine == 0
    assert found.visibility == 0
    assert not found.adherent
    assert found.background_ok
    assert np.isnan(found.trajectory_error)


def test_still_truth_is_not_a_number_and_still_generation_is_zero():
    still = np.full((9, 2), 0.5)
    moving = np.stack([np.linspace(0.2, 0.8, 9), np.full(9, 0.5)], 1)
    assert np.isnan(path_cosine(moving, still))
    assert path_cosine(still, moving) == 0
    assert path_error(moving + 0.1, moving) == pytest.approx(0)


def test_specks_do_not_pull_the_track():
    rng = np.random.default_rng(3)
    scene = sample_scene(rng, ("line",), styles=("flat",))
    frames = render(scene).copy()
    clean = track(frames, scene.things[0].colour)
    frames[:, :4, :4] = COLOURS[scene.things[0].colour]
    assert np.abs(track(frames, scene.things[0].colour) - clean).max() < 0.03


def test_objects_stay_in_the_picture():
    rng = np.random.default_rng(4)
    for family in FAMILIES:
        for _ in range(20):
            path = sample_path(family, 33, rng)
            assert path.shape == (33, 2)
            assert path.min() > 0.1
            assert path.max() < 0.9
    with pytest.raises(ValueError, match="one of"):
        sample_path("teleport", 9, rng)


def test_colours_keep_their_distance_and_captions_stay_in_the_vocabulary():
    gaps = [
        np.linalg.norm(np.subtract(a, b)) for a in COLOURS.values() for b in BACKGROUNDS.values()
    ]
    assert min(gaps) >= 110
    rng = np.random.default_rng(5)
    for _ in range(50):
        scene = sample_scene(rng, two=0.5)
        assert doubts([scene.caption]) == Doubts((), (), (), ())
        assert not any(family in scene.caption.split() for family in FAMILIES)
    assert doubts(TRAINING_PROMPTS) == Doubts((), (), (), ())
    assert caption([("orange", "cross"), ("red", "circle")], "blue") == (
        "an orange cross and a red circle on a blue background"
    )
    for article in ("a", "an"):
        both = f"{article} orange cross and {article} orange circle on a blue background"
        assert doubts([both]) == Doubts((), (), (), ())
    assert caption([("red", "circle")], "blue", textured=True) == (
        "a red circle on a textured blue background"
    )
    assert doubts(["a textured red circle on a blue background"]).forms
    assert doubts(["A red DRAGON on a blue background, flying"]).unknown == ("dragon", "flying")
    assert len(WORDS) == len(set(WORDS))


def test_prompts_outside_the_vocabulary_are_refused():
    with pytest.raises(UsageError, match="Expected a prompt like"):
        measure(np.zeros((33, 8, 8, 3), np.uint8), "a dog in the park")
