"""What the name of a backbone stands for: a row of the table, a repository on the Hub, or a folder.

The spelling alone decides, never what lies in the current folder: `owner/name` is a repository on
the Hub also where there is a folder `owner/name`, and a folder is written `./owner/name`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pe_toolkit.backbones.catalogue.variants import VARIANTS, Variant, unknown, variant_for
from pe_toolkit.errors import UsageError

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


@dataclass(frozen=True)
class Named:
    """What was named: a folder, or a repository on the Hub and its row if it is known; neither
    folder nor repository is a row whose weights ship with pe-toolkit.
    """

    row: Variant | None = None
    hub_id: str | None = None
    folder: Path | None = None


def named(name: str, copy_of: str | None = None) -> Named:
    """What `name` stands for.

    Args:
        copy_of: the row that a folder, or a repository without a row, was declared a copy of.

    Raises:
        UsageError: no known name, no repository on the Hub, and not written as a folder is; or
            declared a copy of what is no row of the Hub.
    """
    if not isinstance(name, str):
        raise unknown(name)
    found = _spelled(name)
    if copy_of is None:
        return found
    row = VARIANTS.get(copy_of)
    if row is None or row.bundled:
        rows = ", ".join(row.name for row in VARIANTS.values() if not row.bundled)
        raise UsageError(f"Expected a copy of one of {rows}, got {copy_of!r}.")
    if found.row is not None:
        raise UsageError(
            f"Expected a folder or a repository that is a copy of {copy_of}, got {name}, which is "
            f"known as {found.row.name}.",
            "Leave --copy-of out.",
        )
    return Named(row, found.hub_id, found.folder)


def _spelled(name: str) -> Named:
    if name.startswith((".", "/", "~")) or "\\" in name or name.count("/") > 1:
        return Named(folder=Path(name).expanduser())
    if HUB_ID.fullmatch(name):
        return Named(known(name), name)
    try:
        row = variant_for(name)
    except UsageError as error:
        raise UsageError(error.message, f"{like_folder(name)}{error.hint}") from None
    return Named(row, row.hub_id)


def known(hub_id: str) -> Variant | None:
    """The row of a repository on the Hub: its own, or the same one under its owner's other name."""
    return next((row for row in VARIANTS.values() if is_of(row, hub_id)), None)


def is_of(row: Variant, hub_id: str) -> bool:
    """Whether a repository is the row's own, under any of the names of its owner."""
    return hub_id.casefold() in {copy.casefold() for copy in row.hub_ids}


def same_model(first: str, second: str) -> bool:
    """Whether two repositories on the Hub are one and the same."""
    row = known(first)
    return first == second or (row is not None and is_of(row, second))


def like_folder(name: str) -> str:
    """What to write for the folder of that name, if there is one."""
    return f"Write ./{name} for the folder of that name. " if Path(name).is_dir() else ""
