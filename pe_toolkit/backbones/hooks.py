"""Where positions enter a CogVideoX transformer, and where queries and keys come out.

Everything here is undone exactly: torch hook handles and the original processor objects go back on
    exit. Hooks
are per module object, so two pipelines of one class never see each other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from pe_toolkit.backbones.processors import PositionedAttnProcessor
from pe_toolkit.errors import UnsupportedError

Select = Callable[[torch.Tensor], Any]


class Stopped(Exception):  # noqa: N818  (control flow, not an error)
    """Raised by a tap once it has what it came for."""


def attention_modules(transformer: nn.Module) -> list[Any]:
    """The self-attention module of every block, in order."""
    return [block.attn1 for block in transformer.transformer_blocks]  # type: ignore[union-attr]


def check_unfused(transformer: nn.Module) -> None:
    """Refuse fused QKV projections: queries and keys cannot be positioned separately there.

    Raises:
        UnsupportedError: if `fuse_qkv_projections` was called.
    """
    if any(getattr(attn, "fused_projections", False) for attn in attention_modules(transformer)):
        raise UnsupportedError(
            "Expected separate query, key and value projections, got fused ones.",
            "Call pipe.unfuse_qkv_projections() first; fusing saves little on CogVideoX.",
        )


@contextlib.contextmanager
def processors(
    transformer: nn.Module, replace: dict[int, PositionedAttnProcessor] | None = None
) -> Iterator[None]:
    """Our attention processor on every block (`replace` names other instances by block), then the
    originals.
    """
    check_unfused(transformer)
    modules = attention_modules(transformer)
    before = [attn.processor for attn in modules]
    shared = PositionedAttnProcessor()
    try:
        for index, attn in enumerate(modules):
            ours = (replace or {}).get(index, shared)
            ours._attention_backend = getattr(before[index], "_attention_backend", None)
            attn.processor = ours
        yield
    finally:
        for attn, original in zip(modules, before, strict=True):
            attn.processor = original


@contextlib.contextmanager
def rotary_positions(transformer: nn.Module, select: Select) -> Iterator[None]:
    """Replace `image_rotary_emb` by `select(timestep)` (None keeps the model's own) while the
    context is open.
    """

    def before(
        module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]] | None:
        timestep = kwargs["timestep"] if "timestep" in kwargs else args[2]
        tables = select(timestep)
        return None if tables is None else (args, {**kwargs, "image_rotary_emb": tables})

    handle = transformer.register_forward_pre_hook(before, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@contextlib.contextmanager
def absolute_positions(transformer: nn.Module, select: Select) -> Iterator[None]:
    """Add `select(timestep)`, `(S, inner_dim)`, to the video tokens after the patch embedding."""
    current: list[torch.Tensor | None] = [None]

    def remember(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        current[0] = select(kwargs["timestep"] if "timestep" in kwargs else args[2])

    def add(module: nn.Module, args: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
        delta = current[0]
        if delta is None:
            return output
        text = args[0].shape[1]
        video = output[:, text:] + delta.to(output)
        return torch.cat([output[:, :text], video], dim=1)

    patch_embed: nn.Module = transformer.patch_embed  # type: ignore[assignment]
    handles = [
        transformer.register_forward_pre_hook(remember, with_kwargs=True),
        patch_embed.register_forward_hook(add),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def positions(transformer: nn.Module, kind: str, select: Select) -> Iterator[None]:
    """Inject positions of a `kind` (rotary or absolute) into every forward pass while the context
    is open.
    """
    if kind == "rotary":
        with processors(transformer), rotary_positions(transformer, select):
            yield
    else:
        with absolute_positions(transformer, select):
            yield


@contextlib.contextmanager
def _stop_uncheckpointed(transformer: Any, block: Any) -> Iterator[None]:
    """With gradient checkpointing on, run the tapped block outside of it: it does not return."""
    inner = getattr(transformer, "_gradient_checkpointing_func", None)
    if not getattr(transformer, "gradient_checkpointing", False) or inner is None:
        yield
        return

    def run(module: Any, *args: Any) -> Any:
        return module(*args) if module is block else inner(module, *args)

    transformer._gradient_checkpointing_func = run
    try:
        yield
    finally:
        transformer._gradient_checkpointing_func = inner


def queries_and_keys(
    transformer: Any, block: int, call: Callable[[], Any]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run `call` (a forward pass of `transformer`) up to the attention of `block` and return its q
    and k.

    Each is `(B, heads, S, head_dim)`, video tokens only, after QK-norm and rotary embedding.
    Nothing after them
    is computed: not the attention of that block, not the later blocks.
    """
    caught: list[tuple[torch.Tensor, torch.Tensor]] = []

    def tap(query: torch.Tensor, key: torch.Tensor) -> None:
        caught.append((query, key))
        raise Stopped

    attn = transformer.transformer_blocks[block].attn1
    before = attn.processor
    attn.processor = PositionedAttnProcessor(tap)
    try:
        with (
            _stop_uncheckpointed(transformer, transformer.transformer_blocks[block]),
            contextlib.suppress(Stopped),
        ):
            call()
    finally:
        attn.processor = before
    return caught[0]
