"""The cells of docs/compatibility.md: what people do to their pipelines, with a card applied.

Every cell works on a fresh tiny pipeline. It returns a few words on what was checked, or raises the
error of pe-toolkit that refuses it. Run by tests/test_compatibility.py.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from accelerate import cpu_offload
from diffusers import (
    CogVideoXImageToVideoPipeline,
    CogVideoXVideoToVideoPipeline,
    FasterCacheConfig,
    FirstBlockCacheConfig,
    MagCacheConfig,
    PyramidAttentionBroadcastConfig,
    TaylorSeerCacheConfig,
)
from diffusers.models.attention_dispatch import AttentionBackendName
from diffusers.models.attention_processor import CogVideoXAttnProcessor2_0
from PIL import Image
from safetensors.torch import save_file

from pe_toolkit.acceleration import caches
from pe_toolkit.acceleration.quantize import quantize
from pe_toolkit.apply import applied, generate
from pe_toolkit.backbones import CogVideoXAdapter
from pe_toolkit.backbones.cogvideox import hooks
from pe_toolkit.backbones.cogvideox.processors import PositionedAttnProcessor
from pe_toolkit.backbones.cogvideox.tiling import enable as enable_tiling
from pe_toolkit.backbones.loading.lora import Lora
from pe_toolkit.backbones.loading.lora_weights import layers_of, load_loras, read_lora
from pe_toolkit.cli.requests.apply import ApplyOptions
from pe_toolkit.errors import PeError
from pe_toolkit.training import TrainConfig, train
from tests.tiny import FRAMES, SIDE, TOKENS, moving_square, tiny_adapter, tiny_pipe, tiny_variant

STEPS = 4
PROMPT = "a blue square"


@dataclass(frozen=True)
class Cell:
    """One row: what is done, the function that does it, and the optional package that it needs
    (`!peft`: only without it).
    """

    name: str
    run: Callable[[Bench], str]
    refused: bool = False
    needs: str | None = None
    slow: bool = False


class Bench:
    """A fresh tiny pipeline, a card for it, and what both give when nothing else was done."""

    def __init__(self, positions: str, card: Any, scratch: Path) -> None:
        self.positions, self.card, self.scratch = positions, card, scratch
        self.pipe = tiny_pipe(positions)

    def generate(self, pipe: Any = None, seed: int = 5, **options: Any) -> torch.Tensor:
        """Latents of one generation."""
        options = {"prompt": PROMPT, "num_inference_steps": STEPS, "guidance_scale": 4.0} | options
        if options.get("output_type") is None:
            options["output_type"] = "latent"
        return torch.as_tensor(
            (pipe or self.pipe)(
                num_frames=FRAMES,
                width=SIDE,
                height=SIDE,
                max_sequence_length=TOKENS,
                generator=torch.Generator("cpu").manual_seed(seed),
                **options,
            ).frames
        )

    def reference(self, **options: Any) -> torch.Tensor:
        """What the card gives on an untouched pipeline."""
        pipe = tiny_pipe(self.positions)
        with applied(pipe, self.card):
            return self.generate(pipe, **options)

    def acts(self, pipe: Any = None, card: Any = None, **options: Any) -> torch.Tensor:
        """The card changes the result in its guided steps and leaves no trace."""
        pipe, card = pipe or self.pipe, card or self.card
        plain = self.generate(pipe, **options)
        with applied(pipe, card) as log:
            guided = self.generate(pipe, **options)
        assert log.guided_steps == card.spec.guided_steps > 0
        assert not torch.equal(guided, plain)
        assert torch.isfinite(guided).all()
        assert torch.equal(self.generate(pipe, **options), plain)
        return guided


def near(a: torch.Tensor, b: torch.Tensor, relative: float = 1e-4) -> None:
    """Equal up to rounding."""
    error = float((a - b).norm() / b.norm())
    assert error < relative, error


def make_card(positions: str, **changes: Any) -> Any:
    adapter = tiny_adapter(positions, steps=STEPS)
    adapter = CogVideoXAdapter(
        tiny_pipe(positions, **changes), tiny_variant(positions, steps=STEPS)
    )
    return card_of(adapter)


def card_of(adapter: CogVideoXAdapter) -> Any:
    config = TrainConfig(
        prompts=("a red circle",), samples=1, learning_rates=(0.1, 0.1), guided_range=(0.9, 1.0)
    )
    return list(train(adapter, moving_square(), config))[-1].card


# The cells --------------------------------------------------------------------------------------


def untouched(b: Bench) -> str:
    b.acts()
    plain = b.generate()
    with applied(b.pipe, b.card, strength=0.0):
        assert torch.equal(b.generate(), plain)
    return "bit for bit the plain result at strength 0 and afterwards"


def several(b: Bench) -> str:
    with applied(b.pipe, b.card):
        assert torch.equal(b.generate(), b.generate())
    return "the second generation equals the first"


def callback(b: Bench) -> str:
    seen = []

    def on_end(pipe: Any, step: int, t: Any, values: dict[str, Any]) -> dict[str, Any]:
        seen.append(step)
        return values

    guided = b.acts(callback_on_step_end=on_end)
    assert seen == list(range(STEPS)) * 3
    assert torch.equal(guided, b.reference())
    return "same result"


def guidance_one(b: Bench) -> str:
    b.acts(guidance_scale=1.0)
    return "one pass per step, guided"


def embeddings(b: Bench) -> str:
    with torch.no_grad():  # with gradients attention takes another path, and rounds otherwise
        both = b.pipe.encode_prompt(PROMPT, "", max_sequence_length=TOKENS)
    given = {"prompt": None, "prompt_embeds": both[0], "negative_prompt_embeds": both[1]}
    assert torch.equal(b.acts(**given), b.reference())
    b.pipe.text_encoder = None
    b.acts(**given)
    return "same result, also without a text encoder"


def batch(b: Bench) -> str:
    with applied(b.pipe, b.card):
        two = b.generate(prompt=[PROMPT, "a red circle"])
    assert two.shape[0] == 2
    b.acts(prompt=[PROMPT, PROMPT])
    return "the card acts on every prompt"


def latents(b: Bench) -> str:
    shape = b.generate().shape
    b.acts(latents=torch.randn(shape, generator=torch.Generator().manual_seed(1)))
    return "works"


def dpm(b: Bench) -> str:
    pipe = tiny_pipe(b.positions, "dpm")
    b.acts(pipe, use_dynamic_cfg=True)
    return "works"


def half(b: Bench) -> str:
    b.pipe.to(torch.bfloat16)
    near(b.acts().float(), b.reference(), 0.1)
    return "within bfloat16 rounding"


def checkpointing(b: Bench) -> str:
    b.pipe.transformer.enable_gradient_checkpointing()
    assert torch.equal(b.acts(), b.reference())
    return "same result"


def backend(b: Bench) -> str:
    b.pipe.transformer.set_attention_backend("native")
    assert torch.equal(b.acts(), b.reference())
    return "chosen backend also used by our processor"


class Counted(CogVideoXAttnProcessor2_0):
    """A processor as people write them: diffusers' with something of their own."""

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.gain, self.calls = gain, 0

    def __call__(
        self, attn: Any, hidden_states: Any, encoder_hidden_states: Any,
        attention_mask: Any = None, image_rotary_emb: Any = None,
    ) -> Any:  # fmt: skip
        self.calls += 1
        hidden, text = super().__call__(
            attn, hidden_states, encoder_hidden_states, attention_mask, image_rotary_emb
        )
        return hidden * self.gain, text


def own_processor(b: Bench) -> str:
    wanted = b.reference()
    b.pipe.transformer.set_attn_processor(same := Counted())
    near(b.acts(), wanted)
    assert same.calls == 3 * 3 * STEPS  # generations, blocks
    b.pipe.transformer.set_attn_processor(Counted(1.3))
    assert float((b.acts() - wanted).norm() / wanted.norm()) > 1e-3
    return "it acts at every step, with the card's positions; a training refuses it (rotary)"


def blind_processor(b: Bench) -> str:
    class Blind:
        def __call__(
            self, attn: Any, hidden_states: Any, encoder_hidden_states: Any,
            attention_mask: Any = None,
        ) -> Any:  # fmt: skip
            return hidden_states, encoder_hidden_states

    b.pipe.transformer.set_attn_processor(Blind())
    with applied(b.pipe, b.card):
        b.generate()
    return "works: absolute positions do not enter the attention"


def replaced_attention(b: Bench) -> str:
    wanted, calls = b.reference(), [0]
    own = torch.nn.functional.scaled_dot_product_attention

    def attention(*args: Any, **options: Any) -> torch.Tensor:
        calls[0] += 1
        return own(*args, **options)

    torch.nn.functional.scaled_dot_product_attention = attention  # type: ignore[assignment]
    try:
        assert torch.equal(b.acts(), wanted)
    finally:
        torch.nn.functional.scaled_dot_product_attention = own  # type: ignore[assignment]
    assert calls[0] >= 3 * 3 * STEPS
    return "the replacement computes every attention"


def sage_training(b: Bench) -> str:
    for attn in hooks.attention_modules(b.pipe.transformer):
        attn.processor = PositionedAttnProcessor()
        attn.processor._attention_backend = AttentionBackendName.SAGE
    card_of(CogVideoXAdapter(b.pipe, tiny_variant(b.positions, steps=STEPS)))
    return "works"


def wrapped_forward(b: Bench) -> str:
    wanted, calls = b.reference(), [0]

    def around(inner: Any) -> Any:
        def forward(*args: Any, **options: Any) -> Any:
            calls[0] += 1
            return inner(*args, **options)

        return forward

    for block in b.pipe.transformer.transformer_blocks:
        block.attn1.forward = around(block.attn1.forward)
    assert torch.equal(b.acts(), wanted)
    assert calls[0] == 3 * 3 * STEPS
    return "wrapper and card both act"


def wrapped_module(b: Bench) -> str:
    class Around(torch.nn.Module):
        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.inner, self.calls = inner, 0

        def forward(self, *args: Any, **options: Any) -> Any:
            self.calls += 1
            return self.inner(*args, **options)

    wanted = b.reference()
    blocks = b.pipe.transformer.transformer_blocks
    for block in blocks:
        block.attn1 = Around(block.attn1)
    assert torch.equal(b.acts(), wanted)
    assert all(block.attn1.calls == 3 * STEPS for block in blocks)
    return "wrapper and card both act"


def foreign_attention(b: Bench) -> str:
    for block in b.pipe.transformer.transformer_blocks:
        block.attn1 = torch.nn.Identity()
    with applied(b.pipe, b.card):
        return "works: absolute positions do not enter the attention"


def reloaded(b: Bench) -> str:
    b.pipe.save_pretrained(b.scratch / "pipe")
    pipe = type(b.pipe).from_pretrained(b.scratch / "pipe")
    pipe.set_progress_bar_config(disable=True)
    assert torch.equal(b.acts(pipe), b.reference())
    return "same result"


def tiling(b: Bench) -> str:
    vae = b.pipe.vae
    vae.enable_tiling(tile_sample_min_height=SIDE // 2, tile_sample_min_width=SIDE // 2)
    enable_tiling(vae)  # as `--vae-tiling`
    assert b.acts(output_type="pt").shape[-2:] == (SIDE, SIDE)
    assert torch.equal(b.acts(), b.reference())
    return "latents equal; tiles change pixels at their seams, with and without a card"


def model_offload(b: Bench) -> str:
    b.pipe.enable_model_cpu_offload(device="cpu")
    assert torch.equal(b.acts(), b.reference())
    with applied(b.pipe, b.card):  # the hooks are made anew after every generation
        assert torch.equal(b.generate(), b.generate())
    return "same result, twice in a row"


def sequential_offload(b: Bench) -> str:
    # What `enable_sequential_cpu_offload` does to each component; accelerate cannot do it to the
    # text encoder where main memory is the device.
    cpu_offload(b.pipe.transformer, torch.device("cpu"))
    assert torch.equal(b.acts(), b.reference())
    return "same result"


def group_offload(kind: str) -> Callable[[Bench], str]:
    def run(b: Bench) -> str:
        per_group = {"num_blocks_per_group": 1} if kind == "block_level" else {}
        b.pipe.transformer.enable_group_offload(
            onload_device=torch.device("cpu"),
            offload_device=torch.device("cpu"),
            offload_type=kind,
            **per_group,
        )
        assert torch.equal(b.acts(), b.reference())
        return "same result"

    return run


def pipeline_group_offload(kind: str, *excluded: str, disk: bool = False) -> Callable[[Bench], str]:
    """`pipe.enable_group_offload`: text encoder, transformer and VAE."""

    def run(b: Bench) -> str:
        per_group = {"num_blocks_per_group": 1} if kind == "block_level" else {}
        # On disk, nothing of a weight is left in memory while it is away.
        away = {"offload_to_disk_path": str(b.scratch)} if disk else {}
        b.pipe.enable_group_offload(
            onload_device=torch.device("cpu"),
            offload_device=torch.device("cpu"),
            offload_type=kind,
            exclude_modules=list(excluded),
            **per_group,
            **away,
        )
        assert torch.equal(b.acts(), b.reference())
        with applied(b.pipe, b.card):
            assert torch.equal(b.generate(output_type="pt"), b.reference(output_type="pt"))
        return "same result" + (", with the weights on disk meanwhile" if disk else "")

    return run


def layerwise(b: Bench) -> str:
    b.pipe.transformer.enable_layerwise_casting(
        storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32
    )
    near(b.acts(), b.reference(), 0.2)
    return "works"


def quantized(name: str) -> Callable[[Bench], str]:
    def run(b: Bench) -> str:
        quantize(b.pipe.transformer, name)
        near(b.acts(), b.reference(), 0.2)
        return "within the rounding of the weights"

    return run


def compiled(b: Bench) -> str:
    b.pipe.transformer = torch.compile(b.pipe.transformer, backend="aot_eager")
    near(b.acts(), b.reference())
    return "same result up to rounding (backend aot_eager)"


def compiled_blocks(b: Bench) -> str:
    for block in b.pipe.transformer.transformer_blocks:
        block.compile(backend="aot_eager")
    near(b.acts(), b.reference())
    return "same result up to rounding (backend aot_eager)"


def own_cache(config: Callable[[Any], Any]) -> Callable[[Bench], str]:
    """A cache that the user switched on."""

    def run(b: Bench) -> str:
        b.pipe.transformer.enable_cache(config(b.pipe))
        steps = {"num_inference_steps": 3 * STEPS}
        plain = b.generate(**steps)
        with applied(b.pipe, b.card) as log:
            first, second = b.generate(**steps), b.generate(**steps)
        assert log.guided_steps
        assert torch.equal(first, second)
        assert not torch.equal(first, plain)
        assert torch.equal(b.generate(**steps), plain)
        b.pipe.transformer.disable_cache()
        assert torch.equal(b.acts(), b.reference())
        return "off in guided steps; as it was afterwards"

    return run


def our_cache(name: str) -> Callable[[Bench], str]:
    """The caches of `pe apply --cache`: hooked, off in guided steps, gone afterwards."""

    def run(b: Bench) -> str:
        steps = 3 * STEPS
        transformer = b.pipe.transformer
        plain = b.generate(num_inference_steps=steps)
        b.pipe.scheduler.set_timesteps(steps)
        times = tuple(int(t) for t in b.pipe.scheduler.timesteps)
        with applied(b.pipe, b.card) as log:
            exact = b.generate(num_inference_steps=steps)
        schedule = caches.Schedule(times, log.guided_steps)
        ones = [1.0] * steps if name == "mag" else None
        passes = []
        handle = transformer.transformer_blocks[1].attn1.to_q.register_forward_hook(
            lambda *_: passes.append(int(b.pipe.current_timestep))
        )
        with (
            caches.cached(transformer, name, schedule, ones) as hooks,
            applied(b.pipe, b.card),
        ):
            near(b.generate(num_inference_steps=steps), exact, 0.2)
        handle.remove()
        assert set(times[: log.guided_steps]) <= set(passes)
        if name == "first-block":  # a random network changes little or much: no step is promised
            assert log.guided_steps <= len(passes) <= steps
        else:
            assert log.guided_steps < len(passes) < steps
        assert torch.equal(b.generate(num_inference_steps=steps), plain)
        return f"{hooks} hooks on 3 blocks; every guided step computed in full"

    return run


def faster_cache(b: Bench) -> str:
    b.pipe.transformer.enable_cache(
        FasterCacheConfig(
            spatial_attention_block_skip_range=2,
            current_timestep_callback=lambda: b.pipe.current_timestep,
        )
    )
    with applied(b.pipe, b.card):
        return "works"


def fused(b: Bench) -> str:
    b.pipe.fuse_qkv_projections()
    with applied(b.pipe, b.card):
        # Absolute positions enter before the blocks: no projection is touched.
        b.generate()
    return "works: absolute positions do not enter the attention"


def image_to_video(b: Bench) -> str:
    base = tiny_pipe(b.positions)
    transformer = type(base.transformer).from_config(
        dict(base.transformer.config) | {"in_channels": 8}
    )
    parts = dict(base.components) | {"transformer": transformer.eval()}
    pipe = CogVideoXImageToVideoPipeline(**parts)
    pipe.set_progress_bar_config(disable=True)
    card = b.card
    adapter = CogVideoXAdapter(pipe, tiny_variant(b.positions, steps=STEPS))
    import dataclasses

    from pe_toolkit.card import MotionCard

    own = dataclasses.replace(card.spec.backbone, fingerprint=adapter.fingerprint())
    card = MotionCard(dataclasses.replace(card.spec, backbone=own, digest=""), card.tensors)
    image = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    b.acts(pipe, card, image=image)
    return "works"


def video_to_video(b: Bench) -> str:
    pipe = CogVideoXVideoToVideoPipeline(**b.pipe.components)
    pipe.set_progress_bar_config(disable=True)
    video = [Image.fromarray(frame) for frame in moving_square().frames]

    def make(strength: float) -> torch.Tensor:
        return pipe(
            prompt=PROMPT, video=video, strength=strength, num_inference_steps=20, width=SIDE,
            height=SIDE, max_sequence_length=TOKENS, output_type="latent",
            generator=torch.Generator("cpu").manual_seed(5),
        ).frames  # fmt: skip

    plain, low = make(1.0), make(0.3)
    with applied(pipe, b.card) as log:
        assert not torch.equal(make(1.0), plain)
    assert log.guided_steps
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with applied(pipe, b.card):
            assert torch.equal(make(0.3), low)
    assert any("guided no step" in str(w.message) for w in said)
    return "at strength 1; where it begins below the card's noise levels, a warning says so"


def patched_in_time(b: Bench) -> str:
    pipe = tiny_pipe(b.positions, patch_size_t=2)
    card = card_of(CogVideoXAdapter(pipe, tiny_variant(b.positions, steps=STEPS)))
    b.acts(pipe, card)
    return "works"


def lora_weights(prefix: str) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    weights = {}
    for block in range(3):
        for layer in ("to_q", "to_k", "to_v"):
            key = f"{prefix}transformer_blocks.{block}.attn1.{layer}"
            weights[f"{key}.lora_A.weight"] = torch.randn(2, 32, generator=generator) * 0.3
            weights[f"{key}.lora_B.weight"] = torch.randn(32, 2, generator=generator) * 0.3
    return weights


def lora(*, fuse: bool = False, stored: str = "none") -> Callable[[Bench], str]:
    def run(b: Bench) -> str:
        quantize(b.pipe.transformer, stored)
        save_file(lora_weights("transformer."), b.scratch / "lora.safetensors")
        before = b.generate()
        load_loras(b.pipe, [str(b.scratch / "lora.safetensors:0.5")])
        if fuse:
            b.pipe.fuse_lora()
        assert not torch.equal(b.generate(), before)
        assert not torch.equal(b.acts(), b.reference())
        return "card and LoRA both act"

    return run


def lora_names(b: Bench) -> str:
    """Each beside the one before: as many times the same change."""
    flat = {
        "lora_unet__" + key.replace(".lora_A.", "|down.").replace(".lora_B.", "|up."): value
        for key, value in lora_weights("").items()
    }
    flat = {key.replace(".", "_").replace("|", ".lora_").replace("_weight", ".weight"): v
            for key, v in flat.items()}  # fmt: skip
    prefixes = ("transformer.", "base_model.model.", "diffusion_model.", "")
    videos = []
    for weights in (*map(lora_weights, prefixes), flat):
        save_file(weights, b.scratch / "lora.safetensors")
        names = load_loras(b.pipe, [str(b.scratch / "lora.safetensors")])
        videos.append(b.generate())
        b.pipe.delete_adapters(list(names))
    assert not torch.equal(videos[0], b.generate())
    assert all(torch.equal(video, videos[0]) for video in videos)
    return "the same videos under each of them"


def lora_of_another_kind(b: Bench) -> str:
    save_file({"diffusion_model.blocks.0.self_attn.q.lora_A.weight": torch.ones(2, 32)},
              b.scratch / "wan.safetensors")  # fmt: skip
    read_lora(b.scratch / "wan.safetensors", layers_of(b.pipe.transformer), "wan.safetensors")
    return "works"


def lora_without_peft(b: Bench) -> str:
    card, loras = Path("card.safetensors"), (Lora("style.safetensors"),)
    ApplyOptions(prompts=(PROMPT,), card_path=card, output=Path("o.mp4"), loras=loras).check()
    return "works"


def mag_uncalibrated(b: Bench) -> str:
    adapter = CogVideoXAdapter(b.pipe, tiny_variant(b.positions, steps=STEPS, name="cogvideox-5b"))
    list(generate(adapter, [PROMPT], [1], cache="mag"))
    return "works"


def two_caches(b: Bench) -> str:
    b.pipe.transformer.enable_cache(FirstBlockCacheConfig())
    with caches.cached(b.pipe.transformer, "pab", caches.Schedule((999, 500, 100))):
        return "works"


CELLS = (
    Cell("nothing else", untouched),
    Cell("several generations in a row", several),
    Cell("`callback_on_step_end`", callback),
    Cell("guidance scale 1", guidance_one),
    Cell("prompt embeddings passed directly", embeddings),
    Cell("several prompts in one call", batch),
    Cell("`latents=` passed directly", latents),
    Cell("DPM scheduler with dynamic CFG", dpm),
    Cell("bfloat16", half),
    Cell("image-to-video pipeline", image_to_video),
    Cell("video-to-video pipeline", video_to_video),
    Cell("`patch_size_t` (CogVideoX 1.5)", patched_in_time),
    Cell("`save_pretrained`, `from_pretrained`", reloaded),
    Cell("LoRA loaded", lora(), needs="peft"),
    Cell("LoRA named as PEFT, ComfyUI, kohya do, or plainly", lora_names, needs="peft"),
    Cell("LoRA of another kind or model", lora_of_another_kind, refused=True),
    Cell("LoRA on fp8 weights", lora(stored="fp8"), needs="peft"),
    Cell("LoRA fused", lora(fuse=True), needs="peft"),
    Cell("`--lora` without peft", lora_without_peft, refused=True, needs="!peft"),
    Cell("fused QKV projections", fused, refused=True),
    Cell("model offload", model_offload),
    Cell("sequential offload", sequential_offload),
    Cell("group offload, block level", group_offload("block_level")),
    Cell("group offload, leaf level", group_offload("leaf_level")),
    Cell("`pipe.enable_group_offload`, leaf level", pipeline_group_offload("leaf_level")),
    Cell(
        '`pipe.enable_group_offload`, block level, `exclude_modules=["vae"]`',
        pipeline_group_offload("block_level", "vae", disk=True),
    ),
    Cell(
        "`pipe.enable_group_offload`, block level, with the VAE",
        pipeline_group_offload("block_level"),
        refused=True,
    ),
    Cell("gradient checkpointing left on", checkpointing),
    Cell("`set_attention_backend`", backend),
    Cell("`scaled_dot_product_attention` replaced (SageAttention's README)", replaced_attention),
    Cell("training with the attention backend `sage`", sage_training, refused=True),
    Cell("own attention processor", own_processor),
    Cell("own attention processor without `image_rotary_emb`", blind_processor, refused=True),
    Cell("attention wrapped: another `attn1.forward`", wrapped_forward),
    Cell("attention wrapped: `attn1` inside a module (as in ComfyUI)", wrapped_module),
    Cell("another attention in place of `attn1`", foreign_attention, refused=True),
    Cell("layerwise casting (float8)", layerwise),
    Cell("`--quantize fp8`", quantized("fp8")),
    Cell("`--quantize int8`", quantized("int8"), needs="torchao"),
    Cell("`torch.compile(pipe.transformer)`", compiled, slow=True),
    Cell("`block.compile()` of every block", compiled_blocks, slow=True),
    Cell("VAE tiling and slicing", tiling),
    Cell("`--cache pab`", our_cache("pab")),
    Cell("`--cache taylorseer`", our_cache("taylorseer")),
    Cell("`--cache first-block`", our_cache("first-block")),
    Cell("`--cache mag`, calibrated backbone", our_cache("mag")),
    Cell("`--cache mag`, any other", mag_uncalibrated, refused=True),
    Cell(
        "own PyramidAttentionBroadcast cache",
        own_cache(
            lambda pipe: PyramidAttentionBroadcastConfig(
                spatial_attention_block_skip_range=2,
                current_timestep_callback=lambda: pipe.current_timestep,
            )
        ),
    ),
    Cell(
        "own TaylorSeer cache",
        own_cache(lambda pipe: TaylorSeerCacheConfig(cache_identifiers=[".*attn1"])),
    ),
    Cell("own first-block cache", own_cache(lambda pipe: FirstBlockCacheConfig(threshold=0.5))),
    Cell(
        "own MagCache",
        own_cache(
            lambda pipe: MagCacheConfig(num_inference_steps=3 * STEPS, mag_ratios=[1.0] * 3 * STEPS)
        ),
    ),
    Cell("own FasterCache", faster_cache, refused=True),
    Cell("`--cache` beside an own cache", two_caches, refused=True),
)


def available(cell: Cell) -> bool:
    """Whether the optional package of a cell is here (or, with `!`, is not)."""
    if cell.needs is None:
        return True
    missing = cell.needs.startswith("!")
    return (find_spec(cell.needs.lstrip("!")) is None) == missing


def outcome(cell: Cell, positions: str, card: Any, scratch: Path) -> tuple[str, str]:
    """(`works` or `refused`, what was checked or the message)."""
    with contextlib.suppress(FileExistsError):
        scratch.mkdir(parents=True)
    try:
        return "works", cell.run(Bench(positions, card, scratch))
    except PeError as error:
        return "refused", f"{error.message} {error.hint or ''}".strip()
