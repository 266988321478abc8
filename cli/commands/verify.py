"""`pe verify`: check motion cards completely."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from pe_toolkit.cli import options, parameters
from pe_toolkit.cli.errors import Session
from pe_toolkit.cli.signing import signed_by_option, signers_option, wanted
from pe_toolkit.errors import PeError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from pe_toolkit.registry.rebuilding import Left
    from pe_toolkit.registry.signatures import Who


@click.command(
    epilog="""\b
Example:
  pe verify wave.safetensors
  pe verify --all
  pe verify owner/wave --signed-by zoe.pub"""
)
@click.argument("cards", type=parameters.CARD_TEXT, nargs=-1, metavar="CARD...")
@click.option("--all", "every", is_flag=True, help="Every card in the local registry.")
@click.option(
    "--rebuild",
    is_flag=True,
    help="With --all: first make a new index, if it is damaged or does not name every card.",
)
@signed_by_option
@signers_option
@options.common
@click.pass_context
def verify(
    ctx: click.Context,
    cards: tuple[str, ...],
    every: bool,
    rebuild: bool,
    signed_by: str | None,
    signers: Path | None,
) -> None:
    """Check motion cards completely: layout, description, every number and the digest of
    the content.

    Exit code 0 if all of them are sound, 1 if one is not. Needs neither torch nor a GPU.
    """
    if bool(cards) == every:
        raise UsageError(
            "Expected cards or --all" + (", not both." if every else "."), "pe verify CARD..."
        )
    if rebuild and not every:
        raise UsageError("Expected --all beside --rebuild.", "pe verify --all --rebuild")
    session: Session = ctx.obj
    who = wanted(signed_by, signers)
    out, count, bad = session.out, 0, 0
    for left in _rebuild(session) if rebuild else ():
        count, bad = count + 1, bad + 1
        message, hint = _without_name(left)
        out.fail(message, hint)
        out.event("card", path=left.path, ok=False, message=message, hint=hint)
    for name, sha256, digest, error in _registry(who) if every else _each(session, cards, who):
        count += 1
        if error is None:
            out.data(f"{name}: ok, file sha256:{sha256}")
            out.event("card", path=name, ok=True, sha256=sha256, digest=digest)
            continue
        bad += 1
        if session.debug:
            raise error
        # The last line of all is the summary, so one bad card is a line of its own.
        message = f"{name}: {error.message}" if every else error.message
        out.fail(message, error.hint)
        out.event("card", path=name, ok=False, message=message, hint=error.hint)
    if every and not count:
        out.talk("The local registry is empty.")
    out.event("summary", ok=not bad, cards=count, bad=bad)
    if bad:
        ctx.exit(1)


def _each(
    session: Session, cards: tuple[str, ...], who: Who | None
) -> Iterator[tuple[str, str, str, PeError | None]]:
    from pe_toolkit.card import verify_card
    from pe_toolkit.cli.remote import find
    from pe_toolkit.registry.signatures import check

    for text in cards:
        try:
            found = find(session, text)
            info = verify_card(found.path)
            if who is not None:
                check(found.path, found.signatures(), who)
        except PeError as error:
            yield text, "", "", error
        else:
            yield text, info.sha256, info.spec.digest, None


def _registry(who: Who | None) -> Iterator[tuple[str, str, str, PeError | None]]:
    from pe_toolkit.registry import signature_files, signatures
    from pe_toolkit.registry.store import Store

    for entry, error in Store().verify_all():
        if error is None and who is not None:
            try:
                signatures.check(entry.path, signature_files.kept(entry.digest), who)
            except PeError as unsigned:
                error = unsigned
        content = str(entry.facts.get("digest", ""))
        yield str(entry.reference), entry.digest.removeprefix("sha256:"), content, error


def _without_name(left: Left) -> tuple[str, str]:
    """Message and hint for a file that has no place in the new index."""
    if not left.kept:
        return (
            f"{left.path}: Expected a sound card, but the file is damaged: it has no name now.",
            "Take what you want of it before the next pe gc deletes it, and add the card again.",
        )
    again = f"then: pe add {left.path}. It has no name until then, and pe gc leaves it alone."
    if isinstance(left.error.__cause__, OSError):
        return left.error.message, f"Check its permissions and the disk, {again}"
    return left.error.message, f"Install a newer pe-toolkit, {again}"


def _rebuild(session: Session) -> tuple[Left, ...]:
    """Make a new index; the files that have no place in it."""
    from pe_toolkit.registry.store import Store

    done = Store().rebuild()
    session.out.talk("Made a new index: what could be read of the old one, and the cards.")
    for entry in done.named:
        session.out.talk(f"{entry.reference} had no name, and has the one that it bears itself.")
    if done.aside is not None:
        session.out.talk(f"The old one is kept as {done.aside}")
    return done.left
