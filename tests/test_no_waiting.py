"""The training loop never waits for a GPU, except to read a loss one step late.

Proven without a GPU: everything lies on the meta device, which has no values. A number cannot be
read off it, and what goes there from the CPU is seen.
"""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pe_toolkit.backbones.cogvideox import hooks
from pe_toolkit.backbones.cogvideox.keyvalue import ReferenceKeysValues
from pe_toolkit.backbones.cogvideox.sampling import CogVideoXSampler
from pe_toolkit.backbones.reading import Reading
from pe_toolkit.motion.flow import AttentionMotionFlow
from pe_toolkit.objectives.amf import AmfObjective
from pe_toolkit.training.modes import LatentMode, Pending, PositionMode, Problem
from tests.tiny import FRAMES, SIDE, moving_square, tiny_adapter

SIZE = (FRAMES, SIDE, SIDE)


class Watch(TorchDispatchMode):
    """Which operations would make the CPU wait for a GPU: values read, sizes that depend on values,
    copies across (from or to memory that is not pinned).
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.name().split("::")[-1]
        before = self.places(args, kwargs)
        if name.startswith("index."):  # by a mask: how much comes out depends on its values
            masks = [t for t in tree_leaves(args[1]) if t is not None and t.dtype == torch.bool]
            reads = "meta" in self.places(masks)
        else:
            reads = name in ("_local_scalar_dense", "nonzero", "masked_select", "equal")
            reads = reads and "meta" in before
        if reads:
            self.waits.append(name)
        there = kwargs.get("device")
        copied = name.startswith("_to_copy") and there is not None and {there.type} != before
        if copied or (name.startswith("copy_") and len(before) > 1):
            self.waits.append(name)
        return func(*args, **kwargs)

    @staticmethod
    def places(*values: Any) -> set[Any]:
        return {t.device.type for t in tree_leaves(values) if isinstance(t, torch.Tensor)}


def away(positions: str, scheduler: str = "ddim") -> tuple[Any, CogVideoXSampler, Problem, Any]:
    """A training of a tiny backbone on the meta device, ready for its first inner step."""
    adapter = tiny_adapter(positions, scheduler)
    latents = adapter.encode_clip(moving_square().frames)
    q, k = adapter.reference_queries_and_keys(latents, Reading((1,)), *SIZE)
    flow = AttentionMotionFlow.from_qk(q, k, adapter.grid, mask="nonzero")
    for name in ("text_encoder", "vae", "transformer"):
        getattr(adapter.pipe, name).requires_grad_(False).to("meta")
    assert adapter.device.type == "meta"
    sampler = CogVideoXSampler(
        adapter, ["a red circle"] * 2, [0, 1], steps=5, guidance_scale=4.0, dynamic_cfg=True,
        frames=FRAMES, width=SIDE, height=SIDE,
    )  # fmt: skip
    problem = Problem(sampler, AmfObjective(flow), 1)
    return adapter, sampler, problem, latents.to("meta")


@pytest.mark.parametrize(
    ("positions", "form"), [("rotary", "angle"), ("rotary", "table"), ("absolute", "table")]
)
def test_an_inner_step_waits_for_nothing(positions: str, form: str) -> None:
    adapter, sampler, problem, latents = away(positions)
    kv = ReferenceKeysValues(adapter, latents, 0, *SIZE)
    shape = adapter.form(form, *SIZE)
    mode = PositionMode(problem, shape, torch.zeros(shape.shape, device="meta"))
    kv.at(sampler.times[0])  # once per guided step
    problem.objective._target(adapter.device, torch.float32)  # once per training
    passes: list[int] = []
    adapter.transformer.register_forward_pre_hook(lambda *_: passes.append(len(watch.waits)))
    select = kv.unless_recording(lambda _: mode.current)
    with (
        kv.injected(lambda _: True, lambda: sampler.times[0]),
        hooks.positions(adapter.transformer, positions, select),
        Watch() as watch,
        pytest.raises(RuntimeError, match="meta"),  # where the first loss is read
    ):
        next(mode.optimise(0, 0.01, 3))
    # Two samples, two inner steps, and only then the first number.
    assert passes == [0, 0, 0, 0]
    assert watch.waits == ["_local_scalar_dense"]


def test_without_being_told_the_step_a_pass_waits_for_it() -> None:
    adapter, sampler, problem, latents = away("rotary")
    kv = ReferenceKeysValues(adapter, latents, 0, *SIZE)
    with kv.injected(lambda _: True), Watch() as watch, pytest.raises(RuntimeError, match="meta"):
        problem.backward(0, sampler.latents)
    assert watch.waits == ["_to_copy"]  # of the whole schedule, once


def test_neither_does_a_step_on_latents_nor_one_of_denoising() -> None:
    adapter, sampler, problem, _ = away("rotary")
    problem.objective._target(adapter.device, torch.float32)
    with Watch() as watch:
        sampler.step(0)
        assert watch.waits == []
        with pytest.raises(RuntimeError, match="meta"):
            next(LatentMode(problem).optimise(1, 0.01, 3))
    assert watch.waits == ["_local_scalar_dense"]


def test_the_watch_sees_what_it_should() -> None:
    x = torch.empty(3, device="meta")
    with Watch() as watch:
        for wait in (
            lambda: float(x[0]),
            lambda: x[x > 0],
            lambda: torch.nonzero(x),
            lambda: torch.zeros(3).to("meta"),
        ):
            before = len(watch.waits)
            with contextlib.suppress(RuntimeError, NotImplementedError):
                wait()
            assert len(watch.waits) == before + 1
        before = len(watch.waits)
        assert float(torch.ones(())) == 1
        x * torch.ones(())  # a number, passed with the kernel
        torch.full((1,), 3, device="meta")
        assert len(watch.waits) == before


def test_a_reading_gives_the_number() -> None:
    assert Pending(torch.tensor(0.25)).number() == 0.25
