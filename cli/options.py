"""Options and parameter types that several commands share."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from pe_toolkit.registry.references import LocalReference

    Kind = click.ParamType[Any]
else:
    Kind = click.ParamType  # older clicks cannot be subscripted

F = TypeVar("F", bound=Callable[..., Any])

KNOWN = "bundled, cogvideox-2b, cogvideox-5b, cogvideox1.5-5b, a folder, a Hub id, ..."


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
MAX_TEXT = 2000


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


class Device(Kind):
    """`cpu`, `cuda`, `cuda:1`, `mps`."""

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
        session.card_name = found.entry.name if found.entry is not None else ""
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


def given(name: str) -> bool:
    """Whether the user wrote this option, rather than leaving it at its default."""
    source = click.get_current_context().get_parameter_source(name)
    return source not in (ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP, None)


def combine(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    """One decorator from several; `--help` lists them in this order."""

    def apply(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


def _set_debug(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and ctx.obj is not None:
        ctx.obj.debug = True


def _set_json(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and ctx.obj is not None:
        ctx.obj.out.json = True


def _set_offload(ctx: click.Context, param: click.Parameter, value: str) -> str:
    if ctx.obj is not None:
        ctx.obj.offload = value
    return value


debug_option = click.option(
    "--debug",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_set_debug,
    help="Show a traceback when something goes wrong.",
)
json_option = click.option(
    "--json",
    "as_json",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_set_json,
    help="One JSON object per line on stdout; the last line is the summary.",
)
common = combine(json_option, debug_option)
force_option = click.option("--force", is_flag=True, help="Overwrite what is already there.")


def backbone_option(default: str | None, help_text: str) -> Callable[[F], F]:
    """`--backbone NAME`."""
    return click.option(
        "--backbone",
        type=Backbone(),
        default=default,
        show_default=default is not None,
        metavar="NAME",
        help=f"{help_text} {KNOWN}",
    )


revision_option = click.option(
    "--revision", metavar="R", help="Branch, tag or commit of a backbone on the Hub."
)
copy_option = click.option(
    "--copy-of",
    metavar="NAME",
    help="The known model that a folder or another Hub id is a copy of, so that cards name it.",
)


offload_option = click.option(
    "--offload",
    type=click.Choice(["auto", "none", "model", "group", "sequential"]),
    default="auto",
    show_default=True,
    callback=_set_offload,
    help="Keep parts of the model in main memory: slower, needs less of the GPU's. auto: as little "
    "as fits; in a training, one part after the other.",
)
machine_options = combine(
    click.option("--device", type=Device(), metavar="D", help="cpu, cuda, cuda:N, xpu or mps."),
    click.option(
        "--dtype",
        type=click.Choice(["float32", "bfloat16", "float16"]),
        help="Precision of the backbone. Default: what suits the device.",
    ),
    offload_option,
)
clip_options = combine(
    click.option("--start", type=SECONDS, default=0.0, metavar="SECONDS", help="Begin here."),
    click.option("--frames", type=click.IntRange(2, 10_000), metavar="N", help="Frames to use."),
    click.option(
        "--fps", type=FPS, metavar="F", help="Take frames at this rate instead of the whole span."
    ),
    click.option("--size", type=Size(), metavar="WxH", help="Size of the frames in pixels."),
    click.option(
        "--fit",
        type=click.Choice(["crop", "pad", "stretch"]),
        default="crop",
        show_default=True,
        help="How the clip is brought to that size.",
    ),
)
generation_options = combine(
    click.option("--steps", type=click.IntRange(1, 1000), metavar="N", help="Denoising steps."),
    click.option(
        "--guidance-scale", type=Finite(1, 100), metavar="G", help="How much the prompt counts."
    ),
)
card_text_options = combine(
    click.option("--name", metavar="N", help="Name in the card. Default: that of the clip."),
    click.option("--author", default="", metavar="A", help="Author in the card."),
    click.option("--license", default="", metavar="L", help="License in the card."),
    click.option(
        "--card-version", default="1.0.0", show_default=True, metavar="V", help="Like 1.0.0."
    ),
)
