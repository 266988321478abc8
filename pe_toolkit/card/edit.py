"""A corrected card: another name, author, license or version, or scores, without training.

A card that has been sealed is never changed. A new one is made, with the digest of the old one as
its `parent`: the motion, its training and the time of that (`created`) stay what they were.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pe_toolkit.card.migrations import FORMAT_VERSION
from pe_toolkit.card.motion_card import MotionCard
from pe_toolkit.errors import UsageError


def revised(
    card: MotionCard,
    *,
    name: str | None = None,
    author: str | None = None,
    license: str | None = None,
    version: str | None = None,
    scores: Mapping[str, float] | None = None,
) -> MotionCard:
    """A new card with the same tensors; what is None stays.

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
    new = replace(
        spec, **changes, parent=spec.digest, digest="", format_version=FORMAT_VERSION
    )  # a new card is written in the format of today
    return MotionCard(new, card.tensors)


def mean_scores(name: str, values: list[float]) -> dict[str, float]:
    """The mean of what was measured, and of how many videos: `{name: ..., name_videos: ...}`;
    nothing of nothing.
    """
    if not values:
        return {}
    return {name: round(sum(values) / len(values), 4), f"{name}_videos": float(len(values))}
