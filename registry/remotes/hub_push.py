"""Bringing a card to the Hub, in an order in which every failure leaves a sound repository.

Everything that can be refused is refused before anything is sent. Then: the repository, the bytes,
one commit with card and README, the tag. Whatever was interrupted, the same push again finishes it.
"""

from __future__ import annotations

import contextlib
import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    hf_hub_download,
)
from huggingface_hub.errors import HfHubHTTPError

from pe_toolkit.card import CardInfo, verify_card
from pe_toolkit.errors import CardError, UsageError
from pe_toolkit.registry import signatures
from pe_toolkit.registry.errors import SignatureError
from pe_toolkit.registry.remotes.base import (
    CARD_FILE,
    SIGNATURE_FILE,
    Pushed,
    PushOptions,
    check_tag,
)
from pe_toolkit.registry.remotes.errors import AccessError, ConflictError, RemoteError
from pe_toolkit.registry.remotes.hub_errors import LOG_IN, explained
from pe_toolkit.registry.remotes.hub_guard import commit_name
from pe_toolkit.registry.remotes.hub_pull import discard, signature_of
from pe_toolkit.registry.remotes.hub_state import RepoState, oids
from pe_toolkit.registry.remotes.hub_tags import check_tag_there, set_tag
from pe_toolkit.registry.remotes.hub_xet import by_xet, takes_xet, without_xet
from pe_toolkit.registry.remotes.markdown import plain
from pe_toolkit.registry.remotes.previews import NAMES, read_preview
from pe_toolkit.registry.remotes.readme import MAX_README, README, editable, readme

if TYPE_CHECKING:
    from pe_toolkit.registry.remotes.hub import HubRemote

Operation = CommitOperationAdd | CommitOperationDelete
EMPTY = RepoState("", False, {})


@dataclass(frozen=True)
class Plan:
    """What the repository is to hold, and what has to change for that."""

    card: Path
    info: CardInfo
    texts: dict[str, bytes]
    """README and preview, by name."""
    files: dict[str, str]
    """Name -> "new", "changed", "unchanged" or "deleted"."""
    readme: str
    warnings: tuple[str, ...]

    @property
    def changes(self) -> bool:
        """Whether a commit is needed."""
        return any(change != "unchanged" for change in self.files.values())

    def done(self, state: RepoState) -> bool:
        """Whether the repository is as it is to be."""
        if not state.has(CARD_FILE, (self.info.sha256,)):
            return False
        if any(not state.has(name, oids(data)) for name, data in self.texts.items()):
            return False
        return not any(
            name in state.files for name, change in self.files.items() if change == "deleted"
        )


def push(remote: HubRemote, card: Path, options: PushOptions) -> Pushed:
    """See `Remote.push`."""
    info = verify_card(card)
    tag = check_tag(options.tag, info.spec.version)
    preview = read_preview(options.preview) if options.preview else None
    signature = signatures.sign(card, options.sign) if options.sign else None
    if remote.reference is not None and remote.reference.revision is not None:
        raise UsageError(
            f"Expected owner/name to push to, got {remote.reference}.",
            f"Use --tag v{info.spec.version} to mark the version.",
        )
    if remote.token is None and not options.dry_run:
        raise AccessError(f"Expected a token to push to {remote.url}, but there is none.", LOG_IN)
    with explained(remote.repo_id, remote.endpoint, remote.token, "push to"):
        state = remote.state()
        _check_private(remote, state, options)
        signature = _same_signer(remote, card, info, signature, state or EMPTY)
        plan = _plan(remote, card, info, preview, signature, state or EMPTY)
        moving = (
            check_tag_there(remote, tag, info, signature, force=options.force)
            if state and tag
            else None
        )
        created, commit = state is None, state.head if state else None
        if not options.dry_run:
            if state is None:
                state = _create(remote, private=options.private)
                _check_private(remote, state, options)  # somebody may have made it meanwhile
                plan = _plan(remote, card, info, preview, signature, state)
            commit = _commit(remote, plan, state, options.message) if plan.changes else state.head
            if tag and moving != "there":
                set_tag(remote, tag, commit, info, move=moving is not None)
    name = remote.repo_id if state is None else state.spelled(remote.repo_id)
    return Pushed(
        reference=f"{name}@{tag}" if tag else name,
        url=f"{remote.url}/tree/{tag}" if tag else remote.url,
        digest=f"sha256:{info.sha256}", size=info.size_bytes, files=plan.files, created=created,
        private=state.private if state else options.private,
        commit=None if options.dry_run and plan.changes else commit,
        committed=plan.changes, tag=tag, tagged=tag is not None and moving != "there",
        dry_run=options.dry_run, readme=plan.readme, warnings=plan.warnings,
    )  # fmt: skip


def _check_private(remote: HubRemote, state: RepoState | None, options: PushOptions) -> None:
    if state is not None and options.private and not state.private:
        raise UsageError(
            f"Expected {remote.url} to be private, but it is there already, and public.",
            f"Make it private in {remote.url}/settings, or push without --private.",
        )


def _plan(
    remote: HubRemote,
    card: Path,
    info: CardInfo,
    preview: tuple[str, bytes] | None,
    signature: bytes | None,
    state: RepoState,
) -> Plan:
    """What to change. A preview or signature of the same card stays; of another one, they lie."""
    same_card = state.has(CARD_FILE, (info.sha256,))
    there = [name for name in NAMES if name in state.files]
    shown = preview[0] if preview else there[0] if there and same_card else None
    texts = {preview[0]: preview[1]} if preview else {}
    if signature is not None:
        texts[SIGNATURE_FILE] = signature
    files = {CARD_FILE: _change(state, CARD_FILE, same_card)}
    previous, warning = _previous_readme(remote, state)
    text = ""
    if previous is not None:
        text = readme(info, state.spelled(remote.repo_id), preview=shown, previous=previous)
        texts[README] = text.encode("utf-8", "replace")
    for name, data in texts.items():
        files[name] = _change(state, name, state.has(name, oids(data)))
    files |= {name: "deleted" for name in there if name != shown}
    if SIGNATURE_FILE in state.files and not same_card and signature is None:
        files[SIGNATURE_FILE] = "deleted"
    return Plan(card, info, texts, files, text, (warning,) if warning else ())


def _same_signer(
    remote: HubRemote, card: Path, info: CardInfo, signature: bytes | None, state: RepoState
) -> bytes | None:
    """The signature to push: the one that is there, if the same key made it of the same card.

    Keys of some kinds never make the same signature twice, and pushing twice changes nothing.
    """
    if signature is None or SIGNATURE_FILE not in state.files:
        return signature
    there = signature_of(remote, state.head) if state.has(CARD_FILE, (info.sha256,)) else None
    if there is None:
        return signature
    with contextlib.suppress(SignatureError):
        if signatures.signer(card, there) == signatures.signer(card, signature):
            return there
    return signature


def _change(state: RepoState, name: str, same: bool) -> str:
    return "unchanged" if same else "changed" if name in state.files else "new"


def _previous_readme(remote: HubRemote, state: RepoState) -> tuple[str | None, str]:
    """The README that is there; None, and a warning, if we must leave it alone."""
    file = state.files.get(README)
    if file is None:
        return "", ""
    if file.size > MAX_README:
        return None, (
            f"{README} has {file.size} bytes: it was left as it is. Make it shorter than "
            f"{MAX_README} bytes to have the part about the card written."
        )

    def download(force: bool) -> Path:
        return Path(
            hf_hub_download(
                remote.repo_id, README, revision=state.head, endpoint=remote.endpoint,
                token=remote.token or False, etag_timeout=remote.timeout, force_download=force,
            )
        )  # fmt: skip

    for force in (False, True):  # the client's cache would give damaged bytes again and again
        path = remote.again(
            functools.partial(download, force),
            most=file.size, seconds=remote.seconds_for(file.size),
        )  # fmt: skip
        data = path.read_bytes()
        if file.oid in oids(data):
            return editable(data)
        discard(path)
        if not force:
            remote.tell(f"Other bytes came than the {README} has; fetching it again.")
    # Merging it would carry the damage into the repository.
    raise RemoteError(
        f"Expected the {README} of {remote.url}, but twice others came: "
        "it is damaged on the way, or on the server.",
        "Nothing was changed. Try again, without a proxy or mirror between if there is one.",
    )


def _create(remote: HubRemote, *, private: bool) -> RepoState:
    remote.again(
        lambda: remote.api.create_repo(remote.repo_id, private=private or None, exist_ok=True)
    )
    state = remote.state()
    if state is None:
        raise AccessError(
            f"Expected to see the repository {remote.url} after making it, but it is hidden.",
            "Your token can write there but not read: give it both rights.",
        )
    return state


def _commit(remote: HubRemote, plan: Plan, state: RepoState, message: str | None) -> str:
    """Make one commit with everything that changed; the commit that holds it.

    Raises:
        ConflictError: if somebody else committed meanwhile.
    """

    def settled() -> str | None:
        now = remote.state() or EMPTY
        if now.head == state.head:
            return None
        if plan.done(now):
            return now.head
        raise ConflictError(
            f"Expected {remote.url} at {state.head[:12]}, but somebody else pushed meanwhile. "
            "Nothing of theirs was overwritten.",
            "Look at it, and run the command again if your card is to follow theirs.",
        )

    title = message or f"Push {plain(plan.info.spec.name, 80)} {plan.info.spec.version}"
    operations = _operations(plan)
    additions = [op for op in operations if isinstance(op, CommitOperationAdd)]
    _upload(remote, plan, additions)
    for op in additions:
        if op.path_in_repo == CARD_FILE and op.upload_info.sha256.hex() != plan.info.sha256:
            raise CardError("Expected the card that was checked, but it changed meanwhile.")

    def send() -> str:
        info = remote.api.create_commit(
            remote.repo_id, operations=operations, commit_message=title,
            parent_commit=state.head or None,
        )  # fmt: skip
        return commit_name(str(info.oid))

    try:
        return remote.again(send, settled)
    except HfHubHTTPError as error:
        if error.response.status_code not in (409, 412):
            raise
        commit = settled()
        if commit is None:
            raise
        return commit


def _operations(plan: Plan) -> list[Operation]:
    operations: list[Operation] = []
    for name, change in plan.files.items():
        if change == "deleted":
            operations.append(CommitOperationDelete(name))
        elif name == CARD_FILE and change != "unchanged":
            # Resolved: the client takes a leading ~ for a home folder.
            operations.append(CommitOperationAdd(name, str(plan.card.resolve())))
        elif change != "unchanged":
            operations.append(CommitOperationAdd(name, plan.texts[name]))
    return operations


def _upload(remote: HubRemote, plan: Plan, additions: list[CommitOperationAdd]) -> None:
    """Bring the bytes to the storage; nobody sees them before the commit."""

    def upload() -> None:
        # Not `again`: the client repeats these requests itself.
        remote.once(
            lambda: remote.api.preupload_lfs_files(
                remote.repo_id, additions=additions, free_memory=False
            ),
            seconds=math.inf,
        )

    large = any(op.path_in_repo != README for op in additions)
    if large and takes_xet(remote):
        by_xet(remote, upload, upload, plan.info.size_bytes + sum(map(len, plan.texts.values())))
    else:
        with without_xet():  # the client would use it for bytes, whatever the server offers
            upload()
