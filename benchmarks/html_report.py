"""A report of many pairs, and how soon a browser can use it.

    python -m benchmarks.html_report DIR [--pairs 100]

Renders clips of the bundled world (200x200, 49 frames), writes DIR/report.html with a reference, a
plain and a card video for each pair and 64 tracks on every one, opens it in headless Chromium
(package `playwright`, /usr/bin/chromium), and prints sizes and times. The videos are kept: a second
run writes the page from them.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from pe_toolkit.evaluation.records import ScoredVideo
from pe_toolkit.evaluation.report import Column, write_report
from pe_toolkit.evaluation.report.media import Frames
from pe_toolkit.video import write_video
from pe_toolkit.world.scenes import render, sample_scene

COLUMNS = {
    "fidelity": Column("fidelity", "higher", "How alike the motions are, from 0 to 1."),
    "error": Column("error", "lower", "Distance of the paths, in shares of the picture."),
}
SIDE = 200
"""Pixels: as large as a report shows videos; larger ones only take longer to make small."""


PLAYS = """() => new Promise((done) => {
  const video = document.querySelector("video");
  const look = () => video.currentTime > 0 ? done() : setTimeout(look, 20);
  look();
})"""
"""Playwright's own waiting evaluates text, which the policy of the page forbids."""


def grid_tracks(frames: Frames) -> tuple[np.ndarray, np.ndarray]:
    """64 points that drift: as much text as a tracker gives."""
    count, height, width = frames.shape[:3]
    x, y = np.meshgrid(np.linspace(10, width - 30, 8), np.linspace(10, height - 30, 8))
    start = np.stack([x.ravel(), y.ravel()], 1)[:, None]
    return start + np.arange(count)[None, :, None] * 0.4, np.ones((64, count), bool)


def make(folder: Path, pairs: int) -> list[ScoredVideo]:
    """Videos, rendered unless they are there, and made-up scores."""
    rng = np.random.default_rng(0)
    records = []
    for index in range(pairs):
        paths = []
        for name in ("reference", "none", "rich"):
            path = folder / f"{name}-{index}.mp4"
            if not path.exists():
                scene = sample_scene(np.random.default_rng((index, *name.encode())), frames=49)
                write_video(path, render(scene, SIDE), 8)
            paths.append(path.name)
        for method, video, base in zip(("none", "rich"), paths[1:], (0.3, 0.8), strict=True):
            scores = {
                "fidelity": round(float(rng.normal(base, 0.1)), 4),
                "error": round(float(rng.normal(0.3 - base / 4, 0.03)), 4),
            }
            records.append(
                ScoredVideo(
                    f"clip-{index}", paths[0], ("Caption", "Subject", "Scene")[index % 3],
                    f"a shape that moves, number {index}", index, method, video, scores, 12.5,
                )
            )  # fmt: skip
    return records


def use(page: Path) -> dict[str, float]:
    """Seconds from the request of the page to a video that plays, and to a sorted table."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path="/usr/bin/chromium",
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        tab = browser.new_page(viewport={"width": 1280, "height": 900})
        began = time.perf_counter()
        tab.goto(page.resolve().as_uri(), wait_until="commit")
        tab.wait_for_selector("video")
        found = {"first video in the page": time.perf_counter() - began}
        tab.evaluate(PLAYS)
        found["first video plays"] = time.perf_counter() - began
        tab.click("#table th:nth-child(6) button")
        tab.wait_for_selector("#table th[aria-sort]")
        found["table sorted"] = time.perf_counter() - began
        tab.wait_for_load_state("load")
        found["whole page loaded"] = time.perf_counter() - began
        browser.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pairs", type=int, default=100)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    records = make(args.folder, args.pairs)
    began = time.perf_counter()
    written = write_report(
        args.folder / "report.html", records, args.folder, title="Motion transfer, rendered clips",
        columns=COLUMNS, track=grid_tracks, force=True,
    )  # fmt: skip
    print(f"{written.videos} videos, {written.size / 1e6:.1f} MB, "
          f"written in {time.perf_counter() - began:.1f} s")  # fmt: skip
    for name, seconds in use(written.path).items():
        print(f"{name}: {seconds:.2f} s")


if __name__ == "__main__":
    main()
