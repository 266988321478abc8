"""VAE tiles that put pictures of the right size together.

diffusers rounds the overlap of its tiles down, in latents and in pixels each for itself. The
published VAEs (tiles of 30 x 45 latents, overlaps of a sixth and a fifth) come out exactly. A tile
of 8 latents does not: the next one begins 6 latents (48 pixels) further, but 54 pixels of it are
kept, so that 96 pixels come back as 102. A quarter of a tile whose side is a multiple of 4 is exact
everywhere, also as a floating point number.
"""

from __future__ import annotations

from typing import Any

from pe_toolkit.errors import UnsupportedError

_AXES = ("height", "width")
_OVERLAP, _UNIT = 0.25, 4


def enable(vae: Any) -> None:
    """Encode and decode in tiles and sample by sample, at sizes that come back as they went in.

    The tiles of the VAE (an `AutoencoderKLCogVideoX`) stay where they are exact, as those of all
    published checkpoints. Others get about the same side, and overlap by a quarter.
    """
    ratio = _ratio(vae)
    changes: dict[str, float] = {}
    for axis in _AXES:
        pixels, latents, overlap = _tile(vae, axis)
        step, kept = int(latents * (1 - overlap)), latents - int(latents * overlap)
        if (
            pixels == ratio * latents
            and 0 < step == kept
            and pixels - int(pixels * overlap) == int(pixels * (1 - overlap)) == ratio * step
        ):
            continue
        side = max(_UNIT, round(pixels / ratio / _UNIT) * _UNIT)
        changes[f"tile_sample_min_{axis}"] = side * ratio
        changes[f"tile_overlap_factor_{axis}"] = _OVERLAP
    vae.enable_tiling(**changes)
    vae.enable_slicing()


def sides(vae: Any, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """(height, width) that a picture of that many pixels gets as latents, and decoded again from
    as many latents as it should have; by the arithmetic of diffusers, tiles or none.
    """
    ratio = _ratio(vae)
    plain = (height // ratio, width // ratio)
    encoded, decoded = plain, (plain[0] * ratio, plain[1] * ratio)
    if not vae.use_tiling:
        return encoded, decoded
    tiles = [_tile(vae, axis) for axis in _AXES]
    if height > tiles[0][0] or width > tiles[1][0]:
        encoded = (
            _put_together(height, 1 / ratio, tiles[0][0], tiles[0][1], tiles[0][2]),
            _put_together(width, 1 / ratio, tiles[1][0], tiles[1][1], tiles[1][2]),
        )
    if plain[0] > tiles[0][1] or plain[1] > tiles[1][1]:
        decoded = (
            _put_together(plain[0], ratio, tiles[0][1], tiles[0][0], tiles[0][2]),
            _put_together(plain[1], ratio, tiles[1][1], tiles[1][0], tiles[1][2]),
        )
    return encoded, decoded


def check(vae: Any, height: int, width: int) -> None:
    """Refuse tiles that would change the size of a picture.

    Args:
        vae: an `AutoencoderKLCogVideoX` as the user keeps it.
        height, width: pixels, in multiples of the VAE's ratio.

    Raises:
        UnsupportedError: says which size would come out.
    """
    ratio = _ratio(vae)
    latents, pixels = sides(vae, height, width)
    if latents != (height // ratio, width // ratio) or pixels != (height, width):
        raise UnsupportedError(
            f"Expected VAE tiles that keep the size of {width}x{height}, got tiles that make "
            f"{latents[1]}x{latents[0]} latents and {pixels[1]}x{pixels[0]} pixels of it.",
            "Use pe_toolkit.backbones.cogvideox.tiling.enable(pipe.vae), which chooses tiles that "
            "do, or pipe.vae.disable_tiling().",
        )


def _ratio(vae: Any) -> int:
    """Pixels along the side of a latent."""
    return 1 << (len(vae.config.block_out_channels) - 1)


def _tile(vae: Any, axis: str) -> tuple[int, int, float]:
    """Side of a tile in pixels, in latents, and the share of it that overlaps."""
    return (
        getattr(vae, f"tile_sample_min_{axis}"),
        getattr(vae, f"tile_latent_min_{axis}"),
        getattr(vae, f"tile_overlap_factor_{axis}"),
    )


def _put_together(length: int, scale: float, tile: int, result: int, overlap: float) -> int:
    """Side of what comes out of a side of `length`: each tile of `tile` becomes `scale` times as
    long, and at most what of `result` does not overlap is kept of it.
    """
    step, kept = int(tile * (1 - overlap)), result - int(result * overlap)
    return sum(
        min(kept, int(min(tile, length - start) * scale)) for start in range(0, length, step)
    )
