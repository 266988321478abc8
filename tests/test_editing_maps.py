"""One motion after another as maps: a zoom goes on about where the one before has taken things."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pe_toolkit.editing.maps import affine, going_on, tokens

SIDE, LAST = 8, 4
AT = tokens(SIDE, SIDE)
MIDDLE = (SIDE - 1) / 2
ONE = ("whole",)


def field(
    size: float, turn: float = 0.0, shift: tuple[float, float] = (0, 0)
) -> NDArray[np.float64]:
    """`(H, W, 3)` of a picture that is `size` times as large, turned and shifted (y, x)."""
    c, s = np.cos(turn), np.sin(turn)
    back = np.linalg.inv(size * np.array([[c, s], [-s, c]]))
    seen = (AT - MIDDLE - np.array(shift)) @ back.T + MIDDLE
    return np.concatenate([np.zeros((SIDE, SIDE, 1)), seen - AT], -1)


def motion(sizes: list[float], turns: list[float] | None = None) -> NDArray[np.float64]:
    """`(1, 1, F, H, W, 3)`"""
    turns = turns or [0.0] * len(sizes)
    return np.stack([field(size, turn) for size, turn in zip(sizes, turns, strict=True)])[
        None, None
    ]


def map_of(offsets: NDArray[np.float64]) -> NDArray[np.float64]:
    found = affine(AT + offsets.sum(0)[..., 1:])
    assert found is not None
    return found


@pytest.mark.parametrize(("size", "turn"), [(1.3, 0.0), (0.75, 0.0), (1.0, 0.6), (1.2, -0.4)])
def test_what_zooms_and_turns_goes_on_from_where_it_was(size: float, turn: float) -> None:
    """As one motion does that is read in one: frame f of the second is its map after the first."""
    half = motion([size**-0.5, 1.0, size**0.5], [-turn / 2, 0.0, turn / 2])
    found = going_on(half[:, :, -1], half, ONE)
    wanted = motion([size, size**1.5], [turn, 1.5 * turn])
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_paths_add_up_as_they_are() -> None:
    """Also where they are held at the border, as those of trained cards are."""
    shifts = [(0.0, -2.0), (0.0, 0.0), (1.0, 3.0)]
    fields = np.stack([field(1.0, shift=shift) for shift in shifts])
    there = AT + fields[..., 1:]
    fields[..., 1:] = np.clip(there, -0.5, SIDE - 0.5) - AT
    path = fields[None, None]
    found = going_on(path[:, :, -1], path, ONE)
    np.testing.assert_array_equal(found, path[:, :, 1:] - path[:, :, :1] + path[:, :, -1:])


def test_what_is_more_than_a_sum_is_the_cameras() -> None:
    zoom = motion([0.8, 1.0, 1.3])
    still = np.zeros_like(zoom)
    layers = np.concatenate([still, zoom], 1)
    found = going_on(layers[:, :, -1], layers, ("subject", "camera"))
    assert not found[:, 0].any()
    assert 1 / np.sqrt(np.linalg.det(map_of(found[0, :, -1])[:2, :2])) == pytest.approx(
        1.3**2 / 0.8
    )


def test_two_things_that_are_blended_are_no_map() -> None:
    share = (AT[..., :1] / SIDE) ** 3
    places = AT + share * np.array([3.0, 0.0]) - (1 - share) * np.array([0.0, 3.0])
    assert affine(places) is None
    assert affine(AT * 0 - 5) is None  # all of it outside
    flat = AT * np.array([1.0, 0.0])
    assert affine(flat) is None
