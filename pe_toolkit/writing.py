"""Results on disk: whole, or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from pe_toolkit.errors import OutputError, OutputExistsError
from pe_toolkit.shown import printable

Buffer = bytes | memoryview
_HINTS = {
    errno.ENOSPC: "The disk is full: free some space, or write elsewhere.",
    errno.EDQUOT: "Your disk quota is used up: free some space, or write elsewhere.",
    errno.EACCES: "You may not write in this folder: choose another one.",
    errno.EPERM: "You may not write in this folder: choose another one.",
    errno.EROFS: "This file system is read-only: choose another folder.",
    errno.ENAMETOOLONG: "The file name is too long.",
}
_ELSEWHERE = "Check the folder, its permissions and the free space, or choose another place."


def write_atomically(path: str | Path, chunks: Iterable[Buffer], *, force: bool = False) -> str:
    """Write a whole file, or leave what was there as it was.

    The bytes go to a temporary file in the same folder, which takes the place of `path` only when
    all of them are on the disk.

    Returns:
        SHA-256 of the file, 64 hex digits.

    Raises:
        OutputExistsError: if `path` exists and `force` is not given.
        OutputError: if it cannot be written (disk full, folder missing or not writable).
    """
    target = Path(path)
    where = printable(str(path))
    state = hashlib.sha256()
    try:
        _refuse_existing(target, where, force)
        # 0o666 lets the umask decide, as for any file the user makes.
        temporary = target.parent / f".pe-{secrets.token_hex(8)}.tmp"
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            with open(handle, "wb") as stream:
                for chunk in chunks:
                    state.update(chunk)
                    stream.write(chunk)
                stream.flush()
                os.fsync(stream.fileno())
            _refuse_existing(target, where, force)  # it may have come while we wrote
            os.replace(temporary, target)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        if isinstance(error, OutputExistsError):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        hint = _HINTS.get(getattr(error, "errno", None) or 0, _ELSEWHERE)
        raise OutputError(
            f"Expected to write {where}, but: {reason}.", f"Nothing was left behind. {hint}"
        ) from error
    return state.hexdigest()


def _refuse_existing(target: Path, where: str, force: bool) -> None:
    if target.is_dir():
        raise IsADirectoryError(None, "it is a folder")
    if not force and os.path.lexists(target):
        raise OutputExistsError(
            f"Expected no file at {where}, but there is one.",
            "Use --force to overwrite it, or choose another name.",
        )
