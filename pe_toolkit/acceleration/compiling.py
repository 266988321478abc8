"""Compiled blocks: the same computation in fewer kernels, once their code has been made."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from pe_toolkit.errors import DependencyError, out_of_memory


def blocks_of(transformer: Any) -> list[Any]:
    """The blocks of a diffusers transformer, in order, whichever of its two names they have."""
    blocks = getattr(transformer, "transformer_blocks", None)
    return list(transformer.blocks if blocks is None else blocks)


@contextlib.contextmanager
def compiled(transformer: Any, on: bool) -> Iterator[None]:
    """Compile the call of every block (one graph serves all of them), then leave them as they were.

    Blocks that the user compiled stay the user's. A block that is left in the middle (a tap) runs
    uncompiled. The same results up to rounding.

    Raises:
        DependencyError: inside, if torch cannot make code here (no compiler).
    """
    if not on:
        yield
        return
    blocks = blocks_of(transformer)
    before = [block._compiled_call_impl for block in blocks]
    try:
        for block in blocks:
            if block._compiled_call_impl is None:
                block.compile()
        with _explained():
            yield
    finally:
        for block, call in zip(blocks, before, strict=True):
            block._compiled_call_impl = call


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """What torch's compiler could not do, as an error that says what to do instead."""
    from torch._dynamo.exc import TorchDynamoException

    try:
        yield
    except TorchDynamoException as error:
        cause = getattr(error, "inner_exception", error)
        if out_of_memory(cause):
            raise cause from error
        reason = next((line for line in str(cause).splitlines() if line.strip()), "no reason")
        raise DependencyError(
            f"Expected torch to compile the blocks, but it could not: {reason.strip()}",
            "Leave --compile out, or install what it misses: a C++ compiler on a CPU, Triton on a "
            "GPU.",
        ) from error
