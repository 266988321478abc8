"""`pe push`: bring a card to the Hugging Face Hub, or into a shared folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pe_toolkit.cli import options, parameters
from pe_toolkit.cli.errors import Session
from pe_toolkit.cli.output import Output, size_text

if TYPE_CHECKING:
    from pe_toolkit.registry.remotes.base import Pushed


@click.command(
    epilog="""\b
Example:
  pe push wave.safetensors owner/wave --tag v1.0.0
  pe push wave.safetensors owner/wave --dry-run
  pe push wave.safetensors owner/wave --sign
  pe push wave.safetensors file:///shared/cards"""
)
@click.argument("card", type=parameters.CARD_TEXT, metavar="CARD")
@click.argument("target", metavar="OWNER/NAME")
@click.option("--private", is_flag=True, help="A new repository is visible to its owner only.")
@click.option("--tag", metavar="V", help="Mark this version, which must be the card's: v1.0.0.")
@click.option("--message", metavar="TEXT", help="Message of the commit.")
@click.option(
    "--preview", type=parameters.PATH, metavar="FILE", help="Video or picture that its page shows."
)
@click.option("--sign", is_flag=True, help="Sign the card with an SSH key, by ssh-keygen.")
@click.option(
    "--key", type=parameters.PATH, metavar="FILE",
    help="The key for --sign. Default: PE_SIGNING_KEY, else the first of ~/.ssh/id_*.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Say what would be pushed, and change nothing.")
@click.option(
    "--force",
    is_flag=True,
    help="Move the tag, or replace the version in a folder, if another has it.",
)
@options.common
@click.pass_obj
def push(
    session: Session,
    /,
    card: str,
    target: str,
    private: bool,
    tag: str | None,
    message: str | None,
    preview: Path | None,
    sign: bool,
    key: Path | None,
    dry_run: bool,
    force: bool,
) -> None:
    """Bring a card to the Hugging Face Hub, with a README made from it.

    The repository is made if it is not there. The card's bytes are never changed, and pushing the
    same card again changes nothing. With --sign, a signature lies beside it. What you write into
    the README yourself stays. Log in first: hf auth login. OWNER/NAME may also be file:///folder, a
    folder that your team shares.
    """
    from pe_toolkit.cli.remote import find, prepare
    from pe_toolkit.cli.signing import key_of
    from pe_toolkit.registry.references import parse
    from pe_toolkit.registry.remotes import open_remote
    from pe_toolkit.registry.remotes.base import PushOptions

    signing = key_of(sign, key)
    prepare(session)
    remote = open_remote(parse(target), tell=session.out.talk)
    found = find(session, card)
    # Whoever calls a card `wave` here finds it as `wave` there; a file goes by the name in it.
    name = getattr(found.reference, "name", None)
    done = remote.push(
        found.path, PushOptions(private, tag, message, preview, force, dry_run, name, signing)
    )
    for warning in done.warnings:
        session.out.warn(warning)
    report(done, session.out)
    session.out.event("summary", **done.to_dict())


def report(done: Pushed, out: Output) -> None:
    """What was done, for people."""
    would = "would be " if done.dry_run else ""
    if done.created and done.private is not None:  # a folder says so by its first file
        url = done.url.partition("/tree/")[0]  # without the tag
        out.data(f"repository  {would}made, {'private' if done.private else 'public'}: {url}")
    for name, change in done.files.items():
        size = f", {size_text(done.size)}" if name.endswith(".safetensors") else ""
        out.data(f"{name}  {would if change != 'unchanged' else ''}{change}{size}")
    if done.tag:
        out.data(f"tag {done.tag}  {f'{would}set' if done.tagged else 'there already'}")
    out.data(f"file {done.digest}")
    if not done.committed and not done.tagged:
        out.data("Nothing to do: all of it is there already.")
    elif not done.dry_run:
        out.data(f"{done.url}\nGet it with: pe pull {done.reference}")
