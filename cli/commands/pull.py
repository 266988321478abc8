"""`pe pull`: fetch a card from the Hugging Face Hub, or from a shared folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pe_toolkit.cli import options, parameters
from pe_toolkit.cli.errors import Session
from pe_toolkit.cli.output import size_text
from pe_toolkit.errors import OutputExistsError, UsageError

if TYPE_CHECKING:
    from pe_toolkit.registry.remotes.base import Pulled


@click.command(
    epilog="""\b
Example:
  pe pull owner/wave
  pe pull owner/wave@v1.0.0 -o wave.safetensors
  pe pull file:///shared/cards/wave"""
)
@click.argument("reference", metavar="OWNER/NAME[@REV]")
@click.option(
    "-o", "--out", type=parameters.PATH, metavar="FILE",
    help="Write it to this file. Default: into the local registry.",
)  # fmt: skip
@click.option("--as", "name", metavar="NAME[@V]", help="Its name in the local registry.")
@options.force_option
@options.common
@click.pass_obj
def pull(
    session: Session, /, reference: str, out: Path | None, name: str | None, force: bool
) -> None:
    """Fetch a card from the Hugging Face Hub.

    It is checked completely before it is kept, under its name there, or under the one after --as.
    Other commands only look at a card on a remote, and give it no name. Without a connection, the
    copy in the cache of the last time is taken. A tag can be moved by its owner: `pe lock` pins
    what you have by the SHA-256 of its file.
    """
    from pe_toolkit.cli.files import check_outputs, check_suffix
    from pe_toolkit.cli.names import watched
    from pe_toolkit.cli.remote import prepare
    from pe_toolkit.registry import lockfile, locksigner
    from pe_toolkit.registry.references import RemoteReference, local, parse
    from pe_toolkit.registry.remotes import open_remote, receive, save

    if out is not None:
        if name is not None:
            raise UsageError(
                "Expected -o or --as, got both.", "A file has no name in the registry."
            )
        check_suffix(out, ".safetensors")
        check_outputs([out], force=force)
    wanted = local(name) if name else None
    if wanted is not None and wanted.digest:
        raise UsageError(f"Expected NAME or NAME@1.0.0, got {name}.", "A digest is not chosen.")
    prepare(session)
    source = parse(reference)
    remote = open_remote(source, tell=session.out.talk)
    pin = lockfile.pinned(source) if isinstance(source, RemoteReference) else None

    def accept(pulled: Pulled) -> None:
        if pin is not None:  # another version may come, but not of somebody else
            locksigner.check_signer(pin, pulled)

    if out is not None:
        pulled = remote.pull()
        accept(pulled)
        save(pulled, out, force=force)
        session.out.data(f"{out}  {size_text(pulled.size)}\n{pulled.origin}\nfile {pulled.digest}")
        session.out.event("summary", path=out, **_facts(pulled))
        return
    names = (wanted.name, wanted.version) if wanted else (None, None)
    try:
        with watched(session) as given:
            pulled, entry = receive(remote, *names, force=force, accept=accept)
            given.append(entry)
    except OutputExistsError as error:
        hint = f"Give it another name: pe pull {reference} --as NAME, or use --force: "
        undo = "`pe rm --undo` can then bring the other one back until `pe gc`."
        raise OutputExistsError(error.message, hint + undo) from error
    session.out.data(f"{entry.reference}  {size_text(pulled.size)}")
    session.out.data(f"{pulled.origin}\nfile {pulled.digest}")
    session.out.event("summary", reference=str(entry.reference), path=entry.path, **_facts(pulled))


def _facts(pulled: Pulled) -> dict[str, object]:
    return {
        "offline": pulled.offline, "origin": pulled.origin, "digest": pulled.digest,
        "size_bytes": pulled.size,
    }  # fmt: skip
