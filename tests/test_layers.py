"""The layers of the package: imports go down only (the contract stands in pyproject.toml)."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CONTRACT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
    "importlinter"
]["contracts"][0]
LINKED = all((ROOT / "pe_toolkit" / name / "__init__.py").is_file() for name in ("cli", "registry"))
needs_links = pytest.mark.skipif(not LINKED, reason="a checkout without symbolic links")


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    code = "import sys; from importlinter.cli import lint_imports_command as c; c()"
    return subprocess.run(
        [sys.executable, "-c", code, "--no-cache", "--config", str(folder / "pyproject.toml")],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


@needs_links
def test_imports_go_down_only() -> None:
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


@needs_links
def test_an_upward_import_is_reported(tmp_path: Path) -> None:
    """The guard itself: a skeleton with one wrong import must fail, and without it must pass."""
    package = tmp_path / "pe_toolkit"
    package.mkdir()
    (tmp_path / "pyproject.toml").write_text(
        (ROOT / "pyproject.toml").read_text(encoding="utf-8"), encoding="utf-8"
    )
    names = {"__init__", *re.findall(r"\w+", " ".join(CONTRACT["layers"]))}
    for name in names - {"backbones"}:
        (package / f"{name}.py").touch()
    family = package / "backbones" / "cogvideox"
    family.mkdir(parents=True)
    for folder in (family.parent, family):
        (folder / "__init__.py").touch()
    (package / "__init__.py").write_text(
        "import pe_toolkit.cli\n", encoding="utf-8"
    )  # lazy exports
    result = lint_imports(tmp_path)
    assert result.returncode == 0, result.stdout
    (package / "card.py").write_text("import pe_toolkit.cli\n", encoding="utf-8")
    result = lint_imports(tmp_path)
    assert result.returncode != 0
    assert "pe_toolkit.card -> pe_toolkit.cli" in result.stdout
    (package / "card.py").write_text("", encoding="utf-8")
    (package / "training.py").write_text("import pe_toolkit.backbones.cogvideox\n", "utf-8")
    result = lint_imports(tmp_path)
    assert result.returncode != 0
    assert "pe_toolkit.training -> pe_toolkit.backbones.cogvideox" in result.stdout


def test_contract_names_every_module() -> None:
    """`exhaustive` makes import-linter check that too; this one says so in one line."""
    listed = set(re.findall(r"\w+", " ".join(CONTRACT["layers"])))
    there = {path.stem for path in (ROOT / "pe_toolkit").iterdir() if path.suffix == ".py"}
    there |= {path.parent.name for path in (ROOT / "pe_toolkit").glob("*/__init__.py")}
    there |= {"cli", "registry"}
    assert there - {"__init__"} <= listed


@pytest.mark.parametrize("folder", ["pe_toolkit", "cli", "registry"])
def test_only_the_version_comes_from_the_package_itself(folder: str) -> None:
    """`from pe_toolkit import train` would reach any layer past the contract."""
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "pe_toolkit":
                names = {alias.name for alias in node.names}
                assert names <= {"__version__"}, f"{path}:{node.lineno}"


@pytest.mark.parametrize("name", ["cli", "registry"])
def test_top_level_names_are_never_imported(name: str) -> None:
    """From the root of a checkout `import cli` would work, as a twin of `pe_toolkit.cli`."""
    pattern = re.compile(rf"^\s*(?:from|import)\s+(?:{name}\b|\.)", re.MULTILINE)
    for folder in ("pe_toolkit", "cli", "registry", "benchmarks", "tests"):
        for path in (ROOT / folder).rglob("*.py"):
            assert not pattern.search(path.read_text(encoding="utf-8")), path
