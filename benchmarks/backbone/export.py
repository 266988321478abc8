"""Stage 6: averaged weights as a diffusers pipeline folder in half precision."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXPipeline, CogVideoXTransformer3DModel
from transformers import T5EncoderModel

from benchmarks.backbone import text, transformer
from benchmarks.backbone.common import Run
from benchmarks.backbone.vae import WHITE

PARTS = ("vae", "text_encoder", "tokenizer", "transformer", "scheduler")


def write(folder: Path, into: Path, before: Path | None = None, share: float = 1.0) -> None:
    """Export what is trained: the pipeline folder `into`, and `transformer_absolute/` beside its
    parts. With `before`, the folder of a rotary transformer, what is exported is a mean of that one
    and what is trained, of which it is this `share`.
    """
    bound = (folder / "bind.safetensors").exists()
    pair = transformer.averaged(folder, "bind" if bound else "detail")
    if before is not None:
        mixed(pair.transformer, CogVideoXTransformer3DModel.from_pretrained(before), share)
    pipe = CogVideoXPipeline(
        tokenizer=text.tokenizer(),
        text_encoder=pair.encoder,
        vae=AutoencoderKLCogVideoX.from_pretrained(folder / WHITE),
        transformer=pair.transformer,
        scheduler=transformer.scheduler(),
    ).to(dtype=torch.float16)
    # transformers loads a text encoder in the dtype it was saved in, diffusers its models in
    # float32: a stock from_pretrained() without a dtype has to give one that fits the other.
    pipe.text_encoder.float()
    with tempfile.TemporaryDirectory() as scratch:
        pipe.save_pretrained(scratch, safe_serialization=True)
        last = "bind_absolute" if bound else "absolute"
        if (folder / f"{last}.safetensors").exists():
            absolute = transformer.averaged(folder, last).transformer.to(dtype=torch.float16)
            absolute.save_pretrained(
                Path(scratch) / "transformer_absolute", safe_serialization=True
            )
        for part in (*PARTS, "transformer_absolute"):
            if (Path(scratch) / part).exists():
                shutil.rmtree(into / part, ignore_errors=True)
                shutil.copytree(Path(scratch) / part, into / part)
        shutil.copy(Path(scratch) / "model_index.json", into / "model_index.json")
    size = sum(f.stat().st_size for f in into.rglob("*.safetensors"))
    print(f"exported to {into}: {size / 1e6:.1f} MB of weights")


@torch.no_grad()
def mixed(
    transformer: CogVideoXTransformer3DModel, other: CogVideoXTransformer3DModel, share: float
) -> None:
    """Make `transformer` this share of itself and for the rest the `other` one."""
    theirs = dict(other.named_parameters())
    for name, ours in transformer.named_parameters():
        ours.lerp_(theirs[name].to(ours), 1 - share)


def restore(shipped: Path, folder: Path) -> None:
    """Begin from the shipped weights instead of from nothing: VAE and both transformers, step 0.

    The optimisers start anew. Latents must be made again (`latents`), with the shipped VAE.
    """
    shutil.copytree(shipped / "vae", folder / WHITE, dirs_exist_ok=True)
    pair = transformer.Pair(
        CogVideoXTransformer3DModel.from_pretrained(shipped / "transformer"),
        T5EncoderModel.from_pretrained(shipped / "text_encoder"),
    ).float()
    absolute = transformer.build("absolute")
    shipped_absolute = CogVideoXTransformer3DModel.from_pretrained(shipped / "transformer_absolute")
    absolute.transformer.load_state_dict(shipped_absolute.float().state_dict())
    absolute.encoder.requires_grad_(False)  # the rotary one's, which is trained before it
    for stage, begun in (("rotary", pair), ("absolute", absolute)):
        (folder / f"{stage}.safetensors").unlink(missing_ok=True)
        Run(stage, folder, begun, steps=0, peak=1.0, decay=0.0).save()
