"""What a benchmark that can be stopped keeps: lines of JSON, and the settings they were made with.

Imported by `classes`, `edited_classes`, `paired` and `real`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def lines(path: Path) -> list[dict[str, Any]]:
    """What there is; a line that was cut off while it was written counts as not there."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def add(path: Path, line: Mapping[str, Any]) -> None:
    """One line more, on a line of its own also after one that was cut off."""
    with path.open("a+b") as file:
        file.seek(max(0, file.tell() - 1))
        cut = file.read(1) not in (b"", b"\n")
        file.write(b"\n" * cut + json.dumps(line).encode() + b"\n")


def same_settings(place: Path, settings: Mapping[str, Any]) -> None:
    """Refuse to go on with results that were made otherwise; the first run says how.

    Args:
        place: where the settings are kept, beside the results.
    """
    if not place.is_file():
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
        return
    before = json.loads(place.read_text(encoding="utf-8"))
    for name, value in settings.items():
        if before.get(name) != value:
            raise SystemExit(
                f"Expected {name} {before.get(name)}, with which the results beside {place} were "
                f"made, got {value}: name another place for these."
            )
