"""A second family at a tiny size: diffusers' own Wan classes behind the contract.

Another layout of latents `(N, C, F', h, w)`, text by cross-attention, guidance in two passes,
flow-matching steps. Real classes with random weights; it is here to hold the contract to more than
one family, and to be read beside docs/backbones.md. It leaves out what a shipped family would need:
offloading in groups, attention processors of the user's, other schedulers.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    WanPipeline,
    WanTransformer3DModel,
)
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.utils.torch_utils import randn_tensor
from transformers import UMT5Config, UMT5EncoderModel

from pe_toolkit.acceleration.timestep import read_timestep
from pe_toolkit.backbones import finite
from pe_toolkit.backbones.catalogue.variants import Variant, variant_for
from pe_toolkit.backbones.families import Family
from pe_toolkit.backbones.machine.resident import Resident
from pe_toolkit.backbones.stopping import Stopped, block_output, stopping_at
from pe_toolkit.backbones.ways import Encoded
from pe_toolkit.embedding import form_class
from pe_toolkit.errors import MismatchError, UnsupportedError, UsageError
from pe_toolkit.grid import TokenGrid
from tests.tiny import tiny_tokenizer

LINE = Family("WanTransformer3DModel", "tests.backbones.wan", "WanBackbone")
"""The line of the table of families."""
FRAMES, SIDE, TOKENS = 9, 64, 8
BLOCK = 0
"""Where keys and values of a reference are injected."""


def tiny_wan() -> Any:
    """A pipeline of 9 frames at 64x64: token grid 3x4x4."""
    torch.manual_seed(0)
    pipe = WanPipeline(
        tokenizer=tiny_tokenizer(),
        text_encoder=UMT5EncoderModel(
            UMT5Config(vocab_size=8, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
        ).eval(),
        vae=AutoencoderKLWan(
            base_dim=4, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1,
            temperal_downsample=[False, True, True],
        ).eval(),
        transformer=WanTransformer3DModel(
            num_attention_heads=2, attention_head_dim=12, text_dim=16, freq_dim=16, ffn_dim=32,
            num_layers=3, rope_max_seq_len=32,
        ).eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    return pipe


def wan_row(**changes: Any) -> Variant:
    """Its row of defaults."""
    base = variant_for("bundled")
    own = {
        "name": "wan-tiny", "hub_id": "nobody/wan-tiny", "frames": FRAMES, "width": SIDE,
        "height": SIDE, "steps": 5, "guidance_scale": 3.0, "block": 1, "reading": None,
        "scheduler": "FlowMatchEulerDiscreteScheduler", "guided_range": (0.8, 1.0), "samples": 2,
        "mask": "nonzero", "start": "flow", "start_scale": 1.0, "inner_steps": 2,
        "max_text_tokens": TOKENS, "training_prompts": ("a red circle", "a blue square"),
    }  # fmt: skip
    values = {name: getattr(base, name) for name in base.__dataclass_fields__}
    return Variant(**values | own | changes)


# Attention ---------------------------------------------------------------------------------------


class Positioned:
    """diffusers' `WanAttnProcessor` for self-attention, with tables of their own for keys, a tap on
    queries and keys, and an exchange of keys and values, all `(B, S, heads, head_dim)`.
    """

    def __init__(self, tap: Any = None, exchange: Any = None) -> None:
        self.tap, self.exchange = tap, exchange

    def __call__(
        self, attn: Any, x: torch.Tensor, text: Any = None, mask: Any = None, rotary: Any = None
    ) -> torch.Tensor:
        q, k, v = attn.norm_q(attn.to_q(x)), attn.norm_k(attn.to_k(x)), attn.to_v(x)
        q, k, v = (part.unflatten(2, (attn.heads, -1)) for part in (q, k, v))
        for_q, for_k = (rotary, rotary) if isinstance(rotary[0], torch.Tensor) else rotary
        q, k = turn(q, for_q), turn(k, for_k)
        if self.exchange is not None:
            k, v = self.exchange(k, v)
        if self.tap is not None:
            self.tap(across(q), across(k))
        out = dispatch_attention_fn(q, k, v).flatten(2, 3).type_as(q)
        return attn.to_out[1](attn.to_out[0](out))


def turn(x: torch.Tensor, tables: Any) -> torch.Tensor:
    """Rotate `(B, S, heads, head_dim)` by tables `(S, head_dim)` or the model's own."""
    cos, sin = (t[None, :, None] if t.ndim == 2 else t for t in tables)
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    c, s = cos[..., 0::2], sin[..., 1::2]
    return torch.stack([a * c - b * s, a * s + b * c], dim=-1).flatten(-2).type_as(x)


@contextlib.contextmanager
def processors(model: Any, at: dict[int, Positioned]) -> Any:
    """Ours in the self-attention of some blocks; what an outer context exchanges stays exchanged.

    The other blocks keep theirs: whatever is recomputed after a tap finds them as they were.
    """
    modules = {index: model.blocks[index].attn1 for index in at}
    if any(getattr(attn, "fused_projections", False) for attn in modules.values()):
        raise UnsupportedError(
            "Expected separate query, key and value projections, got fused ones."
        )
    before = {index: attn.processor for index, attn in modules.items()}
    try:
        for index, attn in modules.items():
            at[index].exchange = at[index].exchange or getattr(before[index], "exchange", None)
            attn.processor = at[index]
        yield
    finally:
        for index, attn in modules.items():
            attn.processor = before[index]


def across(x: torch.Tensor) -> torch.Tensor:
    """`(B, heads, S, head_dim)` <-> `(B, S, heads, head_dim)`."""
    return x.transpose(1, 2)


def turned(latents: torch.Tensor) -> torch.Tensor:
    """`(N, F', C, h, w)` <-> `(N, C, F', h, w)`."""
    return latents.transpose(1, 2)


# The backbone ------------------------------------------------------------------------------------


class WanBackbone(Resident):
    """`pe_toolkit.backbones.contract.Backbone` of a `WanPipeline`."""

    family = "wan"
    model_id = revision = weights_digest = None
    positions = "rotary"
    image_to_video = fixed_size = tiles = False
    begins_with_noise = True

    def __init__(self, pipe: Any, variant: Variant | None = None) -> None:
        self.pipe, self.variant = pipe, variant

    # Identity and sizes

    def fingerprint(self) -> str:
        keys = ("num_attention_heads", "attention_head_dim", "num_layers", "patch_size")
        facts = {key: self.transformer.config[key] for key in keys}
        text = json.dumps({**facts, "z_dim": self.pipe.vae.config.z_dim}, sort_keys=True)
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()

    def check_scheduler(self, *, stepping: bool = False) -> None:
        pass

    def defaults(self) -> Variant:
        return self.variant or wan_row()

    @property
    def device(self) -> torch.device:
        return self.pipe._execution_device

    @property
    def dtype(self) -> torch.dtype:
        return self.transformer.dtype

    @property
    def channels(self) -> int:
        config = self.transformer.config
        return config.num_attention_heads * config.attention_head_dim

    @property
    def most_steps(self) -> int:
        return self.pipe.scheduler.config.num_train_timesteps

    @property
    def max_text_tokens(self) -> int:
        return TOKENS

    @property
    def scheduler_name(self) -> str:
        return type(self.pipe.scheduler).__name__

    @property
    def frames(self) -> int:
        return self.defaults().frames

    @property
    def size(self) -> tuple[int, int]:
        return self.defaults().width, self.defaults().height

    @property
    def grid(self) -> TokenGrid:
        return self.grid_for(self.frames, *self.size)

    def latent_shape(self, frames: int, width: int, height: int) -> tuple[int, int, int, int]:
        if width % 16 or height % 16:
            raise UsageError(f"Expected a size in multiples of 16, got {width}x{height}.")
        if frames % 4 != 1 or frames < 5:
            raise UsageError(f"Expected a frame count of 4k + 1, got {frames}.")
        return (frames - 1) // 4 + 1, self.pipe.vae.config.z_dim, height // 8, width // 8

    def grid_for(self, frames: int, width: int, height: int) -> TokenGrid:
        f, _, h, w = self.latent_shape(frames, width, height)
        return TokenGrid(f, h // 2, w // 2)

    # What it refuses

    def check_prompt(self, prompt: str, what: str = "a prompt") -> None:
        count = len(self.pipe.tokenizer(prompt, verbose=False).input_ids)
        if not prompt.strip() or count > TOKENS:
            raise UsageError(f"Expected {what} of 1 to {TOKENS} tokens, got {count}.")

    def check_image(self, image: Any) -> None:
        if image is not None:
            raise UsageError("Expected no image for a text-to-video backbone, got one.")

    def check_block(self, block: int) -> None:
        if not 0 <= block < self.blocks:
            raise UsageError(f"Expected a block from 0 to {self.blocks - 1}, got {block}.")

    def check_decoder(self) -> None: ...

    # Clips, words, pictures

    @torch.no_grad()
    def encode_text(self, prompts: list[str]) -> torch.Tensor:
        embeds, _ = self.pipe.encode_prompt(
            prompts, do_classifier_free_guidance=False, max_sequence_length=TOKENS,
            device=self.device,
        )  # fmt: skip
        return embeds.to(self.dtype)

    def _scale(self) -> tuple[torch.Tensor, torch.Tensor]:
        config = self.pipe.vae.config
        mean, std = (
            torch.tensor(values, device=self.device).view(1, -1, 1, 1, 1)
            for values in (config.latents_mean, config.latents_std)
        )
        return mean, std

    @torch.no_grad()
    def encode(self, frames: Any, wanted: Any = None) -> Encoded:
        x = torch.from_numpy(np.ascontiguousarray(frames)).to(self.device, self.pipe.vae.dtype)
        x = (x / 127.5 - 1).permute(3, 0, 1, 2)[None]
        mean, std = self._scale()
        z = (self.pipe.vae.encode(x).latent_dist.mode() - mean) / std
        finite.check(z, "VAE", self.pipe.vae.dtype)
        return Encoded(turned(z).to(self.dtype), None)

    def encode_image(self, frames: Any) -> None:
        return None

    @torch.no_grad()
    def decode(self, latents: torch.Tensor, frames: int) -> Any:
        mean, std = self._scale()
        with finite.decoding(self.pipe.vae):
            z = turned(latents).to(self.pipe.vae.dtype)
            # The arithmetic of the pipeline, which divides by the inverse.
            video = self.pipe.vae.decode(z / (1.0 / std) + mean, return_dict=False)[0]
        pixels = self.pipe.video_processor.postprocess_video(video, output_type="np")[0]
        return np.rint(pixels * 255).astype(np.uint8)

    # The transformer

    def form(self, parametrisation: str, frames: int, width: int, height: int) -> Any:
        f, c, h, w = self.latent_shape(frames, width, height)
        rope = self.transformer.rope
        cos, sin = rope(torch.empty(1, c, f, h, w, device=self.device))
        axes = (rope.t_dim, rope.h_dim, rope.w_dim)
        kind = form_class("rotary", parametrisation)
        return kind((cos[0, :, 0], sin[0, :, 0]), self.grid_for(frames, width, height), axes=axes)

    def queries_and_keys(
        self, latents: torch.Tensor, text: torch.Tensor, timestep: float, block: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        caught: list[Any] = []

        def tap(*pair: torch.Tensor) -> None:
            caught.append(pair)
            raise Stopped

        model = self.transformer
        t = torch.full((len(latents),), timestep, device=latents.device)
        ours = {block: Positioned(tap=tap)}
        with processors(model, ours), stopping_at(model, model.blocks[block]):
            model(turned(latents), timestep=t, encoder_hidden_states=text, return_dict=False)
        return caught[0]

    def features(
        self, latents: torch.Tensor, text: torch.Tensor, timestep: float, block: int
    ) -> torch.Tensor:
        model = self.transformer
        t = torch.full((len(latents),), timestep, device=latents.device)
        return block_output(
            model, model.blocks[block],
            lambda: model(turned(latents), timestep=t, encoder_hidden_states=text),
        )  # fmt: skip

    @torch.no_grad()
    def reference_features(
        self, latents: Any, block: int, *size: Any, text: Any = None
    ) -> torch.Tensor:
        text = self.encode_text([""]) if text is None else text
        return self.features(latents, text, 0, block)

    @torch.no_grad()
    def reference_queries_and_keys(
        self, latents: Any, reading: Any, frames: int, width: int, height: int, image: Any = None,
        text: Any = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        text = self.encode_text([""]) if text is None else text
        read = [self.queries_and_keys(latents, text, reading.timestep, b) for b in reading.blocks]
        if reading.by == "content":  # turned back
            cos, sin = self.form("table", frames, width, height).base
            read = [[across(turn(across(x), (cos, -sin))) for x in pair] for pair in read]
        return torch.cat([q for q, _ in read], dim=1), torch.cat([k for _, k in read], dim=1)

    @contextlib.contextmanager
    def positions_from(self, select: Any) -> Any:
        now: list[Any] = [None]

        def remember(module: Any, args: Any, kwargs: Any) -> None:
            now[0] = select(kwargs["timestep"])

        def replace(module: Any, args: Any, output: Any) -> Any:
            return output if now[0] is None else now[0]

        model = self.transformer
        with processors(model, {i: Positioned() for i in range(self.blocks)}):
            handles = [
                model.register_forward_pre_hook(remember, with_kwargs=True),
                model.rope.register_forward_hook(replace),
            ]
            try:
                yield
            finally:
                for handle in handles:
                    handle.remove()

    def keys_values(
        self, latents: Any, seed: int, *size: Any, fixed: bool = False
    ) -> WanKeysValues:
        return WanKeysValues(self, latents, seed, fixed)

    def casting_inputs(self) -> Any:  # the pipeline casts them
        return contextlib.nullcontext()

    @contextlib.contextmanager
    def watching_grid(self, look: Any) -> Any:
        def before(module: Any, args: Any, kwargs: Any) -> None:
            _, _, f, h, w = (
                kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
            ).shape
            look(TokenGrid(f, h // 2, w // 2))

        handle = self.transformer.register_forward_pre_hook(before, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()

    # Generations

    def sampler(self, prompts: list[str], seeds: list[int], **how: Any) -> WanSampler:
        return WanSampler(self, prompts, seeds, **how)

    def timesteps(self, steps: int) -> list[int]:
        if steps > self.most_steps:
            raise UsageError(f"Expected at most {self.most_steps} steps, got {steps}.")
        scheduler = copy.deepcopy(self.pipe.scheduler)
        scheduler.set_timesteps(steps)
        return [int(t) for t in scheduler.timesteps]

    def noise_level(self, timestep: int) -> float:
        """z = (1 - sigma) x + sigma e, and t = 1000 sigma."""
        sigma = timestep / self.most_steps
        return sigma / (sigma**2 + (1 - sigma) ** 2) ** 0.5

    def changes_guidance(self, scheduler: str | None) -> bool:
        return False

    @contextlib.contextmanager
    def scheduler_swapped(self, name: str | None) -> Any:
        if name is not None:
            raise UsageError(f"Expected no other scheduler, got {name!r}.")
        yield

    @contextlib.contextmanager
    def beginning_with(self, change: Any, again: Any = None) -> Any:
        """`again` is not needed: its scheduler draws no noise."""
        pipe, drawn = self.pipe, self.pipe.prepare_latents
        before = pipe.__dict__.get("prepare_latents")
        pipe.prepare_latents = lambda *a, **k: turned(change(turned(drawn(*a, **k))))
        try:
            yield
        finally:
            del pipe.prepare_latents
            if before is not None:
                pipe.prepare_latents = before

    def step_callback(self, act: Any) -> Any:
        def callback(pipe: Any, step: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
            times = pipe.scheduler.timesteps
            following = read_timestep(times[step + 1]) if step + 1 < len(times) else None
            return {"latents": turned(act(following, turned(values["latents"])))}

        return callback

    def video(self, prompt: str, *, frames: int, steps: int, dynamic_cfg: bool, **more: Any) -> Any:
        result = self.pipe(
            prompt, num_frames=frames, num_inference_steps=steps, max_sequence_length=TOKENS,
            output_type="np", **more,
        )  # fmt: skip
        return np.asarray(result.frames[0])

    def finite_decoding(self) -> Any:
        return finite.decoding(self.pipe.vae)

    @contextlib.contextmanager
    def before_decoding(self, call: Any) -> Any:
        vae = self.pipe.vae
        parts = (vae.encoder, vae.decoder)
        handles = [part.register_forward_pre_hook(lambda *_: call()) for part in parts]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


class WanSampler:
    """`pe_toolkit.backbones.contract.Sampler`."""

    def __init__(
        self, backbone: WanBackbone, prompts: list[str], seeds: list[int], *, steps: int,
        guidance_scale: float, dynamic_cfg: bool, frames: int, width: int, height: int,
        negative_prompt: str = "", image: Any = None,
    ) -> None:  # fmt: skip
        backbone.check_image(image)
        self.backbone, self.scale = backbone, guidance_scale
        self.scheduler = copy.deepcopy(backbone.pipe.scheduler)
        self.scheduler.set_timesteps(steps)
        self.timesteps = self.scheduler.timesteps
        self.times = [int(t) for t in self.timesteps]
        self.noise = [backbone.noise_level(t) for t in self.times]
        self.text = backbone.encode_text(prompts)
        self.negative = backbone.encode_text([negative_prompt] * len(prompts))
        self.together, self.part, self.dtype = 1, slice(None), backbone.dtype
        self.scheduler_name = backbone.scheduler_name
        f, c, h, w = backbone.latent_shape(frames, width, height)
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        noise = randn_tensor((len(prompts), c, f, h, w), generator=generators, dtype=torch.float32)
        self.latents = turned(noise).to(backbone.device)

    def begin(self, change: Any, again: Any = None) -> None:
        self.latents = change(self.latents)

    def initial_noise(self) -> torch.Tensor:
        return self.latents

    def queries_and_keys(
        self, index: int, latents: torch.Tensor, part: slice, block: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self.part = part
        x, t = latents.to(self.dtype), float(self.timesteps[index])
        return self.backbone.queries_and_keys(x, self.text[part], t, block)

    def features(self, index: int, latents: torch.Tensor, part: slice, block: int) -> torch.Tensor:
        self.part = part
        x, t = latents.to(self.dtype), float(self.timesteps[index])
        return self.backbone.features(x, self.text[part], t, block)

    def state(self) -> dict[str, torch.Tensor]:
        return {"latents": self.latents}  # Euler's steps draw nothing and remember nothing

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        if state["latents"].shape != self.latents.shape:
            raise ValueError("latents of other generations")
        self.latents = state["latents"].to(self.latents.device)

    @torch.no_grad()
    def step(self, index: int) -> torch.Tensor:
        done = []
        for number in range(len(self.latents)):
            self.part = slice(number, number + 1)
            z, t = turned(self.latents[self.part]), self.timesteps[index]
            out = self._pass(z, t, self.text[self.part])
            if self.scale > 1:
                plain = self._pass(z, t, self.negative[self.part])
                out = plain + self.scale * (out - plain)
            self.scheduler._step_index = index  # one scheduler for all, and after `restore`
            done.append(self.scheduler.step(out, t, z, return_dict=False)[0])
        self.latents = turned(torch.cat(done))
        return self.latents

    def _pass(self, z: torch.Tensor, t: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        model = self.backbone.transformer_as_called
        return model(
            hidden_states=z.to(self.dtype), timestep=t.expand(1), encoder_hidden_states=text,
            return_dict=False,
        )[0]  # fmt: skip


class WanKeysValues:
    """`pe_toolkit.backbones.contract.KeysValues`, at block 0: they do not depend on the text."""

    def __init__(
        self, backbone: WanBackbone, latents: torch.Tensor, seed: int, fixed: bool
    ) -> None:
        self.backbone, self.latents, self.fixed = backbone, latents, fixed
        shape, generator = turned(latents).shape, torch.Generator("cpu").manual_seed(seed)
        self.noise = turned(randn_tensor(shape, generator=generator)).to(latents)
        self.recording = False

    def follow(self, noise: torch.Tensor) -> None:
        if noise.shape[1:] != self.latents.shape[1:]:
            raise MismatchError("Expected a generation of the size of the reference.")
        self.noise = noise.detach().to(self.latents).clone()

    def unless_recording(self, select: Any) -> Any:
        return lambda timestep: None if self.recording else select(timestep)

    @torch.no_grad()
    def at(self, t: int, part: slice) -> Any:
        backbone, model, noise = self.backbone, self.backbone.transformer, self.noise[part]
        sigma, caught = t / backbone.most_steps, []

        def catch(k: torch.Tensor, v: torch.Tensor) -> Any:
            caught.append((k, v))
            raise Stopped

        z = (1 - sigma) * self.latents + sigma * noise
        text = z.new_zeros(len(z), TOKENS, model.config.text_dim)
        times = torch.full((len(z),), float(t), device=z.device)
        self.recording = True
        try:
            ours = {BLOCK: Positioned(exchange=catch)}
            with processors(model, ours), stopping_at(model, model.blocks[BLOCK]):
                model(turned(z), timestep=times, encoder_hidden_states=text)
        finally:
            self.recording = False
        return caught[0]

    @contextlib.contextmanager
    def injected(self, guides: Any, now: Any = None, part: Any = None) -> Any:
        current: list[Any] = [None]

        def before(module: Any, args: Any, kwargs: Any) -> None:
            if self.recording:
                return
            t = read_timestep(kwargs["timestep"]) if now is None else now()
            current[0] = self.at(t, slice(None) if part is None else part()) if guides(t) else None

        def exchange(k: torch.Tensor, v: torch.Tensor) -> Any:
            if current[0] is None:
                return k, v
            return tuple(own.to(k).repeat(len(k) // len(own), 1, 1, 1) for own in current[0])

        def follow(noise: torch.Tensor) -> torch.Tensor:
            self.follow(noise)
            return noise

        model = self.backbone.transformer
        with contextlib.ExitStack() as stack:
            if not self.fixed:
                stack.enter_context(self.backbone.beginning_with(follow))
            stack.enter_context(processors(model, {BLOCK: Positioned(exchange=exchange)}))
            handle = model.register_forward_pre_hook(before, with_kwargs=True)
            stack.callback(handle.remove)
            yield
