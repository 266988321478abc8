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
from pe_toolkit.backbones.cogvideox import beginning, hooks
from pe_toolkit.errors import MismatchError

if TYPE_CHECKING:
    from pe_toolkit.backbones.cogvideox.adapter import CogVideoXAdapter

BLOCK = 0
"""The block whose keys and values are replaced (the official configuration's only one)."""


_ALL = slice(None)


class ReferenceKeysValues:
    """K and V of a noised reference at `BLOCK`, per timestep.

    One noise serves every timestep: that with which the generation begins, as in the official code
    (each sample of a batch has its own).

    Args:
        adapter: the backbone.
        latents: `(1, F', C, h, w)` of the reference, as `CogVideoXAdapter.encode_clip` gives them.
        seed: of the noise where no generation of the pipeline gives its own, or `fixed`.
        frames, width, height: of the clip in pixels.
        image: `(1, F', C, h, w)` conditioning latents of image-to-video backbones, else None.
        fixed: keep the noise of `seed`, whatever is generated: what cards before 1.4 were trained
            with.

    Attributes:
        noise: `(N, F', C, h, w)`, of N samples or of all.

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
        *,
        fixed: bool = False,
    ) -> None:
        self.adapter = adapter
        self.latents = latents
        self.image = image
        self.fixed = fixed
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
        self._last: tuple[tuple[int, int], tuple[torch.Tensor, torch.Tensor]] | None = None

    def follow(self, noise: torch.Tensor) -> None:
        """Take the noise of a generation, `(N, F', C, h, w)`, from here on.

        Raises:
            MismatchError: of a generation of another size.
        """
        if noise.shape[1:] != self.latents.shape[1:]:
            raise MismatchError(
                "Expected a generation of the size of the reference, with latents "
                f"{tuple(self.latents.shape[1:])}, got {tuple(noise.shape[1:])}.",
                "Use the card's frames, width and height.",
            )
        self.noise, self._last = noise.detach().to(self.latents).clone(), None

    def at(self, timestep: int, part: slice = _ALL) -> tuple[torch.Tensor, torch.Tensor]:
        """K (after rotary embedding) and V, each `(n, heads, S, head_dim)`, of `part` of the noise.

        The pass stops at block 0; the last pair is kept.
        """
        key = (timestep, part.start or 0)
        if self._last is None or self._last[0] != key:
            self._last = (key, self._record(timestep, self.noise[part]))
        return self._last[1]

    @torch.no_grad()
    def _record(self, timestep: int, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        adapter, count = self.adapter, len(noise)
        scheduler = adapter.pipe.scheduler
        t = torch.full((count,), timestep, device=self.latents.device)
        if hasattr(scheduler, "sigmas"):  # counts in them, and finds its own timesteps only
            alpha = float(scheduler.alphas_cumprod[timestep])
            noisy = alpha**0.5 * self.latents.expand_as(noise) + (1 - alpha) ** 0.5 * noise
        else:
            noisy = scheduler.add_noise(self.latents.expand_as(noise), noise, t)
        text = self.text.expand(count, -1, -1)
        self.recording = True
        try:
            return hooks.record_keys_and_values(
                adapter.transformer,
                BLOCK,
                lambda: adapter.forward(noisy, text, t, self.rotary, self.image),
            )
        finally:
            self.recording = False

    def unless_recording(self, select: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """`select`, silent while a pass of the reference runs."""
        return lambda timestep: None if self.recording else select(timestep)

    @contextlib.contextmanager
    def injected(
        self,
        guides: Callable[[int], bool],
        now: Callable[[], int] | None = None,
        part: Callable[[], slice] | None = None,
    ) -> Iterator[None]:
        """Inject at the timesteps for which `guides` says so, while the context is open.

        Enter it before `hooks.positions`, and let positions pass through `unless_recording`.
        `now` tells the timestep of the pass that begins; without it, it is read off the tensor that
        the pass is given (a pipeline's schedule once, anything else at every pass). `part` tells
        which samples it is of; without it, of all. A call of the pipeline meanwhile gives its own
        noise, unless that is `fixed` or `now` is given: then whoever drives it calls `follow`.
        """

        def select(timestep: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
            if self.recording:
                return None
            t = read_timestep(timestep) if now is None else now()
            if not guides(t):
                return None
            return self.at(t, _ALL if part is None else part())

        with contextlib.ExitStack() as stack:
            if not self.fixed and now is None:  # a training gives its own
                stack.enter_context(caught_noise(self.adapter.pipe, self.follow))
            stack.enter_context(hooks.keys_and_values(self.adapter.transformer, BLOCK, select))
            yield


def caught_noise(
    pipe: Any, take: Callable[[torch.Tensor], None]
) -> contextlib.AbstractContextManager[None]:
    """Call `take` with the noise `(N, F', C, h, w)` of every generation of a pipeline, before its
    first pass.

    It is what `prepare_latents` returns (or is given as `latents`), divided by what the scheduler
    scales it by; in a video-to-video pipeline, what it adds to the latents of the video.
    """

    def prepare(own: Callable[..., Any], *args: Any, **options: Any) -> Any:
        scheduler, added = pipe.scheduler, []
        plain, theirs = scheduler.add_noise, vars(scheduler).get("add_noise")

        def add_noise(latents: torch.Tensor, noise: torch.Tensor, t: Any) -> torch.Tensor:
            added.append(noise)
            return plain(latents, noise, t)  # type: ignore[no-any-return]

        scheduler.add_noise = add_noise
        try:
            drawn = own(*args, **options)
        finally:
            del scheduler.add_noise  # the method of the class is there again, or what was before
            if theirs is not None:
                scheduler.add_noise = theirs
        noise = drawn[0] if isinstance(drawn, tuple) else drawn  # with the image's
        take(added[0] if added else noise / scheduler.init_noise_sigma)
        return drawn

    return beginning.prepared(pipe, prepare)
