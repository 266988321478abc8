"""The timestep of a pass as a number, without making a GPU finish its work at every pass."""

from __future__ import annotations

import threading
import weakref

import torch

MOST = 4096
"""Timesteps of a schedule that is read at once."""


class Reader(threading.local):
    """Reads a whole schedule when it is first asked about one of its timesteps; one for
    each thread.

    A pipeline hands on views of `scheduler.timesteps`: where such a view begins says which of them
    it is. A tensor of its own is read once, however many ask about it.
    """

    def __init__(self) -> None:
        self._base: weakref.ref[torch.Tensor] | None = None
        self._version = 0
        self._values: list[int] = []

    def __call__(self, timestep: torch.Tensor) -> int:
        """The first element, on whatever device it is."""
        if timestep.is_inference():  # no versions to go by
            return int(timestep.flatten()[0])
        base = timestep if timestep._base is None else timestep._base
        whole = base.is_contiguous() and base.numel() <= MOST and base.dtype == timestep.dtype
        if not whole or base.is_inference():
            return int(timestep.flatten()[0])
        if self._base is None or self._base() is not base or self._version != base._version:
            self._values = [int(value) for value in base.flatten().cpu().tolist()]
            self._base, self._version = weakref.ref(base), base._version
        return self._values[timestep.storage_offset() - base.storage_offset()]


_READER = Reader()
"""The one that all hooks of a pass share."""


def read_timestep(timestep: torch.Tensor) -> int:
    """The first element, on whatever device it is; also where the hook that asks is compiled."""
    if torch.compiler.is_compiling():
        return int(timestep.flatten()[0])
    return _READER(timestep)
