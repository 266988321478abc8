"""LoRA weights on a pipeline: read, renamed (`lora_keys`), checked against its layers, switched on.

    names = load_loras(pipe, ["style.safetensors:0.8", "owner/name"])
    ...
    pipe.delete_adapters(list(names))

How far the matrices count by themselves, alpha / rank, is multiplied into them: kohya and
CogVideoX-Fun keep alpha in the file, diffusers in its metadata, PEFT in `adapter_config.json`
beside it. Where none of them says anything it is 1, as in diffusers.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from pe_toolkit.backbones.loading import files
from pe_toolkit.backbones.loading.lora import CONFIG, USUAL, Lora, check_peft, find
from pe_toolkit.backbones.loading.lora_keys import assign
from pe_toolkit.errors import BackboneError, UnsupportedError, UsageError

METADATA = "lora_adapter_metadata"
"""Where diffusers keeps PEFT's configuration in a file."""
_PLAIN = (torch.float32, torch.bfloat16, torch.float16)
Weights = dict[str, torch.Tensor]


class LoraWarning(UserWarning):
    """Something in a LoRA's file has no effect."""


def load_loras(
    pipe: Any,
    loras: Sequence[Lora | str | Path] | Lora | str | Path,
    *,
    on_event: Callable[[str], None] = lambda _: None,
) -> tuple[str, ...]:
    """Load LoRA weights for the transformer and switch all of them on, beside those that are.

    Nothing is loaded unless all of them fit.

    Args:
        pipe: a CogVideoX pipeline, or the adapter of one.
        loras: `Lora`s (or one), or what `Lora.parse` takes: `PATH[:WEIGHT]`,
            `OWNER/NAME[:WEIGHT]`.
        on_event: gets one sentence for whatever a person should know (from the cache, download).

    Returns:
        The names of the adapters in the pipeline, for `delete_adapters` and `set_adapters`.

    Raises:
        UsageError: weights that are not for this backbone, or no safetensors.
        UnsupportedError: with `--quantize fp8` and an offload mode that moves parts.
        BackboneError: they cannot be had from the Hub, or diffusers and peft fail.
        DependencyError: without peft.
    """
    check_peft()
    pipe = getattr(pipe, "pipe", pipe)
    if isinstance(loras, str | Path | Lora):
        loras = [loras]
    wanted = [lora if isinstance(lora, Lora) else Lora.parse(str(lora)) for lora in loras]
    if not wanted:
        return ()
    layers = layers_of(pipe.transformer)
    eight = _eight_bits(pipe.transformer, layers)
    read = [read_lora(find(lora.source, on_event), layers, lora.source) for lora in wanted]
    known = {*getattr(pipe.transformer, "peft_config", {})}
    before = pipe.get_active_adapters() if known else []
    free = (f"lora{n}" for n in range(1, len(known) + len(wanted) + 1) if f"lora{n}" not in known)
    names = tuple(name for name, _ in zip(free, wanted, strict=False))
    try:
        with warnings.catch_warnings():  # peft about several at once, which is what is wanted
            warnings.filterwarnings("ignore", "Already found a `peft_config`")
            for name, weights in zip(names, read, strict=True):
                pipe.load_lora_weights(weights, adapter_name=name)
                if eight:
                    _widen(pipe.transformer, name, weights)
        pipe.set_adapters(list(names), [lora.weight for lora in wanted])
        if before:  # they keep their weights
            pipe.transformer.set_adapter([*before, *names])
    except (ImportError, KeyError, RuntimeError, TypeError, ValueError) as error:
        left = [name for name in names if name in getattr(pipe.transformer, "peft_config", {})]
        pipe.delete_adapters(left)
        raise BackboneError(
            f"Expected diffusers and peft to load {', '.join(lora.source for lora in wanted)}, "
            f"got: {' '.join(str(error).split())[:300]}",
            "Try a newer peft (pip install -U peft), and without --quantize.",
        ) from error
    return names


def layers_of(transformer: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The weights that a LoRA can be for, by the names of their layers without any LoRA."""
    return {
        name.removesuffix(".base_layer"): module.weight
        for name, module in transformer.named_modules()
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d) and ".lora_" not in name
    }


def _eight_bits(transformer: Any, layers: Mapping[str, torch.Tensor]) -> bool:
    """Whether layers are stored as float8 (`--quantize fp8`).

    Raises:
        UnsupportedError: with an offload mode that keeps what `_widen` would have to change.
    """
    if all(weight.dtype in _PLAIN for weight in layers.values()):
        return False
    hooks = {
        name
        for module in transformer.modules()
        if (registry := getattr(module, "_diffusers_hook", None)) is not None
        for name in registry.hooks
    }
    if "group_offloading" in hooks or any(w.device.type == "meta" for w in layers.values()):
        raise UnsupportedError(
            "Expected --offload none or model for LoRA weights with --quantize fp8, got one that "
            "moves parts of the transformer.",
            "Leave --quantize out, or take --offload model.",
        )
    return True


def _widen(transformer: Any, name: str, weights: Weights) -> None:
    """Give a LoRA beside float8 layers its weights in the dtype that is computed in: peft stores
    them as the layers are, and cannot multiply them then.
    """
    parameters = dict(transformer.named_parameters())
    for key, value in weights.items():
        layer, _, kind = key.removeprefix("transformer.").rpartition(".lora_")
        kind, _, end = kind.partition(".")
        own = parameters[f"{layer}.lora_{kind}.{name}.{end or 'weight'}"]
        own.data = value.to(own.device, transformer.dtype)


def read_lora(file: Path, layers: Mapping[str, torch.Tensor], source: str) -> Weights:
    """The weights of a file under diffusers' names, alpha / rank multiplied in.

    Args:
        layers: see `layers_of`.
        source: what the user calls it.

    Raises:
        UsageError: names what is not for this backbone.
    """
    tensors, metadata = _read(file, source)
    if "pe_card" in metadata:
        raise UsageError(
            f"Expected LoRA weights, got a motion card, {source}.",
            "Cards are applied by `pe apply CARD`, one at a time.",
        )
    found = assign(tensors.keys(), layers.keys(), source)
    if found.text:
        warnings.warn(
            f"{len(found.text)} keys of {source} are for the text encoder, such as "
            f"{ascii(found.text[0])[1:-1][:100]}: they have no effect, because diffusers does not "
            "load them for CogVideoX.",
            LoraWarning,
            stacklevel=3,
        )
    config = _config(file, metadata, source)
    weights: Weights = {}
    for layer, keys in found.layers.items():
        own = {kind: _sound(tensors[key], key, source) for kind, key in keys.items()}
        down, up = _pair(layer, own, keys, layers[layer], source)
        factor = _factor(own.get("alpha"), config, layer, down.shape[0], source)
        if factor != 1:  # in float32, as an alpha need not be a power of two
            down, up = down.float(), up.float() * factor
        weights[f"transformer.{layer}.lora_A.weight"] = down
        weights[f"transformer.{layer}.lora_B.weight"] = up
        if (bias := own.get("bias")) is not None:
            weights[f"transformer.{layer}.lora_B.bias"] = bias.to(up.dtype) * factor
        if (magnitude := own.get("magnitude")) is not None:
            weights[f"transformer.{layer}.lora_magnitude_vector"] = magnitude
    return weights


def _read(file: Path, source: str) -> tuple[Weights, dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
            return tensors, opened.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise UsageError(
            f"Expected LoRA weights as safetensors, got {source}: {' '.join(str(error).split())}",
            "The file is damaged, or no safetensors file: download it again.",
        ) from error


def _sound(tensor: torch.Tensor, key: str, source: str) -> torch.Tensor:
    """`tensor` in a dtype that can be computed with."""
    if not tensor.dtype.is_floating_point and not key.endswith(".alpha"):
        raise UsageError(
            f"Expected floating-point LoRA weights, got {tensor.dtype} for {ascii(key)[1:-1]} in "
            f"{source}.",
            "Take the file that is not quantized.",
        )
    if tensor.dtype not in _PLAIN:
        tensor = tensor.float()
    if not tensor.isfinite().all():
        raise UsageError(
            f"Expected finite LoRA weights, got NaN or infinity for {ascii(key)[1:-1]} in "
            f"{source}.",
            "The file is damaged, or its training failed.",
        )
    return tensor


def _pair(
    layer: str,
    own: Mapping[str, torch.Tensor],
    keys: Mapping[str, str],
    weight: torch.Tensor,
    source: str,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The two matrices of a layer, which fit it."""
    down, up = own["A"], own["B"]
    if weight.ndim == 2 and down.ndim == up.ndim == 4:  # a linear layer saved as a convolution
        down, up = (t.flatten(1) if t.shape[2:] == (1, 1) else t for t in (down, up))
    rank = down.shape[0] if down.ndim else 0
    ones = (1,) * (weight.ndim - 2)
    fits = (
        rank > 0
        and tuple(down.shape) == (rank, *weight.shape[1:])
        and tuple(up.shape) == (weight.shape[0], rank, *ones)
        and all(own[k].shape == weight.shape[:1] for k in ("bias", "magnitude") if k in own)
    )
    if not fits:
        shapes = ", ".join(
            f"{ascii(key)[1:-1]} {tuple(own[kind].shape)}"
            for kind, key in sorted(keys.items())
            if kind != "alpha"
        )
        raise UsageError(
            f"Expected LoRA weights for this backbone, got {source} with {shapes} for a layer "
            f"({layer}) of {tuple(weight.shape)}.",
            "It was trained for another model: name that one with --backbone.",
        )
    return down, up


def _config(file: Path, metadata: Mapping[str, str], source: str) -> Mapping[str, Any]:
    """PEFT's configuration, from the file or from beside it."""
    config: Mapping[str, Any] = {}
    if (text := metadata.get(METADATA)) is not None:
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = {}
        if isinstance(found, dict):
            config = {key.removeprefix("transformer."): value for key, value in found.items()}
    elif file.name == USUAL[1] and (beside := file.with_name(CONFIG)).is_file():
        config = files.read_json(beside)
    kind = config.get("peft_type") or "LORA"
    if kind != "LORA":
        raise UsageError(
            f"Expected LoRA weights, got {source} of the kind {ascii(kind)[1:-1][:40]}.",
            "diffusers takes plain LoRA matrices for CogVideoX.",
        )
    return config


def _factor(
    alpha: torch.Tensor | None, config: Mapping[str, Any], layer: str, rank: int, source: str
) -> float:
    """alpha / rank, or with rank-stabilised LoRA alpha / sqrt(rank); 1 where nothing is said."""
    value: Any = config.get("lora_alpha")
    pattern = config.get("alpha_pattern")
    for key, own in pattern.items() if isinstance(pattern, dict) else ():
        # PEFT takes the key as a regular expression for the end of the name, diffusers begins it
        # with ^ to have all of it; a name as it is is all that either writes.
        whole = key.removeprefix("^")
        if layer == whole or (key == whole and layer.endswith(f".{key}")):
            value = own
            break
    divisor = math.sqrt(rank) if config.get("use_rslora") is True else rank
    if alpha is not None:
        value = alpha.item() if alpha.numel() == 1 else math.nan
        divisor = rank
    if value is None:
        return 1.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise UsageError(
            f"Expected a positive alpha for {layer} in {source}, got {ascii(value)[:40]}.",
            "The file, or the adapter_config.json beside it, is damaged: download it again.",
        )
    return value / divisor
