"""One guided step of CogVideoX at its published size, on a CPU: ours against the published way.

    python -m benchmarks.full_size                              # 2b, 24 frames, K = 5
    python -m benchmarks.full_size --backbone cogvideox-5b --layers 22 --inner 1

What a machine without a GPU can say about the size that people use: that it runs, how many CPU
seconds each way takes, and how much memory, against what the memory model expects. The ratios are
not those of a GPU: attention, which both ways have, is slower against the matrices here.

Random weights in bfloat16, keys and values of the reference injected, as published. Text encoder
and VAE are small ones: nothing of them is measured. The memory is what the process held at its
peak (VmHWM) above what it held before the step, which is the weights; Linux only.
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import gc
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks import models
from benchmarks.cuda_runs import GIB, encoded
from benchmarks.official import Official
from pe_toolkit.backbones import CogVideoXAdapter
from pe_toolkit.backbones.catalogue import architectures
from pe_toolkit.backbones.machine import memory
from pe_toolkit.backbones.machine.recompute import LEVELS
from pe_toolkit.training import TrainConfig, train
from pe_toolkit.training.events import GuidedStep, Optimising


def resident(field: str) -> int:
    """Bytes of main memory: `VmRSS` now, `VmHWM` at the peak since `forget`."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise SystemExit("needs Linux: /proc/self/status")


def return_what_is_freed() -> None:
    """Every tensor of a megabyte gets pages of its own, which go back when it is freed: otherwise
    the C library keeps holes between smaller ones, and the peak would be theirs.
    """
    m_mmap_threshold = -3
    ctypes.CDLL(None).mallopt(m_mmap_threshold, 1 << 20)


def forget() -> None:
    """The peak begins anew."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def timed(call: Callable[[], Any]) -> dict[str, float]:
    """CPU and wall-clock seconds, and the peak above what the process holds now."""
    forget()
    held, cpu, wall = resident("VmRSS"), time.process_time(), time.monotonic()
    call()
    return {
        "cpu_seconds": time.process_time() - cpu,
        "seconds": time.monotonic() - wall,
        "above_gib": (resident("VmHWM") - held) / GIB,
        "held_gib": held / GIB,
    }


def ours(adapter: CogVideoXAdapter, o: argparse.Namespace) -> dict[str, float]:
    """The first guided step of the trainer, its denoising step included, by `--recipe paper`."""
    config = TrainConfig(
        samples=1,
        recipe="paper",
        prompts=(models.PROMPT,),
        kv=True,
        inner_steps=o.inner,
        checkpointing=o.checkpointing,
    )
    events = train(adapter, models.moving_square(adapter, o.frames), config)
    for event in events:
        if isinstance(event, Optimising):
            break

    def step() -> None:
        for event in events:
            if isinstance(event, GuidedStep):
                return

    facts = timed(step)
    events.close()  # type: ignore[attr-defined]
    return facts


def official(adapter: CogVideoXAdapter, o: argparse.Namespace) -> dict[str, float]:
    """The same step by the transcription of the published algorithm."""
    variant = adapter.variant
    assert variant is not None
    width, height = adapter.size
    reference, text, negative = encoded(adapter, o.frames)
    run = Official(
        adapter, reference, text, negative, block=variant.block,
        size=(o.frames, width, height), inner=o.inner,
    )  # fmt: skip
    latents = torch.randn_like(reference)
    return timed(lambda: run.guided_step(latents, 999, 0.002, 7.0))


def expected(o: argparse.Namespace) -> dict[str, float]:
    """What the memory model expects: GiB above the weights, and PFLOP of the step."""
    a = architectures.ARCHITECTURES[o.backbone]
    a = dataclasses.replace(a, layers=o.layers or a.layers)
    r = memory.Request.of(
        models.variant(o.backbone), guided=1, frames=o.frames, samples=1, inner=o.inner,
        dtype="bfloat16",
    )  # fmt: skip
    stages = memory.train_stages(a, r, checkpointing=o.checkpointing)
    above = {
        name: (sum(parts.values()) - parts["weights"]) / GIB
        for name, parts in stages.items()
        if name in memory.GUIDED_STAGES
    }
    flops = memory.train_flops(a, r, checkpointing=o.checkpointing)
    return {"above_gib": max(above.values()), "pflop": flops / 1e15}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.full_size", description=__doc__)
    parser.add_argument("--backbone", choices=list(models.PUBLISHED), default="cogvideox-2b")
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--inner", type=int, default=5, help="K")
    parser.add_argument("--layers", type=int, help="blocks of the transformer; default: all")
    parser.add_argument("--checkpointing", choices=LEVELS, default="partly")
    parser.add_argument("--only", choices=["ours", "official"])
    parser.add_argument("--record", type=Path)
    o = parser.parse_args()
    return_what_is_freed()
    ways = {"ours": ours, "official": official}
    found: dict[str, Any] = {"options": {k: str(v) for k, v in vars(o).items()}}
    found["expected"] = expected(o)
    print(found["expected"], flush=True)
    for name in [o.only] if o.only else ways:
        adapter = models.build(
            o.backbone, torch.device("cpu"), dtype=torch.bfloat16, layers=o.layers, light=True
        )
        found[name] = ways[name](adapter, o)
        print(name, found[name], flush=True)
        del adapter
        gc.collect()
        if o.record:
            o.record.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if not o.only:
        us, them = found["ours"], found["official"]
        print(f"CPU seconds: {them['cpu_seconds'] / us['cpu_seconds']:.2f} times fewer")
        print(f"memory above the weights: {them['above_gib'] / us['above_gib']:.2f} times less")


if __name__ == "__main__":
    main()
