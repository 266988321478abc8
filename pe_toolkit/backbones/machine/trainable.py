"""Which weights training can work with: those whose backward pass reaches the inputs.

`fp8` (weights stored as float8, cast for each layer's forward pass) and `int8` do. With `fp8` the
gradients are those of the rounded weights bit for bit (tests/test_training_memory.py): autograd
keeps the cast copy, which checkpointing then drops block by block. Compiled blocks keep the weight
itself, and find it as it is when they recompute: cast back, or moved away.
"""

from __future__ import annotations

from typing import Any

from pe_toolkit.acceleration.quantize import how_quantized
from pe_toolkit.backbones.machine.checkpointing import compiled_by_user, weights_leave
from pe_toolkit.backbones.machine.placement import leaves_compiled
from pe_toolkit.errors import UnsupportedError


def check_trainable(transformer: Any) -> None:
    """Refuse a transformer whose weights a gradient cannot pass, however they were quantized.

    Raises:
        UnsupportedError: a backend that says that it cannot train (such as GGUF, Nunchaku,
            AutoRound), or integers that nothing here knows; names it.
    """
    quantizer = getattr(transformer, "hf_quantizer", None)
    name = how_quantized(transformer)
    if quantizer is not None:
        if quantizer.is_trainable:
            return
        config = getattr(quantizer, "quantization_config", None)
        method = getattr(config, "quant_method", type(quantizer).__name__)
        name = str(getattr(method, "value", method))
    elif name in (None, "fp8", "int8"):
        return
    raise UnsupportedError(
        f"Expected weights that a gradient can pass for training, got {name}-quantized ones.",
        "Use --quantize fp8 or int8, or plain weights with --checkpointing on and --offload model.",
    )


def check_compiled(transformer: Any, asked: bool) -> None:
    """Refuse compiled blocks whose weights are cast or moved after their forward pass.

    Args:
        transformer: as the pipeline has it, perhaps compiled by the user, whole or by blocks.
        asked: whether the training is to compile its blocks.

    Raises:
        UnsupportedError: says which.
    """
    core = getattr(transformer, "_orig_mod", transformer)
    if (asked or compiled_by_user(transformer)) and weights_leave(core):
        registries = (getattr(m, "_diffusers_hook", None) for m in core.modules())
        casts = any(r.get_hook("layerwise_casting") for r in registries if r)
        raise leaves_compiled(casts=casts)
