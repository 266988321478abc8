"""What the step caches save and cost on the bundled backbone; also measures MagCache's ratios.

    python -m benchmarks.caches                 # the table
    python -m benchmarks.caches --calibrate     # write pe_toolkit/acceleration/mag_ratios.json

From the root of the repository. Threshold caches mean nothing on random weights, so this needs the
trained ones. Runs are interleaved, and CPU seconds are given as ratios to the same run without a
cache; the error is that of the frames against those without a cache, same prompt and seed.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from pe_toolkit.acceleration import CACHES, ratios
from pe_toolkit.apply import generate
from pe_toolkit.backbones import CogVideoXAdapter, load_backbone
from pe_toolkit.backbones.cogvideox.sampling import CogVideoXSampler
from pe_toolkit.card import MotionCard
from pe_toolkit.training import TrainConfig, train
from pe_toolkit.video import read_clip, write_video
from pe_toolkit.world.scenes import render, sample_scene
from pe_toolkit.world.vocabulary import TRAINING_PROMPTS

BACKBONES = ("bundled", "bundled-absolute")
CALIBRATION_STEPS = 25
PROMPTS = ("a yellow square on a black background", "a red circle on a grey background")


def calibrate(generations: int) -> None:
    """Measure the residual's size along the schedule and write it for the package."""
    table = {}
    for name in BACKBONES:
        adapter = load_backbone(name)
        prompts = [TRAINING_PROMPTS[i % len(TRAINING_PROMPTS)] for i in range(generations)]

        def call(adapter: CogVideoXAdapter = adapter, prompts: list[str] = prompts) -> None:
            for seed, prompt in enumerate(prompts):
                denoise(adapter, prompt, seed)

        row = ratios.measure(adapter.transformer, call)
        table[name] = {"weights": adapter.weights_digest, "generations": generations, **row}
        print(f"{name}: {len(row['timesteps'])} timesteps, {generations} generations")
    ratios.FILE.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    print(f"written: {ratios.FILE}")


def denoise(adapter: CogVideoXAdapter, prompt: str, seed: int) -> None:
    """A plain generation without decoding, with the backbone's own defaults."""
    variant = adapter.variant
    assert variant is not None
    sampler = CogVideoXSampler(
        adapter,
        [prompt],
        [seed],
        steps=CALIBRATION_STEPS,
        guidance_scale=variant.guidance_scale,
        dynamic_cfg=variant.dynamic_cfg,
        frames=variant.frames,
        width=variant.width,
        height=variant.height,
    )
    for index in range(CALIBRATION_STEPS):
        sampler.step(index)


def card_for(adapter: CogVideoXAdapter) -> MotionCard:
    """A card of a rendered clip; two inner steps are enough to have something that acts."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "ref.mp4"
        write_video(path, render(sample_scene(np.random.default_rng(1), ("curve",))), 16)
        clip = read_clip(path, frames=adapter.frames, size=adapter.size)
    config = TrainConfig(samples=1, inner_steps=1)
    *_, last = train(adapter, clip, config)
    card = last.card  # type: ignore[union-attr]
    assert isinstance(card, MotionCard)
    return card


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    error = float(np.mean((a.astype(float) - b.astype(float)) ** 2))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def measure(adapter: CogVideoXAdapter, card: MotionCard | None, steps: int, seeds: int) -> None:
    """One table: with or without a card."""
    kind = f"applied, {steps} steps" if card is not None else f"plain, {steps} steps"
    passes = {name: [0] for name in CACHES}
    seconds: dict[str, list[float]] = {name: [] for name in CACHES}
    errors: dict[str, list[float]] = {name: [] for name in CACHES}
    block = adapter.transformer.transformer_blocks[-2]
    guided = 0
    for seed in range(seeds + 1):  # the first warms up
        frames = {}
        for name in CACHES:
            handle = block.attn1.to_q.register_forward_hook(
                lambda *_, n=name: passes[n].__setitem__(0, passes[n][0] + 1)
            )
            options = {"card": card, "steps": steps, "cache": name}
            began = time.process_time()  # the clock on the wall also counts who else is working
            made = next(iter(generate(adapter, [PROMPTS[seed % 2]], [1000 + seed], **options)))
            took = time.process_time() - began
            handle.remove()
            frames[name], guided = made.frames, made.guided_steps
            if seed:
                seconds[name].append(took)
                errors[name].append(psnr(made.frames, frames["none"]))
    print(f"\n{kind}, {guided} guided, n = {seeds}")
    print(f"{'cache':14}{'steps computed':>16}{'CPU / none':>14}{'PSNR dB':>10}")
    for name in CACHES:
        ratio = [a / b for a, b in zip(seconds[name], seconds["none"], strict=True)]
        computed = passes[name][0] / (seeds + 1)
        print(
            f"{name:14}{computed:16.1f}{statistics.median(ratio):14.2f}"
            f"{statistics.median(errors[name]):10.1f}"
        )
    print(f"none: median {statistics.median(seconds['none']):.2f} s of CPU, VAE decode included")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.caches", description=__doc__)
    parser.add_argument("--calibrate", action="store_true")
    parser.add_argument("--generations", type=int, default=4, help="for --calibrate")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    if options.calibrate:
        calibrate(options.generations)
        return
    adapter = load_backbone("bundled")
    measure(adapter, None, options.steps, options.seeds)
    measure(adapter, card_for(adapter), options.steps, options.seeds)


if __name__ == "__main__":
    main()
