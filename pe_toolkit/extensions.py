"""Parts that other installed packages add by name: entry points (packaging.python.org says how).

A package declares what it adds under a group of ours,

    [project.entry-points."pe_toolkit.objectives"]
    smooth = "my_package.smooth:Smooth"

and after `pip install` its name can be asked for like those that ship with pe-toolkit. Names that
ship cannot be taken over. Looking names up imports nothing of the package; only `load` does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pe_toolkit.errors import DependencyError, UsageError

NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
"""What a part may be called: cards and command lines hold such names."""


def names_in(group: str, own: Mapping[str, str]) -> tuple[str, ...]:
    """All names of a group: ours first, then those of installed packages, sorted.

    Args:
        group: such as `pe_toolkit.objectives`.
        own: name -> `module:attribute`, what ships with pe-toolkit.
    """
    others = {entry.name for entry in _installed(group) if entry.name not in own}
    return (*own, *sorted(others))


def load(group: str, own: Mapping[str, str], name: str, what: str) -> Any:
    """The class or function of that name.

    Args:
        what: one of them in words, for the message, such as `an objective`.

    Raises:
        UsageError: there is none of that name; lists those there are.
        DependencyError: a package adds it, and it cannot be had: names the package.
    """
    if name in own:
        module, _, attribute = own[name].partition(":")
        return getattr(import_module(module), attribute)
    entries = [entry for entry in _installed(group) if entry.name == name]
    if not entries:
        raise UsageError(f"Expected {what} out of {', '.join(names_in(group, own))}, got {name!r}.")
    if len({entry.value for entry in entries}) > 1:
        raise DependencyError(
            f"Expected one package that adds {what} {name!r}, got {_several(entries)}.",
            "Uninstall all but one of them.",
        )
    entry = entries[0]
    if not NAME.fullmatch(name):
        raise DependencyError(
            f"Expected {what} with a name of small letters, digits, - and _, got {name!r} from the "
            f"package {_package(entry)}.",
            "Its author has to rename the entry point.",
        )
    try:
        return entry.load()
    except (Exception, SystemExit) as error:  # whatever a stranger's module does on import
        raise DependencyError(
            f"Expected {what} {name!r} from the package {_package(entry)} ({entry.value}), got "
            f"{in_words(error).rstrip('.')}.",
            f"Update or uninstall that package, or leave {name!r} out.",
        ) from error


def refused(group: str, name: str, what: str, why: str) -> DependencyError:
    """The error for a part that loads and is not what it should be: `why` in words."""
    package = next((_package(e) for e in _installed(group) if e.name == name), "pe-toolkit")
    return DependencyError(
        f"Expected {what} {name!r} from the package {package} to fit, but {why.rstrip('.')}.",
        f"Update or uninstall that package, or leave {name!r} out.",
    )


def in_words(error: BaseException) -> str:
    """What a stranger's code raised, in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _installed(group: str) -> Iterator[EntryPoint]:
    """A package that is found twice on the path (an editable install, say) counts once."""
    yield from dict.fromkeys(entry_points(group=group))


def _package(entry: EntryPoint) -> str:
    found = entry.dist
    return "of an unknown name" if found is None else f"{found.name} {found.version}"


def _several(entries: list[EntryPoint]) -> str:
    return " and ".join(sorted({_package(entry) for entry in entries}))
