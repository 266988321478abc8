"""Settings of a training against each other, on the same references, prompts and seeds.

    python -m benchmarks.paired RAW.jsonl "recipe=rich" "recipe=rich K=3 lr=0.02,0.01"
    python -m benchmarks.paired RAW.jsonl "mode=latents" "mode=latents objective=smm"
    python -m benchmarks.paired RAW.jsonl --motion two "recipe=rich" "recipe=rich K=3 param=angle"

Every row is one training of each reference: its first sample denoised to the end (*own sample*),
and, of positions, two unseen (prompt, seed) pairs (*zero-shot*). A row is written as settings:
`mode=`, `recipe=`, `samples=`, `steps=`, and whatever `pe train --set` takes. Differences are
paired by reference, against the first row. RAW.jsonl keeps every measurement: what is
there is not measured again, so that a run may be stopped, continued, and given more rows.

The references are those of `benchmarks.transfer` unless `--seed` says otherwise, or with `--motion`
those of a class of motion (`benchmarks.classes`), with its pairs; the number is then the class's
first: of a zoom and a roll the share of the true change, else a cosine.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import kept
from benchmarks.classes import pair
from benchmarks.transfer import (
    interval,
    pairs,
    references,
    run_training,
    say,
    truth_of,
)
from pe_toolkit.apply import generate
from pe_toolkit.backbones import load_backbone
from pe_toolkit.training import TrainConfig
from pe_toolkit.world.attributes import seen
from pe_toolkit.world.class_metrics import measured as measured_by_class
from pe_toolkit.world.metrics import measure
from pe_toolkit.world.motions import CLASSES, scenes_of
from pe_toolkit.world.scenes import Scene
from pe_toolkit.world.vocabulary import TRAINING_PROMPTS

FIELDS = ("cosine", "trajectory_error", "visibility", "adherent", "colour_ok", "shape_ok")
OWN, NEW = "own sample", "zero-shot"
TRAINED = 100
"""Pairs of a reference of a class from this number on are for training."""


def config_of(row: str, variant: Any, reference: int, scene: Scene | None = None) -> TrainConfig:
    """What a row asks of the training of a reference: other samples for each of them; with a scene,
    prompts that suit its class.
    """
    settings = dict(part.split("=", 1) for part in row.split())
    fields: dict[str, Any] = {
        "mode": settings.pop("mode", "positions"),
        "recipe": settings.pop("recipe", "default"),
        "parametrisation": settings.pop("param", None),
    }
    for name in ("samples", "steps"):
        if name in settings:
            fields[name] = int(settings.pop(name))
    count = TrainConfig(**fields).with_overrides(settings).resolve(variant).samples
    prompts = [TRAINING_PROMPTS[(reference + i) % len(TRAINING_PROMPTS)] for i in range(count)]
    if scene is not None:
        prompts = [pair(scene, reference, TRAINED + i)[0] for i in range(count)]
    # The first sample is the same in every row, however many a row has.
    config = TrainConfig(
        **fields, prompts=tuple(prompts), seed=2 * reference, preview=True
    ).with_overrides(settings)
    return config


Numbers = Callable[[NDArray[np.uint8], str, Scene], dict[str, float]]


def numbers(frames: NDArray[np.uint8], prompt: str, scene: Scene) -> dict[str, float]:
    """A clip of one thing against the way of the reference's."""
    found = measure(frames, prompt, truth_of(scene))
    return {name: float(getattr(found, name)) for name in FIELDS}


def numbers_by_class(frames: NDArray[np.uint8], prompt: str, scene: Scene) -> dict[str, float]:
    """The same of a class of motion; what has no error has none."""
    found = measured_by_class(frames, prompt, scene)
    first = next(found[key] for key in ("cosine", "size", "angle", "ground_cosine") if key in found)
    what = seen(frames, prompt, leaning=scene.family == "roll")
    return {
        "cosine": first,
        "trajectory_error": found.get("error", float("nan")),
        "visibility": found["visibility"],
        "adherent": float(what.adherent),
        "colour_ok": float(what.colour_ok),
        "shape_ok": float(what.shape_ok),
    }


def measured(raw: Path, motion: str | None = None) -> list[dict[str, Any]]:
    """What there is already, of that class."""
    return [entry for entry in kept.lines(raw) if entry.get("motion") == motion]


def world(args: argparse.Namespace) -> tuple[list[Scene], list[list[tuple[str, int]]], Numbers]:
    """The references, the pairs of each, and what measures a clip."""
    count, per = args.references, args.pairs
    if args.motion is None:
        pool = pairs(count * per)
        scenes = references(count, args.seed)
        return scenes, [pool[r * per : (r + 1) * per] for r in range(count)], numbers
    scenes = scenes_of(args.motion, count)
    own = [[pair(scene, r, k) for k in range(per)] for r, scene in enumerate(scenes)]
    return scenes, own, numbers_by_class


def run(args: argparse.Namespace) -> None:
    """Measure what is missing, reference by reference, so that rows stay comparable throughout."""
    adapter, rows, raw = load_backbone(args.backbone), args.rows, args.raw
    scenes, pool, measured_as = world(args)
    have = {(m["row"], m["reference"]) for m in measured(raw, args.motion)}
    raw.parent.mkdir(parents=True, exist_ok=True)
    for r, scene in enumerate(scenes):
        for row in rows:
            if (row, r) in have:
                continue
            config = config_of(row, adapter.defaults(), r, scene if args.motion else None)
            card, preview, seconds = run_training(adapter, scene, config)
            entry: dict[str, Any] = {"row": row, "reference": r, "family": scene.family}
            if args.motion:
                entry["motion"] = args.motion
            entry["seconds"] = round(seconds, 2)
            entry["loss"] = card.spec.training.loss
            entry[OWN] = [measured_as(preview, card.spec.samples[0].prompt, scene)]
            if card.spec.kind == "positions":
                entry[NEW] = [
                    measured_as(video.frames, prompt, scene)
                    for prompt, s in pool[r]
                    for video in generate(adapter, [prompt], [s], card=card)
                ]
            kept.add(raw, entry)
            shown = {k: [round(m["cosine"], 2) for m in entry[k]] for k in (OWN, NEW) if k in entry}
            say(f"{r + 1}/{len(scenes)} {scene.family}: {row}: {shown}, {seconds:.0f} s")


def values(entries: list[dict[str, Any]], row: str, kind: str, name: str) -> dict[int, float]:
    """Mean of a reference's measurements, by reference."""
    out = {}
    for entry in entries:
        if entry["row"] == row and kind in entry:
            found = [m[name] for m in entry[kind]]
            if np.isfinite(found).any():
                out[entry["reference"]] = float(np.nanmean(found))
            elif name == "cosine":  # nothing was seen; of an error there is none
                out[entry["reference"]] = 0.0
    return out


def table(rows: list[str], raw: Path, motion: str | None = None) -> str:
    """Markdown: every row, and its difference to the first one."""
    entries = measured(raw, motion)
    lines = [
        "| settings | n | own sample: cosine | error | right | zero-shot: cosine | error | right "
        "| own minus first | zero-shot minus first | s |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [f"`{row}`", str(len(values(entries, row, OWN, "cosine")))]
        for kind in (OWN, NEW):
            for name in ("cosine", "trajectory_error", "adherent"):
                found = values(entries, row, kind, name)
                cells.append(_spread(found) if name == "cosine" else _mean(found))
        for kind in (OWN, NEW):
            mine, first = (values(entries, x, kind, "cosine") for x in (row, rows[0]))
            both = sorted(set(mine) & set(first))
            cells.append("" if row == rows[0] else _spread({r: mine[r] - first[r] for r in both}))
        seconds = [e["seconds"] for e in entries if e["row"] == row]
        cells.append(f"{np.median(seconds):.0f}" if seconds else "")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _spread(found: dict[int, float]) -> str:
    if not found:
        return ""
    mean, low, high = interval(np.array(list(found.values())), np.array(list(found)))
    return f"{mean:.2f} [{low:.2f}, {high:.2f}]"


def _mean(found: dict[int, float]) -> str:
    return f"{np.mean(list(found.values())):.3f}" if found else ""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.paired",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("raw", type=Path, metavar="RAW.jsonl")
    parser.add_argument("rows", nargs="+", metavar="ROW")
    parser.add_argument("--backbone", default="bundled")
    parser.add_argument("--references", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument(
        "--seed", type=int, default=20261121, help="of the references, without --motion"
    )
    parser.add_argument("--motion", choices=CLASSES, help="references and pairs of this class")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    args = parser.parse_args()
    if not args.table:
        made = {"backbone": args.backbone, "pairs": args.pairs, "seed": args.seed}
        kept.same_settings(args.raw.with_suffix(".settings.json"), made)
        run(args)
    print(table(args.rows, args.raw, args.motion))


if __name__ == "__main__":
    main()
