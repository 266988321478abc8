"""How the VAE of CogVideoX encodes a clip in each of the ways of `backbones.ways`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from pe_toolkit.backbones.cogvideox import tiling
from pe_toolkit.backbones.machine.memory import whole_bytes
from pe_toolkit.backbones.machine.offload import free_bytes
from pe_toolkit.backbones.machine.placement import SHARE
from pe_toolkit.backbones.ways import Encoded, Way
from pe_toolkit.errors import out_of_memory

SMALL = 1e9
"""Bytes that no machine is asked for."""

_STATE = (
    "use_tiling", "use_slicing", "num_sample_frames_batch_size", "tile_sample_min_height",
    "tile_sample_min_width", "tile_latent_min_height", "tile_latent_min_width",
    "tile_overlap_factor_height", "tile_overlap_factor_width",
)  # fmt: skip


def encode(vae: Any, x: torch.Tensor, ways: tuple[Way | None, ...]) -> Encoded:
    """The posterior's mode of `(1, 3, F, H, W)` in [-1, 1], in the first of `ways` for which there
    is memory; the last is taken in any case. None stands for the VAE as it is kept.

    Raises:
        UnsupportedError: tiles that would change the size.
    """
    for way in ways:
        last = way is ways[-1]
        if not last and not fits(vae, x, way):
            continue
        try:
            with kept(vae, way, x.shape[2]):
                tiling.check(vae, *x.shape[3:])
                return Encoded(vae.encode(x).latent_dist.mode(), way)
        except (RuntimeError, MemoryError) as error:
            if last or not out_of_memory(error):
                raise
        if x.is_cuda:  # outside of the handler, which holds what did not fit
            torch.cuda.empty_cache()
    raise AssertionError("the last way returns or raises")


def fits(vae: Any, x: torch.Tensor, way: Way | None) -> bool:
    """Whether the memory model expects that way to fit into what is free."""
    frames = x.shape[2] if way == "whole" else min(x.shape[2], vae.num_sample_frames_batch_size + 2)
    channels = vae.config.block_out_channels[0]
    needed = whole_bytes(frames, x.shape[4], x.shape[3], channels, x.dtype.itemsize)
    if needed <= SMALL:
        return True
    free = free_bytes(x.device) if x.is_cuda else _main_bytes()
    return free is not None and needed <= free * SHARE


def _main_bytes() -> float | None:
    """Main memory that is available, where Linux says."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            line = next(line for line in file if line.startswith("MemAvailable:"))
        return float(line.split()[1]) * 1024
    except (OSError, StopIteration, ValueError, IndexError):
        return None


@contextlib.contextmanager
def kept(vae: Any, way: Way | None, frames: int) -> Iterator[None]:
    """The VAE in that way for a clip of `frames`, and as it was again."""
    before = {name: getattr(vae, name) for name in _STATE}
    try:
        if way == "tiles" and not vae.use_tiling:
            tiling.enable(vae)
        elif way in ("whole", "batches"):
            vae.use_tiling = False
        if way == "whole":
            vae.num_sample_frames_batch_size = frames
        yield
    finally:
        for name, value in before.items():
            setattr(vae, name, value)
