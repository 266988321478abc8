"""What can go wrong in a registry, beside what `pe_toolkit.errors` already names.

PeError
└── RegistryError           the registry cannot do what was asked: not there, damaged
    ├── RegistryBusyError   another process kept it for longer than we wait
    └── SignatureError      a card is not signed by whom it must be

UserWarning
├── CopyWarning             a remote could not be asked: this is the copy of an earlier time
└── LocksWarning            the locks of the registry's disk do nothing
"""

from __future__ import annotations

from pe_toolkit.errors import PeError


class RegistryError(PeError):
    """A card is not in the registry, or the registry is damaged."""


class RegistryBusyError(RegistryError):
    """Another process kept the registry for longer than we wait."""


class SignatureError(RegistryError):
    """A card is not signed by whom it must be, or a signature cannot be made."""


class CopyWarning(UserWarning):
    """A remote could not be asked, so the card is the copy of an earlier time."""


class LocksWarning(UserWarning):
    """The locks of the disk that the registry lies on do nothing; a lock file is used instead."""
