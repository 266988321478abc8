"""Seconds that users feel: light commands, `pe train` + `pe apply`, and what an applied card costs.

python -m benchmarks.speed [--runs 5] [--card CARD]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from pe_toolkit.apply import generate
from pe_toolkit.backbones import load_backbone
from pe_toolkit.card import MotionCard
from pe_toolkit.video import write_video
from pe_toolkit.world.scenes import render, sample_scene

PROMPT = "a yellow square on a black background"


def pe(*arguments: str) -> float:
    """Wall seconds of one `pe` command, process start included."""
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "pe_toolkit", *arguments], check=True, capture_output=True
    )
    return time.perf_counter() - began


def show(name: str, seconds: list[float]) -> None:
    print(
        f"{name:40s} median {statistics.median(seconds):7.2f} s "
        f"[{min(seconds):.2f}, {max(seconds):.2f}] n = {len(seconds)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_video(
            folder / "ref.mp4", render(sample_scene(np.random.default_rng(1), ("curve",))), 16
        )
        card = str(folder / "card.safetensors")
        train = ["train", str(folder / "ref.mp4"), "-o", card, "--force", "--backbone", "bundled"]
        apply = ["apply", card, "--prompt", PROMPT, "-o", str(folder / "out.mp4"), "--force"]
        both = [(pe(*train), pe(*apply)) for _ in range(max(1, runs // 2))]
        show("pe train", [a for a, _ in both])
        show("pe apply", [b for _, b in both])
        show("pe train + pe apply", [a + b for a, b in both])
        for command in (["--help"], ["show", card], ["verify", card]):
            show(f"pe {command[0]}", [pe(*command) for _ in range(runs)])
        adapter, motion = load_backbone("bundled"), MotionCard.load(card)
        plain, applied = [], []
        for seed in range(runs + 1):
            plain.append(next(iter(generate(adapter, [PROMPT], [seed]))).seconds)
            applied.append(next(iter(generate(adapter, [PROMPT], [seed], card=motion))).seconds)
        plain, applied = plain[1:], applied[1:]  # the first pair warms up
        show("plain generation", plain)
        show("applied generation", applied)
        ratios = [a / b for a, b in zip(applied, plain, strict=True)]
        print(
            f"applied / plain: {statistics.median(applied) / statistics.median(plain):.3f} of "
            "medians, "
            f"pairs [{min(ratios):.3f}, {max(ratios):.3f}]"
        )


if __name__ == "__main__":
    main()
