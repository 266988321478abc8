"""The bytes of cards, each under its own SHA-256: `objects/sha256/ab/<64 hex>.safetensors`, or
`looked/...` for cards that were only looked at.

A file appears there whole (written beside, synced, renamed) and never changes. Who may delete is
decided by the index (`store.py`); this module only moves bytes.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pe_toolkit.errors import OutputError
from pe_toolkit.registry.entry import object_path
from pe_toolkit.shown import printable

if TYPE_CHECKING:
    from pe_toolkit.card import CardInfo

ABANDONED_SECONDS = 3600
"""A temporary file that nobody has written to for so long belongs to a process that died."""

_FOLDER = re.compile(r"[0-9a-f]{2}", re.ASCII)
_OBJECT = re.compile(r"[0-9a-f]{64}\.safetensors", re.ASCII)
_ORIGIN = ".origin"
_LONGEST_ORIGIN = 8192
_TEMPORARY = re.compile(r"add-[0-9a-f]{16}\.tmp", re.ASCII)


class Objects:
    """The content-addressed files below `root`."""

    def __init__(self, root: Path, kind: str = "objects") -> None:
        self.folder = root / kind / "sha256"
        self.temporary = root / "tmp"

    def path(self, digest: str) -> Path:
        """Where the card with this digest lies, whether it is there or not."""
        return object_path(self.folder, digest)

    def stage(self, source: Path) -> tuple[Path, CardInfo]:
        """Check `source` completely while it is copied into a temporary file of the store.

        Returns:
            The copy, synced to the disk, and what it says.

        Raises:
            CardError: if it is not a sound card.
            OSError: if the copy cannot be written.
        """
        from pe_toolkit.card.reader import CheckedBytes

        card = CheckedBytes(source)
        pieces = iter(card)
        front = next(pieces)  # what is no card at all leaves no folder behind
        target = self.temporary_path()
        with discarded_on_error(target), open(target, "xb") as write:
            write.write(front)
            write.writelines(pieces)
            write.flush()
            os.fsync(write.fileno())
        # Nobody edits a card in the store by mistake; the umask keeps its say over who may read.
        os.chmod(target, target.stat().st_mode & 0o444)
        return target, card.info

    def publish(self, staged: Path, digest: str) -> None:
        """Give a staged file its place; the index must be locked.

        An object that is there already is replaced: the same bytes, or damaged ones.
        """
        target = self.path(digest)
        new = not target.parent.is_dir()
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.replace(staged, target)
        except PermissionError:  # Windows, while somebody reads the object that is there
            if not target.exists():
                raise
            delete(staged)
        sync_folder(target.parent)
        if new:
            sync_folder(self.folder)

    def note_origin(self, digest: str, origin: str) -> None:
        """Write beside a card where it came from, before it gets its place.

        A new index knows no other way whose card it is, and must not take a stranger's for one of
        ours.
        """
        target = self.path(digest).with_suffix(_ORIGIN)
        target.parent.mkdir(parents=True, exist_ok=True)
        staged = self.temporary_path()
        with discarded_on_error(staged), open(staged, "xb") as write:
            write.write(origin.encode("utf-8"))
            write.flush()
            os.fsync(write.fileno())
        os.replace(staged, target)

    def origin(self, digest: str) -> str | None:
        """Where a card came from, as `note_origin` wrote it; None for a file."""
        try:
            with open(self.path(digest).with_suffix(_ORIGIN), "rb") as stream:
                text = stream.read(_LONGEST_ORIGIN).decode("utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeError):
            return "unknown"  # it came from somewhere
        return text if text.isprintable() and "://" in text else "unknown"

    def delete(self, path: Path) -> bool:
        """Delete an object, and what is noted of it; whether it is gone."""
        gone = delete(path)
        if gone:
            discard(path.with_suffix(_ORIGIN))
        return gone

    def temporary_path(self) -> Path:
        """The path of a new temporary file, in a folder that is there."""
        import secrets  # here, because `pe list` has to start fast

        self.temporary.mkdir(parents=True, exist_ok=True)
        return self.temporary / f"add-{secrets.token_hex(8)}.tmp"

    def all(self) -> Iterator[tuple[str, Path]]:
        """Digest and path of every object. Files of other names are not ours.

        Raises:
            OSError: if a folder cannot be read: that it is empty would be a wrong answer.
        """
        for folder in _names(self.folder):
            if _FOLDER.fullmatch(folder):
                for name in _names(self.folder / folder):
                    if _OBJECT.fullmatch(name):
                        yield self.digest(Path(name)), self.folder / folder / name

    def digest(self, path: Path) -> str:
        """The digest in the name of an object."""
        return f"sha256:{path.stem}"

    def any(self) -> bool:
        """Whether there is one."""
        return next(self.all(), None) is not None

    def clock(self) -> float:
        """Now, in seconds since 1970, by the clock that the times of our files come from: on a
        network disk that is another machine's.
        """
        try:
            path = self.temporary_path()
            path.touch(exist_ok=False)
            with discarded_on_error(path):
                now = path.stat().st_mtime
            discard(path)
        except OSError:  # nothing can be written, so nothing will be deleted either
            return time.time()
        return now

    def abandoned(self, now: float) -> Iterator[Path]:
        """Temporary files of processes that died."""
        before = now - ABANDONED_SECONDS
        for name in _names(self.temporary):
            path = self.temporary / name
            with contextlib.suppress(FileNotFoundError):
                if _TEMPORARY.fullmatch(name) and path.stat().st_mtime < before:
                    yield path


def _names(folder: Path) -> list[str]:
    """Names in a folder; none if there is no such folder."""
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []


def no_file(path: Path) -> str:
    """What lies at a path instead of a file; "" for a file, for nothing, and for what we may not
    look at.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return ""
    if stat.S_ISREG(mode):
        return ""
    kinds = {stat.S_IFIFO: "a named pipe", stat.S_IFDIR: "a folder", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def delete(path: Path) -> bool:
    """Delete a file of the store; whether it is gone."""
    try:
        path.unlink(missing_ok=True)
    except PermissionError:
        try:  # Windows refuses to delete what is read only, and what is open
            os.chmod(path, 0o600)
            path.unlink(missing_ok=True)
        except PermissionError:
            return False
    return True


@contextlib.contextmanager
def discarded_on_error(path: Path) -> Iterator[None]:
    """Delete `path` if the block fails, or is interrupted."""
    try:
        yield
    except BaseException:
        discard(path)
        raise


def discard(path: Path) -> None:
    """Delete `path` if that is possible."""
    with contextlib.suppress(OSError):
        delete(path)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, where the platform can."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def disk_errors(root: Path, to: str = "write into") -> Iterator[None]:
    """`OSError` -> `OutputError` that names the registry."""
    try:
        yield
    except OSError as error:
        place = f" at {printable(str(error.filename))}" if error.filename else ""
        raise OutputError(
            f"Expected to {to} the registry {printable(str(root))}, "
            f"but: {error.strerror or error}{place}.",
            "Check the folder, its permissions and the free space, or set PE_HOME to another one.",
        ) from error
