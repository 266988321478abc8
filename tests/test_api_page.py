"""docs/api.md says what the sources say, and what is exported says what it is."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pe_toolkit

ROOT = Path(__file__).parent.parent
GENERATE = ROOT / "docs" / "generate_api.py"
# A request has the fields of what it makes, and a card's description is on a page of its own.
ELSEWHERE = ("TrainRequest", "ApplyRequest")


def generator():
    spec = importlib.util.spec_from_file_location("generate_api", GENERATE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_api_page_is_up_to_date() -> None:
    result = subprocess.run(
        [sys.executable, str(GENERATE), "--check"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_everything_exported_is_on_the_page() -> None:
    text = generator().page()
    for name in set(pe_toolkit.__all__) - {"__version__"}:
        assert f"`from pe_toolkit import {name}`" in text


def test_everything_on_the_page_says_what_it_is() -> None:
    """A documentation of its own for each name and method; every field is named in one."""
    page = generator()
    for module, names in page.PARTS.values():
        for name in names or page.public(module):
            inner, _, last = name.rpartition(":")
            where, node, said = page.find(f"{module}.{inner}" if inner else module, last)
            text = said or (ast.get_docstring(node) if isinstance(node, page.Definition) else "")
            assert text, last
            if not isinstance(node, ast.ClassDef):
                continue
            for i, child in enumerate(node.body):
                if isinstance(child, ast.FunctionDef) and not child.name.startswith("_"):
                    known = ast.get_docstring(child) or child.name == "check_together"
                    assert known, f"{last}.{child.name}"
                elif isinstance(child, ast.AnnAssign) and where != "pe_toolkit.card.spec":
                    field = ast.unparse(child.target)
                    told = page.below(node.body, i) or field in text or last in ELSEWHERE
                    assert told, f"{last}.{field}"
