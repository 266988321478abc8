"""What is on the Hub right now: one look at a repository, and what it says about each file."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from huggingface_hub import constants, get_session

from pe_toolkit.registry.remotes.hub_guard import commit_name

_LOCK = threading.Lock()
_CHANGED: dict[str, tuple[int, Any]] = {}
"""Constant -> how many blocks change it now, and what it was before."""


@dataclass(frozen=True)
class RemoteFile:
    """A file in a repository: `oid` is SHA-256 for large files, else git's SHA-1 of the blob."""

    size: int
    oid: str


@dataclass(frozen=True)
class RepoState:
    """A repository at one commit."""

    head: str
    private: bool
    files: Mapping[str, RemoteFile]
    name: str = ""
    """`owner/name` as the Hub spells it; "" for a repository that is not there yet."""

    def spelled(self, asked: str) -> str:
        """The Hub's spelling of the repository that was asked for as `asked`, whose case does not
        count there. Any other name that a server may give is not taken.
        """
        return self.name if self.name.casefold() == asked.casefold() else asked

    def has(self, name: str, oids: tuple[str, ...]) -> bool:
        """Whether the file is there with one of these digests."""
        file = self.files.get(name)
        return file is not None and file.oid in oids


def state_of(info: Any) -> RepoState:
    """From the client's `ModelInfo` (with `files_metadata`).

    Raises:
        RemoteError: if its commit has no name.
    """
    files = {}
    for sibling in info.siblings or []:
        large = sibling.lfs
        oid = large.sha256 if large is not None else sibling.blob_id
        files[sibling.rfilename] = RemoteFile(int(sibling.size or 0), str(oid or ""))
    return RepoState(
        commit_name(str(info.sha or "")), bool(info.private), files, str(info.id or "")
    )


def oids(data: bytes) -> tuple[str, str]:
    """Both names that the Hub may give to `data`: SHA-256, and git's SHA-1."""
    return hashlib.sha256(data).hexdigest(), git_oid(data)


def git_oid(data: bytes) -> str:
    """SHA-1 of a git blob with this content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@contextlib.contextmanager
def timed(seconds: float) -> Iterator[None]:
    """Give the client's requests a time-out while the block runs: by default they wait for ever."""
    session = get_session()
    before = session.timeout
    session.timeout = seconds
    try:
        yield
    finally:
        session.timeout = before


@contextlib.contextmanager
def setting(name: str, value: Any) -> Iterator[None]:
    """Change one of the client's constants, which it reads at each call, while the block runs.

    Blocks of several threads may overlap: the first one changes it, the last one puts it back.
    """
    with _LOCK:
        users, before = _CHANGED.get(name, (0, getattr(constants, name)))
        _CHANGED[name] = (users + 1, before)
        setattr(constants, name, value)
    try:
        yield
    finally:
        with _LOCK:
            users, before = _CHANGED.pop(name)
            if users > 1:
                _CHANGED[name] = (users - 1, before)
            else:
                setattr(constants, name, before)
