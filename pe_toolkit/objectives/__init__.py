"""What "the same motion" means: one file per objective, loaded when asked for.

Installed packages add more by entry points of the group `GROUP` (`pe_toolkit.extensions`).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from pe_toolkit.errors import UsageError
from pe_toolkit.extensions import load, names_in, refused

if TYPE_CHECKING:
    from pe_toolkit.objectives.base import Objective

OBJECTIVES: Mapping[str, str] = MappingProxyType(
    {
        "amf": "pe_toolkit.objectives.amf:AmfObjective",
        "smm": "pe_toolkit.objectives.smm:SmmObjective",
        "moft": "pe_toolkit.objectives.moft:MoftObjective",
        "motionclone": "pe_toolkit.objectives.motionclone:MotionCloneObjective",
    }
)
"""Name -> where its class is, of those that ship with pe-toolkit."""
GROUP = "pe_toolkit.objectives"
"""The entry points of other packages: name -> a class as `objectives.base.Objective` describes."""


def names() -> tuple[str, ...]:
    """All objectives by name, those of installed packages last."""
    return names_in(GROUP, OBJECTIVES)


def check_name(name: str) -> None:
    """Refuse a name that no objective has, without loading any.

    Raises:
        UsageError: lists those there are.
    """
    if name not in OBJECTIVES and name not in names():
        raise UsageError(f"Expected an objective out of {', '.join(names())}, got {name!r}.")


def objective_class(name: str) -> type[Objective]:
    """The class of an objective.

    Raises:
        UsageError: if there is none of that name, listing those there are.
        DependencyError: one of another package that cannot be loaded, or is none; names the
            package.
    """
    found: type[Objective] = load(GROUP, OBJECTIVES, name, "an objective")
    missing = [part for part in ("of", "loss") if not callable(getattr(found, part, None))]
    if missing:
        why = f"it has no `{missing[0]}` (pe_toolkit.objectives.base.Objective)"
        raise refused(GROUP, name, "an objective", why)
    if getattr(found, "reads", None) not in ("attention", "features"):
        why = f"its `reads` is {getattr(found, 'reads', None)!r}, not 'attention' or 'features'"
        raise refused(GROUP, name, "an objective", why)
    return found
