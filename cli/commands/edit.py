"""`pe edit`: correct what a card says of itself, or make another motion of its own."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pe_toolkit.cli import options, other_shapes, parameters, sections
from pe_toolkit.cli.errors import Session
from pe_toolkit.cli.motion_edits import motion_options
from pe_toolkit.cli.requests.edit import EditOptions

if TYPE_CHECKING:
    from pe_toolkit.card import CardSpec, MotionCard
    from pe_toolkit.registry.entry import Entry
    from pe_toolkit.registry.resolve import Found

HARDLY = 0.02
"""Of the displacements of a card, so few are left by a mask that is beside what moves."""


@click.command(
    epilog="""\b
Example:
  pe edit wave.safetensors --license MIT -o wave-mit.safetensors
  pe edit wave --author "Ada" --card-version 1.0.1
  pe edit wave.safetensors --score fidelity=0.81 -o wave.safetensors --force
  pe edit wave.safetensors --mirror left-right --speed 0.5 -o slow.safetensors
  pe edit wave --region 0,0,64,128 --outside jump --name both""",
    cls=sections.Sectioned,
    sections=sections.EDIT,
)
@click.argument("card", type=parameters.CARD_TEXT, metavar="CARD")
@click.option(
    "-o",
    "--output",
    type=parameters.PATH,
    metavar="NEW.safetensors",
    help="Where the new card goes. Default: for a card of the registry, the registry.",
)
@click.option("--name", metavar="N", help="Another name.")
@click.option("--author", metavar="A", help="Another author.")
@click.option("--license", metavar="L", help="Another license.")
@click.option(
    "--card-version",
    metavar="V",
    help="Another version, like 1.0.1; in the registry the new card needs one, or a name.",
)
@click.option(
    "--score",
    "scores",
    type=parameters.Pair(),
    multiple=True,
    metavar="NAME=NUMBER",
    help="Something that was measured; repeat.",
)
@click.option(
    "--force",
    is_flag=True,
    help="Overwrite NEW, or take the name and version in the registry from the card that has them.",
)
@motion_options
@options.common
@click.pass_obj
def edit(session: Session, /, **parsed: Any) -> None:
    """Correct what a card says of itself, or edit its motion, without training.

    A card that is out in the world is never changed: this makes a new one with another digest,
    which names the old one as its parent, and what was done.
    """
    from pe_toolkit.card import MotionCard
    from pe_toolkit.cli import files
    from pe_toolkit.cli.names import watched
    from pe_toolkit.cli.remote import find
    from pe_toolkit.shown import printable

    asked = EditOptions(**parsed)
    card, output, force = asked.card, asked.output, asked.force
    measured = {key: _number(key, text) for key, text in asked.scores}
    if output is not None:
        files.check_suffix(output, ".safetensors")
        files.check_outputs([output], force=force)
    found = find(session, card)
    if output is None:
        _check_registered(found, card)
    old = MotionCard.load(found.path)
    new = _made(session, old, asked, measured)
    if output is not None:
        info = new.save(output, force=force)
        place, more = str(output), {"path": output, "sha256": info.sha256}
    else:
        assert found.entry is not None
        with watched(session) as given:
            entry = _keep(session, new, found.entry, asked)
            given.append(entry)
        place, more = str(entry.reference), {"entry": entry.to_dict(), "sha256": entry.digest[7:]}
    _tell(session, old, new, measured)
    if asked.frames is not None or asked.size is not None:
        from pe_toolkit.backbones import VARIANTS

        other_shapes.warn_card(session.out, VARIANTS.get(new.spec.backbone.variant), new.spec)
    was = card if found.entry is None else str(found.entry.reference)
    session.out.talk(f"{place} is a new card{f'; {was} is as it was' if place != was else ''}.")
    if asked.moves and (new.spec.name, new.spec.version) == (old.spec.name, old.spec.version):
        called = f"{printable(new.spec.name)} {new.spec.version}"
        session.out.talk(f"It is still called {called}: --name gives it another name.")
    parents = list(new.spec.parents or ())
    session.out.event("summary", **more, digest=new.digest, parent=old.digest, parents=parents)


def _made(
    session: Session,
    old: MotionCard,
    asked: EditOptions,
    scores: dict[str, float],
) -> MotionCard:
    """The new card.

    Raises:
        UsageError: what was asked for makes no card.
    """
    from pe_toolkit.card.edit import revised
    from pe_toolkit.cli.motion_edits import change_of
    from pe_toolkit.errors import CardError, UsageError

    if not (asked.moves or scores or any(word is not None for word in asked.words.values())):
        raise UsageError(
            "Expected something to change, got nothing.",
            "Name what the card says of itself (--name, --author, --license, --card-version, "
            "--score), or what its motion becomes (--mirror, --reverse, --speed, --frames, --size, "
            "--region, --mask, --then).",
        )
    try:
        if not asked.moves:
            return revised(old, **asked.words, scores=scores)
        from pe_toolkit.editing import changed

        more: dict[str, Any] = {k: v for k, v in asked.words.items() if v is not None}
        clip = old.spec.clip
        return changed(
            old, change_of(session, asked, clip.width, clip.height), scores=scores, **more
        )
    except CardError as error:
        raise UsageError(error.message, error.hint) from error


def _tell(session: Session, old: MotionCard, new: MotionCard, scores: dict[str, float]) -> None:
    """What is another now, as a table."""
    from pe_toolkit.card.motion_words import card_motion, edit_words
    from pe_toolkit.shown import printable

    rows = _changes(old.spec, new.spec)
    done = (new.spec.edits or ())[len(old.spec.edits or ()) :]
    if done:
        rows["edits"] = "\n".join(edit_words(edit) for edit in done)
        if new.spec.reference.motion is not None:  # else it is the edits that are known
            rows["motion"] = card_motion(new.spec)
    if any(edit.what == "mask" for edit in done) and _moving(new) < HARDLY * _moving(old):
        session.out.warn(
            "hardly anything that moves is inside of the mask: little will be seen of it. `pe show "
            "--plot` draws where the motion is."
        )
    rows |= {f"score {printable(key)}": f"{value:g}" for key, value in scores.items()}
    parents = [f"content {digest}" for digest in new.spec.parents or ()]
    named = "parents" if len(parents) > 1 else "parent"
    session.out.table(rows | {named: "\n".join(parents), "content": new.digest})


def _moving(card: MotionCard) -> float:
    """How many displacements of its patches are known, and not zero."""
    from pe_toolkit.card.tensors import unpacked

    flow = card.tensors["flow"]
    return float((flow.any(-1) & unpacked(card.spec, card.tensors)).sum())


def _check_registered(found: Found, card: str) -> None:
    """Without a place for the new card, the old one must be in the registry.

    Raises:
        UsageError: it is not.
    """
    from pe_toolkit.errors import UsageError
    from pe_toolkit.registry.references import RemoteReference
    from pe_toolkit.shown import printable

    if isinstance(found.reference, RemoteReference):  # whether or not its bytes are here
        here = found.entry and f"Or name it as it is named here: {found.entry.reference}"
        raise UsageError(
            "Expected -o NEW.safetensors for a card that is on a remote.",
            here or f"Or give it a name here first: pe pull {printable(card)}",
        )
    if found.entry is None:
        raise UsageError(
            "Expected -o NEW.safetensors for a card that is a file.",
            f"To replace the old one: -o {printable(str(found.path))} --force",
        )


def _changes(old: CardSpec, new: CardSpec) -> dict[str, str]:
    """Each text that is another now: `old -> new`."""
    from pe_toolkit.shown import printable

    return {
        key: printable(f"{getattr(old, key) or '-'} -> {getattr(new, key) or '-'}")
        for key in ("name", "author", "license", "version")
        if getattr(old, key) != getattr(new, key)
    }


def _number(name: str, text: str) -> float:
    from pe_toolkit.errors import UsageError

    try:
        return float(text)
    except ValueError:
        raise UsageError(f"Expected a number for --score {name}, got {text!r}.") from None


def _without(option: str, words: Sequence[str]) -> list[str]:
    """A command line without an option and its value."""
    kept, skip = list[str](), False
    for word in words:
        if not skip and word != option and not word.startswith(f"{option}="):
            kept.append(word)
        skip = not skip and word == option
    return kept


def _keep(session: Session, new: MotionCard, old: Entry, asked: EditOptions) -> Entry:
    """Into the registry, under the old one's name there unless the card has a new one."""
    from pe_toolkit.errors import OutputExistsError
    from pe_toolkit.registry import semver
    from pe_toolkit.registry.references import slug
    from pe_toolkit.registry.store import Store

    store = Store()
    with tempfile.TemporaryDirectory(prefix="pe-") as folder:
        path = Path(folder) / "card.safetensors"
        new.save(path)
        try:
            return store.add(path, None if asked.name else old.name, force=asked.force)
        except OutputExistsError as error:
            name = slug(asked.name) if asked.name else old.name
            if (name, new.spec.version) != (old.name, old.version):
                raise OutputExistsError(
                    error.message,
                    "Give the new card another version (--card-version) or name (--name), or use "
                    "--force; `pe rm --undo` then brings the other one back.",
                ) from error
            versions = [entry.version for entry in store.entries() if entry.name == name]
            words = [*_without("--card-version", session.argv), "--card-version"]
            words.append(semver.following(versions))
            raise OutputExistsError(
                f"Expected a version or a name of its own for the new card: {old.reference} is the "
                "one that it was made from.",
                f"Give it the next version: {shlex.join(['pe', *words])}. Or another name: --name "
                f"N. Or let it take the place of {old.reference}: --force; `pe rm --undo` then "
                "brings the old card back.",
            ) from error
