"""The published transformer configurations, as far as they decide sizes; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from pe_toolkit.backbones.catalogue.variants import Variant

HEAD = 64
"""Channels per attention head of every CogVideoX."""


@dataclass(frozen=True)
class Architecture:
    """The fields of a published transformer configuration that decide its size."""

    layers: int
    heads: int
    positions: str
    in_channels: int = 16
    patch_size_t: int | None = None
    ofs: bool = False
    learned: tuple[int, int, int] | None = None
    """Grid of a learned table of positions (5b image-to-video)."""
    patch: int = 2
    text_tokens: int = 226
    text_channels: int = 4096
    time_channels: int = 512

    @property
    def channels(self) -> int:
        return self.heads * HEAD

    @property
    def parameters(self) -> int:
        """Parameters of the transformer; buffers are not counted."""
        d, t = self.channels, self.time_channels
        patch = self.patch**2 * (self.patch_size_t or 1)
        embed = self.in_channels * patch * d + d + self.text_channels * d + d
        time = d * t + t + t * t + t
        ofs = 2 * (t * t + t) if self.ofs else 0
        norms = 2 * (6 * d * t + 6 * d + 2 * d)
        attention = 4 * (d * d + d) + 2 * (2 * HEAD)
        feed_forward = 8 * d * d + 5 * d
        last = 2 * d + (2 * d * t + 2 * d + 2 * d) + 16 * patch * d + 16 * patch
        return embed + time + ofs + self.layers * (norms + attention + feed_forward) + last

    def grid(self, frames: int, width: int, height: int) -> tuple[int, int, int]:
        """Token grid of a clip of that size (see `CogVideoXAdapter.grid_for`)."""
        latent = (frames - 1) // 4 + 1
        step = self.patch_size_t or 1
        return -(-latent // step), height // (8 * self.patch), width // (8 * self.patch)


ARCHITECTURES: dict[str, Architecture] = {
    "cogvideox-2b": Architecture(30, 30, "absolute"),
    "cogvideox-5b": Architecture(42, 48, "rotary"),
    "cogvideox1.5-5b": Architecture(42, 48, "rotary", patch_size_t=2),
    "cogvideox-5b-i2v": Architecture(42, 48, "rotary", in_channels=32, learned=(13, 30, 45)),
    "cogvideox1.5-5b-i2v": Architecture(42, 48, "rotary", in_channels=32, patch_size_t=2, ofs=True),
}


def coordinate_steps(variant: Variant, grid: tuple[int, int, int]) -> tuple[float, float, float]:
    """Units of a rotary model's own coordinates between neighbouring tokens of `grid` along
    (frame, row, column): 1 at the native size. Smaller pictures are stretched over the native one
    by CogVideoX 1.0 (diffusers' `get_resize_crop_region_for_grid`), and 1.5 counts tokens.

    `embedding.rotary.steps` reads the same off a model's tables.
    """
    own = ARCHITECTURES.get(variant.name, Architecture(0, 0, variant.positions))
    if own.patch_size_t is not None:
        return 1.0, 1.0, 1.0
    (_, rows, columns), (_, height, width) = own.grid(1, variant.width, variant.height), grid
    if height / width > rows / columns:
        sizes = rows, round(rows / height * width)
    else:
        sizes = round(columns / width * height), columns
    found = [1.0]
    for size, native, count in zip(sizes, (rows, columns), (height, width), strict=True):
        first = round((native - size) / 2)
        last = (first + size) * (count - 1) / count
        found.append((last - first) / (count - 1) if count > 1 else 1.0)
    return found[0], found[1], found[2]


def architecture_for(variant: Variant) -> Architecture | None:
    """The published architecture of a row of the table; None for the bundled ones."""
    return ARCHITECTURES.get(variant.name)
