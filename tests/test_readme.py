"""The Python example of the README is as typed as it looks."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_example_type_checks_strictly(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    [example] = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert "card.pipe_kwargs()" in example
    path = tmp_path / "example.py"
    for code, expected in ((example, 0), (example + "\nx: int = card.pipe_kwargs()\n", 1)):
        path.write_text(code, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-m", "mypy", "--strict", "--config-file", "pyproject.toml", path],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == expected, done.stdout + done.stderr
