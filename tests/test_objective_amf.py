"""The AMF loss against a plain implementation written from the equations."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from pe_toolkit.errors import MotionError, UsageError
from pe_toolkit.grid import TokenGrid
from pe_toolkit.motion.displacement import hard_displacement, soft_displacement
from pe_toolkit.motion.flow import AttentionMotionFlow
from pe_toolkit.objectives import OBJECTIVES, objective_class
from pe_toolkit.objectives.amf import AmfObjective, amf_loss

GRIDS = [TokenGrid(3, 4, 5), TokenGrid(2, 5, 3), TokenGrid(1, 3, 3)]
TAU = 2.0


def random_qk(
    grid: TokenGrid, batch: int = 2, heads: int = 3, channels: int = 4, seed: int = 0
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, heads, grid.tokens, channels)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2)]


def random_target(grid: TokenGrid, keep: float = 0.4, seed: int = 9) -> AttentionMotionFlow:
    q, k = random_qk(grid, batch=1, seed=seed)
    displacement = hard_displacement(q, k, grid)[0].to(torch.int8)
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(displacement.shape[:-1], generator=generator) < keep
    mask[0, -1, 0, 0] = True
    return AttentionMotionFlow(displacement, mask, grid)


def plain_loss(q: Tensor, k: Tensor, target: AttentionMotionFlow, tau: float) -> Tensor:
    """Entry by entry: [heads, S, S] logits, one softmax per frame pair, explicit coordinates."""
    grid = target.grid
    n, width = grid.per_frame, grid.width
    logits = tau * (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).mean(1)
    rel_x = torch.tensor([[b % width - a % width for b in range(n)] for a in range(n)])
    rel_y = torch.tensor([[b // width - a // width for b in range(n)] for a in range(n)])
    squares = []
    for b in range(q.shape[0]):
        for i in range(grid.frames):
            for j in range(grid.frames):
                block = logits[b, i * n : (i + 1) * n, j * n : (j + 1) * n].softmax(-1)
                dx, dy = (block * rel_x).sum(-1), (block * rel_y).sum(-1)
                kept = target.mask[i, j].flatten()
                wanted = target.displacement[i, j].flatten(0, 1)
                squares.append(((dx - wanted[:, 0]) ** 2)[kept])
                squares.append(((dy - wanted[:, 1]) ** 2)[kept])
    return torch.cat(squares).mean()


def value_and_gradients(loss: Tensor, *inputs: Tensor) -> list[Tensor]:
    return [loss.detach(), *torch.autograd.grad(loss, inputs)]


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("tau", [0.5, 2.0, 15.0])
def test_both_forms_equal_the_equations(grid: TokenGrid, tau: float) -> None:
    target = random_target(grid)
    q, k = (x.requires_grad_() for x in random_qk(grid))
    wanted = value_and_gradients(plain_loss(q, k, target, tau), q, k)
    soft = soft_displacement(q, k, grid, tau=tau)
    forms = [
        amf_loss(soft, target.displacement, target.mask),
        AmfObjective(target, tau).loss(q, k),
    ]
    for form in forms:
        value, *gradients = value_and_gradients(form, q, k)
        assert value.shape == ()
        torch.testing.assert_close(value, wanted[0], rtol=0, atol=1e-10)
        for mine, theirs in zip(gradients, wanted[1:], strict=True):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-9)


def test_gradcheck() -> None:
    grid = TokenGrid(2, 2, 2)
    q, k = (x.requires_grad_() for x in random_qk(grid, batch=1, heads=2, channels=2))
    assert torch.autograd.gradcheck(AmfObjective(random_target(grid)).loss, (q, k))


@pytest.mark.parametrize("chunk", [1, 2, 9])
def test_chunks_and_checkpoints_change_nothing(chunk: int) -> None:
    grid = TokenGrid(4, 3, 3)
    target = random_target(grid, keep=0.2)
    q, k = (x.requires_grad_() for x in random_qk(grid))
    whole = AmfObjective(target, checkpointing=False, chunk=grid.frames)
    wanted = value_and_gradients(whole.loss(q, k), q, k)
    results = [
        value_and_gradients(
            AmfObjective(target, checkpointing=checkpointing, chunk=chunk).loss(q, k), q, k
        )
        for checkpointing in (False, True)
    ]
    for result in results:
        for mine, theirs in zip(result, wanted, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)


def test_rows_that_are_not_kept_are_not_computed() -> None:
    grid = TokenGrid(3, 4, 4)
    full = random_target(grid, keep=1.0)
    mask = torch.zeros_like(full.mask)
    mask[1, 2, 0, 3] = mask[1, 0, 2, 2] = mask[2, 2, 1, 1] = True
    target = AttentionMotionFlow(full.displacement, mask, grid)
    q, k = (x.requires_grad_() for x in random_qk(grid))
    result = value_and_gradients(AmfObjective(target).loss(q, k), q, k)
    wanted = value_and_gradients(plain_loss(q, k, target, TAU), q, k)
    for mine, theirs in zip(result, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-10)
    touched = result[1].abs().sum((0, 1, 3)).nonzero().flatten().tolist()
    assert touched == [16 + 3, 16 + 10, 32 + 5]
    # Not even looked at: a query elsewhere may be anything.
    poisoned = q.detach().clone()
    poisoned[:, :, 0] = math.nan
    assert torch.equal(AmfObjective(target).loss(poisoned, k), result[0])


def test_nothing_of_the_size_of_the_attention_is_kept() -> None:
    grid = TokenGrid(4, 5, 5)
    q, k = (x.requires_grad_() for x in random_qk(grid, batch=1, heads=1, channels=2))
    largest = 0

    def pack(x: Tensor) -> Tensor:
        nonlocal largest
        largest = max(largest, x.untyped_storage().nbytes() // x.element_size())
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        AmfObjective(random_target(grid, keep=1.0)).loss(q, k)
    # The targets, (S, F, 2), are the largest thing held.
    assert 0 < largest <= grid.tokens * grid.frames * 2 < grid.tokens**2


def test_batch_is_the_mean_of_its_items() -> None:
    grid = TokenGrid(3, 3, 4)
    objective = AmfObjective(random_target(grid))
    q, k = random_qk(grid, batch=3)
    one_by_one = [objective.loss(q[b : b + 1], k[b : b + 1]) for b in range(3)]
    torch.testing.assert_close(objective.loss(q, k), torch.stack(one_by_one).mean())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_lower_precision(dtype: torch.dtype) -> None:
    grid = TokenGrid(3, 5, 4)
    target = random_target(grid)
    q, k = (x.to(dtype).requires_grad_() for x in random_qk(grid, heads=8, channels=8))
    loss = AmfObjective(target).loss(q, k)
    exact = plain_loss(q.double(), k.double(), target, TAU)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=1e-5)
    wanted = torch.autograd.grad(exact, (q, k))
    for mine, theirs in zip(torch.autograd.grad(loss, (q, k)), wanted, strict=True):
        assert mine.dtype == dtype
        assert (mine.double() - theirs.double()).norm() < 1e-2 * theirs.double().norm()


def test_autocast_changes_nothing() -> None:
    grid = TokenGrid(3, 4, 4)
    objective = AmfObjective(random_target(grid))
    q, k = (x.float().requires_grad_() for x in random_qk(grid))
    wanted = value_and_gradients(objective.loss(q, k), q, k)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = objective.loss(q, k)
    for mine, theirs in zip(value_and_gradients(loss, q, k), wanted, strict=True):
        assert torch.equal(mine, theirs)


def test_descending_the_loss_moves_the_motion() -> None:
    # Queries and keys that start motionless learn a shift by one patch.
    grid = TokenGrid(3, 3, 6)
    scene = torch.randn(3, 6, 32, generator=torch.Generator().manual_seed(0)) * 2
    moving = torch.stack([scene.roll(j, dims=1) for j in range(3)]).reshape(1, 1, -1, 32)
    target = AttentionMotionFlow.from_qk(moving, moving, grid)
    objective = AmfObjective(target)
    assert objective.loss(moving, moving) < 1e-3
    still = scene.repeat(3, 1, 1, 1).reshape(1, 1, -1, 32) * 0.3  # undecided: gradients flow
    q, k = still.clone().requires_grad_(), still.clone().requires_grad_()
    optimiser = torch.optim.Adam([q, k], lr=0.05)
    losses = []
    for _ in range(60):
        loss = objective.loss(q, k)
        q.grad, k.grad = torch.autograd.grad(loss, (q, k))
        optimiser.step()
        losses.append(loss.item())
    assert losses[0] > 1.0
    assert losses[-1] < 0.1 * losses[0]


def test_empty_mask_is_an_error_with_a_hint() -> None:
    grid = TokenGrid(2, 3, 3)
    zero = torch.zeros(2, 2, 3, 3, 2, dtype=torch.int8)
    nothing = torch.zeros(2, 2, 3, 3, dtype=torch.bool)
    with pytest.raises(MotionError, match="keeps none") as raised:
        AmfObjective(AttentionMotionFlow(zero, nothing, grid))
    assert raised.value.hint
    with pytest.raises(MotionError, match="keeps none"):
        amf_loss(torch.zeros(1, 2, 2, 3, 3, 2), zero, nothing)


def test_bad_arguments_are_named() -> None:
    grid = TokenGrid(2, 3, 3)
    target = random_target(grid)
    q, k = random_qk(TokenGrid(2, 3, 4))
    with pytest.raises(UsageError, match="18 video tokens"):
        AmfObjective(target).loss(q, k)
    with pytest.raises(UsageError, match="tau"):
        AmfObjective(target, 0.0)
    with pytest.raises(UsageError, match="chunk"):
        AmfObjective(target, chunk=0)
    soft = torch.zeros(1, 2, 2, 3, 3, 2)
    for wrong in (soft[0], soft[:, :, :1], soft[..., :1]):
        with pytest.raises(UsageError, match="Expected displacements"):
            amf_loss(wrong, target.displacement, target.mask)
    with pytest.raises(UsageError, match="bool"):
        amf_loss(soft, target.displacement, target.mask.int())


def test_objectives_are_found_by_name() -> None:
    assert objective_class("amf") is AmfObjective
    for name in OBJECTIVES:
        assert callable(objective_class(name).loss)
    with pytest.raises(UsageError, match="amf"):
        objective_class("optical-flow")
