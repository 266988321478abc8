"""What a backbone owes training, apply and evaluation.

A backbone is a video diffusion transformer with what turns clips and words into its inputs and its
outputs into clips. Everything above `pe_toolkit.backbones` knows this contract and no family of
models; `docs/backbones.md` says how to add one, `tests/backbones/contract.py` what it has to pass.

Terms, the same for every family:

clip        uint8 RGB frames `(F, H, W, 3)`; sizes are given as frames, width, height in pixels.
latents     `(N, F', C, h, w)`, floating, scaled as in training: F' latent frames of C channels,
            h rows, w columns. A family whose own layout is another turns them at its border, so
            that cards hold one. N generations are independent of each other.
token grid  F' latent frames x H' rows x W' columns of patches, S = F' H' W' video tokens, token
            `(f H' + y) W' + x`.
timestep    an integer that names a step of a schedule, falling from step to step.
noise level the share of the noise's amplitude in the latents, in [0, 1]: z = a x + n e with
            a^2 + n^2 = 1 gives n. It means the same in every family, so that a card's guided range
            does too: `sqrt(1 - alphas_cumprod)` where the noise preserves variance,
            `sigma / sqrt(sigma^2 + (1 - sigma)^2)` for flow matching.
positions   what tells a token where it is. Their layout is known to `PositionalForm` and to the
            family alone: the layers above pass on what a form's `embed` gives.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from pe_toolkit.acceleration.caches import Schedule
    from pe_toolkit.backbones.catalogue.variants import Variant
    from pe_toolkit.backbones.machine.recompute import Level
    from pe_toolkit.backbones.reading import Reading
    from pe_toolkit.backbones.ways import Encoded, Way
    from pe_toolkit.embedding.base import PositionalForm
    from pe_toolkit.grid import TokenGrid
    from pe_toolkit.motion.renewed import Renewal

Select = Callable[[Any], Any]
"""Positions for the `timestep` argument of a pass, as it is given to the transformer (whoever knows
the step need not read it off a GPU), or None to leave the model's own."""


AfterStep = Callable[[int | None, Any], Any]
"""`act(t, latents)`: the latents to go on with after a step; t is the next step's timestep, None
after the last."""


class Sampler(Protocol):
    """N generations that denoise side by side, one step at a time: the same latents as the family's
    own pipeline gives, bit for bit, while nothing is guided.
    """

    latents: torch.Tensor
    """z_t `(N, F', C, h, w)` before the next step. May be replaced between steps."""
    part: slice
    """The generations of the pass that runs."""

    @property
    def times(self) -> list[int]:
        """The timestep of every step."""
        ...

    @property
    def noise(self) -> list[float]:
        """The noise level of every step, never rising."""
        ...

    @property
    def together(self) -> int:
        """How many generations one pass takes."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """What the transformer is given."""
        ...

    @property
    def scheduler_name(self) -> str:
        """Class name of the scheduler, for the card."""
        ...

    def initial_noise(self) -> torch.Tensor:
        """Shaped as `latents`, of standard deviation 1; before the first step only."""
        ...

    def begin(
        self, change: Callable[[torch.Tensor], torch.Tensor], again: Renewal | None = None
    ) -> None:
        """Begin with what `change` makes of the initial noise; before the first step only."""
        ...

    def step(self, index: int) -> torch.Tensor:
        """One guided denoising step of all generations; the new latents."""
        ...

    def state(self) -> dict[str, torch.Tensor]:
        """All that the next step depends on and no request says, by names of the family's:
        latents, generators, what the scheduler remembers of the steps before.
        """
        ...

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Go on from a `state`, on the CPU; other tensors may be among it.

        Raises:
            KeyError, ValueError: it is of other generations.
        """
        ...

    def queries_and_keys(
        self, index: int, latents: torch.Tensor, part: slice, block: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Q and K of the video tokens at `block` in step `index`, each `(n, heads, S, head_dim)`,
        with the prompts alone (no classifier-free guidance) of the generations `part`, whose z_t
        are `latents`. The pass stops there; differentiable in latents and positions.
        """
        ...

    def features(self, index: int, latents: torch.Tensor, part: slice, block: int) -> torch.Tensor:
        """The hidden states of the video tokens that `block` gives on, `(n, S, channels)`,
        otherwise as `queries_and_keys`.
        """
        ...


class KeysValues(Protocol):
    """Keys and values of a noised reference, injected into the first block."""

    def follow(self, noise: torch.Tensor) -> None:
        """Take the noise of N generations, shaped as their latents, from here on.

        Raises:
            MismatchError: of a generation of another size.
        """
        ...

    def injected(
        self,
        guides: Callable[[int], bool],
        now: Callable[[], int] | None = None,
        part: Callable[[], slice] | None = None,
    ) -> AbstractContextManager[None]:
        """Inject at the timesteps for which `guides` says so. Enter it before
        `Backbone.positions_from`, and let positions pass through `unless_recording`. `now` tells
        the timestep of the pass that begins; without it, it is read off its argument. `part` tells
        which samples it is of; without it, of all. A call of the pipeline meanwhile gives its own
        noise.
        """
        ...

    def unless_recording(self, select: Select) -> Select:
        """`select`, silent while a pass of the reference itself runs."""
        ...


class Backbone(Protocol):
    """A loaded model. It is never changed for longer than a call or an open context."""

    # Identity -------------------------------------------------------------------------------------

    @property
    def family(self) -> str:
        """Name of the family, as cards record it."""
        ...

    @property
    def variant(self) -> Variant | None:
        """Its row in the catalogue of defaults, if it has one."""
        ...

    @property
    def model_id(self) -> str | None:
        """Hub id, None for a folder or a pipeline of the user's."""
        ...

    @property
    def revision(self) -> str | None:
        """Commit on the Hub, if known."""
        ...

    @property
    def weights_digest(self) -> str | None:
        """`sha256:...` of the weights, if known."""
        ...

    def fingerprint(self) -> str:
        """`sha256:...` of the architecture: equal wherever a card of this model fits."""
        ...

    def defaults(self) -> Variant:
        """`variant`, or the row of the most similar known model."""
        ...

    # What it is -----------------------------------------------------------------------------------

    @property
    def pipe(self) -> Any:
        """The loaded pipeline, for calls of the user's own. Nothing above looks inside."""
        ...

    @property
    def transformer(self) -> Any:
        """The denoising transformer, to compare by identity: backbones that share it share what
        is injected.
        """
        ...

    @property
    def device(self) -> torch.device:
        """Where computation happens, also under offloading."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Of the transformer's weights."""
        ...

    @property
    def channels(self) -> int:
        """Width of a token in the transformer."""
        ...

    @property
    def blocks(self) -> int:
        """How many blocks the transformer has: 0 to `blocks - 1`."""
        ...

    @property
    def most_steps(self) -> int:
        """Timesteps lie in 0 to `most_steps - 1`, and no schedule has more steps."""
        ...

    @property
    def positions(self) -> str:
        """How positions are encoded: `rotary` or `absolute`."""
        ...

    @property
    def image_to_video(self) -> bool:
        """Whether generations begin with a given picture."""
        ...

    @property
    def max_text_tokens(self) -> int:
        """Longest prompt in tokens."""
        ...

    @property
    def scheduler_name(self) -> str:
        """Class name of the scheduler in use."""
        ...

    @property
    def quantized(self) -> str | None:
        """Format of the transformer's weights, such as `fp8`; None for plain ones."""
        ...

    @property
    def tiles(self) -> bool:
        """Whether clips are encoded and decoded in tiles."""
        ...

    # Sizes ----------------------------------------------------------------------------------------

    @property
    def frames(self) -> int:
        """Frames of a clip unless others are asked for."""
        ...

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels unless another is asked for."""
        ...

    @property
    def fixed_size(self) -> bool:
        """Whether frames and size are the only ones."""
        ...

    @property
    def grid(self) -> TokenGrid:
        """The token grid at that size."""
        ...

    def grid_for(self, frames: int, width: int, height: int) -> TokenGrid:
        """The token grid of a clip.

        Raises:
            UsageError: frames or a size that the model cannot make; names some that it can.
        """
        ...

    # What it refuses ------------------------------------------------------------------------------

    def check_prompt(self, prompt: str, what: str = "a prompt") -> None:
        """Raises UsageError for an empty or too long prompt; `what` it is called in the message."""
        ...

    def check_image(self, image: Any) -> None:
        """Raises UsageError for a missing first picture, or one that nothing would look at."""
        ...

    def check_block(self, block: int) -> None:
        """Raises UsageError for a block that the transformer does not have."""
        ...

    def check_trainable(self, *, compiled: bool) -> None:
        """Raises UnsupportedError where no gradient can reach positions or latents: weights
        quantized in another way than `fp8` or `int8`, attention of the user's; `compiled`: or where
        compiled blocks would miss weights that leave.
        """
        ...

    def check_scheduler(self, *, stepping: bool = False) -> None:
        """Raises UnsupportedError where the scheduler keeps latents in another scale than that of
        the diffusion (`sqrt(alpha) x + sqrt(1 - alpha) noise`), as Euler's does; `stepping`: or
        cannot be stepped outside of the pipeline, as trainings do.
        """
        ...

    def check_decoder(self) -> None:
        """Raises UnsupportedError where weights would be elsewhere when clips are decoded."""
        ...

    # Clips, words, pictures -----------------------------------------------------------------------

    def encode_text(self, prompts: list[str]) -> torch.Tensor:
        """`(N, ...)` what the transformer is given for prompts."""
        ...

    def encode(
        self, frames: NDArray[np.uint8], wanted: tuple[Way | None, ...] | None = None
    ) -> Encoded:
        """Clip -> latents of N = 1, without randomness, in the first way of `wanted` for which
        there is memory (default: `ways.choices` of what was asked for when it was loaded).
        """
        ...

    def encode_image(self, frames: NDArray[np.uint8]) -> torch.Tensor | None:
        """What an image-to-video model is told of a clip's own first frame; None for others."""
        ...

    def decode(self, latents: torch.Tensor, frames: int) -> NDArray[np.uint8]:
        """Latents of N = 1 -> clip.

        Raises:
            BackboneError: numbers that are not finite.
        """
        ...

    # The transformer ------------------------------------------------------------------------------

    def reference_queries_and_keys(
        self,
        latents: torch.Tensor,
        reading: Reading,
        frames: int,
        width: int,
        height: int,
        image: torch.Tensor | None = None,
        text: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Q and K of a clean reference, each `(1, blocks * heads, S, head_dim)`: empty prompt, no
        noise (DiTFlow, section 4.1), read as `reading` says. `text` is `encode_text([""])`.
        """
        ...

    def reference_features(
        self,
        latents: torch.Tensor,
        block: int,
        frames: int,
        width: int,
        height: int,
        image: torch.Tensor | None = None,
        text: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The hidden states of the video tokens of a clean reference that `block` gives on,
        `(1, S, channels)`: empty prompt, no noise, timestep 0. `text` is `encode_text([""])`.
        """
        ...

    def form(self, parametrisation: str, frames: int, width: int, height: int) -> PositionalForm:
        """The form of positions of that name, bound to this model's own at that size.

        Raises:
            UsageError, UnsupportedError: an unknown one, or one that these positions do not have.
        """
        ...

    def positions_from(self, select: Select) -> AbstractContextManager[None]:
        """While the context is open, every pass has the positions that `select` gives.

        Raises:
            UnsupportedError: attention of the user's that positions cannot reach.
        """
        ...

    def keys_values(
        self,
        latents: torch.Tensor,
        seed: int,
        frames: int,
        width: int,
        height: int,
        image: torch.Tensor | None = None,
        *,
        fixed: bool = False,
    ) -> KeysValues:
        """Keys and values of a reference with these latents, noised as each generation is, or by
        the noise of `seed`: where there is no generation yet, and always if `fixed`.
        """
        ...

    def casting_inputs(self) -> AbstractContextManager[None]:
        """While the context is open, latents may be held in float32 beside a transformer of half
        precision: its input is cast.
        """
        ...

    def reachable(self) -> AbstractContextManager[None]:
        """While the context is open, hooks on parts of the transformer act, also if it was compiled
        as a whole.
        """
        ...

    def watching_grid(self, look: Callable[[TokenGrid], None]) -> AbstractContextManager[None]:
        """While the context is open, `look` is told the token grid of every pass; it may raise."""
        ...

    # Generations ----------------------------------------------------------------------------------

    def sampler(
        self,
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
    ) -> Sampler:
        """Generations from N prompts and N seeds; `image` is the first frame, if there is one.

        Raises:
            UsageError: as `check_image`.
        """
        ...

    def timesteps(self, steps: int) -> list[int]:
        """The timesteps of a generation of so many steps.

        Raises:
            UsageError: more than `most_steps`.
        """
        ...

    def noise_level(self, timestep: int) -> float:
        """The noise level at a timestep of the scheduler in use."""
        ...

    def scheduler_swapped(self, name: str | None) -> AbstractContextManager[None]:
        """Another scheduler while the context is open; None keeps it.

        Raises:
            UsageError: an unknown name; lists those that the family knows.
        """
        ...

    def changes_guidance(self, scheduler: str | None) -> bool:
        """Whether dynamic guidance goes with the scheduler of that name (None: the one in use)."""
        ...

    def beginning_with(
        self, change: Callable[[torch.Tensor], torch.Tensor], again: Renewal | None = None
    ) -> AbstractContextManager[None]:
        """While the context is open, generations begin with what `change` makes of the noise
        that they draw (or are given), shaped as latents. Generators go on as ever.

        `again` is for a scheduler that draws noise at every step, in which the first one would get
        lost: what it takes instead of what it draws.
        """
        ...

    def step_callback(self, act: AfterStep) -> Any:
        """`act` as what a call of the pipeline takes as `callback_on_step_end`."""
        ...

    @property
    def begins_with_noise(self) -> bool:
        """Whether generations do: in a video-to-video pipeline, they begin with a noised clip."""
        ...

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
        """One generation by the family's own pipeline, `(F, H, W, 3)` in [0, 1]. `more` goes to the
        call as it is: `image`, `callback_on_step_end`.
        """
        ...

    def finite_decoding(self) -> AbstractContextManager[None]:
        """While the context is open, decoding raises BackboneError at numbers that are not finite:
        they would be a black video.
        """
        ...

    def before_decoding(self, call: Callable[[], None]) -> AbstractContextManager[None]:
        """While the context is open, `call` is called before clips are encoded or decoded."""
        ...

    # Resources: nothing here changes a result, step caches apart ----------------------------------

    def frozen(self) -> AbstractContextManager[None]:
        """While the context is open, weights have no gradients."""
        ...

    def checkpointing_level(
        self, choice: str, tokens: int, block: int, *, to_positions: bool, compiled: bool
    ) -> Level:
        """How much of its activations a training recomputes: as chosen, or for `auto` the least
        that leaves room.

        Args:
            choice: one of `machine.checkpointing.CHECKPOINTING`.
            tokens: video tokens of the clip.
            block: the last one of a pass.
            to_positions: whether the gradient goes to positions, else to latents.
            compiled: whether the blocks are.

        Raises:
            UsageError: another choice.
            UnsupportedError: `off` where weights leave after their layer's forward pass.
        """
        ...

    def checkpointed(self, level: Level) -> AbstractContextManager[None]:
        """While the context is open, so much is recomputed."""
        ...

    def compiled(self, on: bool) -> AbstractContextManager[None]:
        """While the context is open, blocks are compiled, if `on`.

        Raises (inside):
            DependencyError: torch cannot make code here.
        """
        ...

    def cached(
        self, name: str, schedule: Schedule, ratios: list[float] | None = None
    ) -> AbstractContextManager[Any]:
        """While the context is open, a step cache is on; see `acceleration.caches.cached`."""
        ...

    def held_off(self, guides: Callable[[int], bool]) -> AbstractContextManager[None]:
        """While the context is open, no step cache, the user's neither, answers at timesteps for
        which `guides` says so.

        Raises:
            UnsupportedError: a cache that cannot be held off.
        """
        ...

    def parked(self, *parts: str) -> AbstractContextManager[None]:
        """While the context is open, `text_encoder` and `vae` wait off the device."""
        ...

    def sent_away(self) -> AbstractContextManager[None]:
        """On exit, nothing that model offloading brought is left on the device."""
        ...
