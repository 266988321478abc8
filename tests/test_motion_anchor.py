"""Offsets to the anchor frame on synthetic fields: a moving blob, a pan, a zoom."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pe_toolkit.errors import UsageError
from pe_toolkit.grid import TokenGrid
from pe_toolkit.motion.anchor import anchor_offsets
from pe_toolkit.motion.flow import AttentionMotionFlow
from pe_toolkit.motion.masks import forward_backward_mask

Where = Callable[[int, int, float, float], tuple[float, float]]


def field(grid: TokenGrid, where: Where) -> AttentionMotionFlow:
    """The flow of `where(i, j, x, y)`, rounded and cut at the border."""
    flow = torch.zeros(grid.frames, grid.frames, grid.height, grid.width, 2, dtype=torch.int8)
    for i in range(grid.frames):
        for j in range(grid.frames):
            for y in range(grid.height):
                for x in range(grid.width):
                    tx, ty = where(i, j, x, y)
                    tx = min(max(round(tx), 0), grid.width - 1)
                    ty = min(max(round(ty), 0), grid.height - 1)
                    flow[i, j, y, x] = torch.tensor([tx - x, ty - y])
    return AttentionMotionFlow(flow, forward_backward_mask(flow), grid)


def blob(grid: TokenGrid, path: list[tuple[int, int]], size: int = 3) -> AttentionMotionFlow:
    """A square blob at `path[j]` in frame j on a still background."""

    def where(i: int, j: int, x: float, y: float) -> tuple[float, float]:
        (x0, y0), (x1, y1) = path[i], path[j]
        inside = 0 <= x - x0 < size and 0 <= y - y0 < size
        return (x + x1 - x0, y + y1 - y0) if inside else (x, y)

    return field(grid, where)


PATH = [(0, 1), (3, 2), (6, 3), (9, 5)]
GRID = TokenGrid(4, 8, 12)


def test_blob_on_a_still_background() -> None:
    offsets = anchor_offsets(blob(GRID, PATH))
    assert offsets.shape == (4, 8, 12, 2)
    assert offsets.dtype == torch.float32
    for j, (x, y) in enumerate(PATH):
        come = torch.tensor([x - PATH[0][0], y - PATH[0][1]]).float()
        assert (offsets[j, y : y + 3, x : x + 3] == come).all()
        if x >= 6:
            assert (offsets[j, :, 3 : x - 1] == 0).all()  # the background holds its place
            # Uncovered patches have no match; they lie among still ones.
            assert offsets[j, 1:4, 0:3].abs().max() < 0.5


def test_moving_matches_alone_spread_over_the_frame() -> None:
    for matches in ("forward-backward", None):
        offsets = anchor_offsets(blob(GRID, PATH), matches=matches)
        for j, (x, y) in enumerate(PATH):
            come = torch.tensor([x - PATH[0][0], y - PATH[0][1]]).float()
            torch.testing.assert_close(offsets[j], come.expand_as(offsets[j]))


@pytest.mark.parametrize("anchor", [0, 2, 3])
def test_global_is_the_path_of_the_blob(anchor: int) -> None:
    offsets = anchor_offsets(blob(GRID, PATH), anchor, fill="global")
    for j, (x, y) in enumerate(PATH):
        come = torch.tensor([x - PATH[anchor][0], y - PATH[anchor][1]]).float()
        assert (offsets[j] == come).all()


def test_global_knows_a_blob_that_came_back() -> None:
    path = [(1, 1), (5, 1), (1, 1), (5, 4)]
    offsets = anchor_offsets(blob(GRID, path), fill="global")
    assert [o[0, 0].tolist() for o in offsets] == [[0, 0], [4, 0], [0, 0], [4, 3]]


def test_global_pan() -> None:
    grid = TokenGrid(3, 6, 10)
    flow = field(grid, lambda i, j, x, y: (x + 2 * (j - i), y - (j - i)))
    for fill in ("smooth", "global"):
        offsets = anchor_offsets(flow, fill=fill)
        for j in range(3):
            # Inside, away from what entered the frame, it is the pan exactly.
            inside = offsets[j, : 6 - j, 2 * j :]
            assert (inside == torch.tensor([2.0 * j, -1.0 * j])).all()
    assert (offsets[2] == torch.tensor([4.0, -2.0])).all()


def test_zoom() -> None:
    grid = TokenGrid(3, 9, 13)

    def where(i: int, j: int, x: float, y: float) -> tuple[float, float]:
        scale = 1.25 ** (j - i)
        return 6 + (x - 6) * scale, 4 + (y - 4) * scale

    offsets = anchor_offsets(field(grid, where))
    places = grid.coordinates(dtype=torch.float32).reshape(9, 13, 2)
    centre = torch.tensor([6.0, 4.0])
    for j in range(3):
        truth = (places - centre) * (1 - 1.25**-j)
        assert (offsets[j] - truth).abs().max() <= 0.5 + 1e-6  # half a patch is the rounding


def unmatched(flow: AttentionMotionFlow, *frames: int) -> AttentionMotionFlow:
    """The flow with these frames matched to nothing."""
    mask = flow.mask.clone()
    mask[list(frames)] = False
    mask[:, list(frames)] = False
    return AttentionMotionFlow(flow.displacement, mask, flow.grid)


def shift(grid: TokenGrid, speed: int = 1) -> AttentionMotionFlow:
    return field(grid, lambda i, j, x, y: (x + speed * (j - i), y))


@pytest.mark.parametrize(
    ("missing", "anchor", "wanted"),
    [
        ((1, 2), 0, [0, 1, 2, 3, 4]),  # interpolated
        ((3, 4), 0, [0, 1, 2, 2, 2]),  # held at the end
        ((0,), 1, [0, 0, 1, 2, 3]),  # held at the start
        ((1, 2, 3, 4), 0, [0, 0, 0, 0, 0]),  # only the anchor is known
        ((0, 1, 3, 4), 2, [0, 0, 0, 0, 0]),
    ],
)
def test_frames_without_a_match(missing: tuple[int, ...], anchor: int, wanted: list[float]) -> None:
    flow = unmatched(shift(TokenGrid(5, 2, 8)), *missing)
    for fill in ("smooth", "global"):
        offsets = anchor_offsets(flow, anchor, fill=fill, matches=None)
        torch.testing.assert_close(offsets[:, 0, 7, 0], torch.tensor(wanted).float())
        assert (offsets[..., 1] == 0).all()
    assert (anchor_offsets(flow, anchor, fill="zero", matches=None)[list(missing)] == 0).all()


def test_zero_fill_leaves_the_rest_alone() -> None:
    flow = blob(GRID, PATH)
    offsets = anchor_offsets(flow, fill="zero", matches="forward-backward")
    for j, (x, y) in enumerate(PATH[1:], start=1):
        assert int((offsets[j] != 0).any(-1).sum()) == 9
        assert (offsets[j, y : y + 3, x : x + 3] != 0).all()


def test_smooth_fill_is_the_gaussian_mean() -> None:
    grid = TokenGrid(2, 1, 5)
    displacement = torch.zeros(2, 2, 1, 5, 2, dtype=torch.int8)
    displacement[1, 0, 0, 0, 0], displacement[1, 0, 0, 4, 0] = 1, -2  # offsets -1 and +2
    mask = torch.zeros(2, 2, 1, 5, dtype=torch.bool)
    mask[1, 0, 0, [0, 4]] = True
    flow = AttentionMotionFlow(displacement, mask, grid)
    sigma = 1.2
    got = anchor_offsets(flow, sigma=sigma, matches=None)[1, 0, :, 0]
    x = torch.arange(5.0)
    near, far = (torch.exp(-((x - at) ** 2) / (2 * sigma**2)) for at in (0, 4))
    wanted = (-near + 2 * far) / (near + far)
    wanted[0], wanted[4] = -1, 2
    torch.testing.assert_close(got, wanted)


def test_far_from_any_match_nothing_underflows() -> None:
    grid = TokenGrid(2, 2, 120)
    displacement = torch.zeros(2, 2, 2, 120, 2, dtype=torch.int8)
    displacement[1, 0, 0, 0, 0] = 3
    mask = torch.zeros(2, 2, 2, 120, dtype=torch.bool)
    mask[1, 0, 0, 0] = True
    flow = AttentionMotionFlow(displacement, mask, grid)
    offsets = anchor_offsets(flow, sigma=0.5, matches=None)
    assert (offsets[1] == torch.tensor([-3.0, 0.0])).all()


def test_outliers_do_not_move_the_global_offset() -> None:
    flow = shift(TokenGrid(4, 4, 12))
    noisy = flow.displacement.clone()
    noisy[1, 0, 0, 6:9], noisy[0, 1, 0, 0] = torch.tensor([3, 3]), torch.tensor([5, 1])
    noisy_flow = AttentionMotionFlow(noisy, forward_backward_mask(noisy), flow.grid)
    wanted = anchor_offsets(flow, fill="global")
    assert torch.equal(anchor_offsets(noisy_flow, fill="global"), wanted)


def test_nothing_is_changed_in_place() -> None:
    flow = blob(GRID, PATH)
    before: Tensor = flow.displacement.clone()
    for fill in ("smooth", "global", "zero"):
        first = anchor_offsets(flow, fill=fill)
        assert torch.equal(first, anchor_offsets(flow, fill=fill))
    assert torch.equal(flow.displacement, before)


def test_one_frame() -> None:
    flow = shift(TokenGrid(1, 2, 3))
    for fill in ("smooth", "global", "zero"):
        assert (anchor_offsets(flow, fill=fill) == 0).all()


def test_bad_arguments_are_named() -> None:
    flow = shift(TokenGrid(2, 2, 3))
    for anchor in (-1, 2):
        with pytest.raises(UsageError, match="anchor"):
            anchor_offsets(flow, anchor)
    with pytest.raises(UsageError, match="smooth"):
        anchor_offsets(flow, fill="linear")
    with pytest.raises(UsageError, match="sigma"):
        anchor_offsets(flow, sigma=0.0)
    with pytest.raises(UsageError, match="mask"):
        anchor_offsets(flow, matches="matched")


def test_the_mean_follows_what_moves_far_and_not_the_jitter_around_it() -> None:
    flow = blob(GRID, PATH)
    jitter = flow.displacement.clone()
    jitter[:, :, 7, :, 1] = 0
    jitter[:, 0, 7, ::2, 0] = 1  # half of the lowest row lands one patch off in the anchor frame
    jitter[0, 0] = 0
    noisy = AttentionMotionFlow(jitter, forward_backward_mask(jitter), GRID)
    offsets = anchor_offsets(noisy, fill="mean", matches="forward-backward")
    for j, (x, y) in enumerate(PATH):
        come = torch.tensor([x - PATH[0][0], y - PATH[0][1]]).float()
        assert (offsets[j] == offsets[j, :1, :1]).all()  # one offset for the whole frame
        assert (offsets[j, 0, 0] - come).norm() <= 0.35 * come.norm()
