"""Peak memory without the memory: fake tensors of the real size, every storage counted."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Peak(TorchDispatchMode):
    """Bytes of all storages made while it is open, now and at most."""

    def __init__(self, there: tuple[torch.Tensor, ...]) -> None:
        super().__init__()
        self.now = self.most = 0
        # Views of what was there before are no new memory.
        self.there = {tensor.untyped_storage()._cdata for tensor in there}
        self.seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self.count(tensor.untyped_storage())
        return out

    def count(self, storage: Any) -> None:
        key = storage._cdata
        if key in self.seen or key in self.there:
            return
        self.seen.add(key)
        self.now += storage.nbytes()
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self.forget, key, storage.nbytes())

    def forget(self, key: int, size: int) -> None:
        self.seen.discard(key)
        self.now -= size


class Operations(TorchDispatchMode):
    """Calls of attention, and operations of matrix products: with a bias (`addmm`, forward passes
    of layers that have one) and without (`mm`, the other layers, and backward passes).
    """

    def __init__(self) -> None:
        super().__init__()
        self.attention = self.attention_backward = self.addmm = self.mm = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.__name__.startswith("_scaled_dot_product"):
            self.attention_backward += "backward" in func.__name__
            self.attention += "backward" not in func.__name__
        elif func in (torch.ops.aten.addmm.default, torch.ops.aten.mm.default):
            (n, k), m = args[-2].shape, args[-1].shape[1]
            name = func.__name__.removesuffix(".default")
            setattr(self, name, getattr(self, name) + 2 * n * k * m)
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def peak(module: torch.nn.Module | None, *tensors: torch.Tensor) -> Iterator[Peak]:
    """Inside of `fake()`: what a computation adds to a module and inputs that are there already."""
    own = () if module is None else (*module.parameters(), *module.buffers())
    with Peak((*own, *tensors)) as counter:
        yield counter


@contextlib.contextmanager
def fake() -> Iterator[FakeTensorMode]:
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        yield mode
