"""Semantic versions: which spelling is one, and which of two is higher (semver.org, rule 11)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

VERSION = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?", re.ASCII
)
"""The same spelling as in a card (`CardSpec.version`)."""
MAX_VERSION = 200

Key = tuple[tuple[int, int, int], bool, tuple[tuple[int, int, str], ...], str]


def is_version(text: str) -> bool:
    """Whether `text` is a version such as 1.2.0 or 2.0.0-rc.1."""
    return len(text) <= MAX_VERSION and VERSION.fullmatch(text) is not None


def is_release(text: str) -> bool:
    """Whether a version has no pre-release part."""
    match = VERSION.fullmatch(text)
    return match is not None and match[4] is None


def following(versions: Iterable[str]) -> str:
    """The next release after the highest of some versions: 1.0.1 after 1.0.0 and 1.0.1-rc.1."""
    highest = max(versions, key=order)
    (major, minor, patch), release = order(highest)[:2]
    return f"{major}.{minor}.{patch + release}"


@lru_cache(maxsize=1024)  # long lists have few different versions
def order(text: str) -> Key:
    """Sort key of a version: higher versions have higher keys, pre-releases come before releases.

    Build metadata has no rank in semver; here it breaks ties, so that the order is total.

    Raises:
        ValueError: if `text` is not a version.
    """
    match = VERSION.fullmatch(text)
    if match is None:
        raise ValueError(f"expected a version such as 1.0.0, got {text!r}")
    # The text itself breaks ties: of `-1` and `-01`, and of builds.
    core = (int(match[1]), int(match[2]), int(match[3]))
    if match[4] is None:
        return core, True, (), text
    parts = tuple(
        (0, int(part), "") if part.isdigit() else (1, 0, part) for part in match[4][1:].split(".")
    )
    return core, False, parts, text
