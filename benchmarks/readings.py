"""How well the motion of a reference is read, and what each part of the reading brings.

    python -m benchmarks.readings [--references 20] [--seed 5]

Against the known trajectories of references that are not those of `benchmarks.transfer`, bundled
backbone, clean latents. For every reading: the share of object patches (at least half covered)
whose match lies within a patch of the truth, between all pairs of latent frames, neighbours, and
frames eight apart; and of the path that a start of `flow` follows, the mean distance to the true
one in patches, the cosine of its steps, and its length in times of the true one.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from diffusers.utils import logging
from numpy.typing import NDArray

from benchmarks.masks import right
from benchmarks.transfer import _coverage, over_latent_frames, references, truth_of
from pe_toolkit.backbones import CogVideoXAdapter, load_backbone
from pe_toolkit.backbones.reading import Reading
from pe_toolkit.grid import TokenGrid
from pe_toolkit.motion.displacement import hard_displacement
from pe_toolkit.motion.flow import AttentionMotionFlow
from pe_toolkit.motion.masks import MASKS
from pe_toolkit.motion.path import mean_path
from pe_toolkit.world.metrics import path_cosine
from pe_toolkit.world.scenes import Scene, render

# Name, reading, matched both ways. Each adds one thing to the one before.
LADDER = (
    ("block 6, attention (the paper)", Reading((6,)), False),
    ("told t = 200", Reading((6,), "attention", 200), False),
    ("without rotary embedding", Reading((6,), "content", 200), False),
    ("blocks 4 to 6", Reading((4, 5, 6), "content", 200), False),
    ("matched both ways (content)", Reading((4, 5, 6), "content", 200), True),
)
BESIDES = (
    ("block 4, attention", Reading((4,)), False),
    *((f"block {b}, content", Reading((b,), "content", 200), True) for b in (4, 5, 6)),
    *((f"content, t = {t}", Reading((4, 5, 6), "content", t), True) for t in (0, 100, 400)),
)


def judge(flow: torch.Tensor, scene: Scene, grid: TokenGrid) -> list[float]:
    """Shares right (all, neighbours, eight apart), then distance, cosine and length of the path."""
    frames, side = flow.shape[0], flow.shape[3]
    apart = np.abs(np.subtract.outer(np.arange(frames), np.arange(frames)))[:, :, None, None]
    on = np.broadcast_to(_coverage(scene, side)[:, None], flow.shape[:4])
    good = right(flow, scene, side)
    shares = [good[on & (apart > 0)], good[on & (apart == 1)], good[on & (apart == 8)]]
    small = flow.to(torch.int8)
    mask = MASKS["tracked"](small)
    path = mean_path(AttentionMotionFlow(small, mask, grid), frames // 2).double().numpy()
    truth: NDArray[np.float64] = over_latent_frames(truth_of(scene)) * side
    truth = truth - truth[frames // 2]
    return [
        *(float(share.mean()) if len(share) else float("nan") for share in shares),
        float(np.linalg.norm(path - truth, axis=1).mean()),
        path_cosine(path, truth),
        float((path * truth).sum() / (truth * truth).sum()),
    ]


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.readings", description=__doc__)
    parser.add_argument("--references", type=int, default=20)
    parser.add_argument("--seed", type=int, default=5)
    args = parser.parse_args()
    logging.disable_progress_bar()
    adapter: CogVideoXAdapter = load_backbone("bundled")
    size, grid = (adapter.frames, *adapter.size), adapter.grid
    rows: dict[str, list[list[float]]] = {}
    for scene in references(args.references, args.seed):
        latents = adapter.encode_clip(render(scene))
        for name, reading, mutual in (*LADDER, *BESIDES):
            q, k = adapter.reference_queries_and_keys(latents, reading, *size)
            flow = hard_displacement(q.float(), k.float(), grid, mutual=mutual)[0].cpu()
            rows.setdefault(name, []).append(judge(flow, scene, grid))
    print(f"{'reading':32s} right  next  8 apart  path: off  cosine  length")
    for name, values in rows.items():
        share, near, far, off, cosine, length = np.nanmean(values, axis=0)
        print(
            f"{name:32s} {share:.3f}  {near:.3f}   {far:.3f}      {off:.2f}    {cosine:.2f}    "
            f"{length:.2f}"
        )


if __name__ == "__main__":
    main()
