"""Which metric can tell that a motion was transferred, and with how many clips?

    python -m benchmarks.metrics --work DIR      24 references, 2 videos with a card and 2 without
    python -m benchmarks.metrics --trackers      trackers against true tracks instead

Cards of `--recipe rich` on the bundled backbone; the same prompts and seeds with and without a
card; references, prompts and seeds as in `benchmarks.transfer`. Clips, tracks and scores are kept
in DIR, so that a second run goes on where the first one stopped. Each metric compares the video
with its reference; the area under the curve (AUC) is the chance that a video with the card scores
better than one without (0.5 where it says nothing, also where it is not defined), over all pairs
of them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.transfer import pairs, references, run_training, truth_of
from pe_toolkit.evaluation import METRICS, metric
from pe_toolkit.evaluation import pair as pairing
from pe_toolkit.evaluation.contract import Pair
from pe_toolkit.evaluation.directions import mf_official
from pe_toolkit.evaluation.trackers import tracker
from pe_toolkit.evaluation.trackers.base import grid_points
from pe_toolkit.evaluation.tracks import Tracks, load_tracks, save_tracks
from pe_toolkit.video import write_image
from pe_toolkit.world.points import true_points
from pe_toolkit.world.scenes import (
    HELD_OUT_FAMILIES,
    TRAIN_FAMILIES,
    Scene,
    render,
    sample_scene,
)
from pe_toolkit.world.vocabulary import TRAINING_PROMPTS

ROOT = Path(__file__).parent.parent
KINDS = ("card", "plain")
PER = 2
NOISE = 0.05
"""Pixels of noise for `mf_official, noise`: a learned tracker never returns the very same place
twice, so its tracks of points at rest are noise and not NaN."""
OTHER = 7
"""References on: the one that a video with a card is compared with as a control."""
DRAWS = 2000


def make(work: Path, count: int) -> None:
    """Cards and videos that are not in `work` yet."""
    missing = [r for r in range(count) if not all(f.exists() for f in videos_of(work, r))]
    if not missing:
        return
    from pe_toolkit.apply import generate
    from pe_toolkit.backbones import load_backbone
    from pe_toolkit.card import MotionCard
    from pe_toolkit.training import TrainConfig

    adapter = load_backbone("bundled")
    assert adapter.variant is not None
    config = TrainConfig(recipe="rich")
    samples = config.resolve(adapter.variant).samples
    scenes, pool = references(count), pairs(count * PER)
    for r in missing:
        kept = work / f"card-{r:02d}.safetensors"
        if not kept.exists():
            prompts = tuple(
                TRAINING_PROMPTS[(r + i) % len(TRAINING_PROMPTS)] for i in range(samples)
            )
            own = dataclasses.replace(config, prompts=prompts, seed=samples * r)
            run_training(adapter, scenes[r], own)[0].save(kept)
        card = MotionCard.load(kept)
        for k, (prompt, seed) in enumerate(pool[r * PER : (r + 1) * PER]):
            for kind, used in (("card", card), ("plain", None)):
                if not (path := video_at(work, kind, r, k)).exists():
                    (made,) = generate(adapter, [prompt], [seed], card=used)
                    whole(path, lambda file, frames=made.frames: np.save(file, frames))
        say(f"made {r + 1}/{count} {scenes[r].family}")


def video_at(work: Path, kind: str, r: int, k: int) -> Path:
    return work / f"{kind}-{r:02d}-{k}.npy"


def videos_of(work: Path, r: int) -> list[Path]:
    return [video_at(work, kind, r, k) for kind in KINDS for k in range(PER)]


def whole(path: Path, write: Any) -> None:
    """A file that is there only when it is complete."""
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        write(file)
    os.replace(part, path)


def tracks_of(work: Path, name: str, frames: NDArray[np.uint8]) -> Tracks:
    """Tracks of a clip by the default tracker, kept."""
    path = work / f"tracks-{name}.npz"
    if not path.exists():
        starts = grid_points(frames.shape[2], frames.shape[1], pairing.GRID)
        save_tracks(path, tracker("lk").track(frames, starts))
    return load_tracks(path)


def scores_of(work: Path, count: int) -> list[dict[str, Any]]:
    """One row of scores per video, of those that are made: those of videos with a card also
    against another reference.
    """
    scenes, pool = references(count), pairs(count * PER)
    clips = [render(scene) for scene in scenes]
    rows = []
    for r in range(count):
        for kind in KINDS:
            for k in range(PER):
                if not video_at(work, kind, r, k).exists():
                    continue
                for against in (r, (r + OTHER) % count) if kind == "card" else (r,):
                    path = work / f"score-{kind}-{r:02d}-{k}-{against:02d}.json"
                    if not path.exists():
                        row = one(work, kind, r, k, against, scenes, clips, pool[r * PER + k][0])
                        whole(path, lambda file, row=row: file.write(json.dumps(row).encode()))
                        say(f"scored {path.stem}")
                    rows.append(json.loads(path.read_text()))
    return rows


def one(
    work: Path,
    kind: str,
    r: int,
    k: int,
    against: int,
    scenes: list[Scene],
    clips: list[NDArray[np.uint8]],
    prompt: str,
) -> dict[str, Any]:
    """The scores of one video against one reference."""
    video = np.load(video_at(work, kind, r, k))
    unrelated = tuple(clips[(against + step) % len(clips)] for step in (3, 5, 11))
    two = Pair(
        clips[against], video, prompt=prompt, truth=truth_of(scenes[against]), unrelated=unrelated
    )
    a = tracks_of(work, f"reference-{against:02d}", clips[against])
    b = tracks_of(work, f"{kind}-{r:02d}-{k}", video)
    two = pairing.with_tracks(two, a, b)
    found = {x.name: x.value for x in pairing.score(two, pairing.default_names(two))}
    rng = np.random.default_rng(r)
    noisy = [t.points + rng.normal(0, NOISE, t.points.shape) for t in (a, b)]
    found["mf_official, noise"] = mf_official(*noisy)
    label = "other" if against != r else kind
    return {"kind": label, "reference": r, "family": scenes[r].family, "scores": found}


def auc(good: NDArray[np.float64], bad: NDArray[np.float64], sign: float) -> float:
    """Chance that one of `good` is better than one of `bad`; undefined ones are worth half."""
    a, b = sign * good[:, None], sign * bad[None]
    return float(np.where(np.isnan(a + b), 0.5, (a > b) + 0.5 * (a == b)).mean())


def table(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Per metric: AUC with and without a card, own and other reference, with 95 % intervals over
    references; references until the means are in order; rank correlation with the true cosine.
    """
    names = list(rows[0]["scores"])
    done = sorted({row["reference"] for row in rows})
    complete = [r for r in done if sum(row["reference"] == r for row in rows) == 3 * PER]
    cells = {
        (name, kind, r): np.array([
            np.nan if row["scores"][name] is None else row["scores"][name]
            for row in rows if row["kind"] == kind and row["reference"] == r
        ])
        for name in names for kind in ("card", "plain", "other") for r in complete
    }  # fmt: skip
    out = {}
    for name in names:
        row = METRICS.get(name.partition(",")[0])
        assert row is not None
        sign = -1.0 if metric(name.partition(",")[0]).better == "lower" else 1.0
        values = {k: [cells[name, k, r] for r in complete] for k in ("card", "plain", "other")}
        out[name] = {
            "auc": spread(values["card"], values["plain"], sign),
            "auc against another reference": spread(values["card"], values["other"], sign),
            "undefined": round(float(np.isnan(np.concatenate(values["card"])).mean()), 3),
            "references": needed(values["card"], values["plain"], sign),
            "means": [round(float(np.nanmean(np.concatenate(values[k]))), 3)
                      if not np.isnan(np.concatenate(values[k])).all() else None
                      for k in ("card", "plain", "other")],
            "rank correlation": rank_correlation(rows, name, sign),
        }  # fmt: skip
    return {"references": len(complete), "metrics": out}


def spread(good: list[Any], bad: list[Any], sign: float) -> list[float]:
    """AUC and its 95 % bootstrap interval, whole references drawn."""
    rng = np.random.default_rng(0)
    n, drawn = len(good), []
    for _ in range(DRAWS):
        pick = rng.integers(n, size=n)
        a, b = (np.concatenate([side[i] for i in pick]) for side in (good, bad))
        drawn.append(auc(a, b, sign))
    middle = auc(np.concatenate(good), np.concatenate(bad), sign)
    return [round(float(v), 3) for v in (middle, *np.quantile(drawn, [0.025, 0.975]))]


def needed(good: list[Any], bad: list[Any], sign: float) -> int | None:
    """References, one video each, until the mean with cards is better than without in 95 % of
    draws; None: more than 200.
    """
    rng = np.random.default_rng(0)
    a, b = (np.array([side[i][0] for i in range(len(good))]) * sign for side in (good, bad))
    known = np.isfinite(a) & np.isfinite(b)
    if known.sum() < 3:
        return None
    gap = (a - b)[known]
    for n in range(1, 201):
        means = rng.choice(gap, (DRAWS, n)).mean(1)
        if (means > 0).mean() >= 0.95:
            return n
    return None


def rank_correlation(rows: list[dict[str, Any]], name: str, sign: float) -> float | None:
    found = [(row["scores"][name], row["scores"]["true_cosine"]) for row in rows]
    known = np.array([p for p in found if None not in p], float)
    if len(known) < 10:
        return None
    ranks = [np.argsort(np.argsort(column)) for column in (sign * known[:, 0], known[:, 1])]
    return round(float(np.corrcoef(*ranks)[0, 1]), 2)


def trackers(count: int = 2) -> None:
    """Trackers against true tracks on rendered clips of all families."""
    rng = np.random.default_rng(5)
    families = TRAIN_FAMILIES + HELD_OUT_FAMILIES
    scenes = [sample_scene(rng, (family,)) for family in families for _ in range(count)]
    starts = grid_points(128, 128, 24)
    print("| tracker | points | error, median | 90 % | in the last frame | found | s a clip |")
    print("|---|---|---|---|---|---|---|")
    for name in ("lk", "dis"):
        cells: dict[str, list[Any]] = {"moving": [], "at rest": []}
        began = time.process_time()
        for scene in scenes:
            points, seen, _ = true_points(scene, starts, 128)
            tracks = tracker(name).track(render(scene), starts)
            error = np.linalg.norm(tracks.points - points, axis=2)
            both = seen & tracks.visible
            moves = np.linalg.norm(np.diff(points, axis=1), axis=2).sum(1) > 4
            for label, mine in (("moving", moves), ("at rest", ~moves)):
                kept = both[mine]
                cells[label].append(
                    (error[mine][:, 1:][kept[:, 1:]], error[mine, -1][kept[:, -1]],
                     tracks.visible[mine][seen[mine]])
                )  # fmt: skip
        seconds = (time.process_time() - began) / len(scenes)
        for label, found in cells.items():
            every, last, visible = (np.concatenate(part) for part in zip(*found, strict=True))
            print(
                f"| `{name}` | {label} | {np.median(every):.2f} | {np.quantile(every, 0.9):.2f} "
                f"| {np.median(last):.2f} | {visible.mean():.0%} | {seconds:.1f} |"
            )


def print_table(result: dict[str, Any]) -> None:
    print(f"{result['references']} references, {PER} videos each with and without a card")
    print("| metric | AUC, card or none | AUC, own or other reference | references needed "
          "| rank correlation | mean: card, none, other |")  # fmt: skip
    print("|---|---|---|---|---|---|")
    for name, row in result["metrics"].items():
        first, second = (
            f"{row[key][0]:.2f} [{row[key][1]:.2f}, {row[key][2]:.2f}]"
            for key in ("auc", "auc against another reference")
        )
        gaps = f", undefined {row['undefined']:.0%}" if row["undefined"] else ""
        means = ", ".join("-" if v is None else f"{v:.2f}" for v in row["means"])
        print(f"| `{name}` | {first}{gaps} | {second} | {row['references'] or '-'} "
              f"| {row['rank correlation']} | {means} |")  # fmt: skip


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.metrics", description=__doc__)
    parser.add_argument("--work", type=Path, help="where clips, tracks and scores are kept")
    parser.add_argument("--references", type=int, default=24)
    parser.add_argument("--trackers", action="store_true")
    parser.add_argument("--score-only", action="store_true", help="make no clips")
    parser.add_argument("--json", type=Path, help="write the table here")
    parser.add_argument("--plot", type=Path, help="write the picture here")
    args = parser.parse_args()
    if args.trackers:
        trackers()
        return
    if args.work is None:
        parser.error("--work DIR or --trackers")
    args.work.mkdir(parents=True, exist_ok=True)
    if not args.score_only:
        make(args.work, args.references)
    rows = scores_of(args.work, args.references)
    result = table(rows)
    print_table(result)
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    if args.plot:
        from benchmarks.metrics_plot import strips

        write_image(args.plot, strips(rows, result["metrics"]), force=True)


if __name__ == "__main__":
    main()
