"""What it costs to encode a reference whole, and how far the other ways are from it.

    python -m benchmarks.encoding [--clips 5]

Memory: bytes alive at the peak of the published VAE's encoder in bfloat16, counted operation by
operation on tensors without storage (the workspace of cuDNN is not in it). Difference: latents of
clips of the bundled world, upscaled to the size, with the bundled VAE in float32:
|other - whole| / |whole|, and the share of patches whose match of the reading is another one.
"""

from __future__ import annotations

import argparse
import dataclasses
import weakref
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLCogVideoX
from diffusers.utils import logging
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from benchmarks.transfer import references
from pe_toolkit.backbones import load_backbone, ways
from pe_toolkit.backbones.cogvideox import encoding, tiling
from pe_toolkit.motion.displacement import hard_displacement
from pe_toolkit.world.scenes import render

SIZES = ((24, 480, 720), (49, 480, 720), (81, 768, 1360))
"""Frames, height, width: the published setting, 2b and 5b, 1.5."""


class Alive(TorchDispatchMode):
    """Bytes of the tensors that are alive, and the most there ever were."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for value in tree_flatten(out)[0]:
            if isinstance(value, torch.Tensor):
                storage = value.untyped_storage()
                if storage._cdata not in self.seen:
                    self.seen.add(storage._cdata)
                    self.now += storage.nbytes()
                    self.peak = max(self.peak, self.now)
                    weakref.finalize(storage, self._gone, storage._cdata, storage.nbytes())
        return out

    def _gone(self, key: int, size: int) -> None:
        self.seen.discard(key)
        self.now -= size


@torch.no_grad()
def memory() -> None:
    with torch.device("meta"):
        vae = AutoencoderKLCogVideoX(
            latent_channels=16, block_out_channels=(128, 256, 256, 512), layers_per_block=3,
            down_block_types=("CogVideoXDownBlock3D",) * 4,
            up_block_types=("CogVideoXUpBlock3D",) * 4, sample_height=480, sample_width=720,
        ).eval()  # fmt: skip
        vae.to(torch.bfloat16)
    print("peak of the encoder, GB          whole  batches  tiles   whole, bytes/pixel/frame")
    for frames, height, width in SIZES:
        x = torch.empty(1, 3, frames, height, width, device="meta", dtype=torch.bfloat16)
        peaks = []
        for way in ways.WAYS:
            with encoding.kept(vae, way, frames), Alive() as alive:
                vae._encode(x)
            peaks.append(alive.peak)
        whole, batches, tiles = (peak / 1e9 for peak in peaks)
        print(
            f"{frames} frames of {width}x{height:<14d} {whole:6.1f}   {batches:6.1f} {tiles:6.1f}"
            f"   {peaks[0] / x[:, 0].numel():.0f}",
            flush=True,
        )


@torch.no_grad()
def differences(clips: int) -> None:
    adapter = load_backbone("bundled", dtype="float32", vae_tiling=False)
    tiling.enable(adapter.pipe.vae)
    variant = adapter.variant
    assert variant is not None
    assert variant.reading is not None
    print("the bundled VAE, against whole   batches: latents, matches   tiles: latents, matches")
    for side in (variant.width, 2 * variant.width):
        adapter.variant = dataclasses.replace(variant, width=side, height=side)
        rows = []
        for scene in references(clips, 5):
            clip = render(scene).repeat(side // variant.width, 1).repeat(side // variant.width, 2)
            row: list[float] = []
            first: Any = None
            for way in ways.WAYS:
                z = adapter.encode(clip, (way,)).latents
                q, k = adapter.reference_queries_and_keys(z, variant.reading, len(clip), side, side)
                grid = adapter.grid_for(len(clip), side, side)
                flow = hard_displacement(q, k, grid, mutual=True)[0]
                if first is None:
                    first = z, flow
                    continue
                row.append(float((z - first[0]).norm() / first[0].norm()))
                row.append(float((flow != first[1]).any(-1).float().mean()))
            rows.append(row)
        means = np.mean(rows, axis=0)
        print(
            f"{side}x{side:<29d} {means[0]:9.3f} {means[1]:9.3f} {means[2]:15.3f} {means[3]:9.3f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.encoding", description=__doc__)
    parser.add_argument("--clips", type=int, default=5)
    args = parser.parse_args()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    memory()
    differences(args.clips)


if __name__ == "__main__":
    main()
