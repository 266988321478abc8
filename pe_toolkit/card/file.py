"""Writing a card: the same bytes for the same content, and all of the file or nothing."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pe_toolkit.card.header import encode_header, file_order
from pe_toolkit.card.spec import CardSpec
from pe_toolkit.card.text import printable
from pe_toolkit.errors import OutputError, OutputExistsError

if TYPE_CHECKING:
    from pe_toolkit.card.tensors import Array

Buffer = bytes | memoryview


def card_chunks(spec: CardSpec, tensors: Mapping[str, Array]) -> Iterator[Buffer]:
    """The bytes of a card file, piece by piece; the description and tensors were checked before."""
    from pe_toolkit.card.tensors import layout_of, tensor_bytes  # numpy, for this function only

    layout = layout_of(tensors)
    yield encode_header(spec.canonical(), layout)
    for name in file_order(layout):
        yield tensor_bytes(tensors[name])


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
        raise OutputError(
            f"Expected to write {where}, but: {reason}.",
            "Nothing was left behind. Check the folder, its permissions and the free space, "
            "or choose another place.",
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
