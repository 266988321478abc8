"""From an encoder that knows the words to one that knows things: what a stage `bind` starts from.

The embedding of `blue cross` is fitted so that the new encoder says of it what the old one said of
`blue` and of `cross`, summed and at the old size, within the caption "a ... on a black background".
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import T5EncoderModel

from benchmarks.backbone import text
from pe_toolkit.world.vocabulary import WORDS

STEPS = 600


def encoder_of(old: T5EncoderModel, *, steps: int = STEPS) -> T5EncoderModel:
    """An encoder for `text.tokenizer` with the weights of `old`, which knows `WORDS` only; one that
    knows things already is given back.
    """
    known = old.shared.weight.shape[0]
    new = text.encoder().eval()
    if new.shared.weight.shape[0] == known:
        return old
    rows = {word: 3 + i for i, word in enumerate([*WORDS, *text.THINGS])}
    parts = torch.tensor([[rows[word] for word in thing.split()] for thing in text.THINGS])
    weights = old.state_dict()
    sums = weights["shared.weight"][parts].sum(1)
    embeddings = torch.cat([weights["shared.weight"], sums]).float()
    for name in ("shared.weight", "encoder.embed_tokens.weight"):
        weights[name] = embeddings
    new.load_state_dict(weights)
    new.requires_grad_(False)

    start = torch.tensor([rows["a"]]), torch.tensor([rows["on"], rows["a"]])
    with torch.no_grad():
        said = {
            row: _said(old, embeddings[_caption(row, start, [rows["black"], rows["background"]])])
            for row in set(parts.flatten().tolist())
        }
    size = torch.stack([value.norm() for value in said.values()]).mean()
    both = torch.stack([said[a] + said[b] for a, b in parts.tolist()])
    wanted = both / both.norm(dim=1, keepdim=True) * size
    change = torch.zeros_like(sums, requires_grad=True)
    optimizer = torch.optim.Adam([change], lr=0.03)
    things = torch.stack(
        [
            _caption(known + i, start, [rows["black background"]])
            for i in range(len(text.THINGS))
        ]
    )  # fmt: skip
    for _ in range(steps):
        full = torch.cat([embeddings[:known], embeddings[known:] + change])
        loss = (_said(new, full[things]) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        new.shared.weight[known:] += change
    return new.requires_grad_(True)


def _caption(row: int, start: tuple[Tensor, Tensor], end: list[int]) -> Tensor:
    """`(TEXT_TOKENS,)` ids of a caption with this token in the second place."""
    ids = torch.cat([start[0], torch.tensor([row]), start[1], torch.tensor([*end, 1])])
    return torch.nn.functional.pad(ids, (0, text.TEXT_TOKENS - len(ids)))


def _said(encoder: T5EncoderModel, embedded: Tensor) -> Tensor:
    """What it says `(..., 96)` of the second token of `(..., TEXT_TOKENS, 96)`."""
    alone = embedded.ndim == 2
    out: Tensor = encoder(inputs_embeds=embedded[None] if alone else embedded)[0][:, 1]
    return out[0] if alone else out
