"""A camera that measures its light again: all of a frame lighter or darker is no motion."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pe_toolkit.grid import TokenGrid
from pe_toolkit.motion.backdrop import shrunk
from pe_toolkit.motion.exposure import brightness, evened
from pe_toolkit.motion.flow import AttentionMotionFlow
from pe_toolkit.motion.moments import frames_of, pictures_of
from pe_toolkit.motion.moves import Moves
from pe_toolkit.motion.read import read_moves

GRID, COUNT, SIZE = TokenGrid(9, 8, 8), 33, 128
Y, X = np.mgrid[:SIZE, :SIZE].astype(float)
T = np.linspace(0, 1, COUNT)
LIGHT = np.where(T > 0.5, 0.85, 1.1 - 0.1 * T)


def scene(shift: float = 0.0) -> NDArray[Any]:
    """Stripes and a slope, moved by so many pixels."""
    stripes = 30 * np.sin((X + shift) / 5) + 20 * np.sin((Y + X + shift) / 11)
    return np.stack([110 + stripes + k * (Y - 64) / 8 for k in (1, 2, 3)], -1)


def film(*, pan: float = 0.0, light: NDArray[Any] = LIGHT) -> NDArray[np.uint8]:
    """A red disc that goes right, before a camera that goes `pan` pixels and sees so much light."""
    frames = []
    for t, factor in zip(T, light, strict=True):
        cover = np.clip(12 - np.hypot(X - 25 - 75 * t, Y - 60) + 0.5, 0, 1)[..., None]
        frames.append(factor * (scene(pan * t) * (1 - cover) + np.array((225, 40, 40)) * cover))
    return np.clip(np.stack(frames), 0, 255).astype(np.uint8)


def read(frames: NDArray[np.uint8]) -> Moves:
    moves = torch.zeros(GRID.frames, *GRID, 2, dtype=torch.int8)
    nothing = AttentionMotionFlow(moves, torch.zeros(moves.shape[:-1], dtype=torch.bool), GRID)
    return read_moves(nothing, None, pictures_of(frames, GRID.frames), frames)


def test_how_bright_frames_are_against_each_other() -> None:
    found = brightness(shrunk(film()))
    assert found is not None
    against = found.numpy() / LIGHT
    assert float(np.ptp(against)) < 0.01 * float(against.mean())


@pytest.mark.parametrize("what", ["no change", "pan", "dark", "one frame"])
def test_where_the_light_stays_or_the_camera_moves_nothing_is_evened(what: str) -> None:
    frames = film(pan=60.0 if what == "pan" else 0.0, light=LIGHT if what == "pan" else T * 0 + 1)
    if what == "dark":
        frames = frames // 16
    assert brightness(shrunk(frames[: 1 if what == "one frame" else COUNT])) is None


def test_a_thing_is_told_under_a_light_that_changes() -> None:
    moves = read(film())
    assert not moves.camera
    (subject,) = moves.subjects
    at = (np.stack([25 + 75 * T, 60 + 0 * T], 1) + 0.5) / 16 - 0.5
    true = np.array([at[list(pair)].mean(0) for pair in frames_of(COUNT, GRID.frames)])
    np.testing.assert_allclose(subject.place.numpy(), true, atol=0.1)


def test_of_a_scene_that_only_fades_nothing_moves() -> None:
    frames = np.stack([scene() * factor for factor in LIGHT]).astype(np.uint8)
    moves = read(frames)
    assert not moves.camera
    assert not moves.subjects


def test_what_does_not_follow_the_light_is_as_it_was() -> None:
    """A white wall that is as white as can be, and a caption, beside what gets darker."""
    frames = film()
    frames[:, :20] = 255
    frames[:, -20:, :40] = 90
    pictures = shrunk(frames)
    light = brightness(pictures)
    assert light is not None
    found = evened(pictures, light)
    assert torch.equal(found[:, :, :18], pictures[:, :, :18])
    assert torch.equal(found[:, :, -18:, :38], pictures[:, :, -18:, :38])
    rest = found[:, :, 30:100, 90:]  # beside the disc
    assert float((rest - rest.median(0).values).abs().median()) < 2


def test_a_white_wall_is_no_thing_where_the_light_changes() -> None:
    frames = film()
    frames[:, :12, 30:70] = 255
    found = read(frames)
    assert len(found.subjects) == 1
    assert found.subjects[0].seen
