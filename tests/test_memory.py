"""The memory model: exact parameter counts; activations counted at full size, on fake tensors."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXTransformer3DModel
from transformers import T5Config, T5EncoderModel

from pe_toolkit.backbones.catalogue import architectures
from pe_toolkit.backbones.catalogue.variants import VARIANTS
from pe_toolkit.backbones.cogvideox import hooks
from pe_toolkit.backbones.cogvideox.processors import PositionedAttnProcessor
from pe_toolkit.backbones.machine import memory
from pe_toolkit.backbones.machine.checkpointing import checkpointed
from pe_toolkit.backbones.machine.recompute import LEVELS
from tests.fake import fake, peak

CONFIGS = {
    "cogvideox-2b": {"num_layers": 30, "num_attention_heads": 30},
    "cogvideox-5b": {
        "num_layers": 42,
        "num_attention_heads": 48,
        "use_rotary_positional_embeddings": True,
    },
}
CONFIGS["cogvideox1.5-5b"] = CONFIGS["cogvideox-5b"] | {
    "patch_size_t": 2, "patch_bias": False, "sample_width": 170, "sample_height": 96,
    "sample_frames": 81,
}  # fmt: skip
CONFIGS["cogvideox-5b-i2v"] = CONFIGS["cogvideox-5b"] | {
    "in_channels": 32,
    "use_learned_positional_embeddings": True,
}
CONFIGS["cogvideox1.5-5b-i2v"] = CONFIGS["cogvideox1.5-5b"] | {
    "in_channels": 32,
    "ofs_embed_dim": 512,
}


def request(name: str, **changes) -> memory.Request:
    return memory.Request.of(VARIANTS[name], guided=10, **changes)


@pytest.mark.parametrize("name", CONFIGS)
def test_parameters_of_the_published_configurations(name):
    with torch.device("meta"):
        real = CogVideoXTransformer3DModel(**CONFIGS[name])
    count = sum(p.numel() for p in real.parameters())
    assert architectures.ARCHITECTURES[name].parameters == count
    if architectures.ARCHITECTURES[name].learned:
        learned = real.patch_embed.pos_embedding.numel() * 2
        a, r = architectures.ARCHITECTURES[name], request(name)
        assert memory.weight_bytes(a, r)["transformer"] == count * 2 + learned


def test_parameters_of_text_encoder_and_vae():
    with torch.device("meta"):
        text = T5EncoderModel(
            T5Config(
                vocab_size=32128, d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64,
                feed_forward_proj="gated-gelu",
            )
        )  # fmt: skip
        vae = AutoencoderKLCogVideoX(
            block_out_channels=(128, 256, 256, 512), latent_channels=16, layers_per_block=3
        )
    assert sum(p.numel() for p in text.parameters()) == memory.TEXT_PARAMETERS
    assert sum(p.numel() for p in vae.parameters()) == memory.VAE_PARAMETERS


@pytest.mark.parametrize("name", architectures.ARCHITECTURES)
def test_every_published_row_has_an_estimate_and_the_right_grid(name):
    a, variant = architectures.ARCHITECTURES[name], VARIANTS[name]
    grid = {"cogvideox1.5": (11, 48, 85)}.get(name.split("-")[0], (13, 30, 45))
    assert a.grid(variant.frames, variant.width, variant.height) == grid
    assert a.positions == variant.positions
    r = request(name)
    on = memory.train_estimate(a, r, checkpointing="on")
    off = memory.train_estimate(a, r, checkpointing="off")
    assert on.gpu_bytes < off.gpu_bytes
    assert on.flops > off.flops
    whole = memory.apply_estimate(a, r)
    sizes = [
        memory.apply_estimate(a, request(name, offload=o)).gpu_bytes
        for o in ("model", "group", "sequential")
    ]
    assert whole.gpu_bytes > sizes[0] > sizes[1] >= sizes[2]
    small = memory.apply_estimate(a, request(name, quantize="fp8"))
    assert small.gpu_bytes < whole.gpu_bytes
    assert whole.gpu_bytes == pytest.approx(sum(whole.parts.values()) + memory.OVERHEAD)


def test_arithmetic_of_the_paper_setting():
    """Worked out by hand: 5b, 24 frames, 50 steps, K = 5 at block 20."""
    a, r = architectures.ARCHITECTURES["cogvideox-5b"], request("cogvideox-5b", frames=24)
    assert memory.apply_flops(a, r) / 1e15 == pytest.approx(11.5, rel=0.01)
    assert memory.train_flops(a, r, checkpointing="off") / 1e15 == pytest.approx(9, rel=0.05)


# Activations at the real width and token count, fewer blocks. -------------------------------------


def transformer(rotary: bool, layers: int):
    torch.set_default_dtype(torch.bfloat16)
    try:
        model = CogVideoXTransformer3DModel(
            num_layers=layers, num_attention_heads=48, use_rotary_positional_embeddings=rotary
        )
    finally:
        torch.set_default_dtype(torch.float32)
    for attn in hooks.attention_modules(model):
        attn.processor = PositionedAttnProcessor()
    return model.eval().requires_grad_(False)


def inputs(samples: int, frames: int):
    return {
        "hidden_states": torch.empty(samples, frames, 16, 60, 90, dtype=torch.bfloat16),
        "encoder_hidden_states": torch.empty(samples, 226, 4096, dtype=torch.bfloat16),
        "timestep": torch.empty(samples, dtype=torch.int64),
        "image_rotary_emb": None,
        "return_dict": False,
    }


@pytest.mark.parametrize("positions", ["rotary", "absolute"])
def test_units_of_a_pass_without_gradients(positions):
    with fake():
        model, given = transformer(positions == "rotary", 2), inputs(2, 13)
        if positions == "rotary":
            given["image_rotary_emb"] = (torch.empty(17550, 64), torch.empty(17550, 64))
        there = [t for t in given.values() if isinstance(t, torch.Tensor)]
        with torch.no_grad(), peak(model, *there) as counter:
            model(**given)
    units = counter.most / (2 * (17550 + 226) * 3072 * 2)
    assert units == pytest.approx(memory.PASS_UNITS[positions], rel=0.1)


@pytest.mark.parametrize("positions", ["rotary", "absolute"])
@pytest.mark.parametrize("checkpointing", LEVELS)
def test_units_of_an_optimisation_step(positions, checkpointing):
    rotary, block, tokens = positions == "rotary", 3, 6 * 1350
    with fake():
        model, given = transformer(rotary, block + 1), inputs(1, 6)
        delta = torch.zeros(*((2, tokens, 32) if rotary else (tokens, 3072)), requires_grad=True)
        there = [t for t in given.values() if isinstance(t, torch.Tensor)]
        with peak(model, delta, *there) as counter:
            value = delta
            if rotary:
                value = [(table(d, torch.cos), table(d, torch.sin)) for d in delta]
            kind = hooks.rotary_positions if rotary else hooks.absolute_positions
            with kind(model, lambda _: value), checkpointed(model, checkpointing):
                q, k = hooks.queries_and_keys(model, block, lambda: model(**given))
            tapped = counter.now
            (q.float().sum() + k.float().sum()).backward()
    unit = (tokens + 226) * 3072 * 2
    key = (positions, checkpointing)
    for found, (each, rest) in (
        (counter.most, memory.STEP_UNITS[key]),
        (tapped, memory.TAPPED_UNITS[key]),
    ):
        assert found / unit == pytest.approx(block * each + rest, rel=0.1)


def table(angles, function):
    return function(angles).repeat_interleave(2, -1)


def test_bytes_of_the_vae_per_pixel():
    with fake():
        torch.set_default_dtype(torch.bfloat16)
        try:
            vae = AutoencoderKLCogVideoX(
                block_out_channels=(128, 256, 256, 512), latent_channels=16, layers_per_block=3
            ).eval()
        finally:
            torch.set_default_dtype(torch.float32)
        z = torch.empty(1, 16, 5, 30, 45, dtype=torch.bfloat16)
        with torch.no_grad(), peak(vae, z) as decoding:
            vae.decode(z)
        x = torch.empty(1, 3, 17, 240, 360, dtype=torch.bfloat16)
        with torch.no_grad(), peak(vae, x) as encoding:
            vae.encode(x)
    pixels = 240 * 360
    assert decoding.most / pixels == pytest.approx(memory.DECODE_BYTES, rel=0.1)
    assert encoding.most / pixels == pytest.approx(memory.ENCODE_BYTES, rel=0.1)
