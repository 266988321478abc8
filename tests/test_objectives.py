"""The baselines as objectives: what they must not see, and what they must."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from pe_toolkit.card import MotionCard
from pe_toolkit.errors import DependencyError, MotionError, UsageError
from pe_toolkit.grid import TokenGrid
from pe_toolkit.objectives import OBJECTIVES, names, objective_class
from pe_toolkit.objectives.moft import MoftObjective
from pe_toolkit.objectives.motionclone import MotionCloneObjective
from pe_toolkit.objectives.smm import SmmObjective
from pe_toolkit.training import TrainConfig, train
from tests.test_extensions import install, site  # noqa: F401  (a fixture)
from tests.tiny import moving_square, tiny_adapter

GRID = TokenGrid(3, 2, 4)
CHANNELS = 50


def random(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def features(batch: int = 1, seed: int = 0) -> Tensor:
    return random(batch, GRID.tokens, CHANNELS, seed=seed)


def queries_keys(batch: int = 1, seed: int = 0) -> tuple[Tensor, Tensor]:
    shape = (batch, 2, GRID.tokens, 6)
    return random(*shape, seed=seed), random(*shape, seed=seed + 1)


@dataclass
class Given:
    """A reference of numbers."""

    hidden: Tensor
    pair: tuple[Tensor, Tensor]
    flow: Any

    def features(self) -> Tensor:
        return self.hidden

    def queries_and_keys(self) -> tuple[Tensor, Tensor]:
        return self.pair


@dataclass
class Flow:
    grid: TokenGrid


def made(name: str, seed: int = 0) -> Any:
    return objective_class(name).of(
        Given(features(seed=seed), queries_keys(seed=seed), Flow(GRID)), 2
    )


def tapped(name: str, batch: int = 1, seed: int = 0) -> tuple[Tensor, ...]:
    if objective_class(name).reads == "features":
        return (features(batch, seed),)
    return queries_keys(batch, seed)


BASELINES = [name for name in OBJECTIVES if name != "amf"]


@pytest.mark.parametrize("name", BASELINES)
def test_the_reference_itself_costs_nothing(name) -> None:
    assert float(made(name).loss(*tapped(name))) < 1e-12
    assert float(made(name).loss(*tapped(name, seed=7))) > 1e-3


@pytest.mark.parametrize("name", BASELINES)
def test_gradients_against_finite_differences(name) -> None:
    grid, heads = TokenGrid(2, 2, 2), 2

    def of(seed: int) -> Given:
        shape = (1, heads, grid.tokens, 2)
        pair = random(*shape, seed=seed), random(*shape, seed=seed + 1)
        return Given(random(1, grid.tokens, 25, seed=seed), pair, Flow(grid))

    kind, other = objective_class(name), of(5)
    given = (other.hidden,) if kind.reads == "features" else other.pair
    inputs = tuple(x.requires_grad_() for x in given)
    assert torch.autograd.gradcheck(kind.of(of(0), 2.0).loss, inputs)


@pytest.mark.parametrize("name", BASELINES)
def test_a_batch_is_the_mean_of_its_clips_and_half_precision_is_widened(name) -> None:
    objective, both = made(name), tapped(name, batch=2, seed=5)
    one_by_one = [objective.loss(*(x[b : b + 1] for x in both)) for b in (0, 1)]
    torch.testing.assert_close(objective.loss(*both), torch.stack(one_by_one).mean())
    rough = objective.loss(*(x.bfloat16() for x in both))
    assert rough.dtype == torch.float32
    assert float(rough) == pytest.approx(float(objective.loss(*both)), abs=0.02)


@pytest.mark.parametrize("name", ["smm", "moft"])
def test_a_constant_shift_of_appearance_costs_nothing(name) -> None:
    """The same in every frame, whatever it is at each place and channel: other colours, another
    background. (The published port of SMM takes 0.68 for it.)
    """
    objective = made(name)
    shift = 10 * random(1, 1, GRID.per_frame, CHANNELS, seed=3)
    shifted = (features().view(1, GRID.frames, -1, CHANNELS) + shift).flatten(1, 2)
    assert float(objective.loss(shifted)) < 1e-12
    assert float(objective.loss(3 * features())) < 1e-12  # nor do stronger features


@pytest.mark.parametrize("name", ["smm", "moft"])
def test_time_reversed_costs(name) -> None:
    ahead = features().view(1, GRID.frames, -1, CHANNELS)
    assert float(made(name).loss(ahead.flip(1).flatten(1, 2))) > 0.5


def test_smm_does_not_see_where_in_the_frame_things_are_and_moft_does() -> None:
    order = torch.randperm(GRID.per_frame, generator=torch.Generator().manual_seed(0))
    elsewhere = features().view(1, GRID.frames, -1, CHANNELS)[:, :, order].flatten(1, 2)
    assert float(made("smm").loss(elsewhere)) < 1e-12
    assert float(made("moft").loss(elsewhere)) > 0.1


def test_smm_against_its_equations() -> None:
    objective, other = made("smm"), features(seed=4)
    means = [x.view(GRID.frames, -1, CHANNELS).mean(1) for x in (other[0], features()[0])]
    wanted = []
    for f in range(GRID.frames):
        for g in range(GRID.frames):
            if f != g:
                a, b = (m[f] - m[g] for m in means)
                wanted.append(1 - float(a @ b / (a.norm() * b.norm())))
    assert float(objective.loss(other)) == pytest.approx(sum(wanted) / len(wanted))


def test_smm_leaves_out_frames_that_do_not_differ() -> None:
    still = features().view(1, GRID.frames, -1, CHANNELS).clone()
    still[:, 1] = still[:, 0]
    objective = SmmObjective(still.flatten(1, 2), GRID)
    assert float(objective.loss(still.flatten(1, 2))) < 1e-12


def test_moft_finds_the_channels_that_move() -> None:
    hidden = 0.01 * features().view(1, GRID.frames, -1, CHANNELS)
    hidden += 5 * random(1, 1, GRID.per_frame, CHANNELS, seed=2)  # content: large, and stays
    hidden[..., [7, 31]] += torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64).view(1, 3, 1, 1)
    objective = MoftObjective(hidden.flatten(1, 2), GRID)
    assert objective.channels.tolist() == [7, 31]  # 4 % of 50
    other = hidden.clone()
    other[..., :7] = random(1, GRID.frames, GRID.per_frame, 7, seed=8)
    assert float(objective.loss(other.flatten(1, 2))) < 1e-12  # the others do not count


def test_motionclone_against_its_equations() -> None:
    (q, k), (rq, rk) = queries_keys(seed=5), queries_keys()
    n, tau = GRID.per_frame, 2.0

    def attention(q: Tensor, k: Tensor, i: int, j: int) -> Tensor:
        logits = tau * (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).mean(1)[0]
        return logits[i * n : (i + 1) * n, j * n : (j + 1) * n].softmax(-1)

    wanted = []
    for i in range(GRID.frames):
        for j in range(GRID.frames):
            if i != j:
                strength, index = attention(rq, rk, i, j).max(-1)
                found = attention(q, k, i, j).gather(-1, index[:, None])[:, 0]
                wanted.append((found - strength).square().mean())
    objective = MotionCloneObjective(rq, rk, GRID, tau)
    assert float(objective.loss(q, k)) == pytest.approx(float(torch.stack(wanted).mean()))


@pytest.mark.parametrize("kind", [SmmObjective, MoftObjective])
def test_a_reference_without_change_is_refused(kind) -> None:
    still = features().view(1, GRID.frames, -1, CHANNELS)[:, :1].expand(-1, GRID.frames, -1, -1)
    with pytest.raises(MotionError, match="differ"):
        kind(still.flatten(1, 2), GRID)
    with pytest.raises(UsageError, match="24"):
        kind(features()[:, 1:], GRID)
    with pytest.raises(UsageError, match="24"):
        kind(features(), GRID).loss(features()[:, 1:])


# In a training --------------------------------------------------------------------------------


def card_of(objective: str, **more: Any) -> MotionCard:
    config = TrainConfig(prompts=("a red circle",), samples=1, objective=objective, start="zero")
    from dataclasses import replace

    *_, last = train(tiny_adapter(), moving_square(), replace(config, **more))
    return last.card


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("mode", ["positions", "latents"])
def test_losses_fall_and_the_card_says_the_objective(name, mode, tmp_path) -> None:
    card = card_of(name, mode=mode, inner_steps=4, learning_rates=(0.05, 0.05))
    first, last = card.spec.training.loss[0][0], card.spec.training.loss[-1][1]
    assert last < first
    card.save(tmp_path / "card.safetensors")
    assert MotionCard.load(tmp_path / "card.safetensors").spec.recipe.objective == name


def test_they_are_different_objectives() -> None:
    kind = "positions"
    results = [card_of(name, inner_steps=1).tensors[kind].tobytes() for name in OBJECTIVES]
    assert len(set(results)) == len(OBJECTIVES)


# Of other packages ----------------------------------------------------------------------------

HALF = """
from pe_toolkit.objectives.smm import SmmObjective

class Half(SmmObjective):
    def loss(self, features):
        return super().loss(features) / 2

class Plain:
    reads = "features"

class Wrong(SmmObjective):
    reads = "colours"
"""


def test_an_installed_package_adds_an_objective(site) -> None:  # noqa: F811
    install(site, "smooth", HALF, "half = smooth:Half")
    assert names() == (*OBJECTIVES, "half")
    card, whole = card_of("half", inner_steps=1), card_of("smm", inner_steps=1)
    assert card.spec.recipe.objective == "half"
    losses = [c.spec.training.loss[0][0] for c in (card, whole)]
    assert losses[0] == pytest.approx(losses[1] / 2, rel=1e-5)


@pytest.mark.parametrize(
    ("entry", "said"),
    [("Plain", "it has no `of`"), ("Wrong", "'colours'"), ("Nothing", "Attribute")],
)
def test_one_that_is_none_is_refused_by_its_package(site, entry, said) -> None:  # noqa: F811
    install(site, "smooth", HALF, f"odd = smooth:{entry}")
    with pytest.raises(DependencyError) as caught:
        card_of("odd")
    assert "smooth 0.3" in caught.value.message
    assert said in caught.value.message
