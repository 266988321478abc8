"""Displacements against a plain implementation written from the equations."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from pe_toolkit.errors import UsageError
from pe_toolkit.grid import TokenGrid
from pe_toolkit.motion.attention import pair_logits
from pe_toolkit.motion.displacement import hard_displacement, soft_displacement

GRIDS = [TokenGrid(3, 4, 5), TokenGrid(2, 5, 3), TokenGrid(5, 1, 4), TokenGrid(1, 3, 3)]


def random_qk(grid: TokenGrid, batch: int = 2, heads: int = 3, channels: int = 4) -> list[Tensor]:
    generator = torch.Generator().manual_seed(grid.tokens)
    shape = (batch, heads, grid.tokens, channels)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) * 2 for _ in range(2)]


def plain_attention(q: Tensor, k: Tensor, grid: TokenGrid, tau: float) -> Tensor:
    """(B, F_i, F_j, HW, HW): per-head logits, averaged over heads, one softmax per frame pair."""
    per_head = torch.einsum("bhsd,bhtd->bhst", q, k) / math.sqrt(q.shape[-1])
    logits = tau * per_head.mean(1)
    n = grid.per_frame
    rows = []
    for i in range(grid.frames):
        blocks = []
        for j in range(grid.frames):
            block = logits[:, i * n : (i + 1) * n, j * n : (j + 1) * n]
            blocks.append(torch.softmax(block, dim=-1))
        rows.append(torch.stack(blocks, 1))
    return torch.stack(rows, 1)


def plain_relative(grid: TokenGrid) -> Tensor:
    """(HW, HW, 2): where patch p' lies as seen from patch p, as (dx, dy)."""
    places = [(y, x) for y in range(grid.height) for x in range(grid.width)]
    return torch.tensor([[(x2 - x1, y2 - y1) for y2, x2 in places] for y1, x1 in places])


def plain_soft(q: Tensor, k: Tensor, grid: TokenGrid, tau: float) -> Tensor:
    attention = plain_attention(q, k, grid, tau)
    flow = (attention[..., None] * plain_relative(grid)).sum(-2)
    return flow.reshape(-1, grid.frames, grid.frames, grid.height, grid.width, 2)


def plain_hard(q: Tensor, k: Tensor, grid: TokenGrid) -> Tensor:
    best = plain_attention(q, k, grid, 1.0).argmax(-1)
    flow = plain_relative(grid)[torch.arange(grid.per_frame), best]
    return flow.reshape(-1, grid.frames, grid.frames, grid.height, grid.width, 2)


def gradients(value: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    weights = torch.linspace(-1, 1, value.numel(), dtype=value.dtype).reshape(value.shape)
    return torch.autograd.grad((value * weights).sum(), inputs)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("tau", [0.5, 2.0, 15.0])
def test_soft_equals_the_equations(grid: TokenGrid, tau: float) -> None:
    q, k = (x.requires_grad_() for x in random_qk(grid))
    ours, plain = soft_displacement(q, k, grid, tau=tau), plain_soft(q, k, grid, tau)
    torch.testing.assert_close(ours, plain, rtol=0, atol=1e-10)
    for mine, theirs in zip(gradients(ours, q, k), gradients(plain, q, k), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-9)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_hard_equals_the_argmax(grid: TokenGrid) -> None:
    q, k = random_qk(grid)
    ours = hard_displacement(q.requires_grad_(), k, grid)
    assert ours.dtype == torch.int16
    assert not ours.requires_grad
    assert torch.equal(ours.long(), plain_hard(q, k, grid))


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_logits_are_those_of_the_equations(grid: TokenGrid) -> None:
    q, k = random_qk(grid)
    plain = plain_attention(q, k, grid, 3.0)
    for i in range(grid.frames):
        ours = pair_logits(q, k, grid, 3.0, i).softmax(-1)
        assert ours.shape == (2, grid.per_frame, grid.frames, grid.per_frame)
        torch.testing.assert_close(ours, plain[:, i].transpose(1, 2), rtol=0, atol=1e-12)


def test_gradcheck() -> None:
    grid = TokenGrid(2, 2, 2)
    q, k = (x.requires_grad_() for x in random_qk(grid, batch=1, heads=2, channels=2))
    assert torch.autograd.gradcheck(lambda q, k: soft_displacement(q, k, grid), (q, k))


@pytest.mark.parametrize("chunk", [1, 2, 3, 7])
def test_chunks_and_checkpoints_change_nothing(chunk: int) -> None:
    grid = TokenGrid(3, 3, 4)
    q, k = (x.requires_grad_() for x in random_qk(grid))
    whole = soft_displacement(q, k, grid, checkpointing=False, chunk=grid.frames)
    wanted = gradients(whole, q, k)
    for checkpointing in (False, True):
        part = soft_displacement(q, k, grid, checkpointing=checkpointing, chunk=chunk)
        torch.testing.assert_close(part, whole, rtol=0, atol=1e-12)
        for mine, theirs in zip(gradients(part, q, k), wanted, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)


def test_checkpointing_gives_the_same_bits() -> None:
    grid = TokenGrid(3, 4, 3)
    q, k = (x.float().requires_grad_() for x in random_qk(grid))
    with_, without = (soft_displacement(q, k, grid, checkpointing=c) for c in (True, False))
    assert torch.equal(with_, without)
    for mine, theirs in zip(gradients(with_, q, k), gradients(without, q, k), strict=True):
        assert torch.equal(mine, theirs)


def test_checkpointing_keeps_less() -> None:
    # What autograd holds between forward and backward, in numbers of elements.
    grid = TokenGrid(4, 4, 4)
    q, k = (x.requires_grad_() for x in random_qk(grid, batch=1, heads=1, channels=2))
    held = {}
    for checkpointing in (False, True):
        kept: dict[int, int] = {}

        def pack(x: Tensor, kept: dict[int, int] = kept) -> Tensor:
            kept[x.data_ptr()] = x.untyped_storage().nbytes() // x.element_size()
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            soft_displacement(q, k, grid, checkpointing=checkpointing)
        held[checkpointing] = sum(kept.values())
    assert held[False] >= grid.tokens**2
    assert held[True] < grid.tokens**2 // 4


def test_batch_equals_one_by_one() -> None:
    grid = TokenGrid(3, 2, 5)
    q, k = random_qk(grid, batch=3)
    soft, hard = soft_displacement(q, k, grid), hard_displacement(q, k, grid)
    for b in range(3):
        one = slice(b, b + 1)
        torch.testing.assert_close(soft[one], soft_displacement(q[one], k[one], grid))
        assert torch.equal(hard[one], hard_displacement(q[one], k[one], grid))


def test_ties_go_to_the_first_patch() -> None:
    grid = TokenGrid(2, 2, 3)
    q = torch.zeros(1, 2, grid.tokens, 4)
    first = -grid.coordinates().reshape(grid.height, grid.width, 2).to(torch.int16)
    hard = hard_displacement(q, q, grid)
    assert torch.equal(hard, first.expand_as(hard))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_loses_nothing_but_its_input(dtype: torch.dtype) -> None:
    grid = TokenGrid(3, 5, 4)
    q, k = ((x * 2).to(dtype).requires_grad_() for x in random_qk(grid, heads=30, channels=8))
    soft = soft_displacement(q, k, grid)
    exact = plain_soft(q.double(), k.double(), grid, 2.0)
    assert soft.dtype == torch.float32
    torch.testing.assert_close(soft.double(), exact, rtol=0, atol=1e-4)
    assert torch.equal(
        hard_displacement(q, k, grid).long(), plain_hard(q.double(), k.double(), grid)
    )
    for mine, theirs in zip(gradients(soft, q, k), gradients(exact, q, k), strict=True):
        assert mine.dtype == dtype
        error = (mine.double() - theirs.double()).norm() / theirs.double().norm()
        assert error < 1e-2


def test_float16_does_not_overflow() -> None:
    grid = TokenGrid(2, 3, 3)
    q = torch.full((1, 48, grid.tokens, 64), 8.0, dtype=torch.float16)  # a sum of 196608
    assert soft_displacement(q, q, grid).isfinite().all()


def test_autocast_changes_nothing() -> None:
    grid = TokenGrid(3, 4, 4)
    q, k = (x.float().requires_grad_() for x in random_qk(grid))
    plain, plain_best = soft_displacement(q, k, grid), hard_displacement(q, k, grid)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = soft_displacement(q, k, grid)
        assert torch.equal(hard_displacement(q, k, grid), plain_best)
    assert torch.equal(plain, cast)
    for mine, theirs in zip(gradients(cast, q, k), gradients(plain, q, k), strict=True):
        assert torch.equal(mine, theirs)


def test_meta_device_gives_shapes() -> None:
    grid = TokenGrid(13, 30, 45)
    q = torch.empty(2, 48, grid.tokens, 64, dtype=torch.bfloat16, device="meta")
    assert soft_displacement(q, q, grid).shape == (2, 13, 13, 30, 45, 2)
    assert hard_displacement(q, q, grid).shape == (2, 13, 13, 30, 45, 2)


def test_a_shifted_clip_is_found() -> None:
    # Every patch moves one to the right per frame (features follow it round the border).
    grid = TokenGrid(3, 4, 6)
    features = torch.randn(4, 6, 64, generator=torch.Generator().manual_seed(0))
    clip = torch.stack([features.roll(j, dims=1) for j in range(3)]).reshape(1, 1, -1, 64) * 4
    hard = hard_displacement(clip, clip, grid)
    soft = soft_displacement(clip, clip, grid)
    assert (hard[0, 0, 2, :, :4] == torch.tensor([2, 0])).all()
    assert (hard[0, 2, 0, :, 2:] == torch.tensor([-2, 0])).all()
    torch.testing.assert_close(soft, hard.float(), rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("q_shape", "k_shape", "said"),
    [
        ((1, 2, 11, 4), (1, 2, 11, 4), "12 video tokens"),
        ((1, 2, 12, 4), (1, 2, 12, 3), "one shape"),
        ((2, 12, 4), (2, 12, 4), "one shape"),
        ((1, 0, 12, 4), (1, 0, 12, 4), "at least one"),
        ((1, 2, 12, 0), (1, 2, 12, 0), "at least one"),
    ],
)
def test_wrong_shapes_are_named(
    q_shape: tuple[int, ...], k_shape: tuple[int, ...], said: str
) -> None:
    grid = TokenGrid(1, 3, 4)
    for function in (soft_displacement, hard_displacement):
        with pytest.raises(UsageError, match=said):
            function(torch.zeros(q_shape), torch.zeros(k_shape), grid)


def test_wrong_arguments_are_named() -> None:
    grid = TokenGrid(1, 2, 2)
    q = torch.zeros(1, 1, 4, 2)
    with pytest.raises(UsageError, match="dtype"):
        soft_displacement(q, q.double(), grid)
    with pytest.raises(UsageError, match="dtype"):
        hard_displacement(q.int(), q.int(), grid)
    for tau in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(UsageError, match="tau"):
            soft_displacement(q, q, grid, tau=tau)
    with pytest.raises(UsageError, match="chunk"):
        soft_displacement(q, q, grid, chunk=0)
    for i in (-1, 1):
        with pytest.raises(UsageError, match="source frame"):
            pair_logits(q, q, grid, 1.0, i)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("tau", [0.5, 2.0])
def test_mutual_matches_follow_the_equation(grid: TokenGrid, tau: float) -> None:
    q, k = random_qk(grid)
    n = grid.per_frame
    logits = tau * torch.einsum("bhsd,bhtd->bst", q, k) / (q.shape[1] * math.sqrt(q.shape[-1]))
    wanted = torch.zeros(2, grid.frames, grid.frames, n, 2, dtype=torch.int64)
    for i in range(grid.frames):
        for j in range(grid.frames):
            block = logits[:, i * n : (i + 1) * n, j * n : (j + 1) * n]
            best = (block.softmax(-1) * block.softmax(-2)).argmax(-1)
            wanted[:, i, j] = plain_relative(grid)[torch.arange(n), best]
    found = hard_displacement(q, k, grid, mutual=True, tau=tau)
    assert torch.equal(found.flatten(3, 4).long(), wanted)


def test_a_patch_that_everything_looks_at_matches_only_its_own() -> None:
    # Two frames of three patches; patch 0 of the second attracts all, its own match the most.
    grid = TokenGrid(2, 1, 3)
    q, k = torch.zeros(2, 1, 1, 6, 4, dtype=torch.float64)
    q[0, 0, :3, :3] = torch.eye(3) * 4
    k[0, 0, 3:, :3] = torch.eye(3) * 4
    q[0, 0, :3, 3], k[0, 0, 3, 3] = torch.tensor([6.0, 5.0, 5.0]), 4.0
    assert hard_displacement(q, k, grid)[0, 0, 1, 0, :, 0].tolist() == [0, -1, -2]
    assert hard_displacement(q, k, grid, mutual=True)[0, 0, 1, 0, :, 0].tolist() == [0, 0, 0]
