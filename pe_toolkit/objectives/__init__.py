"""What "the same motion" means: one file per objective, loaded when asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING

from pe_toolkit.errors import UsageError

if TYPE_CHECKING:
    from pe_toolkit.objectives.base import Objective

OBJECTIVES: Mapping[str, str] = MappingProxyType({"amf": "pe_toolkit.objectives.amf:AmfObjective"})
"""Name -> where its class is."""


def objective_class(name: str) -> type[Objective]:
    """The class of an objective.

    Raises:
        UsageError: if there is none of that name, listing those there are.
    """
    if name not in OBJECTIVES:
        raise UsageError(f"Expected an objective out of {', '.join(OBJECTIVES)}, got {name!r}.")
    module, _, attribute = OBJECTIVES[name].partition(":")
    found: type[Objective] = getattr(import_module(module), attribute)
    return found
