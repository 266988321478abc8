"""What this machine has, and which backbone suits it. diffusers is never imported here."""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pe_toolkit.errors import BackboneError

if TYPE_CHECKING:
    from pe_toolkit.backbones.catalogue.variants import Variant

GB = 1e9


@dataclass(frozen=True)
class Gpu:
    """One CUDA device; memory in decimal gigabytes."""

    name: str
    total_gb: float
    free_gb: float


def gpus() -> tuple[list[Gpu], str | None]:
    """CUDA devices, and why they could not be asked for if torch does not even import."""
    try:
        import torch

        found = []
        for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
            free, total = torch.cuda.mem_get_info(index)
            found.append(Gpu(torch.cuda.get_device_name(index), total / GB, free / GB))
    except (ImportError, OSError, RuntimeError, AssertionError) as error:
        return [], f"torch cannot be used: {' '.join(str(error).split())}"
    return found, None


def uses_gpu(device: str | None) -> bool:
    """Whether a command with this `--device` works on a CUDA GPU."""
    return (device is None or device.startswith("cuda")) and bool(gpus()[0])


def measured_rate() -> float | None:
    """bf16 operations per second of a large matrix product on the first GPU; None if it fails."""
    try:
        import torch

        a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        for index in range(12):
            if index == 2:  # the first ones load kernels
                begin.record()
            a @ a
        end.record()
        end.synchronize()
        return float(10 * 2 * 8192**3 / (begin.elapsed_time(end) / 1000))
    except (ImportError, OSError, RuntimeError):
        return None


def memory_gb() -> tuple[float, float] | None:
    """(free, total) main memory in gigabytes, or None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        kilobytes = {
            key: int(rest.split()[0]) for key, _, rest in (li.partition(":") for li in lines)
        }
        return kilobytes["MemAvailable"] * 1024 / GB, kilobytes["MemTotal"] * 1024 / GB
    except (OSError, KeyError, ValueError):
        pass
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GB
    except (AttributeError, ValueError, OSError):
        return None
    return total, total


def disk_free_gb(place: Path) -> float:
    """Free space where `place` is, or would be made."""
    place = place.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    return shutil.disk_usage(place).free / GB


def hub_cache() -> Path:
    """Folder of the Hugging Face cache; the same rule as huggingface_hub's, without its import."""
    home = os.environ.get("HF_HOME")
    if home is None:
        home = os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "huggingface")
    return Path(os.environ.get("HF_HUB_CACHE", os.path.join(home, "hub"))).expanduser()


def cached(*hub_ids: str) -> str:
    """`yes`, `partly` (an interrupted download) or `no`, of a model under any of its names."""
    found = {_cached(hub_id) for hub_id in hub_ids}
    return next((state for state in ("yes", "partly") if state in found), "no")


def _cached(hub_id: str) -> str:
    from pe_toolkit.backbones.loading import files

    folder = hub_cache() / f"models--{hub_id.replace('/', '--')}"
    for snapshot in folder.glob("snapshots/*"):
        with contextlib.suppress(BackboneError):  # damaged: what is wrong with it, loading says
            if not files.missing(snapshot):
                return "yes"
    return "partly" if any(folder.glob("blobs/*")) else "no"


def bundled_here(name: str = "bundled") -> bool:
    """Whether the bundled weights were installed."""
    from pe_toolkit.backbones import bundled

    try:
        bundled.path(name)
    except BackboneError:
        return False
    return True


def choose_auto(found: list[Gpu]) -> tuple[str, str]:
    """The backbone that `--backbone auto` takes, and why."""
    from pe_toolkit.backbones.catalogue.variants import auto

    return auto(found[0].total_gb if found else None)


def resolve(
    name: str, device: str | None, copy_of: str | None = None
) -> tuple[str, Variant | None, str | None]:
    """What `name` stands for before a model is loaded: name, table row if known, remark.

    `auto` becomes a real name. A folder or a Hub id outside the table has the row that it was
    declared a copy of, else none yet.

    Raises:
        UsageError: if it is no known name, no folder and no Hub id.
    """
    from pe_toolkit.backbones.catalogue.names import named
    from pe_toolkit.backbones.catalogue.variants import VARIANTS

    if name == "auto" and copy_of is None:
        on_gpu = device is None or device.startswith("cuda")
        chosen, why = choose_auto(gpus()[0]) if on_gpu else ("bundled", f"--device {device}")
        return chosen, VARIANTS[chosen], f"Backbone: {chosen} ({why})"
    return name, named(name, copy_of).row, None
