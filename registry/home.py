"""Where the local registry lies: `PE_HOME`, else the platform's folder for data of programs."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

from pe_toolkit.errors import UsageError
from pe_toolkit.shown import shown

LONGEST = 480
"""Bytes of the folder's path: SQLite takes 512 for a file in it, on every platform."""


def home() -> Path:
    """The folder of the local registry; it need not exist.

    Raises:
        UsageError: if neither `PE_HOME` nor a home folder is known.
    """
    try:
        chosen = os.environ.get("PE_HOME")
        if chosen:
            return Path(chosen).expanduser().absolute()
        return _platform_folder() / "pe-toolkit"
    except RuntimeError as error:  # no home folder at all, as in some containers
        raise UsageError(
            "Expected a home folder for the registry, but this machine names none.",
            "Set PE_HOME to a folder of your choice.",
        ) from error


def check_length(folder: Path) -> None:
    """Make sure that a registry can lie in a folder, as far as its path tells.

    Raises:
        UsageError: if its path, links followed, or a name in it is too long, or something else
            than a folder lies there.
    """
    if os.path.lexists(folder) and not os.path.isdir(folder):
        kind = "the file " if os.path.isfile(folder) else ""
        raise UsageError(
            f"Expected a folder for the registry, got {kind}{shown(str(folder))}.",
            "Set PE_HOME to a folder of your choice.",
        )
    size = len(os.fsencode(os.path.realpath(folder)))
    if size > LONGEST:
        problem = f"at most {LONGEST} bytes, got {size}"
    else:
        try:
            os.lstat(folder)
            return
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                return
            problem = "names that the disk can hold, got a longer one"
    raise UsageError(
        f"Expected a path of the registry with {problem}: {shown(str(folder))}.",
        "Set PE_HOME to a folder with a shorter path.",
    )


def _platform_folder() -> Path:
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return Path(local) if local else Path.home() / "AppData" / "Local"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support"
    data = Path(os.environ.get("XDG_DATA_HOME", ""))
    # The XDG rules: a relative path is to be ignored.
    return data if data.is_absolute() else Path.home() / ".local" / "share"
