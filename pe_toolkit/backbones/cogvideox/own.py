"""Attention processors of the user (Enhance-A-Video, regional prompts, SageAttention, a wrapper):
they stay at work while positions are injected.

A processor of CogVideoX turns queries and keys by one pair of tables, `image_rotary_emb`; a card
has another pair for keys. So it gets the tables of the queries, T_q, and what `attn.norm_k` hands
it is turned before by `T_q^-1 T_k`: its own T_q makes T_k of it. Each pair of columns is a 2 x 2
matrix of its own. Exact but for rounding, whatever else the processor does.
"""

from __future__ import annotations

import contextlib
import inspect
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from diffusers.models.attention_dispatch import _AttentionBackendRegistry
from diffusers.models.attention_processor import (
    CogVideoXAttnProcessor2_0,
    FusedCogVideoXAttnProcessor2_0,
)
from torch import nn

from pe_toolkit.backbones.cogvideox.processors import (
    PositionedAttnProcessor,
    Rotary,
    Tables,
    rotate,
    split_rotary,
)
from pe_toolkit.errors import UnsupportedError

# Ours does what the first two do; the last is refused where it matters (`check_unfused`).
_REPLACED = (CogVideoXAttnProcessor2_0, PositionedAttnProcessor, FusedCogVideoXAttnProcessor2_0)
_STOCK = (
    "Use pipe.transformer.set_attn_processor(CogVideoXAttnProcessor2_0()) for the time being, and "
    "yours again afterwards."
)


def is_own(processor: Any) -> bool:
    """Whether a processor is the user's: neither diffusers' for CogVideoX nor ours."""
    return type(processor) not in _REPLACED


def put(attn: nn.Module, processor: Any) -> None:
    """Make `processor` that of an attention module: what is a module itself is kept in a place of
    its own, which nothing else may take.
    """
    if attn.processor is processor:
        return
    attn._modules.pop("processor", None)
    attn.__dict__.pop("processor", None)
    attn.processor = processor


def check_none(modules: list[Any], what: str) -> None:
    """Refuse processors of the user where they would be put aside.

    Args:
        modules: attention modules.
        what: what needs our own processor, such as `a training`.

    Raises:
        UnsupportedError: names the class.
    """
    found = {type(attn.processor).__name__ for attn in modules if is_own(attn.processor)}
    if found:
        raise UnsupportedError(
            f"Expected the attention processors of diffusers for {what}, got "
            f"{', '.join(sorted(found))}, which would not act.",
            _STOCK,
        )


def check_trainable(modules: list[Any]) -> None:
    """Refuse what a training on rotary positions would put aside, or not get a gradient through.
    (Absolute positions leave every processor in its place.)

    Raises:
        UnsupportedError: names the processor, or the attention backend.
    """
    check_none(modules, "a training")
    active, _ = _AttentionBackendRegistry.get_active_backend()
    chosen = {getattr(attn.processor, "_attention_backend", None) or active for attn in modules}
    names = {str(getattr(backend, "value", backend)) for backend in chosen}
    if sage := sorted(name for name in names if "sage" in name):
        raise UnsupportedError(
            f"Expected an attention backend with a backward pass for a training, got {sage[0]}: "
            "SageAttention computes no gradients.",
            'Use pipe.transformer.set_attention_backend("native") for the training; applying the '
            "card may use it.",
        )


class _Named:
    """Around a processor that takes `image_rotary_emb` as `**kwargs` only: diffusers looks at the
    signature, and would keep the positions from it.
    """

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        image_rotary_emb: Any = None,
    ) -> Any:
        return self.inner(
            attn,
            hidden_states,
            encoder_hidden_states=encoder_hidden_states,
            attention_mask=attention_mask,
            image_rotary_emb=image_rotary_emb,
        )


def positioned(processor: Any) -> Any:
    """The processor, ready for positions; warns where diffusers would hide them from it.

    Raises:
        UnsupportedError: if it takes none.
    """
    module = isinstance(processor, nn.Module)
    called = processor.forward if module else processor.__call__
    parameters = inspect.signature(called).parameters
    if "image_rotary_emb" in parameters:
        # diffusers looks at the signature of a module's `__call__`, which names nothing.
        return _Named(processor) if module else processor
    name = type(processor).__name__
    if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        raise UnsupportedError(
            f"Expected an attention processor that takes image_rotary_emb, got {name}: the card's "
            "positions cannot reach its attention.",
            "Add the parameter as in diffusers' CogVideoXAttnProcessor2_0. " + _STOCK,
        )
    warnings.warn(
        f"The attention processor {name} does not name image_rotary_emb among its parameters: "
        "diffusers passes it no positions. While the card is applied it gets them.",
        UserWarning,
        stacklevel=2,
    )
    return _Named(processor)


@contextlib.contextmanager
def turned_keys(attn: Any, name: str) -> Iterator[None]:
    """Let the processor of one attention module act under two pairs of tables (see above).

    Args:
        attn: diffusers' `Attention`.
        name: of the processor, for messages.

    Raises (inside, at a pass):
        UnsupportedError: the processor does not call `attn.norm_k` once, on
            `(B, heads, N, head_dim)` or `(B, N, heads, head_dim)`.
    """
    turn: list[tuple[Rotary, Tables | None]] = [(None, None)]
    calls = [0]

    def before(
        module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]] | None:
        rotary, calls[0] = kwargs.get("image_rotary_emb"), 0
        for_query, for_key = split_rotary(rotary)
        if for_query is for_key or for_query is None or for_key is None:
            turn[0] = (None, None)
            return None
        if turn[0][0] is not rotary:
            turn[0] = (rotary, _between(for_query, for_key))
        return args, {**kwargs, "image_rotary_emb": for_query}

    def after_norm(module: nn.Module, args: tuple[Any, ...], key: torch.Tensor) -> Any:
        calls[0] += 1
        tables = turn[0][1]
        if tables is None:
            return key
        tokens = tables[0].shape[0]
        across = key.ndim == 4 and key.shape[2] < tokens <= key.shape[1]  # (B, N, heads, d)
        x = key.transpose(1, 2) if across else key
        if x.ndim != 4 or x.shape[2] < tokens:
            raise _unfit(name)
        x = rotate(x, tables, x.shape[2] - tokens)
        return x.transpose(1, 2) if across else x

    def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if turn[0][1] is not None and calls[0] != 1:
            raise _unfit(name)

    handles = [
        attn.register_forward_pre_hook(before, with_kwargs=True),
        attn.register_forward_hook(after),
    ]
    if attn.norm_k is not None:
        handles.append(attn.norm_k.register_forward_hook(after_norm))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _unfit(name: str) -> UnsupportedError:
    return UnsupportedError(
        f"Expected an attention processor that normalises its keys once, by attn.norm_k, got "
        f"{name}: the card's positions for keys cannot reach it.",
        _STOCK,
    )


def _between(for_query: Tables, for_key: Tables) -> Tables | None:
    """Tables that turn a key so that `for_query` then makes `for_key` of it; None if they are
    equal. `(S, head_dim)` each, as all tables here.
    """
    if all(torch.equal(q, k) for q, k in zip(for_query, for_key, strict=True)):
        return None
    qc, qs, kc, ks = (
        table.double().unflatten(-1, (-1, 2)).unbind(-1) for table in (*for_query, *for_key)
    )
    determinant = qc[0] * qc[1] + qs[0] * qs[1]
    cos = [(qc[1] * kc[0] + qs[0] * ks[1]), (qs[1] * ks[0] + qc[0] * kc[1])]
    sin = [(qc[1] * ks[0] - qs[0] * kc[1]), (qc[0] * ks[1] - qs[1] * kc[0])]
    made = [
        torch.stack([part / determinant for part in parts], dim=-1).flatten(-2).to(for_key[0])
        for parts in (cos, sin)
    ]
    if not all(bool(table.isfinite().all()) for table in made):
        raise UnsupportedError(
            "Expected positions for queries that can be undone, which an own attention processor "
            "needs, got some that cannot.",
            _STOCK,
        )
    return made[0], made[1]
