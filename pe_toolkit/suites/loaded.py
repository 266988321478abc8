"""The model of a worker: loaded once, kept while its jobs ask for the same one."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

from pe_toolkit.backbones import load_backbone
from pe_toolkit.backbones.contract import Backbone
from pe_toolkit.backbones.machine.placement import Purpose


def backbone(asked: Mapping[str, Any], purpose: Purpose | None = None) -> Backbone:
    """What `load_backbone(**asked)` gives, or gave last time.

    Args:
        asked: what JSON can hold; `name` and whatever else is not at its default.
        purpose: as `load_backbone` takes it.

    Raises:
        PeError: as `load_backbone`.
    """
    return _loaded(json.dumps(dict(asked), sort_keys=True), purpose)


@functools.lru_cache(maxsize=1)
def _loaded(asked: str, purpose: Purpose | None) -> Backbone:
    return load_backbone(**json.loads(asked), purpose=purpose)


def machine(adapter: Backbone) -> dict[str, Any]:
    """Where a job ran, and the most memory of a GPU so far."""
    import torch

    device = adapter.device
    if device.type != "cuda":
        return {"device": str(device)}
    peak = torch.cuda.max_memory_allocated(device) / 1e9
    return {"device": torch.cuda.get_device_name(device), "gpu_gb": round(peak, 2)}
