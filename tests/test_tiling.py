"""VAE tiles: pictures keep their size, whatever the model; published tiles stay as they are."""

from __future__ import annotations

import functools
import itertools

import pytest
import torch
from diffusers import AutoencoderKLCogVideoX
from hypothesis import given, settings
from hypothesis import strategies as st

from pe_toolkit.backbones import load_backbone
from pe_toolkit.backbones.cogvideox import tiling
from pe_toolkit.errors import UnsupportedError
from tests.tiny import FRAMES, moving_square, tiny_adapter

# (height, width) of vae/config.json of 2b, 5b and 1.5.
PUBLISHED = (480, 720)


def vae_of(height: int, width: int, blocks: int = 4) -> AutoencoderKLCogVideoX:
    """A VAE of that sample size without weights or memory."""
    with torch.device("meta"):
        return AutoencoderKLCogVideoX(
            block_out_channels=(8,) * blocks,
            down_block_types=("CogVideoXDownBlock3D",) * blocks,
            up_block_types=("CogVideoXUpBlock3D",) * blocks,
            latent_channels=4,
            layers_per_block=1,
            norm_num_groups=2,
            sample_height=height,
            sample_width=width,
        ).eval()


def tiles(vae: AutoencoderKLCogVideoX) -> tuple[float, ...]:
    return (
        vae.tile_sample_min_height,
        vae.tile_sample_min_width,
        vae.tile_latent_min_height,
        vae.tile_latent_min_width,
        vae.tile_overlap_factor_height,
        vae.tile_overlap_factor_width,
    )


@torch.no_grad()
def sizes(vae: AutoencoderKLCogVideoX, height: int, width: int) -> tuple[int, ...]:
    """What diffusers makes of a picture of that size: latents, and pixels of as many latents."""
    ratio = 2 ** (len(vae.config.block_out_channels) - 1)
    x = torch.empty(1, 3, 1, height, width, device="meta")
    z = torch.empty(1, 4, 1, height // ratio, width // ratio, device="meta")
    return (*vae.encode(x).latent_dist.mode().shape[3:], *vae.decode(z).sample.shape[3:])


def test_published_tiles_stay_and_keep_the_size() -> None:
    vae, plain = vae_of(*PUBLISHED), vae_of(*PUBLISHED)
    plain.enable_tiling()
    tiling.enable(vae)
    assert tiles(vae) == tiles(plain)
    assert (vae.use_tiling, vae.use_slicing) == (True, True)
    assert sizes(vae, 480, 720) == (60, 90, 480, 720)


def test_of_published_tiles_every_size_comes_back() -> None:
    """Also 768x1360, the size of 1.5."""
    vae = vae_of(*PUBLISHED)
    tiling.enable(vae)
    for side in range(16, 2049, 16):
        assert tiling.sides(vae, side, side) == ((side // 8,) * 2, (side,) * 2)


def test_stock_tiles_of_a_small_vae_do_not() -> None:
    """Why this exists; if this fails, diffusers has changed and `tiling` may go."""
    vae = vae_of(128, 128)
    vae.enable_tiling()
    assert sizes(vae, 96, 96) == (12, 12, 102, 100)
    with pytest.raises(UnsupportedError, match="96x96"):
        tiling.check(vae, 96, 96)
    tiling.check(vae, 64, 64)  # one tile: nothing to put together


def test_ours_do() -> None:
    vae = vae_of(128, 128)
    tiling.enable(vae)
    tiling.check(vae, 128, 96)
    assert sizes(vae, 128, 96) == (16, 12, 128, 96)


def test_the_arithmetic_is_that_of_diffusers() -> None:
    for ours, size in itertools.product((False, True), ((32, 64), (80, 96), (144, 48))):
        vae = vae_of(104, 80)
        if ours:
            tiling.enable(vae)
        else:
            vae.enable_tiling()
        latent, pixels = tiling.sides(vae, *size)
        assert (*latent, *pixels) == sizes(vae, *size)


@functools.cache
def one_vae() -> AutoencoderKLCogVideoX:
    return vae_of(128, 128)


SIDES = st.integers(1, 512)
OVERLAPS = st.floats(0.01, 0.99)


@settings(max_examples=200, deadline=None)
@given(SIDES, SIDES, OVERLAPS, OVERLAPS, st.integers(1, 99), st.integers(1, 99))
def test_any_tiles_any_size(
    h: int, w: int, tall: float, wide: float, rows: int, columns: int
) -> None:
    vae, pixels = one_vae(), (rows * 8, columns * 8)
    vae.enable_tiling(h, w, tall, wide)
    tiling.enable(vae)
    assert tiling.sides(vae, *pixels) == ((rows, columns), pixels)
    before = tiles(vae)
    tiling.enable(vae)  # twice is once
    assert tiles(vae) == before


def test_bundled_clips_keep_their_size_and_nearly_their_pixels() -> None:
    whole, tiled = (
        load_backbone("bundled", vae_tiling=False),
        load_backbone("bundled", vae_tiling=True),
    )
    assert tiled.pipe.vae.use_tiling
    clip = moving_square(17, 96).frames
    latents = whole.encode_clip(clip)
    assert tiled.encode_clip(clip).shape == latents.shape
    plain, seamed = whole.decode(latents, 17), tiled.decode(latents, 17)
    assert plain.shape == seamed.shape == clip.shape
    assert abs(plain.astype(float) - seamed).mean() < 8


def test_tiles_of_ones_own_that_would_change_the_size_are_refused() -> None:
    adapter = tiny_adapter()
    adapter.pipe.vae.enable_tiling(16, 16, 0.3, 0.3)
    frames = moving_square(FRAMES).frames
    for ways in (("tiles",), (None,)):
        with pytest.raises(UnsupportedError, match="32x32") as caught:
            adapter.encode(frames, ways)
        assert "tiling.enable" in caught.value.hint
    assert adapter.encode(frames).way == "whole"  # needs no tiles
    latents = torch.zeros(1, *adapter.latent_shape(FRAMES, 32, 32))
    with pytest.raises(UnsupportedError, match="32x32"):
        adapter.decode(latents, FRAMES)
