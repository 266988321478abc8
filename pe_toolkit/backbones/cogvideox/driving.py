"""What generations and trainings of a CogVideoX go through: contexts that are undone on exit, and
the calls of the pipeline itself.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pe_toolkit.acceleration.timestep import read_timestep
from pe_toolkit.backbones import finite
from pe_toolkit.backbones.catalogue.variants import Variant, nearest
from pe_toolkit.backbones.cogvideox import beginning, drawing, hooks, own
from pe_toolkit.backbones.cogvideox.geometry import CogVideoXGeometry
from pe_toolkit.backbones.cogvideox.sampling import noise_levels
from pe_toolkit.backbones.contract import AfterStep, Select
from pe_toolkit.backbones.machine.resident import Resident
from pe_toolkit.errors import UnsupportedError, UsageError
from pe_toolkit.grid import TokenGrid
from pe_toolkit.motion.renewed import Renewal


class CogVideoXDriving(CogVideoXGeometry, Resident):
    """The part of `CogVideoXAdapter` that acts on its pipeline: see `backbones.contract`."""

    def defaults(self) -> Variant:
        """Its row, or that of the closest CogVideoX.

        The scheduler is the user's: dynamic guidance goes with the recommended one (DPM) only.
        """
        if self.variant is not None:
            return self.variant
        config = self.transformer.config
        return nearest(
            rotary=self.positions == "rotary",
            in_time=bool(config.patch_size_t),
            image_to_video=self.image_to_video,
            scheduler=self.scheduler_name,
        )

    @property
    def channels(self) -> int:
        """Heads times their width."""
        config = self.transformer.config
        return int(config.num_attention_heads * config.attention_head_dim)

    @property
    def most_steps(self) -> int:
        """Timesteps of the schedule that was trained."""
        return int(self.pipe.scheduler.config.num_train_timesteps)

    @property
    def scheduler_name(self) -> str:
        return type(self.pipe.scheduler).__name__

    @property
    def tiles(self) -> bool:
        """Whether the VAE encodes and decodes in tiles."""
        return bool(self.pipe.vae.use_tiling)

    # Schedule -------------------------------------------------------------------------------------

    def timesteps(self, steps: int) -> list[int]:
        """Those of a schedule of that many steps; the pipeline's own stays.

        Raises:
            UsageError: if it has not so many.
        """
        if steps > self.most_steps:
            raise UsageError(f"Expected at most {self.most_steps} steps, got {steps}.")
        scheduler = copy.deepcopy(self.pipe.scheduler)
        scheduler.set_timesteps(steps)
        return [int(t) for t in scheduler.timesteps]

    def noise_level(self, timestep: int) -> float:
        """`sqrt(1 - alphas_cumprod[t])`."""
        return noise_levels(self.pipe.scheduler, torch.tensor([timestep]))[0]

    def check_scheduler(self, *, stepping: bool = False) -> None:
        """Refuse Euler and others that count in sigmas; and for training whatever is not stepped
        as DDIM and CogVideoX's two are.

        Raises:
            UnsupportedError: for such a scheduler.
        """
        scheduler = self.pipe.scheduler
        known = {"eta", "generator"} <= set(inspect.signature(scheduler.step).parameters)
        if float(scheduler.init_noise_sigma) == 1 and (known or not stepping):
            return
        raise UnsupportedError(
            f"Expected the pipeline to have a scheduler such as DDIM, got {self.scheduler_name}, "
            f"{'whose steps a training cannot take' if stepping else 'whose latents are scaled'}.",
            "Set pipe.scheduler = CogVideoXDDIMScheduler.from_config(pipe.scheduler.config).",
        )

    def changes_guidance(self, scheduler: str | None) -> bool:
        """Not with `ddim`: CogVideoX has dynamic guidance for DPM only."""
        return scheduler != "ddim"

    @contextlib.contextmanager
    def scheduler_swapped(self, name: str | None) -> Iterator[None]:
        """`ddim` or `dpm` for the time of a generation.

        Raises:
            UsageError: another name.
        """
        from diffusers import CogVideoXDDIMScheduler, CogVideoXDPMScheduler

        kinds = {"ddim": CogVideoXDDIMScheduler, "dpm": CogVideoXDPMScheduler}
        if name is None:
            yield
            return
        if name not in kinds:
            raise UsageError(f"Expected a scheduler out of {', '.join(kinds)}, got {name!r}.")
        before = self.pipe.scheduler
        self.pipe.scheduler = kinds[name].from_config(before.config)
        try:
            yield
        finally:
            self.pipe.scheduler = before

    # Generations ----------------------------------------------------------------------------------

    def video(
        self,
        prompt: str,
        *,
        negative_prompt: str,
        frames: int,
        width: int,
        height: int,
        steps: int,
        guidance_scale: float,
        dynamic_cfg: bool,
        generator: torch.Generator,
        **more: Any,
    ) -> NDArray[np.floating[Any]]:
        """One call of the pipeline."""
        result = self.pipe(
            prompt=prompt,
            negative_prompt=negative_prompt or None,
            num_frames=frames,
            width=width,
            height=height,
            num_inference_steps=steps,
            guidance_scale=guidance_scale,
            use_dynamic_cfg=dynamic_cfg,
            generator=generator,
            max_sequence_length=self.max_text_tokens,
            output_type="np",
            **more,
        )
        return np.asarray(result.frames[0])

    @property
    def begins_with_noise(self) -> bool:
        """Not `CogVideoXVideoToVideoPipeline`, and what else takes a clip."""
        return "video" not in inspect.signature(self.pipe.prepare_latents).parameters

    @contextlib.contextmanager
    def beginning_with(
        self, change: Callable[[torch.Tensor], torch.Tensor], again: Renewal | None = None
    ) -> Iterator[None]:
        """The pipeline prepares its latents as ever, and begins with what `change` makes of them:
        `(N, F', C, h, w)` noise of standard deviation 1. Its scheduler, whichever it has by then,
        draws as ever until the generation's end, and takes what `again` makes of that.
        """
        running = contextlib.ExitStack()

        def prepare(drawn: Callable[..., Any], *args: Any, **options: Any) -> Any:
            made = drawn(*args, **options)
            noise, *conditions = made if isinstance(made, tuple) else (made,)  # with the image's
            scheduler = self.pipe.scheduler
            sigma = scheduler.init_noise_sigma
            began = change(noise if sigma == 1 else noise / sigma)
            running.close()
            if again is not None:
                drawing.redraw(scheduler, again, began, running.close)
                running.callback(drawing.restore, scheduler)
            latents = began if sigma == 1 else began * sigma
            return (latents, *conditions) if conditions else latents

        with running, beginning.prepared(self.pipe, prepare):
            yield

    def step_callback(self, act: AfterStep) -> Any:
        """`act` with the timestep of the step that follows, as the pipeline calls it."""

        def callback(pipe: Any, step: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
            times = pipe.scheduler.timesteps
            following = read_timestep(times[step + 1]) if step + 1 < len(times) else None
            return values | {"latents": act(following, values["latents"])}

        return callback

    def finite_decoding(self) -> AbstractContextManager[None]:
        """See `finite.decoding`."""
        return finite.decoding(self.pipe.vae)

    @contextlib.contextmanager
    def before_decoding(self, call: Callable[[], None]) -> Iterator[None]:
        """`call` before the VAE's encoder and decoder."""
        vae = self.pipe.vae
        handles = [
            part.register_forward_pre_hook(lambda *_: call()) for part in (vae.encoder, vae.decoder)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    # The transformer ------------------------------------------------------------------------------

    def check_trainable(self, *, compiled: bool) -> None:
        """Refuse weights, compiled blocks and attention of the user's that gradients cannot pass.

        Raises:
            UnsupportedError: see `machine.trainable`, `own.check_trainable`.
        """
        super().check_trainable(compiled=compiled)
        if self.positions == "rotary":
            own.check_trainable(hooks.attention_modules(self.transformer))

    def positions_from(self, select: Select) -> AbstractContextManager[None]:
        """See `hooks.positions`."""
        return hooks.positions(self.transformer, self.positions, select)

    @contextlib.contextmanager
    def casting_inputs(self) -> Iterator[None]:
        """Give the transformer its latents in the dtype of the text that comes with them."""

        def before(
            module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> tuple[Any, dict[str, Any]] | None:
            latents, text = kwargs.get("hidden_states"), kwargs.get("encoder_hidden_states")
            if latents is None or text is None or latents.dtype == text.dtype:
                return None
            return args, {**kwargs, "hidden_states": latents.to(text.dtype)}

        handle = self.transformer.register_forward_pre_hook(before, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()

    @contextlib.contextmanager
    def watching_grid(self, look: Callable[[TokenGrid], None]) -> Iterator[None]:
        """`look` at the token grid of every forward pass."""
        config = self.transformer.config

        def before(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            x = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
            patch, patch_t = config.patch_size, config.patch_size_t or 1
            look(TokenGrid(x.shape[1] // patch_t, x.shape[3] // patch, x.shape[4] // patch))

        handle = self.transformer.register_forward_pre_hook(before, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()
