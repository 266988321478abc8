"""How much of its activations a training recomputes instead of keeping. Changes no result."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)

from pe_toolkit.backbones.machine import recompute
from pe_toolkit.backbones.machine.offload import free_bytes
from pe_toolkit.backbones.machine.placement import needs_checkpointing
from pe_toolkit.backbones.machine.recompute import CHECKPOINTING, LEVELS, Level
from pe_toolkit.errors import UsageError

KEEPING: tuple[Level, ...] = ("little", "partly")
"""Levels that keep some of what a block computes."""


def unit_bytes(adapter: Any, tokens: int) -> int:
    """Bytes of one activation of one sample: (text + video tokens) x channels."""
    return int((tokens + adapter.max_text_tokens) * adapter.channels * adapter.dtype.itemsize)


def checkpointing_level(
    choice: str,
    adapter: Any,
    tokens: int,
    block: int,
    *,
    rotary: bool,
    compiled: bool = False,
) -> Level:
    """What `auto` means here: the least recomputation whose activations, of one sample, leave room
    in the free memory, by the rule that `pe doctor` goes by as well (`machine.recompute`).

    Not `off` wherever weights are moved away or cast after a layer's forward pass (group and
    sequential offloading, fp8): autograd would keep a copy of every one of them, and of some only
    what was moved away. Neither `little` nor `partly` with compiled blocks: what is inside of them
    cannot be picked. On a CPU `auto` is off otherwise: main memory can be swapped, time cannot.

    Args:
        choice: one of `CHECKPOINTING`.
        adapter: a backbone with a pipeline (`Resident`), for its width, dtype, device and hooks.
        tokens: video tokens of the clip.
        block: the tapped block.
        rotary: whether the gradient goes to rotary tables (else to latents or an added table).
        compiled: whether the blocks are.

    Raises:
        UsageError: another choice.
        UnsupportedError: `off` with such weights.
    """
    if choice not in CHECKPOINTING:
        raise UsageError(
            f"Expected checkpointing out of {', '.join(CHECKPOINTING)}, got {choice!r}."
        )
    leaves = weights_leave(adapter.transformer)
    if leaves and choice == "off":
        raise needs_checkpointing()
    free = free_bytes(adapter.device)
    level: Level
    if choice in LEVELS:
        level = choice
    elif free is None:
        level = "on" if leaves else "off"
    else:
        level = recompute.level_for(
            unit_bytes(adapter, tokens),
            adapter.dtype.itemsize,
            block,
            free,
            rotary=rotary,
            least="little" if leaves else "off",
        )
    if level in KEEPING and (compiled or compiled_by_user(adapter.transformer_as_called)):
        return "on"
    return level


def compiled_by_user(transformer: Any) -> bool:
    """Whether it, or a part of it, is compiled; `transformer` as the pipeline has it."""
    core = getattr(transformer, "_orig_mod", transformer)
    return core is not transformer or any(m._compiled_call_impl for m in core.modules())


def weights_leave(transformer: Any) -> bool:
    """Whether weights are only there, or only in full, during their layer's forward pass."""
    parts = list(transformer.modules())[1:]  # a hook on the whole (model offload) takes all at once
    if any(getattr(getattr(m, "_hf_hook", None), "offload", False) for m in parts):
        return True
    registries = (getattr(m, "_diffusers_hook", None) for m in transformer.modules())
    names = {name for registry in registries if registry for name in registry.hooks}
    return bool(names & {"group_offloading", "layerwise_casting"})


@contextlib.contextmanager
def checkpointed(transformer: Any, level: Level) -> Iterator[None]:
    """Gradient checkpointing of that level, then as it was."""
    before = transformer.gradient_checkpointing, transformer._gradient_checkpointing_func
    if level == "off":
        transformer.disable_gradient_checkpointing()
    else:
        keeping = functools.partial(_recompute, level) if level in KEEPING else None
        transformer.enable_gradient_checkpointing(keeping)
    try:
        yield
    finally:
        transformer.disable_gradient_checkpointing()
        if before[0]:
            transformer.enable_gradient_checkpointing(before[1])


def _recompute(level: Level, block: Any, *args: Any) -> Any:
    """Recompute a block, but for what `_keep` keeps of it."""
    keep = functools.partial(_keep, level)
    contexts = functools.partial(create_selective_checkpoint_contexts, keep)
    return checkpoint(block.__call__, *args, use_reentrant=False, context_fn=contexts)


def _keep(level: Level, context: Any, op: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    """Outputs of one activation each, at 4 N d (N all tokens, d channels) and 8 d^2 operations a
    token; the other matrices give one for 2 d^2, of which `little` keeps the feed-forward's four.
    """
    attention = op.__name__.startswith("_scaled_dot_product")
    # Only the feed-forward's matrices change the number of channels, by four; those of a LoRA by
    # more, so that they are not meant. Weights of 8 bits come as `mm`.
    dear = False
    if op in (torch.ops.aten.addmm.default, torch.ops.aten.mm.default):
        comes, goes = args[-1].shape
        dear = comes / 8 <= goes < comes or (level == "little" and comes < goes <= 8 * comes)
    return CheckpointPolicy.MUST_SAVE if attention or dear else CheckpointPolicy.PREFER_RECOMPUTE
