"""No module imports itself through others: each can be read, tested and moved with what is below.

Modules of `pe_toolkit`, `cli` and `registry`. Imports inside of functions count, and a name that a
package only passes on (`from pe_toolkit.apply import generate`) counts as an import of the module
that has it. Imports for types alone do not run: a class may say what the parts it was cut into take
(`HubRemote` and `hub_pull`). In `cli` even those make no circle.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
Graph = dict[str, set[str]]


def module_of(path: Path, root: Path = ROOT) -> str:
    words = path.relative_to(root).with_suffix("").parts
    name = ".".join(words if words[0] == "pe_toolkit" else ("pe_toolkit", *words))
    return name.removesuffix(".__init__")


def sources(root: Path = ROOT) -> dict[str, Path]:
    # The links `pe_toolkit/cli` and `pe_toolkit/registry` show the same files again.
    folders = [p for p in (root / "pe_toolkit").iterdir() if p.is_dir() and not p.is_symlink()]
    paths = [*(root / "pe_toolkit").glob("*.py")]
    for folder in [*folders, root / "cli", root / "registry"]:
        paths += folder.rglob("*.py")
    return {module_of(path, root): path for path in paths}


def imports(node: ast.AST, *, types: bool = False) -> Iterator[tuple[str, str | None, bool]]:
    """Module, name and whether it is for types alone, of every import below a node."""
    for child in ast.iter_child_nodes(node):
        below = types
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            below = types or child in node.body
        if isinstance(child, ast.ImportFrom) and child.module:
            for alias in child.names:
                yield child.module, alias.name, below
        elif isinstance(child, ast.Import):
            for alias in child.names:
                yield alias.name, None, below
        else:
            yield from imports(child, types=below)


def graph(paths: dict[str, Path], *, types: bool = False) -> Graph:
    """Module -> the modules that it imports."""
    trees = {module: ast.parse(path.read_text(encoding="utf-8")) for module, path in paths.items()}
    passed_on = {
        (module, name): found
        for module, tree in trees.items()
        if paths[module].name == "__init__.py"
        for found, name, _ in imports(tree)
    }

    def target(module: str, name: str | None) -> str:
        inner = f"{module}.{name}"
        return inner if inner in paths else passed_on.get((module, name), module)

    out: Graph = {}
    for module, tree in trees.items():
        # What a package says for types is the list of its lazy names: it imports none of them.
        own = types and paths[module].name != "__init__.py"
        there = {target(m, name) for m, name, only in imports(tree) if own or not only}
        out[module] = there & set(paths) - {module}
    return out


def in_circles(edges: Graph) -> set[str]:
    """The modules of circles, and of the ways between two of them."""
    left = dict(edges)
    while True:
        used = set().union(*left.values()) if left else set()
        ends = [m for m, there in left.items() if not there & set(left) or m not in used]
        if not ends:
            return set(left)
        for module in ends:
            del left[module]


def test_no_module_imports_itself() -> None:
    assert in_circles(graph(sources())) == set()


def test_no_module_of_the_command_line_imports_itself_for_types() -> None:
    edges = graph(sources(), types=True)
    names = {module for module in edges if module.startswith("pe_toolkit.cli")}
    assert in_circles({module: edges[module] & names for module in names}) == set()


def test_a_circle_is_found(tmp_path: Path) -> None:
    """The guard itself: through a lazy name, inside of a function, and not for types."""
    package = tmp_path / "pe_toolkit" / "apply"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from pe_toolkit.apply.generation import generate\n"
    )
    (package / "request.py").write_text("def f():\n    from pe_toolkit.apply import generate\n")
    (package / "generation.py").write_text("import pe_toolkit.apply.request\n")
    circle = {"pe_toolkit.apply.request", "pe_toolkit.apply.generation"}
    assert in_circles(graph(sources(tmp_path))) == circle
    (package / "request.py").write_text(
        "import typing\nif typing.TYPE_CHECKING:\n    from pe_toolkit.apply import generate\n"
    )
    assert in_circles(graph(sources(tmp_path))) == set()
    assert in_circles(graph(sources(tmp_path), types=True)) == circle
