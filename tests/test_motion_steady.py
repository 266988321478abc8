"""Where things are in the pictures, before a camera that moves, against known truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from pe_toolkit.backbones import load_backbone
from pe_toolkit.grid import TokenGrid
from pe_toolkit.motion.backdrop import shrunk
from pe_toolkit.motion.cameras import past_things, read_camera
from pe_toolkit.motion.flow import AttentionMotionFlow
from pe_toolkit.motion.moments import frames_of, pictures_of
from pe_toolkit.motion.moves import Moves
from pe_toolkit.motion.read import read_moves
from pe_toolkit.motion.registration import register
from pe_toolkit.motion.segments import affinity
from pe_toolkit.motion.steady import spots_before, steadied

Floats = NDArray[np.float64]
Film = NDArray[np.uint8]
GRID, COUNT, SIZE = TokenGrid(9, 8, 8), 33, 128
MOMENTS = frames_of(COUNT, GRID.frames)
ANCHOR = GRID.frames // 2
T = np.linspace(0, 1, COUNT)
RED, BLUE = (230, 40, 40), (40, 80, 240)
WORLD = 384


def ground(seed: int = 5, cells: int = 24) -> torch.Tensor:
    """`(1, 3, 384, 384)`, many soft colours."""
    coarse = np.random.default_rng(seed).uniform(60, 190, (1, 3, cells, cells))
    size = (WORLD, WORLD)
    return functional.interpolate(torch.from_numpy(coarse), size=size, mode="bicubic")


def film(
    ways: list[Floats], shift: Floats, zoom: Floats, seed: int = 5, radius: float = 10.0
) -> Film:
    """Discs that go their ways `(N, 2)` in the world, pixels from its middle, which the camera
    shows `zoom` times as large, its middle at the picture's middle and `shift` pixels.
    """
    world, frames = ground(seed), []
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    for n in range(len(shift)):
        at = np.stack([(x - shift[n, 0]) / zoom[n], (y - shift[n, 1]) / zoom[n]], -1) * 2 / WORLD
        picture = functional.grid_sample(
            world, torch.from_numpy(at)[None], align_corners=False, padding_mode="reflection"
        )[0].permute(1, 2, 0).numpy()  # fmt: skip
        for way, colour in zip(ways, (RED, BLUE), strict=False):
            u, v = zoom[n] * way[n] + shift[n]
            cover = np.clip(radius * zoom[n] - np.hypot(x - u, y - v) + 0.5, 0, 1)[..., None]
            picture = picture * (1 - cover) + np.array(colour) * cover
        frames.append(picture)
    return np.clip(np.stack(frames), 0, 255).astype(np.uint8)


def latent(values: Floats) -> Floats:
    """Of the frames -> of the latent frames, against the middle one."""
    found = np.array([values[list(pair)].mean(0) for pair in MOMENTS])
    return found - found[ANCHOR]


def line(start: tuple[float, float], end: tuple[float, float]) -> Floats:
    return np.array(start) + T[:, None] * (np.array(end) - np.array(start))


ONE, STILL, NO_ZOOM = line((-30, 20), (25, -25)), np.zeros((COUNT, 2)), np.ones(COUNT)
PAN = line((-25, 10), (25, -10))
ZOOM = np.exp(0.5 * (T - 0.5))


@pytest.mark.parametrize(
    ("shift", "zoom"), [(PAN, NO_ZOOM), (STILL, ZOOM), (PAN, ZOOM)], ids=["pan", "zoom", "both"]
)
def test_things_are_where_they_go_beyond_the_camera(shift: Floats, zoom: Floats) -> None:
    other = line((35, 30), (-30, 35))
    clip = film([ONE, other], shift, zoom)
    pictures = pictures_of(clip, GRID.frames)
    motions = register(pictures, torch.ones(*GRID, dtype=torch.float64), ANCHOR).motions
    found = spots_before(shrunk(clip), motions, GRID, ANCHOR, MOMENTS)
    assert len(found) == 2
    found.sort(key=lambda spot: float(spot.place[0, 0]))
    middle = zoom[list(MOMENTS[ANCHOR])].mean()
    for spot, way in zip(found, (ONE, other), strict=True):
        own = (spot.place - spot.place[ANCHOR]).numpy()
        np.testing.assert_allclose(own, latent(way) * middle / 16, atol=0.12)
        # What it covers is told in the frames, where the camera has taken it.
        for f, (first, second) in enumerate(MOMENTS):
            y, x = spot.cover[f].nonzero(as_tuple=True)
            seen = np.array([float(x.double().mean()), float(y.double().mean())])
            ends = [zoom[n] * way[n] + shift[n] for n in (first, second)]
            np.testing.assert_allclose(seen, np.mean(ends, 0) / 16 + 3.5, atol=0.5)


def test_all_frames_lie_on_each_other() -> None:
    clip = film([], PAN, ZOOM)
    motions = register(
        pictures_of(clip, GRID.frames), torch.ones(*GRID, dtype=torch.float64), ANCHOR
    ).motions
    laid = steadied(shrunk(clip), motions, ANCHOR, MOMENTS)
    assert laid.pictures.shape[2] > SIZE
    assert laid.frame == pytest.approx(SIZE**2, rel=0.01)
    usual = laid.pictures.median(0).values
    away = (laid.pictures - usual).abs().amax(1)
    assert float((away < 12).float().mean()) > 0.995
    still = (shrunk(clip) - shrunk(clip).median(0).values).abs().amax(1)
    assert float((still < 12).float().mean()) < 0.5


def test_a_long_way_is_kept_small() -> None:
    clip = film([], line((-120, 0), (120, 0)), NO_ZOOM)
    motions = torch.zeros(GRID.frames, 4, dtype=torch.float64)
    shift = np.array([PAN_FAR[list(pair)].mean(0) for pair in MOMENTS])
    motions[:, 2:] = torch.from_numpy(shift - shift[ANCHOR]) / (SIZE / 2)
    laid = steadied(shrunk(clip), motions, ANCHOR, MOMENTS)
    height, width = laid.pictures.shape[2:]
    assert height * width <= 4.2 * SIZE**2
    assert width > 2.5 * height


PAN_FAR = line((-120, 0), (120, 0))


@torch.no_grad()
def reading(clip: Film, *, content: bool = True) -> Moves:
    adapter = load_backbone("bundled")
    way, size = adapter.variant.reading, clip.shape[1:3]
    q, k = adapter.reference_queries_and_keys(
        adapter.encode_clip(clip), way, len(clip), size[1], size[0]
    )
    flow = AttentionMotionFlow.from_qk(
        q.float(), k.float(), GRID, adapter.variant.mask, mutual=way.mutual
    )
    things = affinity(q, k, GRID) if content else None
    return read_moves(flow, things, pictures_of(clip, GRID.frames), clip)


@pytest.mark.parametrize("content", [True, False])
def test_a_thing_before_a_pan_is_read(content: bool) -> None:
    moves = reading(film([ONE], PAN, NO_ZOOM), content=content)
    assert moves.camera
    np.testing.assert_allclose(moves.shift.numpy(), latent(PAN) / 16, atol=0.12)
    (thing,) = moves.subjects
    assert thing.seen
    np.testing.assert_allclose(thing.path.numpy(), latent(ONE) / 16, atol=0.15)
    place = thing.place - thing.place[ANCHOR]
    np.testing.assert_allclose(place.numpy(), latent(ONE + PAN) / 16, atol=0.15)


def test_before_a_pan_over_nothing_that_moves_there_is_nothing() -> None:
    moves = reading(film([], PAN, NO_ZOOM))
    assert moves.camera
    assert not moves.subjects
    clip = film([STILL + 20.0], PAN, NO_ZOOM)  # it stands where it is in the world
    moves = reading(clip)
    assert moves.camera
    assert not moves.subjects


def test_parts_that_a_camera_follows_are_one_thing() -> None:
    """A rider's head and wheels: they go along, but for a little."""
    back = -PAN
    near = back * np.array([0.9, 1.0])
    pair = [back + np.array([0.0, -20.0]), near + np.array([0.0, 20.0])]
    (rider,) = reading(film(pair, PAN, NO_ZOOM)).subjects
    np.testing.assert_allclose(rider.path.numpy(), latent((back + near) / 2) / 16, atol=0.2)
    # Before a camera that does not follow them they are two.
    other = line((20, 25), (20, -25))
    assert len(reading(film([pair[0], other], PAN, NO_ZOOM)).subjects) == 2


def test_a_camera_that_things_hide_is_found() -> None:
    clip = film([ONE, line((30, -25), (-25, 25))], PAN, NO_ZOOM, radius=16)
    pictures = pictures_of(clip, GRID.frames)
    found = past_things(GRID, pictures, shrunk(clip))
    assert found is not None
    np.testing.assert_allclose(found.shift.numpy(), latent(PAN) / 16, atol=0.1)
    # Before one that rests, there is none to be found.
    still = film([ONE, line((30, -25), (-25, 25))], STILL, NO_ZOOM, radius=16)
    assert past_things(GRID, pictures_of(still, GRID.frames), shrunk(still)) is None
    assert not read_camera(GRID, pictures_of(still, GRID.frames), still).moves
