"""Trackers by name, one file each, loaded when asked for.

Installed packages add more by entry points of the group `GROUP` (`pe_toolkit.extensions`).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from pe_toolkit.errors import DependencyError
from pe_toolkit.extensions import in_words, load, names_in, refused

if TYPE_CHECKING:
    from pe_toolkit.evaluation.trackers.base import Tracker

TRACKERS: Mapping[str, str] = MappingProxyType(
    {
        "lk": "pe_toolkit.evaluation.trackers.lucas_kanade:LucasKanade",
        "dis": "pe_toolkit.evaluation.trackers.dense_flow:DenseFlow",
        "cotracker3": "pe_toolkit.evaluation.trackers.cotracker:CoTracker3",
    }
)
"""Name -> where its class is, of those that ship with pe-toolkit; the first is the default."""
GROUP = "pe_toolkit.trackers"
"""The entry points of other packages: name -> a class as `trackers.base.Tracker` describes."""


def names() -> tuple[str, ...]:
    """All trackers by name, those of installed packages last."""
    return names_in(GROUP, TRACKERS)


def tracker(name: str) -> Tracker:
    """A tracker, ready.

    Raises:
        UsageError: there is none of that name; lists those there are.
        DependencyError: one of another package that cannot be loaded, or is none.
    """
    found = load(GROUP, TRACKERS, name, "a tracker")
    if not callable(getattr(found, "track", None)):
        why = "it has no `track` (pe_toolkit.evaluation.trackers.base.Tracker)"
        raise refused(GROUP, name, "a tracker", why)
    if name in TRACKERS:
        ours: Tracker = found()
        return ours
    from pe_toolkit.evaluation.trackers.others import Checked

    def why_not(why: str) -> DependencyError:
        return refused(GROUP, name, "a tracker", why)

    try:
        return Checked(found(), why_not)
    except (Exception, SystemExit) as error:
        raise why_not(f"it failed: {in_words(error)}") from error


def prepare(name: str) -> None:
    """Have what a tracker fetches, if it fetches something.

    Raises:
        UsageError: there is no tracker of that name.
        DependencyError: it cannot be had.
    """
    get = getattr(tracker(name), "prepare", None)
    if get is not None:
        get()
