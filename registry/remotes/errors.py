"""What can go wrong with a remote, beside what `pe_toolkit.errors` already names.

RegistryError
└── RemoteError             the remote could not do what was asked
    ├── RemoteMissingError  no such repository, revision or card there
    ├── AccessError         it is there, but not for us: no token, no rights, terms not accepted
    ├── ConflictError       somebody else changed it meanwhile, or a tag would have to move
    └── UnreachableError    no answer, or only failures, after all repetitions
"""

from __future__ import annotations

from pe_toolkit.registry.errors import RegistryError


class RemoteError(RegistryError):
    """The remote could not do what was asked."""


class RemoteMissingError(RemoteError):
    """No such repository, revision or card on the remote."""


class AccessError(RemoteError):
    """The remote does not let us: no token, an expired one, no rights, terms not accepted."""


class ConflictError(RemoteError):
    """Somebody else changed the remote meanwhile, or a tag would have to move."""


class UnreachableError(RemoteError):
    """The remote gave no answer, or only failures, however often we asked."""
