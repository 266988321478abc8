"""How large a clip of a CogVideoX is in latents and tokens, where those tokens are, and the
fingerprint of the architecture that decides it.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch

from pe_toolkit.backbones.catalogue.variants import Variant
from pe_toolkit.embedding import form_class
from pe_toolkit.embedding.base import PositionalForm
from pe_toolkit.embedding.rotary import axis_dims
from pe_toolkit.errors import UsageError
from pe_toolkit.grid import TokenGrid, frame_counts

_TRANSFORMER_KEYS = (
    "num_attention_heads",
    "attention_head_dim",
    "in_channels",
    "num_layers",
    "patch_size",
    "patch_size_t",
    "use_rotary_positional_embeddings",
    "use_learned_positional_embeddings",
    "temporal_compression_ratio",
    "ofs_embed_dim",
)


class CogVideoXGeometry:
    """The part of `CogVideoXAdapter` that needs the configurations of a pipeline, and no weights
    but those of learned positions.

    Args:
        pipe: a diffusers CogVideoX pipeline.
        variant: its row of defaults, or None for the model's own frame size.
        image_to_video: whether half of the channels are those of a given picture.
    """

    def __init__(self, pipe: Any, variant: Variant | None, *, image_to_video: bool) -> None:
        self.pipe = pipe
        self.variant = variant
        self.image_to_video = image_to_video
        """Whether generations begin with a given picture."""

    @property
    def transformer(self) -> Any:
        """The transformer itself (the module inside, if it was compiled)."""
        return getattr(self.pipe.transformer, "_orig_mod", self.pipe.transformer)

    @property
    def positions(self) -> str:
        """`rotary` or `absolute`."""
        return "rotary" if self.transformer.config.use_rotary_positional_embeddings else "absolute"

    @property
    def device(self) -> torch.device:
        """Where computation happens (the execution device under offloading)."""
        device: torch.device = self.pipe._execution_device
        return device

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.transformer.dtype
        return dtype

    @property
    def max_text_tokens(self) -> int:
        """Longest prompt in tokens."""
        return int(self.transformer.config.max_text_seq_length)

    @property
    def fixed_size(self) -> bool:
        """Whether positions were learned for one frame count and size."""
        return bool(self.transformer.config.use_learned_positional_embeddings)

    # Sizes ----------------------------------------------------------------------------------------

    @property
    def frames(self) -> int:
        """Pixel frames of a clip: the variant's, else the transformer's native count."""
        return self.variant.frames if self.variant else int(self.transformer.config.sample_frames)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        if self.variant:
            return self.variant.width, self.variant.height
        config, scale = self.transformer.config, self.pipe.vae_scale_factor_spatial
        return config.sample_width * scale, config.sample_height * scale

    def latent_shape(self, frames: int, width: int, height: int) -> tuple[int, int, int, int]:
        """(F', C, h, w) of the latents, padding frames of CogVideoX 1.5 included.

        Raises:
            UsageError: if the frame count or the size cannot be represented, is larger than the
                positions of CogVideoX 1.5, or is not the one size that learned positions allow.
        """
        scale, patch = self.pipe.vae_scale_factor_spatial, self.transformer.config.patch_size
        ratio = self.pipe.vae_scale_factor_temporal
        unit = max(scale * patch, 8)
        if width % unit or height % unit or width < unit or height < unit:
            raise UsageError(
                f"Expected a width and height in multiples of {unit} pixels, got {width}x{height}.",
                f"Use --size {max(unit, width // unit * unit)}x{max(unit, height // unit * unit)}.",
            )
        latent = (frames - 1) // ratio + 1
        unit_t = 2 * ratio
        # The VAE decodes 4n - 3 frames from an odd number n of latent frames, 4n from an even one.
        if frames < unit_t or frames % unit_t > 1:
            near = max(1, round((frames - 1) / unit_t)) * unit_t + 1
            raise UsageError(
                f"Expected a frame count such as {frame_counts(unit_t)}, got {frames}.",
                f"Use --frames {near}.",
            )
        config = self.transformer.config
        pad = config.patch_size_t
        latent += (-latent) % pad if pad else 0
        if pad and self.positions == "rotary":
            self._check_counted(width, height)
        if config.use_learned_positional_embeddings:
            self._check_learned(frames, width, height)
        channels = config.in_channels // (2 if self.image_to_video else 1)
        return latent, channels, height // scale, width // scale

    def _check_counted(self, width: int, height: int) -> None:
        """CogVideoX 1.5 counts its positions up to its own size, and has none beyond; 1.0 stretches
        those that it has.
        """
        config, scale = self.transformer.config, self.pipe.vae_scale_factor_spatial
        unit = scale * config.patch_size
        sides = (config.sample_width, config.sample_height)
        most = [side // config.patch_size * unit for side in sides]
        if width > most[0] or height > most[1]:
            raise UsageError(
                f"Expected up to {most[0]}x{most[1]} pixels, beyond which this backbone has no "
                f"positions, got {width}x{height}.",
                f"Use --size {min(width, most[0])}x{min(height, most[1])}.",
            )

    def _check_learned(self, frames: int, width: int, height: int) -> None:
        """A learned table (5b image-to-video) fits one size; diffusers would put another in place
        of it without a word where only the frame count differs.
        """
        config, scale = self.transformer.config, self.pipe.vae_scale_factor_spatial
        own = (config.sample_frames, config.sample_width * scale, config.sample_height * scale)
        if (frames, width, height) != own:
            raise UsageError(
                f"Expected {own[0]} frames of {own[1]}x{own[2]}, the one size for which this "
                f"backbone learned its positions, got {frames} frames of {width}x{height}.",
                f"Use --frames {own[0]} --size {own[1]}x{own[2]}.",
            )

    def grid_for(self, frames: int, width: int, height: int) -> TokenGrid:
        """The token grid of a clip of that size."""
        latent, _, h, w = self.latent_shape(frames, width, height)
        patch, patch_t = (
            self.transformer.config.patch_size,
            self.transformer.config.patch_size_t or 1,
        )
        return TokenGrid(latent // patch_t, h // patch, w // patch)

    @property
    def grid(self) -> TokenGrid:
        """The token grid at the default size."""
        return self.grid_for(self.frames, *self.size)

    # Positions ------------------------------------------------------------------------------------

    def base_positions(self, frames: int, width: int, height: int) -> Any:
        """The model's own positions: `(cos, sin)` each `(S, head_dim)`, or the `(S, inner_dim)`
        sincos table.
        """
        latent, _, h, w = self.latent_shape(frames, width, height)
        if self.positions == "rotary":
            return self.pipe._prepare_rotary_positional_embeddings(
                height, width, latent, self.device
            )
        embed = self.transformer.patch_embed
        table = embed._get_positional_embeddings(
            h, w, (latent - 1) * embed.temporal_compression_ratio + 1
        )
        return table[0, embed.max_text_seq_length :].to(self.device)

    def form(self, parametrisation: str, frames: int, width: int, height: int) -> PositionalForm:
        """The positional form of that name, bound to this model's positions at that size."""
        kind = form_class(self.positions, parametrisation)
        base, grid = (
            self.base_positions(frames, width, height),
            self.grid_for(frames, width, height),
        )
        if self.positions == "rotary":
            return kind(base, grid, axes=axis_dims(base[0].shape[-1]))
        config = self.transformer.config
        scales = (config.spatial_interpolation_scale, config.temporal_interpolation_scale)
        return kind(base, grid, scales=scales)

    # Identity -------------------------------------------------------------------------------------

    def fingerprint(self) -> str:
        """`sha256:` over the architecture: equal wherever a card of this one fits."""
        config, vae = self.transformer.config, self.pipe.vae.config
        facts = {key: config.get(key) for key in _TRANSFORMER_KEYS}
        facts["vae"] = [
            vae.latent_channels,
            len(vae.block_out_channels),
            vae.temporal_compression_ratio,
        ]
        text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
