"""Which displacements of a reference are to be believed, and which block sees motion under noise.

    python -m benchmarks.masks [--references 10]

Against the known trajectories of `benchmarks.transfer`'s references, bundled backbone. The
truth and the cover are means over the frames of each latent frame; i = j is left out.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from diffusers.utils import logging
from numpy.typing import NDArray

from benchmarks.transfer import _coverage, over_latent_frames, references, truth_of
from pe_toolkit.backbones import CogVideoXAdapter, load_backbone
from pe_toolkit.motion.displacement import hard_displacement
from pe_toolkit.motion.masks import MASKS
from pe_toolkit.world.scenes import Scene, render

TIMESTEPS = (0, 100, 300, 500, 700, 850)
Flags = NDArray[np.bool_]


def right(flow: torch.Tensor, scene: Scene, side: int) -> Flags:
    """`(F, F, H, W)`: the displacement lies within one patch of the object's, in x and in y."""
    path = over_latent_frames(truth_of(scene)) * side  # (F, 2) in patches
    wanted = (path[None] - path[:, None])[:, :, None, None]
    close: Flags = np.abs(flow.numpy() - wanted).max(-1) <= 1
    return close


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.masks", description=__doc__)
    parser.add_argument("--references", type=int, default=10)
    args = parser.parse_args()
    logging.disable_progress_bar()
    adapter: CogVideoXAdapter = load_backbone("bundled")
    variant, grid, frames, (width, height) = (
        adapter.variant, adapter.grid, adapter.frames, adapter.size,
    )  # fmt: skip
    assert variant is not None
    assert variant.reading is not None
    apart = ~np.eye(grid.frames, dtype=bool)[:, :, None, None]
    masks: dict[str, list[tuple[float, ...]]] = {name: [] for name in MASKS}
    blocks: dict[tuple[int, int], list[float]] = {}
    alphas = adapter.pipe.scheduler.alphas_cumprod.float()
    rotary, empty = adapter.base_positions(frames, width, height), adapter.encode_text([""])
    for scene in references(args.references):
        latents = adapter.encode_clip(render(scene))
        on = np.broadcast_to(_coverage(scene, grid.height)[:, None], (grid.frames, *grid)) & apart
        q, k = adapter.reference_queries_and_keys(latents, variant.reading, frames, width, height)
        flow = hard_displacement(q.float(), k.float(), grid, mutual=variant.reading.mutual)[0].cpu()
        good = right(flow, scene, grid.width)
        for name, mask in MASKS.items():
            kept = mask(flow.to(torch.int8)).numpy() & apart
            masks[name].append(
                (
                    kept.sum() / (apart.sum() * grid.height * grid.width),
                    (kept & on).sum() / kept.sum(),
                    (kept & on & good).sum() / kept.sum(),
                    (kept & on).sum() / on.sum(),
                )
            )
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
        for block in variant.reading.blocks:
            for t in TIMESTEPS:
                noised = (alphas[t].sqrt() * latents + (1 - alphas[t]).sqrt() * noise).to(
                    latents.dtype
                )
                q, k = adapter.queries_and_keys(noised if t else latents, empty, t, block, rotary)
                flow = hard_displacement(q.float(), k.float(), grid)[0].cpu()
                blocks.setdefault((block, t), []).append(right(flow, scene, grid.width)[on].mean())
    print(f"{'mask':18s} kept  on the object  and right  found")
    for name, rows in masks.items():
        print(f"{name:18s} " + "  ".join(f"{value:.3f}" for value in np.mean(rows, 0)))
    for block in variant.reading.blocks:
        shares = [f"t={t} {np.mean(blocks[block, t]):.2f}" for t in TIMESTEPS]
        print(f"block {block}, noised to t (0: clean): " + "  ".join(shares))


if __name__ == "__main__":
    main()
