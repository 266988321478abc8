"""Stage 1: a small `AutoencoderKLCogVideoX` trained on crops of rendered clips."""

from __future__ import annotations

import concurrent.futures
import math
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLCogVideoX
from diffusers.models.autoencoders.autoencoder_kl_cogvideox import CogVideoXSpatialNorm3D
from PIL import Image

from benchmarks.backbone.common import Run, autocast
from pe_toolkit.world.scenes import render, sample_scene

CONFIG = {
    "block_out_channels": (16, 32, 48, 64),
    "latent_channels": 16,
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "sample_height": 128,
    "sample_width": 128,
}
PICTURES = 600
WHITE = "vae-white"
POWER = 0.5  # of whitening: 0 leaves the latents, 1 makes all channels equal
NOISE = 0.05  # standard deviation added to the latents in training


def crops(rng: np.random.Generator, batch: int, frames: int, side: int) -> torch.Tensor:
    """`(batch, 3, frames, side, side)` in [-1, 1]: crops around an object, so that few are "
    "empty."""
    out = []
    for _ in range(batch):
        scene = sample_scene(rng, frames=33, two=0.4)
        start = int(rng.integers(0, 33 - frames + 1))
        clip = render(scene, span=slice(start, start + frames))
        centre = scene.things[0].path[start + frames // 2] * 128
        x, y = (int(np.clip(c - side / 2 + rng.uniform(-24, 24), 0, 128 - side)) for c in centre)
        out.append(clip[:, y : y + side, x : x + side])
    return torch.from_numpy(np.stack(out)).permute(0, 4, 1, 2, 3).float() / 127.5 - 1


def batch(step: int) -> torch.Tensor:
    """The crops of one step: first single pictures, which teach the spatial layers at a ninth of
    the cost, then
    nine frames (one chunk of the encoder) and 17 (its cached convolutions too)."""
    rng = np.random.default_rng([1, step])
    if step < PICTURES:
        return crops(rng, 12, 1, 64)
    return crops(rng, 2, 17, 64) if step % 4 == 3 else crops(rng, 4, 9, 64)


def train(folder: Path, device: torch.device, steps: int) -> AutoencoderKLCogVideoX:
    """Train (or resume) the autoencoder; returns it with averaged weights and its scaling factor
    set.
    """
    torch.manual_seed(0)
    vae = AutoencoderKLCogVideoX(**CONFIG).to(device)
    for module in vae.decoder.modules():
        if isinstance(module, CogVideoXSpatialNorm3D):
            # The norm multiplies by a convolution of the latents, near zero at the default start.
            torch.nn.init.ones_(module.conv_y.conv.bias)
            torch.nn.init.zeros_(module.conv_b.conv.bias)
    run = Run("vae", folder, vae, steps=steps, peak=2e-3, decay=0.995)
    ahead = concurrent.futures.ThreadPoolExecutor(1)
    upcoming = ahead.submit(batch, run.step)
    for step in run:
        x = upcoming.result().to(device)
        upcoming = ahead.submit(batch, step + 1)
        with autocast(device):
            posterior = vae.encode(x).latent_dist
            mean = posterior.mean.float()
            # A fixed small noise instead of the learned one: with a free variance the decoder
            # starts by ignoring the latents. The variance is only taught to say what the noise was.
            y = vae.decode(mean + NOISE * torch.randn_like(mean)).sample.float()
        variance = F.mse_loss(posterior.logvar.float(), torch.full_like(mean, 2 * math.log(NOISE)))
        run.update(distance(y, x) + 1e-3 * (mean**2).mean() + 1e-3 * variance)
    run.use_average()
    with torch.no_grad(), autocast(device):
        rng = np.random.default_rng(8)
        x = torch.from_numpy(np.stack([render(sample_scene(rng, two=0.2)) for _ in range(8)])).to(
            device
        )
        z = vae.encode(x.permute(0, 4, 1, 2, 3).float() / 127.5 - 1).latent_dist.mode()
    vae.register_to_config(scaling_factor=float(1 / z.float().std()))
    report(vae.eval(), folder)
    vae.save_pretrained(folder / "vae")
    return vae


def polish(folder: Path, device: torch.device, steps: int) -> AutoencoderKLCogVideoX:
    """Train the decoder alone on whole clips, whose chunks hand their cached convolutions on.

    The encoder stays as it was, so latents and transformers that were made with it stay valid.
    """
    vae = AutoencoderKLCogVideoX.from_pretrained(folder / "vae").to(device)
    vae.encoder.requires_grad_(False)
    run = Run("decoder", folder, vae.decoder, steps=steps, peak=1e-3, decay=0.99)
    ahead = concurrent.futures.ThreadPoolExecutor(1)

    def draw(step: int) -> torch.Tensor:
        return crops(np.random.default_rng([4, step]), 2, 33, 48)

    upcoming = ahead.submit(draw, run.step)
    for step in run:
        x = upcoming.result().to(device)
        upcoming = ahead.submit(draw, step + 1)
        with autocast(device):
            with torch.no_grad():
                z = vae.encode(x).latent_dist.mode().float()
            y = vae.decode(z + NOISE * torch.randn_like(z)).sample.float()
        run.update(distance(y, x))
    run.use_average()
    report(vae.eval(), folder)
    vae.save_pretrained(folder / "vae")
    return vae


@torch.no_grad()
def whiten(folder: Path, device: torch.device) -> AutoencoderKLCogVideoX:
    """Change the basis of the latents so that their channels differ less in size.

    The channels' covariance has eigenvalues from 3.2 to 0.006, and noise of one size hides what
    the small ones carry: shapes gain more than places do by evening them out. A 16x16 matrix W
    takes half of that spread away (in log scale). It is folded into the encoder's last convolution
    and its inverse into everything that reads
    latents in the decoder, so that reconstructions stay the same. `folder/vae` stays as it is: the
    later stages read `folder/vae-white`, which is made once.
    """
    into = folder / WHITE
    if into.exists():
        return AutoencoderKLCogVideoX.from_pretrained(into).to(device).eval()
    vae = AutoencoderKLCogVideoX.from_pretrained(folder / "vae").to(device).eval()
    rng = np.random.default_rng(8)
    latents = []
    for _ in range(24):
        x = torch.from_numpy(render(sample_scene(rng, two=0.2))[None]).to(device)
        with autocast(device):
            z = vae.encode(x.permute(0, 4, 1, 2, 3).float() / 127.5 - 1).latent_dist.mode()
        latents.append(z[0].float().flatten(1).T)
    samples = torch.cat(latents)
    samples = samples - samples.mean(0)
    values, vectors = torch.linalg.eigh((samples.T @ samples / len(samples)).double())
    size = values ** ((1 - POWER) / 2)  # standard deviations afterwards
    size = size / size.square().mean().sqrt()
    w = (vectors * (size / values.sqrt())).mT  # (new, old) channels, unscaled latents
    inverse = (w.inverse()).float()
    last = vae.encoder.conv_out.conv
    channels = len(w)
    mean, spread = last.weight[:channels], last.weight[channels:]
    last.weight.copy_(torch.cat([torch.einsum("ij,jcklm->icklm", w.float(), mean), spread]))
    last.bias[:channels] = w.float() @ last.bias[:channels]
    # The variance was taught to be the same everywhere, so only its size changes.
    last.bias[channels:] += w.square().sum(1).log().float()
    readers = [vae.decoder.conv_in.conv]
    for module in vae.decoder.modules():
        if isinstance(module, CogVideoXSpatialNorm3D):
            readers += [module.conv_y.conv, module.conv_b.conv]
    for reader in readers:
        reader.weight.copy_(torch.einsum("oiklm,ij->ojklm", reader.weight, inverse))
    vae.register_to_config(scaling_factor=1.0)
    report(vae, folder)
    part = into.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    vae.save_pretrained(part)
    part.rename(into)
    return vae


def distance(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Reconstruction error; shapes are small, so pixels that differ from the crop's median weigh
    five times.
    """
    still = x.flatten(2).median(2).values[..., None, None, None]
    weight = 1 + 4 * ((x - still).abs().amax(1, keepdim=True) > 0.1)
    return ((y - x).abs() * weight).mean() + 0.5 * F.mse_loss(y, x)


@torch.no_grad()
def report(vae: AutoencoderKLCogVideoX, folder: Path) -> None:
    """Print the PSNR of unseen whole clips and draw some of them above their reconstructions."""
    rng = np.random.default_rng(7)
    x = torch.from_numpy(np.stack([render(sample_scene(rng, two=0.2)) for _ in range(8)]))
    x = (x.permute(0, 4, 1, 2, 3).float() / 127.5 - 1).to(vae.device)
    with autocast(vae.device):
        y = torch.cat([vae(c[None]).sample for c in x]).float().clamp(-1, 1)
    peak = -10 * torch.log10(((x - y) ** 2).mean() / 4)
    print(f"vae: PSNR {peak:.1f} dB on whole unseen clips", file=sys.stderr, flush=True)
    rows = [
        torch.cat([a[:, ::4], b[:, ::4]], 2).permute(1, 2, 3, 0).cpu()
        for a, b in zip(x, y, strict=True)
    ]
    sheet = torch.cat([torch.cat(list(r), 1) for r in rows[:6]])
    Image.fromarray(((sheet + 1) * 127.5).round().byte().numpy()).save(folder / "vae.png")
