"""Motion as offsets of tokens: what is put back where, to the digit."""

from __future__ import annotations

import math

import pytest
import torch

from pe_toolkit.errors import UsageError
from pe_toolkit.grid import TokenGrid
from pe_toolkit.motion.blending import BLEND
from pe_toolkit.motion.layers import (
    blended,
    camera_layer,
    compose,
    inside,
    middle,
    subject_layer,
    undo,
)
from pe_toolkit.motion.moves import Moves, Subject
from pe_toolkit.motion.similarities import similarity

GRID = TokenGrid(3, 4, 6)


def still(frames: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.eye(2, dtype=torch.float64).expand(frames, 2, 2).clone(), torch.zeros(
        frames, 2, dtype=torch.float64
    )


def test_a_camera_at_rest_moves_no_token() -> None:
    assert torch.equal(camera_layer(GRID, *still()), torch.zeros(GRID.tokens, 3))


def test_a_pan_puts_every_token_back_by_it() -> None:
    linear, shift = still()
    shift[2] = torch.tensor([2.0, -1.0])
    layer = camera_layer(GRID, linear, shift).unflatten(0, tuple(GRID))
    assert torch.equal(layer[:2], torch.zeros(2, 4, 6, 3))
    assert torch.equal(layer[2], torch.tensor([0.0, 1.0, -2.0]).expand(4, 6, 3))


def test_a_zoom_is_about_the_middle_and_a_roll_clockwise() -> None:
    linear = similarity(torch.tensor([0.0, math.log(2.0), 0.0]), torch.tensor([0, 0, math.pi / 2]))
    layer = camera_layer(GRID, linear, torch.zeros(3, 2)).unflatten(0, tuple(GRID))
    at = GRID.coordinates(dtype=torch.float32).unflatten(0, (4, 6)) - middle(GRID).float()
    torch.testing.assert_close(layer[1][..., [2, 1]], -at / 2)
    # What is right of the middle in a picture turned clockwise was above it: y down.
    right = layer[2][..., [2, 1]] + at
    torch.testing.assert_close(right, torch.stack([at[..., 1], -at[..., 0]], -1))


def test_a_subject_is_put_back_on_the_tokens_of_its_mask() -> None:
    path = torch.tensor([[0.0, 0.0], [1.0, 0.5], [2.0, 1.0]])
    everywhere = subject_layer(GRID, path).unflatten(0, tuple(GRID))
    assert torch.equal(everywhere[1, 0, 0], torch.tensor([0.0, -0.5, -1.0]))
    mask = torch.zeros(tuple(GRID), dtype=torch.bool)
    mask[1, 2, 3] = True
    masked = subject_layer(GRID, path, mask).unflatten(0, tuple(GRID))
    assert masked.abs().sum() == masked[1, 2, 3].abs().sum() == 1.5


def test_camera_and_subject_add_up_to_both() -> None:
    """A thing that the camera carries and that moves beyond it comes back to its place."""
    generator = torch.Generator().manual_seed(0)
    linear = similarity(
        0.3 * torch.randn(3, generator=generator), 0.3 * torch.randn(3, generator=generator)
    ).double()
    shift = torch.randn(3, 2, generator=generator).double()
    own = similarity(torch.tensor([0.0, 0.2, -0.2]), torch.tensor([0.0, 0.1, 0.2])).double()
    moved = torch.randn(3, 2, generator=generator).double()
    both = camera_layer(GRID, linear, shift) + compose(GRID, (linear, shift), (own, moved))
    at = GRID.coordinates(dtype=torch.float64)[None]
    wanted = undo(undo(at, GRID, linear, shift), GRID, own, moved) - at
    torch.testing.assert_close(both[:, [2, 1]], wanted.flatten(0, 1).float())
    c = middle(GRID)  # and X undoes Y
    there = (linear @ (at - c).mT).mT + c + shift[:, None]
    torch.testing.assert_close(undo(there, GRID, linear, shift), at.expand(3, -1, -1))


def test_every_subject_has_a_layer_but_two_before_a_camera_that_moves() -> None:
    zero = torch.zeros(3, dtype=torch.float64)
    path = torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]], dtype=torch.float64)
    one = Subject(path, path + 1, zero, zero, 0.5)
    layers = Moves(0, *still(), (one,)).layers(GRID)
    assert list(layers) == ["subject"]
    torch.testing.assert_close(layers["subject"], subject_layer(GRID, path))
    away = path[0] + 1 - middle(GRID)  # to the middle of the picture
    placed = Moves(0, *still(), (one,)).layers(GRID, placed=True)
    torch.testing.assert_close(placed["subject"], subject_layer(GRID, path + away))
    both = Moves(0, *still(), (one, one)).layers(GRID)
    assert list(both) == ["subject", "subject-2"]
    torch.testing.assert_close(both["subject"] + both["subject-2"], layers["subject"])
    linear, shift = still()
    assert list(Moves(0, linear, shift + path, (one, one)).layers(GRID)) == ["camera"]


def test_what_does_not_fit_is_refused() -> None:
    linear, shift = still()
    with pytest.raises(UsageError, match="linear of shape"):
        camera_layer(GRID, linear[:2], shift)
    with pytest.raises(UsageError, match="path of shape"):
        subject_layer(GRID, shift[:2])
    with pytest.raises(UsageError, match="flattens"):
        camera_layer(GRID, linear * 0, shift)


def test_blended_shares_go_by_the_distance_to_each() -> None:
    places = torch.zeros(2, 3, 2)
    places[0, :, 0], places[1, :, 0] = 1.0, 4.0
    shares = blended(GRID, places).unflatten(1, tuple(GRID))
    torch.testing.assert_close(shares.sum(0), torch.ones(3, 4, 6).double())
    # On the row of both: 3 patches farther from the one than from the other.
    odds = float(shares[0, 0, 0, 1] / shares[1, 0, 0, 1])
    assert math.isclose(math.log(odds), 3 / (BLEND * 4), rel_tol=1e-6)
    torch.testing.assert_close(shares[0, :, :, :3], shares[1, :, :, 3:].flip(-1))
    assert torch.equal(blended(GRID, places[:1]), torch.ones(1, GRID.tokens).double())
    with pytest.raises(UsageError, match="places of shape"):
        blended(GRID, places[:, :2])


def test_nothing_leaves_the_picture() -> None:
    """Of a path that is far: what would sit beyond the border sits at it, in any part."""
    path = torch.tensor([[-4.0, 1.0], [0.0, 0.0], [3.0, -9.0]])
    layers = {"subject": subject_layer(GRID, path), "subject-2": subject_layer(GRID, -path / 2)}
    found = inside(GRID, layers)
    at = GRID.coordinates(dtype=torch.float32).repeat(3, 1)[:, [1, 0]]  # (S, 2) as (y, x)

    def sums(layers: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        return [layers["subject"][:, 1:], sum(layers.values())[:, 1:]]  # type: ignore[index]

    for kept, asked in zip(sums(found), sums(layers), strict=True):
        ends = at + kept
        assert float(ends.min()) >= -0.5
        assert bool((ends <= torch.tensor([3.5, 5.5])).all())
        free = ((at + asked > -0.5) & (at + asked < torch.tensor([3.5, 5.5]))).all(1)
        assert 0 < int(free.sum()) < len(free)
        torch.testing.assert_close(kept[free], asked[free])
    # Or to and fro within a token of it.
    folded = sums(inside(GRID, layers, fold=1.0))[0] + at
    held = at + sums(layers)[0]
    row = torch.tensor([3.5, 2.5, 3.5, 2.5, 3.5, 2.5, 3.5, 2.5, 3.5, 2.5, 3.5, 2.5])
    for (y, _), (asked_y, _) in zip(folded.tolist(), held.tolist(), strict=True):
        over = asked_y - 3.5
        if over >= 0 and over == int(over):
            assert y == float(row[int(over)])
        assert -0.5 <= y <= 3.5


def test_what_stays_in_the_picture_is_as_it_was() -> None:
    path = torch.tensor([[-0.5, 0.0], [0.0, 0.0], [0.25, 0.5]])
    layers = {"whole": subject_layer(GRID, path)}
    assert torch.equal(inside(GRID, layers)["whole"], layers["whole"])
