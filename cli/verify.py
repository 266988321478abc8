"""`pe verify`: check motion cards completely."""

from __future__ import annotations

from pathlib import Path

import click

from pe_toolkit.cli import options
from pe_toolkit.cli.errors import Session
from pe_toolkit.errors import PeError


@click.command(
    epilog="""\b
Example:
  pe verify wave.safetensors"""
)
@click.argument("cards", type=options.PATH, nargs=-1, required=True, metavar="CARD...")
@options.common
@click.pass_context
def verify(ctx: click.Context, cards: tuple[Path, ...]) -> None:
    """Check motion cards completely: layout, description, every number and the digest.

    Exit code 0 if all of them are sound, 1 if one is not. Needs neither torch nor a GPU.
    """
    from pe_toolkit.card import verify_card

    session: Session = ctx.obj
    out, bad = session.out, 0
    for path in cards:
        try:
            info = verify_card(path)
        except PeError as error:
            bad += 1
            if session.debug:
                raise
            # The last line of all is the summary, so one bad card is a line of its own.
            out.fail(error.message, error.hint)
            out.event("card", path=path, ok=False, message=error.message, hint=error.hint)
        else:
            out.data(f"{path}: ok, sha256:{info.sha256}")
            out.event("card", path=path, ok=True, sha256=info.sha256, digest=info.spec.digest)
    out.event("summary", ok=not bad, cards=len(cards), bad=bad)
    if bad:
        ctx.exit(1)
