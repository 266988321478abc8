"""How a card is named: a path, a name in the local registry, or a repository on the Hub.

Decided by the form of the text alone, never by what exists, so that a command means the same
today and tomorrow, here and on another machine:

    wave.safetensors  ./wave  ../wave  /a/wave  ~/wave  C:\\wave     a path
    clips/wave.mp4  cards/wave.json                                 a path, by its ending
    wave  wave@1.2.0  wave@sha256:dff0292b                          the local registry
    owner/wave  owner/wave@v1.2.0  hf://owner/wave@main             the Hugging Face Hub
    file:///shared/cards/...                                        a shared folder
    scheme://...                                                    another remote
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from pe_toolkit.errors import UsageError
from pe_toolkit.registry.semver import is_version
from pe_toolkit.shown import shown

MAX_NAME = 96
MAX_REFERENCE = 4096
SHORTEST_DIGEST = 8
FORMS = (
    "A card is a path (wave.safetensors, ./wave), a name in the local registry (wave, wave@1.2.0, "
    "wave@sha256:dff0292b), or on the Hub (owner/wave, owner/wave@v1.2.0, hf://owner/wave)."
)
LOCAL_FORMS = (
    "A card in the local registry is named wave, wave@1.2.0 or wave@sha256:dff0292b. A file, or a "
    "card on the Hub, gets such a name by `pe add CARD`."
)

_ENDINGS = (
    ".safetensors", ".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".gif", ".webp", ".avif",
    ".png", ".jpg", ".jpeg", ".json", ".txt", ".zip",
)  # fmt: skip
"""Of files, which no repository has that holds a card; `hf://` names one all the same."""
NAME = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,94}[a-z0-9])?", re.ASCII)
_NAMELESS = "card"
_HUB_PART = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?", re.ASCII)
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+-]{0,254}", re.ASCII)
_SCHEME = re.compile(r"[a-z][a-z0-9]*", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{8,64}", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class PathReference:
    """A file."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class LocalReference:
    """A card in the local registry; without version and digest, the highest release."""

    name: str
    version: str | None = None
    digest: str | None = None
    """`sha256:` and the first 8 to 64 hex digits of the file's SHA-256."""

    def __str__(self) -> str:
        suffix = self.version or self.digest
        return f"{self.name}@{suffix}" if suffix else self.name


class RemoteReference:
    """A card on a remote. As text it begins with the scheme of that remote: `hf://`, `file://`."""

    @property
    def scheme(self) -> str:
        """Says which remote; small letters and digits if `parse` made it."""
        return str(self).partition("://")[0].lower()

    @property
    def key(self) -> str:
        """The same text for every spelling of one reference: what is pinned in one is pinned in
        all. For comparison only; the remote is asked as the user wrote it."""
        return str(self)


@dataclass(frozen=True)
class HubReference(RemoteReference):
    """A repository on the Hugging Face Hub; without revision, its default branch."""

    owner: str
    name: str
    revision: str | None = None
    """Tag, branch or commit."""

    @property
    def repo_id(self) -> str:
        """`owner/name`."""
        return f"{self.owner}/{self.name}"

    @property
    def key(self) -> str:
        """Case does not count in names of repositories; it does in revisions."""
        revision = f"@{self.revision}" if self.revision else ""
        return f"hf://{self.repo_id.lower()}{revision}"

    def __str__(self) -> str:
        return f"hf://{self.repo_id}" + (f"@{self.revision}" if self.revision else "")


@dataclass(frozen=True)
class UrlReference(RemoteReference):
    """A card on another remote, as the URL that only this remote understands."""

    url: str
    """Begins with the scheme and `://`."""

    def __str__(self) -> str:
        return self.url


class FolderReference(UrlReference):
    """A card in a shared folder: `file:///shared/cards/wave`."""

    @property
    def key(self) -> str:
        """Escapes, doubled slashes and the host `localhost` do not count, nor does case in the
        name of the card, nor a v before its version."""
        *head, last = PurePosixPath("/", unquote(urlsplit(self.url).path)).parts
        name, _, rest = last.partition("@")
        version = rest[1:] if rest[:1] in ("v", "V") else rest
        path = PurePosixPath("/", *head, name.lower())
        return f"file://{path}{'@' if version else ''}{version}"


Reference = PathReference | LocalReference | RemoteReference


def parse(text: str) -> Reference:
    """What `text` names. Whether there is a remote of its scheme is not asked here.

    Raises:
        UsageError: if it has none of the forms; the hint lists them.
    """
    if not text or len(text) > MAX_REFERENCE or "\0" in text:
        raise _malformed(text, "a card")
    scheme = text.partition("://")[0].lower() if "://" in text else ""
    if scheme == "hf":
        return _hub(text, text[len("hf://") :])
    if scheme == "file":
        try:
            urlsplit(text)
        except ValueError as error:
            raise _malformed(text, "file:///folder/name") from error
        return FolderReference(text)
    if scheme:
        if not is_scheme(scheme):
            raise _malformed(text, "letters and digits before ://, such as hf:// or file://")
        return UrlReference(text)
    if _is_path(text):
        return PathReference(expanded(text))
    return _hub(text, text) if "/" in text else local(text, FORMS)


def local(text: str, forms: str = LOCAL_FORMS) -> LocalReference:
    """`name`, `name@1.2.0` or `name@sha256:...`. Case does not count in names.

    Args:
        forms: the hint for anything else.

    Raises:
        UsageError: for anything else.
    """
    name, at, rest = text.partition("@")
    name = name.lower()
    if NAME.fullmatch(name) is None:
        expected = (
            "a name of letters, digits, - and _, a letter or digit first and last, of up to "
            f"{MAX_NAME} characters"
        )
        if re.search(r"[./\\]", name) is None and (near := slug(name)) != _NAMELESS:
            forms = f"Did you mean {near}? {forms}"
        raise _malformed(text, expected, forms)
    if not at:
        return LocalReference(name)
    if _DIGEST.fullmatch(rest):
        return LocalReference(name, digest=rest.lower())
    version = rest[1:] if rest[:1] in ("v", "V") else rest
    if not is_version(version):
        if is_version(whole := version + ".0" * (2 - version.count("."))):
            forms = f"Did you mean {name}@{whole}? {forms}"
        raise _malformed(
            text,
            f"a version such as 1.2.0, or sha256: and at least {SHORTEST_DIGEST} hex digits, "
            "after @",
            forms,
        )
    return LocalReference(name, version)


def is_scheme(text: str) -> bool:
    """Whether it can be the scheme of a remote: a small letter, then small letters and digits."""
    return _SCHEME.fullmatch(text) is not None


def slug(text: str) -> str:
    """The name under which a card goes if nobody gives another: safe letters only.

    `Zoë's Wave` -> `zoe-s-wave`. Never empty; `slug(slug(x)) == slug(x)`.
    """
    if NAME.fullmatch(text):  # `a--b` is a name: it must not become that of another card
        return text
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii").lower()
    plain = re.sub(r"[^a-z0-9_]+", "-", plain)[:MAX_NAME].strip("-_")
    return plain or _NAMELESS


def _is_path(text: str) -> bool:
    """Whether the form is that of a path: a suffix, a place to start from, a separator."""
    if text.lower().endswith(_ENDINGS) or "\\" in text or text[0] in "./~":
        return True
    if re.match(r"[A-Za-z]:", text, re.ASCII):
        return True
    head = text.partition("@")[0]
    if "/" not in head:
        return "." in head  # names in the local registry have no dots
    return head.count("/") > 1 or head.endswith("/")


def expanded(text: str) -> Path:
    """A path as it was written, `~` at its beginning expanded if that is known."""
    if not text.startswith("~"):  # `./~` is a folder of that name
        return Path(text)
    try:
        return Path(text).expanduser()
    except (RuntimeError, UnicodeError):  # `~nobody/wave`: a path all the same, not to be found
        return Path(text)


def _hub(text: str, rest: str) -> HubReference:
    repo, at, revision = rest.partition("@")
    owner, slash, name = repo.partition("/")
    # The rules of the Hub, so that a typo is found before anything is sent.
    sound = slash and all(
        _HUB_PART.fullmatch(part) and "--" not in part and ".." not in part
        for part in (owner, name)
    )
    if not sound or len(repo) > MAX_NAME or name.endswith(".git"):
        raise _malformed(text, "owner/name as the Hugging Face Hub allows it")
    if not at:
        return HubReference(owner, name)
    if _DIGEST.fullmatch(revision):
        raise UsageError(
            f"Expected a tag, branch or commit after @, got {shown(revision)}.",
            "The Hub does not find cards by their digest. If the card is in the local registry: "
            f"NAME@{revision[:15].lower()}. `pe lock` pins a card of the Hub by its digest.",
        )
    if _REVISION.fullmatch(revision) is None or ".." in revision or "//" in revision:
        raise _malformed(text, "a tag, branch or commit after @")
    return HubReference(owner, name, revision)


def _malformed(text: str, expected: str, forms: str = FORMS) -> UsageError:
    return UsageError(f"Expected {expected}, got {shown(text)}.", forms)
