"""docs/architecture.md and docs/backbones.md name files that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PLACES = (ROOT, ROOT / "pe_toolkit", ROOT / "pe_toolkit" / "backbones")


def named(page: str) -> set[str]:
    """Paths in backticks; with `NAME` in them they are of what somebody is to write."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    found = re.findall(r"`([\w./]+(?:\.py|\.md|/))`", text)
    return {path for path in found if "NAME" not in path}


@pytest.mark.parametrize("page", ["architecture.md", "backbones.md"])
def test_every_file_that_is_named_is_there(page: str) -> None:
    paths = named(page)
    assert len(paths) > 10
    assert {p for p in paths if not any((place / p).exists() for place in PLACES)} == set()


def test_every_floor_is_on_the_page() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    folders = {path.parent.name for path in (ROOT / "pe_toolkit").glob("*/__init__.py")}
    assert {name for name in folders if f"{name}/" not in text} == set()
