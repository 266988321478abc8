"""CogVideoX at full size with random weights on a GPU: ours against the published algorithm.

    python -m benchmarks.cuda                      # everything; writes docs/performance.md
    python -m benchmarks.cuda --rows 5b-24         # one size
    python -m benchmarks.cuda --tiny               # the same code, tiny, on a CPU; writes nothing

Both algorithms run in one process on one GPU, random weights, the published configurations. Ours
runs under a cap of 22 GiB (`set_per_process_memory_fraction`), which proves that it fits a 24 GB
card; what does not is measured without the cap, and says so. Where the published way does not fit
the GPU, the bytes of its logits stand instead. Times are medians, with [least, most]. A row that
was not measured says so. The record is written after every part, so nothing measured is lost, and
rows that it holds already (same day, GPU and torch) stay: sizes can be run one by one.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import functools
import gc
import json
import statistics
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks import cuda_memory, models, report
from benchmarks.cuda_runs import (
    GIB,
    GUIDED,
    STEPS,
    Gpu,
    attempt,
    generations,
    official,
    ours,
)
from benchmarks.official import logits_bytes
from pe_toolkit.backbones import CogVideoXAdapter
from pe_toolkit.backbones.catalogue import architectures
from pe_toolkit.backbones.machine import memory, placement

EFFICIENCY = 0.4
"""Share of the measured rate that the transformer is expected to reach, for the time to wait."""
ROWS = {
    "2b-24": ("cogvideox-2b", 24),
    "2b-49": ("cogvideox-2b", 49),
    "5b-24": ("cogvideox-5b", 24),
    "5b-49": ("cogvideox-5b", 49),
    "1.5-81": ("cogvideox1.5-5b", 81),
}


def measure(
    row: str, options: argparse.Namespace, gpu: Gpu, rate: float, keep: Callable[[Any], None]
) -> dict[str, Any]:
    """Everything about one size; `keep` gets what there is after every part."""
    name, frames = ROWS[row]
    out: dict[str, Any] = {"row": row, "backbone": name, "frames": frames, "rate": rate}
    checkpointing = "auto"
    if options.tiny:
        out["frames"] = frames = models.TINY_FRAMES
    else:
        out |= computed(name, frames, options.cap, rate)
        checkpointing = out["checkpointing"]

    def card_by(recipe: str) -> Any:
        def made(level: str) -> dict[str, Any]:
            return attempt(lambda: ours(fresh(name, options, gpu), frames, recipe, gpu, level))

        gpu.cap(options.cap)
        facts = made(checkpointing)
        if "out_of_memory" in facts and checkpointing != "on":
            missed = facts["out_of_memory"]
            facts = made("on") | {"recomputed_all_after": missed}
        gpu.cap(None)
        if "out_of_memory" in facts:
            missed = facts["out_of_memory"]
            facts = made("on") | {"without_cap": missed}
        card = facts.pop("card", None)
        out[recipe] = facts
        keep(out)
        return card

    card = card_by("paper")
    out["official"] = attempt(
        lambda: official(fresh(name, options, gpu), frames, gpu, options.repeats)
    )
    keep(out)
    card_by("fast")
    if card is not None:
        gpu.cap(options.cap)
        seconds: dict[str, Any] = {}

        def run() -> dict[str, Any]:
            generations(fresh(name, options, gpu), card, gpu, options, seconds)
            return {}

        failed = attempt(run)
        out["generation"] = seconds | failed
        gpu.cap(None)
        keep(out)
    if gpu.cuda:
        out["memory"] = {}
        for case in cuda_memory.cases(name, frames):
            if case.task == "apply" and card is None:
                continue
            adapter = fresh(name, options, gpu)
            found = attempt(functools.partial(cuda_memory.peak, adapter, card, case, gpu))
            del adapter
            out["memory"][case.name] = {"estimate_gib": case.estimate_gib} | found
            keep(out)
    return out


def computed(name: str, frames: int, cap: float, rate: float) -> dict[str, Any]:
    """What the formulas say of one size."""
    architecture, variant = architectures.ARCHITECTURES[name], models.variant(name)
    request = memory.Request.of(variant, guided=GUIDED, frames=frames, samples=1, offload="model")
    f, h, w = architecture.grid(frames, request.width, request.height)
    plan = placement.plan(architecture, request, "train", cap * GIB)
    checkpointing = plan.checkpointing["model"]  # as `--checkpointing auto` on a card of that size
    estimate = plan.estimates["model"]
    one = dataclasses.replace(request, guided=1)
    flops = memory.train_flops(architecture, one, checkpointing="off")
    return {
        "logits_bytes": logits_bytes(architecture.heads, f * h * w),
        "checkpointing": checkpointing,
        "estimate_gib": estimate.gpu_bytes / GIB,
        "flops_per_step": flops,
        "floor_seconds": flops / rate,
    }


def work(row: str, options: argparse.Namespace) -> float:
    """Operations that a row comes to: two cards of ours, steps of the published way, generations,
    the cases of the memory model.

    The published way's gradients of weights and its checkpointing double its inner steps.
    """
    name, frames = ROWS[row]
    architecture = architectures.ARCHITECTURES[name]
    request = memory.Request.of(models.variant(name), guided=GUIDED, frames=frames, samples=1)
    card = memory.train_flops(architecture, request, checkpointing="on")
    generation = memory.apply_flops(architecture, request)
    published = (options.repeats + 1) * (2 * card / GUIDED + generation / STEPS)
    short = (3 * options.repeats + 4) * options.steps / STEPS
    peaks = sum(case.flops for case in cuda_memory.cases(name, frames))
    return 2 * card + published + (short + 3 * options.cache_steps / STEPS) * generation + peaks


def fresh(name: str, options: argparse.Namespace, gpu: Gpu) -> CogVideoXAdapter:
    """Random weights anew: nothing that the other algorithm changed or kept is left."""
    if gpu.cuda:
        torch._dynamo.reset()  # compiled blocks of another size would make the next ones dynamic
    gc.collect()  # compiled blocks and hooks refer to themselves
    if gpu.cuda:
        torch.cuda.empty_cache()
    return models.build(name, gpu.device, tiny=options.tiny)


def say(row: Mapping[str, Any]) -> None:
    """One size, for people."""
    print(f"\n{row['backbone']}, {row['frames']} frames")
    floor = row.get("floor_seconds")
    if floor is not None:
        work = row["flops_per_step"] / 1e15
        print(
            f"  a guided step (K = 5): {work:.3g} PFLOP, floor {floor:.3f} s at the measured rate"
        )
    for name in ("paper", "fast", "official"):
        facts = row[name]
        if failed := facts.get("out_of_memory") or facts.get("error"):
            bytes_ = row.get("logits_bytes") if name == "official" else None
            logits = f"; {bytes_:,} bytes of logits" if bytes_ and "out_of_memory" in facts else ""
            print(f"  {name:10} failed: {failed}{logits}")
            continue
        if not facts.get("steps"):
            print(f"  {name:10} {report.NOTHING}")
            continue
        steps = facts["steps"]
        middle = statistics.median(steps)
        # The floor is that of the published setting; `fast` takes fewer inner steps.
        over = f", {middle / floor:.2f} times the floor" if floor and name == "paper" else ""
        peak = f"{facts['peak_gib']:.1f} GiB" if "peak_gib" in facts else "- (not counted on a CPU)"
        print(
            f"  {name:10} {middle:9.3f} s per guided step [{min(steps):.3f}, {max(steps):.3f}]"
            f"{over}, {facts['card_seconds']:.1f} s per card, peak {peak}"
            + (" without the cap" if "without_cap" in facts else "")
            + (", all recomputed" if "recomputed_all_after" in facts else "")
            + (
                f" (and {facts['collecting']:.2f} s of garbage collection a step)"
                if "collecting" in facts
                else ""
            )
        )
    for name, seconds in row.get("generation", {}).items():
        if isinstance(seconds, str):
            print(f"  {name}: {seconds}")
        else:
            print(f"  {name:36} {statistics.median(seconds):9.3f} s")
    for name, facts in row.get("memory", {}).items():
        print(f"  {name:26} {cuda_memory.sentence(facts)}")
    sys.stdout.flush()


class Record:
    """The file of a day: rows of this GPU and torch, replaced one by one."""

    def __init__(self, path: Path, about: dict[str, Any]) -> None:
        self.path, self.about = path, about
        self.rows: dict[str, Any] = {}
        if path.exists():
            there = json.loads(path.read_text(encoding="utf-8"))
            if all(there.get(key) == value for key, value in about.items()):
                self.rows = {row["row"]: row for row in there["rows"]}

    def put(self, row: dict[str, Any]) -> None:
        """Keep a row, whole or begun."""
        self.rows[row["row"]] = row
        rows = [self.rows[key] for key in ROWS if key in self.rows]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(self.about | {"rows": rows}, indent=1) + "\n", encoding="utf-8")
        part.replace(self.path)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cuda", description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="tiny, on the CPU: tries the code")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--cap", type=float, default=22.0, help="GiB that ours may reserve")
    parser.add_argument("--steps", type=int, default=10, help="of the generations compared")
    parser.add_argument("--cache-steps", type=int, default=STEPS, help="of those with a cache")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--record", type=Path, help="default: docs/records/cuda-DATE.json")
    parser.add_argument("--page", action="store_true", help="only write the page from the record")
    options = parser.parse_args()
    today = datetime.date.today().isoformat()
    path = options.record or report.PAGE.parent / "records" / f"cuda-{today}.json"
    if options.page:
        report.write(json.loads(path.read_text(encoding="utf-8")))
        return 0
    if not options.tiny and not torch.cuda.is_available():
        print("no CUDA GPU here: nothing was measured (--tiny tries the code on a CPU)")
        return 1
    warnings.filterwarnings("ignore", message="The card was trained with keys and values")
    # With an index: `set_per_process_memory_fraction` takes no device without one.
    gpu = Gpu(torch.device("cpu") if options.tiny else torch.device("cuda", 0))
    rate = gpu.rate()
    print(f"bf16 matrix product: {rate / 1e12:.1f} TFLOP/s; torch {torch.__version__}", flush=True)
    if options.tiny:
        for row in options.rows:
            say(measure(row, options, gpu, rate, lambda _: None))
        return 0
    record = Record(
        path,
        {
            "date": today,
            "gpu": torch.cuda.get_device_name(gpu.device),
            "torch": torch.__version__,
            "cap_gib": options.cap,
            "generation_steps": options.steps,
            "cache_steps": options.cache_steps,
        },
    )
    minutes = sum(work(row, options) for row in options.rows) / (rate * EFFICIENCY) / 60
    print(f"about {minutes:.0f} minutes at {EFFICIENCY:.0%} of that rate", flush=True)
    for row in options.rows:
        say(measure(row, options, gpu, rate, record.put))
    report.write(json.loads(path.read_text(encoding="utf-8")))
    print(f"\nwritten: {path}, {report.PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
