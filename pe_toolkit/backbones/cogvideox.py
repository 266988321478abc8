"""The adapter for every CogVideoX: bundled, 2b, 5b and 1.5, text-to-video and image-to-video.

It wraps a pipeline that the caller has loaded and answers what the method needs: the token grid,
latents of a clip, the model's own positions, and queries and keys of a block with the forward pass
stopped there.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pe_toolkit.backbones import hooks
from pe_toolkit.backbones.variants import Variant
from pe_toolkit.embedding import PositionalForm, SincosTable, form_for
from pe_toolkit.errors import UnsupportedError, UsageError
from pe_toolkit.grid import TokenGrid

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


# What the pipeline passes as `ofs` to CogVideoX 1.5 image-to-video.
_OFS = 2.0


class CogVideoXAdapter:
    """A loaded `CogVideoXPipeline` or `CogVideoXImageToVideoPipeline` seen as a backbone.

    Args:
        pipe: a diffusers CogVideoX text-to-video or image-to-video pipeline, in whatever state the
            user keeps it (LoRA, offload, tiling, another device). It is never changed for longer
            than a call.
        variant: its row of defaults, or None to keep the model's own frame size and no
            recommendations.
        model_id, revision: what cards record: a Hub id and commit, None for local folders.
        weights_digest: `sha256:...` of the bundled transformer's weights, None for others.

    Raises:
        UnsupportedError: for a pipeline that is neither.
    """

    family = "cogvideox"

    def __init__(
        self,
        pipe: Any,
        variant: Variant | None = None,
        *,
        model_id: str | None = None,
        revision: str | None = None,
        weights_digest: str | None = None,
    ) -> None:
        transformer: Any = getattr(pipe, "transformer", None)
        core: Any = getattr(transformer, "_orig_mod", transformer)
        if type(core).__name__ != "CogVideoXTransformer3DModel":
            raise UnsupportedError(
                f"Expected a CogVideoX pipeline, got {type(pipe).__name__} with "
                f"{type(core).__name__}.",
                "pe-toolkit drives CogVideoX-2b, -5b, 1.5 and its bundled backbone.",
            )
        self.image_to_video = type(pipe).__name__ == "CogVideoXImageToVideoPipeline"
        """Whether generations begin with a given picture."""
        wanted = pipe.vae.config.latent_channels * (2 if self.image_to_video else 1)
        if core.config.in_channels != wanted:
            raise UnsupportedError(
                "Expected a CogVideoX text-to-video or image-to-video pipeline, got "
                f"{type(pipe).__name__} with {core.config.in_channels} input channels.",
                "Load the text-to-video checkpoint of the same model.",
            )
        self.pipe = pipe
        self.variant = variant
        self.model_id = model_id
        self.revision = revision
        self.weights_digest = weights_digest

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
            UsageError: if the frame count or the size cannot be represented, or is not the one size
                that learned positions allow.
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
                f"Expected a frame count of {unit_t}k + 1 or {unit_t}k, got {frames}.",
                f"Use --frames {near}.",
            )
        config = self.transformer.config
        pad = config.patch_size_t
        latent += (-latent) % pad if pad else 0
        if config.use_learned_positional_embeddings:
            self._check_learned(frames, width, height)
        channels = config.in_channels // (2 if self.image_to_video else 1)
        return latent, channels, height // scale, width // scale

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
        kind = form_for(self.positions, parametrisation)
        base, grid = (
            self.base_positions(frames, width, height),
            self.grid_for(frames, width, height),
        )
        if kind is SincosTable:
            config = self.transformer.config
            scales = (config.spatial_interpolation_scale, config.temporal_interpolation_scale)
            return SincosTable(base, grid, scales)
        return kind(base, grid)

    # Inputs ---------------------------------------------------------------------------------------

    @property
    def max_text_tokens(self) -> int:
        return int(self.transformer.config.max_text_seq_length)

    def check_prompt(self, prompt: str) -> None:
        """Refuse empty and too long prompts before any work.

        Raises:
            UsageError: says how many tokens fit.
        """
        if not prompt.strip():
            raise UsageError(
                "Expected a prompt, got an empty one.", "Describe what the video should show."
            )
        count = len(self.pipe.tokenizer(prompt).input_ids)
        if count > self.max_text_tokens:
            raise UsageError(
                f"Expected a prompt of at most {self.max_text_tokens} tokens, got {count}: "
                f"{prompt[:60]!r}...",
                "Shorten the prompt.",
            )

    def check_image(self, image: Any) -> None:
        """Refuse a missing picture, or one that nothing would look at.

        Raises:
            UsageError: says which.
        """
        if self.image_to_video and image is None:
            raise UsageError(
                "Expected an image for an image-to-video backbone, got none.",
                "Use --image: the first frame of the video.",
            )
        if image is not None and not self.image_to_video:
            raise UsageError(
                "Expected no image for a text-to-video backbone, got one.",
                "Leave --image out, or use cogvideox-5b-i2v or cogvideox1.5-5b-i2v.",
            )

    def check_vae(self) -> None:
        """Refuse a VAE whose weights are elsewhere when it encodes and decodes.

        Raises:
            UnsupportedError: block-level group offloading of the whole pipeline. diffusers brings
                what lies outside of lists of blocks, for a VAE everything, with `forward`, which
                pipelines never call.
        """
        registry = getattr(self.pipe.vae, "_diffusers_hook", None)
        hook = registry.get_hook("group_offloading") if registry is not None else None
        group = getattr(hook, "group", None)
        if group is not None and (group.modules or group.parameters):
            raise UnsupportedError(
                "Expected a VAE whose weights are there when it encodes and decodes, got one under "
                "block-level group offloading, which brings them for `forward` only.",
                'Use pipe.enable_group_offload(..., exclude_modules=["vae"]), or '
                'offload_type="leaf_level".',
            )

    @torch.no_grad()
    def encode_text(self, prompts: list[str]) -> torch.Tensor:
        """`(N, tokens, text_dim)` embeddings, exactly as the pipeline makes them."""
        embeds, _ = self.pipe.encode_prompt(
            prompts,
            do_classifier_free_guidance=False,
            max_sequence_length=self.max_text_tokens,
            device=self.device,
        )
        return embeds  # type: ignore[no-any-return]

    @torch.no_grad()
    def encode_clip(self, frames: NDArray[np.uint8]) -> torch.Tensor:
        """uint8 RGB `(F, H, W, 3)` -> latents `(1, F', C, h, w)`: the posterior's mode, scaled as
        in training.

        CogVideoX 1.5 wants an even number of latent frames; the first is repeated in front, where
        its pipeline discards it.
        """
        self.check_vae()
        vae = self.pipe.vae
        x = torch.from_numpy(np.ascontiguousarray(frames)).to(self.device, vae.dtype)
        x = (x / 127.5 - 1).permute(3, 0, 1, 2)[None]  # (1, 3, F, H, W)
        z: torch.Tensor = vae.encode(x).latent_dist.mode() * vae.config.scaling_factor
        z = z.permute(0, 2, 1, 3, 4).to(self.dtype)
        wanted = self.latent_shape(frames.shape[0], frames.shape[2], frames.shape[1])[0]
        if wanted > z.shape[1]:
            z = torch.cat([z[:, :1].expand(-1, wanted - z.shape[1], -1, -1, -1), z], dim=1)
        return z

    @torch.no_grad()
    def encode_image(self, frames: NDArray[np.uint8]) -> torch.Tensor | None:
        """Conditioning latents `(1, F', C, h, w)` of a clip's own first frame; None for
        text-to-video.

        Scaled as the image-to-video pipeline does, of the posterior's mode, zero after the first
        latent frame.
        """
        if not self.image_to_video:
            return None
        count, height, width = frames.shape[:3]
        vae = self.pipe.vae
        x = torch.from_numpy(np.ascontiguousarray(frames[:1])).to(self.device, vae.dtype)
        x = (x / 127.5 - 1).permute(3, 0, 1, 2)[None]  # (1, 3, 1, H, W)
        z = vae.encode(x).latent_dist.mode().permute(0, 2, 1, 3, 4).to(self.dtype)
        scale = self.pipe.vae_scaling_factor_image
        z = z / scale if vae.config.invert_scale_latents else z * scale
        whole: torch.Tensor = z.new_zeros(1, *self.latent_shape(count, width, height))
        whole[:, :1] = z
        return whole

    @torch.no_grad()
    def decode(self, latents: torch.Tensor, frames: int) -> NDArray[np.uint8]:
        """Latents `(1, F', C, h, w)` -> uint8 RGB `(F, H, W, 3)`, padding frames dropped."""
        pad = latents.shape[1] - ((frames - 1) // self.pipe.vae_scale_factor_temporal + 1)
        video = self.pipe.decode_latents(latents[:, pad:].to(self.pipe.vae.dtype))
        array = self.pipe.video_processor.postprocess_video(video=video, output_type="np")[0]
        return np.rint(array * 255).astype(np.uint8)  # type: ignore[no-any-return]

    # The tap --------------------------------------------------------------------------------------

    def check_block(self, block: int) -> None:
        """Refuse a block the transformer does not have.

        Raises:
            UsageError: names the range.
        """
        last = len(self.transformer.transformer_blocks) - 1
        if not 0 <= block <= last:
            raise UsageError(
                f"Expected a block from 0 to {last}, got {block}.", "Leave --set block=... out."
            )

    def forward(
        self,
        latents: torch.Tensor,
        text: torch.Tensor,
        timesteps: torch.Tensor,
        rotary: Any,
        image: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """One pass of the transformer, called exactly as the pipeline calls it.

        Args:
            latents: `(B, F', C, h, w)`.
            text: `(B, tokens, text_dim)`.
            timesteps: `(B,)`.
            rotary: tables, a pair of tables, or None on absolute backbones.
            image: `(1 or B, F', C, h, w)` conditioning latents of image-to-video backbones.

        Returns:
            The prediction `(B, F', C, h, w)`.
        """
        x, extra = latents, {}
        if image is not None:
            x = torch.cat([latents, image.to(latents).expand_as(latents)], dim=2)
        if self.transformer.config.ofs_embed_dim is not None:
            extra["ofs"] = latents.new_full((1,), _OFS)
        out: tuple[torch.Tensor] = self.pipe.transformer(
            hidden_states=x,
            encoder_hidden_states=text,
            timestep=timesteps,
            image_rotary_emb=rotary,
            return_dict=False,
            **extra,
        )
        return out[0]

    def queries_and_keys(
        self,
        latents: torch.Tensor,
        text: torch.Tensor,
        timestep: int,
        block: int,
        rotary: Any,
        image: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Q and K of the video tokens at `block`, each `(B, heads, S, head_dim)`; the forward stops
        there.

        Differentiable in latents and positions. `rotary` are tables, a pair of tables, or None on
        absolute backbones (whose positions come from `hooks.positions`).
        """
        t = torch.full((latents.shape[0],), timestep, device=latents.device)
        return hooks.queries_and_keys(
            self.transformer, block, lambda: self.forward(latents, text, t, rotary, image)
        )

    @torch.no_grad()
    def reference_queries_and_keys(
        self,
        latents: torch.Tensor,
        block: int,
        frames: int,
        width: int,
        height: int,
        image: torch.Tensor | None = None,
        text: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Q and K of a clean reference: t = 0, empty prompt, no noise (the paper, section 4.1).

        `text` is `encode_text([""])`, for whoever has it already.
        """
        rotary = self.base_positions(frames, width, height) if self.positions == "rotary" else None
        text = self.encode_text([""]) if text is None else text
        return self.queries_and_keys(latents, text, 0, block, rotary, image)

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
