"""Where the local registry lies: `PE_HOME`, else the platform's folder for data of programs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pe_toolkit.errors import UsageError


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


def _platform_folder() -> Path:
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return Path(local) if local else Path.home() / "AppData" / "Local"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support"
    data = Path(os.environ.get("XDG_DATA_HOME", ""))
    # The XDG rules: a relative path is to be ignored.
    return data if data.is_absolute() else Path.home() / ".local" / "share"
