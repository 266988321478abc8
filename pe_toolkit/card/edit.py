"""A card made from another one without training: corrected words, scores, or another motion.

A card that has been sealed is never changed. A new one is made, with the digest of the old one
among its `parents`: the training and the time of that (`created`) stay what they were.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pe_toolkit.card.migrations import forward
from pe_toolkit.card.motion_card import MotionCard
from pe_toolkit.card.spec import MAX_EDITS, CardSpec, EditSpec
from pe_toolkit.card.tensors import Array, packed, unpacked
from pe_toolkit.errors import CardError, UsageError


def revised(
    card: MotionCard,
    *,
    name: str | None = None,
    author: str | None = None,
    license: str | None = None,
    version: str | None = None,
    scores: Mapping[str, float] | None = None,
) -> MotionCard:
    """A new card of the same motion; what is None stays.

    Args:
        version: semantic, such as 1.0.1.
        scores: added to those that the card has; one of the same name is replaced.

    Raises:
        UsageError: if nothing would change.
        CardError: if a value breaks the rules of the format.
    """
    spec = card.spec
    asked = {"name": name, "author": author, "license": license, "version": version}
    changes: dict[str, Any] = {
        key: value for key, value in asked.items() if value not in (None, getattr(spec, key))
    }
    if scores is not None and (merged := {**spec.scores, **scores}) != dict(spec.scores):
        changes["scores"] = merged
    if not changes:
        raise UsageError(
            "Expected something to change, but the card says all of it already.",
            "Name another name, author, license, version or score.",
        )
    new, tensors = renewed(card)
    return MotionCard(replace(new, **changes, parents=(card.digest,)), tensors)


def edited(
    card: MotionCard,
    edits: Sequence[EditSpec],
    *,
    others: Sequence[MotionCard] = (),
    tensors: Mapping[str, Array] | None = None,
    **changes: Any,
) -> MotionCard:
    """A new card of another motion, which says what was done.

    Args:
        card: gives all that is not given here.
        edits: what was done, in order; goes behind what was done to `card` before.
        others: cards that gave something too (two that are combined).
        tensors: in place of those of the card that `renewed` gives, by name; a `flow_mask` of
            shape `(F, F, H, W)` is packed here.
        changes: fields of `CardSpec`, such as `recipe`, `grid`, `clip`, `reference`. `scores` are
            none unless given: they were measured of another motion.

    Raises:
        CardError: if description and tensors do not fit each other, or after more than 32 edits.
    """
    new, own = renewed(card)
    own |= tensors or {}
    if own["flow_mask"].ndim > 1:
        own["flow_mask"] = packed(own["flow_mask"])
    done = (*(new.edits or ()), *edits)
    if len(done) > MAX_EDITS:
        raise CardError(
            f"Expected a card of at most {MAX_EDITS} edits, got {len(done)}.",
            "Edit a card that it was made from, which `pe show` names as its parent, or train one.",
        )
    line = {
        "parents": tuple(dict.fromkeys(c.digest for c in (card, *others))),
        "edits": done,
    }
    return MotionCard(replace(new, **{"scores": {}} | changes | line), own)


def renewed(card: MotionCard) -> tuple[CardSpec, dict[str, Array]]:
    """Description (not sealed) and tensors of a card of any version in the format of today.

    It applies as before: what moves stays bit for bit the same. Where the tensors of all guided
    steps are equal, one set is kept.
    """
    spec = CardSpec.from_dict(forward(card.spec.to_dict()))
    tensors = dict(card.tensors)
    tensors["flow_mask"] = packed(unpacked(card.spec, tensors))
    if spec.kind == "positions":
        tensors["positions"] = shared(tensors["positions"])
    return spec, tensors


def shared(positions: Array) -> Array:
    """One set `(1, ...)` in place of `(G, ...)`, if all are equal."""
    first = positions[:1]
    return first if all(np.array_equal(first[0], other) for other in positions) else positions


def mean_scores(name: str, values: list[float]) -> dict[str, float]:
    """The mean of what was measured, and of how many videos: `{name: ..., name_videos: ...}`;
    nothing of nothing.
    """
    if not values:
        return {}
    return {name: round(sum(values) / len(values), 4), f"{name}_videos": float(len(values))}
