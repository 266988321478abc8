"""In how many pieces a clip is encoded: whole where memory allows, as the official code of
CogVideoX-2b does.

whole     one pass of the encoder over all frames
batches   eight frames at a time: what diffusers does since 0.30.3. The convolutions see the frames
          before, but the group norms only those of their batch
tiles     batches, and tiles of the picture that are blended where they overlap

The three give different latents (docs/performance.md has how much they cost and differ), so there
is one rule, and a card says what was done: `reference.encoded`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, cast

if TYPE_CHECKING:
    import torch

Way = Literal["whole", "batches", "tiles"]
WAYS: tuple[Way, ...] = ("whole", "batches", "tiles")
"""From the dearest to the cheapest."""


class Encoded(NamedTuple):
    """Latents, and how they were made (None: as the VAE was kept)."""

    latents: torch.Tensor
    way: Way | None


def choices(wanted: bool | None) -> tuple[Way | None, ...]:
    """The ways to try for `--vae-tiling`, `--no-vae-tiling`, or neither."""
    return {None: WAYS, False: WAYS[:2], True: WAYS[2:]}[wanted]


def again(recorded: str | None) -> tuple[Way | None, ...]:
    """The ways to try for a clip that a card was made from, or that is compared with it: as then,
    and cheaper where that does not fit. Cards before 1.4 do not say: as the VAE is kept, as then.
    """
    if recorded is None:
        return (None,)
    return WAYS[WAYS.index(cast(Way, recorded)) :]
