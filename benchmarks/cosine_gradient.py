"""The gradient of the cosine tables in the published code is not that of its loss.

    python -m benchmarks.cosine_gradient

DiTFlow optimises the rotary tables of CogVideoX-5b through diffusers' attention processor, under
gradient checkpointing. That processor writes the rotated queries and keys over the unrotated ones:

    query[:, :, text:] = query[:, :, text:] * cos + turned(query[:, :, text:]) * sin

The gradient of `cos` is the unrotated query times what comes back. Autograd has kept it (in
float32, which the norm before it gives on a GPU as well), but by then it holds the rotated one.
Without checkpointing autograd notices and refuses. With it, the kept tensors are those of a second
forward pass, taken when that is over, and nothing is compared. `turned` makes a copy, so the
gradient of `sin` is right.

Shown here on a small random transformer of diffusers: the derivative along a random direction of
the tables, by autograd and by central differences of the same loss, and the share of the signs that
differ from those of a rotation that overwrites nothing (ours; and diffusers' own, with one copy
added). With Adam, the signs are nearly all that counts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from diffusers import CogVideoXTransformer3DModel
from diffusers.models import embeddings

from pe_toolkit.backbones.cogvideox.hooks import processors

FRAMES, SIDE, HEAD, TEXT = 3, 8, 32, 8
TOKENS = FRAMES * SIDE * SIDE


def model() -> CogVideoXTransformer3DModel:
    torch.manual_seed(0)
    made = CogVideoXTransformer3DModel(
        num_attention_heads=2, attention_head_dim=HEAD, in_channels=4, out_channels=4,
        time_embed_dim=16, text_embed_dim=16, num_layers=3, sample_width=2 * SIDE,
        sample_height=2 * SIDE, sample_frames=9, max_text_seq_length=TEXT,
        use_rotary_positional_embeddings=True,
    ).eval()  # fmt: skip
    made.requires_grad_(False)
    for block in made.transformer_blocks:  # attention that is not flat
        block.attn1.norm_q.weight.mul_(2)
        block.attn1.norm_k.weight.mul_(2)
    return made


@contextlib.contextmanager
def copied() -> Iterator[None]:
    """diffusers' rotation, of a copy."""
    own = embeddings.apply_rotary_emb
    embeddings.apply_rotary_emb = lambda x, *rest, **options: own(x.clone(), *rest, **options)
    try:
        yield
    finally:
        embeddings.apply_rotary_emb = own


def main() -> None:
    transformer = model()
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(1, FRAMES, 4, 2 * SIDE, 2 * SIDE, generator=generator)
    text = torch.randn(1, TEXT, 16, generator=generator)
    target = torch.randn(latents.shape, generator=generator)
    angles = torch.rand(TOKENS, HEAD // 2, generator=generator).repeat_interleave(2, dim=1) * 3
    start = torch.stack([angles.cos(), angles.sin()])
    direction = torch.randn(start.shape, generator=generator)

    def loss(tables: torch.Tensor) -> torch.Tensor:
        (out,) = transformer(
            latents, text, torch.tensor([500]), image_rotary_emb=(tables[0], tables[1]),
            return_dict=False,
        )  # fmt: skip
        return (out * target).sum()

    def gradient() -> torch.Tensor:
        tables = start.clone().requires_grad_()
        loss(tables).backward()
        assert tables.grad is not None
        return tables.grad

    with torch.no_grad():
        step = 1e-3
        true = [
            (loss(start + step * part) - loss(start - step * part)) / (2 * step)
            for part in (direction * torch.tensor(mask)[:, None, None] for mask in ((1, 0), (0, 1)))
        ]
    with processors(transformer):
        right = gradient()
    ways: dict[str, Callable[[], contextlib.AbstractContextManager[object]]] = {
        "as published": contextlib.nullcontext,
        "with one copy added": copied,
        "ours": lambda: processors(transformer),
    }
    print(f"central differences: cosines {float(true[0]):.3f}, sines {float(true[1]):.3f}\n")
    print(
        "gradient under checkpointing   along cosines  along sines   signs of cosines that differ"
    )
    transformer.enable_gradient_checkpointing()
    for name, way in ways.items():
        with way():
            found = gradient()
        along = [(found[i] * direction[i]).sum() for i in (0, 1)]
        wrong = (found[0].sign() != right[0].sign()).float().mean()
        print(f"{name:30s} {float(along[0]):13.3f} {float(along[1]):12.3f}   {float(wrong):.3f}")
    transformer.disable_gradient_checkpointing()
    try:
        gradient()
        print("\nwithout checkpointing: a gradient")
    except RuntimeError as error:
        print(f"\nwithout checkpointing, as published: {str(error).split(':')[0]}")


if __name__ == "__main__":
    main()
