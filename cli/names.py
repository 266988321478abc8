"""What the commands that give names share: to say when a name alone means another card now."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pe_toolkit.cli.errors import Session

if TYPE_CHECKING:
    from pe_toolkit.registry.entry import Entry


@contextlib.contextmanager
def watched(session: Session) -> Iterator[list[Entry]]:
    """Put the cards that got names into the list; at the end it is said what that has changed."""
    from pe_toolkit.registry.naming import change_of_meaning, meaning
    from pe_toolkit.registry.store import Store

    store = Store()
    given: list[Entry] = []
    before = store.entries()
    yield given
    after = store.entries()
    for entry in given:
        if (said := change_of_meaning(entry.name, before, after)) is not None:
            refused = meaning(there for there in after if there.name == entry.name) is None
            (session.out.warn if refused else session.out.talk)(said)
