"""How much of a camera a video shows, against videos that show so much of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pe_toolkit.evaluation.camera_share import camera_share
from pe_toolkit.evaluation.in_place import Ways
from pe_toolkit.grid import TokenGrid

GRID = TokenGrid(9, 8, 8)
COUNT, SIZE = 33, 128
U = np.linspace(-1, 1, COUNT)
Y, X = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2


def video(share: float, *, zoom: float = 0.0, roll: float = 0.0, pan: float = 0.0) -> np.ndarray:
    """A square off the middle on waves, of a camera that goes through `share` of all this."""
    frames = []
    for u in U * share:
        scale, angle = np.exp(-zoom * u), -roll * u
        x, y = X - pan * u * SIZE / 8, Y
        x, y = (scale * (np.cos(angle) * x - np.sin(angle) * y),
                scale * (np.sin(angle) * x + np.cos(angle) * y))  # fmt: skip
        waves = 90 + 30 * np.sin(x / 6) * np.sin(y / 7)
        square = (abs(x - 18) < 14) & (abs(y + 12) < 14)
        frames.append(np.where(square[..., None], (230, 40, 40), waves[..., None]))
    return np.stack(frames).clip(0, 255).astype(np.uint8)


def camera(*, zoom: float = 0.0, roll: float = 0.0, pan: float = 0.0) -> torch.Tensor:
    """As rows of a card."""
    rows = []
    for u in np.linspace(-1, 1, GRID.frames):
        cos, sin = np.exp(zoom * u) * np.array([np.cos(roll * u), np.sin(roll * u)])
        rows.append([cos, -sin, sin, cos, pan * u, 0.0])
    return torch.tensor(rows)


def maps(**moves: float) -> tuple[torch.Tensor, torch.Tensor]:
    return Ways(torch.zeros(0, 9, 2), None, camera(**moves)).maps(GRID)


@pytest.mark.parametrize("share", [1.0, 0.5, 0.0, 1.4, -0.3])
@pytest.mark.parametrize("moves", [{"zoom": 0.3}, {"roll": 0.3}, {"pan": 1.5}])
def test_so_much_of_a_camera(share: float, moves: dict[str, float]) -> None:
    found = camera_share(video(share, **moves), maps(**moves), GRID)
    assert found == pytest.approx(share, abs=0.06)


def test_another_motion_shows_none_of_it() -> None:
    rolls, zooms = video(1.0, roll=0.3), maps(zoom=0.3)
    assert abs(camera_share(rolls, zooms, GRID)) < 0.2
    still = np.full((COUNT, SIZE, SIZE, 3), 90, np.uint8)
    assert camera_share(still, zooms, GRID) == 0


def test_a_picture_that_is_not_square() -> None:
    """Twice as wide as high, in as many patches each way: what rolls there is no ellipse."""
    wide = TokenGrid(9, 4, 8)
    frames = video(1.0, roll=0.3)[:, 32:96]
    assert camera_share(frames, maps(roll=0.3), wide) == pytest.approx(1, abs=0.06)
