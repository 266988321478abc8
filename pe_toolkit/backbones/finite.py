"""NaN and infinity are refused where they come out of a network.

An overflow of float16 (5b and 1.5 above all: they are published in bfloat16) becomes NaN, which a
pipeline clamps, rounds and writes as an all-black video without a word.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from pe_toolkit.errors import BackboneError


def check(values: torch.Tensor, part: str, dtype: torch.dtype) -> None:
    """Refuse what is not finite. Waits for the device.

    Args:
        values: of any shape and floating dtype.
        part: what it comes out of, such as `transformer`.
        dtype: that of its weights.

    Raises:
        BackboneError: names the dtype that works.
    """
    if bool(values.isfinite().all()):
        return
    name = str(dtype).removeprefix("torch.")
    hint = {
        "float16": "Use --dtype bfloat16, or float32: they hold numbers beyond 65504, float16 "
        "does not.",
        "bfloat16": "Use --dtype float32.",
    }.get(
        name,
        "The weights may be damaged, or a LoRA or a --strength too large: try without, or another "
        "copy of the model.",
    )
    raise BackboneError(
        f"Expected finite numbers from the {part} in {name}, got NaN or infinity: the video would "
        "be black.",
        hint,
    )


@contextlib.contextmanager
def decoding(vae: Any) -> Iterator[None]:
    """Check what goes into the decoder of a VAE and what comes out while the context is open.

    Raises (inside):
        BackboneError: as `check`; the transformer is named for latents that are not finite.
    """

    def before(module: torch.nn.Module, args: tuple[Any, ...]) -> None:
        check(args[0], "transformer", vae.dtype)

    def after(module: torch.nn.Module, args: tuple[Any, ...], output: Any) -> None:
        check(output[0] if isinstance(output, tuple) else output, "VAE", vae.dtype)

    handles = [
        vae.decoder.register_forward_pre_hook(before),
        vae.decoder.register_forward_hook(after),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
