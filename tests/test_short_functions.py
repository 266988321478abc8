"""A function fits on a screen, with its documentation; those that do not, each with its reason."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LONGEST = 60
DOCUMENTED = "many arguments, each with a line of documentation; its code alone is short"
LONG = {
    "pe_toolkit/apply/contexts.py applied": DOCUMENTED,
    "pe_toolkit/apply/generation.py generate": DOCUMENTED,
    "pe_toolkit/backbones/loading/load.py load_backbone": DOCUMENTED,
    "pe_toolkit/card/compat.py check_fits": DOCUMENTED,
    "pe_toolkit/training/trainer.py train": DOCUMENTED,
    "pe_toolkit/video/clip.py read_clip": DOCUMENTED,
    "benchmarks/backbone/__main__.py main": "the arguments and the order of the stages",
    "benchmarks/cuda_runs.py generations": "small functions inside, which share what is measured",
    "benchmarks/models.py build": "one model, written out",
    "benchmarks/report.py estimates": "one table of the report, row by row",
    "benchmarks/transfer.py main": "the arguments and the order of the whole benchmark",
}


def functions(folder: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for path in sorted((ROOT / folder).rglob("*.py")):
        where = path.relative_to(ROOT)
        if any((ROOT / parent).is_symlink() for parent in where.parents):
            continue  # pe_toolkit/cli and pe_toolkit/registry show the same files again
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{where.as_posix()} {node.name}", node


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (node.end_lineno or 0) - node.lineno + 1


@pytest.mark.parametrize("folder", ["pe_toolkit", "cli", "registry", "benchmarks"])
def test_functions_are_short(folder: str) -> None:
    long = {name for name, node in functions(folder) if length(node) > LONGEST}
    assert long <= set(LONG)


def test_what_is_long_for_its_documentation_is_short_without() -> None:
    for name, node in functions("pe_toolkit"):
        if LONG.get(name) == DOCUMENTED:
            first = node.body[0]
            assert length(node) - ((first.end_lineno or 0) - first.lineno + 1) <= LONGEST, name
