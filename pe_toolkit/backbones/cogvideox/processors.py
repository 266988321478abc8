"""CogVideoX attention, out of place, with separate rotary tables for queries and keys, and a tap on
both.

The stock processor writes the rotated queries back in place, which autograd refuses, and knows one
table only. This one gives equal output and goes through diffusers' attention dispatch, so attention
backends
can be chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn

Tables = tuple[torch.Tensor, torch.Tensor]
Rotary = Tables | tuple[Tables, Tables] | None
Exchange = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def split_rotary(rotary: Rotary) -> tuple[Tables | None, Tables | None]:
    """`(cos, sin)` or `((cos_q, sin_q), (cos_k, sin_k))` -> tables for q and for k."""
    if rotary is None:
        return None, None
    first, second = rotary
    if isinstance(first, torch.Tensor):
        return rotary, rotary  # type: ignore[return-value]
    return first, second  # type: ignore[return-value]


class PositionedAttnProcessor:
    """Drop-in for `CogVideoXAttnProcessor2_0`.

    Args:
        tap: called with (query, key) of the video tokens, each `(B, heads, S, head_dim)` after QK-
            norm and rotary embedding, before attention is computed; it may raise to stop the
            forward pass there.
        exchange: called before the tap with (key, value) of the video tokens, same shapes, after
            QK-norm and rotary embedding; returns what takes their place. It may raise as well.
    """

    # Read by diffusers' `set_attention_backend`.
    _attention_backend = None
    _parallel_config = None

    def __init__(
        self,
        tap: Callable[[torch.Tensor, torch.Tensor], None] | None = None,
        exchange: Exchange | None = None,
    ) -> None:
        self.tap = tap
        self.exchange = exchange

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        image_rotary_emb: Rotary = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        text = encoder_hidden_states.size(1)
        joint = torch.cat([encoder_hidden_states, hidden_states], dim=1)  # (B, text + S, D)
        batch = joint.shape[0]
        if attention_mask is not None:
            attention_mask = attn.prepare_attention_mask(attention_mask, joint.shape[1], batch)
            attention_mask = attention_mask.view(batch, attn.heads, -1, attention_mask.shape[-1])

        def heads(x: torch.Tensor) -> torch.Tensor:
            return x.view(batch, -1, attn.heads, x.shape[-1] // attn.heads).transpose(1, 2)

        query, key, value = (
            heads(attn.to_q(joint)),
            heads(attn.to_k(joint)),
            heads(attn.to_v(joint)),
        )
        if attn.norm_q is not None:
            query = attn.norm_q(query)
        if attn.norm_k is not None:
            key = attn.norm_k(key)
        for_query, for_key = split_rotary(image_rotary_emb)
        query, key = rotate(query, for_query, text), rotate(key, for_key, text)
        if self.exchange is not None:
            video = self.exchange(key[:, :, text:], value[:, :, text:])
            key = torch.cat([key[:, :, :text], video[0]], dim=2)
            value = torch.cat([value[:, :, :text], video[1]], dim=2)
        if self.tap is not None:
            self.tap(query[:, :, text:], key[:, :, text:])
        out = dispatch_attention_fn(
            query.transpose(1, 2),
            key.transpose(1, 2),
            value.transpose(1, 2),
            attn_mask=attention_mask,
            backend=self._attention_backend,
        )
        out = attn.to_out[1](attn.to_out[0](out.flatten(2, 3).to(query.dtype)))
        return out[:, text:], out[:, :text]


def turned_back(x: torch.Tensor, tables: Tables) -> torch.Tensor:
    """Take the rotary embedding off `(B, heads, S, head_dim)` queries or keys again, up to rounding
    (a rotation by the opposite angle).
    """
    cos, sin = tables
    return rotate(x, (cos, -sin), 0)


def rotate(x: torch.Tensor, tables: Tables | None, text: int) -> torch.Tensor:
    """Rotate the video part of `(B, heads, text + S, head_dim)`; out of place.

    The same arithmetic as diffusers' `apply_rotary_emb`, bit for bit, except that float64 stays
    float64 (there it is cut to float32, and no test could hold us to the equations).
    """
    if tables is None:
        return x
    cos, sin = (table.to(x.device) for table in tables)
    video = x[:, :, text:]
    real, imaginary = video.unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack([-imaginary, real], dim=-1).flatten(3)
    if x.dtype != torch.float64:
        video, turned = video.float(), turned.float()
    return torch.cat([x[:, :, :text], (video * cos + turned * sin).to(x.dtype)], dim=2)
