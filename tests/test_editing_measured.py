"""Numbers of a card's motion, edited, against what is measured of the edited motion itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from pe_toolkit.card.spec import STILL, MotionSpec, SubjectSpec
from pe_toolkit.editing.measured import mirrored, sized, timed

Floats = NDArray[np.float64]
FRAMES = 9


def similarity(size: Floats, degrees: Floats) -> Floats:
    """`(F, 2, 2)`, clockwise as y goes down."""
    c, s = size * np.cos(np.deg2rad(degrees)), size * np.sin(np.deg2rad(degrees))
    return np.stack([np.stack([c, -s], -1), np.stack([s, c], -1)], -2)


class Seen:
    """What is in the pictures: a background and a thing before it, at times of their own.

    The world goes through the camera (zoom, degrees, shift); in the world the thing is at `path`,
    `size` large, turned by `turn` degrees. All about the middle of the picture, in patches.
    """

    def __init__(self, times: Floats) -> None:
        u = times / (FRAMES - 1)
        self.zoom, self.roll = np.exp(0.6 * u), 50 * u
        self.shift = np.stack([2 * u, -1.5 * u], -1)
        self.path = np.stack([1 + 2 * u - u**2, 1.5 * np.sin(2 * u)], -1)
        self.size, self.turn = np.exp(-0.5 * u), -40 * u

    def measured(self) -> MotionSpec:
        """Against its middle frame, as `motion.read` does."""
        anchor = len(self.zoom) // 2
        camera = similarity(self.zoom, self.roll)
        back = np.linalg.inv(camera[anchor])
        a = camera @ back
        b = self.shift - a @ self.shift[anchor]
        # The world as the anchor frame shows it.
        place = (camera[anchor] @ self.path[..., None])[..., 0]
        subject = SubjectSpec(
            path=_rows(place - place[anchor]),
            share=0.7,
            size=tuple(self.size / self.size[anchor]),
            turn=tuple(self.turn - self.turn[anchor]),
        )
        return MotionSpec(camera=_rows(np.c_[a.reshape(-1, 4), b]), subjects=(subject,))

    def mirrored(self, axis: int) -> Seen:
        """Left and right, or up and down, changed in every picture."""
        across = np.array([-1.0, 1.0] if axis else [1.0, -1.0])
        out = Seen(np.zeros(len(self.zoom)))
        out.zoom, out.size = self.zoom, self.size
        out.roll, out.turn = -self.roll, -self.turn
        out.shift, out.path = self.shift * across, self.path * across
        return out


def _rows(values: Floats) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(v) for v in row) for row in values)


def agree(found: MotionSpec | None, truth: MotionSpec, atol: float = 2e-4) -> None:
    assert found is not None
    np.testing.assert_allclose(found.camera, truth.camera, atol=atol)
    for one, other in zip(found.subjects, truth.subjects, strict=True):
        np.testing.assert_allclose(one.path, other.path, atol=atol)
        assert one.size is not None
        assert one.turn is not None
        np.testing.assert_allclose(one.size, other.size or (), atol=atol)
        np.testing.assert_allclose(one.turn, other.turn or (), atol=50 * atol)  # degrees
        assert one.share == other.share


NOW = np.arange(FRAMES, dtype=np.float64)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_mirrored_motion_turns_the_other_way_and_grows_as_before(axis: int) -> None:
    agree(mirrored(Seen(NOW).measured(), axis, 8), Seen(NOW).mirrored(axis).measured())


@pytest.mark.parametrize(
    "times",
    [
        NOW[::-1],
        NOW[:5],  # half as fast, of as many patches a frame: another frame is the middle
        NOW[2:],
        np.minimum(NOW * 2, FRAMES - 1),  # twice as fast, then it stands
        NOW[:-1],
    ],
)
def test_at_other_times_it_is_measured_against_another_middle(times: Floats) -> None:
    """What a subject does beyond the camera is seen through that frame's zoom and roll."""
    agree(timed(Seen(NOW).measured(), times), Seen(times).measured())


def test_between_two_frames_a_turn_shrinks_nothing() -> None:
    """Half as fast, with times between frames: the mean of two turned maps is too small."""
    times = NOW / 2 + 0.25
    found, truth = timed(Seen(NOW).measured(), times), Seen(times).measured()
    agree(found, truth, atol=0.02)  # paths are straight between two frames
    assert found is not None
    a = np.asarray(found.camera)[:, :4].reshape(-1, 2, 2)
    zoom = np.sqrt(np.linalg.det(a))
    np.testing.assert_allclose(zoom, Seen(times).zoom / Seen(times).zoom[4], rtol=2e-4)
    assert found.subjects[0].size == pytest.approx(truth.subjects[0].size, abs=2e-4)


def test_on_a_larger_grid_it_is_the_same_turn_and_growth() -> None:
    seen = Seen(NOW)
    seen.shift, seen.path = seen.shift * 2, seen.path * 2
    agree(sized(Seen(NOW).measured(), 2, 2), seen.measured(), atol=4e-4)


def resting(place: Floats, radius: float) -> MotionSpec:
    """One thing before a camera that rests, at `place` `(F, 2)` in patches."""
    middle = place[len(place) // 2]
    thing = SubjectSpec(path=_rows(place - middle), share=0.5, disc=(*middle.tolist(), radius))
    return MotionSpec(camera=(STILL,) * len(place), subjects=(thing,))


def test_a_thing_is_where_the_edited_clip_has_it() -> None:
    width, height = 8, 6
    place = np.stack([1 + NOW / 2, 4 - NOW**2 / 40], -1)
    told = resting(place, 1.25)
    far = np.array([width - 1, height - 1])
    assert mirrored(told, 1, width) == resting(np.c_[far[0] - place[:, 0], place[:, 1]], 1.25)
    assert mirrored(told, 0, height) == resting(np.c_[place[:, 0], far[1] - place[:, 1]], 1.25)
    assert timed(told, NOW[::-1]) == resting(place[::-1], 1.25)
    assert timed(told, NOW[:5]) == resting(place[:5], 1.25)
    # In pixels, of 16 a patch, twice as wide and half as high: the same share of the picture.
    wide = (place + 0.5) * [2, 0.5] - 0.5
    assert sized(told, 2, 0.5) == resting(wide, 1.25)


def test_where_a_camera_has_a_thing_in_another_middle_frame_is_not_said() -> None:
    seen = Seen(NOW).measured()
    (thing,) = seen.subjects
    told = replace(seen, subjects=(replace(thing, disc=(3.0, 2.0, 1.0)),))
    assert timed(told, NOW[::-1]).subjects[0].disc is None  # type: ignore[union-attr]
    assert mirrored(told, 1, 8).subjects[0].disc == (4.0, 2.0, 1.0)  # type: ignore[union-attr]


def test_without_numbers_there_is_nothing_to_edit() -> None:
    assert mirrored(None, 1, 8) is None
    assert sized(None, 2, 2) is None
    assert timed(None, NOW) is None
