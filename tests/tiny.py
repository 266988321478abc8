"""Tiny real CogVideoX pipelines with random weights, for tests of the code around them."""

from __future__ import annotations

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
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from pe_toolkit.backbones import CogVideoXAdapter
from pe_toolkit.backbones.catalogue.variants import Variant, variant_for
from pe_toolkit.video import Clip

FRAMES, SIDE, TOKENS = 9, 32, 8
GUIDANCE = variant_for("bundled").guidance_scale  # what the trainer takes if none is given


def tiny_tokenizer() -> Any:
    """Eight words, the end of a text included."""
    words = ["<pad>", "</s>", "<unk>", "a", "red", "blue", "circle", "square"]
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def tiny_pipe(
    positions: str = "rotary", scheduler: str = "ddim", patch_size_t: int | None = None
) -> Any:
    """A pipeline of 9 frames at 32x32: token grid 3x4x4 (2x4x4 with `patch_size_t=2`)."""
    torch.manual_seed(0)
    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=4,
        out_channels=4,
        time_embed_dim=8,
        text_embed_dim=16,
        num_layers=3,
        sample_width=SIDE // 4,
        sample_height=SIDE // 4,
        sample_frames=FRAMES,
        patch_size=2,
        patch_size_t=patch_size_t,
        max_text_seq_length=TOKENS,
        spatial_interpolation_scale=1.0,
        use_rotary_positional_embeddings=positions == "rotary",
    )
    kind = CogVideoXDPMScheduler if scheduler == "dpm" else CogVideoXDDIMScheduler
    pipe = CogVideoXPipeline(
        tokenizer=tiny_tokenizer(),
        text_encoder=T5EncoderModel(
            T5Config(
                vocab_size=8,
                d_model=16,
                d_kv=8,
                d_ff=16,
                num_layers=1,
                num_heads=2,
                dropout_rate=0.0,
            )
        ).eval(),
        vae=AutoencoderKLCogVideoX(
            block_out_channels=(8, 8, 8),
            down_block_types=("CogVideoXDownBlock3D",) * 3,
            up_block_types=("CogVideoXUpBlock3D",) * 3,
            latent_channels=4,
            layers_per_block=1,
            norm_num_groups=2,
            sample_height=SIDE,
            sample_width=SIDE,
        ).eval(),
        transformer=transformer.eval(),
        scheduler=kind(
            prediction_type="v_prediction",
            rescale_betas_zero_snr=True,
            timestep_spacing="trailing",
            snr_shift_scale=1.0,
            clip_sample=False,
        ),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def tiny_variant(positions: str = "rotary", **changes: Any) -> Variant:
    """Defaults that fit `tiny_pipe`."""
    import dataclasses

    base = variant_for("bundled" if positions == "rotary" else "bundled-absolute")
    values = {
        "frames": FRAMES,
        "width": SIDE,
        "height": SIDE,
        "steps": 5,
        "block": 1,
        "reading": None,
        "start_scale": 1.0,
        "guided_range": (0.9, 1.0),
        "mask": "nonzero",
        "max_text_tokens": TOKENS,
        "samples": 2,
        "start": "zero",
        "inner_steps": 2,
    }
    return dataclasses.replace(base, **{**values, **changes})


def tiny_adapter(
    positions: str = "rotary", scheduler: str = "ddim", **changes: Any
) -> CogVideoXAdapter:
    """`tiny_pipe` behind the adapter."""
    return CogVideoXAdapter(tiny_pipe(positions, scheduler), tiny_variant(positions, **changes))


def moving_square(frames: int = FRAMES, side: int = SIDE) -> Clip:
    """A white square that crosses a noisy grey background."""
    rng = np.random.default_rng(0)
    pixels = np.broadcast_to(
        rng.integers(60, 120, (side, side, 3)), (frames, side, side, 3)
    ).astype(np.uint8)
    pixels = pixels.copy()
    for i in range(frames):
        x = 2 + i * (side - 12) // max(1, frames - 1)
        pixels[i, 10:20, x : x + 10] = 250
    return clip_of(pixels)


def clip_of(pixels: np.ndarray[Any, Any]) -> Clip:
    """A `Clip` value around frames made in memory."""
    import hashlib

    return Clip(
        frames=pixels,
        fps=8.0,
        source="memory",
        sha256=hashlib.sha256(pixels.tobytes()).hexdigest(),
        duration=len(pixels) / 8,
        total_frames=len(pixels),
    )
