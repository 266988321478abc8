"""What `pe apply` says of a camera, against the truth: the score, and the share that a video shows.

    python -m benchmarks.cameras RAW.jsonl                   12 references of zoom, roll and pan
    python -m benchmarks.cameras RAW.jsonl --references 3    fewer; what is there is not made again

Each reference's card (`--recipe rich`) with two unseen pairs, and the same pairs without it; the
truth is the share that the thing shows, of a pan its background (`pe_toolkit.world.class_metrics`).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import kept
from benchmarks.classes import pair
from benchmarks.edits import trained
from benchmarks.following import rank
from benchmarks.transfer import say
from pe_toolkit.apply import generate
from pe_toolkit.backbones import load_backbone
from pe_toolkit.evaluation.following import ReferenceMotion
from pe_toolkit.world.class_metrics import measured
from pe_toolkit.world.motions import scenes_of

TRUTH = {"zoom": "size", "roll": "angle", "pan": "ground"}
PAIRS = 2


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cameras", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("raw", type=Path, metavar="RAW.jsonl")
    parser.add_argument("--references", type=int, default=12)
    args = parser.parse_args()
    adapter = load_backbone("bundled")
    lines = kept.lines(args.raw)
    for name in TRUTH:
        for r, scene in enumerate(scenes_of(name, args.references)):
            if any((line["class"], line["reference"]) == (name, r) for line in lines):
                continue
            for line in clips(adapter, name, r, scene):
                kept.add(args.raw, line)
                lines.append(line)
            say(f"{name} {r + 1}/{args.references}")
        table(name, [line for line in lines if line["class"] == name])


def clips(adapter: Any, name: str, r: int, scene: Any) -> list[dict[str, Any]]:
    """The videos of a reference, with its card and without, scored and measured."""
    card, found = trained(adapter, scene), []
    motion = ReferenceMotion.of_card(adapter, card)
    for row, used in (("card", card), ("plain", None)):
        for p in range(PAIRS):
            prompt, seed = pair(scene, r, p)
            (made,) = generate(adapter, [prompt], [seed], card=used)
            says = motion.compare(made.frames)
            true = measured(made.frames, prompt, scene)[TRUTH[name]]
            line = {"class": name, "reference": r, "pair": p, "row": row, "truth": float(true)}
            found.append(line | {"score": says.score, "share": says.camera})
    return found


def table(name: str, lines: list[dict[str, Any]]) -> None:
    """Of each row the median and spread of score and share; of both the rank correlation."""
    for row in ("card", "plain"):
        own = [line for line in lines if line["row"] == row]
        for what in ("score", "share"):
            values = np.array([line[what] for line in own if line[what] is not None])
            low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
            spread = f"{middle:.2f} [{low:.2f}, {high:.2f}]"
            print(f"{name:5s} {row:5s} {what:5s} n {len(values)}, {spread}")
    for what in ("score", "share"):
        known = [line for line in lines if line[what] is not None and np.isfinite(line["truth"])]
        values, truth = np.array([(line[what], line["truth"]) for line in known]).T
        rho = np.corrcoef(rank(values), rank(truth))[0, 1]
        off = np.median(np.abs(values - truth))
        print(f"{name:5s} {what} with the truth: rank correlation {rho:.2f}, {off:.2f} off")


if __name__ == "__main__":
    main()
