"""Training in float16: what is small is kept, what overflows repeated, other dtypes untouched."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pe_toolkit.backbones.cogvideox import hooks
from pe_toolkit.backbones.cogvideox.sampling import CogVideoXSampler
from pe_toolkit.backbones.reading import Reading
from pe_toolkit.errors import TrainingError
from pe_toolkit.motion.flow import AttentionMotionFlow
from pe_toolkit.objectives.amf import AmfObjective
from pe_toolkit.training import TrainConfig, scaling, train
from pe_toolkit.training.events import Event, Finished, GuidedStep, InnerStep
from pe_toolkit.training.modes import LatentMode, PositionMode, Problem
from tests.test_no_waiting import Watch, away
from tests.tiny import FRAMES, SIDE, moving_square, tiny_adapter

PROMPTS = ["a red circle", "a blue square"]
SIZE = (FRAMES, SIDE, SIDE)
# A mean over this many times the entries of the tiny grid: gradients as small as at 13x30x45.
MORE = 2**15


def problem_in(dtype: torch.dtype, positions: str, more: int = 1) -> tuple[Any, Problem]:
    """A step on weights and latents that are float16 numbers, whatever they are held in."""
    adapter = tiny_adapter(positions)
    flow = AttentionMotionFlow.from_qk(
        *adapter.reference_queries_and_keys(
            adapter.encode_clip(moving_square().frames), Reading((1,)), *SIZE
        ),
        adapter.grid,
        mask="nonzero",
    )
    adapter.transformer.requires_grad_(False).half().to(dtype)
    sampler = CogVideoXSampler(
        adapter, PROMPTS, [0, 1], steps=5, guidance_scale=4.0, dynamic_cfg=False,
        frames=FRAMES, width=SIDE, height=SIDE,
    )  # fmt: skip
    sampler.text = sampler.text.half().to(dtype)
    sampler.latents = sampler.latents.half().to(dtype)
    problem = Problem(sampler, AmfObjective(flow), 1)
    problem.objective.kept *= more
    return adapter, problem


def gradient_of(
    dtype: torch.dtype, positions: str, form_name: str, *, scaled: bool = True, together: int = 2
) -> torch.Tensor:
    """Of positions (or latents, without a form), as Adam sees it."""
    adapter, problem = problem_in(dtype, positions, MORE)
    problem.scaling.active &= scaled
    problem.sampler.together = together
    seen: list[torch.Tensor] = []
    step = torch.optim.Adam.step

    def watched(self: Any, *args: Any) -> Any:
        seen.append(self.param_groups[0]["params"][0].grad.clone())
        return step(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", watched)
        if form_name == "latents":
            list(LatentMode(problem).optimise(0, 0.01, 1))
        else:
            form = adapter.form(form_name, *SIZE)
            mode = PositionMode(problem, form, torch.zeros(form.shape))
            with hooks.positions(adapter.transformer, positions, lambda _: mode.current):
                list(mode.optimise(0, 0.01, 1))
    return seen[0]


CASES = [
    ("absolute", "table"), ("rotary", "table"), ("rotary", "angle"), ("rotary", "latents")
]  # fmt: skip


@pytest.mark.parametrize("together", [1, 2])
@pytest.mark.parametrize(("positions", "form"), CASES)
def test_float16_keeps_small_gradients(positions: str, form: str, together: int) -> None:
    exact = gradient_of(torch.float32, positions, form)
    got = gradient_of(torch.float16, positions, form, together=together)
    plain = gradient_of(torch.float16, positions, form, scaled=False)

    def error(gradient: torch.Tensor) -> float:
        return float((gradient - exact).norm() / exact.norm())

    assert got.dtype == torch.float32
    assert error(got) < 0.01
    assert error(plain) > 5 * error(got)
    lost = exact != 0
    assert (got[lost] == 0).float().mean() < 0.01 < (plain[lost] == 0).float().mean()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_other_dtypes_know_nothing_of_it(dtype: torch.dtype) -> None:
    assert not problem_in(dtype, "rotary")[1].scaling.active
    assert problem_in(torch.float16, "rotary")[1].scaling.active


@pytest.mark.parametrize("form_name", ["table", "latents"])
def test_a_step_that_overflows_is_repeated_lower(form_name: str) -> None:
    runs = []
    for limit in (2.0**15, 2.0**7):
        adapter, problem = problem_in(torch.float16, "rotary")
        problem.scaling.limit = limit
        mode: Any = LatentMode(problem)
        if form_name == "table":
            form = adapter.form("table", *SIZE)
            mode = PositionMode(problem, form, torch.zeros(form.shape))
        with hooks.positions(adapter.transformer, "rotary", lambda _, mode=mode: mode.current):
            losses = list(mode.optimise(0, 0.01, 3))
        runs.append((losses, mode.results, problem.scaling.limit))
    (losses, results, limit), (want_losses, want, want_limit) = runs
    assert (len(losses), len(want_losses)) == (6, 3)
    assert losses[3:] == want_losses
    assert len(results) == len(want) == 1
    assert torch.equal(results[0], want[0])
    assert limit == want_limit == 2.0**7


def test_a_gradient_that_is_infinite_at_every_scale_ends_the_training() -> None:
    _, problem = problem_in(torch.float16, "rotary")
    parameter = torch.zeros(3, requires_grad=True)

    def root() -> torch.Tensor:  # 0, with an infinite slope
        loss = parameter.sqrt().sum()
        loss.backward()
        return loss.detach()

    with pytest.raises(TrainingError, match="range of float16 at step 4"):
        list(problem.descend(parameter, 4, 0.1, 2, root))


def test_powers_of_two() -> None:
    x = torch.tensor([1.0, 1.5, 2.0, 3.9999998, 6e-8, 5e-6, 1e9, 0.0, 1e-40])
    powers = scaling._power(x)
    small = 2.0**-100
    assert powers.tolist() == [1, 1, 2, 2, 2.0**-24, 2.0**-18, 2.0**29, small, small]
    broken = scaling._power(torch.tensor([float("inf"), float("nan")]))
    assert not broken.isfinite().any()


def test_an_inner_step_in_float16_waits_for_nothing() -> None:
    adapter, sampler, before, _ = away("absolute")
    adapter.transformer.half()
    sampler.text, sampler.latents = sampler.text.half(), sampler.latents.half()
    problem = Problem(sampler, before.objective, 1)
    assert problem.scaling.active
    problem.objective._target(adapter.device, torch.float32)  # once per training
    form = adapter.form("table", *SIZE)
    mode = PositionMode(problem, form, torch.zeros(form.shape, device="meta"))
    with (
        hooks.positions(adapter.transformer, "absolute", lambda _: mode.current),
        Watch() as watch,
        pytest.raises(RuntimeError, match="meta"),  # where the first loss is read
    ):
        next(mode.optimise(0, 0.01, 3))
    assert watch.waits == ["_local_scalar_dense"]


def half_adapter() -> Any:
    adapter = tiny_adapter("absolute", guided_range=(0.5, 1.0))
    adapter.pipe.to(torch.float16)
    return adapter


def test_an_interrupted_run_goes_on_at_its_scale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scaling, "_LIMIT", 2.0**15)  # too much: the first step is repeated
    config = TrainConfig(prompts=tuple(PROMPTS), learning_rates=(0.05, 0.05))

    def steps(events: list[Event]) -> list[int]:
        return [e.step for e in events if isinstance(e, InnerStep)]

    whole = list(train(half_adapter(), moving_square(), config))
    guided = len([e for e in whole if isinstance(e, GuidedStep)])
    assert guided > 1
    assert steps(whole) == [0, 0, *(i for i in range(guided) for _ in range(2))]
    state = tmp_path / "state.resume"
    run = train(half_adapter(), moving_square(), config, state=state)
    for event in run:
        if isinstance(event, GuidedStep):
            run.close()
    rest = list(train(half_adapter(), moving_square(), config, state=state, resume=True))
    assert steps(rest) == [i for i in range(1, guided) for _ in range(2)]
    assert isinstance(whole[-1], Finished)
    assert isinstance(rest[-1], Finished)
    one, other = whole[-1].card, rest[-1].card
    assert np.array_equal(one.tensors["positions"], other.tensors["positions"])
    assert one.spec.training.loss == other.spec.training.loss
    assert all(last < first for first, last in one.spec.training.loss)
    assert dataclasses.asdict(one.spec.recipe)["dtype"] == "float16"
