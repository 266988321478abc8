"""A forward pass that is stopped inside of a block, once it has given what it was run for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any


class Stopped(Exception):  # noqa: N818  (control flow, not an error)
    """Raised by a tap once it has what it came for."""


@contextlib.contextmanager
def stopping_at(transformer: Any, block: Any) -> Iterator[None]:
    """A pass inside may be stopped within `block` by `Stopped`, which goes no further than here.

    The block does not return then, so it runs outside of checkpointing and uncompiled.
    """
    inner = getattr(transformer, "_gradient_checkpointing_func", None)
    with contextlib.suppress(Stopped), _uncompiled(block):
        if not getattr(transformer, "gradient_checkpointing", False) or inner is None:
            yield
            return
        with _direct(transformer, block, inner):
            yield


def block_output(transformer: Any, block: Any, call: Callable[[], Any]) -> Any:
    """Run `call`, a pass of `transformer`, up to the end of `block`, and return what that gives."""
    caught: list[Any] = []

    def catch(module: Any, args: Any, output: Any) -> None:
        caught.append(output)
        raise Stopped

    handle = block.register_forward_hook(catch)
    try:
        with stopping_at(transformer, block):
            call()
    finally:
        handle.remove()
    return caught[0]


@contextlib.contextmanager
def _uncompiled(block: Any) -> Iterator[None]:
    """Without the compiled call of `nn.Module.compile`, if there is one."""
    compiled = getattr(block, "_compiled_call_impl", None)
    if compiled is None:
        yield
        return
    block._compiled_call_impl = None
    try:
        yield
    finally:
        block._compiled_call_impl = compiled


@contextlib.contextmanager
def _direct(transformer: Any, block: Any, inner: Callable[..., Any]) -> Iterator[None]:
    """Checkpoint every block but one."""

    def run(module: Any, *args: Any) -> Any:
        return module(*args) if module is block else inner(module, *args)

    transformer._gradient_checkpointing_func = run
    try:
        yield
    finally:
        transformer._gradient_checkpointing_func = inner
