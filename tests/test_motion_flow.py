"""The flow of clips made of random features, so that the truth is known."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from pe_toolkit.errors import BackboneError, UsageError
from pe_toolkit.grid import TokenGrid
from pe_toolkit.motion.flow import AttentionMotionFlow
from pe_toolkit.motion.masks import tracked_mask

GRID = TokenGrid(3, 6, 8)


def blob_clip(step: int = 2, grid: TokenGrid = GRID) -> tuple[Tensor, Tensor]:
    """A 2x2 blob of its own features, `step` patches to the right per frame, on a still scene.

    Returns (1, 1, S, 64) tokens and the (F, H, W) bool place of the blob.
    """
    generator = torch.Generator().manual_seed(1)
    scene = torch.randn(grid.height, grid.width, 64, generator=generator)
    blob = torch.randn(2, 2, 64, generator=generator)
    frames = scene.repeat(grid.frames, 1, 1, 1)
    place = torch.zeros(grid.frames, grid.height, grid.width, dtype=torch.bool)
    for j in range(grid.frames):
        frames[j, 1:3, j * step : j * step + 2] = blob
        place[j, 1:3, j * step : j * step + 2] = True
    return frames.reshape(1, 1, -1, 64), place


def test_blob_is_followed() -> None:
    tokens, place = blob_clip()
    flow = AttentionMotionFlow.from_qk(tokens, tokens, GRID)
    assert flow.displacement.dtype == torch.int8
    for i in range(3):
        for j in range(3):
            moved = torch.tensor([2 * (j - i), 0], dtype=torch.int8)
            assert (flow.displacement[i, j][place[i]] == moved).all()
            # Kept: the blob, and by chance little of what it covers and uncovers.
            if i != j:
                assert flow.mask[i, j][place[i]].all()
                assert flow.mask[i, j].sum() <= 4 + 4
            else:
                assert not flow.mask[i, j].any()
    assert 4 / 48 <= flow.moving <= 8 / 48
    assert 40 / 48 <= flow.matched <= 1.0
    assert flow.kept == pytest.approx(flow.moving * 6 / 9)
    assert 4 / 48 <= flow.followed <= flow.moving


def test_still_clip_is_matched_and_keeps_nothing() -> None:
    tokens, _ = blob_clip(step=0)
    flow = AttentionMotionFlow.from_qk(tokens, tokens, GRID)
    assert (flow.matched, flow.moving, flow.kept, flow.followed) == (1.0, 0.0, 0.0, 0.0)
    assert AttentionMotionFlow.from_qk(tokens, tokens, GRID, mask="consistent").kept == 1.0


def test_one_frame() -> None:
    grid = TokenGrid(1, 6, 8)
    tokens, _ = blob_clip(grid=grid)
    flow = AttentionMotionFlow.from_qk(tokens, tokens, grid)
    assert (flow.matched, flow.moving, flow.kept, flow.followed) == (0.0, 0.0, 0.0, 0.0)


def test_masks_by_name() -> None:
    tokens, _ = blob_clip()
    kept = {
        name: AttentionMotionFlow.from_qk(tokens, tokens, GRID, mask=name).kept
        for name in ("none", "nonzero", "forward-backward")
    }
    assert kept["none"] == 1.0 > kept["nonzero"] >= kept["forward-backward"] > 0
    with pytest.raises(UsageError, match="mask"):
        AttentionMotionFlow.from_qk(tokens, tokens, GRID, mask="all")


def test_half_precision_finds_the_same() -> None:
    tokens, _ = blob_clip()
    exact = AttentionMotionFlow.from_qk(tokens, tokens, GRID)
    half = tokens.bfloat16()
    assert torch.equal(AttentionMotionFlow.from_qk(half, half, GRID).mask, exact.mask)


def test_is_frozen() -> None:
    tokens, _ = blob_clip()
    flow = AttentionMotionFlow.from_qk(tokens, tokens, GRID)
    with pytest.raises(dataclasses.FrozenInstanceError):
        flow.grid = GRID  # type: ignore[misc]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("which", [0, 1])
def test_not_finite_is_an_error(value: float, which: int) -> None:
    tokens, _ = blob_clip()
    both = [tokens, tokens.clone()]
    both[which][0, 0, 5, 5] = value
    with pytest.raises(BackboneError, match="finite") as raised:
        AttentionMotionFlow.from_qk(both[0], both[1], GRID)
    assert raised.value.hint


def test_bad_values_are_named() -> None:
    displacement = torch.zeros(3, 3, 6, 8, 2, dtype=torch.int8)
    mask = torch.ones(3, 3, 6, 8, dtype=torch.bool)
    AttentionMotionFlow(displacement, mask, GRID)
    with pytest.raises(UsageError, match="int8"):
        AttentionMotionFlow(displacement.long(), mask, GRID)
    with pytest.raises(UsageError, match="int8"):
        AttentionMotionFlow(displacement, mask, TokenGrid(3, 8, 6))
    with pytest.raises(UsageError, match="bool"):
        AttentionMotionFlow(displacement, mask.int(), GRID)
    with pytest.raises(UsageError, match="bool"):
        AttentionMotionFlow(displacement, mask[:2], GRID)
    outside = displacement.clone()
    outside[0, 1, 0, 0, 1] = 6
    with pytest.raises(UsageError, match="leave it"):
        AttentionMotionFlow(outside, mask, GRID)
    tokens, _ = blob_clip()
    two = tokens.expand(2, -1, -1, -1)
    with pytest.raises(UsageError, match="one clip"):
        AttentionMotionFlow.from_qk(two, two, GRID)


def test_frames_too_wide_for_int8_are_refused() -> None:
    wide = TokenGrid(1, 1, 129)
    tokens = torch.zeros(1, 1, 129, 2)
    with pytest.raises(UsageError, match="128"):
        AttentionMotionFlow.from_qk(tokens, tokens, wide)
    edge = TokenGrid(2, 1, 128)
    features = torch.eye(128).repeat(2, 1)
    features[128:] = features[128:].flip(0)  # the second frame is mirrored: moves by up to 127
    flow = AttentionMotionFlow.from_qk(features[None, None], features[None, None], edge)
    assert flow.displacement[0, 1, 0, 0].tolist() == [127, 0]
    assert flow.displacement[0, 1, 0, 127].tolist() == [-127, 0]
    assert flow.moving == 1.0


def row_of(places: list[int]) -> AttentionMotionFlow:
    """One patch of a row of six goes along `places`; the others stay."""
    frames = len(places)
    flow = torch.zeros(frames, frames, 1, 6, 2, dtype=torch.int8)
    for i, start in enumerate(places):
        for j, end in enumerate(places):
            flow[i, j, 0, start, 0] = end - start
    return AttentionMotionFlow(flow, tracked_mask(flow), TokenGrid(frames, 1, 6))


def test_what_wanders_by_a_patch_is_not_followed() -> None:
    """As in a clip at rest: consistent, displaced by one, and nothing to learn from."""
    wandering = row_of([0, 1, 0, 1])
    assert wandering.kept > 0
    assert wandering.followed == 0
    assert row_of([0, 1, 2, 3]).followed == pytest.approx(1 / 6)


@pytest.mark.parametrize("sides", [(1.5, 2, 2), (math.nan, 1, 1), (1, "2", 2), (1, 1, None)])
def test_sides_of_a_grid_are_whole_numbers(sides) -> None:
    with pytest.raises(UsageError, match="sides that are whole numbers"):
        TokenGrid(*sides)


def test_sides_of_a_grid_are_plain_integers() -> None:
    grid = TokenGrid(*np.array([2, 3, 4]))
    assert [type(side) for side in grid] == [int] * 3
    assert grid == TokenGrid(2, 3, 4)
    assert str(grid) == "2x3x4"
