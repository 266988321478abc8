"""What training keeps on the device, and what it lets go of.

Nothing here changes a result: checkpointing recomputes what it does not keep, parked modules are
not used meanwhile.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from pe_toolkit.backbones import recompute
from pe_toolkit.backbones.offload import free_bytes
from pe_toolkit.backbones.placement import needs_checkpointing
from pe_toolkit.errors import UsageError

if TYPE_CHECKING:
    from pe_toolkit.backbones.cogvideox import CogVideoXAdapter

CHECKPOINTING = ("auto", "on", "off")


def kept_bytes(
    adapter: CogVideoXAdapter, tokens: int, block: int, *, rotary: bool, checkpointing: bool
) -> int:
    """Bytes kept for the backward pass of one sample through blocks 0 .. block - 1.

    Args:
        adapter: the backbone, for its width and dtype.
        tokens: video tokens of the clip.
        block: the tapped block.
        rotary: whether the gradient goes to rotary tables (else to latents or an added table).
        checkpointing: whether each block keeps its input only.
    """
    size, config = adapter.dtype.itemsize, adapter.transformer.config
    width = config.num_attention_heads * config.attention_head_dim
    unit = (tokens + adapter.max_text_tokens) * width * size
    return int(recompute.kept_bytes(unit, size, block, rotary=rotary, checkpointing=checkpointing))


def wants_checkpointing(
    choice: str, adapter: CogVideoXAdapter, tokens: int, block: int, *, rotary: bool
) -> bool:
    """What `auto` means here: on if the activations of one sample would fill the free memory, by
    the rule that `pe doctor` goes by as well (`backbones.recompute`).

    Also on wherever weights are moved away or cast after a layer's forward pass (group and
    sequential offloading, fp8): autograd would keep a copy of every one of them, and of some only
    what was moved away. On
    a CPU `auto` is off otherwise: main memory can be swapped, time cannot.

    Raises:
        UsageError: another choice than `CHECKPOINTING`.
        UnsupportedError: `off` with such weights.
    """
    if choice not in CHECKPOINTING:
        raise UsageError(
            f"Expected checkpointing out of {', '.join(CHECKPOINTING)}, got {choice!r}."
        )
    if weights_leave(adapter.transformer):
        if choice == "off":
            raise needs_checkpointing()
        return True
    if choice != "auto":
        return choice == "on"
    free = free_bytes(adapter.device)
    needed = kept_bytes(adapter, tokens, block, rotary=rotary, checkpointing=False)
    return free is not None and recompute.needed(needed, free)


def weights_leave(transformer: Any) -> bool:
    """Whether weights are only there, or only in full, during their layer's forward pass."""
    parts = list(transformer.modules())[1:]  # a hook on the whole (model offload) takes all at once
    if any(getattr(getattr(m, "_hf_hook", None), "offload", False) for m in parts):
        return True
    registries = (getattr(m, "_diffusers_hook", None) for m in transformer.modules())
    names = {name for registry in registries if registry for name in registry.hooks}
    return bool(names & {"group_offloading", "layerwise_casting"})


@contextlib.contextmanager
def checkpointed(transformer: Any, on: bool) -> Iterator[None]:
    """Gradient checkpointing as asked for, then as it was."""
    before = transformer.gradient_checkpointing
    if on == before:
        yield
        return
    switch = (transformer.disable_gradient_checkpointing, transformer.enable_gradient_checkpointing)
    switch[on]()
    try:
        yield
    finally:
        switch[before]()


@contextlib.contextmanager
def parked(pipe: Any, names: Sequence[str], away: str = "cpu") -> Iterator[None]:
    """Move components that are not used meanwhile off the device, and back on exit.

    Those under offload hooks come by themselves with their next call. Model offloading sends one
    away only when the next in the pipeline's order is called, so those are sent now; the other
    kinds hold nothing between calls.
    """
    homes: list[tuple[nn.Module, torch.device]] = []
    module: Any
    for name in names:
        module = getattr(pipe, name, None)
        parameter = next(module.parameters(), None) if module is not None else None
        if parameter is None or parameter.device.type in (away, "meta"):
            continue
        if _hooked(module):
            _send_away(module)
            continue
        homes.append((module, parameter.device))
    try:
        for module, _ in homes:
            module.to(away)
        yield
    finally:
        for module, home in homes:
            module.to(home)


def _send_away(module: Any) -> None:
    from accelerate.hooks import CpuOffload  # type: ignore[import-untyped]

    hook = getattr(module, "_hf_hook", None)
    if isinstance(hook, CpuOffload):
        hook.init_hook(module)


def _hooked(module: Any) -> bool:
    """Whether accelerate or diffusers' group offloading moves this module."""
    return any(hasattr(part, "_hf_hook") for part in module.modules()) or (
        getattr(module, "_diffusers_hook", None) is not None
    )
