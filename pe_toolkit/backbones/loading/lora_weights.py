"""LoRA weights for a backbone, by the names that people's files have.

    transformer.transformer_blocks.0.attn1.to_q.lora_A.weight       diffusers
    base_model.model.transformer_blocks.0. ...                      PEFT, adapter_config.json beside
    diffusion_model.transformer_blocks.0. ...                       ComfyUI
    transformer_blocks.0. ... .lora.down.weight                     no prefix; older diffusers
    lora_unet_transformer_blocks_0_attn1_to_q.lora_down.weight      kohya, with `.alpha`

What is not a pair of matrices for a module of the backbone is refused by its name: nothing of a
file is left out silently.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from pe_toolkit.backbones.loading import files
from pe_toolkit.backbones.loading.lora import CONFIG, USUAL, Lora, Say, find
from pe_toolkit.errors import UsageError

_PREFIXES = re.compile(
    r"^(base_model\.model\.|model\.diffusion_model\.|diffusion_model\.|transformer\.)+"
)
_KOHYA = re.compile(r"^(lora_unet_|lora_transformer_)")
_PAIRS = (
    (re.compile(r"\.lora_A(\.\w+)?\.weight$|\.lora[._]down\.weight$|_lora\.down\.weight$"), "A"),
    (re.compile(r"\.lora_B(\.\w+)?\.weight$|\.lora[._]up\.weight$|_lora\.up\.weight$"), "B"),
    (re.compile(r"\.alpha$"), "alpha"),
)
Scale = Mapping[str, Any]


@dataclass
class _Pair:
    """The matrices of one module, by the keys that they had."""

    keys: dict[str, str] = field(default_factory=dict)
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)


def load_loras(pipe: Any, loras: Sequence[Lora], say: Say = lambda _: None) -> None:
    """Load LoRA weights under the names lora1, lora2, ... and switch all of them on.

    Raises:
        UsageError: weights that are not for this backbone, or no safetensors.
        BackboneError: they cannot be had from the Hub.
    """
    for number, lora in enumerate(loras, 1):
        file = find(lora.source, say)
        weights = converted(file, pipe.transformer, lora.source)
        pipe.load_lora_weights(weights, adapter_name=f"lora{number}")
    if loras:
        names = [f"lora{number}" for number in range(1, len(loras) + 1)]
        pipe.set_adapters(names, [lora.weight for lora in loras])


def converted(file: Path, transformer: Any, source: str) -> dict[str, torch.Tensor]:
    """The weights of a file under diffusers' names, alphas multiplied in.

    Raises:
        UsageError: names what is not for this backbone.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
            metadata = opened.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise UsageError(
            f"Expected LoRA weights as safetensors, got {source}: {' '.join(str(error).split())}",
            "The file is damaged, or no safetensors file: download it again.",
        ) from error
    modules = {
        name: module
        for name, module in transformer.named_modules()
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d)
    }
    pairs = _pairs(tensors, modules, source)
    scale = _scale_of(file, metadata, source)
    weights = {}
    for name, pair in pairs.items():
        down, up = _matrices(name, pair, modules[name], source)
        alpha = pair.tensors.get("alpha")
        factor = _factor(scale, name, down.shape[0]) if alpha is None else _alpha(alpha, down)
        weights[f"transformer.{name}.lora_A.weight"] = down
        weights[f"transformer.{name}.lora_B.weight"] = up if factor == 1 else up * factor
    return weights


def _pairs(
    tensors: Mapping[str, torch.Tensor], modules: Mapping[str, Any], source: str
) -> dict[str, _Pair]:
    """The matrices by module; every key of the file is in there."""
    flat = {name.replace(".", "_"): name for name in modules}
    pairs: dict[str, _Pair] = {}
    strange = []
    for key, tensor in tensors.items():
        kind, stem = next(
            ((k, pattern.sub("", key)) for pattern, k in _PAIRS if pattern.search(key)), ("", key)
        )
        name = _PREFIXES.sub("", stem).replace(".processor.", ".")
        if _KOHYA.match(name):
            name = flat.get(_KOHYA.sub("", name), name)
        name = name if name in modules else f"{name}.0" if f"{name}.0" in modules else name
        if not kind or name not in modules:
            strange.append(key)
            continue
        pair = pairs.setdefault(name, _Pair())
        pair.keys[kind], pair.tensors[kind] = key, tensor
    if strange or not pairs:
        shown = ", ".join(key[:100] for key in sorted(strange)[:3]) or "nothing"
        raise UsageError(
            f"Expected LoRA weights for this backbone, got {source} with {shown}"
            + (f" and {len(strange) - 3} more" if len(strange) > 3 else "")
            + ".",
            "pe-toolkit takes pairs of LoRA matrices for the transformer, as diffusers, PEFT, "
            "ComfyUI and kohya name them; was this one trained for CogVideoX?",
        )
    return pairs


def _matrices(
    name: str, pair: _Pair, module: Any, source: str
) -> tuple[torch.Tensor, torch.Tensor]:
    lacking = [kind for kind in ("A", "B") if kind not in pair.tensors]
    if lacking:
        raise UsageError(
            f"Expected two matrices for {name} in {source}, got {', '.join(pair.keys.values())}.",
            "The file is not complete: download it again.",
        )
    down, up = pair.tensors["A"], pair.tensors["B"]
    weight = module.weight
    fits = (
        down.ndim == up.ndim == weight.ndim
        and down.shape[0] == up.shape[1]
        and down.shape[1] == weight.shape[1]
        and up.shape[0] == weight.shape[0]
    )
    if not fits:
        raise UsageError(
            f"Expected LoRA weights for this backbone, got {source} with {pair.keys['A']} "
            f"{tuple(down.shape)} and {pair.keys['B']} {tuple(up.shape)} for a layer of "
            f"{tuple(weight.shape)}.",
            "It was trained for another model: use that one with --backbone.",
        )
    return down, up


def _alpha(alpha: torch.Tensor, down: torch.Tensor) -> float:
    return float(alpha.float().reshape(-1)[0]) / down.shape[0]


def _scale_of(file: Path, metadata: Mapping[str, str], source: str) -> Scale:
    """How far the matrices count, as diffusers keeps it in the file and PEFT beside it."""
    if (text := metadata.get("lora_adapter_metadata")) is not None:
        try:
            found = json.loads(text)
        except ValueError:
            found = {}
        found = found if isinstance(found, dict) else {}
        scale = {key.removeprefix("transformer."): value for key, value in found.items()}
    elif file.name == USUAL[1] and (beside := file.with_name(CONFIG)).is_file():
        scale = files.read_json(beside)
    else:
        return {}
    if scale.get("use_dora") or scale.get("peft_type", "LORA") != "LORA":
        raise UsageError(
            f"Expected LoRA weights, got {source} of another kind: DoRA, or no LoRA at all."
        )
    return scale


def _factor(scale: Scale, name: str, rank: int) -> float:
    """What PEFT multiplies with: alpha / rank, or alpha / sqrt(rank) (rank-stabilised LoRA)."""
    alpha: Any = scale.get("lora_alpha")
    pattern = scale.get("alpha_pattern")
    for key, value in pattern.items() if isinstance(pattern, dict) else ():
        if name == key or name.endswith(f".{key}"):
            alpha = value
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
        return 1.0
    return alpha / (math.sqrt(rank) if scale.get("use_rslora") is True else rank)
