"""Where a backbone runs, and in which precision."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from pe_toolkit.backbones.catalogue.variants import VARIANTS, Variant, auto
from pe_toolkit.backbones.loading.files import read_json
from pe_toolkit.errors import BackboneError, DeviceError, UsageError

DTYPES = ("float32", "bfloat16", "float16")
Say = Callable[[str], None]


def pick_device(device: str | None) -> torch.device:
    """The device asked for, or a CUDA GPU if there is one, else the CPU.

    Raises:
        UsageError: not a device name.
        DeviceError: not on this machine.
    """
    if device is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("cpu")
    try:
        where = torch.device(device)
    except RuntimeError as error:
        raise UsageError(f"Expected a device like cpu, cuda or cuda:1, got {device!r}.") from error
    count = {
        "cpu": 1,
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
        "xpu": torch.xpu.device_count() if torch.xpu.is_available() else 0,
    }
    if (where.index or 0) >= count.get(where.type, 0):
        raise DeviceError(
            f"Expected the device {device}, but this machine does not have it (or torch was built "
            "without it).",
            "Use --device cpu with the bundled backbone, or install a CUDA build of torch "
            "(docs/install.md).",
        )
    return where


def default_dtype(variant: Variant, device: torch.device) -> str:
    """The dtype of a backbone that was asked for without one.

    On a GPU what its authors recommend. On a CPU float32, except for the bundled backbone where the
    CPU multiplies bfloat16 in hardware: measured 2.7 times faster with AMX (docs/experiments.md).
    """
    if device.type == "cpu" and not variant.bundled:
        return "float32"
    if device.type != "cpu":
        return variant.dtype
    # torch has no public question for this; without an answer, the safe choice.
    fast = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    return "bfloat16" if fast else "float32"


def nearest_dtype(folder: str | Path, device: torch.device) -> str | None:
    """The dtype of a pipeline that no row names, from its configuration: on a GPU that of the
    published model with the same kind of positions (float32 would need twice the memory, without
    tensor cores). None on a CPU, and where there is no configuration.
    """
    if device.type == "cpu":
        return None
    try:
        config = read_json(Path(folder) / "transformer" / "config.json")
    except BackboneError:  # what is wrong with it, loading says
        return None
    rotary = config.get("use_rotary_positional_embeddings", False)
    return VARIANTS["cogvideox-5b" if rotary else "cogvideox-2b"].dtype


def choose(device: torch.device, say: Say) -> str:
    """What `auto` means on a device (see `variants.auto`); says why."""
    gigabytes = None
    if device.type == "cuda":
        gigabytes = torch.cuda.get_device_properties(device).total_memory / 1e9
    name, why = auto(gigabytes)
    say(f"auto: {name}, because {why}.")
    return name


def check_device(variant: Variant, device: torch.device) -> None:
    """Refuse what cannot run here before anything is downloaded.

    Raises:
        DeviceError: says what is needed and what would work.
    """
    if variant.bundled:
        return
    if device.type == "cpu":
        raise DeviceError(
            f"Expected a CUDA GPU with about {variant.min_gpu_gb:.0f} GB for {variant.name}, got "
            "no GPU.",
            "Use --backbone bundled here, or run on a machine with a GPU (`pe doctor` shows what "
            "fits).",
        )
