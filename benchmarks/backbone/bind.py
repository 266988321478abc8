"""A stage after the others: teach the pair what its teacher does not know, and forget nothing.

From weights that know fewer tokens to weights that know all of `text.TOKENS`: whose colour a colour
is, and the word for a background's texture. Where the teacher, the weights before, is right, the
target is what it says of the same noisy clip: it has no noise of its own, so that batches of eight
do not spoil what batches of 128 learned. Of two things, where the order of a caption's words
matters, or where it says `textured`, the target is the clip's. Batches of 128 need no teacher: then
every target is the clip's, and all captions say what is there.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import CogVideoXTransformer3DModel
from transformers import PreTrainedTokenizerFast, T5EncoderModel

from benchmarks.backbone import text, things, transformer
from benchmarks.backbone.common import Run, autocast
from benchmarks.backbone.latents import Latents

FOLDERS = {"bind": "transformer", "bind_absolute": "transformer_absolute"}
"""Stage -> the transformer of a backbone's folder that it starts from."""
ORDERED, TEXTURED = 0.5, 0.25
"""Shares of a batch whose caption is of two things or says something else in another order, or says
that it is textured."""
EMPTY = 0.2
"""Share of the others without a caption."""
UNTAUGHT = 0.45
"""Share of a batch without a teacher whose caption is of two things or says something else in
another order."""


def load(folder: Path, stage: str) -> transformer.Pair:
    """The pair of a backbone's folder, in single precision, with the encoder that is there."""
    return transformer.Pair(
        CogVideoXTransformer3DModel.from_pretrained(folder / FOLDERS[stage]).float(),
        T5EncoderModel.from_pretrained(folder / "text_encoder").float(),
    )


def timesteps(batch: int, generator: torch.Generator) -> torch.Tensor:
    """`(batch,)` timesteps, evenly spread over all of them."""
    spread = (torch.arange(batch) + torch.rand(batch, generator=generator)) / batch
    return (1000 * spread).long().clamp(0, 999)


def _begun(folder: Path, stage: str, start: Path) -> transformer.Pair:
    """What a stage starts from. An encoder that knows the things already learns nothing more: what
    it says of them is what both variants know. The absolute one keeps the one that `bind` made.
    """
    pair = load(start, stage)
    knows = pair.encoder.shared.weight.shape[0] > things.BEFORE_THINGS
    pair.encoder = things.encoder_of(pair.encoder)
    if stage == "bind_absolute":
        pair.encoder = transformer.averaged(folder, "bind").encoder
    if knows or stage == "bind_absolute":
        pair.encoder.requires_grad_(False)
    return pair


def _teacher(folder: Path, stage: str, device: torch.device) -> Callable[..., torch.Tensor]:
    """What the pair of a backbone's folder says of noisy clips, by its own tokens: `(clips,
    captions, timesteps, rotary tables)` -> float32 velocities.
    """
    pair = load(folder, stage).to(device).eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer")

    @torch.no_grad()
    def said(noisy: torch.Tensor, captions: list[str], *rest: Any) -> torch.Tensor:
        out: torch.Tensor = pair(noisy, text.token_ids(tokenizer, captions).to(device), *rest)
        return out.float()

    return said


def train(
    folder: Path,
    device: torch.device,
    stage: str,
    steps: int,
    *,
    start: Path,
    teacher: Path | None,
    batch: int,
    peak: float,
    compiled: bool = False,
    minutes: float | None = None,
) -> transformer.Pair:
    """Train (or resume) `bind` or `bind_absolute` from the backbone's folder `start`, on the shards
    in `folder`; returns the pair with averaged weights. Without a teacher, all targets are clips'.
    """
    pair = _begun(folder, stage, start).to(device)
    run = Run(
        stage, folder, pair, steps=steps, peak=peak, decay=0.998, hold=0.3,
        hidden=transformer.HIDDEN, minutes=minutes,
    )  # fmt: skip
    if compiled:
        transformer.compile_blocks(pair)
    said = None if teacher is None else _teacher(teacher, stage, device)
    data = Latents(folder, device, keep_two=1)
    alphas = transformer.scheduler().alphas_cumprod.float().to(device)
    rotary = transformer.rotary_tables(device) if stage == "bind" else None
    attention = transformer.attention_on(device)
    ordered, textured = round(ORDERED * batch), round(TEXTURED * batch)
    if said is None:
        ordered, textured = round(UNTAUGHT * batch), 0
    own, here = ordered + textured, torch.Generator(device)
    for step in run:
        if step % 100 == 0:
            data.refresh()
        rng, generator = np.random.default_rng([6, step]), torch.Generator().manual_seed(step)
        x, captions = data.of_kinds(
            rng, ordered, textured, batch - own, EMPTY, hidden=said is not None
        )
        t = torch.cat([timesteps(n, generator) for n in (ordered, textured, batch - own)])
        level = np.interp(t.numpy(), *transformer.LEVEL)
        weight = torch.from_numpy(1 / level / np.mean(1 / level)).float().to(device)
        noise = torch.randn(x.shape, generator=here.manual_seed(step), device=device)
        t = t.to(device)
        noisy, target = transformer.noised(x, noise, alphas[t])
        with autocast(device), attention:
            if said is not None:
                taught = said(noisy[own:], captions[own:], t[own:], rotary)
                target = torch.cat([target[:own], taught])
            words = text.token_ids(data.tokenizer, captions).to(device)
            prediction = pair(noisy, words, t, rotary)
        losses = (prediction.float() - target).square().mean((1, 2, 3, 4))
        run.update((losses * weight).mean())
    run.use_average()
    return pair.eval()
