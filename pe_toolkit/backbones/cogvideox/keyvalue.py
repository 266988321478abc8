"""Keys and values of the reference clip, injected into the first block ("KV injection").

DiTFlow's published setting replaces, in every guided step, the keys and values of block 0 by those
of the reference noised to that step, in the passes of the loss and in both halves of
classifier-free guidance; text tokens keep their own. Positions alone do without (the card carries
them); this exists so that the published numbers can be reproduced and taken apart.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from diffusers.utils.torch_utils import randn_tensor

from pe_toolkit.acceleration.timestep import read_timestep
from pe_toolkit.backbones.cogvideox import hooks

if TYPE_CHECKING:
    from pe_toolkit.backbones.cogvideox.adapter import CogVideoXAdapter

BLOCK = 0
"""The block whose keys and values are replaced (the official configuration's only one)."""


class ReferenceKeysValues:
    """K and V of a noised reference at `BLOCK`, per timestep.

    Args:
        adapter: the backbone.
        latents: `(1, F', C, h, w)` of the reference, as `CogVideoXAdapter.encode_clip` gives them.
        seed: of the noise. One noise serves every timestep: that of the generation with this seed,
            as in the official code.
        frames, width, height: of the clip in pixels.
        image: `(1, F', C, h, w)` conditioning latents of image-to-video backbones, else None.

    K and V of block 0's video tokens do not depend on the text: they are taken before any
    attention mixed the two.
    """

    def __init__(
        self,
        adapter: CogVideoXAdapter,
        latents: torch.Tensor,
        seed: int,
        frames: int,
        width: int,
        height: int,
        image: torch.Tensor | None = None,
    ) -> None:
        self.adapter = adapter
        self.latents = latents
        self.image = image
        self.noise = randn_tensor(
            latents.shape,
            generator=torch.Generator("cpu").manual_seed(seed),
            device=latents.device,
            dtype=latents.dtype,
        )
        self.rotary: Any = None
        if adapter.positions == "rotary":
            self.rotary = adapter.base_positions(frames, width, height)
        config = adapter.transformer.config
        self.text = latents.new_zeros(1, adapter.max_text_tokens, config.text_embed_dim)
        self.recording = False
        """True while a pass of the reference runs: positions and K, V are the model's own then."""
        self._last: tuple[int, tuple[torch.Tensor, torch.Tensor]] | None = None

    def at(self, timestep: int) -> tuple[torch.Tensor, torch.Tensor]:
        """K (after rotary embedding) and V, each `(1, heads, S, head_dim)`.

        The pass stops at block 0; the last timestep's pair is kept.
        """
        if self._last is None or self._last[0] != timestep:
            self._last = (timestep, self._record(timestep))
        return self._last[1]

    @torch.no_grad()
    def _record(self, timestep: int) -> tuple[torch.Tensor, torch.Tensor]:
        adapter = self.adapter
        scheduler = adapter.pipe.scheduler
        t = torch.full((1,), timestep, device=self.latents.device)
        noisy = scheduler.add_noise(self.latents, self.noise, t)
        noisy = scheduler.scale_model_input(noisy, t)
        self.recording = True
        try:
            return hooks.record_keys_and_values(
                adapter.transformer,
                BLOCK,
                lambda: adapter.forward(noisy, self.text, t, self.rotary, self.image),
            )
        finally:
            self.recording = False

    def unless_recording(self, select: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """`select`, silent while a pass of the reference runs."""
        return lambda timestep: None if self.recording else select(timestep)

    @contextlib.contextmanager
    def injected(
        self, guides: Callable[[int], bool], now: Callable[[], int] | None = None
    ) -> Iterator[None]:
        """Inject at the timesteps for which `guides` says so, while the context is open.

        Enter it before `hooks.positions`, and let positions pass through `unless_recording`.
        `now` tells the timestep of the pass that begins; without it, it is read off the tensor that
        the pass is given (a pipeline's schedule once, anything else at every pass).
        """

        def select(timestep: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
            if self.recording:
                return None
            t = read_timestep(timestep) if now is None else now()
            return self.at(t) if guides(t) else None

        with hooks.keys_and_values(self.adapter.transformer, BLOCK, select):
            yield
