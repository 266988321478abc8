"""Smaller weights: float8 storage, or int8 weights by torchao.

Only the large matrices of the transformer's blocks are touched; embeddings, norms and the output
layer keep their precision.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch

from pe_toolkit.acceleration import QUANTIZATIONS
from pe_toolkit.acceleration.compiling import blocks_of
from pe_toolkit.errors import DependencyError, UnsupportedError, UsageError


def check(name: str) -> None:
    """Refuse what this installation cannot do, before a model is loaded.

    Raises:
        UsageError: an unknown name.
        DependencyError: `int8` without torchao.
    """
    if name not in QUANTIZATIONS:
        raise UsageError(f"Expected --quantize out of {', '.join(QUANTIZATIONS)}, got {name!r}.")
    if name == "int8" and find_spec("torchao") is None:
        raise DependencyError(
            "Expected the package torchao for --quantize int8, but it is not installed.",
            "pip install torchao, or use --quantize fp8, which needs nothing.",
        )


def quantize(transformer: Any, name: str) -> None:
    """Change the transformer's weights in place: half the bytes of 16-bit weights.

    - `fp8`: stored as float8 (e4m3), computed in the present dtype. Gradients of inputs flow, but
      autograd keeps the cast copy of every layer until its backward pass.
    - `int8`: one scale per output channel, computed in the present dtype. Gradients of inputs flow.

    Raises:
        UsageError, DependencyError: as `check`.
        UnsupportedError: weights that are quantized already.
    """
    check(name)
    if name == "none":
        return
    if getattr(transformer, "hf_quantizer", None) is not None or how_quantized(transformer):
        raise UnsupportedError(
            f"Expected plain weights for --quantize {name}, got quantized ones.",
            "Leave --quantize out.",
        )
    if name == "fp8":
        transformer.enable_layerwise_casting(
            storage_dtype=torch.float8_e4m3fn,
            compute_dtype=transformer.dtype,
            skip_modules_pattern=("patch_embed", "norm", "time_embedding", "ofs", "proj_out"),
        )
        return
    torchao: Any = import_module("torchao.quantization")  # optional: not there for type checkers
    torchao.quantize_(
        transformer,
        torchao.Int8WeightOnlyConfig(),
        filter_fn=lambda module, path: (
            isinstance(module, torch.nn.Linear) and ".norm" not in path and "_blocks." in path
        ),
    )


def how_quantized(transformer: Any) -> str | None:
    """`fp8`, `int8` or another format's name if the blocks' weights are quantized, else None."""
    for module in (part for block in blocks_of(transformer) for part in block.modules()):
        weight = getattr(module, "weight", None)
        if weight is None:
            continue
        if weight.dtype in (torch.float8_e4m3fn, torch.float8_e5m2):
            return "fp8"
        if type(weight.data).__module__.startswith("torchao"):
            return "int8"
        if weight.dtype in (torch.int8, torch.uint8):
            return str(weight.dtype).removeprefix("torch.")
    return None
