"""Write docs/api.md from the sources of what `pe_toolkit` exports, so that it cannot drift.

python docs/generate_api.py            # write
python docs/generate_api.py --check    # exit 1 and show the difference if it is out of date

It reads the files and imports nothing of the package: no torch is needed, and no version of Python
spells a signature in another way.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import sys
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = Path(__file__).with_name("api.md")
HEAD = """\
# The Python API

<!-- Written by docs/generate_api.py from the sources: edit those, then `make docs`. -->

What `pe_toolkit` exports, and the types that come with it, as the sources say it. Shapes are
written `(F, H, W, 3)`, intervals `[0, 1]`; sizes are in pixels, times in seconds, unless it says
otherwise. Names that are not on this page may change without notice.
"""
PARTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "From `pe_toolkit`": ("pe_toolkit", ()),
    "Requests: what the commands take": (
        "pe_toolkit",
        ("training.request:TrainRequest", "apply.request:ApplyRequest"),
    ),
    "Contexts, and what they give": (
        "pe_toolkit.apply",
        ("contexts:applied", "latents:replay", "positions:Application", "latents:Replay"),
    ),
    "Events of a training": ("pe_toolkit.training.events", ()),
    "Scores": ("pe_toolkit.evaluation.following", ("ReferenceMotion", "Following")),
    "Metrics of a pair of clips": (
        "pe_toolkit.evaluation",
        (
            "names",
            "metric",
            "contract:Metric",
            "contract:Pair",
            "pair:compare",
            "pair:read_pair",
            "pair:tracks_of_both",
            "pair:with_tracks",
            "pair:score",
            "pair:Result",
            "tracks:Tracks",
            "tracks:tracks_of",
            "tracks:load_tracks",
            "tracks:save_tracks",
            "trackers:tracker",
            "trackers.base:Tracker",
            "trackers.base:grid_points",
        ),
    ),
    "Objectives of other packages": (
        "pe_toolkit.objectives",
        ("base:Objective", "base:MotionReference"),
    ),
    "Metrics of tracks and frames": (
        "pe_toolkit.evaluation",
        (
            "directions:mf",
            "directions:mf_speed",
            "directions:mf_official",
            "shapes:hybrid",
            "shapes:hybrid_as_coded",
            "shapes:frechet_distance",
            "shapes:endpoint_error",
            "steadiness:temporal_consistency",
            "steadiness:dynamic_degree",
            "steadiness:moving_consistency",
            "likeness:driving_similarity",
            "likeness:leak",
        ),
    ),
    "Records of scored videos, and their report": (
        "pe_toolkit.evaluation",
        (
            "records:ScoredVideo",
            "records:to_json",
            "records:from_json",
            "report:write_report",
            "report:build_report",
            "report:Column",
            "report:Written",
        ),
    ),
    "Seeing the motion of a clip before training": (
        "pe_toolkit.training",
        ("look", "Look", "look_video", "look_sheet", "drawing:look_panels"),
    ),
    "Pictures": ("pe_toolkit.visual", ()),
    "A card as a picture": ("pe_toolkit.card.plot", ("card_plot", "path_of")),
    "The description of a card": ("pe_toolkit.card.spec", ()),
    "Errors": ("pe_toolkit.errors", ()),
    "The contract of a backbone": ("pe_toolkit.backbones.contract", ()),
}
"""Title -> module, and the names or `module below:name` of it; without any, all that is public."""
ABOUT = ("The description of a card", "Scores", "The contract of a backbone")
"""Parts that begin with what their module says."""
Definition = ast.ClassDef | ast.FunctionDef
KEPT = ("__init__",)
"""Methods that are shown although their names begin with an underscore."""


@cache
def read(module: str) -> tuple[list[str], ast.Module]:
    """Lines and syntax of a module; `cli` and `registry` lie beside the package."""
    words = module.split(".")
    inside = words[1] if len(words) > 1 else ""
    path = ROOT.joinpath(*(words[1:] if inside in ("cli", "registry") else words))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    text = path.read_text(encoding="utf-8")
    return text.splitlines(), ast.parse(text)


def find(module: str, name: str) -> tuple[str, ast.stmt, str]:
    """The module that defines a name, its statement, and the comment below that."""
    _, tree = read(module)
    for i, node in enumerate(tree.body):
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(t, ast.Name) and t.id == name for t in targets):
                return module, node, below(tree.body, i)
        elif isinstance(node, Definition) and node.name == name:
            return module, node, ""
    for node in ast.walk(tree):
        names = [a.asname or a.name for a in node.names] if isinstance(node, ast.ImportFrom) else []
        if isinstance(node, ast.ImportFrom) and node.module and name in names:
            return find(node.module, name)
    raise LookupError(f"{module} has no {name}")


def below(body: list[ast.stmt], i: int) -> str:
    """The text that stands below a statement, as its documentation."""
    node = body[i + 1] if i + 1 < len(body) else None
    said = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return str(node.value.value) if said and isinstance(node.value.value, str) else ""


def public(module: str) -> list[str]:
    """The names that a module offers: its `__all__`, else its classes and types."""
    _, tree = read(module)
    names: list[str] = []
    for i, node in enumerate(tree.body):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            if node.targets[0].id == "__all__":
                return [n for n in ast.literal_eval(node.value) if not n.startswith("__")]
            if below(tree.body, i) or "|" in ast.unparse(node.value):
                names.append(node.targets[0].id)
        elif isinstance(node, Definition):
            names.append(node.name)
    # Classes and types; helpers and constants are no promise.
    return [name for name in names if name[0].isupper() and not name.isupper()]


def lines_of(module: str, first: int, last: int) -> list[str]:
    return read(module)[0][first - 1 : last]


def shown(module: str, node: Definition, indent: str = "") -> Iterator[str]:
    """Decorators, signature and documentation of a function; of a class its fields and methods."""
    first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
    documented = ast.get_docstring(node) is not None
    # The documentation begins on the line after the signature, or it is all one line.
    head = max(node.lineno, node.body[0].lineno - 1)
    last = (node.body[0].end_lineno or head) if documented else head
    *lines, end = lines_of(module, first, last)
    yield from lines
    yield end if documented or isinstance(node, ast.ClassDef) else f"{end} ..."
    if isinstance(node, ast.FunctionDef):
        return
    if documented and len(node.body) > 1 and isinstance(node.body[1], ast.AnnAssign):
        yield ""
    for i, child in enumerate(node.body):
        if isinstance(child, ast.FunctionDef):
            if child.name.startswith("_") and child.name not in KEPT:
                continue
            if child.name == "check_together":
                continue  # of the sections of a card
            yield ""
            yield from shown(module, child, f"{indent}    ")
        elif isinstance(child, ast.AnnAssign) and not ast.unparse(child.target).startswith("_"):
            if "ClassVar" in ast.unparse(child.annotation):
                continue
            field = lines_of(module, child.lineno, child.end_lineno or child.lineno)
            if child.value and ast.unparse(child.value).startswith(("ruled(", "optional(")):
                # The rules of a card's values are in docs/card-format.md.
                field = [
                    f"{indent}    {ast.unparse(child.target)}: {ast.unparse(child.annotation)}"
                ]
            yield from field
            if below(node.body, i):
                after = node.body[i + 1]
                yield from lines_of(module, after.lineno, after.end_lineno or after.lineno)


def entry(module: str, name: str) -> str:
    """One name of the page."""
    where, node, said = find(module, name)
    if isinstance(node, Definition):
        code = "\n".join(shown(where, node))
    else:
        lines = lines_of(where, node.lineno, node.end_lineno or node.lineno)
        code = "\n".join(lines) if len(lines) <= 12 else f"{lines[0]} ..."
        if said:
            code += f'\n"""{said}"""'
    origin = module if module == "pe_toolkit" else where
    return f"### {name}\n\n`from {origin} import {name}`\n\n```python\n{code}\n```\n"


def page() -> str:
    """The whole of docs/api.md."""
    parts = [HEAD]
    for title, (module, names) in PARTS.items():
        parts.append(f"## {title}\n")
        about = ast.get_docstring(read(module)[1]) if title in ABOUT else None
        if about:
            parts.append(f"```text\n{textwrap.dedent(about)}\n```\n")
        for name in names or public(module):
            inner, _, last = name.rpartition(":")
            parts.append(entry(f"{module}.{inner}" if inner else module, last))
    return "\n".join(parts)


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    wanted = page()
    if not parser.parse_args().check:
        PAGE.write_text(wanted, encoding="utf-8", newline="\n")
        return 0
    found = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    if found == wanted:
        return 0
    difference = difflib.unified_diff(
        found.splitlines(), wanted.splitlines(), "docs/api.md", "the sources", lineterm=""
    )
    print("\n".join(difference))
    print("docs/api.md is out of date: run `make docs`.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
