"""Where cards are shared: the Hugging Face Hub, and shared folders.

    open_remote(parse("owner/wave")).pull()

Adding a remote is one file: the module `xyz` of this package is the remote of `xyz://...` if it
says so, `SCHEME = "xyz"`, and has a function `connect(reference, *, tell)` that makes a `Remote`
(`base`). No other module is taken for one, and nothing outside this package is looked at.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from pe_toolkit.errors import CardError, OutputExistsError, UsageError
from pe_toolkit.registry import signature_files
from pe_toolkit.registry.references import (
    FORMS,
    HubReference,
    Reference,
    RemoteReference,
    is_scheme,
    parse,
    slug,
)
from pe_toolkit.shown import printable, shown

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

    from pe_toolkit.card import CardInfo
    from pe_toolkit.registry.entry import Entry
    from pe_toolkit.registry.remotes.base import Pulled, Remote, Tell

_MODULES = {"hf": "hub", "file": "folder"}
"""Scheme -> the module of its remote, where that has another name."""


def open_remote(reference: Reference, *, tell: Tell | None = None) -> Remote:
    """The remote that a reference names, bound to it.

    Args:
        tell: told about repetitions, and about the use of a cache.

    Raises:
        UsageError: if it names no remote, or there is none of its scheme.
    """
    from pe_toolkit.registry.remotes.base import silent

    if not isinstance(reference, RemoteReference):
        raise UsageError(
            f"Expected a card on a remote, got {reference}.",
            "Write owner/name for the Hugging Face Hub, or file:///folder/name.",
        )
    module = _module(reference.scheme)
    if module is None:
        *others, last = (f"{scheme}://" for scheme in _schemes())
        known = f"{', '.join(others)} or {last}"
        raise UsageError(f"Expected {known}, got {shown(str(reference))}.", FORMS)
    remote: Remote = module.connect(reference, tell=tell or silent)
    return remote


def _module(scheme: str) -> ModuleType | None:
    """The module of this package that says that it is the remote of a scheme, imported."""
    name = f"{__name__}.{_MODULES.get(scheme, scheme)}"
    if not is_scheme(scheme) or find_spec(name) is None:
        return None
    module = import_module(name)
    # Others lie here too, such as `retry`.
    is_remote = getattr(module, "SCHEME", None) == scheme and hasattr(module, "connect")
    return module if is_remote else None


def _schemes() -> list[str]:
    """Of which there is a remote, in alphabetical order."""
    names = {*_MODULES, *(module.name for module in iter_modules(__path__))}
    return sorted(name for name in names if _module(name) is not None)


def search_remote(where: str | None = None, *, tell: Tell | None = None) -> Remote:
    """The remote to search: a `file://` folder or the like, else the whole Hub.

    Raises:
        UsageError: if `where` is something else.
    """
    if where is None or where.rstrip("/") == "hf:":
        from pe_toolkit.registry.remotes.hub import HubRemote

        return HubRemote(tell=tell) if tell else HubRemote()
    reference = parse(where)
    if not isinstance(reference, RemoteReference) or isinstance(reference, HubReference):
        raise UsageError(f"Expected file:///folder to search, got {where!r}.")
    return open_remote(reference, tell=tell)


def admit(pulled: Pulled) -> Entry:
    """Keep a card that came from a remote, and that a command was only given to look at.

    It gets no name: what a stranger calls a card must not change what a name means here. That is
    what `pe pull` is for. If it has one already, it keeps that.

    Raises:
        CardError: if what came is not a sound card; nothing is kept then.
    """
    from pe_toolkit.registry.intake import Intake
    from pe_toolkit.registry.store import Store

    store = Store()
    entry = store.held(pulled.digest)
    if entry is None:
        with Intake(store) as intake:
            with _its_owners(pulled):
                _same(intake.check(pulled.path), pulled)
            entry = intake.lay_by()
    signature_files.keep(pulled.digest, pulled.signature)
    return entry


def receive(
    remote: Remote,
    name: str | None = None,
    version: str | None = None,
    *,
    force: bool = False,
    accept: Callable[[Pulled], None] | None = None,
) -> tuple[Pulled, Entry]:
    """Pull a card into the local registry; it is read only once.

    Args:
        name: default: what it is called on the remote.
        version: default: that of the card.
        force: as in `Store.add`.
        accept: called with what came, before it is kept; may raise.

    Raises:
        RemoteError: if it cannot be fetched.
        CardError: if it is not a sound card; nothing is kept then.
        OutputExistsError: if name and version belong to another card.
    """
    from pe_toolkit.registry.intake import Intake
    from pe_toolkit.registry.store import Store

    with Intake(Store()) as intake:
        pulled = remote.pull(intake.check)
        if accept is not None:
            accept(pulled)
        if intake.digest != pulled.digest:  # not checked yet, or not sound
            with _its_owners(pulled):
                _same(intake.check(pulled.path), pulled)
        entry = intake.keep(name or slug(pulled.name), version, origin=pulled.origin, force=force)
    signature_files.keep(pulled.digest, pulled.signature)
    return pulled, entry


def save(pulled: Pulled, path: Path, *, force: bool = False) -> CardInfo:
    """Check a card that came from a remote, and write it to a file; its signature beside it.

    Raises:
        CardError: if it is not a sound card; nothing is written then.
        OutputExistsError: if one of the files is there, without `force`.
        OutputError: if it cannot be written.
    """
    from pe_toolkit.card.reader import CheckedBytes
    from pe_toolkit.writing import write_atomically

    beside = signature_files.beside(path)
    if os.path.lexists(beside) and not force:  # it would be taken for that of this card
        raise OutputExistsError(
            f"Expected no file at {printable(str(beside))}, but there is one.",
            "Use --force to overwrite it, or choose another name.",
        )

    card = CheckedBytes(pulled.path)

    def pieces() -> Iterator[bytes]:
        yield from card
        _same(card.info, pulled)  # before anything is visible

    with _its_owners(pulled):
        write_atomically(path, pieces(), force=force)
    if pulled.signature is not None:
        write_atomically(beside, [pulled.signature], force=True)
    else:
        with contextlib.suppress(OSError):  # of the card that was overwritten: it fits nothing now
            beside.unlink()
    return card.info


@contextlib.contextmanager
def _its_owners(pulled: Pulled) -> Iterator[None]:
    """Say of a card that is not sound where it came from, instead of where the copy lies."""
    try:
        yield
    except CardError as error:
        said = error.message.removeprefix(f"{printable(str(pulled.path))}: ")
        hint = error.hint or ""
        if not hint or "Fetch it again" in hint:  # the remote announced just these bytes
            hint = "It lies there like this: tell its owner."
        raise type(error)(f"{pulled.origin}: {said}", f"Nothing was kept. {hint}") from error


def _same(info: CardInfo, pulled: Pulled) -> None:
    """A sound card is not enough: it must be the one that the remote announced."""
    if f"sha256:{info.sha256}" != pulled.digest:
        raise CardError(
            f"Expected {pulled.digest} in {printable(str(pulled.path))}, but the file changed "
            "since it was fetched.",
            "Run the command again.",
        )
