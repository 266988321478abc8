"""What an option or an argument takes: paths, sizes, numbers, devices, cards."""

from __future__ import annotations

import math
import os
import re
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from pe_toolkit.registry.references import LocalReference

    Kind = click.ParamType[Any]
else:
    Kind = click.ParamType  # older clicks cannot be subscripted


class FilePath(click.Path):
    """A path that is not empty: `Path("")` is the current folder, which nobody meant."""

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Any:
        if value == "":
            self.fail("expected the name of a file, got an empty one.", param, ctx)
        return super().convert(value, param, ctx)


PATH = FilePath(path_type=Path)
MAX_SEED = 2**62  # seeds count up from here, and a card holds up to 2**63 - 1


class Size(Kind):
    """`720x480` -> `(720, 480)`: width and height in pixels."""

    name = "WxH"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"([1-9]\d{0,4})[xX]([1-9]\d{0,4})", value.strip(), re.ASCII)
        if match is None:
            self.fail(f"expected width x height in pixels such as 720x480, got {value!r}.", param)
        return int(match[1]), int(match[2])


class Pair(Kind):
    """`tau=6` -> `("tau", "6")`."""

    name = "KEY=VALUE"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        key, equals, rest = value.partition("=")
        if not (equals and key.strip() and rest.strip()):
            self.fail(f"expected KEY=VALUE such as tau=6, got {value!r}.", param)
        return key.strip(), rest.strip()


class Override(Pair):
    """A `Pair` of a training's settings: completes keys, and values where there are few."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        from pe_toolkit.training.config import override_examples

        return [CompletionItem(text) for text in override_examples() if text.startswith(incomplete)]


class Named(Kind):
    """A name out of a table that installed packages add to: checked when it is looked up.

    Args:
        module: whose `names()` lists them; imported to complete a word only.
    """

    name = "NAME"

    def __init__(self, module: str) -> None:
        self.module = module

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return str(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        names = import_module(self.module).names()
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


class Metrics(Kind):
    """`mf,leak` -> `("mf", "leak")`; names are checked when the metrics are loaded."""

    name = "A,B"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = tuple(dict.fromkeys(name.strip() for name in value.split(",")))
        if not all(names):
            self.fail(f"expected names of metrics such as mf,leak, got {value!r}.", param)
        return names

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        from pe_toolkit.evaluation import names

        before, comma, last = incomplete.rpartition(",")
        found = [name for name in names() if name.startswith(last)]
        return [CompletionItem(before + comma + name) for name in found]


class Backbone(Kind):
    """A name of the catalogue, `auto` where the command has it, a folder or a Hub id."""

    name = "NAME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return str(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        from pe_toolkit.backbones.catalogue.variants import VARIANTS

        names = ["auto", *VARIANTS] if param.default == "auto" else list(VARIANTS)
        fitting = [CompletionItem(name) for name in names if name.startswith(incomplete)]
        return fitting or [CompletionItem(incomplete, type="dir")]


class Finite(Kind):
    """A finite number from `low` to `high` (click's own range lets NaN and infinity through)."""

    name = "number"

    def __init__(self, low: float, high: float, *, above: bool = False) -> None:
        self.low, self.high, self.above = low, high, above

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not self.low <= number <= self.high or (self.above and number == self.low):
            span = f"above {self.low:g}" if self.above else f"from {self.low:g}"
            self.fail(f"expected a number {span} up to {self.high:g}, got {value!r}.", param)
        return number


class Region(Kind):
    """`16,0,64,128` -> four whole numbers: left, top, width, height in pixels of the clip."""

    name = "X,Y,W,H"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int, int, int]:
        if isinstance(value, tuple):
            return value
        try:
            x, y, width, height = (int(part) for part in value.split(","))
        except ValueError:
            self.fail(f"expected left,top,width,height in pixels, got {value!r}.", param, ctx)
        if min(x, y) < 0 or min(width, height) < 1:
            self.fail(f"expected a region in the picture, got {value!r}.", param, ctx)
        return x, y, width, height


class Device(Kind):
    """`cpu`, `cuda`, `cuda:1`, `xpu`, `mps`."""

    name = "device"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if re.fullmatch(r"(cpu|mps|(cuda|xpu)(:\d{1,3})?)", value, re.ASCII) is None:
            self.fail(f"expected cpu, cuda, cuda:N, xpu or mps, got {value!r}.", param)
        return str(value)


class Card(Kind):
    """A card in any form: a path, a name in the local registry, or on the Hub -> a file.

    A card on a remote is fetched when the command line is read. Without `resolve` the text itself
    comes out, for commands that take one bad card among others (`pe_toolkit.cli.remote.find`).
    """

    name = "CARD"

    def __init__(self, *, resolve: bool = True) -> None:
        self.resolve = resolve

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Path | str:
        if isinstance(value, Path) or not self.resolve or (ctx and ctx.resilient_parsing):
            return value  # type: ignore[no-any-return]
        from pe_toolkit.cli.errors import Session
        from pe_toolkit.cli.remote import find

        session = (ctx and ctx.find_object(Session)) or Session()
        found = find(session, value)
        entry = found.entry
        session.card_name = entry.name if entry is not None else ""
        session.card_called = value if entry is None else str(entry.reference)
        return found.path

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        names = _local_names(incomplete)
        # The file comes first: click's script for bash forgets what was before it.
        items = [CompletionItem(incomplete, type="file"), *names]
        if names and os.environ.get("_PE_COMPLETE") == "bash_complete":
            items += _cards_here(incomplete)  # bash looks for files only if there is nothing else
        return items


class LocalCard(Kind):
    """`wave@1.2.0` -> a reference into the local registry, whether or not it is there."""

    name = "NAME[@V]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> LocalReference:
        from pe_toolkit.registry.references import LocalReference, local

        return value if isinstance(value, LocalReference) else local(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return _local_names(incomplete)


def _local_names(incomplete: str) -> list[CompletionItem]:
    """Names in the local registry, and once there is an @, their versions."""
    from click.shell_completion import CompletionItem

    from pe_toolkit.errors import PeError
    from pe_toolkit.registry.store import Store

    try:
        entries = Store(timeout=1).entries()
    except PeError:  # completion has nowhere to say so
        return []
    at = "@" in incomplete
    names = [str(entry.reference) if at else entry.name for entry in entries]
    start = incomplete.lower()
    return [CompletionItem(name) for name in dict.fromkeys(names) if name.startswith(start)]


def _cards_here(incomplete: str) -> list[CompletionItem]:
    """Cards in the current folder, if a shell can take their names as they are."""
    from click.shell_completion import CompletionItem

    plain = re.compile(r"\w[\w.+-]*\.safetensors", re.ASCII)
    try:
        names = sorted(os.listdir())
    except OSError:
        return []
    return [CompletionItem(n) for n in names if n.startswith(incomplete) and plain.fullmatch(n)]


CARD = Card()
CARD_TEXT = Card(resolve=False)
LOCAL = LocalCard()
SEED = click.IntRange(0, MAX_SEED)
FPS = Finite(0, 1000, above=True)
SECONDS = Finite(0, 1e6)
