"""Which layer of a CogVideoX transformer a key of a LoRA file is for. No torch.

    transformer.transformer_blocks.0.attn1.to_q.lora_A.weight       diffusers
    base_model.model.transformer_blocks.0. ...                      PEFT
    diffusion_model.transformer_blocks.0. ...                       ComfyUI
    transformer_blocks.0. ... .lora.down.weight                     no prefix; older diffusers
    lora_unet__transformer_blocks_0_attn1_to_q.lora_down.weight     kohya, CogVideoX-Fun

All of them name the layers of diffusers' transformer, so that converting is renaming. What is
something else is refused by its name: nothing of a file is left out silently.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from pe_toolkit.errors import UsageError

Layers = dict[str, dict[str, str]]
"""Layer -> kind of tensor (`A`, `B`, `bias`, `magnitude`, `alpha`) -> key."""

_PREFIX = re.compile(
    r"^(base_model\.model\.|model\.diffusion_model\.|diffusion_model\.|module\.|transformer\.)+"
)
_FLAT = re.compile(r"^lora_(unet|transformer)_+")
_ENDS = {
    "A": r"(\.lora_A(\.\w+)?|\.lora[._]down|_lora\.down)\.weight$",
    "B": r"(\.lora_B(\.\w+)?|\.lora[._]up|_lora\.up)\.weight$",
    "bias": r"\.lora_B(\.\w+)?\.bias$",
    "magnitude": r"\.lora_magnitude_vector(\.\w+)?$",
    "alpha": r"\.alpha$",
}
_KINDS = {kind: re.compile(end) for kind, end in _ENDS.items()}
_TEXT = re.compile(r"^(text_encoder(_\d)?\.|lora_te_|base_model\.model\.(encoder|shared)\.)")
_BLOCK = re.compile(r"transformer_blocks[._](\d+)[._]")
_SHOWN = 3

AGAIN = "Was it trained for CogVideoX? `--lora` takes what diffusers, PEFT, ComfyUI and kohya save."
_OTHERS = (
    # what it is, how its keys look, what to do
    ("LyCORIS weights (LoKr)", r"\.lokr_", "diffusers takes plain LoRA matrices for CogVideoX."),
    ("LyCORIS weights (LoHa)", r"\.hada_", "diffusers takes plain LoRA matrices for CogVideoX."),
    (
        "other adapters than LoRA (OFT, IA3 or VeRA)",
        r"\.b?oft_|\.ia3_|\.vera_",
        "diffusers takes plain LoRA matrices for CogVideoX.",
    ),
    (
        "DoRA weights as kohya writes them",
        r"\.dora_scale$",
        "diffusers takes plain LoRA matrices, or DoRA as PEFT saves it.",
    ),
    (
        "whole differences of weights",
        r"\.diff(_b)?$",
        "diffusers takes plain LoRA matrices: extract some, or ask its author.",
    ),
    (
        "LoRA weights of CogVideo's SAT trainer",
        r"\.matrix_[AB](\.\d+)?$",
        "Convert them first with tools/export_sat_lora_weight.py of the CogVideo repository.",
    ),
    ("LoRA weights for Wan", r"(^|[._])blocks[._]\d+[._](self|cross)_attn[._]", AGAIN),
    ("LoRA weights for Flux or HunyuanVideo", r"(double|single)_(transformer_)?blocks[._]", AGAIN),
    (
        "LoRA weights for Stable Diffusion",
        r"(^|[._])((down|up|input|output)_blocks|mid(dle)?_block)[._]|^lora_te[12]_",
        AGAIN,
    ),
)
_OTHER = tuple((what, re.compile(keys), hint) for what, keys, hint in _OTHERS)


@dataclass
class Assigned:
    """The keys of a file.

    Attributes:
        layers: those of the transformer, each layer with a pair of matrices at least.
        text: those of the text encoder, which diffusers does not load for CogVideoX.
    """

    layers: Layers = field(default_factory=dict)
    text: list[str] = field(default_factory=list)


def assign(keys: Collection[str], layers: Collection[str], source: str) -> Assigned:
    """Find the layer and the kind of every key.

    Args:
        layers: the names of the transformer's layers that a LoRA can be for.
        source: where the keys come from, for messages.

    Raises:
        UsageError: keys that are for no layer, twice the same, or half of a pair.
    """
    flat = {name.replace(".", "_"): name for name in layers}
    found, strange = Assigned(), []
    for key in keys:
        if _TEXT.match(key):
            found.text.append(key)
            continue
        kind, stem = _kind(key)
        name = _layer(stem, layers, flat)
        if kind is None or name is None:
            strange.append(key)
            continue
        own = found.layers.setdefault(name, {})
        if kind in own:
            raise UsageError(
                f"Expected one key for each matrix of {name} in {source}, got "
                f"{_list([own[kind], key])}.",
                "The file mixes two ways of naming: take it from where it was published.",
            )
        own[kind] = key
    if strange or not found.layers:
        raise _refusal(strange, found, keys, layers, source)
    for name, own in found.layers.items():
        if not {"A", "B"} <= own.keys():
            raise UsageError(
                f"Expected two matrices for {name} in {source}, got {_list(own.values())} alone.",
                "The file is not complete: download it again.",
            )
    return found


def _kind(key: str) -> tuple[str | None, str]:
    """What a key is, and the key without the end that says so."""
    for kind, end in _KINDS.items():
        if (match := end.search(key)) is not None:
            return kind, key[: match.start()]
    return None, key


def _layer(stem: str, layers: Collection[str], flat: dict[str, str]) -> str | None:
    name = _PREFIX.sub("", stem).replace(".processor.", ".")
    if (match := _FLAT.match(name)) is not None:
        name = name[match.end() :]
        name = flat.get(name) or flat.get(f"{name}_0") or name
    elif f"{name}.0" in layers:  # `to_out`, as older files call it
        name = f"{name}.0"
    return name if name in layers else None


def _refusal(
    strange: list[str],
    found: Assigned,
    keys: Collection[str],
    layers: Collection[str],
    source: str,
) -> UsageError:
    """What the file is instead, as far as its keys tell."""
    if not keys:
        return UsageError(f"Expected LoRA weights, got an empty file, {source}.", AGAIN)
    if not strange:
        return UsageError(
            f"Expected LoRA weights for the transformer, got {source} with those for the text "
            f"encoder alone, such as {_list(found.text)}.",
            "diffusers does not load them for CogVideoX.",
        )
    what, hint = _kind_of_file(strange, keys, layers)
    return UsageError(
        f"Expected LoRA weights for this backbone, got {what} in {source}: {len(strange)} of its "
        f"{len(keys)} keys are for no layer of it, such as {_list(strange)}.",
        hint,
    )


def _kind_of_file(
    strange: list[str], keys: Collection[str], layers: Collection[str]
) -> tuple[str, str]:
    """What it is, and what to do."""
    for what, pattern, hint in _OTHER:
        if any(pattern.search(key) for key in strange):
            return what, hint
    if all(_kind(key)[0] is None for key in keys):
        return "weights that are no LoRA", "The weights of a whole model are named by --backbone."
    deepest = max((int(m[1]) for m in map(_BLOCK.search, strange) if m), default=-1)
    blocks = max((int(m[1]) for m in map(_BLOCK.search, layers) if m), default=-1) + 1
    if deepest >= blocks > 0:
        return (
            f"LoRA weights for a deeper transformer (block {deepest} from 0)",
            f"This backbone has {blocks} blocks: name the one of the LoRA with --backbone.",
        )
    return "something else", AGAIN


def _list(keys: Iterable[str]) -> str:
    """Some keys, as text that steers no terminal."""
    return ", ".join(ascii(key)[1:-1][:100] for key in sorted(keys)[:_SHOWN])
