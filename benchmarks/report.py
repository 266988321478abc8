"""docs/performance.md from a record of `benchmarks.cuda`; what was not measured says so."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import cuda_memory, official
from benchmarks.cuda_runs import OUT_OF_MEMORY
from pe_toolkit.backbones.catalogue import architectures
from pe_toolkit.backbones.catalogue.variants import VARIANTS
from pe_toolkit.backbones.machine import memory
from pe_toolkit.backbones.machine.recompute import LEVELS

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
SIZES = (
    ("cogvideox-2b", 24),
    ("cogvideox-2b", 49),
    ("cogvideox-5b", 24),
    ("cogvideox-5b", 49),
    ("cogvideox1.5-5b", 81),
)
NOTHING = "not measured"
NAMES = {
    "2b-24": "2b, 24 frames",
    "2b-49": "2b, 49 frames",
    "5b-24": "5b, 24 frames",
    "5b-49": "5b, 49 frames",
    "1.5-81": "1.5-5b, 81 frames of 1360x768",
}
COLUMNS = {
    "published step": "s per guided step, published way",
    "step": "ours",
    "step ratio": "times faster",
    "fast ratio": "fast, times faster",
    "published card": "s per card, published way",
    "card": "ours",
    "card ratio": "times faster",
    "published peak": "peak GiB, published way",
    "peak": "peak GiB, ours",
    "estimate": "estimated GiB",
    "operations": "PFLOP per guided step",
    "floor": "floor, s",
    "step / floor": "step / floor",
    "applied / plain": "applied / plain",
    "fastest / plain": "applied, TaylorSeer, compiled / plain",
    "memory model": "memory model off by, at worst",
}
"""Headings of the cells of `cells_of`, which come in this order."""
KEYS = tuple(COLUMNS)


@dataclasses.dataclass(frozen=True)
class Goal:
    """One line of what must be measured: which cell of which row, and how good."""

    what: str
    row: str
    column: str
    least: float
    aim: float
    upwards: bool = True
    instead: str | None = None
    """The row that counts where the published way does not fit."""


GOALS = (
    Goal("5b training, 24 frames, peak GiB", "5b-24", "peak", 22, 16, upwards=False),
    Goal("5b training, 49 frames, peak GiB", "5b-49", "peak", 22, 20, upwards=False),
    Goal(
        "seconds per guided step, published way / ours",
        "5b-24",
        "step ratio",
        1.5,
        1.8,
        instead="2b-24",
    ),
    Goal("the same with `--recipe fast`", "5b-24", "fast ratio", 2.5, 3.5, instead="2b-24"),
    Goal("seconds per card, published way / ours", "5b-24", "card ratio", 2.3, 4, instead="2b-24"),
    Goal(
        "applied / plain generation, no cache",
        "5b-24",
        "applied / plain",
        1.03,
        1.01,
        upwards=False,
    ),
    Goal(
        "applied with cache and compile / plain",
        "5b-24",
        "fastest / plain",
        0.6,
        0.4,
        upwards=False,
    ),
    Goal("guided step / its compute floor", "5b-24", "step / floor", 2, 1.4, upwards=False),
)


def table(record: dict[str, Any] | None) -> str:
    """The table between the marks."""
    rows = {row["row"]: row for row in record["rows"]} if record else {}
    head = "No GPU has run it yet."
    if record:
        head = (
            f"{record['gpu']}, {record['date']}, torch {record['torch']}, ours capped at "
            f"{record['cap_gib']:.0f} GiB (* where that was not enough: without the cap). "
            f"Generations of {record['generation_steps']} steps, with a cache of "
            f"{record['cache_steps']}."
        )
    lines = [head, "", "| backbone | " + " | ".join(COLUMNS.values()) + " |"]
    lines.append("|---|" + "---|" * len(COLUMNS))
    for key, name in NAMES.items():
        cells = cells_of(rows[key]) if key in rows else [NOTHING] * len(COLUMNS)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *goals(rows)])


def goals(rows: dict[str, Any]) -> list[str]:
    """The table of what must be measured, 5b at the published size unless it says otherwise."""
    lines = ["| goal | at least | aim | measured | |", "|---|---|---|---|---|"]
    for goal in GOALS:
        cell, what = cells_of(rows.get(goal.row, {}))[KEYS.index(goal.column)], goal.what
        theirs = rows.get(goal.row, {}).get("official", {})
        if goal.instead in rows and "out_of_memory" in theirs:
            cell = cells_of(rows[goal.instead])[KEYS.index(goal.column)]
            what += f" (of {NAMES[goal.instead]}: the published way of 5b does not fit this GPU)"
        verdict = ""
        if cell.endswith("*"):
            verdict = "missed: not under the cap"
        elif cell[0].isdigit():
            value = float(cell) if goal.upwards else -float(cell)
            sign = 1 if goal.upwards else -1
            reached = value >= sign * goal.aim, value >= sign * goal.least
            verdict = "aim reached" if reached[0] else "reached" if reached[1] else "missed"
        lines.append(f"| {what} | {goal.least:g} | {goal.aim:g} | {cell} | {verdict} |")
    off = [cuda_memory.worst(row) for row in rows.values()]
    worst = max((value for value in off if value is not None), key=abs, default=None)
    verdict = "" if worst is None else "reached" if abs(worst) <= cuda_memory.WITHIN else "missed"
    cell = NOTHING if worst is None else f"{worst:+.0%}"
    lines.append(f"| memory model, all rows and offload modes | ±15 % | - | {cell} | {verdict} |")
    return lines


def cells_of(row: dict[str, Any]) -> list[str]:
    """One row; a part that ran out of memory, failed or did not run says so."""
    parts = [row.get(name, {}) for name in ("official", "paper", "fast")]
    theirs, ours, fast = (_median(part.get("steps")) for part in parts)
    cards = [part.get("card_seconds") for part in parts]
    seconds = row.get("generation", {})
    plain = _median(seconds.get("plain"))
    long = [seconds.get(n) for n in ("plain, long", "applied, taylorseer, compiled, long")]
    missing = [_missing(part) for part in parts]
    off = cuda_memory.worst(row)
    if "out_of_memory" in parts[0] and "logits_bytes" in row:
        missing[0] += f" ({row['logits_bytes'] / 2**30:.0f} GiB of logits)"
    star = "*" if "without_cap" in parts[1] else ""
    return [
        _number(theirs, missing[0]),
        _number(ours, missing[1]) + star,
        _number(_over(theirs, ours)),
        _number(_over(theirs, fast)),
        _number(cards[0], missing[0]),
        _number(cards[1], missing[1]) + star,
        _number(_over(cards[0], cards[1])),
        _number(parts[0].get("peak_gib"), missing[0]),
        _number(parts[1].get("peak_gib"), missing[1]) + star,
        _number(row.get("estimate_gib")),
        _number(_over(row.get("flops_per_step"), 1e15)),
        _number(row.get("floor_seconds")),
        _number(_over(ours, row.get("floor_seconds"))),
        _number(_over(_median(seconds.get("applied")), plain), _missing(seconds)),
        _number(
            _over(_median(long[1]), _median(long[0])),
            next((_failed(part) for part in long if isinstance(part, str)), _missing(seconds)),
        ),
        NOTHING if off is None else f"{off:+.0%}",
    ]


def _missing(part: dict[str, Any]) -> str:
    if "out_of_memory" in part:
        return OUT_OF_MEMORY
    return "failed" if "error" in part else NOTHING


def _failed(sentence: str) -> str:
    """Of what stands where seconds should."""
    return OUT_OF_MEMORY if sentence.startswith(OUT_OF_MEMORY) else "failed"


def estimates() -> str:
    """What the formulas say of the published sizes: decimal gigabytes, then operations."""
    memory_columns = (
        "parameters",
        "train, `--offload none`",
        "train (`auto`: `model`)",
        "the same, partly recomputed",
        "a little",
        "nothing",
        "train, `--offload group`",
        "apply",
        "apply, `--offload model`",
        "apply, `--offload group`",
        "official: logits",
        "its AMF (logits twice, q, k)",
        "its weights + their gradients",
        "official, at least",
    )
    flops_columns = (
        "a generation",
        "a card: all recomputed",
        "partly",
        "a little",
        "nothing",
        "a card, nothing optimised (`--recipe rich`)",
        "official",
        "a guided step, official / ours: all recomputed",
        "partly",
        "a little",
        "nothing",
    )
    in_memory, operations = {}, {}
    for name, frames in SIZES:
        a = architectures.ARCHITECTURES[name]
        r = memory.Request.of(VARIANTS[name], guided=10, frames=frames, samples=1)
        moved, grouped = (dataclasses.replace(r, offload=kind) for kind in ("model", "group"))
        levels = [memory.train_estimate(a, moved, checkpointing=v) for v in reversed(LEVELS)]
        generation = memory.apply_estimate(a, r)
        peaks = (
            memory.train_estimate(a, r, checkpointing="on"),
            *levels,
            memory.train_estimate(a, grouped, checkpointing="on"),
            generation,
            memory.apply_estimate(a, moved),
            memory.apply_estimate(a, grouped),
        )
        theirs = {key: value / 1e9 for key, value in official.least_bytes(a, r).items()}
        key = f"{name}, {frames} frames"
        in_memory[key] = [
            f"{a.parameters / 1e9:.2f} G",
            *(f"{e.gpu_bytes / 1e9:.1f}" for e in peaks),
            f"{theirs['logits']:.1f}",
            f"{theirs['AMF']:.1f}",
            f"{theirs['weights']:.1f} + {theirs['gradients']:.1f}",
            f"{theirs['AMF'] + theirs['weights'] + theirs['gradients']:.1f}",
        ]
        step = official.step_flops(a, r)
        rest = (r.steps - r.guided) / r.steps * generation.flops
        read = memory.train_flops(a, dataclasses.replace(r, inner=0), checkpointing="off")
        operations[key] = [
            *(f"{e.flops / 1e15:.1f}" for e in (generation, *levels)),
            f"{read / 1e15:.2f}",
            f"{(r.guided * step + rest) / 1e15:.1f}",
            *(f"{step * r.guided / e.flops:.2f}" for e in levels),
        ]
    return (
        "Gigabytes on the GPU:\n\n"
        + _rows(memory_columns, in_memory)
        + "\n\nPFLOP, and what the numbers of operations alone say of the speed:\n\n"
        + _rows(flops_columns, operations)
    )


def _rows(columns: Sequence[str], rows: dict[str, list[str]]) -> str:
    lines = ["| backbone | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    return "\n".join([*lines, *(f"| {key} | " + " | ".join(c) + " |" for key, c in rows.items())])


def _median(values: list[float] | str | None) -> float | None:
    return statistics.median(values) if values and not isinstance(values, str) else None


def _over(a: float | None, b: float | None) -> float | None:
    return a / b if a and b else None


def _number(value: float | None, instead: str = NOTHING) -> str:
    return instead if value is None else f"{value:.3g}"


def write(record: dict[str, Any] | None) -> None:
    """Put the tables into the page."""
    text = PAGE.read_text(encoding="utf-8")
    for name, content in (("cuda", table(record)), ("estimates", estimates())):
        begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
        before, rest = text.split(begin)
        text = f"{before}{begin}\n\n{content}\n\n{end}{rest.split(end)[1]}"
    PAGE.write_text(text, encoding="utf-8", newline="\n")
