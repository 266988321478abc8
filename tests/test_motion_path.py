"""The path of what moves, from synthetic fields."""

from __future__ import annotations

import pytest
import torch

from pe_toolkit.errors import UsageError
from pe_toolkit.grid import TokenGrid
from pe_toolkit.motion.flow import AttentionMotionFlow
from pe_toolkit.motion.masks import forward_backward_mask
from pe_toolkit.motion.path import FARTHEST, mean_path, reach

GRID = TokenGrid(5, 8, 12)
PATH = [(0, 1), (2, 2), (4, 2), (6, 4), (8, 5)]


def blob(path: list[tuple[int, int]] = PATH, size: int = 3) -> AttentionMotionFlow:
    """A square blob at `path[j]` in frame j on a still background."""
    flow = torch.zeros(len(path), len(path), GRID.height, GRID.width, 2, dtype=torch.int8)
    for i, (x, y) in enumerate(path):
        for j, (to_x, to_y) in enumerate(path):
            flow[i, j, y : y + size, x : x + size] = torch.tensor([to_x - x, to_y - y])
    return AttentionMotionFlow(flow, forward_backward_mask(flow), GRID)


def wanted(path: list[tuple[int, int]], anchor: int) -> torch.Tensor:
    points = torch.tensor(path, dtype=torch.float32)
    return points - points[anchor]


@pytest.mark.parametrize("anchor", [0, 2, 4])
def test_a_blob_on_a_still_background(anchor: int) -> None:
    path = mean_path(blob(), anchor)
    assert path.dtype == torch.float32
    torch.testing.assert_close(path, wanted(PATH, anchor), atol=0.01, rtol=0)


def test_a_path_that_returns() -> None:
    there_and_back = [*PATH[:3], *PATH[1::-1]]
    path = mean_path(blob(there_and_back), 2)
    torch.testing.assert_close(path, wanted(there_and_back, 2), atol=0.05, rtol=0)


def test_every_pair_has_a_say() -> None:
    # All matches between the anchor and the last frame are wrong; the way over the others is right.
    flow = blob()
    wrong = flow.displacement.clone()
    wrong[0, 4] = torch.where(wrong[0, 4] != 0, 1, 0).to(torch.int8)
    wrong[4, 0] = torch.where(wrong[4, 0] != 0, -1, 0).to(torch.int8)
    path = mean_path(AttentionMotionFlow(wrong, flow.mask, flow.grid), 0)
    off = (path - wanted(PATH, 0)).norm(dim=1)
    assert off[4] < 3.5  # the two wrong means alone would be 8 off
    assert off[1:4].max() < 2


def test_long_displacements_outweigh_jitter() -> None:
    flow = blob()
    jitter, mask = flow.displacement.clone(), flow.mask.clone()
    jitter[:, :, 7, :, 1] = -1
    mask[:, :, 7, :] = True
    path = mean_path(AttentionMotionFlow(jitter, mask, flow.grid), 2)
    assert torch.nn.functional.cosine_similarity(path[4], wanted(PATH, 2)[4], dim=0) > 0.95


def test_a_frame_without_matches_lies_between_its_neighbours() -> None:
    flow = blob()
    mask = flow.mask.clone()
    mask[3] = mask[:, 3] = False
    path = mean_path(AttentionMotionFlow(flow.displacement, mask, flow.grid), 0)
    torch.testing.assert_close(path[3], (path[2] + path[4]) / 2, atol=0.01, rtol=0)


def test_nothing_kept() -> None:
    flow = blob()
    empty = AttentionMotionFlow(flow.displacement, torch.zeros_like(flow.mask), flow.grid)
    assert (mean_path(empty, 2) == 0).all()


@pytest.mark.parametrize("anchor", [-1, 5])
def test_an_anchor_outside(anchor: int) -> None:
    with pytest.raises(UsageError, match=r"0\.\.4"):
        mean_path(blob(), anchor)


def test_a_path_is_exaggerated_within_the_picture() -> None:
    def along(dx: float, dy: float) -> torch.Tensor:
        return torch.tensor([[0.0, 0.0], [dx, dy], [dx / 2, 0.0]])

    assert reach(along(2, 1), GRID, 1.5) == 1.5
    assert reach(along(0, 0), GRID, 1.5) == 1.5
    assert reach(along(6, 1), GRID, 1.5) == pytest.approx(FARTHEST * 12 / 6)
    assert reach(along(-1, 4), GRID, 1.5) == pytest.approx(FARTHEST * 8 / 4)
    assert reach(along(11, 0), GRID, 1.5) == 1  # as far as the reference in any case
    assert reach(along(11, 0), GRID, 0.5) == 0.5
