"""How the motion of a reference is read off the transformer. Torch-free, part of a backbone's row.

    attention   the argmax of the attention that the transformer computes (the paper)
    content     of what the patches are, wherever they are: positions turned back, matched both ways

Attention prefers near patches, also where the object has moved on: in the bundled backbone it
finds 56 % of an object's patches eight latent frames later, reading by content 88 %
(`python -m benchmarks.readings`). Queries and keys without their rotary embedding do not know how
far they are from each other.
"""

from __future__ import annotations

from dataclasses import dataclass

KINDS = ("attention", "content")
TIMESTEPS = {"attention": 0, "content": 200}
"""What the transformer is told about the noise of the clean reference, if nothing else is said."""


@dataclass(frozen=True)
class Reading:
    """Where and how a reference is read.

    Attributes:
        blocks: transformer blocks; of several, the logits are averaged.
        by: `attention` or `content`.
        timestep: 0 .. 999. The latents are clean in any case.
    """

    blocks: tuple[int, ...]
    by: str = "attention"
    timestep: int = 0

    @property
    def mutual(self) -> bool:
        """Whether a match must also be one the other way round."""
        return self.by == "content"
