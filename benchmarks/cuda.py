"""CogVideoX at full size with random weights on a GPU: ours against the published algorithm.

    python -m benchmarks.cuda                      # everything; writes docs/performance.md
    python -m benchmarks.cuda --rows 5b-24         # one size
    python -m benchmarks.cuda --tiny               # the same code, tiny, on a CPU; writes nothing

Both algorithms run in one process on one GPU, random weights, the published configurations. Ours
runs under a cap of 22 GiB (`set_per_process_memory_fraction`), which proves that it fits a 24 GB
card. Where the published way does not fit the GPU, the bytes of its logits stand instead. Times are
medians, with [least, most]. A row that was not measured says so.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks import models, report
from benchmarks.official import Official, logits_bytes
from pe_toolkit.acceleration import caches
from pe_toolkit.apply import applied
from pe_toolkit.backbones import CogVideoXAdapter, memory
from pe_toolkit.backbones.sampling import Sampler
from pe_toolkit.training import TrainConfig, train
from pe_toolkit.training.events import Finished, GuidedStep

GIB = 2**30
ROWS = {
    "2b-24": ("cogvideox-2b", 24),
    "2b-49": ("cogvideox-2b", 49),
    "5b-24": ("cogvideox-5b", 24),
    "5b-49": ("cogvideox-5b", 49),
    "1.5-81": ("cogvideox1.5-5b", 81),
}


class Gpu:
    """Time and memory of one device; on a CPU memory is not counted."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.cuda = device, device.type == "cuda"
        self.total = torch.cuda.get_device_properties(device).total_memory if self.cuda else 0

    def cap(self, gibibytes: float | None) -> None:
        if self.cuda:
            share = 1.0 if gibibytes is None else min(1.0, gibibytes * GIB / self.total)
            torch.cuda.set_per_process_memory_fraction(share, self.device)

    def start(self) -> float:
        if self.cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def stop(self, began: float) -> dict[str, float]:
        out = {}
        if self.cuda:
            torch.cuda.synchronize(self.device)
            out = {
                "peak_gib": torch.cuda.max_memory_allocated(self.device) / GIB,
                "reserved_gib": torch.cuda.max_memory_reserved(self.device) / GIB,
            }
        return out | {"seconds": time.perf_counter() - began}

    def rate(self) -> float:
        """Measured operations per second of a large matrix product in bf16."""
        n = 8192 if self.cuda else 512
        a = torch.randn(n, n, device=self.device, dtype=torch.bfloat16)
        for _ in range(3):
            a @ a
        began = self.start()
        for _ in range(10):
            a @ a
        return 10 * 2 * n**3 / self.stop(began)["seconds"]


def ours(adapter: CogVideoXAdapter, frames: int, recipe: str, gpu: Gpu) -> dict[str, Any]:
    """A whole card by the trainer; seconds of every guided step, and the peak of all of it."""
    config = TrainConfig(samples=1, recipe=recipe, prompts=(models.PROMPT,))  # type: ignore[arg-type]
    began = gpu.start()
    steps, card = [], None
    for event in train(adapter, models.moving_square(adapter, frames), config):
        if isinstance(event, GuidedStep):
            steps.append(event.seconds)
        elif isinstance(event, Finished):
            card = event.card
    facts = gpu.stop(began)
    return {"steps": steps, "card_seconds": facts.pop("seconds"), "card": card} | facts


def official(adapter: CogVideoXAdapter, frames: int, gpu: Gpu, repeats: int) -> dict[str, Any]:
    """A few guided steps of the transcription, and one plain step, for the whole run's time."""
    variant = adapter.variant
    assert variant is not None
    clip = models.moving_square(adapter, frames)
    width, height = adapter.size
    with torch.no_grad():
        reference = adapter.encode_clip(clip.frames)
        text, negative = (adapter.encode_text([p]) for p in (models.PROMPT, ""))
    began = gpu.start()
    run = Official(
        adapter, reference, text, negative, block=variant.block, size=(frames, width, height)
    )
    latents = torch.randn_like(reference)
    seconds = []
    for index in range(repeats + 1):  # the first warms up
        start = time.perf_counter()
        run.guided_step(latents, 999 - 20 * index, 0.002, 7.0)
        if gpu.cuda:
            torch.cuda.synchronize(gpu.device)
        seconds.append(time.perf_counter() - start)
    return {"steps": seconds[1:]} | gpu.stop(began)


def generations(
    adapter: CogVideoXAdapter, card: Any, gpu: Gpu, steps: int, repeats: int
) -> dict[str, list[float]]:
    """Seconds of denoising: plain, applied, and applied with fixed-schedule caches and compiled
    blocks; interleaved, without the VAE.
    """
    frames, (width, height) = card.spec.clip.frames, adapter.size
    sampler = models.sampler(adapter, frames, steps)
    times = tuple(int(t) for t in sampler.timesteps)

    def denoise() -> float:
        run: Sampler = models.sampler(adapter, frames, steps)
        began = gpu.start()
        for index in range(steps):
            run.step(index)
        return gpu.stop(began)["seconds"]

    def with_card(cache: str) -> Callable[[], float]:
        def run() -> float:
            guided = sum(card.spec.schedule.noise[-1] - 1e-6 <= n for n in sampler.noise)
            schedule = caches.Schedule(times, guided)
            with caches.cached(adapter.transformer, cache, schedule), applied(adapter.pipe, card):
                return denoise()

        return run

    kinds: dict[str, Callable[[], float]] = {"plain": denoise}
    kinds |= {"applied": with_card("none")} | {
        f"applied, {name}": with_card(name) for name in ("pab", "taylorseer")
    }
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for index in range(repeats + 1):
        for name, run in kinds.items():
            took = run()
            if index:
                seconds[name].append(took)
    if gpu.cuda:
        models.compile_blocks(adapter)
        for name in ("plain", "applied, taylorseer"):
            kinds[name]()  # compiles
            seconds[f"{name}, compiled"] = [kinds[name]() for _ in range(repeats)]
    del width, height
    return seconds


def measure(row: str, options: argparse.Namespace, gpu: Gpu, rate: float) -> dict[str, Any]:
    """Everything about one size."""
    name, frames = ROWS[row]
    out: dict[str, Any] = {"row": row, "backbone": name, "frames": frames, "rate": rate}
    frames = models.TINY_FRAMES if options.tiny else frames
    architecture = memory.ARCHITECTURES[name]
    gpu.cap(options.cap)
    for recipe in ("paper", "fast"):
        out[recipe] = attempt(
            lambda recipe=recipe: ours(fresh(name, options, gpu), frames, recipe, gpu)
        )
    card = out["paper"].pop("card", None)
    out["fast"].pop("card", None)
    if card is not None:
        out["generation"] = attempt(
            lambda: generations(
                fresh(name, options, gpu), card, gpu, options.steps, options.repeats
            )
        )
    gpu.cap(None)
    out["official"] = attempt(
        lambda: official(fresh(name, options, gpu), frames, gpu, options.repeats)
    )
    if not options.tiny:
        variant = models.variant(name)
        request = memory.Request.of(variant, guided=10, frames=frames, samples=1)
        f, h, w = architecture.grid(frames, request.width, request.height)
        out["logits_bytes"] = logits_bytes(architecture.heads, f * h * w)
        one = dataclasses.replace(request, guided=1)
        flops = memory.train_flops(architecture, one, checkpointing=False)
        out["flops_per_step"], out["floor_seconds"] = flops, flops / rate
        out["estimate_gib"] = (
            memory.train_estimate(architecture, request, checkpointing=True).gpu_bytes / GIB
        )
    return out


def fresh(name: str, options: argparse.Namespace, gpu: Gpu) -> CogVideoXAdapter:
    """Random weights anew: nothing that the other algorithm changed is left."""
    if gpu.cuda:
        torch.cuda.empty_cache()
    return models.build(name, gpu.device, tiny=options.tiny)


def attempt(call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What it measured, or that memory did not do."""
    try:
        return call()
    except torch.OutOfMemoryError as error:
        return {"out_of_memory": str(error).splitlines()[0]}


def say(row: dict[str, Any]) -> None:
    """One size, for people."""
    print(f"\n{row['backbone']}, {row['frames']} frames")
    for name in ("paper", "fast", "official"):
        facts = row[name]
        if "out_of_memory" in facts:
            print(f"  {name:10} out of memory: {facts['out_of_memory']}")
            continue
        steps = facts["steps"]
        print(
            f"  {name:10} {statistics.median(steps):9.3f} s per guided step "
            f"[{min(steps):.3f}, {max(steps):.3f}], peak {facts.get('peak_gib', 0):.1f} GiB"
        )
    for name, seconds in row.get("generation", {}).items():
        if name != "out_of_memory":
            print(f"  {name:30} {statistics.median(seconds):9.3f} s")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cuda", description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="tiny, on the CPU: tries the code")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--cap", type=float, default=22.0, help="GiB that ours may reserve")
    parser.add_argument("--steps", type=int, default=10, help="denoising steps of a generation")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    if not options.tiny and not torch.cuda.is_available():
        print("no CUDA GPU here: nothing was measured (--tiny tries the code on a CPU)")
        return 1
    gpu = Gpu(torch.device("cpu" if options.tiny else "cuda"))
    rate = gpu.rate()
    print(f"bf16 matrix product: {rate / 1e12:.1f} TFLOP/s; torch {torch.__version__}")
    rows = []
    for row in options.rows[:1] if options.tiny else options.rows:
        rows.append(measure(row, options, gpu, rate))
        say(rows[-1])
    if options.tiny:
        return 0
    record = {
        "date": datetime.date.today().isoformat(),
        "gpu": torch.cuda.get_device_name(gpu.device),
        "torch": torch.__version__,
        "cap_gib": options.cap,
        "rows": rows,
    }
    path = Path("docs/records") / f"cuda-{record['date']}.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    report.write(record)
    print(f"\nwritten: {path}, {report.PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
