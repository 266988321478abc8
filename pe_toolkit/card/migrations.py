"""Format versions: which cards this pe-toolkit reads, and how an old description becomes one of
today.

A card keeps the version that it was written in: its digest is over those very words, and other
cards name it by that. So `CardSpec` knows every version (`SINCE` and `UNTIL` say what came and went
with which), a card of 1.x is read, shown, applied and copied as it always was, and only a card that
is made from it (`pe edit`) is of today's version: `forward` brings the description there, and
`card.edit.renewed` the tensors. Cards are never written anew in an old version.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pe_toolkit.errors import CardError, CardVersionError
from pe_toolkit.shown import shown

FORMAT = "pe-motion-card"
FORMAT_VERSION = "2.0"
MAJOR, MINOR = (int(part) for part in FORMAT_VERSION.split("."))
LAST_MINOR = {1: 4}
"""Of the earlier major versions, all of which are read."""

SINCE: Mapping[str, tuple[str, ...]] = {
    "1.1": ("recipe.reference_block",),
    "1.2": ("reference.used", "reference.fit"),
    "1.3": ("recipe.reading", "recipe.start_scale", "schedule.negative_prompt"),
    "1.4": ("parent", "recipe.kv_noise", "recipe.phase", "reference.encoded"),
    "2.0": (
        "parents",
        "edits",
        "recipe.layers",
        "recipe.below",
        "recipe.ground",
        "recipe.feedback",
        "recipe.phase.mean",
        "reference.motion",
    ),
}
"""Keys that cards of an earlier version do not have."""
UNTIL: Mapping[str, tuple[str, ...]] = {"1.4": ("parent", "recipe.reference_block")}
"""Keys that cards of a later version do not have."""

UPGRADE = "Install a newer pe-toolkit, as its README says."


def reaches(version: str, other: str) -> bool:
    """Whether a format version is `other` or a later one."""
    return _numbers(version) >= _numbers(other)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def check_version(description: object) -> bool:
    """Whether the description comes from a newer minor version than ours, or is not readable.

    Args:
        description: the parsed JSON, of which nothing else has been checked.

    Returns:
        True if a newer pe-toolkit of the same major version wrote it: still read strictly, so that
        whatever is new in it is refused with the advice to upgrade.

    Raises:
        CardVersionError: for a newer major version.
        CardError: if this is no card, or of a version that never existed.
    """
    kind = description.get("format") if isinstance(description, Mapping) else description
    if not isinstance(description, Mapping) or kind != FORMAT:
        raise CardError(
            f"Expected the format {FORMAT!r}, got {shown(kind)}.", "This is not a motion card."
        )
    version = description.get("format_version")
    match = re.fullmatch(r"(0|[1-9]\d{0,5})\.(0|[1-9]\d{0,5})", str(version), re.ASCII)
    if not isinstance(version, str) or match is None:
        raise CardError(
            f"Expected `format_version` such as {FORMAT_VERSION!r}, got {shown(version)}."
        )
    major, minor = int(match[1]), int(match[2])
    if major > MAJOR:
        raise CardVersionError(
            f"Expected a card of format {MAJOR}.x, got format {version}: "
            "it needs a newer pe-toolkit.",
            UPGRADE,
        )
    if major < MAJOR and minor > LAST_MINOR.get(major, -1):
        raise CardError(
            f"Expected a card of format {MAJOR}.x, got {version}, which was never published.",
            "Train the card again with this pe-toolkit.",
        )
    return major == MAJOR and minor > MINOR


def forward(description: Mapping[str, Any]) -> dict[str, Any]:
    """A sound description of any version in the words of today's, unsealed."""
    new = dict(description) | {"format_version": FORMAT_VERSION, "digest": ""}
    if "parent" in new:
        new["parents"] = [new.pop("parent")]
    recipe = dict(new["recipe"])
    if "reference_block" in recipe:  # always its attention, of clean latents
        block = recipe.pop("reference_block")
        recipe["reading"] = {"blocks": [block], "by": "attention", "timestep": 0}
    return new | {"recipe": recipe}
