"""A pipeline goes to its device, whole or in parts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from diffusers.hooks.group_offloading import apply_group_offloading
from torch import nn

from pe_toolkit.backbones.catalogue.architectures import Architecture
from pe_toolkit.backbones.machine.memory import Request
from pe_toolkit.backbones.machine.placement import Purpose, decide

OFFLOADS = ("auto", "none", "model", "group", "sequential")


def free_bytes(device: torch.device) -> int | None:
    """Memory that this process can still get on a CUDA device; None for others."""
    if device.type != "cuda":
        return None
    free, total = torch.cuda.mem_get_info(device)
    allocated = torch.cuda.memory_allocated(device)
    # The user's cap (`set_per_process_memory_fraction`): the device knows nothing of it. Asked for
    # by index, because without one it is refused; older versions of torch do not tell.
    fraction = getattr(torch.cuda, "get_per_process_memory_fraction", lambda _: 1.0)(device.index)
    capped = int(total * fraction) - allocated
    return min(free + torch.cuda.memory_reserved(device) - allocated, capped)


def settle(
    wanted: str,
    device: torch.device,
    name: str,
    architecture: Architecture,
    request: Request,
    purpose: Purpose,
    say: Callable[[str], None],
) -> str:
    """The mode that `wanted` (perhaps `auto`) stands for on a device; says what it picked.

    Only a CUDA GPU can be asked for its memory: elsewhere `auto` is `none`.

    Raises:
        DeviceError: see `placement.decide`.
    """
    free = free_bytes(device)
    if free is None:
        return "none" if wanted == "auto" else wanted
    total = torch.cuda.get_device_properties(device).total_memory
    mode, sentence = decide(name, architecture, request, purpose, wanted, free, total)
    if sentence is not None:
        say(sentence)
    return mode


def place(pipe: Any, device: torch.device, offload: str) -> None:
    """Put a pipeline on a device, in the way that `offload` (not `auto`) says."""
    if offload == "model":
        pipe.enable_model_cpu_offload(device=device)
    elif offload == "sequential":
        pipe.enable_sequential_cpu_offload(device=device)
    elif offload == "group":
        group_offload(pipe, device)
    else:
        pipe.to(device)


def send_away(module: Any) -> None:
    """Move a component under model offloading off the device; it comes back with its next call.

    By itself it leaves only when the next component in the pipeline's order is called, and the
    first of a next run would be brought in beside it.
    """
    from accelerate.hooks import CpuOffload  # type: ignore[import-untyped]

    hook = getattr(module, "_hf_hook", None)
    if isinstance(hook, CpuOffload):
        hook.init_hook(module)


@contextlib.contextmanager
def sent_away(pipe: Any) -> Iterator[None]:
    """On exit, all that model offloading brought has left."""
    try:
        yield
    finally:
        for name in ("text_encoder", "transformer", "vae"):
            send_away(getattr(pipe, name, None))


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
            send_away(module)
            continue
        homes.append((module, parameter.device))
    try:
        for module, _ in homes:
            module.to(away)
        yield
    finally:
        for module, home in homes:
            module.to(home)


def _hooked(module: Any) -> bool:
    """Whether accelerate or diffusers' group offloading moves this module."""
    return any(hasattr(part, "_hf_hook") for part in module.modules()) or (
        getattr(module, "_diffusers_hook", None) is not None
    )


def group_offload(pipe: Any, device: torch.device) -> None:
    """The transformer block by block, the text encoder layer by layer; the VAE stays.

    diffusers brings by blocks only what lies in lists directly below a module. T5's blocks lie one
    level deeper: all 9.5 GB would come at once. And the VAE's weights would come with `forward`,
    but pipelines call `encode` and `decode`.
    """
    ways: dict[str, dict[str, Any]] = {
        "transformer": {"offload_type": "block_level", "num_blocks_per_group": 1},
        "text_encoder": {"offload_type": "leaf_level"},
    }
    for name, way in ways.items():
        apply_group_offloading(
            getattr(pipe, name),
            onload_device=device,
            offload_device=torch.device("cpu"),
            **way,
        )
    pipe.vae.to(device)
