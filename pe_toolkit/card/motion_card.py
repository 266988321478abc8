"""`MotionCard`: a description and its tensors, always sound and always sealed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pe_toolkit.card.file import card_chunks
from pe_toolkit.card.header import encode_header
from pe_toolkit.card.layout import check_layout
from pe_toolkit.card.reader import CardInfo, opened_card
from pe_toolkit.card.spec import CardSpec
from pe_toolkit.card.tensors import (
    Array,
    check_values,
    content_digest,
    layout_of,
    unpacked,
)
from pe_toolkit.card.values import check_digest
from pe_toolkit.shown import printable
from pe_toolkit.writing import write_atomically


@dataclass(frozen=True, eq=False, repr=False)
class MotionCard:
    """One motion for one backbone family.

    Args:
        spec: the description. Its digest may be "", then it is computed here; else it must match.
        tensors: numpy arrays, G = guided steps, S = video tokens, F x H x W = the grid.
            `positions` float16, radians or plain deltas from the backbone's own positions:
            (T, 2 (q, k), S, head_dim / 2) rotary angle; (T, 2 (q, k), 2 (cos, sin), S, head_dim)
            rotary table; (T, S, inner_dim) absolute table; (T, L layers, S, 3) offsets. T is G, or
            since 2.0 also 1: one set for all guided steps. Or
            `latents` float16 (G, F', C, h, w): z_t at each guided step. And always
            `flow` int8 (F, F, H, W, 2): displacement (dx, dy) in patches from each patch of the
            first frame to the second; `flow_mask` uint8 (`mask`): a bit for each, in cards of
            1.x a byte. The mapping is read-only afterwards; the arrays can be written, so that
            torch takes them without a copy, and `save` checks them again.

    Raises:
        CardError: if tensors and description do not fit each other, a number is not finite, or the
            digest is wrong.
    """

    spec: CardSpec
    tensors: Mapping[str, Array]

    def __post_init__(self) -> None:
        object.__setattr__(self, "tensors", MappingProxyType(dict(self.tensors)))
        check_layout(self.spec, layout_of(self.tensors))
        check_values(self.spec, self.tensors)
        digest = content_digest(self.spec, self.tensors)
        if not self.spec.digest:
            object.__setattr__(self, "spec", replace(self.spec, digest=digest))
        check_digest(self.spec, digest)

    def __reduce__(self) -> tuple[type[MotionCard], tuple[CardSpec, dict[str, Array]]]:
        """For pickles and copies, which know no read-only mapping; what comes back is checked."""
        return type(self), (self.spec, dict(self.tensors))

    def __repr__(self) -> str:
        """One line: tensors of a million numbers help nobody."""
        spec = self.spec
        return (
            f"<MotionCard {printable(spec.name)!r} {spec.version}: {spec.kind}, "
            f"{self.guided_steps} guided steps, {spec.backbone.variant}, {self.digest[:19]}>"
        )

    @classmethod
    def load(cls, path: str | Path) -> MotionCard:
        """Read and check a card file; as `read_card`."""
        return read_card(path)

    def save(self, path: str | Path, *, force: bool = False) -> CardInfo:
        """Write the card: same content, same bytes; the whole file or nothing.

        Returns:
            What was written, with the SHA-256 that names it.

        Raises:
            OutputExistsError: if `path` exists and `force` is not given.
            OutputError: if it cannot be written.
            CardError: if the description is too long, or tensors were changed in place since.
        """
        card = MotionCard(self.spec, self.tensors)  # arrays are mutable: check them again
        layout = layout_of(card.tensors)
        size = len(encode_header(card.spec.canonical(), layout))
        size += sum(array.nbytes for array in card.tensors.values())
        sha256 = write_atomically(path, card_chunks(card.spec, card.tensors), force=force)
        return CardInfo(card.spec, size, sha256, layout)

    @property
    def digest(self) -> str:
        """The in-file digest, "sha256:" and 64 hex digits: same content, same digest."""
        return self.spec.digest

    @property
    def mask(self) -> Array:
        """Which displacements of `flow` were matched: bool (F, F, H, W)."""
        return unpacked(self.spec, self.tensors)

    @property
    def guided_steps(self) -> int:
        """Number of guided steps (G)."""
        return self.spec.guided_steps

    def pipe_kwargs(self) -> dict[str, Any]:
        """The arguments with which a text-to-video or image-to-video pipeline generates as the card
        was trained: `pipe(prompt, **card.pipe_kwargs())`, or `**card.pipe_kwargs() |
        replaying.arguments()` with a latents card.

        `num_frames`, `width`, `height`, `num_inference_steps`, `guidance_scale`, `use_dynamic_cfg`,
        `negative_prompt` if the card has one, and `max_sequence_length` (tokens of the text) if the
        backbone is a known one; CogVideoX has the pipeline's own default.
        """
        from pe_toolkit.backbones.catalogue.variants import VARIANTS

        clip, schedule = self.spec.clip, self.spec.schedule
        values: dict[str, Any] = {
            "num_frames": clip.frames,
            "width": clip.width,
            "height": clip.height,
            "num_inference_steps": schedule.steps,
            "guidance_scale": schedule.guidance_scale,
            "use_dynamic_cfg": schedule.dynamic_cfg,
        }
        if schedule.negative_prompt is not None:
            values["negative_prompt"] = schedule.negative_prompt
        if self.spec.backbone.variant in VARIANTS:
            values["max_sequence_length"] = VARIANTS[self.spec.backbone.variant].max_text_tokens
        return values

    def summary(self) -> dict[str, Any]:
        """Plain values for JSON: the description, and the tensors with their bytes."""
        layout = layout_of(self.tensors)
        return {
            "card": self.spec.to_dict(),
            "guided_steps": self.guided_steps,
            "tensors": {
                name: {"dtype": dtype, "shape": list(shape), "bytes": self.tensors[name].nbytes}
                for name, (dtype, shape) in layout.items()
            },
        }


def read_card(path: str | Path) -> MotionCard:
    """Read a whole card: header, description, shapes, finite numbers and digest are checked.

    Raises:
        CardVersionError: for a card of a newer format.
        CardError: for anything that is not a sound card; says what it is and what to do.
    """
    with opened_card(path) as (spec, tensors):
        return MotionCard(spec, tensors)
