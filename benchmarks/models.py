"""CogVideoX pipelines with random weights, at the published size or tiny, for benchmarks."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
)
from tokenizers import Tokenizer, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from pe_toolkit.backbones import CogVideoXAdapter
from pe_toolkit.backbones.catalogue.variants import Variant, variant_for
from pe_toolkit.backbones.cogvideox import tiling
from pe_toolkit.backbones.cogvideox.sampling import CogVideoXSampler
from pe_toolkit.video import Clip

PROMPT = "a red circle"
TINY_FRAMES, TINY_STEPS = 9, 10
_WIDE: dict[str, Any] = {
    "num_layers": 42,
    "num_attention_heads": 48,
    "use_rotary_positional_embeddings": True,
}
PUBLISHED: dict[str, dict[str, Any]] = {
    "cogvideox-2b": {"num_layers": 30, "num_attention_heads": 30},
    "cogvideox-5b": _WIDE,
    "cogvideox1.5-5b": _WIDE
    | {
        "patch_size_t": 2,
        "patch_bias": False,
        "sample_width": 170,
        "sample_height": 96,
        "sample_frames": 81,
    },
}
_TINY: dict[str, Any] = {
    "num_layers": 3, "num_attention_heads": 2, "in_channels": 4, "out_channels": 4,
    "time_embed_dim": 8, "text_embed_dim": 16, "sample_width": 8, "sample_height": 8,
    "sample_frames": TINY_FRAMES, "max_text_seq_length": 8,
}  # fmt: skip

# T5 v1.1 XXL, which has to share the GPU with the rest until the prompts are read.
_T5: dict[str, Any] = {
    "vocab_size": 32128, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24,
    "num_heads": 64, "feed_forward_proj": "gated-gelu", "dropout_rate": 0.0,
}  # fmt: skip
_TINY_T5: dict[str, Any] = {
    "vocab_size": 6, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2,
    "dropout_rate": 0.0,
}  # fmt: skip


def variant(name: str, *, tiny: bool = False) -> Variant:
    """The row of a backbone; tiny: at 9 frames of 32x32."""
    row = variant_for(name)
    if not tiny:
        return row
    changes = {"frames": TINY_FRAMES, "width": 32, "height": 32, "block": 1, "max_text_tokens": 8}
    return dataclasses.replace(row, **changes)


def build(
    name: str,
    device: torch.device,
    *,
    tiny: bool = False,
    dtype: torch.dtype | None = None,
    layers: int | None = None,
    light: bool = False,
) -> CogVideoXAdapter:
    """The real classes at the published (or tiny) configuration.

    `layers` leaves out the last blocks of the transformer; light: a text encoder and a VAE that
    give tensors of the published shapes, from next to no weights.
    """
    row = variant(name, tiny=tiny)
    dtype = dtype or (torch.float32 if tiny else getattr(torch, row.dtype))
    config = PUBLISHED[name] | (_TINY if tiny else {})
    config |= {} if layers is None else {"num_layers": layers}
    reader = (_TINY_T5 if tiny else _T5) | ({"num_layers": 1} if light else {})
    kinds = (("CogVideoXDownBlock3D",) * (3 if tiny else 4), (8,) * 3, 4, 1)
    down, channels, latent, per_block = kinds
    if not tiny:
        channels, latent, per_block = (128, 256, 256, 512), 16, 3  # type: ignore[assignment]
    if light:
        channels, per_block = (32,) * len(down), 1  # type: ignore[assignment]
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    try:
        with device:
            transformer = CogVideoXTransformer3DModel(**config).eval()
            vae = AutoencoderKLCogVideoX(
                block_out_channels=channels,
                down_block_types=down,
                up_block_types=tuple(d.replace("Down", "Up") for d in down),
                latent_channels=latent,
                layers_per_block=per_block,
                norm_num_groups=2 if tiny else 32,
                sample_height=32 if tiny else 480,
                sample_width=32 if tiny else 720,
            ).eval()
            text = T5EncoderModel(T5Config(**reader)).eval()
    finally:
        torch.set_default_dtype(torch.float32)
    kind = CogVideoXDPMScheduler if "DPM" in row.scheduler else CogVideoXDDIMScheduler
    pipe = CogVideoXPipeline(
        tokenizer=_tokenizer(),
        text_encoder=text,
        vae=vae,
        transformer=transformer,
        scheduler=kind(
            prediction_type="v_prediction",
            rescale_betas_zero_snr=True,
            timestep_spacing="trailing",
            snr_shift_scale=3.0 if name == "cogvideox-2b" else 1.0,
            clip_sample=False,
        ),
    )
    pipe.set_progress_bar_config(disable=True)
    if not tiny:
        tiling.enable(vae)
    # In tiles, as the memory model has it: whole where it fits would measure what is free.
    return CogVideoXAdapter(pipe, row, vae_tiling=None if tiny else True)


def _tokenizer() -> Any:
    words = ["<pad>", "</s>", "<unk>", "a", "red", "circle"]
    inner = Tokenizer(WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def sampler(adapter: CogVideoXAdapter, frames: int, steps: int) -> CogVideoXSampler:
    """A generation that stands at its beginning."""
    width, height = adapter.size
    row = adapter.variant
    assert row is not None
    return CogVideoXSampler(
        adapter, [PROMPT], [0], steps=steps, guidance_scale=row.guidance_scale,
        dynamic_cfg=row.dynamic_cfg, frames=frames, width=width, height=height,
    )  # fmt: skip


def moving_square(adapter: CogVideoXAdapter, frames: int) -> Clip:
    """A white square that crosses a noisy grey background, at the backbone's size."""
    width, height = adapter.size
    noise = np.random.default_rng(0).integers(60, 120, (height, width, 3))
    pixels = np.broadcast_to(noise, (frames, height, width, 3)).astype(np.uint8).copy()
    side = height // 3
    for index in range(frames):
        x = index * (width - side) // max(1, frames - 1)
        pixels[index, side : 2 * side, x : x + side] = 250
    digest = hashlib.sha256(pixels.tobytes()).hexdigest()
    return Clip(
        frames=pixels,
        fps=8.0,
        source="memory",
        sha256=digest,
        duration=frames / 8,
        total_frames=frames,
    )
