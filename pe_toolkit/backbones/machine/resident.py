"""What a run occupies: memory, compiled blocks, step caches. That part of the contract is the same
for all backbones that are diffusers pipelines.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from pe_toolkit.acceleration import caches
from pe_toolkit.acceleration.compiling import blocks_of, compiled
from pe_toolkit.acceleration.quantize import how_quantized
from pe_toolkit.backbones.machine import checkpointing, offload, trainable
from pe_toolkit.backbones.machine.recompute import Level


class Resident:
    """Mixed into a backbone with a pipeline: see `backbones.contract`."""

    pipe: Any
    """A diffusers pipeline with `transformer`, `text_encoder` and `vae`."""
    positions: Any

    @property
    def transformer(self) -> Any:
        """The transformer itself (the module inside, if it was compiled)."""
        return getattr(self.pipe.transformer, "_orig_mod", self.pipe.transformer)

    @property
    def transformer_as_called(self) -> Any:
        """The transformer as the pipeline has it, perhaps compiled by the user."""
        return self.pipe.transformer

    @property
    def blocks(self) -> int:
        """Transformer blocks."""
        return len(blocks_of(self.transformer))

    @property
    def quantized(self) -> str | None:
        """See `acceleration.quantize.how_quantized`."""
        return how_quantized(self.transformer)

    def check_trainable(self, *, compiled: bool) -> None:
        """Refuse weights that no gradient passes, and compiled blocks whose weights leave.

        Raises:
            UnsupportedError: see `machine.trainable`.
        """
        trainable.check_trainable(self.transformer)
        trainable.check_compiled(self.transformer_as_called, compiled)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """No weight gradients (the official code computes and keeps them for 55 % of the model),
        eval mode.
        """
        module = self.transformer
        training = {part: part.training for part in module.modules()}
        wanted = {name: p.requires_grad for name, p in module.named_parameters()}
        module.requires_grad_(False)
        module.eval()
        try:
            with self.reachable():
                yield
        finally:
            for name, p in module.named_parameters():
                p.requires_grad_(wanted[name])
            for part, mode in training.items():
                part.training = mode

    def checkpointing_level(
        self, choice: str, tokens: int, block: int, *, to_positions: bool, compiled: bool
    ) -> Level:
        """See `machine.checkpointing.checkpointing_level`."""
        rotary = to_positions and self.positions == "rotary"
        return checkpointing.checkpointing_level(
            choice, self, tokens, block, rotary=rotary, compiled=compiled
        )

    def checkpointed(self, level: Level) -> AbstractContextManager[None]:
        """See `machine.checkpointing.checkpointed`."""
        return checkpointing.checkpointed(self.transformer, level)

    def compiled(self, on: bool) -> AbstractContextManager[None]:
        """See `acceleration.compiling.compiled`."""
        return compiled(self.transformer, on)

    @contextlib.contextmanager
    def reachable(self) -> Iterator[None]:
        """For a transformer compiled as a whole: the module inside, its blocks compiled alike; for
        one that was compiled in place the module as it is written.

        A graph that was compiled before the card came would not run the card's hooks, silently:
        dynamo does not watch the hooks of submodules. Outside of the blocks there is little to
        gain.
        """
        pipe, whole, inside = self.pipe, self.pipe.transformer, self.transformer
        if whole is inside:
            with as_written(inside):
                yield
            return
        blocks = blocks_of(inside)
        before = [block._compiled_call_impl for block in blocks]
        pipe.transformer = inside
        try:
            for block in blocks:
                if block._compiled_call_impl is None:
                    block._compiled_call_impl = whole.dynamo_ctx(block._call_impl)
            yield
        finally:
            pipe.transformer = whole
            for block, call in zip(blocks, before, strict=True):
                block._compiled_call_impl = call

    def cached(
        self, name: str, schedule: caches.Schedule, ratios: list[float] | None = None
    ) -> AbstractContextManager[Any]:
        """See `acceleration.caches.cached`."""
        return caches.cached(self.transformer, name, schedule, ratios)

    def held_off(self, guides: Callable[[int], bool]) -> AbstractContextManager[None]:
        """See `acceleration.caches.held_off`."""
        return caches.held_off(self.transformer, guides)

    def parked(self, *parts: str) -> AbstractContextManager[None]:
        """See `machine.offload.parked`."""
        return offload.parked(self.pipe, parts)

    def sent_away(self) -> AbstractContextManager[None]:
        """See `machine.offload.sent_away`."""
        return offload.sent_away(self.pipe)


@contextlib.contextmanager
def as_written(module: Any) -> Iterator[None]:
    """A module that was compiled in place (`module.compile()`, or its `forward`) runs as Python
    while this is open: its graph would not run hooks that came later. Its blocks, if they are
    compiled by themselves, stay so.
    """
    call, own = module._compiled_call_impl, module.__dict__
    forward = own.get("forward")
    graph = forward if hasattr(forward, "_torchdynamo_orig_callable") else None
    module._compiled_call_impl = None
    if graph is not None:
        del own["forward"]
    try:
        yield
    finally:
        module._compiled_call_impl = call
        if graph is not None:
            own["forward"] = graph
