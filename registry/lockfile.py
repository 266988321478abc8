"""`pe.lock`: which bytes a project means by the names of its cards.

A small TOML file to be committed beside the project, one table a card, sorted, so that two
branches merge line by line. A pin holds the SHA-256 of the whole file: neither a moved tag, nor a
new version, nor a forged card passes for it. `check` compares all pins; whoever names a card on a
remote gets the pinned one or an error (`resolve.find`).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from pe_toolkit.card.text import printable, shown
from pe_toolkit.errors import OutputError, PeError, UsageError
from pe_toolkit.registry.errors import RegistryBusyError, RegistryError
from pe_toolkit.registry.references import (
    LocalReference,
    PathReference,
    RemoteReference,
    parse,
)
from pe_toolkit.registry.remotes.errors import UnreachableError
from pe_toolkit.registry.resolve import find
from pe_toolkit.registry.store import TIMEOUT, Store

if TYPE_CHECKING:
    from pe_toolkit.registry.remotes.base import Pulled, Tell

FILE = Path("pe.lock")
FORMAT = 1
MAX_BYTES = 4 << 20
_WAIT = 0.02
_HEAD = "# Written by `pe lock`. Commit it; `pe lock --check` compares.\n"
_HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True)
class Pin:
    """One card of a project."""

    card: str
    """The reference as the project writes it; a path is relative to the lock file."""
    sha256: str
    """SHA-256 of the whole file, 64 hex digits."""
    size: int
    """Bytes."""
    version: str
    origin: str | None = None
    """Where it can be fetched, exactly; None for a file."""


def read(path: Path) -> list[Pin]:
    """The pins of a lock file.

    Raises:
        UsageError: if there is no such file.
        RegistryError: if it is not a lock file that we understand.
    """
    where = printable(str(path))
    try:
        with open(path, "rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise UsageError(
            f"Expected the lock file {where}, but there is none.", "Make one: pe lock CARD..."
        ) from error
    except OSError as error:
        raise RegistryError(
            f"Expected to read the lock file {where}, but: {error.strerror or error}."
        ) from error
    try:
        if len(data) > MAX_BYTES:
            raise ValueError(f"it is larger than {MAX_BYTES} bytes")
        content = tomllib.loads(data.decode("utf-8"))
        if content.get("version") != FORMAT:
            raise ValueError(f"version {shown(content.get('version'))} instead of {FORMAT}")
        return [_pin(table) for table in content.get("card", [])]
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise RegistryError(
            f"Expected {where} to be a lock file, but: {printable(str(error))}.",
            "Take the version of your last commit, or make it anew: delete it, pe lock CARD...",
        ) from error


@contextlib.contextmanager
def changing(path: Path, *, timeout: float = TIMEOUT) -> Iterator[dict[str, Pin]]:
    """The pins by name, to be changed in the block: written when it ends well, all or nothing.

    Nobody else changes the file meanwhile, so that two `pe lock` at once lose no pin. Fetch cards
    before: others wait. On Windows, where a folder cannot be locked, the file is read anew and
    replaced in one go, without a lock.

    Raises:
        RegistryBusyError: if another process keeps it for longer than `timeout` seconds.
        RegistryError: if there is a file, but no lock file that we understand.
        OutputError: if it cannot be written.
    """
    with _alone(path, timeout):
        pins = {pin.card: pin for pin in (read(path) if path.exists() else [])}
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
        handle = os.open(path.parent, os.O_RDONLY)
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
        OutputError: if it cannot be written.
    """
    from pe_toolkit.card.file import write_atomically

    lines = [_HEAD, f"version = {FORMAT}\n"]
    for pin in sorted(pins, key=lambda pin: pin.card):
        lines.append("\n[[card]]\n")
        lines += [f"{k} = {_toml(v)}\n" for k, v in asdict(pin).items() if v is not None]
    try:
        data = "".join(lines).encode("utf-8")
    except UnicodeEncodeError as error:  # a file name that is not text
        raise UsageError(
            "Expected names that UTF-8 can hold, got a file name that it cannot.",
            "Rename that file, or add it to the registry: pe add CARD NAME",
        ) from error
    write_atomically(path, [data], force=True)


def pin(text: str, folder: Path, *, tell: Tell | None = None) -> Pin:
    """Pin what a reference means now.

    Args:
        text: a card in any form.
        folder: where the lock file lies.
        tell: as for `find`.

    Raises:
        UnreachableError: if the remote cannot be asked: a copy of an earlier time is not what the
            reference means now.
        PeError: if there is no such card, or it is not sound.
    """
    from pe_toolkit.card import verify_card

    found = find(text, tell=tell, pinned=False)
    if found.outdated:
        assert found.pulled is not None
        raise UnreachableError(
            f"Expected to ask what {found.reference} is now, but there is only the copy in the "
            "cache, which may be older.",
            "Try again with a connection. To pin that copy all the same, name it exactly: "
            f"pe lock {printable(found.pulled.origin)}",
        )
    info = verify_card(found.path)
    name = pinned_name(text, folder)
    origin = found.entry.origin if found.entry else None
    if found.pulled is not None:  # the same bytes may have come from elsewhere before
        origin = found.pulled.origin
    version = found.entry.version if found.entry else info.spec.version
    return Pin(name, info.sha256, info.size_bytes, version, origin)


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
    return next((pin for pin in read(path) if pin.card == str(reference)), None)


def compare(pin: Pin, pulled: Pulled) -> None:
    """A card came for a pinned reference.

    Raises:
        RegistryError: if it is not the pinned one.
    """
    if pulled.digest == f"sha256:{pin.sha256}":
        return
    pinned_one = f"To use the pinned card: pe pull {printable(pin.origin)}. " if pin.origin else ""
    raise RegistryError(
        f"Expected {printable(pin.card)} to be sha256:{pin.sha256}, as {FILE} pins it, got "
        f"{pulled.digest}.",
        f"{pinned_one}If the change is wanted: pe lock {printable(pin.card)}",
    )


def check(pin: Pin, folder: Path) -> PeError | None:
    """What keeps a pinned card from being used as it is, or None. Asks no remote."""
    try:
        reference = parse(pin.card)
        if isinstance(reference, PathReference):
            from pe_toolkit.card import verify_card

            found = verify_card(folder / reference.path).sha256
        else:
            store = Store()
            entry = (
                store.resolve(reference)
                if isinstance(reference, LocalReference)
                else store.by_digest(f"sha256:{pin.sha256}")
            )
            found = store.check(entry).digest.removeprefix("sha256:")
    except PeError as error:
        again = f"Fetch it: pe pull {pin.origin}" if pin.origin else error.hint
        return RegistryError(f"{printable(pin.card)}: {error.message}", again)
    if found == pin.sha256:
        return None
    return RegistryError(
        f"{printable(pin.card)}: Expected sha256:{pin.sha256}, got sha256:{found}.",
        f"If the change is wanted: pe lock {printable(pin.card)}",
    )


def _relative(path: Path, folder: Path) -> str:
    """`path` as seen from the lock file, with / on every platform, in the form of a path."""
    try:
        seen = PurePath(os.path.relpath(path.absolute(), folder.absolute())).as_posix()
    except ValueError:  # Windows: another drive
        seen = path.absolute().as_posix()
    return seen if isinstance(parse(seen), PathReference) else f"./{seen}"


def _pin(table: dict[str, Any]) -> Pin:
    pin = Pin(**table)
    texts = (pin.card, pin.sha256, pin.version, *([pin.origin] if pin.origin is not None else []))
    if not all(isinstance(text, str) for text in texts) or type(pin.size) is not int:
        raise ValueError("a value of a card has the wrong type")
    if _HEX.fullmatch(pin.sha256) is None:
        raise ValueError(f"sha256 is {shown(pin.sha256)} instead of 64 hex digits")
    return pin


def _toml(value: str | int) -> str:
    """A TOML value: JSON's strings are TOML's, apart from one character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
