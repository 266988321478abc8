"""What the commands that talk to a remote share: how the client behaves on this terminal."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pe_toolkit.cli import loggers
from pe_toolkit.cli.errors import Session

if TYPE_CHECKING:
    from pe_toolkit.registry.entry import Entry
    from pe_toolkit.registry.resolve import Found


def find(session: Session, text: str) -> Found:
    """The card that a command was given; what a remote has to say on the way is a warning.

    Raises:
        PeError: as `pe_toolkit.registry.resolve.find`.
    """
    from pe_toolkit.registry import resolve
    from pe_toolkit.registry.references import RemoteReference, parse

    if isinstance(parse(text), RemoteReference):
        prepare(session)
    return resolve.find(text, tell=session.out.warn)


def warn_version(session: Session, entry: Entry) -> None:
    """Warn where the registry calls a card by another version than the card itself: it is pushed,
    and read elsewhere, under its own.
    """
    own = entry.facts["version"]
    if own != entry.version:
        session.out.warn(
            f"{entry.reference}: the card itself says version {own}, and is pushed as that. To "
            f"change what it says: pe edit {entry.reference} --card-version {entry.version} --force"
        )


def prepare(session: Session) -> None:
    """Bars for transfers where a person can see them; no log lines of the client but in --debug."""
    from huggingface_hub.utils import logging as client_logging

    loggers.take(session.out)
    if not session.debug:
        client_logging.set_verbosity(logging.ERROR)
    loggers.download_bars(session.out)
