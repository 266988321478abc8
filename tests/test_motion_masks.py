"""Masks on flows small enough to check by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pe_toolkit.card import spec
from pe_toolkit.errors import UsageError
from pe_toolkit.motion.masks import (
    MASKS,
    consistent_mask,
    followed_mask,
    forward_backward_mask,
    mask_by_name,
    matched_fraction,
    nonzero_mask,
    tracked_mask,
)


def still(frames: int = 2, height: int = 1, width: int = 4) -> Tensor:
    return torch.zeros(frames, frames, height, width, 2, dtype=torch.int8)


def row_flow(there: list[int], back: list[int]) -> Tensor:
    """Two frames of one row; dx of frame 0 -> 1 and of 1 -> 0."""
    flow = still(width=len(there))
    flow[0, 1, 0, :, 0] = torch.tensor(there)
    flow[1, 0, 0, :, 0] = torch.tensor(back)
    return flow


def test_by_hand() -> None:
    # Patch 0 goes to 3 and comes back; 1 stays, matched; 2 goes to 0, whose match is 3 (one off);
    # 3 goes to 0 as well, and comes back exactly.
    flow = row_flow([3, 0, -2, -3], [3, 0, 1, -3])
    assert nonzero_mask(flow)[0, 1, 0].tolist() == [True, False, True, True]
    assert consistent_mask(flow)[0, 1, 0].tolist() == [True, True, True, True]
    assert consistent_mask(flow, 0.0)[0, 1, 0].tolist() == [True, True, False, True]
    assert forward_backward_mask(flow)[0, 1, 0].tolist() == [True, False, True, True]
    # From frame 1: 2 -> 3 -> 0 misses by two.
    assert consistent_mask(flow)[1, 0, 0].tolist() == [True, True, False, True]
    assert matched_fraction(flow) == pytest.approx(7 / 8)


def test_radius_is_chebyshev() -> None:
    flow = still(height=3, width=3)
    flow[1, 0, 1, 1] = torch.tensor([1, 1])  # the centre comes back one off in both directions
    assert consistent_mask(flow).all()
    assert not consistent_mask(flow, 0.5)[0, 1, 1, 1]
    flow[1, 0, 0, 0] = torch.tensor([2, 0])
    assert not consistent_mask(flow)[0, 1, 0, 0]
    assert consistent_mask(flow, 2.0).all()


def test_rows_and_columns_are_not_mixed_up() -> None:
    # A pan by (dx, dy) = (2, 1) on a grid that is not square: inside the frame all comes back.
    height, width = 3, 5
    flow = still(height=height, width=width)
    flow[0, 1, : height - 1, : width - 2] = torch.tensor([2, 1])
    flow[1, 0, 1:, 2:] = torch.tensor([-2, -1])
    assert forward_backward_mask(flow)[0, 1, : height - 1, : width - 2].all()
    assert forward_backward_mask(flow)[1, 0, 1:, 2:].all()
    # The rest stays, lands on a patch that has left, and misses.
    assert not consistent_mask(flow)[0, 1, height - 1, 2:].any()


def test_names() -> None:
    assert set(MASKS) == set(spec.MASKS)  # what a card may say, which is known without torch
    flow = row_flow([3, 0, 0, -3], [3, 0, -1, -3])
    for name, mask in MASKS.items():
        assert mask_by_name(name) is mask
        assert mask(flow).shape == flow.shape[:-1]
        assert mask(flow).dtype == torch.bool
    assert MASKS["none"](flow).all()
    both = MASKS["nonzero"](flow) & MASKS["consistent"](flow)
    assert torch.equal(MASKS["forward-backward"](flow), both)
    with pytest.raises(UsageError, match="forward-backward"):
        mask_by_name("backward-forward")


def test_batch() -> None:
    flows = torch.stack([row_flow([3, 0, 0, -3], [3, 0, -1, -3]), still()])
    for mask in MASKS.values():
        for flow, kept in zip(flows, mask(flows), strict=True):
            assert torch.equal(mask(flow), kept)


def test_matched_fraction_leaves_out_the_diagonal() -> None:
    assert matched_fraction(still(3)) == 1.0
    assert matched_fraction(still(1)) == 0.0
    flow = still()
    flow[0, 0, 0, 0, 0] = 3  # a frame against itself is no match of two frames
    assert matched_fraction(flow) == 1.0


@pytest.mark.parametrize(
    ("flow", "said"),
    [
        (torch.zeros(2, 2, 1, 4, 2), "integers"),
        (torch.zeros(2, 3, 1, 4, 2, dtype=torch.int8), "F, F, H, W, 2"),
        (torch.zeros(2, 2, 1, 4, 3, dtype=torch.int8), "F, F, H, W, 2"),
        (row_flow([0, 0, 0, 1], [0, 0, 0, 0]), "leave it"),
        (row_flow([0, 0, 0, 0], [-1, 0, 0, 0]), "leave it"),
    ],
)
def test_bad_flows_are_named(flow: Tensor, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        consistent_mask(flow)


def test_bad_radius_is_named() -> None:
    with pytest.raises(UsageError, match="radius"):
        consistent_mask(still(), -1.0)


def crossing(frames: int = 6, side: int = 7, seed: int = 0) -> Tensor:
    """One patch of row 3 goes one patch to the right in every frame; all else lands at random one
    patch away or where it was, as the argmax does in flat background."""
    generator = torch.Generator().manual_seed(seed)
    flow = torch.randint(-1, 2, (frames, frames, side, side, 2), generator=generator)
    grid = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="xy"), -1)
    flow = (grid + flow).clamp(0, side - 1) - grid
    for i in range(frames):
        flow[i, i] = 0
        for j in range(frames):
            flow[i, j, 3, i] = torch.tensor([j - i, 0])
    return flow.to(torch.int8)


def tracked_by_loops(flow: Tensor, agreement: float = 0.9) -> set[tuple[int, int, int, int]]:
    """Plainly from the definition, for clips in which something gets 4 patches far."""
    frames, _, height, width, _ = flow.shape
    d = flow.int().tolist()
    kept = set()
    for i in range(frames):
        for y in range(height):
            for x in range(width):
                agree = total = 0
                for k in range(frames):
                    for j in range(frames):
                        if len({i, j, k}) == 3:
                            dx, dy = d[i][k][y][x]
                            ex, ey = d[k][j][y + dy][x + dx]
                            fx, fy = d[i][j][y][x]
                            agree += max(abs(dx + ex - fx), abs(dy + ey - fy)) <= 1
                            total += 1
                reach = max(max(map(abs, d[i][j][y][x])) for j in range(frames))
                if agree < agreement * total or reach < 2:
                    continue
                for j in range(frames):
                    dx, dy = d[i][j][y][x]
                    ex, ey = d[j][i][y + dy][x + dx]
                    if i != j and max(abs(dx + ex), abs(dy + ey)) <= 1:
                        kept.add((i, j, y, x))
    return kept


def test_tracked_keeps_what_crosses_and_drops_jitter() -> None:
    flow = crossing()
    kept = tracked_mask(flow)
    assert {tuple(entry) for entry in kept.nonzero().tolist()} == tracked_by_loops(flow)
    for i in range(6):
        for j in range(6):
            assert bool(kept[i, j, 3, i]) == (i != j)
    jitter = forward_backward_mask(flow)
    assert kept.sum() < 1.5 * 30 < jitter.sum() / 2


@pytest.mark.parametrize("seed", range(5))
def test_tracked_is_its_definition(seed: int) -> None:
    flow = crossing(frames=5, seed=seed)
    for agreement in (0.3, 0.9):
        kept = {
            tuple(entry) for entry in tracked_mask(flow, agreement=agreement).nonzero().tolist()
        }
        assert kept == tracked_by_loops(flow, agreement)


def test_tracked_counts_standing_still_of_what_moves() -> None:
    flow = crossing()
    for i in range(6):  # it waits in frames 2 and 3
        for j in range(6):
            place = [0, 1, 2, 2, 3, 4]
            flow[i, j, 3] = 0
            flow[i, j, 3, place[i]] = torch.tensor([place[j] - place[i], 0])
    assert tracked_mask(flow)[2, 3, 3, 2]
    assert not forward_backward_mask(flow)[2, 3, 3, 2]


def test_tracked_lowers_far_where_little_moves() -> None:
    flow = torch.zeros(3, 3, 1, 4, 2, dtype=torch.int8)
    for i in range(3):
        for j in range(3):
            place = [0, 0, 1]
            flow[i, j, 0, place[i], 0] = place[j] - place[i]
    assert tracked_mask(flow)[0, 2, 0, 0]


def test_tracked_of_two_frames_or_of_nothing_is_forward_backward() -> None:
    two = row_flow([2, 0, 0, 0], [0, 0, -2, 0])
    assert torch.equal(tracked_mask(two), forward_backward_mask(two))
    nothing = torch.zeros(5, 5, 1, 16, 2, dtype=torch.int8)
    places = torch.randint(16, (5, 5, 16), generator=torch.Generator().manual_seed(0))
    nothing[:, :, 0, :, 0] = places - torch.arange(16)
    assert forward_backward_mask(nothing).any()
    assert torch.equal(tracked_mask(nothing), forward_backward_mask(nothing))
    assert not followed_mask(nothing).any()


def test_followed_is_tracked_where_something_is() -> None:
    assert torch.equal(followed_mask(crossing()), tracked_mask(crossing()))


def test_tracked_batch() -> None:
    flows = torch.stack([crossing(seed=1), crossing(seed=2)])
    both = tracked_mask(flows)
    assert torch.equal(both, torch.stack([tracked_mask(flow) for flow in flows]))
