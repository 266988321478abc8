"""A camera in clips like real footage: what all frames say where the latent frames leave doubt."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from pe_toolkit.grid import TokenGrid
from pe_toolkit.motion.cameras import LEFT
from pe_toolkit.motion.film import chain, confirmed, everywhere
from pe_toolkit.motion.flow import AttentionMotionFlow
from pe_toolkit.motion.moments import frames_of, pictures_of
from pe_toolkit.motion.read import read_moves
from pe_toolkit.motion.registration import register

LATENT, FRAMES, SIDE = 5, 17, 96
GRID = TokenGrid(LATENT, 6, 6)
MOMENTS = frames_of(FRAMES, LATENT)
ANCHOR = LATENT // 2


def texture(seed: int, side: int, coarse: tuple[int, ...] = (6, 12, 24, 48)) -> torch.Tensor:
    """Grey values of unit spread with detail at every size, as of leaves and walls."""
    draw = torch.Generator().manual_seed(seed)
    planes = [
        functional.interpolate(
            torch.randn(1, 1, n, n, generator=draw), size=(side, side), mode="bicubic"
        )
        for n in coarse
    ]
    made = torch.stack(planes).sum(0)[0, 0]
    return (made - made.mean()) / made.std()


def seen(world: torch.Tensor, zoom: float, x: float, y: float) -> torch.Tensor:
    """What a camera shows of a world twice as wide; (x, y): its middle, in sides of the picture."""
    at = (torch.arange(SIDE) + 0.5) / SIDE * 2 - 1
    v, u = torch.meshgrid(at, at, indexing="ij")
    places = torch.stack([(u / zoom + 2 * x) / 2, (v / zoom + 2 * y) / 2], -1)
    return functional.grid_sample(
        world[None, None], places[None].float(), align_corners=False, padding_mode="reflection"
    )[0, 0]


def clip(zooms: np.ndarray, xs: np.ndarray, flicker: float, still: bool = False) -> np.ndarray:
    """uint8 RGB frames: a textured world under a camera, with a share of something else in every
    frame. `still`: only the right half of the picture moves.
    """
    world, frames = texture(1, 2 * SIDE), []
    for n in range(FRAMES):
        grey = seen(world, float(zooms[n]), float(xs[n]), 0.0)
        if still:
            grey[:, : SIDE // 2] = seen(world, 1.0, 0.0, 0.0)[:, : SIDE // 2]
        grey = grey + flicker * texture(100 + n, SIDE)
        frames.append((128 + 30 * grey).clamp(0, 255).byte().numpy())
    return np.repeat(np.stack(frames)[..., None], 3, -1)


def asked(frames: np.ndarray) -> tuple[object, ...]:
    pictures = pictures_of(frames, LATENT)
    weights = torch.ones(tuple(GRID), dtype=torch.float64)
    grey = torch.from_numpy(frames.mean(-1, dtype=np.float32))
    return register(pictures, weights, ANCHOR), pictures, grey, weights, ANCHOR, MOMENTS


PAN = np.ones(FRAMES), np.linspace(0, 0.3, FRAMES)
ZOOM = np.exp(np.linspace(0, 0.4, FRAMES)), np.zeros(FRAMES)


@pytest.mark.parametrize("camera", [PAN, ZOOM], ids=["pan", "zoom"])
def test_a_camera_is_confirmed_where_much_is_left(camera: tuple[np.ndarray, np.ndarray]) -> None:
    frames = clip(*camera, flicker=0.5)
    found, *rest = asked(frames)
    assert float(found.rest.sum()) > LEFT * float(found.still.sum())  # type: ignore[attr-defined]
    assert confirmed(found, *rest)  # type: ignore[arg-type]


def test_what_does_not_agree_or_is_not_everywhere_is_not() -> None:
    # Everything lies better where it was laid, but the frames between say another way.
    found, pictures, grey, weights, anchor, moments = asked(clip(*PAN, flicker=0.2))
    assert confirmed(found, pictures, grey, weights, anchor, moments)  # type: ignore[arg-type]
    assert everywhere(found, pictures, weights, anchor)  # type: ignore[arg-type]
    back = torch.from_numpy(clip(PAN[0], PAN[1][::-1], flicker=0.2).mean(-1, dtype=np.float32))
    assert not confirmed(found, pictures, back, weights, anchor, moments)  # type: ignore[arg-type]
    # A thing as large as half of the picture.
    found, pictures, _, weights, anchor, _ = asked(clip(*PAN, flicker=0.2, still=True))
    assert not everywhere(found, pictures, weights, anchor)  # type: ignore[arg-type]


def test_a_chain_says_where_the_camera_went() -> None:
    zooms, xs = ZOOM[0], PAN[1]
    grey = torch.from_numpy(clip(zooms, xs, flicker=0.1).mean(-1, dtype=np.float32))
    said = chain(grey, torch.ones(tuple(GRID), dtype=torch.float64), MOMENTS)
    assert said.shape == (LATENT, 4)
    times = [sum(m) / 2 / (FRAMES - 1) for m in MOMENTS]
    for motion, t in zip(said, times, strict=True):
        zoom = math.exp(0.4 * t)
        # In half shorter sides: what rests goes left by twice the way, as large as it is seen.
        assert float(motion[0]) == pytest.approx(0.4 * t, abs=0.03)
        assert float(motion[1]) == pytest.approx(0, abs=0.03)
        assert float(motion[2]) == pytest.approx(-2 * 0.3 * t * zoom, abs=0.05)


def flow_of_nothing() -> AttentionMotionFlow:
    shape = (LATENT, LATENT, 6, 6)
    return AttentionMotionFlow(
        torch.zeros(*shape, 2, dtype=torch.int8), torch.zeros(shape, dtype=torch.bool), GRID
    )


def test_a_reference_is_read_with_all_of_its_frames() -> None:
    frames = clip(*PAN, flicker=0.5)
    pictures = pictures_of(frames, LATENT)
    assert not read_moves(flow_of_nothing(), None, pictures).camera
    found = read_moves(flow_of_nothing(), None, pictures, frames)
    assert found.camera
    # 0.3 of the picture to the right, most of it between the first and the last latent frame.
    assert float(found.shift[0, 0] - found.shift[-1, 0]) == pytest.approx(0.3 * 6 * 0.9, abs=0.25)


def test_a_thing_before_a_plain_background_is_no_camera() -> None:
    """Where things are not told from a background, what lies on itself may be one."""
    at = (np.arange(SIDE) + 0.5) / SIDE
    y, x = np.meshgrid(at, at, indexing="ij")
    frames = [
        np.where((np.abs(x - 0.3 - 0.4 * t) < 0.15) & (np.abs(y - 0.5) < 0.15), 220, 90)
        for t in np.linspace(0, 1, FRAMES)
    ]
    film = np.repeat(np.stack(frames).astype(np.uint8)[..., None], 3, -1)
    assert not read_moves(flow_of_nothing(), None, pictures_of(film, LATENT), film).camera


def test_things_that_are_none_do_not_hide_the_camera() -> None:
    """What a backbone makes of footage that it does not know: a cut through nothing."""
    frames = clip(*PAN, flicker=0.5)
    last = 3 * SIDE // 4  # from here on water, which is another one in every frame
    for n in range(FRAMES):
        water = (128 + 30 * texture(200 + n, SIDE)).clamp(0, 255).byte().numpy()
        frames[n, :, last:] = water[:, last:, None]
    mask = torch.zeros(tuple(GRID))
    mask[:, :, :4] = 1  # the rest is taken for the background
    seen = mask.flatten()
    near = torch.exp(-8 * (seen[:, None] - seen).square())
    near = (near / near.sum(1, keepdim=True)).double()
    pictures = pictures_of(frames, LATENT)
    found = read_moves(flow_of_nothing(), (near + near.T, GRID), pictures, frames)
    assert found.camera
    assert not read_moves(flow_of_nothing(), (near + near.T, GRID), pictures).camera
