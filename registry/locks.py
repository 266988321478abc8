"""Who may use the index: the locks of SQLite, or a lock file on disks whose locks do nothing.

Some network disks grant every lock to everybody, others know none. SQLite cannot tell, and damages
an index that two processes change at once. So whoever is about to write looks first whether a
second handle is really locked out. If not, a mark beside the index says so for ever, to everybody
on whatever machine, and a lock file that only one process can make takes the place of the locks.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import struct
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from pe_toolkit.registry import objects
from pe_toolkit.registry.errors import LocksWarning, RegistryBusyError
from pe_toolkit.shown import printable

MARK = "index.nolocks"
"""Says that the locks of this disk do nothing. A file that stays."""
FILE = "index.lock"
STALE_SECONDS = 3600
"""A lock file of another machine that is so old belongs to a process that died."""
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL)
"""What disks without hard links say: there, a lock file is empty for a moment."""
_WAIT = 0.02
_YOUNG = 60
"""Seconds in which whoever made a lock file has written into it, or is dead."""
_TEXT = "The locks of this disk do nothing ({}), so pe makes a lock file. Do not delete this.\n"
_CHILD = """
import fcntl, sys
with open(sys.argv[1], "r+b") as stream:
    try:
        fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        sys.exit(0)
sys.exit(1)
"""

_sound: set[Path] = set()
"""Folders of whose locks this process knows that they work."""
_mine = threading.local()


def check(root: Path, probe: Path) -> str | None:
    """Look, once in a process, whether the locks of a registry's disk work; mark it if not.

    Args:
        root: folder of the registry.
        probe: path of a file in it that may be made, and is deleted.

    Returns:
        None if they work, or if that cannot be tried, else what is wrong.

    Warns:
        LocksWarning: when the mark is made.
    """
    if root in _sound:
        return None
    mark = root / MARK
    if os.path.exists(mark):
        return "it is marked so"
    try:
        probe.touch(exist_ok=False)
        try:
            fault = _fault(probe)
        finally:
            probe.unlink()
    except OSError:  # a registry that we may only read
        return None
    if fault is None:
        _sound.add(root)
        return None
    with contextlib.suppress(FileExistsError), open(mark, "x", encoding="utf-8") as stream:
        stream.write(_TEXT.format(fault))
        warnings.warn(
            f"The disk of the registry {printable(str(root))} does not lock files: {fault}. A lock "
            "file is used instead, which is slower. Or set PE_HOME to a local disk.",
            LocksWarning,
            stacklevel=2,
        )
    return fault


def _fault(probe: Path) -> str | None:
    """What is wrong with the locks of a disk, tried on a file; None if a second handle is kept
    out.
    """
    if sys.platform == "win32":
        return None  # its locks are mandatory, and the server's own on a network disk
    import fcntl

    set_lock = getattr(fcntl, "F_OFD_SETLK", None)
    with open(probe, "r+b") as first, open(probe, "r+b") as second:
        try:
            if set_lock is not None:  # Linux: each handle for itself, also within a process
                lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
                fcntl.fcntl(first, set_lock, lock)
                try:
                    fcntl.fcntl(second, set_lock, lock)
                except BlockingIOError:
                    return None
                return "two handles get the same lock"
        except OSError as error:
            if error.errno != errno.EINVAL:  # a kernel, or a disk, that knows only the other kind
                return error.strerror
    return in_a_child(probe)


def in_a_child(probe: Path) -> str | None:
    """As `_fault`, with a second process, because POSIX locks hold between processes only."""
    import fcntl
    import subprocess  # here, because `pe list` has to start fast

    if not sys.executable:
        return None
    with open(probe, "r+b") as stream:
        try:
            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return error.strerror
        command = [sys.executable, "-I", "-S", "-c", _CHILD, str(probe)]
        done = subprocess.run(command, capture_output=True, check=False)
    return "two processes get the same lock" if done.returncode == 1 else None


@contextlib.contextmanager
def alone(root: Path, timeout: float) -> Iterator[bool]:
    """Lock out others by a file, if the disk is marked as one whose locks do nothing.

    Yields:
        Whether that is so: then the locks of SQLite are to be left out.

    Raises:
        RegistryBusyError: if another process keeps it for longer than `timeout` seconds.
    """
    if not os.path.exists(root / MARK):
        yield False
        return
    path = root / FILE
    held: dict[Path, int] = _mine.__dict__.setdefault("held", {})
    if held.get(path):  # a rebuild looks into the index that it has locked
        yield True
        return
    token = _take(path, timeout)
    held[path] = 1
    try:
        yield True
    finally:
        held.pop(path)
        with contextlib.suppress(OSError):
            if token and _read(path) == token:
                path.unlink()


def _take(path: Path, timeout: float) -> str:
    """Make the lock file; what is in it. "" if this is a folder that we may only read."""
    token = _token()
    deadline = time.monotonic() + timeout
    while True:
        try:
            _make(path, token)
            return token
        except FileExistsError:
            there = _read(path)
        except PermissionError:
            return ""
        except OSError as error:
            if error.errno == errno.EROFS:
                return ""
            raise
        if there is not None and _is_stale(path, there):
            _break(path, there)
        elif time.monotonic() >= deadline:
            raise busy(path.parent, timeout, *_holder(path, there))
        else:
            time.sleep(_WAIT)


def _token() -> str:
    """Who we are, and which time this is."""
    return json.dumps({"host": _host(), "pid": os.getpid(), "token": secrets.token_hex(8)})


def _make(path: Path, token: str) -> None:
    """Make a file that was not there, with its content at once: whoever is killed meanwhile leaves
    no empty one, of which nobody could know whose it is.

    Raises:
        FileExistsError: it is there.
    """
    own = path.with_name(f"{FILE}.{secrets.token_hex(8)}")
    try:
        own.write_text(token, encoding="ascii")
        os.link(own, path)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        with open(path, "x", encoding="ascii") as stream:
            stream.write(token)
    finally:
        with contextlib.suppress(OSError):
            own.unlink()


def _read(path: Path) -> str | None:
    if objects.no_file(path):  # to read a named pipe would wait for ever
        return None
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return None


def _parsed(text: str | None) -> tuple[str, int]:
    """Host and process of a lock file; ("", 0) if it does not say."""
    try:
        said = json.loads(text or "")
        return str(said["host"]), int(said["pid"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return "", 0


def _is_stale(path: Path, text: str) -> bool:
    """Whether whoever made a lock file is dead, as far as we can know."""
    host, pid = _parsed(text)
    if host == _host() and pid > 0 and os.name != "nt":
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        except OSError:  # it lives, and is somebody else's
            return False
        return False
    return _age(path) > (STALE_SECONDS if host else _YOUNG)


def _age(path: Path) -> float:
    """Seconds since a file was written, by the clock of its disk."""
    probe = path.with_name(f"{FILE}.{secrets.token_hex(8)}")
    try:
        probe.touch(exist_ok=False)
        try:
            return probe.stat().st_mtime - path.stat().st_mtime
        finally:
            probe.unlink()
    except OSError:
        return 0


def _break(path: Path, text: str) -> None:
    """Take a dead process's lock file away. One at a time, or the new lock of another might go."""
    guard = path.with_name(f"{FILE}.breaking")
    try:
        _make(guard, _token())
    except FileExistsError:
        there = _read(guard)
        if there is not None and _is_stale(guard, there):
            guard.unlink(missing_ok=True)
        time.sleep(_WAIT)
        return
    try:
        if _read(path) == text:
            path.unlink(missing_ok=True)
    finally:
        guard.unlink(missing_ok=True)


def _host() -> str:
    """This machine, and in a container this container: where a process number means something."""
    import socket  # here, because `pe list` has to start fast

    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return f"{socket.gethostname()} {space}".strip()


def _holder(path: Path, text: str | None) -> tuple[str, str]:
    host, pid = _parsed(text)
    who = f"process {pid} on {printable(host.split()[0])}" if host else "another pe process"
    return who, f"Try again when it is done. If it does not run any more: delete {path}"


def busy(root: Path, timeout: float, who: str, hint: str | None = None) -> RegistryBusyError:
    """The error for a registry that somebody else keeps locked."""
    return RegistryBusyError(
        f"Expected the registry {printable(str(root))} to be free within {timeout:g} s, but "
        f"{who} keeps it locked.",
        hint or "Try again when it is done. A process that was killed keeps no lock.",
    )
