"""Fetching a card from the Hub: into the client's cache, and compared with what was announced."""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import (
    constants,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    try_to_load_from_cache,
)
from huggingface_hub.errors import EntryNotFoundError, RevisionNotFoundError

from pe_toolkit.card import CardInfo
from pe_toolkit.card.header import MAX_FILE_BYTES
from pe_toolkit.errors import CardError, OutputError, PeError
from pe_toolkit.registry import semver, signature_files
from pe_toolkit.registry.remotes.base import CARD_FILE, SIGNATURE_FILE, Check, Pulled
from pe_toolkit.registry.remotes.errors import RemoteError, UnreachableError
from pe_toolkit.registry.remotes.hub_errors import explain, explained, unconnected
from pe_toolkit.registry.remotes.hub_guard import HEX, commit_name, file_name
from pe_toolkit.registry.remotes.hub_state import setting
from pe_toolkit.registry.remotes.hub_xet import by_xet, without_xet
from pe_toolkit.registry.remotes.retry import NO_CONNECTION, passing
from pe_toolkit.shown import printable
from pe_toolkit.writing import write_atomically

if TYPE_CHECKING:
    from pe_toolkit.registry.remotes.hub import HubRemote

STEP = 1 << 20
"""Bytes in which a download comes: what is lost of it when the line breaks. The client: 10 MB."""
MOST_UNKNOWN = 64 << 20
"""Bytes of a card whose size the server does not announce."""


def pull(remote: HubRemote, check: Check) -> Pulled:
    """See `Remote.pull`. Without a connection, the copy in the cache."""
    if constants.HF_HUB_OFFLINE:
        found = cached(remote)
        if found is None:
            raise _nowhere(remote, "offline mode is on", "Unset HF_HUB_OFFLINE.")
        remote.tell("Offline mode: this is the copy in the cache.")
        return found
    try:
        with explained(remote.repo_id, remote.endpoint, remote.token, "pull from"):
            pulled = fetch(remote, check)
            return replace(pulled, signature=_signature(remote, pulled))
    except UnreachableError as error:
        found = cached(remote)
        if found is None:
            raise
        remote.tell(f"{error.message} This is the copy in the cache, which may be older.")
        return found


def fetch(remote: HubRemote, check: Check) -> Pulled:
    """Download, or find unchanged in the cache."""
    revision, announced = _announced(remote)
    if announced.size is not None and announced.size > MAX_FILE_BYTES:
        raise RemoteError(
            f"Expected a card of at most {MAX_FILE_BYTES} bytes, got {announced.size}.",
            "That is not a motion card.",
        )
    for force in (False, True):  # again from the server, if the copy in the cache is damaged
        path = _download(remote, announced, force=force)
        info = None
        with contextlib.suppress(CardError):  # whoever keeps it says what is wrong
            info = check(path)
        if info is not None and info.sha256 == announced.etag:
            _keep_ref(path, revision)
            return _pulled(remote, path, info.sha256, info.size_bytes, info=info)
        sha256, sha1, size = _digests(path, git=len(announced.etag) == 40)
        if announced.etag in (sha256, sha1):
            _keep_ref(path, revision)
            sound = info is not None and info.sha256 == sha256
            return _pulled(remote, path, sha256, size, info=info if sound else None)
        discard(path)
        if not force:
            remote.tell("Other bytes came than the Hub announced; fetching them again.")
    raise RemoteError(
        f"Expected the bytes of {announced.etag} from {remote.url}, but twice others came: "
        "they are damaged on the way, or on the server.",
        "Nothing was kept. Try again, without a proxy or mirror between if there is one.",
    )


def cached(remote: HubRemote) -> Pulled | None:
    """The copy in the client's cache, without any request; None if there is none."""
    path = _in_cache(remote)
    if path is None:
        return None
    name = path.resolve().name  # of the file behind the link: what the Hub announced
    sha256, sha1, size = _digests(path, git=len(name) == 40)
    if HEX.fullmatch(name) and name not in (sha256, sha1):
        raise RemoteError(
            f"Expected the copy of {remote.url} in the cache to be as it came, but it is damaged.",
            f"Pull it again with a connection. It lies in {printable(str(path))}.",
        )
    found = _pulled(remote, path, sha256, size, offline=True)
    return replace(found, signature=signature_files.read(path.with_name(SIGNATURE_FILE)))


def signature_of(remote: HubRemote, commit: str) -> bytes | None:
    """The signature beside the card in a commit; None without one.

    Raises:
        Exception: what the client raises, unless the file is not there.
    """
    known = try_to_load_from_cache(remote.repo_id, SIGNATURE_FILE, revision=commit)
    if known is not None and not isinstance(known, str):
        return None  # the client noted that this commit has none

    def download() -> Path:
        return Path(
            hf_hub_download(
                remote.repo_id, SIGNATURE_FILE, revision=commit, endpoint=remote.endpoint,
                token=remote.token or False, etag_timeout=remote.timeout,
            )
        )  # fmt: skip

    try:
        with without_xet():
            path = remote.again(download, most=signature_files.MAX_BYTES)
    except EntryNotFoundError:
        return None
    return signature_files.read(path)


def _signature(remote: HubRemote, pulled: Pulled) -> bytes | None:
    """As `signature_of`. A card is of use without it, except to who asks for a signature."""
    try:
        return signature_of(remote, pulled.path.parent.name)
    except Exception as error:
        why = (
            error
            if isinstance(error, PeError)
            else explain(error, remote.repo_id, remote.endpoint, remote.token, "pull from")
        )
        if why is None:
            raise
        remote.tell(f"Its signature did not come: {why.message}")
        return None


def _in_cache(remote: HubRemote) -> Path | None:
    for revision in _spellings(remote):
        path = try_to_load_from_cache(remote.repo_id, CARD_FILE, revision=revision)
        if isinstance(path, str) and os.path.isfile(path):
            return Path(path)
    return None


def _pulled(
    remote: HubRemote,
    path: Path,
    sha256: str,
    size: int,
    *,
    offline: bool = False,
    info: CardInfo | None = None,
) -> Pulled:
    assert remote.reference is not None
    origin = f"hf://{remote.repo_id}@{path.parent.name}"
    return Pulled(path, f"sha256:{sha256}", size, remote.reference.name, origin, offline, info)


def _spellings(remote: HubRemote) -> list[str]:
    """The revisions to try: a version is tagged `v1.0.0` by us, and may be written `1.0.0`."""
    revision = remote.reference.revision if remote.reference else None
    if revision is None:
        return [constants.DEFAULT_REVISION]
    return [revision, f"v{revision}"] if semver.is_version(revision) else [revision]


def _announced(remote: HubRemote) -> tuple[str, Any]:
    """The revision that exists, and what the Hub says about the card there."""
    revisions = _spellings(remote)
    for last, revision in enumerate(revisions, 1):
        url = hf_hub_url(remote.repo_id, CARD_FILE, revision=revision, endpoint=remote.endpoint)

        def look(url: str = url) -> Any:
            try:
                return get_hf_file_metadata(
                    url, token=remote.token or False, timeout=remote.timeout,
                    endpoint=remote.endpoint,
                )  # fmt: skip
            except Exception as error:
                # With a copy at hand nobody wants to wait for a network that is not there: one
                # attempt, which is refused at once or, where packets are dropped, times out.
                if passing(error) == NO_CONNECTION and _in_cache(remote) is not None:
                    raise unconnected(remote.url, "pull from") from None
                raise

        try:
            announced = remote.again(look)
        except RevisionNotFoundError:
            if last == len(revisions):
                raise
        else:
            commit_name(announced.commit_hash or "")
            file_name(announced.etag or "")
            return revision, announced
    raise AssertionError


def _keep_ref(path: Path, revision: str) -> None:
    """Remember which commit a branch or tag is, where the client does: it would do so before the
    bytes are there, and the copy of the last pull could not be found after one that failed.
    """
    commit, repository = path.parent.name, path.parents[2]
    if revision == commit or path.parents[1].name != "snapshots":
        return
    place = repository / "refs" / revision
    with contextlib.suppress(OSError, OutputError):  # only who is offline misses it
        place.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(place, [commit.encode()], force=True)


def _download(remote: HubRemote, announced: Any, *, force: bool) -> Path:
    """The card of the commit that was announced, wherever its branch is by now."""

    def download() -> Path:
        return Path(
            hf_hub_download(
                remote.repo_id, CARD_FILE, revision=announced.commit_hash,
                endpoint=remote.endpoint, token=remote.token or False,
                etag_timeout=remote.timeout, force_download=force,
            )
        )  # fmt: skip

    most = MOST_UNKNOWN if announced.size is None else announced.size
    seconds = remote.seconds_for(most)

    def again() -> Path:
        return remote.again(download, most=most, seconds=seconds)

    def once() -> Path:
        return remote.once(download, most=most, seconds=seconds)

    with setting("DOWNLOAD_CHUNK_SIZE", STEP):
        if constants.HF_HUB_DISABLE_XET or announced.xet_file_data is None:
            return again()
        if force:  # the other way, if what came by xet was wrong
            with without_xet():
                return again()
        return by_xet(remote, once, again, announced.size or 0)


def _digests(path: Path, *, git: bool) -> tuple[str, str, int]:
    """SHA-256, git's SHA-1 (if asked for, else empty) and size of a file."""
    size, sha256 = path.stat().st_size, hashlib.sha256()
    sha1 = hashlib.sha1(b"blob %d\0" % size)
    with open(path, "rb") as stream:
        while chunk := stream.read(1 << 20):
            sha256.update(chunk)
            if git:
                sha1.update(chunk)
    return sha256.hexdigest(), sha1.hexdigest() if git else "", size


def discard(path: Path) -> None:
    """Take damaged bytes out of the cache, where other programs would trust them.

    Only what the client made: the name in `snapshots/<commit>`, and the file that it leads to, in
    `blobs` of the same repository or in the `blobs` that all share. A link may lead anywhere, and
    what lies elsewhere is not ours.

    Args:
        path: of a file in the cache, as the client gave it.
    """
    snapshot = path.parent.resolve()
    if snapshot.parent.name != "snapshots" or not HEX.fullmatch(snapshot.name):
        return
    blob = path.resolve()
    path.unlink(missing_ok=True)
    own, shared = snapshot.parents[1] / "blobs", snapshot.parents[2] / "blobs"
    if blob.parent == own or blob.parent.parent == shared:
        blob.unlink(missing_ok=True)


def _nowhere(remote: HubRemote, reason: str, hint: str) -> UnreachableError:
    return UnreachableError(
        f"Expected to pull from {remote.url}, but {reason}, and it is not in the cache.", hint
    )
