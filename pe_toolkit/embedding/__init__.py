"""What is optimised: deltas on a backbone's own positional embeddings.

`FORMS` names the parametrisations; reading it imports no torch. All are additive at heart: a delta
of zero gives the model's own embedding bit for bit, so a card stores deltas and strength scales
them.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from pe_toolkit.errors import UnsupportedError, UsageError, option

if TYPE_CHECKING:
    from pe_toolkit.embedding.base import PositionalForm

TOKENS, HEAD, LAYERS = "tokens", "head_dim", "layers"


@dataclass(frozen=True)
class Form:
    """A parametrisation for one kind of positions.

    Attributes:
        positions: the kind, "rotary" or "absolute".
        name: of the form; a card records it.
        where: its class, `module:name`, which is a `PositionalForm`.
        shape: of a delta, as a card stores it: whole numbers, `TOKENS` for S, `LAYERS` for the
            layers that add up to one, and words for sides that the backbone decides.
    """

    positions: str
    name: str
    where: str
    shape: tuple[int | str, ...]


_ROTARY, _ABSOLUTE = "pe_toolkit.embedding.rotary", "pe_toolkit.embedding.absolute"
_OFFSET = "pe_toolkit.embedding.offset"

FORMS: tuple[Form, ...] = (
    Form("rotary", "table", f"{_ROTARY}:RotaryTable", (2, 2, TOKENS, HEAD)),
    Form("rotary", "angle", f"{_ROTARY}:RotaryAngle", (2, TOKENS, "head_dim/2")),
    Form("rotary", "offset", f"{_OFFSET}:RotaryOffset", (LAYERS, TOKENS, 3)),
    Form("absolute", "table", f"{_ABSOLUTE}:SincosTable", (TOKENS, "inner_dim")),
    Form("absolute", "offset", f"{_OFFSET}:SincosOffset", (LAYERS, TOKENS, 3)),
)
"""A new form is its file and a line here: cards, requests and the command line read this table."""

LAYERED = tuple(dict.fromkeys(form.name for form in FORMS if LAYERS in form.shape))
"""Forms of which a card holds several layers, whose sum is the delta."""


def names(positions: str | None = None) -> tuple[str, ...]:
    """The names of the forms, of one kind of positions or of all."""
    found = (form.name for form in FORMS if positions in (None, form.positions))
    return tuple(dict.fromkeys(found))


def positions() -> tuple[str, ...]:
    """The kinds of positions that have forms."""
    return tuple(dict.fromkeys(form.positions for form in FORMS))


def form_for(positions: str, name: str, model: str | None = None) -> Form:
    """The form of that name for a kind of positions.

    Args:
        model: what has such positions, for the message.

    Raises:
        UnsupportedError: another kind of positions has it; says why this one has not.
        UsageError: an unknown name.
    """
    named = {form.positions: form for form in FORMS if form.name == name}
    if positions in named:
        return named[positions]
    if not named:
        known = " or ".join(map(repr, names()))
        raise UsageError(f"Expected the parametrisation {known}, got {name!r}.")
    ours, theirs = (
        f"{option('parametrisation')} {' or '.join(names(positions))}",
        " or ".join(named),
    )
    why = f"its positions are {positions}, and that is a form of {theirs} ones"
    if (positions, name) == ("absolute", "angle"):
        why = "its positions are absolute (added, not rotated), so there is no angle to learn"
    raise UnsupportedError(
        f"Expected {ours} for {model or f'{positions} positions'}, got {name}: {why}.",
        f"Use {ours}, or a backbone with {theirs} positions.",
    )


def form_class(positions: str, name: str) -> type[PositionalForm]:
    """The class of a form; raises as `form_for`."""
    module, _, attribute = form_for(positions, name).where.partition(":")
    found: type[PositionalForm] = getattr(import_module(module), attribute)
    return found
