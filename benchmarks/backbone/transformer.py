"""Stages 3 to 5: the transformer, rotary from scratch, then its fine detail, absolute from that."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import CogVideoXDDIMScheduler, CogVideoXTransformer3DModel
from diffusers.models.embeddings import get_3d_rotary_pos_embed
from torch import nn
from transformers import T5EncoderModel

from benchmarks.backbone import text
from benchmarks.backbone.common import Run, autocast
from benchmarks.backbone.latents import KEEP_TWO, Latents

CONFIG = {
    "num_attention_heads": 3,
    "attention_head_dim": 64,
    "in_channels": 16,
    "out_channels": 16,
    "time_embed_dim": 96,
    "text_embed_dim": 96,
    "num_layers": 7,
    "sample_width": 16,
    "sample_height": 16,
    "sample_frames": 33,
    "patch_size": 2,
    "max_text_seq_length": text.TEXT_TOKENS,
    "spatial_interpolation_scale": 1.0,
}
EMPTY_PROMPTS = 0.1
BEFORE = {"detail": "rotary", "absolute": "detail"}
"""Stage -> the one it goes on from."""
# Shapes are bound to their words about twice as soon under Muon as under AdamW: after 200 steps
# from one checkpoint, a wrong shape word costs 12.6e-4 at t = 800 against 4.0e-4.
HIDDEN = re.compile(r"attn1|\.ff\.|SelfAttention|DenseReluDense")


def scheduler() -> CogVideoXDDIMScheduler:
    """CogVideoX's noise schedule, with much more noise.

    Clips of one shape are redundant: under the schedule of 5b (shift 1) an object is still plain at
    t = 700 (error of x_0 0.26 of a variance of 2.1), and everything is decided in the last tenth.
    In whitened latents that differ more, a shift of 20 puts colour and place at t = 800 to 950 and
    shape at 400 to 700.
    """
    return CogVideoXDDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        snr_shift_scale=20.0,
        timestep_spacing="trailing",
        clip_sample=False,
    )


class Pair(nn.Module):
    """Transformer and text encoder as one module, so that one optimiser trains both."""

    def __init__(self, transformer: CogVideoXTransformer3DModel, encoder: T5EncoderModel) -> None:
        super().__init__()
        self.transformer = transformer
        self.encoder = encoder

    def forward(
        self,
        x: torch.Tensor,
        ids: torch.Tensor,
        t: torch.Tensor,
        rotary: tuple[torch.Tensor, torch.Tensor] | None,
    ) -> torch.Tensor:
        words = self.encoder(ids)[0]
        output: torch.Tensor = self.transformer(
            x, words, t, image_rotary_emb=rotary, return_dict=False
        )[0]
        return output


def build(stage: str) -> Pair:
    """A fresh pair for a stage: absolute positions where its name ends so, else rotary."""
    torch.manual_seed(0)
    transformer = CogVideoXTransformer3DModel(
        **CONFIG, use_rotary_positional_embeddings=not stage.endswith("absolute")
    )
    for block in transformer.transformer_blocks:
        # Start every block as the identity: the gates of the adaptive norms at zero.
        for norm in (block.norm1, block.norm2):
            nn.init.zeros_(norm.linear.weight)
            nn.init.zeros_(norm.linear.bias)
    nn.init.zeros_(transformer.proj_out.weight)
    nn.init.zeros_(transformer.proj_out.bias)
    return Pair(transformer, text.encoder())


def averaged(folder: Path, stage: str) -> Pair:
    """The pair of a finished (or running) stage with averaged weights."""
    pair = build(stage)
    if stage.endswith("absolute"):
        pair.encoder.requires_grad_(False)
    Run(stage, folder, pair, steps=0, peak=1.0, decay=0.0).use_average()
    return pair


def rotary_tables(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """What the stock pipeline computes for the 9x8x8 grid."""
    cos, sin = get_3d_rotary_pos_embed(64, ((0, 0), (8, 8)), (8, 8), 9, device=device)
    return cos, sin


# Share of the clips -> timestep, linear in between. The detail stage is about edges: after the
# first one a real clip that was noised to t = 500 and denoised again had lost its shape, though the
# noise hardly hides it. Textures of backgrounds are fainter, and come out below t = 400.
SPREAD = {
    "rotary": ((0, 0.3, 1), (0, 400, 1000)),
    "detail": ((0, 0.1, 0.7, 1), (0, 100, 600, 1000)),
}
# The loss at these timesteps after the first stage. The detail stage divides by it: otherwise the
# edges of small objects, a tenth of the loss of pure noise, are lost in the gradient's own noise.
LEVEL = (
    (0, 100, 200, 300, 400, 500, 600, 700, 800, 875, 1000),
    (0.055, 0.046, 0.05, 0.06, 0.074, 0.097, 0.14, 0.21, 0.32, 0.43, 0.5),
)


def timesteps(batch: int, generator: torch.Generator, stage: str) -> torch.Tensor:
    """`(batch,)` timesteps, evenly spread rather than drawn freely: a quieter gradient."""
    spread = (
        torch.arange(batch) + torch.rand(batch, generator=generator)
    ) / batch  # ordered, in [0, 1)
    t = np.interp(spread.numpy(), *SPREAD["detail" if stage == "detail" else "rotary"])
    return torch.from_numpy(t).long().clamp(0, 999)


def weights(t: torch.Tensor, stage: str) -> torch.Tensor:
    """`(batch,)` weights of the losses, mean 1."""
    if stage != "detail":
        return torch.ones(len(t))
    weight = torch.from_numpy(1 / np.interp(t.numpy(), *LEVEL)).float()
    return weight / weight.mean()


def plain_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    *,
    scale: float | None = None,
    **_: object,
) -> torch.Tensor:
    """Attention `(b, heads, n, d)` by two matrix products: on CPUs, forward and backward take 26 ms
    where the flash kernel takes 45. The text encoder's is not scaled, and has its relative
    positions in the mask.
    """
    logits = q * (q.shape[-1] ** -0.5 if scale is None else scale) @ k.mT
    if attn_mask is not None:
        logits = logits + attn_mask
    return logits.softmax(-1) @ v


def attention_on(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """What a training's passes are made under, each anew: `plain_attention` on CPUs."""
    if device.type != "cpu":
        return contextlib.nullcontext()
    return mock.patch.object(F, "scaled_dot_product_attention", plain_attention)


def noised(
    x: torch.Tensor, noise: torch.Tensor, alphas: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Clips `(n, f, c, h, w)` at the cumulative alphas `(n,)`, and the velocity there."""
    a = alphas.view(-1, 1, 1, 1, 1)
    return a.sqrt() * x + (1 - a).sqrt() * noise, a.sqrt() * noise - (1 - a).sqrt() * x


def begun(folder: Path, device: torch.device, stage: str) -> Pair:
    """The pair that a stage starts from."""
    pair = build(stage).to(device)
    if stage in BEFORE:
        start = build("rotary").to(device)
        Run(BEFORE[stage], folder, start, steps=0, peak=1.0, decay=0.0).use_average()
        pair.load_state_dict(start.state_dict(), strict=False)
    if stage == "absolute":
        # Both variants ship with one text encoder: the rotary one's.
        pair.encoder.requires_grad_(False)
    return pair


def compile_blocks(pair: Pair) -> None:
    """`torch.compile` for every block of the transformer, in place."""
    for block in pair.transformer.transformer_blocks:
        block.compile()


def train(
    folder: Path,
    device: torch.device,
    stage: str,
    steps: int,
    *,
    batch: int,
    peak: float,
    compiled: bool = False,
    keep_two: float = KEEP_TWO,
    keep_plain: float = 1.0,
    minutes: float | None = None,
) -> Pair:
    """Train (or resume) a stage on the shards in `folder`; returns the pair with averaged weights.

    `stage` is rotary, detail (goes on from rotary) or absolute (goes on from detail).
    """
    pair = begun(folder, device, stage)
    hold = 0.3 if stage == "detail" else 0.6
    run = Run(
        stage, folder, pair, steps=steps, peak=peak, decay=0.995, hold=hold, hidden=HIDDEN,
        minutes=minutes,
    )  # fmt: skip
    if compiled:
        compile_blocks(pair)
    data = Latents(folder, device, keep_two=keep_two, keep_plain=keep_plain)
    alphas = scheduler().alphas_cumprod.float().to(device)
    rotary = None if stage == "absolute" else rotary_tables(device)
    attention = attention_on(device)
    generator, here = torch.Generator(), torch.Generator(device)
    for step in run:
        if step % 100 == 0:
            data.refresh()
        x, ids = data.batch(np.random.default_rng([3, step]), batch, EMPTY_PROMPTS)
        t = timesteps(batch, generator.manual_seed(step), stage)
        weight = weights(t, stage).to(device)
        noise = torch.randn(x.shape, generator=here.manual_seed(step), device=device)
        t = t.to(device)
        noisy, target = noised(x, noise, alphas[t])
        with autocast(device), attention:
            prediction = pair(noisy, ids, t, rotary)
        losses = (prediction.float() - target).square().mean((1, 2, 3, 4))
        run.update((losses * weight).mean())
    run.use_average()
    return pair.eval()
