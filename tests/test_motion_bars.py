"""Black bars around a picture, and a camera at rest that trembles: neither makes a thing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pe_toolkit.motion.backdrop import backdrop, shrunk
from pe_toolkit.motion.pieces import borders, pieces_of
from pe_toolkit.motion.spots import tracks
from tests.test_motion_spots import COUNT, PLAIN, RED, SIZE, Film, X, disc, film


def barred(frames: Film, rows: int, columns: int = 0) -> Film:
    out = np.zeros_like(frames)
    inside = slice(rows, SIZE - rows), slice(columns, SIZE - columns)
    out[:, *inside] = frames[:, *inside]
    return out


def to_the_top(t: float) -> np.ndarray:
    return disc(PLAIN, 60, 90 - 80 * t, 12, RED)


@pytest.mark.parametrize(("rows", "columns"), [(28, 0), (0, 20), (9, 9)])
def test_the_border_is_within_the_bars(rows: int, columns: int) -> None:
    left, upper, right, lower = borders(shrunk(barred(film(to_the_top), rows, columns)))[0]
    for found, bar in ((upper, rows), (left, columns)):
        assert abs(float(found) - bar) <= 1
    for found, bar in ((lower, rows), (right, columns)):
        assert abs(SIZE - 1 - float(found) - bar) <= 1


def test_a_dark_picture_has_no_bars() -> None:
    """Black all around a thing, and one that is black above alone."""
    whole = [0, 0, SIZE - 1, SIZE - 1]
    night = film(lambda t: disc(PLAIN * 0, 64, 64 + 20 * t, 12, RED))
    assert borders(shrunk(night))[0].tolist() == whole
    above = film(to_the_top)
    above[:, :30] = 0
    assert borders(shrunk(above))[0].tolist() == whole
    assert borders(torch.zeros(3, 3, 8, 8))[0].tolist() == [0, 0, 7, 7]


def test_what_a_bar_cuts_leaves_the_picture() -> None:
    """By 90 pixels up: into the upper bar, and out of what is shown."""
    (track,) = tracks(shrunk(barred(film(to_the_top), 28)))
    way = track.way[:, 1].numpy()
    assert way[0] - way[-1] > 65
    assert np.ptp(np.diff(way[:-3])) <= 1  # until nothing of it is seen


def test_edges_of_a_camera_that_trembles_are_no_things() -> None:
    """Columns of light and dark, sharp, that shake by parts of a pixel; a disc goes past them."""
    shakes = np.random.default_rng(3).uniform(-0.35, 0.35, COUNT)

    def frame(t: float) -> np.ndarray:
        shift = shakes[round(t * (COUNT - 1))]
        bars = 30 + 200 / (1 + np.exp(-8 * np.sin((X + shift) / 9) * 9 / 2))
        return disc(np.repeat(bars[..., None], 3, -1), 20 + 90 * t, 64, 13, RED)

    pictures = shrunk(film(frame))
    found = pieces_of(pictures, backdrop(pictures))
    assert found is not None
    assert all(len(pieces) == 1 for pieces in found[3:-3])
    still = shrunk(film(lambda t: frame(t) * 0 + 99))
    assert pieces_of(still, backdrop(still)) == [[]] * COUNT
