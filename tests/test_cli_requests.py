"""The options of a command are one typed value from the first line of the command on."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import MISSING, fields
from importlib import import_module
from pathlib import Path

import click
import pytest

from pe_toolkit.cli.main import COMMANDS
from pe_toolkit.cli.requests.apply import ApplyOptions
from pe_toolkit.cli.requests.demo import DemoOptions
from pe_toolkit.cli.requests.doctor import DoctorOptions
from pe_toolkit.cli.requests.edit import EditOptions
from pe_toolkit.cli.requests.eval import EvalOptions
from pe_toolkit.cli.requests.flow import FlowOptions
from pe_toolkit.cli.requests.train import TrainOptions
from pe_toolkit.cli.requests.ui import UiOptions
from pe_toolkit.errors import OPTIONS, option

ROOT = Path(__file__).parent.parent
CLI = sorted((ROOT / "cli").rglob("*.py"))
TYPES = {
    "apply": ApplyOptions, "demo": DemoOptions, "doctor": DoctorOptions, "edit": EditOptions,
    "eval": EvalOptions, "flow": FlowOptions, "train": TrainOptions, "ui": UiOptions,
}  # fmt: skip
BAG = re.compile(r"\b(dict|Dict|Mapping|MutableMapping)\[str, Any\]")


def command(name: str) -> click.Command:
    found = getattr(import_module(f"pe_toolkit.cli.commands.{name}"), name)
    assert isinstance(found, click.Command)
    return found


def functions(path: Path) -> Iterator[ast.FunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            yield node


@pytest.mark.parametrize("name", TYPES)
def test_every_option_is_a_field(name: str) -> None:
    params = {p.name: p for p in command(name).params if p.expose_value}
    own = {field.name for field in fields(TYPES[name])}
    assert set(params) <= own
    # What a command cannot be told stays as the library has it.
    optional = {
        field.name
        for field in fields(TYPES[name])
        if field.default is not MISSING or field.default_factory is not MISSING
    }
    assert own - set(params) <= optional


@pytest.mark.parametrize("name", TYPES)
def test_messages_call_an_option_by_its_name(name: str) -> None:
    options = [p for p in command(name).params if isinstance(p, click.Option) and p.expose_value]
    for param in options:
        assert option(str(param.name)) in param.opts


def test_no_name_is_kept_that_no_command_has() -> None:
    known = {param.name for name in TYPES for param in command(name).params}
    assert set(OPTIONS) <= known


def test_no_function_takes_a_dictionary_of_options() -> None:
    for path in CLI:
        for function in functions(path):
            args = function.args
            for arg in (*args.posonlyargs, *args.args, *args.kwonlyargs):
                said = ast.unparse(arg.annotation) if arg.annotation else ""
                assert not BAG.search(said), f"{path}:{function.lineno} {arg.arg}: {said}"


def test_what_click_parsed_becomes_a_request_at_once() -> None:
    """`**parsed` of a command goes into one call, and nothing else looks at it."""
    for path in CLI:
        if path.parent.name != "commands":
            continue
        for function in functions(path):
            if function.args.kwarg is None:
                continue
            name = function.args.kwarg.arg
            nodes = [node for line in function.body for node in ast.walk(line)]
            seen = [n for n in nodes if isinstance(n, ast.Name) and n.id == name]
            words = [word for n in nodes if isinstance(n, ast.Call) for word in n.keywords]
            into = [word for word in words if word.arg is None and word.value in seen]
            assert len(seen) == len(into) == 1, f"{path}:{function.lineno}"


def test_every_command_has_typed_parameters_or_a_request() -> None:
    for name in COMMANDS:
        (found,) = (
            f for f in functions(ROOT / "cli" / "commands" / f"{name}.py") if f.name == name
        )
        assert (found.args.kwarg is not None) == (name in TYPES)
