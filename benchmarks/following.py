"""How well does the score of `pe apply` predict the true cosine, which it cannot see?

    python -m benchmarks.following                  10 references: 39 clips
    python -m benchmarks.following --references 3   fewer

Clips of the bundled backbone without a card, with the reference's own card (recipe fast) and with
that of another reference; the truth is the rendered trajectory. "all pairs": every clip against
every reference, which costs no generation.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.transfer import pairs, references, run_training, say, truth_of
from pe_toolkit.apply import generate
from pe_toolkit.backbones import load_backbone
from pe_toolkit.evaluation.following import ReferenceMotion
from pe_toolkit.training import TrainConfig
from pe_toolkit.world.metrics import measure

Values = NDArray[np.float64]


def rank(values: Values) -> Values:
    return np.argsort(np.argsort(values)).astype(np.float64)


def line(name: str, rows: list[tuple[str, float | None, float]]) -> str:
    """Rank correlation, correlation and mean distance of (kind, score, truth)."""
    known = [(score, truth) for _, score, truth in rows if score is not None]
    scores, truths = np.array(known).T
    rho = np.corrcoef(rank(scores), rank(truths))[0, 1]
    r = np.corrcoef(scores, truths)[0, 1]
    off = np.abs(scores - truths).mean()
    return (
        f"{name:20s} n {len(known)} of {len(rows)}, rank correlation {rho:.2f}, "
        f"correlation {r:.2f}, mean distance {off:.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.following", description=__doc__)
    parser.add_argument("--references", type=int, default=10)
    count = parser.parse_args().references
    adapter = load_backbone("bundled")
    scenes, pool = references(count), pairs(4 * count)
    config = TrainConfig(recipe="fast")
    clips: list[tuple[int, str, str, Any]] = []
    motions, cards = [], []
    for r, scene in enumerate(scenes):
        card, _, _ = run_training(adapter, scene, config)
        cards.append(card)
        motions.append(ReferenceMotion.of_card(adapter, card))
        plan = [("none", None, 0), ("own", card, 0), ("own", card, 1)]
        if r:
            plan.append(("other", cards[r - 1], 0))
        for kind, used, number in plan:
            prompt, seed = pool[4 * r + number]
            (made,) = generate(adapter, [prompt], [seed], card=used)
            clips.append((r, kind, prompt, made.frames))
        say(f"{r + 1}/{count} {scene.family}")
    own, crossed = [], []
    for r, kind, prompt, frames in clips:
        for other, motion in enumerate(motions):
            truth = measure(frames, prompt, truth_of(scenes[other])).cosine
            row = (kind, motion.compare(frames).score, truth)
            crossed.append(row)
            if other == r:
                own.append(row)
    print(line("own reference", own))
    print(line("all pairs", crossed))
    for kind in ("own", "other", "none"):
        scores = [s for k, s, _ in own if k == kind and s is not None]
        truths = [t for k, _, t in own if k == kind]
        print(f"{kind:6s} score {np.mean(scores):.2f}, truth {np.mean(truths):.2f}")
    chance = [s for k, s, _ in own if k != "own" and s is not None]
    low, middle, high = np.quantile(chance, [0.05, 0.5, 0.95])
    print(f"without the own card: median {middle:.2f}, 5 to 95 %: {low:.2f} to {high:.2f}")


if __name__ == "__main__":
    main()
