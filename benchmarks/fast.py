"""What `--recipe fast` gives up: fewer inner steps at a larger rate, or reused gradients?

    python -m benchmarks.fast                 # 3 references, about 10 minutes on two cores
    python -m benchmarks.fast --references 1

Each condition trains a card on the bundled backbone, from the model's own positions (`zero`, as on
CogVideoX) and from the reference's flow (`flow`, the bundled default). Then the card guides unseen
(prompt, seed) samples, and the AMF loss is taken at every guided step, without optimising: the mean
over steps and samples, as a share of the loss without a card (1 = no effect, 0 = the reference's
motion). With `--cosine` these samples are finished, and the path of the generated object is
compared with the true one. `passes` counts forward-backward passes of one sample.

    full      K steps, K gradients                           (the default)
    fewer     `--recipe fast`: fewer steps, each longer
    reused    K steps, a gradient in every second or third   (FastVMT's idea)
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.transfer import clip_of, pairs, references, run_training, truth_of
from pe_toolkit.apply import Application, CardPositions
from pe_toolkit.backbones import CogVideoXAdapter, load_backbone
from pe_toolkit.backbones.cogvideox import hooks
from pe_toolkit.backbones.cogvideox.sampling import CogVideoXSampler
from pe_toolkit.backbones.reading import Reading
from pe_toolkit.card import MotionCard
from pe_toolkit.motion.flow import AttentionMotionFlow
from pe_toolkit.objectives.amf import AmfObjective
from pe_toolkit.training import TrainConfig
from pe_toolkit.world.metrics import measure


def conditions(adapter: CogVideoXAdapter, start: str) -> dict[str, TrainConfig]:
    """By name; all with one sample, so that only the steps differ."""
    variant = adapter.variant
    assert variant is not None
    k, (first, last) = variant.inner_steps, variant.learning_rates
    base = TrainConfig(samples=1, start=start)

    def longer(steps: int) -> TrainConfig:
        rates = (first * k / steps, last * k / steps)
        return dataclasses.replace(base, inner_steps=steps, learning_rates=rates)

    return {
        f"full K={k}": base,
        f"fewer K={max(1, k - 1)}": longer(max(1, k - 1)),
        "fewer K=1": longer(1),
        "reused every 2nd": dataclasses.replace(base, reuse=2),
        f"reused every {k}th": dataclasses.replace(base, reuse=k),
    }


@torch.no_grad()
def held_out(
    adapter: CogVideoXAdapter,
    flow: AttentionMotionFlow,
    card: MotionCard | None,
    count: int,
    truth: NDArray[np.float64] | None = None,
) -> tuple[float, list[float]]:
    """Mean AMF loss of unseen samples over the guided steps, in patches squared, and, with the true
    path, the cosine of each sample.
    """
    variant = adapter.variant
    assert variant is not None
    unseen = pairs(count)
    width, height = adapter.size
    sampler = CogVideoXSampler(
        adapter,
        [prompt for prompt, _ in unseen],
        [seed for _, seed in unseen],
        steps=variant.steps,
        guidance_scale=variant.guidance_scale,
        dynamic_cfg=variant.dynamic_cfg,
        frames=adapter.frames,
        width=width,
        height=height,
    )
    objective = AmfObjective(flow, variant.tau, checkpointing=False)
    low, high = variant.guided_range
    select: Any = lambda _: None  # noqa: E731
    if card is not None:
        select = CardPositions(adapter, card, 1.0, Application(1.0))
    losses = []
    with hooks.positions(adapter.transformer, adapter.positions, select):
        for index, noise in enumerate(sampler.noise):
            guided = low <= noise <= high
            if guided:
                q, k = adapter.queries_and_keys(
                    sampler.latents, sampler.text, sampler.times[index], variant.block,
                    sampler.rotary,
                )  # fmt: skip
                losses.append(float(objective.loss(q, k)))
            if guided or truth is not None:
                sampler.step(index)
    cosines = []
    if truth is not None:
        for number, (prompt, _) in enumerate(unseen):
            video = adapter.decode(sampler.latents[number : number + 1], adapter.frames)
            cosines.append(float(measure(video, prompt, truth).cosine))
    return float(np.mean(losses)), cosines


def main() -> int:
    parser = argparse.ArgumentParser(description="Fewer or reused gradients, on one backbone.")
    parser.add_argument("--references", type=int, default=3)
    parser.add_argument("--samples", type=int, default=2, help="unseen (prompt, seed) pairs")
    parser.add_argument("--start", choices=["zero", "flow"], action="append")
    parser.add_argument("--cosine", action="store_true", help="finish the samples, compare paths")
    parser.add_argument("--only", action="append", help="this condition; repeat")
    parser.add_argument("--json", help="also write the raw numbers here")
    options = parser.parse_args()
    adapter = load_backbone("bundled", device="cpu")
    variant = adapter.variant
    assert variant is not None
    rows: list[dict[str, Any]] = []
    frames, (width, height) = adapter.frames, adapter.size
    for number, scene in enumerate(references(options.references)):
        clip = clip_of(scene)
        latents = adapter.encode_clip(clip.frames)
        q, k = adapter.reference_queries_and_keys(
            latents, Reading((variant.block,)), frames, width, height
        )
        flow = AttentionMotionFlow.from_qk(q, k, adapter.grid, mask=variant.mask)
        truth = truth_of(scene) if options.cosine else None
        bare, still = held_out(adapter, flow, None, options.samples, truth)
        sys.stderr.write(f"{number} no card {bare:.3f} {still}\n")
        for start in options.start or ["zero", "flow"]:
            for name, config in conditions(adapter, start).items():
                if options.only and name not in options.only:
                    continue
                card, _, seconds = run_training(adapter, scene, config)
                loss, cosines = held_out(adapter, flow, card, options.samples, truth)
                gradients = -(-card.spec.recipe.inner_steps // config.reuse)
                rows.append({
                    "reference": number, "start": start, "condition": name, "loss": loss,
                    "bare": bare, "seconds": seconds, "cosines": cosines,
                    "passes": gradients * card.spec.guided_steps,
                    "train": [list(pair) for pair in card.spec.training.loss],
                })  # fmt: skip
                sys.stderr.write(
                    f"{number} {start:5} {name:20} {loss / bare:.3f} {seconds:.1f} s {cosines}\n"
                )
    report(rows)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"date": time.strftime("%Y-%m-%d"), "rows": rows}, file, indent=1)
    return 0


def report(rows: list[dict[str, Any]]) -> None:
    """Means over references, with the difference to `full` of the same reference."""
    print(
        f"{'start':6}{'condition':20}{'passes':>8}{'seconds':>9}{'held-out':>10}{'minus full':>17}"
    )
    for start in dict.fromkeys(row["start"] for row in rows):
        mine = [row for row in rows if row["start"] == start]
        names = list(dict.fromkeys(row["condition"] for row in mine))
        share = {
            name: np.array([r["loss"] / r["bare"] for r in mine if r["condition"] == name])
            for name in names
        }
        for name in names:
            these = [row for row in mine if row["condition"] == name]
            gap = share[name] - share[names[0]]
            error = gap.std(ddof=1) / np.sqrt(len(gap)) if len(gap) > 1 else float("nan")
            seconds = np.median([row["seconds"] for row in these])
            print(
                f"{start:6}{name:20}{these[0]['passes']:8d}{seconds:9.1f}{share[name].mean():10.3f}"
                f"{gap.mean():+10.3f} ± {error:.3f}"
            )


if __name__ == "__main__":
    sys.exit(main())
