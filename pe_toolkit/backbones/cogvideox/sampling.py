"""The denoising loop of the stock pipeline, one step at a time, for several (prompt, seed) samples
at once.

With unchanged positions it gives the same latents as `pipe(...)`, bit for bit; a test holds it to
that.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers.utils.torch_utils import randn_tensor
from numpy.typing import NDArray
from PIL import Image

from pe_toolkit.backbones.cogvideox.drawing import redraw
from pe_toolkit.motion.renewed import Renewal

if TYPE_CHECKING:
    from pe_toolkit.backbones.cogvideox.adapter import CogVideoXAdapter


def noise_levels(scheduler: Any, timesteps: torch.Tensor) -> list[float]:
    """`sqrt(1 - alphas_cumprod[t])` in [0, 1] per timestep: 1 is pure noise, whatever scheduler or
    step count.
    """
    alphas = scheduler.alphas_cumprod.double().cpu()
    return [float((1 - alphas[int(t)]).clamp(0, 1).sqrt()) for t in timesteps]


def dynamic_guidance(scale: float, steps: int, timestep: float) -> float:
    """diffusers' dynamic classifier-free guidance, erratic in `steps` as it is
    (`pipeline_cogvideox.py`).
    """
    return 1 + scale * ((1 - math.cos(math.pi * ((steps - timestep) / steps) ** 5.0)) / 2)


class CogVideoXSampler:
    """State of N generations that denoise side by side (`backbones.contract.Sampler`); latents are
    `(N, F', C, h, w)`.

    Args:
        prompts, seeds: N of each.
        steps, guidance_scale, dynamic_cfg, negative_prompt: as in the pipeline.
        frames, width, height: of the clip in pixels.
        image: uint8 RGB `(H, W, 3)`, the first frame of every generation (image-to-video only).

    Raises:
        UsageError: an image without an image-to-video backbone, or the other way round.
    """

    def __init__(
        self,
        adapter: CogVideoXAdapter,
        prompts: list[str],
        seeds: list[int],
        *,
        steps: int,
        guidance_scale: float,
        dynamic_cfg: bool,
        frames: int,
        width: int,
        height: int,
        negative_prompt: str = "",
        image: NDArray[np.uint8] | None = None,
    ) -> None:
        adapter.check_image(image)
        self.adapter = adapter
        self.guidance_scale, self.dynamic_cfg, self.steps = guidance_scale, dynamic_cfg, steps
        # A copy: the user's scheduler keeps its state.
        self.scheduler = copy.deepcopy(adapter.pipe.scheduler)
        # On the CPU, as the scheduler's tables: it looks them up there by the values of these.
        self.scheduler.set_timesteps(steps, device="cpu")
        self.timesteps: torch.Tensor = self.scheduler.timesteps
        self.noise = noise_levels(self.scheduler, self.timesteps)
        self.times = [int(t) for t in self.timesteps.tolist()]
        """The timesteps as numbers."""
        self.text = adapter.encode_text(prompts)
        self.negative = (
            adapter.encode_text([negative_prompt] * len(prompts)) if guidance_scale > 1 else None
        )
        self.together = len(prompts) if adapter.device.type == "cpu" else 1
        """How many samples one pass takes: a GPU one by one (memory), a CPU all (speed)."""
        self.part = slice(None)
        """The samples of the pass that runs."""
        self.generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        shape = (len(prompts), *adapter.latent_shape(frames, width, height))
        self.image: torch.Tensor | None = None
        """Conditioning latents `(N, F', C, h, w)` of image-to-video backbones."""
        if image is None:
            noise = randn_tensor(
                shape, generator=self.generators, device=adapter.device, dtype=self.text.dtype
            )
            self.latents: torch.Tensor = noise * self.scheduler.init_noise_sigma
        else:
            self.latents, self.image = self._start_from(image, shape, width, height)
        self.rotary = (
            adapter.base_positions(frames, width, height) if adapter.positions == "rotary" else None
        )
        self.previous: torch.Tensor | None = None

    @torch.no_grad()
    def _start_from(
        self, image: NDArray[np.uint8], shape: tuple[int, ...], width: int, height: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Noise and conditioning latents, drawn by the pipeline itself: it samples the image's
        latents from the same generators, before the noise.
        """
        pipe, dtype, device = self.adapter.pipe, self.text.dtype, self.adapter.device
        pixels = pipe.video_processor.preprocess(
            Image.fromarray(image), height=height, width=width
        ).to(device, dtype=dtype)
        latents, conditions = pipe.prepare_latents(
            pixels.expand(shape[0], -1, -1, -1),
            shape[0],
            shape[2],
            (shape[1] - 1) * pipe.vae_scale_factor_temporal + 1,
            height,
            width,
            dtype,
            device,
            self.generators,
        )
        return latents, conditions

    @property
    def dtype(self) -> torch.dtype:
        """What the transformer is given."""
        return self.text.dtype

    def begin(
        self, change: Callable[[torch.Tensor], torch.Tensor], again: Renewal | None = None
    ) -> None:
        """Begin with what `change` makes of the noise; `again` as in `Backbone.beginning_with`."""
        began = change(self.initial_noise())
        self.latents = began * self.scheduler.init_noise_sigma
        if again is not None:
            redraw(self.scheduler, again, began)

    def initial_noise(self) -> torch.Tensor:
        """`(N, F', C, h, w)` of standard deviation 1, before the first step."""
        noise: torch.Tensor = self.latents / self.scheduler.init_noise_sigma
        return noise

    @property
    def scheduler_name(self) -> str:
        """Class of the scheduler."""
        return type(self.scheduler).__name__

    def queries_and_keys(
        self, index: int, latents: torch.Tensor, part: slice, block: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Q and K of the conditional pass of some samples at `block`."""
        return self.adapter.queries_and_keys(*self._conditional(index, latents, part, block))

    def features(self, index: int, latents: torch.Tensor, part: slice, block: int) -> torch.Tensor:
        """Hidden states of the conditional pass of some samples after `block`."""
        return self.adapter.features(*self._conditional(index, latents, part, block))

    def _conditional(
        self, index: int, latents: torch.Tensor, part: slice, block: int
    ) -> tuple[Any, ...]:
        """The arguments of a tapped pass."""
        self.part = part
        x = self.scheduler.scale_model_input(latents.to(self.text.dtype), self.timesteps[index])
        image = None if self.image is None else self.image[part]
        return x, self.text[part], self.times[index], block, self.rotary, image

    def state(self) -> dict[str, torch.Tensor]:
        """Latents, generators, and what DPM remembers of the step before."""
        state = {f"generator.{i:03d}": g.get_state() for i, g in enumerate(self.generators)}
        if self.previous is not None:
            state["previous"] = self.previous
        return state | {"latents": self.latents}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Go on from a `state`.

        Raises:
            KeyError, ValueError: it is of other generations.
        """
        device = self.latents.device
        names = sorted(name for name in state if name.startswith("generator."))
        for generator, name in zip(self.generators, names, strict=True):
            generator.set_state(state[name])
        self.latents = state["latents"].to(device)
        self.previous = state["previous"].to(device) if "previous" in state else None

    @torch.no_grad()
    def step(self, index: int) -> torch.Tensor:
        """One classifier-free guided denoising step of all samples; returns the new latents `(N,
        F', C, h, w)`.
        """
        count = len(self.latents)
        parts = [slice(i, i + self.together) for i in range(0, count, self.together)]
        out = torch.cat([self._prediction(index, part) for part in parts])
        self.latents = self._advance(out, index).to(self.text.dtype)
        return self.latents

    def _prediction(self, index: int, part: slice) -> torch.Tensor:
        """The guided prediction of some of the samples, in float32."""
        self.part = part
        latents, text, guided = self.latents[part], self.text[part], self.negative is not None
        x = torch.cat([latents] * 2) if guided else latents
        x = self.scheduler.scale_model_input(x, self.timesteps[index]).to(text.dtype)
        if self.negative is not None:
            text = torch.cat([self.negative[part], text])
        image = None if self.image is None else self.image[part]
        if image is not None and guided:
            image = torch.cat([image] * 2)
        with _cache_context(self.adapter.pipe.transformer):
            times = torch.full((x.shape[0],), self.times[index], device=x.device)
            out = self.adapter.forward(x, text, times, self.rotary, image).float()
        if not guided:
            return out
        scale = self.guidance_scale
        if self.dynamic_cfg:
            scale = dynamic_guidance(self.guidance_scale, self.steps, self.times[index])
        uncond, cond = out.chunk(2)
        return uncond + scale * (cond - uncond)

    def _advance(self, out: torch.Tensor, index: int) -> torch.Tensor:
        t = self.timesteps[index]
        extra = {"generator": self.generators}
        if type(self.scheduler).__name__ != "CogVideoXDPMScheduler":
            return self.scheduler.step(out, t, self.latents, **extra, eta=0.0, return_dict=False)[0]  # type: ignore[no-any-return]
        before = self.timesteps[index - 1] if index > 0 else None
        latents, self.previous = self.scheduler.step(
            out, self.previous, t, before, self.latents, **extra, return_dict=False
        )
        return latents  # type: ignore[no-any-return]


@contextlib.contextmanager
def _cache_context(transformer: Any) -> Iterator[None]:
    if hasattr(transformer, "cache_context"):
        with transformer.cache_context("cond_uncond"):
            yield
    else:
        yield
