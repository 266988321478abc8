"""The memory model against a GPU: peaks of training and applying in every offload mode."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from benchmarks import models
from pe_toolkit.apply import applied
from pe_toolkit.backbones import CogVideoXAdapter
from pe_toolkit.backbones.catalogue import architectures
from pe_toolkit.backbones.machine import memory
from pe_toolkit.backbones.machine.checkpointing import KEEPING
from pe_toolkit.backbones.machine.offload import place
from pe_toolkit.backbones.machine.placement import CHOICES
from pe_toolkit.training import TrainConfig, train
from pe_toolkit.training.events import GuidedStep

if TYPE_CHECKING:
    from benchmarks.cuda_runs import Gpu

GIB = 2**30
WITHIN = 0.15
"""How far the model may be off."""
STEPS = 2
"""Of a generation: its peaks are those of a long one."""


@dataclass(frozen=True)
class Case:
    """A task in an offload mode, at the backbone's size."""

    task: str
    offload: str
    frames: int
    estimate_gib: float
    """Without the gigabyte assumed for the CUDA context, which the allocator does not count."""
    flops: float
    checkpointing: str = "on"
    """Of a training."""

    @property
    def name(self) -> str:
        if self.checkpointing != "on":
            return f"{self.task}, --checkpointing {self.checkpointing}"
        return f"{self.task}, --offload {self.offload}"


def cases(name: str, frames: int) -> Iterator[Case]:
    """Training and applying in each mode that `--offload auto` picks from, and trainings that
    recompute a little, partly and nothing, which say so where they do not fit.
    """
    a = architectures.ARCHITECTURES[name]
    plain = memory.Request.of(models.variant(name), guided=1, frames=frames, samples=1, steps=STEPS)

    def case(task: str, mode: str, estimate: memory.Estimate, checkpointing: str = "on") -> Case:
        allocated = (estimate.gpu_bytes - memory.OVERHEAD) / GIB
        return Case(task, mode, frames, allocated, estimate.flops, checkpointing)

    for mode in CHOICES:
        r = dataclasses.replace(plain, offload=mode)
        yield case("train", mode, memory.train_estimate(a, r, checkpointing="on"))
        yield case("apply", mode, memory.apply_estimate(a, r))
    moved = dataclasses.replace(plain, offload="model")
    for level in KEEPING:
        yield case("train", "model", memory.train_estimate(a, moved, checkpointing=level), level)
    yield case("train", "none", memory.train_estimate(a, plain, checkpointing="off"), "off")


def peak(adapter: CogVideoXAdapter, card: Any, case: Case, gpu: Gpu) -> dict[str, Any]:
    """The peak of a case: one guided step of a training, or a short generation, decoded."""
    if case.offload != "none":
        adapter.pipe.to("cpu")
        gc.collect()
    place(adapter.pipe, gpu.device, case.offload)
    began = gpu.start()
    if case.task == "train":
        _one_guided_step(adapter, case)
    else:
        width, height = adapter.size
        with applied(adapter.pipe, card, no_kv=True):
            adapter.pipe(
                prompt=models.PROMPT,
                num_frames=case.frames,
                width=width,
                height=height,
                num_inference_steps=STEPS,
                max_sequence_length=adapter.max_text_tokens,
                generator=torch.Generator("cpu").manual_seed(0),
            )
    return gpu.stop(began)


def _one_guided_step(adapter: CogVideoXAdapter, case: Case) -> None:
    config = TrainConfig(
        samples=1,
        prompts=(models.PROMPT,),
        checkpointing=case.checkpointing,  # type: ignore[arg-type]
    )
    events = train(adapter, models.moving_square(adapter, case.frames), config)
    for event in events:
        if isinstance(event, GuidedStep):
            break
    events.close()  # type: ignore[attr-defined]


def error(facts: Mapping[str, Any]) -> float | None:
    """(estimate - measured) / measured; None if nothing was measured."""
    measured = facts.get("peak_gib")
    return facts["estimate_gib"] / measured - 1 if measured else None


def worst(row: Mapping[str, Any]) -> float | None:
    """The error of a row that is furthest from zero."""
    errors = [error(facts) for facts in row.get("memory", {}).values()]
    found = [value for value in errors if value is not None]
    return max(found, key=abs) if found else None


def sentence(facts: Mapping[str, Any]) -> str:
    """Estimate, measurement and whether they agree."""
    off = error(facts)
    if off is None:
        missed = facts.get("out_of_memory") or facts.get("error") or "not measured"
        return f"estimated {facts['estimate_gib']:.1f} GiB; {missed}"
    verdict = "within" if abs(off) <= WITHIN else "NOT within"
    return (
        f"estimated {facts['estimate_gib']:.1f} GiB, measured {facts['peak_gib']:.1f} GiB: "
        f"{off:+.0%}, {verdict} {WITHIN:.0%}"
    )
