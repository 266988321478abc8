"""The public names of `pe_toolkit`: complete, sorted, lazy, and as typed as they look."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pe_toolkit

SOURCE = ast.parse(Path(pe_toolkit.__file__).read_text(encoding="utf-8"))


def typed_imports() -> dict[str, str]:
    """Name -> module, from the `if TYPE_CHECKING:` block that type checkers read."""
    block = next(node for node in SOURCE.body if isinstance(node, ast.If))
    return {
        alias.name: str(node.module)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_type_checkers_and_the_interpreter_see_the_same_names() -> None:
    assert typed_imports() == pe_toolkit._WHERE
    assert set(pe_toolkit.__all__) == {*pe_toolkit._WHERE, "__version__"}


def test_all_is_sorted_and_has_no_duplicates() -> None:
    # In the order that ruff (RUF022) keeps: constants, classes, the rest.
    names = pe_toolkit.__all__
    order = sorted(names, key=lambda n: (0 if n.isupper() else 1 if n[0].isupper() else 2, n))
    assert names == order
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", pe_toolkit.__all__)
def test_name_exists(name: str) -> None:
    assert getattr(pe_toolkit, name) is not None
    assert name in dir(pe_toolkit)


@pytest.mark.parametrize("name", sorted(pe_toolkit._WHERE))
def test_public_name_is_documented(name: str) -> None:
    value = getattr(pe_toolkit, name)
    if isinstance(value, type) or callable(value):
        assert value.__doc__, name


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = pe_toolkit.no_such_name  # type: ignore[attr-defined]


def test_version_is_semantic() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+(rc\d+)?", pe_toolkit.__version__)


def test_submodules_do_not_hide_public_names() -> None:
    """Importing a submodule binds its name in the package: it must not be one of ours."""
    folder = Path(pe_toolkit.__file__).parent
    submodules = {path.stem for path in folder.iterdir() if not path.name.startswith("_")}
    assert not submodules.intersection(pe_toolkit.__all__)


def test_python_m_runs_the_command_line() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "pe_toolkit", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert pe_toolkit.__version__ in result.stdout
