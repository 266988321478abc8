"""How much memory, disk and arithmetic a backbone needs, before anything of it is loaded.

Arithmetic on the published configurations; imports no torch. Parameter counts are exact. What a
pass keeps is given in *units*: one unit is one activation tensor of a sample,

    unit = (S + text tokens) x channels x bytes of the dtype,

S the video tokens. How many units a pass needs at its peak was counted with fake tensors of the
real size on the real classes (tests/test_memory.py repeats the count). Not in it: the CUDA context,
kernels' workspaces (`OVERHEAD`, an assumption) and what the allocator loses (`recompute.LOST`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pe_toolkit.backbones.catalogue.architectures import HEAD, Architecture
from pe_toolkit.backbones.catalogue.variants import Variant
from pe_toolkit.backbones.machine.recompute import Level
from pe_toolkit.embedding import LAYERED

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
TEXT_PARAMETERS = 4_762_310_656
"""T5 v1.1 XXL encoder: `(vocabulary + layers x (4 inner + 3 x 10240)) x 4096 + norms`."""
VAE_PARAMETERS = 215_583_907
OVERHEAD = 1.0e9
"""Bytes assumed for the CUDA context and the allocator's rounding."""

# Units at the peak of a pass without gradients through our attention processor, per sample.
PASS_UNITS = {"rotary": 16.0, "absolute": 12.0}
# Units of an optimisation step tapped at block n: `n x each + rest`, backward included.
STEP_UNITS = {
    ("rotary", "off"): (20.0, 20.0),
    ("rotary", "little"): (7.0, 25.0),
    ("rotary", "partly"): (3.0, 28.2),
    ("rotary", "on"): (1.0, 30.3),
    ("absolute", "off"): (12.1, 11.1),
    ("absolute", "little"): (7.0, 16.0),
    ("absolute", "partly"): (3.0, 20.1),
    ("absolute", "on"): (1.0, 22.2),
}
# Units alive when the forward pass of that step ends and the AMF begins.
TAPPED_UNITS = {
    ("rotary", "off"): (20.0, 10.0),
    ("rotary", "little"): (7.0, 13.1),
    ("rotary", "partly"): (3.0, 13.1),
    ("rotary", "on"): (1.0, 13.1),
    ("absolute", "off"): (12.1, 5.1),
    ("absolute", "little"): (7.0, 5.1),
    ("absolute", "partly"): (3.0, 5.1),
    ("absolute", "on"): (1.0, 5.1),
}
GUIDED_STAGES = ("AMF", "backward", "denoising")
"""Those of a guided step."""
# Bytes per pixel of the tile at the VAE's peak, from the second batch of frames on, 16-bit.
DECODE_BYTES = 45_800
ENCODE_BYTES = 19_100
WHOLE_BYTES = 1_900
"""Bytes per pixel and frame where a clip is encoded whole, 16-bit (counted operation by operation:
1,814 to 1,887, `python -m benchmarks.encoding`)."""
TILE = (360, 240)
"""Width and height of a tile in pixels (half of 720x480, also for CogVideoX 1.5)."""


@dataclass(frozen=True)
class Request:
    """What is to be trained or generated.

    frames, width, height in pixels; samples are (prompt, seed) pairs; inner is K; cache is that of
    a generation.
    """

    frames: int
    width: int
    height: int
    steps: int
    guided: int
    inner: int
    block: int
    samples: int = 1
    dtype: str = "bfloat16"
    offload: str = "none"
    quantize: str = "none"
    tiling: bool = True
    cache: str = "none"

    @classmethod
    def of(cls, variant: Variant, guided: int, **changes: Any) -> Request:
        """The backbone's defaults, with changes where they are not None."""
        values: dict[str, Any] = {
            "frames": variant.frames,
            "width": variant.width,
            "height": variant.height,
            "steps": variant.steps,
            "guided": guided,
            "inner": variant.inner_steps,
            "block": variant.block,
            "samples": variant.samples,
            "dtype": variant.dtype,
        }
        return cls(**values | {k: v for k, v in changes.items() if v is not None})


@dataclass(frozen=True)
class Estimate:
    """Bytes on the GPU at the peak, bytes in main memory, and floating-point operations.

    stage is when the peak is reached; parts says what it consists of, in bytes, `OVERHEAD` apart.
    """

    gpu_bytes: float
    main_bytes: float
    flops: float
    stage: str
    parts: Mapping[str, float]


def weight_bytes(a: Architecture, r: Request) -> dict[str, float]:
    """Bytes of the weights of each component: parameters x bytes of the dtype.

    8-bit formats touch the matrices of the blocks, which are all but a few percent.
    """
    size, d = BYTES[r.dtype], a.channels
    matrices = a.layers * 12 * d * d
    transformer = a.parameters * size
    if r.quantize != "none":
        # float8 leaves everything named "norm" alone; int8 too, and adds a scale per row.
        transformer -= matrices * (size - 1)
    learned = 0
    if a.learned is not None:
        f, h, w = a.learned
        learned = (f * h * w + a.text_tokens) * d * size
    return {
        "transformer": float(transformer + learned),
        "text encoder": float(TEXT_PARAMETERS * size),
        "vae": float(VAE_PARAMETERS * size),
    }


def unit_bytes(a: Architecture, r: Request) -> float:
    """One activation tensor of one sample: `(S + text) x channels x bytes`."""
    f, h, w = a.grid(r.frames, r.width, r.height)
    return float((f * h * w + a.text_tokens) * a.channels * BYTES[r.dtype])


def amf_bytes(a: Architecture, r: Request) -> float:
    """The AMF loss, one source frame at a time under checkpointing, float32:
    `4 x HW x S x 4 + 2.6 x S x channels x 4` bytes (logits, probabilities and their gradients of
    one frame; queries, keys and gradients of the keys).
    """
    f, h, w = a.grid(r.frames, r.width, r.height)
    tokens = f * h * w
    return 4.0 * h * w * tokens * 4 + 2.6 * tokens * a.channels * 4


def vae_bytes(r: Request, *, decode: bool) -> float:
    """The VAE's peak: bytes per pixel of a tile (or of the frame) and the clip itself in float32,
    twice.
    """
    width, height = r.width, r.height
    if r.tiling:
        width, height = min(width, TILE[0]), min(height, TILE[1])
    per_pixel = (DECODE_BYTES if decode else ENCODE_BYTES) * BYTES[r.dtype] / 2
    return per_pixel * width * height + 2.0 * 3 * 4 * r.frames * r.width * r.height


def whole_bytes(frames: int, width: int, height: int, channels: int, size: int) -> float:
    """The VAE's peak where a clip is encoded whole: `channels` are those of its first block (128 in
    the published ones), `size` bytes of its dtype.
    """
    return WHOLE_BYTES * (channels / 128) * (size / 2) * frames * width * height


def pass_flops(a: Architecture, r: Request, layers: int) -> tuple[float, float]:
    """(matrices, attention) of one forward pass of one sample through `layers` blocks:
    `24 N d^2` and `4 N^2 d` each, N all tokens, d channels.
    """
    f, h, w = a.grid(r.frames, r.width, r.height)
    n, d = f * h * w + a.text_tokens, a.channels
    return layers * 24.0 * n * d * d, layers * 4.0 * n * n * d


def apply_flops(a: Architecture, r: Request) -> float:
    """A generation: every step twice (classifier-free guidance); VAE and text encoder left out."""
    return 2 * r.steps * sum(pass_flops(a, r, a.layers))


def train_flops(a: Architecture, r: Request, *, checkpointing: Level) -> float:
    """A card: the guided steps' inner steps, then their denoising steps; nothing after them. Where
    nothing is optimised (`inner` 0) there are no such steps: the reference is read, one pass to
    block n, and that is all. The VAE, which encodes the reference in any case, is left out.

    An inner step is a forward pass to block n and a backward pass to the positions: matrices once
    (weights are frozen), attention 2.5 times; with checkpointing one more forward pass, `partly`
    without attention and the second matrix of the feed-forward, a third of all matrices, and
    `little` without the first as well.
    """
    if r.inner == 0:
        return sum(pass_flops(a, r, r.block + 1))
    matrices, attention = pass_flops(a, r, r.block)
    inner = 2 * matrices + 3.5 * attention
    if checkpointing == "on":
        inner += matrices + attention
    else:
        inner += {"off": 0.0, "little": 1 / 3, "partly": 2 / 3}[checkpointing] * matrices
    inner += 3 * 2 * 2.0 * amf_pairs(a, r) * a.channels
    denoise = 2 * sum(pass_flops(a, r, a.layers))
    return r.samples * r.guided * (r.inner * inner + denoise)


def amf_pairs(a: Architecture, r: Request) -> float:
    """Pairs of video tokens: S^2."""
    f, h, w = a.grid(r.frames, r.width, r.height)
    return float(f * h * w) ** 2


def apply_estimate(a: Architecture, r: Request) -> Estimate:
    """Peak of a generation: the largest of encoding the text, denoising (two samples: both halves
    of guidance) and decoding, with the weights that the offload mode keeps on the GPU meanwhile.
    """
    weights, unit = weight_bytes(a, r), unit_bytes(a, r)
    resident = _resident(a, r, weights)
    # PAB keeps what the attention of every block gave; the others a few tensors in all.
    kept_by_cache = {"cache": 2 * a.layers * unit} if r.cache == "pab" else {}
    stages = {
        "text": {"weights": resident["text encoder"]},
        "denoising": {
            "weights": resident["transformer"],
            "activations": 2 * PASS_UNITS[a.positions] * unit,
            **kept_by_cache,
        },
        "decoding": {"weights": resident["vae"], "VAE": vae_bytes(r, decode=True)},
    }
    return _peak(stages, weights, apply_flops(a, r))


def _resident(a: Architecture, r: Request, weights: Mapping[str, float]) -> Mapping[str, float]:
    """Bytes of weights on the GPU while each component is at work."""
    block = weights["transformer"] / a.layers
    ways: dict[str, Mapping[str, float]] = {
        "none": dict.fromkeys(weights, sum(weights.values())),
        "model": weights,
        # Two blocks: the one at work and the one that is being fetched; the VAE stays.
        "group": {
            "transformer": 2 * block + weights["vae"],
            "text encoder": weights["text encoder"] / 12 + weights["vae"],
            "vae": weights["vae"],
        },
        "sequential": {"transformer": block, "text encoder": weights["text encoder"] / 24}
        | {"vae": weights["vae"] / 10},
    }
    return ways[r.offload]


def train_weights(a: Architecture, r: Request) -> Mapping[str, float]:
    """Bytes of weights on the GPU while each component is at work in a training: the text encoder
    leaves when it is done, and then the VAE.
    """
    weights = weight_bytes(a, r)
    resident = _resident(a, r, weights)
    if r.offload == "none":
        transformer = weights["transformer"]
        return {**resident, "vae": transformer + weights["vae"], "transformer": transformer}
    if r.offload == "group":  # the VAE leaves as it does without offloading
        return {**resident, "transformer": resident["transformer"] - weights["vae"]}
    return resident


def train_estimate(a: Architecture, r: Request, *, checkpointing: Level) -> Estimate:
    """Peak of a training, one sample at a time: the largest of its stages."""
    stages = train_stages(a, r, checkpointing=checkpointing)
    return _peak(stages, weight_bytes(a, r), train_flops(a, r, checkpointing=checkpointing))


def train_stages(
    a: Architecture, r: Request, *, checkpointing: Level
) -> dict[str, dict[str, float]]:
    """Bytes of every stage of a training, by what they are for, `OVERHEAD` apart.

    Everything is on the GPU while the text is encoded (unless offloaded); then the text encoder
    leaves it, and after the reference the VAE. An optimisation step is either at its AMF (what the
    forward pass kept, and the AMF) or in its backward pass; the denoising step needs two samples'
    passes without gradients.
    """
    unit, key = unit_bytes(a, r), (a.positions, checkpointing)
    resident = train_weights(a, r)
    transformer = resident["transformer"]
    each, rest = STEP_UNITS[key]
    tapped_each, tapped_rest = TAPPED_UNITS[key]
    return {
        "text": {"weights": resident["text encoder"]},
        "encoding": {
            "weights": resident["vae"],
            "VAE": vae_bytes(r, decode=False),
        },
        "AMF": {
            "weights": transformer,
            "activations": (r.block * tapped_each + tapped_rest) * unit,
            "AMF": amf_bytes(a, r),
        },
        "backward": {"weights": transformer, "activations": (r.block * each + rest) * unit},
        "denoising": {
            "weights": transformer,
            "activations": 2 * PASS_UNITS[a.positions] * unit,
        },
    }


def _peak(
    stages: dict[str, dict[str, float]], weights: Mapping[str, float], flops: float
) -> Estimate:
    worst = max(stages, key=lambda name: sum(stages[name].values()))
    total = sum(stages[worst].values()) + OVERHEAD
    return Estimate(total, sum(weights.values()), flops, worst, stages[worst])


def card_bytes(a: Architecture, r: Request, form: str | None = None) -> float:
    """A positions card in half precision: per token two times 32 angles (rotary), or one number per
    channel (absolute), or three coordinates (form `offset`), for each guided step, or once for all
    if there are no inner steps; and the flow with its mask.
    """
    f, h, w = a.grid(r.frames, r.width, r.height)
    per_token = HEAD if a.positions == "rotary" else a.channels
    if form in LAYERED:
        per_token = 3
    sets = r.guided if r.inner else 1
    return 2.0 * sets * f * h * w * per_token + (2 + 1 / 8) * f * f * h * w
