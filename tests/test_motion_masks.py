"""Masks on flows small enough to check by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pe_toolkit.errors import UsageError
from pe_toolkit.motion.masks import (
    MASKS,
    consistent_mask,
    forward_backward_mask,
    mask_by_name,
    matched_fraction,
    nonzero_mask,
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
    assert set(MASKS) == {"none", "nonzero", "forward-backward", "consistent"}
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
