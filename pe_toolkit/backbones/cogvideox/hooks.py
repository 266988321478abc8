"""Where positions enter a CogVideoX transformer, and where queries, keys and values come out.

Everything here is undone exactly: torch hook handles and the original processor objects go back on
exit. Hooks are per module object, so two pipelines of one class never see each other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from diffusers.models.attention_processor import FusedCogVideoXAttnProcessor2_0
from torch import nn

from pe_toolkit.backbones.cogvideox import own
from pe_toolkit.backbones.cogvideox.processors import Exchange, PositionedAttnProcessor
from pe_toolkit.backbones.stopping import Stopped, stopping_at
from pe_toolkit.errors import UnsupportedError

Select = Callable[[torch.Tensor], Any]


def attention_modules(transformer: nn.Module) -> list[Any]:
    """The self-attention module of every block, in order; of one that is wrapped, what is inside.

    Raises:
        UnsupportedError: a wrapper without one attention module inside.
    """
    found = []
    for block in transformer.transformer_blocks:  # type: ignore[union-attr]
        outer: Any = block.attn1
        inside = [m for m in outer.modules() if hasattr(m, "processor") and hasattr(m, "to_q")]
        if len(inside) != 1:
            raise UnsupportedError(
                f"Expected diffusers' attention in every block, got {type(outer).__name__}.",
                "Take the wrapper off while a card is trained or applied.",
            )
        found.append(inside[0])
    return found


def check_unfused(transformer: nn.Module) -> None:
    """Refuse fused QKV projections: queries and keys cannot be positioned separately there.

    Raises:
        UnsupportedError: if `fuse_qkv_projections` was called, and not undone: that leaves the
            attention's own flag as it is, and takes the processor off.
    """
    if any(
        isinstance(attn.processor, FusedCogVideoXAttnProcessor2_0)
        for attn in attention_modules(transformer)
    ):
        raise UnsupportedError(
            "Expected separate query, key and value projections, got fused ones.",
            "Call pipe.unfuse_qkv_projections() first; fusing saves little on CogVideoX.",
        )


@contextlib.contextmanager
def processors(
    transformer: nn.Module, replace: dict[int, PositionedAttnProcessor] | None = None
) -> Iterator[None]:
    """Our attention processor on every block (`replace`: other instances by block), then the
    originals. Those of the user stay, and take part (`own`).

    Raises:
        UnsupportedError: fused projections, or a processor of the user that positions cannot reach.
    """
    check_unfused(transformer)
    modules = attention_modules(transformer)
    before = [attn.processor for attn in modules]
    shared = PositionedAttnProcessor()
    reachable = {id(p): own.positioned(p) for p in before if own.is_own(p)}
    try:
        with contextlib.ExitStack() as stack:
            for index, attn in enumerate(modules):
                if own.is_own(before[index]):
                    own.put(attn, reachable[id(before[index])])
                    stack.enter_context(own.turned_keys(attn, type(before[index]).__name__))
                    continue
                ours = (replace or {}).get(index, shared)
                if exchange := getattr(before[index], "exchange", None):
                    ours = PositionedAttnProcessor(ours.tap, exchange)
                ours._attention_backend = getattr(before[index], "_attention_backend", None)
                own.put(attn, ours)
            yield
    finally:
        for attn, original in zip(modules, before, strict=True):
            own.put(attn, original)


@contextlib.contextmanager
def rotary_positions(transformer: nn.Module, select: Select) -> Iterator[None]:
    """Replace `image_rotary_emb` by `select(timestep)` (None keeps the model's own) while the
    context is open. The processors are those of `processors`, which know such tables.

    Raises (inside, at a pass):
        UnsupportedError: others were set, or projections fused, while the context is open.
    """
    placed = [(attn, attn.processor) for attn in attention_modules(transformer)]

    def before(
        module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]] | None:
        timestep = kwargs["timestep"] if "timestep" in kwargs else args[2]
        tables = select(timestep)
        if tables is None:
            return None
        for attn, processor in placed:
            if attn.processor is not processor:
                _check_ours(attn.processor)
        return args, {**kwargs, "image_rotary_emb": tables}

    handle = transformer.register_forward_pre_hook(before, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def _check_ours(processor: Any) -> None:
    """Refuse what was set in the place of a processor of ours; one of a tap is ours."""
    if not isinstance(processor, PositionedAttnProcessor):
        raise UnsupportedError(
            "Expected attention processors and projections that stay as they are while a card is "
            f"applied or trained, got {type(processor).__name__} in their place.",
            "Set processors before `applied`, or leave it first; QKV projections stay unfused.",
        )


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
def keys_and_values(
    transformer: Any,
    block: int,
    select: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor] | None],
) -> Iterator[None]:
    """Replace the video tokens' K and V at `block` by `select(timestep)` (None keeps the model's).

    `select` gives K, after rotary embedding, and V, each `(n, heads, S, head_dim)`, of the n
    samples of the batch, or one for all; both halves of classifier-free guidance get the same. It
    gets the `timestep` argument as it is: whoever knows the step need not read it off a GPU. It is
    asked once per forward pass, before the pass begins, and may run a pass of its own. Enter this
    context before that of `positions`: such a pass would otherwise come between its hooks.
    """
    check_unfused(transformer)
    own.check_none([attention_modules(transformer)[block]], "keys and values of a reference")
    current: list[tuple[torch.Tensor, torch.Tensor] | None] = [None]

    def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        current[0] = select(kwargs["timestep"] if "timestep" in kwargs else args[2])

    def exchange(key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if current[0] is None:
            return key, value
        k, v = current[0]
        times = (key.shape[0] // k.shape[0], 1, 1, 1)  # both halves of guidance come one by one
        return k.to(key).repeat(times), v.to(value).repeat(times)

    handle = transformer.register_forward_pre_hook(before, with_kwargs=True)
    try:
        with _processor(transformer, block, exchange=exchange):
            yield
    finally:
        handle.remove()


def record_keys_and_values(
    transformer: Any, block: int, call: Callable[[], Any]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run `call` (a forward pass) up to the attention of `block`; the video tokens' K and V there.

    Each is `(B, heads, S, head_dim)`, K after QK-norm and rotary embedding.
    """
    caught: list[tuple[torch.Tensor, torch.Tensor]] = []

    def catch(key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        caught.append((key, value))
        raise Stopped

    with (
        _processor(transformer, block, exchange=catch),
        stopping_at(transformer, transformer.transformer_blocks[block]),
    ):
        call()
    return caught[0]


@contextlib.contextmanager
def _processor(
    transformer: Any,
    block: int,
    tap: Callable[[torch.Tensor, torch.Tensor], None] | None = None,
    exchange: Exchange | None = None,
) -> Iterator[None]:
    """Our processor on one block, then the one that was there."""
    attn = attention_modules(transformer)[block]
    before = attn.processor
    # What an outer context exchanges stays exchanged while an inner one taps.
    ours = PositionedAttnProcessor(tap, exchange or getattr(before, "exchange", None))
    ours._attention_backend = getattr(before, "_attention_backend", None)
    own.put(attn, ours)
    try:
        yield
    finally:
        own.put(attn, before)


def queries_and_keys(
    transformer: Any, block: int, call: Callable[[], Any]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run `call` (a forward pass of `transformer`) up to the attention of `block` and return its q
    and k.

    Each is `(B, heads, S, head_dim)`, video tokens only, after QK-norm and rotary embedding.
    Nothing after them is computed: not the attention of that block, not the later blocks.
    """
    caught: list[tuple[torch.Tensor, torch.Tensor]] = []

    def tap(query: torch.Tensor, key: torch.Tensor) -> None:
        caught.append((query, key))
        raise Stopped

    with (
        _processor(transformer, block, tap),
        stopping_at(transformer, transformer.transformer_blocks[block]),
    ):
        call()
    return caught[0]
