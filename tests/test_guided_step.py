"""One whole guided step (losses, gradient, updated positions) against a plain float64 transcription
of the published equations (`tests/plain.py`), for rotary and absolute positions.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from pe_toolkit.backbones.cogvideox import hooks
from pe_toolkit.backbones.cogvideox.sampling import CogVideoXSampler
from pe_toolkit.backbones.reading import Reading
from pe_toolkit.motion.flow import AttentionMotionFlow
from pe_toolkit.objectives.amf import AmfObjective
from pe_toolkit.training import TrainConfig, train
from pe_toolkit.training.events import Finished, InnerStep
from pe_toolkit.training.modes import PositionMode, Problem
from tests import plain
from tests.tiny import FRAMES, SIDE, moving_square, tiny_adapter

GRID = (3, 4, 4)
PROMPTS = ["a red circle", "a blue square"]
FORMS = [("rotary", "table"), ("rotary", "angle"), ("absolute", "table")]
RATE = 0.01


def double_adapter(positions: str, **changes: Any) -> Any:
    adapter = tiny_adapter(positions, **changes)
    for name in ("transformer", "vae", "text_encoder"):
        getattr(adapter.pipe, name).double()
    return adapter


class Plain:
    """The plain side: model, reference motion, and a guided step at fixed latents."""

    def __init__(self, adapter: Any, positions: str, form: str, block: int = 1) -> None:
        self.model = plain.PlainModel(adapter.transformer.state_dict(), 2, 2, 8)
        self.positions, self.form, self.block = positions, form, block
        self.tables = plain.rotary_tables(GRID, 16)
        self.sincos = plain.sincos_table(GRID, 32)
        clip = adapter.encode_clip(moving_square().frames)
        q, k = self.queries_keys(clip, adapter.encode_text([""]), 0, None)
        self.reference = plain.displacement(q[0], k[0], GRID, None)

    def queries_keys(self, x: Any, text: Any, t: int, delta: Any) -> Any:
        """q and k with the positions changed by `delta` (None: the model's own)."""
        x, text = x.double(), text.double()
        if self.positions == "absolute":
            added = self.sincos if delta is None else self.sincos + delta
            return self.model.queries_keys(x, text, t, self.block, None, added)
        cos, sin = self.tables
        if delta is None:
            tables = ((cos, sin), (cos, sin))
        elif self.form == "table":
            tables = tuple((cos + d[0], sin + d[1]) for d in delta)
        else:  # a turned rotation is the rotation by the sum of the angles
            angle = torch.atan2(sin, cos)
            tables = tuple(
                (
                    (angle + d.repeat_interleave(2, -1)).cos(),
                    (angle + d.repeat_interleave(2, -1)).sin(),
                )
                for d in delta
            )
        return self.model.queries_keys(x, text, t, self.block, tables, None)

    def loss(self, delta: Any, latents: Any, text: Any, t: int) -> Any:
        q, k = self.queries_keys(latents, text, t, delta)
        each = [
            plain.loss(plain.displacement(a, b, GRID, 2.0), self.reference)
            for a, b in zip(q, k, strict=True)
        ]
        return sum(each) / len(each)

    def guided_step(self, start: Any, rate: float, inner: int, *inputs: Any) -> Any:
        """Losses, the first gradient, and the positions after the step."""
        adam, delta, losses, first = plain.Adam(rate), start.double(), [], None
        for _ in range(inner):
            delta = delta.detach().requires_grad_()
            value = self.loss(delta, *inputs)
            (gradient,) = torch.autograd.grad(value, delta)
            losses.append(value.item())
            first = gradient if first is None else first
            delta = adam.step(delta.detach(), gradient)
        return losses, first, delta


def ours(adapter: Any, form_name: str) -> tuple[Problem, Any, CogVideoXSampler]:
    sampler = CogVideoXSampler(
        adapter, PROMPTS, [3, 4], steps=5, guidance_scale=4.0, dynamic_cfg=False,
        frames=FRAMES, width=SIDE, height=SIDE,
    )  # fmt: skip
    latents = adapter.encode_clip(moving_square().frames)
    q, k = adapter.reference_queries_and_keys(latents, Reading((1,)), FRAMES, SIDE, SIDE)
    flow = AttentionMotionFlow.from_qk(q, k, adapter.grid, mask="nonzero")
    form = adapter.form(form_name, FRAMES, SIDE, SIDE)
    return Problem(sampler, AmfObjective(flow, 2.0), 1), form, sampler


@pytest.mark.parametrize(("positions", "form_name"), FORMS)
def test_a_guided_step_is_the_equations(positions, form_name):
    adapter = double_adapter(positions)
    other = Plain(adapter, positions, form_name)
    problem, form, sampler = ours(adapter, form_name)
    if positions == "rotary":
        form.base = other.tables  # float64; diffusers' tables are float32
    index = 1  # any step after the first: its latents are not pure noise
    sampler.step(0)
    sampler.latents = sampler.latents.double()
    start = torch.randn(form.shape, dtype=torch.float64) * 0.05
    mode = PositionMode(problem, form, start)
    seen: dict[str, Any] = {}
    descend = problem.descend

    def watched(parameter: Any, *args: Any) -> Any:
        seen["delta"] = parameter
        for value in descend(parameter, *args):
            seen.setdefault("gradient", parameter.grad.clone())
            yield value

    # Not a stand-in: the method itself, with a look at what it works on.
    problem.descend = watched  # type: ignore[method-assign]
    with hooks.positions(adapter.transformer, positions, lambda _: mode.current):
        one = list(mode.optimise(index, RATE, 1))
        gradient = seen["gradient"]
        mode.carried = start
        losses = list(mode.optimise(index, RATE, 5))
    inputs = (sampler.latents, sampler.text.double(), sampler.times[index])
    want_losses, want_gradient, want = other.guided_step(start, RATE, 5, *inputs)

    # 1e-6: what is left is the float32 sine of diffusers' timestep embedding.
    assert one[0] == losses[0]
    assert losses == pytest.approx(want_losses, rel=1e-6)
    scale = want_gradient.abs().max()
    torch.testing.assert_close(gradient / scale, want_gradient / scale, rtol=0, atol=1e-6)
    moved = (seen["delta"].detach() - start).abs().max()
    assert moved > RATE  # it went somewhere
    torch.testing.assert_close(seen["delta"].detach(), want, rtol=0, atol=1e-3 * RATE)
    assert torch.equal(mode.carried, seen["delta"].detach().half().float())


@pytest.mark.parametrize(("positions", "form_name"), [FORMS[0], FORMS[2]])
def test_the_plain_gradient_is_the_slope(positions, form_name):
    """The transcription itself against central differences: no autograd on either side of it."""
    adapter = double_adapter(positions)
    other = Plain(adapter, positions, form_name)
    _, form, sampler = ours(adapter, form_name)
    inputs = (sampler.latents.double(), sampler.text.double(), 500)
    delta = (torch.randn(form.shape, dtype=torch.float64) * 0.05).requires_grad_()
    (gradient,) = torch.autograd.grad(other.loss(delta, *inputs), delta)
    direction = torch.randn(form.shape, dtype=torch.float64)
    h = 1e-5
    with torch.no_grad():
        slope = (
            other.loss(delta + h * direction, *inputs) - other.loss(delta - h * direction, *inputs)
        ) / (2 * h)
    assert float((gradient * direction).sum()) == pytest.approx(slope.item(), rel=1e-6)


@pytest.mark.parametrize("positions", ["rotary", "absolute"])
def test_the_papers_recipe_is_the_equations_from_end_to_end(positions):
    """`train(recipe="paper")`: K = 5, 0.002, tau 2, displacement != 0, zero start, one sample."""
    adapter = tiny_adapter(positions)  # float32: a card does not know float64
    config = TrainConfig(prompts=(PROMPTS[0],), recipe="paper", seed=3)
    events = list(train(adapter, moving_square(), config))
    card = events[-1].card if isinstance(events[-1], Finished) else None
    assert card is not None
    losses = [event.loss for event in events if isinstance(event, InnerStep)]
    assert len(losses) == 5  # one guided step: a fifth of five
    other = Plain(adapter, positions, "table")
    sampler = CogVideoXSampler(
        adapter, PROMPTS[:1], [3], steps=5, guidance_scale=4.0, dynamic_cfg=False,
        frames=FRAMES, width=SIDE, height=SIDE,
    )  # fmt: skip
    shape = adapter.form("table", FRAMES, SIDE, SIDE).shape
    inputs = (sampler.latents, sampler.text, sampler.times[0])
    want_losses, _, want = other.guided_step(torch.zeros(shape), 0.002, 5, *inputs)
    assert losses == pytest.approx(want_losses, rel=1e-4)
    got = torch.from_numpy(card.tensors["positions"][0]).double()
    # Half precision in the card, float32 tables and deltas in training.
    torch.testing.assert_close(got, want, rtol=2e-3, atol=2e-2 * 0.002)
    recipe = dataclasses.asdict(card.spec.recipe)
    assert {k: recipe[k] for k in ("name", "tau", "mask", "inner_steps", "start", "kv")} == {
        "name": "paper", "tau": 2.0, "mask": "nonzero", "inner_steps": 5, "start": "zero",
        "kv": "none",
    }  # fmt: skip
