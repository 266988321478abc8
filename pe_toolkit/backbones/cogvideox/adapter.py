"""The adapter for every CogVideoX: bundled, 2b, 5b and 1.5, text-to-video and image-to-video.

It wraps a pipeline that the caller has loaded and answers what the method needs: the token grid,
latents of a clip, the model's own positions, and queries and keys of a block with the forward pass
stopped there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pe_toolkit.backbones import finite, ways
from pe_toolkit.backbones.catalogue.variants import Variant
from pe_toolkit.backbones.cogvideox import encoding, hooks, tiling
from pe_toolkit.backbones.cogvideox.driving import CogVideoXDriving
from pe_toolkit.backbones.cogvideox.keyvalue import ReferenceKeysValues
from pe_toolkit.backbones.cogvideox.processors import turned_back
from pe_toolkit.backbones.cogvideox.sampling import CogVideoXSampler
from pe_toolkit.backbones.reading import Reading
from pe_toolkit.backbones.stopping import block_output
from pe_toolkit.backbones.ways import Encoded, Way
from pe_toolkit.errors import UnsupportedError, UsageError
from pe_toolkit.shown import shown

# What the pipeline passes as `ofs` to CogVideoX 1.5 image-to-video.
_OFS = 2.0


class CogVideoXAdapter(CogVideoXDriving):
    """A loaded `CogVideoXPipeline` or `CogVideoXImageToVideoPipeline` seen as a backbone.

    Args:
        pipe: a diffusers CogVideoX text-to-video or image-to-video pipeline, in whatever state the
            user keeps it (LoRA, offload, tiling, another device). It is never changed for longer
            than a call.
        variant: its row of defaults, or None to keep the model's own frame size and no
            recommendations.
        model_id, revision: what cards record: a Hub id and commit, None for local folders.
        weights_digest: `sha256:...` of the bundled transformer's weights, None for others.
        vae_tiling: clips are encoded in tiles, or never; None: whole where memory allows, see
            `encoding`. Decoding goes by the VAE as it is kept.

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
        vae_tiling: bool | None = None,
    ) -> None:
        transformer: Any = getattr(pipe, "transformer", None)
        core: Any = getattr(transformer, "_orig_mod", transformer)
        if type(core).__name__ != "CogVideoXTransformer3DModel":
            raise UnsupportedError(
                f"Expected a CogVideoX pipeline, got {type(pipe).__name__} with "
                f"{type(core).__name__}.",
                "pe-toolkit drives CogVideoX-2b, -5b, 1.5 and its bundled backbone.",
            )
        kinds = [kind.__name__ for kind in type(pipe).__mro__]  # also one that somebody derived
        image_to_video = "CogVideoXImageToVideoPipeline" in kinds
        if getattr(pipe, "vae", None) is None:
            raise UnsupportedError(
                f"Expected a {type(pipe).__name__} with its VAE, got one without.",
                "The VAE says what latents are: load it with the pipeline.",
            )
        wanted = pipe.vae.config.latent_channels * (2 if image_to_video else 1)
        if core.config.in_channels != wanted:
            raise UnsupportedError(
                "Expected a CogVideoX text-to-video or image-to-video pipeline, got "
                f"{type(pipe).__name__} with {core.config.in_channels} input channels.",
                "Load the text-to-video checkpoint of the same model.",
            )
        super().__init__(pipe, variant, image_to_video=image_to_video)
        self.model_id = model_id
        self.revision = revision
        self.weights_digest = weights_digest
        self.vae_tiling = vae_tiling

    # Inputs ---------------------------------------------------------------------------------------

    def check_prompt(self, prompt: str, what: str = "a prompt") -> None:
        """Refuse empty and too long prompts before any work; `what` it is, for the message.

        Raises:
            UsageError: says how many tokens fit.
        """
        if not prompt.strip():
            raise UsageError(
                f"Expected {what}, got an empty one.", "Describe what the video should show."
            )
        count = len(self.pipe.tokenizer(prompt, verbose=False).input_ids)
        if count > self.max_text_tokens:
            raise UsageError(
                f"Expected {what} of at most {self.max_text_tokens} tokens, got {count}: "
                f"{shown(prompt)}",
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
        picture = isinstance(image, np.ndarray) and image.dtype == np.uint8
        if image is not None and not (picture and image.ndim == 3 and image.shape[-1] == 3):
            came = f"{image.shape} {image.dtype}" if hasattr(image, "dtype") else type(image)
            raise UsageError(
                f"Expected an image uint8 (H, W, 3), got {came}.",
                'np.asarray(Image.open("first.png").convert("RGB")) is one.',
            )
        if image is not None and not self.image_to_video:
            raise UsageError(
                "Expected no image for a text-to-video backbone, got one.",
                "Leave --image out, or use cogvideox-5b-i2v or cogvideox1.5-5b-i2v.",
            )

    def check_decoder(self) -> None:
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

    def encode_clip(self, frames: NDArray[np.uint8]) -> torch.Tensor:
        """uint8 RGB `(F, H, W, 3)` -> latents `(1, F', C, h, w)`; see `encode`."""
        return self.encode(frames).latents

    @torch.no_grad()
    def encode(
        self, frames: NDArray[np.uint8], wanted: tuple[Way | None, ...] | None = None
    ) -> Encoded:
        """uint8 RGB `(F, H, W, 3)` -> latents `(1, F', C, h, w)`: the posterior's mode, scaled as
        in training, in the first way of `wanted` that fits (default: those of `vae_tiling`).

        CogVideoX 1.5 wants an even number of latent frames; the first is repeated in front, where
        its pipeline discards it.

        Raises:
            UnsupportedError: as `check_decoder`, or tiles that would change the size.
            BackboneError: latents that are not finite.
        """
        self.check_decoder()
        vae = self.pipe.vae
        x = torch.from_numpy(np.ascontiguousarray(frames)).to(self.device, vae.dtype)
        x = (x / 127.5 - 1).permute(3, 0, 1, 2)[None]  # (1, 3, F, H, W)
        mode, way = encoding.encode(vae, x, wanted or ways.choices(self.vae_tiling))
        z = mode * vae.config.scaling_factor
        finite.check(z, "VAE", vae.dtype)
        z = z.permute(0, 2, 1, 3, 4).to(self.dtype)
        even = self.latent_shape(frames.shape[0], frames.shape[2], frames.shape[1])[0]
        if even > z.shape[1]:
            z = torch.cat([z[:, :1].expand(-1, even - z.shape[1], -1, -1, -1), z], dim=1)
        return Encoded(z, way)

    @torch.no_grad()
    def encode_image(self, frames: NDArray[np.uint8]) -> torch.Tensor | None:
        """Conditioning latents `(1, F', C, h, w)` of a clip's own first frame; None for
        text-to-video.

        Scaled as the image-to-video pipeline does, of the posterior's mode, zero after the first
        latent frame.

        Raises:
            UnsupportedError: as `check_decoder`.
            BackboneError: latents that are not finite.
        """
        if not self.image_to_video:
            return None
        self.check_decoder()
        count, height, width = frames.shape[:3]
        vae = self.pipe.vae
        x = torch.from_numpy(np.ascontiguousarray(frames[:1])).to(self.device, vae.dtype)
        x = (x / 127.5 - 1).permute(3, 0, 1, 2)[None]  # (1, 3, 1, H, W)
        z = vae.encode(x).latent_dist.mode().permute(0, 2, 1, 3, 4).to(self.dtype)
        finite.check(z, "VAE", vae.dtype)
        scale = self.pipe.vae_scaling_factor_image
        z = z / scale if vae.config.invert_scale_latents else z * scale
        whole: torch.Tensor = z.new_zeros(1, *self.latent_shape(count, width, height))
        whole[:, :1] = z
        return whole

    @torch.no_grad()
    def decode(self, latents: torch.Tensor, frames: int) -> NDArray[np.uint8]:
        """Latents `(1, F', C, h, w)` -> uint8 RGB `(F, H, W, 3)`, padding frames dropped.

        Raises:
            UnsupportedError: as `check_decoder`, or tiles that would change the size.
            BackboneError: latents or pixels that are not finite.
        """
        self.check_decoder()
        scale = self.pipe.vae_scale_factor_spatial
        tiling.check(self.pipe.vae, latents.shape[3] * scale, latents.shape[4] * scale)
        pad = latents.shape[1] - ((frames - 1) // self.pipe.vae_scale_factor_temporal + 1)
        with finite.decoding(self.pipe.vae):
            video = self.pipe.decode_latents(latents[:, pad:].to(self.pipe.vae.dtype))
        array = self.pipe.video_processor.postprocess_video(video=video, output_type="np")[0]
        return np.rint(array * 255).astype(np.uint8)  # type: ignore[no-any-return]

    # Samples --------------------------------------------------------------------------------------

    def sampler(self, prompts: list[str], seeds: list[int], **how: Any) -> CogVideoXSampler:
        """Generations from N prompts and N seeds; arguments as in `backbones.contract.Backbone`."""
        return CogVideoXSampler(self, prompts, seeds, **how)

    def keys_values(
        self,
        latents: torch.Tensor,
        seed: int,
        frames: int,
        width: int,
        height: int,
        image: torch.Tensor | None = None,
        *,
        fixed: bool = False,
    ) -> ReferenceKeysValues:
        """Keys and values of a reference with these latents: see `backbones.contract`."""
        return ReferenceKeysValues(self, latents, seed, frames, width, height, image, fixed=fixed)

    # The tap --------------------------------------------------------------------------------------

    def check_block(self, block: int) -> None:
        """Refuse a block the transformer does not have.

        Raises:
            UsageError: names the range, and a block within it.
        """
        last = len(self.transformer.transformer_blocks) - 1
        if not 0 <= block <= last:
            own = self.variant.block if self.variant else last + 1
            near = own if own <= last else (last + 1) // 2  # about where the published ones lie
            raise UsageError(
                f"Expected a block from 0 to {last}, got {block}.",
                f"Use a number in this range, such as --set block={near}.",
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

    def features(
        self,
        latents: torch.Tensor,
        text: torch.Tensor,
        timestep: int,
        block: int,
        rotary: Any,
        image: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Hidden states of the video tokens after `block`, `(B, S, inner_dim)`; the forward stops
        there. Otherwise as `queries_and_keys`.
        """
        t = torch.full((latents.shape[0],), timestep, device=latents.device)
        found: torch.Tensor = block_output(
            self.transformer,
            self.transformer.transformer_blocks[block],
            lambda: self.forward(latents, text, t, rotary, image),
        )[0]  # the text tokens come second
        return found

    @torch.no_grad()
    def reference_features(
        self,
        latents: torch.Tensor,
        block: int,
        frames: int,
        width: int,
        height: int,
        image: torch.Tensor | None = None,
        text: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Hidden states of a clean reference after `block`: see `backbones.contract`."""
        rotary = self.base_positions(frames, width, height) if self.positions == "rotary" else None
        text = self.encode_text([""]) if text is None else text
        return self.features(latents, text, 0, block, rotary, image)

    @torch.no_grad()
    def reference_queries_and_keys(
        self,
        latents: torch.Tensor,
        reading: Reading,
        frames: int,
        width: int,
        height: int,
        image: torch.Tensor | None = None,
        text: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Q and K of a clean reference: empty prompt, no noise (the paper, section 4.1).

        Those of several blocks come as more heads, `(1, blocks * heads, S, head_dim)`: logits are
        means over heads. Read by content, they come without rotary embedding. `text` is
        `encode_text([""])`, for whoever has it already.
        """
        rotary = self.base_positions(frames, width, height) if self.positions == "rotary" else None
        text = self.encode_text([""]) if text is None else text
        queries, keys = [], []
        for block in reading.blocks:
            q, k = self.queries_and_keys(latents, text, reading.timestep, block, rotary, image)
            if reading.by == "content" and rotary is not None:
                q, k = turned_back(q, rotary), turned_back(k, rotary)
            queries.append(q)
            keys.append(k)
        return torch.cat(queries, dim=1), torch.cat(keys, dim=1)
