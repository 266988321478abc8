"""What can go wrong in a registry, beside what `pe_toolkit.errors` already names.

PeError
└── RegistryError           the registry cannot do what was asked: not there, damaged
    └── RegistryBusyError   another process kept it for longer than we wait
"""

from __future__ import annotations

from pe_toolkit.errors import PeError


class RegistryError(PeError):
    """A card is not in the registry, or the registry is damaged."""


class RegistryBusyError(RegistryError):
    """Another process kept the registry for longer than we wait."""
