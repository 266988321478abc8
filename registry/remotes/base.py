"""What a remote is: a place outside this machine's registry where cards are shared.

A remote is one module with a class that has the three methods of `Remote`, a function
`connect(reference, *, tell)` that makes one, and `SCHEME`, by which it is found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pe_toolkit.card.reader import verify_card
from pe_toolkit.errors import UsageError
from pe_toolkit.registry.signature_files import SUFFIX
from pe_toolkit.shown import shown

if TYPE_CHECKING:
    from pe_toolkit.card import CardInfo

CARD_FILE = "card.safetensors"
"""The name of the card in its repository. Fixed: no name from outside ever becomes a path."""
SIGNATURE_FILE = f"{CARD_FILE}{SUFFIX}"
"""A signature of the card's bytes beside it, if somebody signed it."""
TAG = "motion-card"
"""What marks a repository as one with a card."""

Tell = Callable[[str], None]
Check = Callable[[Path], "CardInfo"]
"""Reads a file to the last number and says what card it is; raises CardError if it is none."""


def silent(text: str) -> None:
    """Tells nobody."""


@dataclass(frozen=True)
class PushOptions:
    """What `push` may be told.

    Args:
        private: a new repository is visible to its owner only.
        tag: mark this state as a version: the card's own, `1.0.0` or `v1.0.0`.
        message: of the commit.
        preview: a picture or video that shows what the card does.
        name: what the card goes by, on a remote whose address may leave that open. Default: its
            own name.
        force: move the tag, or replace a version, if other bytes have it.
        dry_run: look, and change nothing.
        sign: a key to sign the card with; see `signatures.sign`. A signature of the same card by
            another is replaced.
    """

    private: bool = False
    tag: str | None = None
    message: str | None = None
    preview: Path | None = None
    force: bool = False
    dry_run: bool = False
    name: str | None = None
    sign: Path | None = None


@dataclass(frozen=True)
class Pushed:
    """What `push` did, or would do in a dry run."""

    reference: str
    """How to name the card now: `owner/name`, or `owner/name@v1.0.0` if it was tagged."""
    url: str
    digest: str
    """`sha256:` and 64 hex digits of the card's file."""
    size: int
    files: Mapping[str, str]
    """Name of each file -> "new", "changed", "unchanged" or "deleted"."""
    created: bool = False
    """The repository, or the folder of this card, was made."""
    private: bool | None = False
    """None in a folder, where permissions decide."""
    commit: str | None = None
    """The commit that holds the card; None in a dry run that would make one, and in a folder."""
    committed: bool = False
    """A commit was made: something had changed."""
    tag: str | None = None
    tagged: bool = False
    """The tag was set or moved; False if it was there already. In a folder the version in the
    file's name is the tag."""
    dry_run: bool = False
    readme: str = ""
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: the same keys for every remote (docs/hub.md)."""
        return {
            "reference": self.reference, "url": self.url, "digest": self.digest,
            "size_bytes": self.size, "files": dict(self.files), "created": self.created,
            "private": self.private, "commit": self.commit, "committed": self.committed,
            "tag": self.tag, "tagged": self.tagged, "dry_run": self.dry_run,
            "warnings": list(self.warnings), "readme": self.readme if self.dry_run else None,
        }  # fmt: skip


@dataclass(frozen=True)
class Pulled:
    """A file that came from a remote, byte for byte what the remote announced.

    Without `info` it is not known to be a sound card: `Store.add` and `verify_card` say what is
    wrong with it, and nothing else may be done with it. Do not change the file: it belongs to a
    cache or a shared folder.
    """

    path: Path
    digest: str
    """`sha256:` and 64 hex digits of its bytes."""
    size: int
    name: str
    """What it is called there; the default for its name in the local registry."""
    origin: str
    """Where it came from, exactly: `hf://owner/name@<commit>`."""
    offline: bool = False
    """It came from a cache, without asking the remote."""
    info: CardInfo | None = None
    """What was found in these bytes; None if they were not checked, or are not sound."""
    signature: bytes | None = None
    """What lay beside it as its signature, not checked yet; None without one."""


@dataclass(frozen=True)
class Found:
    """A card that `search` found. Every string is a stranger's: print only `printable`."""

    reference: str
    author: str = ""
    version: str = ""
    backbone: str = ""
    license: str = ""
    updated: str = ""
    downloads: int | None = None
    likes: int | None = None
    private: bool = False
    gated: bool = False
    signed: bool = False
    """A signature lies beside it. Whose it is, and whether it is sound, is not known here."""
    tags: Sequence[str] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**self.__dict__, "tags": list(self.tags)}


class Remote(Protocol):
    """A place for cards, bound to one reference. All methods may raise RemoteError and children."""

    def push(self, card: Path, options: PushOptions) -> Pushed:
        """Bring a card there; its bytes are never changed.

        Raises:
            CardError: if the card is not sound.
            UsageError: if the tag is not the card's version, or an option makes no sense there.
            ConflictError: if another card would be lost.
        """

    def pull(self, check: Check = verify_card) -> Pulled:
        """Fetch the card.

        Args:
            check: called with the file that came, before it is compared with what the remote
                announced; again if other bytes came. Whoever wants a copy makes it in here, of the
                bytes that are checked (`pe_toolkit.registry.intake`).
        """

    def search(
        self, words: Sequence[str], *, backbone: str | None, author: str | None, limit: int
    ) -> list[Found]:
        """Up to `limit` cards that have all the words."""


def check_tag(tag: str | None, version: str) -> str | None:
    """The tag as it is written, `v1.0.0`; None for none.

    Raises:
        UsageError: if it is not the card's version.
    """
    if tag is None:
        return None
    if tag.removeprefix("v") != version:
        raise UsageError(
            f"Expected a tag that is the card's version, v{version}, got {shown(tag)}.",
            f"Use --tag v{version}. Another version is another card: "
            "pe edit ... --card-version VERSION",
        )
    return f"v{version}"
