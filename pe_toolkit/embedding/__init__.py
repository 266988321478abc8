"""What is optimised: deltas on a backbone's own positional embeddings.

`FORMS` names the parametrisations. All are additive at heart: a delta of zero gives the model's own
embedding bit for bit, so a card stores deltas and strength scales them.
"""

from __future__ import annotations

from pe_toolkit.embedding.absolute import SincosTable
from pe_toolkit.embedding.base import PositionalForm
from pe_toolkit.embedding.rotary import RotaryAngle, RotaryTable
from pe_toolkit.errors import UnsupportedError, UsageError

__all__ = ["FORMS", "PositionalForm", "RotaryAngle", "RotaryTable", "SincosTable", "form_for"]

FORMS: dict[tuple[str, str], type[PositionalForm]] = {
    ("rotary", "angle"): RotaryAngle,
    ("rotary", "table"): RotaryTable,
    ("absolute", "table"): SincosTable,
}


def form_for(positions: str, parametrisation: str) -> type[PositionalForm]:
    """The class of a parametrisation for a kind of positions.

    Raises:
        UnsupportedError: `angle` on an absolute backbone: sincos positions are added, nothing is
            rotated.
        UsageError: an unknown name.
    """
    form = FORMS.get((positions, parametrisation))
    if form is not None:
        return form
    if positions == "absolute" and parametrisation == "angle":
        raise UnsupportedError(
            "Expected the parametrisation 'table' on an absolute backbone, got 'angle': its "
            "sincos positions are "
            "added to the tokens, so there is no angle to turn.",
            "Use --param table, or a rotary backbone (bundled, cogvideox-5b, cogvideox1.5-5b).",
        )
    raise UsageError(f"Expected the parametrisation 'table' or 'angle', got {parametrisation!r}.")
