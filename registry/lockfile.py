"""`pe.lock`: which bytes a project means by the names of its cards.

A small TOML file to be committed beside the project, one table a card, sorted, so that two
branches merge line by line. A pin holds the SHA-256 of the whole file: neither a moved tag, nor a
new version, nor a forged card passes for it. `check` compares all pins; whoever names a card on a
remote gets the pinned one or an error (`resolve.find`).
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from pe_toolkit.errors import OutputError, PeError, UsageError
from pe_toolkit.registry import locktext, objects, signature_files
from pe_toolkit.registry.errors import RegistryBusyError, RegistryError, SignatureError
from pe_toolkit.registry.locksigner import check_signatures
from pe_toolkit.registry.locktext import FILE, Pin, word
from pe_toolkit.registry.references import (
    LocalReference,
    PathReference,
    RemoteReference,
    parse,
)
from pe_toolkit.registry.store import TIMEOUT, Store
from pe_toolkit.shown import printable

if TYPE_CHECKING:
    from pe_toolkit.registry.remotes.base import Pulled

_WAIT = 0.02


def read(path: Path) -> list[Pin]:
    """The pins of a lock file.

    Raises:
        UsageError: if there is no such file.
        RegistryError: if it is not a lock file that we understand.
    """
    where = printable(str(path))
    try:
        # Looked at before it is opened: opening a named pipe would wait for ever.
        if objects.no_file(path):
            raise RegistryError(
                f"Expected the lock file {where}, got a folder, device or pipe.",
                "Remove it, or name another file: pe lock CARD... -f FILE",
            )
        with open(path, "rb") as stream:
            data = stream.read(locktext.MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise UsageError(
            f"Expected the lock file {where}, but there is none.", "Make one: pe lock CARD..."
        ) from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise RegistryError(
            f"Expected to read the lock file {where}, but: "
            f"{getattr(error, 'strerror', None) or error}."
        ) from error
    try:
        return locktext.read(data)
    except ValueError as error:
        raise RegistryError(
            f"Expected {where} to be a lock file, but: {printable(str(error))}.",
            "Take the version of your last commit, or make it anew: delete it, pe lock CARD...",
        ) from error


@contextlib.contextmanager
def changing(path: Path, *, timeout: float = TIMEOUT) -> Iterator[dict[str, Pin]]:
    """The pins by `locktext.key_of` of their cards, to be changed in the block:
    written when it ends well, all or nothing.

    Nobody else changes the file meanwhile, so that two `pe lock` at once lose no pin. Fetch cards
    before: others wait. On Windows, where a folder cannot be locked, the file is read anew and
    replaced in one go, without a lock.

    Raises:
        RegistryBusyError: if another process keeps it for longer than `timeout` seconds.
        RegistryError: if there is a file, but no lock file that we understand.
        OutputError: if it cannot be written.
    """
    with _alone(path, timeout):
        pins = {locktext.key_of(pin.card): pin for pin in (read(path) if path.exists() else [])}
        yield pins
        write(path, list(pins.values()))


@contextlib.contextmanager
def _alone(path: Path, timeout: float) -> Iterator[None]:
    """Lock the folder of a file: a lock that leaves nothing behind, and ends with the process."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    try:
        handle = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise OutputError(
            f"Expected to write {printable(str(path))}, but: {error.strerror or error}.",
            "Check the folder and its permissions.",
        ) from error
    try:
        deadline = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if time.monotonic() >= deadline:
                    raise RegistryBusyError(
                        f"Expected {printable(str(path))} to be free within {timeout:g} s, "
                        "but another `pe lock` is changing it.",
                        "Try again when it is done. A process that was killed keeps no lock.",
                    ) from error
                time.sleep(_WAIT)
            except OSError:  # a file system without locks
                break
            else:
                break
        yield
    finally:
        os.close(handle)


def write(path: Path, pins: Sequence[Pin]) -> None:
    """Write a lock file, all of it or nothing; `changing` is the one for what others may change.

    Raises:
        UsageError: if it would hold more than `read` takes.
        OutputError: if it cannot be written.
    """
    from pe_toolkit.writing import write_atomically

    write_atomically(path, [locktext.render(pins)], force=True)


def pinned_name(text: str, folder: Path) -> str:
    """How a reference is written in a lock file in `folder`."""
    reference = parse(text)
    if isinstance(reference, PathReference):
        return _relative(reference.path, folder)
    return str(reference)


def as_written(pin: Pin, folder: Path) -> str:
    """A pin's reference as seen from the current folder."""
    reference = parse(pin.card)
    if isinstance(reference, PathReference):
        return str(folder.absolute() / reference.path)
    return pin.card


def pinned(reference: RemoteReference, path: Path = FILE) -> Pin | None:
    """The pin of a card on a remote, in the lock file of the current folder; None without one.

    Raises:
        RegistryError: if there is a file, but no lock file that we understand.
    """
    if not os.path.lexists(path):
        return None
    return next((pin for pin in read(path) if locktext.key_of(pin.card) == reference.key), None)


def compare(pin: Pin, pulled: Pulled) -> None:
    """A card came for a pinned reference.

    Raises:
        RegistryError: if it is not the pinned one.
    """
    if pulled.digest == f"sha256:{pin.sha256}":
        return
    raise RegistryError(
        f"Expected {printable(pin.card)} to be sha256:{pin.sha256}, as {FILE} pins it, got "
        f"{pulled.digest}.",
        f"{_elsewhere(pin)}If the change is wanted: pe lock {word(pin.card)}",
    )


def check(pin: Pin, folder: Path) -> PeError | None:
    """What keeps a pinned card from being used as it is, or None. Asks no remote."""
    try:
        reference = parse(pin.card)
        if isinstance(reference, PathReference):
            from pe_toolkit.card import verify_card

            path = folder / reference.path
            found = verify_card(path).sha256
            beside = signature_files.read(signature_files.beside(path))
            signed = [beside] if beside is not None else []
        else:
            store = Store()
            entry = (
                store.resolve(reference)
                if isinstance(reference, LocalReference)
                else store.by_digest(f"sha256:{pin.sha256}")
            )
            found = store.check(entry).digest.removeprefix("sha256:")
            path, signed = entry.path, signature_files.kept(entry.digest)
    except PeError as error:
        hint = _elsewhere(pin).rstrip() or error.hint
        return RegistryError(f"{printable(pin.card)}: {error.message}", hint)
    if found == pin.sha256:
        try:
            check_signatures(pin, path, signed)
        except SignatureError as error:
            return error
        return None
    return RegistryError(
        f"{printable(pin.card)}: Expected sha256:{pin.sha256}, got sha256:{found}.",
        f"If the change is wanted: pe lock {word(pin.card)}",
    )


def _elsewhere(pin: Pin) -> str:
    """Where the pinned card is to be had, without a word that a stranger chose: the lock file comes
    with a project, and what stands here is copied into a shell."""
    return "`origin` in the lock file says where the pinned one came from. " if pin.origin else ""


def _relative(path: Path, folder: Path) -> str:
    """`path` as seen from the lock file, with / on every platform, in the form of a path."""
    path, folder = path.absolute(), folder.absolute()
    try:
        seen = PurePath(os.path.relpath(path, folder)).as_posix()
        if os.path.realpath((folder / seen).parent) != os.path.realpath(path.parent):
            # `..` of a linked folder is not where its text says.
            there = os.path.join(os.path.realpath(path.parent), path.name)
            seen = PurePath(os.path.relpath(there, os.path.realpath(folder))).as_posix()
    except ValueError:  # Windows: another drive
        seen = path.as_posix()
    return seen if isinstance(parse(seen), PathReference) else f"./{seen}"
