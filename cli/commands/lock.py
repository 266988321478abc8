"""`pe lock`: pin the cards of a project by their digests."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pe_toolkit.cli import options, parameters
from pe_toolkit.cli.errors import Session
from pe_toolkit.cli.signing import signed_by_option, signers_option, wanted
from pe_toolkit.errors import UsageError

if TYPE_CHECKING:
    from pe_toolkit.registry.locktext import Pin
    from pe_toolkit.registry.signatures import Who


@click.command(
    epilog="""\b
Example:
  pe lock wave owner/orbit@v1.0.0
  pe lock owner/orbit --signed-by zoe.pub
  pe lock --check"""
)
@click.argument("cards", type=parameters.CARD_TEXT, nargs=-1, metavar="[CARD...]")
@click.option("--check", is_flag=True, help="Change nothing; exit 1 if a card is not as pinned.")
@click.option("--remove", is_flag=True, help="Take the CARDs out of the lock file.")
@click.option(
    "-f", "--file", "path", type=parameters.PATH, default=Path("pe.lock"), show_default=True,
    metavar="FILE", help="The lock file.",
)  # fmt: skip
@signed_by_option
@signers_option
@options.common
@click.pass_context
def lock(
    ctx: click.Context,
    cards: tuple[str, ...],
    check: bool,
    remove: bool,
    path: Path,
    signed_by: str | None,
    signers: Path | None,
) -> None:
    """Pin the cards of a project by the SHA-256 of their files, in pe.lock.

    With CARDs: add them, or pin them again; other pins stay. Without: pin all of them again.
    Commit the file; `pe lock --check` tells whether everybody has the same bytes. Commands that are
    run beside it take a card on the Hub, or in a shared folder, only if it is the one that is
    pinned. With --signed-by the pin says who signs the card, of all its versions.
    """
    from pe_toolkit.registry import lockfile
    from pe_toolkit.registry.locktext import key_of

    session: Session = ctx.obj
    if check and (cards or remove):
        raise UsageError("Expected --check alone: it checks every pin.", "pe lock --check")
    who = wanted(signed_by, signers)
    if who is not None and not cards:
        raise UsageError("Expected the cards that are signed.", "pe lock CARD... --signed-by WHO")
    if who is not None and remove:
        raise UsageError("Expected --remove without --signed-by: the whole pin goes.")
    if remove and not cards:
        raise UsageError("Expected the cards to take out.", "pe lock --remove CARD...")
    if path.is_symlink():  # the file that it leads to is changed, and its paths are seen from there
        path = Path(os.path.realpath(path))
    old = lockfile.read(path) if check or remove or not cards or path.exists() else []
    if check:
        _check(ctx, session, old, path)
        return
    # Before the file is locked, because this may take long.
    made = [] if remove else _pins(session, cards, old, path.parent, who)
    names = [lockfile.pinned_name(text, path.parent) for text in cards] if remove else []
    lines = []
    with lockfile.changing(path) as pins:
        for name in names:
            if pins.pop(key_of(name), None) is None:
                have = ", ".join(pin.card for pin in pins.values()) or "nothing"
                raise UsageError(
                    f"Expected {name} in {path}, but it is not there.", f"It has: {have}"
                )
        for pin in made:
            there = pins.get(key_of(pin.card))
            if there is None and not cards:
                continue  # somebody took it out while we looked at it
            pins[key_of(pin.card)] = pin
            state = "new" if not there else "same" if there == pin else "changed"
            signed = f"  signed by {pin.signer}" if pin.signer else ""
            lines.append(f"{pin.card}  file sha256:{pin.sha256}{signed}  {state}")
    for line in lines:
        session.out.data(line)
    session.out.talk(f"{len(pins)} card{'' if len(pins) == 1 else 's'} pinned in {path}")
    session.out.event("summary", path=path, pins=[vars(pin) for pin in pins.values()])


def _pins(
    session: Session, cards: tuple[str, ...], old: list[Pin], folder: Path, who: Who | None
) -> list[Pin]:
    """The cards as they are now; without any, those that are pinned already."""
    from pe_toolkit.cli.remote import prepare
    from pe_toolkit.registry import lockfile, locktext, pinning
    from pe_toolkit.registry.references import RemoteReference, parse

    texts = cards or [lockfile.as_written(pin, folder) for pin in old]
    if any(isinstance(parse(text), RemoteReference) for text in texts):
        prepare(session)
    before = {locktext.key_of(pin.card): pin for pin in old}
    return [
        pinning.pin(
            text, folder, tell=session.out.warn, signed_by=who,
            before=before.get(locktext.key_of(lockfile.pinned_name(text, folder))),
        )
        for text in texts
    ]  # fmt: skip


def _check(ctx: click.Context, session: Session, pins: list[Pin], path: Path) -> None:
    from pe_toolkit.registry import lockfile
    from pe_toolkit.shown import printable

    bad = 0
    for pin in pins:
        problem = lockfile.check(pin, path.parent)
        ok = problem is None
        session.out.event("card", card=pin.card, ok=ok, message=problem and problem.message)
        if problem is None:
            session.out.data(f"{printable(pin.card)}: ok, file sha256:{pin.sha256}")
        else:
            bad += 1
            session.out.fail(problem.message, problem.hint)
    session.out.event("summary", ok=not bad, cards=len(pins), bad=bad)
    if bad:
        ctx.exit(1)
