"""What changes in a clip before a camera that rests, against known truth."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pe_toolkit.backbones import CogVideoXAdapter, load_backbone
from pe_toolkit.grid import TokenGrid
from pe_toolkit.motion.backdrop import shrunk
from pe_toolkit.motion.changes import QUIET, most_changed
from pe_toolkit.motion.flow import AttentionMotionFlow
from pe_toolkit.motion.moments import frames_of, pictures_of
from pe_toolkit.motion.moves import Moves
from pe_toolkit.motion.read import read_moves
from pe_toolkit.motion.segments import affinity

Film = NDArray[np.uint8]
GRID = TokenGrid(9, 8, 8)
COUNT, SIZE = 33, 128
MOMENTS = frames_of(COUNT, GRID.frames)
Y, X = np.mgrid[:SIZE, :SIZE].astype(float)
LIGHT = (
    np.linspace(0, 1, SIZE)[:, None, None] * np.array([80, 50, -10]) + [70, 90, 130]
) * np.ones((SIZE, SIZE, 1))
"""A ground that is lighter below."""


def ball(picture: NDArray[Any], x: float, y: float, radius: float, colour: Any) -> NDArray[Any]:
    """With light from the upper left, as a photograph has it."""
    far = np.hypot(X - x, Y - y)
    lit = np.hypot(X - x + 0.4 * radius, Y - y + 0.5 * radius) / radius
    own = np.array(colour) * np.clip(1.15 - 0.55 * lit, 0.15, 1.3)[..., None]
    cover = np.clip(radius - far + 0.5, 0, 1)[..., None]
    return picture * (1 - cover) + own * cover


def shadow(picture: NDArray[Any], x: float, y: float) -> NDArray[Any]:
    return picture * (1 - 0.5 * np.exp(-(((X - x) / 17) ** 2) - ((Y - y) / 6) ** 2))[..., None]


def film(draw: Callable[[float], NDArray[Any]]) -> Film:
    """A clip of what `draw` draws at times from 0 to 1."""
    frames = [draw(t) for t in np.linspace(0, 1, COUNT)]
    return np.clip(np.stack(frames), 0, 255).astype(np.uint8)


def across(t: float) -> tuple[float, float]:
    return 25 + 78 * t, 60 + 20 * np.sin(3 * t)


def truth(path: Callable[[float], tuple[float, float]]) -> NDArray[Any]:
    """`(F, 2)` of the latent frames in patches, against the anchor."""
    at = np.array([path(t) for t in np.linspace(0, 1, COUNT)]) / 16
    latent = np.array([at[list(pair)].mean(0) for pair in MOMENTS])
    return latent - latent[GRID.frames // 2]


def off(place: torch.Tensor, path: Callable[[float], tuple[float, float]]) -> float:
    """Patches from the truth, in the root mean square."""
    found = (place - place[GRID.frames // 2]).numpy()
    return float(np.sqrt(np.square(found - truth(path)).sum(1).mean()))


@functools.cache
def backbone() -> CogVideoXAdapter:
    return load_backbone("bundled", dtype="float32")


def read(frames: Film) -> Moves:
    adapter = backbone()
    reading = adapter.variant.reading
    with torch.no_grad():
        q, k = adapter.reference_queries_and_keys(
            adapter.encode_clip(frames), reading, COUNT, SIZE, SIZE
        )
    flow = AttentionMotionFlow.from_qk(q, k, GRID, "tracked", mutual=reading.mutual)
    return read_moves(flow, affinity(q, k, GRID), pictures_of(frames, GRID.frames), frames)


def one(t: float) -> NDArray[Any]:
    return ball(LIGHT, *across(t), 15, (200, 50, 40))


def test_little_changes_before_a_camera_that_rests_and_much_before_one_that_moves() -> None:
    rng = np.random.default_rng(0)
    still = np.repeat(LIGHT[None], COUNT, 0) + rng.normal(0, 4, (COUNT, SIZE, SIZE, 3))
    assert most_changed(shrunk(np.clip(still, 0, 255).astype(np.uint8))) < QUIET / 2
    assert most_changed(shrunk(film(one))) < QUIET / 2
    ground = rng.uniform(0, 255, (SIZE // 8, SIZE // 4, 3)).repeat(8, 0).repeat(8, 1)
    pans = film(lambda t: ground[:, round(80 * t) : round(80 * t) + SIZE])
    assert most_changed(shrunk(pans)) > 2 * QUIET


def test_large_frames_say_the_same() -> None:
    large = film(one).repeat(3, 1).repeat(3, 2)
    small, made = shrunk(film(one)), shrunk(large)
    assert made.shape == small.shape
    assert most_changed(made) == pytest.approx(most_changed(small), abs=0.02)


def test_a_ball_and_its_shadow_are_no_camera() -> None:
    def draw(t: float) -> NDArray[Any]:
        x, y = across(t)
        return ball(shadow(LIGHT, x + 12, y + 36), x, y, 15, (200, 50, 40))

    moves = read(film(draw))
    assert not moves.camera
    (subject,) = moves.subjects
    assert off(subject.place, across) < 0.4


def test_a_thing_that_cannot_be_followed_is_read_from_the_pictures() -> None:
    """It bounces, over a ground that the cut takes for the thing."""

    def path(t: float) -> tuple[float, float]:
        return 20 + 85 * t, 88 - 50 * abs(np.cos(3 * np.pi * t))

    def draw(t: float) -> NDArray[Any]:
        picture = np.where(Y[..., None] > 100, (90, 70, 50), LIGHT)
        return ball(picture, *path(t), 11, (230, 200, 60))

    moves = read(film(draw))
    (subject,) = moves.subjects
    assert off(subject.place, path) < 0.4


def test_a_picture_that_gets_darker_moves_nowhere() -> None:
    rng = np.random.default_rng(3)
    picture = rng.uniform(40, 220, (8, 8, 3)).repeat(16, 0).repeat(16, 1)
    moves = read(film(lambda t: picture * (1 - 0.6 * t)))
    assert not moves.camera
    assert not moves.subjects
