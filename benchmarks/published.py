"""Metrics on published videos: does a score know which clip a video took its motion from?

    git clone https://github.com/ditflow/ditflow.github.io SITE
    python -m benchmarks.published SITE

The page of DiTFlow (arXiv 2412.07776) shows twelve clips of real footage and 35 videos that
CogVideoX made after them, by DiTFlow and, of three clips, by the methods that it compares with.
Every video is compared with every clip: with its own, and with the eleven others as a control.
AUC is the chance that a video of DiTFlow scores better with its own clip than another one does with
another's; `first` how many of these videos score best with their own of all twelve. Points are
followed by the default tracker, in 21 frames of 360x240.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pe_toolkit.evaluation import metric
from pe_toolkit.evaluation import pair as pairing
from pe_toolkit.evaluation.contract import Pair
from pe_toolkit.evaluation.trackers import tracker
from pe_toolkit.evaluation.tracks import Tracks
from pe_toolkit.video import read_clip

FRAMES, SIZE, SIDE = 21, (360, 240), 30
METHODS = ("ditflow", "smm", "moft", "mclone", "injection")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("site", type=Path, help="a clone of ditflow.github.io")
    parser.add_argument("--json", type=Path, help="write every score, a line a pair")
    asked = parser.parse_args()
    rows = measured(asked.site / "supp" / "assets" / "videos")
    if asked.json:
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        asked.json.write_text(lines, encoding="utf-8")
    print(f"{'metric':22s} AUC   first  own, others (medians)   {'  '.join(METHODS)} (own, means)")
    for name in rows[0]["scores"]:
        show(name, rows)


def measured(videos: Path) -> list[dict[str, Any]]:
    """The scores of every video with every clip."""
    clips, made = listed(videos)
    follow = tracker("lk")
    known: dict[Path, tuple[NDArray[np.uint8], Tracks]] = {}

    def followed(path: Path) -> tuple[NDArray[np.uint8], Tracks]:
        if path not in known:
            frames = read_clip(path, frames=FRAMES, size=SIZE, fit="stretch").frames
            known[path] = frames, pairing.tracks_of(frames, follow, SIDE)
        return known[path]

    rows = []
    for path, own, method in made:
        for name, clip in clips.items():
            (a, tracks_a), (b, tracks_b) = followed(clip), followed(path)
            two = pairing.with_tracks(Pair(a, b), tracks_a, tracks_b)
            scores = {r.name: r.value for r in pairing.score(two, pairing.default_names(two))}
            rows.append(
                {"video": path.name, "method": method, "clip": name, "own": name == own}
                | {"scores": scores}
            )
    return rows


def listed(videos: Path) -> tuple[dict[str, Path], list[tuple[Path, str, str]]]:
    """The clips by name; videos with the clip that each was made after, and by which method."""
    clips, made = {}, []
    for folder in sorted(videos.glob("5b_*/*")) + sorted(videos.glob("baselines/*")):
        (clip,) = folder.glob("*_ref.mp4")
        clips[clip.stem.removesuffix("_ref")] = clip
    for folder in sorted(videos.glob("*/*")):
        if folder.parent.name in ("ablations",) or not folder.is_dir():
            continue
        for path in sorted(folder.glob("*.mp4")):
            own = next(name for name in clips if name in path.stem)
            last = path.stem.rsplit("_", 1)[1]
            method = last if folder.parent.name == "baselines" else "ditflow"
            if "_inject_" in path.stem:
                method = "ditflow, zero-shot"
            if last != "ref":
                made.append((path, own, method))
    return clips, made


def show(name: str, rows: list[dict[str, Any]]) -> None:
    sign = -1 if metric(name).better == "lower" else 1
    known = [r | {"score": r["scores"][name]} for r in rows if r["scores"][name] is not None]
    ours = [r for r in known if r["method"] == "ditflow"]
    own, other = ([r["score"] for r in ours if r["own"] is mine] for mine in (True, False))
    if not own or not other:
        print(f"{name:22s} not defined")
        return
    difference = sign * (np.array(own)[:, None] - np.array(other))
    auc = (difference > 0).mean() + 0.5 * (difference == 0).mean()
    videos = {r["video"] for r in ours}
    best = [
        max((r for r in ours if r["video"] == v), key=lambda r: sign * r["score"]) for v in videos
    ]
    first = sum(r["own"] for r in best)
    means = []
    for method in METHODS:
        of = [r["score"] for r in known if r["method"] == method and r["own"] and _compared(r)]
        means.append(f"{np.mean(of):7.3f}" if of else "      -")
    print(
        f"{name:22s} {auc:.2f}  {first:2d}/{len(videos)}  {np.median(own):7.3f} "
        f"{np.median(other):7.3f}          {'  '.join(means)}"
    )


def _compared(row: dict[str, Any]) -> bool:
    """Whether the video is of one of the three clips that all methods were shown with."""
    return row["video"].rsplit("_", 1)[1].removesuffix(".mp4") in METHODS


if __name__ == "__main__":
    main()
