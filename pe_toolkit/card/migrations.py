"""Format versions: which cards this pe-toolkit reads.

1.1 added what a 1.0 card simply does not have (`recipe.reference_block`, the mask `tracked`), and
so did 1.2 (`reference.used`, `reference.fit`) and 1.3 (`recipe.start_scale`,
`schedule.negative_prompt`; `recipe.reading`, which says more than `reference_block` and took its
place) and 1.4 (`parent`, `recipe.kv_noise`, `reference.encoded`, other families of backbones,
other objectives): there is nothing to migrate yet. When a 2.0 comes, the step from 1.x stands here
as a function on the plain description, applied forward only before `CardSpec` sees it; cards are
never written in an old version.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pe_toolkit.card.text import shown
from pe_toolkit.errors import CardError, CardVersionError

FORMAT = "pe-motion-card"
FORMAT_VERSION = "1.4"
MAJOR, MINOR = (int(part) for part in FORMAT_VERSION.split("."))

UPGRADE = "Install a newer pe-toolkit: pip install --upgrade pe-toolkit"


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
    if major < MAJOR:
        raise CardError(
            f"Expected a card of format {MAJOR}.x, got {version}, which was never published.",
            "Train the card again with this pe-toolkit.",
        )
    return minor > MINOR
