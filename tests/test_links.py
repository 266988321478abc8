"""The links of the documentation lead somewhere, and the checker knows those that do not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CHECK = Path(__file__).parent.parent / "docs" / "check_links.py"


def check(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(CHECK), *map(str, words)], capture_output=True, text=True, check=False
    )


def test_every_link_leads_somewhere() -> None:
    done = check()
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("link", "fault"),
    [
        ("other.html", None), ("other.html#here", None), ("#own", None), (".", None),
        ("https://example.com/nowhere", None), ("mailto:a@example.com", None),
        ("missing.html", "no such file"), ("other.html#there", "no such heading"),
        ("#nothing", "no such heading"),
    ],
)  # fmt: skip
def test_it_knows_a_broken_link(tmp_path: Path, link: str, fault: str | None) -> None:
    (tmp_path / "index.html").write_text(f'<p id="own"><a href="{link}">x</a>')
    (tmp_path / "other.html").write_text('<p id="here">')
    done = check(tmp_path)
    assert done.returncode == (0 if fault is None else 1)
    assert (fault or "every link leads somewhere") in done.stdout


def test_every_section_of_the_experiments_is_named_on_their_page() -> None:
    docs = CHECK.parent
    index = (docs / "experiments.md").read_text(encoding="utf-8")
    for page in sorted((docs / "experiments").glob("*.md")):
        for line in page.read_text(encoding="utf-8").splitlines():
            if line.startswith("## "):
                assert f"[{line[3:]}](experiments/{page.name}#" in index, (page.name, line)
