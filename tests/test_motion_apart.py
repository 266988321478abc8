"""Camera and subjects apart: which displacements belong to which, and how it is drawn."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from pe_toolkit.errors import UsageError
from pe_toolkit.grid import TokenGrid
from pe_toolkit.motion.apart import Apart, Part, taken_apart
from pe_toolkit.motion.flow import AttentionMotionFlow
from pe_toolkit.motion.moves import Moves, Subject
from pe_toolkit.visual import apart_frames, part_words
from pe_toolkit.visual.apart import CAMERA, SUBJECTS

GRID = TokenGrid(3, 8, 8)
EYE = torch.eye(2, dtype=torch.float64).expand(3, 2, 2)
PAN = torch.tensor([[-1.0, 0], [0, 0], [1, 0]], dtype=torch.float64)
"""Of the picture, to the right by a patch a frame, against the middle frame."""
DOWN = torch.tensor([[0.0, -1], [0, 0], [0, 1]], dtype=torch.float64)
REST = torch.zeros(3, 2, dtype=torch.float64)


def cover() -> torch.Tensor:
    """Of a thing of 2x2 patches that pans along and falls by itself."""
    covered = torch.zeros(3, 8, 8, dtype=torch.bool)
    for f in range(3):
        covered[f, 2 + f : 4 + f, 2 + f : 4 + f] = True
    return covered


def subject(covered: torch.Tensor | None) -> Subject:
    zero = torch.zeros(3, dtype=torch.float64)
    place = torch.tensor([[2.5, 2.5], [3.5, 3.5], [4.5, 4.5]], dtype=torch.float64)
    return Subject(DOWN, place, zero, zero, 0.5, covered)


def flow(pan: torch.Tensor, covered: torch.Tensor) -> AttentionMotionFlow:
    """What a reading without a fault gives of it, kept where it moves."""
    moved = torch.zeros(3, 3, 8, 8, 2)
    at = GRID.coordinates(dtype=torch.float32).unflatten(0, (8, 8))
    for i in range(3):
        for j in range(3):
            own = torch.where(covered[i][..., None], (DOWN[j] - DOWN[i]).float(), torch.zeros(2))
            step = (pan[j] - pan[i]).float() + own
            inside = ((at + step >= 0) & (at + step < 8)).all(-1, keepdim=True)
            moved[i, j] = torch.where(inside, step, torch.zeros(2))
    return AttentionMotionFlow(moved.to(torch.int8), (moved != 0).any(-1), GRID)


def test_camera_and_subject_have_what_is_theirs() -> None:
    read = Moves(1, EYE, PAN, (subject(cover()),), "")
    found = taken_apart(flow(PAN, cover()), read)
    camera, own = found.parts
    assert (camera.name, own.name) == ("camera", "subject")
    assert (camera.where | own.where).all()
    assert not (camera.where & own.where).any()
    right, down = torch.tensor([1.0, 0]), torch.tensor([0.0, 1])
    torch.testing.assert_close(camera.steps[:2], right.expand(2, 8, 8, 2))
    torch.testing.assert_close(own.steps[:2], down.expand(2, 8, 8, 2))  # the pan is taken away
    assert not camera.steps[2].any()  # the last frame has no next
    assert own.agrees.equal(cover())
    assert camera.share + own.share == pytest.approx(1)
    assert not found.neither.any()
    assert part_words(found)[2] == "neither: 0% of the displacements"


def test_what_grows_has_steps_away_from_its_middle() -> None:
    zoom = torch.tensor([0.5, 1, 2], dtype=torch.float64)[:, None, None] * EYE
    read = Moves(1, zoom, REST, (), "")
    (camera,) = taken_apart(flow(PAN, cover()), read).parts
    # From the middle frame on, what is 2.5 patches from the middle will be 5 away.
    torch.testing.assert_close(camera.steps[1, 3, 6], torch.tensor([2.5, -0.5]))


def test_without_a_camera_it_says_why_and_the_background_belongs_to_nobody() -> None:
    read = Moves(1, EYE, REST, (subject(cover()),), "plain")
    jitter = flow(REST, cover())
    jitter.mask[0, 1, 7, 0] = jitter.mask[0, 2, 7, 0] = True
    jitter.displacement[0, :, 7, 0] = torch.tensor([3, 0], dtype=torch.int8)
    found = taken_apart(jitter, read)
    assert [part.name for part in found.parts] == ["subject"]
    assert found.neither.nonzero().tolist() == [[0, 7, 0]]
    said = part_words(found)
    assert said[0] == "no camera: the background is too plain to tell a camera by"
    assert said[2] == f"neither: {found.rest:.0%} of the displacements"
    assert 0 < found.rest < 0.2


def test_a_subject_that_nothing_outlines_has_what_goes_its_way() -> None:
    read = Moves(1, EYE, REST, (subject(None),), "rests")
    (own,) = taken_apart(flow(REST, cover()), read).parts
    assert not own.outlined
    assert own.where.equal(cover())
    assert own.share == 1


def test_each_part_is_drawn_in_its_own_colour() -> None:
    one = subject(cover())
    read = Moves(1, EYE, PAN, (one,), "")
    found = taken_apart(flow(PAN, cover()), read)
    clip = np.zeros((9, 64, 64, 3), np.uint8)
    drawn = apart_frames(clip, found, words=False)
    assert drawn.shape == (9, 384, 384, 3)
    patch = 48

    def near(frame: int, colour: tuple[int, int, int]) -> np.ndarray:
        return np.abs(drawn[frame].astype(int) - colour).sum(-1) < 60

    thing, rest = np.zeros((384, 384), bool), np.zeros((384, 384), bool)
    thing[2 * patch : 4 * patch, 2 * patch : 4 * patch] = True
    rest[6 * patch :] = True
    assert near(0, SUBJECTS[0])[thing].sum() > 100
    assert not near(0, CAMERA)[2 * patch : 4 * patch, 3 * patch : 4 * patch].any()
    assert near(0, CAMERA)[rest].sum() > 100
    assert not near(0, SUBJECTS[0])[rest].any()
    assert near(0, SUBJECTS[0])[2 * patch - 2 : 2 * patch + 2, 2 * patch : 4 * patch].any(0).all()
    assert not near(8, CAMERA).any()  # the last frame has no next
    told = apart_frames(clip, found)
    # Camera and subject, two lines each at this width, neither, and what is bright.
    assert told.shape[1] == 384 + 6 * 22 + 8
    with pytest.raises(UsageError, match="Expected frames"):
        apart_frames(clip[0], found)


def test_two_things_have_two_colours() -> None:
    other = torch.zeros(3, 8, 8, dtype=torch.bool)
    for f in range(3):
        other[f, 2 + f : 4 + f, 6:] = True
    back = dataclasses.replace(subject(other), path=-DOWN)
    read = Moves(1, EYE, REST, (subject(cover()), back), "rests")
    found = taken_apart(flow(REST, cover() | other), read)
    assert [part.name for part in found.parts] == ["subject", "subject-2"]
    assert found.parts[0].share == pytest.approx(0.5)
    assert found.parts[1].share < 0.5  # goes the other way
    drawn = apart_frames(np.zeros((3, 64, 64, 3), np.uint8), found, words=False)
    for colour in SUBJECTS[:2]:
        assert (np.abs(drawn[0].astype(int) - colour).sum(-1) < 60).sum() > 100


def test_what_the_pictures_show_is_not_judged_by_its_matches() -> None:
    """Of a shaded ball hardly a patch is matched: 0 % is no reason to doubt that it moves."""
    part = Part(
        "subject", torch.zeros(3, 2, 2, 2), torch.ones(3, 2, 2, dtype=torch.bool),
        torch.zeros(3, 2, 2, dtype=torch.bool), 0.0, outlined=True, seen=True,
    )  # fmt: skip
    nothing = torch.zeros(3, 2, 2, dtype=torch.bool)
    assert part_words(Apart((part,), nothing, "rests"))[1] == (
        "subject: seen in the pictures; 0% of the displacements go with it"
    )
