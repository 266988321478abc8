"""From an encoder that knows less to one that knows `text.TOKENS`: what a stage `bind` starts from.

The embedding of `blue cross` is fitted so that the new encoder says of it what the old one said of
`blue` and of `cross`, summed and at the old size, within the caption "a ... on a black background".
That of a new word is one of which the encoder says what it says of no other token.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import T5EncoderModel

from benchmarks.backbone import text

STEPS = 600
ROWS = {token: i for i, token in enumerate(text.TOKENS)}
BEFORE_THINGS = ROWS[text.THINGS[0]]


def encoder_of(old: T5EncoderModel, *, steps: int = STEPS) -> T5EncoderModel:
    """An encoder for `text.tokenizer` with the weights of `old`, which knows the first of its
    tokens: the words, or all things too; one that knows all of them is given back.
    """
    known = old.shared.weight.shape[0]
    if known == len(text.TOKENS):
        return old
    if known < BEFORE_THINGS + len(text.THINGS):
        old = _grown(old, _things(old, steps))
    while old.shared.weight.shape[0] < len(text.TOKENS):
        old = _grown(old, _unlike(old, steps))
    return old.requires_grad_(True)


def _grown(old: T5EncoderModel, rows: Tensor) -> T5EncoderModel:
    """The same encoder with more embeddings, `(n, 96)`."""
    weights = old.state_dict()
    embeddings = torch.cat([weights["shared.weight"], rows.to(weights["shared.weight"])])
    for name in ("shared.weight", "encoder.embed_tokens.weight"):
        weights[name] = embeddings
    new = text.encoder(len(embeddings)).eval()
    new.load_state_dict(weights)
    return new.requires_grad_(False)


def _things(old: T5EncoderModel, steps: int) -> Tensor:
    """Embeddings `(things, 96)` of the things, fitted."""
    embeddings = old.shared.weight.detach().float()[:BEFORE_THINGS]
    parts = torch.tensor([[ROWS[word] for word in thing.split()] for thing in text.THINGS])
    sums = embeddings[parts].sum(1)
    start = torch.tensor([ROWS["a"]]), torch.tensor([ROWS["on"], ROWS["a"]])
    with torch.no_grad():
        said = {
            row: _said(old, embeddings[_caption(row, start, [ROWS["black"], ROWS["background"]])])
            for row in set(parts.flatten().tolist())
        }
    size = torch.stack([value.norm() for value in said.values()]).mean()
    both = torch.stack([said[a] + said[b] for a, b in parts.tolist()])
    wanted = both / both.norm(dim=1, keepdim=True) * size
    change = torch.zeros_like(sums, requires_grad=True)
    optimizer = torch.optim.Adam([change], lr=0.03)
    things = torch.stack(
        [
            _caption(BEFORE_THINGS + i, start, [ROWS["black background"]])
            for i in range(len(text.THINGS))
        ]
    )  # fmt: skip
    for _ in range(steps):
        full = torch.cat([embeddings, sums + change])
        loss = (_said(old, full[things]) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return (sums + change).detach()


def _unlike(old: T5EncoderModel, steps: int) -> Tensor:
    """`(1, 96)` an embedding for the next token, seeded by its row."""
    embeddings = old.shared.weight.detach().float()
    generator = torch.Generator().manual_seed(len(embeddings))
    new = torch.randn(1, embeddings.shape[1], generator=generator) * embeddings[3:].std()
    start = torch.tensor([ROWS["a"]]), torch.tensor([ROWS["on"], ROWS["a"]])
    rows = range(3, len(embeddings) + 1)
    ids = torch.stack([_caption(row, start, [ROWS["black background"]]) for row in rows])
    with torch.no_grad():
        others = torch.nn.functional.normalize(_said(old, embeddings[ids[:-1]]), dim=1)
    new.requires_grad_(True)
    optimizer = torch.optim.Adam([new], lr=0.03)
    for _ in range(steps):
        said = _said(old, torch.cat([embeddings, new])[ids[-1:]])
        loss = (torch.nn.functional.normalize(said, dim=1) @ others.T).pow(4).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return new.detach()


def _caption(row: int, start: tuple[Tensor, Tensor], end: list[int]) -> Tensor:
    """`(TEXT_TOKENS,)` ids of a caption with this token in the second place."""
    ids = torch.cat([start[0], torch.tensor([row]), start[1], torch.tensor([*end, 1])])
    return torch.nn.functional.pad(ids, (0, text.TEXT_TOKENS - len(ids)))


def _said(encoder: T5EncoderModel, embedded: Tensor) -> Tensor:
    """What it says `(..., 96)` of the second token of `(..., TEXT_TOKENS, 96)`."""
    alone = embedded.ndim == 2
    out: Tensor = encoder(inputs_embeds=embedded[None] if alone else embedded)[0][:, 1]
    return out[0] if alone else out
