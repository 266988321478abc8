"""Tags of a repository: a version of a card, which means the same bytes for ever."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from huggingface_hub.errors import HfHubHTTPError, RevisionNotFoundError

from pe_toolkit.card import CardInfo
from pe_toolkit.registry.remotes.base import CARD_FILE, SIGNATURE_FILE
from pe_toolkit.registry.remotes.errors import ConflictError
from pe_toolkit.registry.remotes.hub_errors import explain
from pe_toolkit.registry.remotes.hub_state import oids
from pe_toolkit.registry.remotes.markdown import plain

if TYPE_CHECKING:
    from pe_toolkit.registry.remotes.hub import HubRemote


def check_tag_there(
    remote: HubRemote, tag: str, info: CardInfo, signature: bytes | None, *, force: bool
) -> str | None:
    """None: the tag is free; "there": it marks these bytes; "elsewhere": others, and may move.

    It always may where it marks the same card without this signature.
    """
    tagged = remote.state(tag)
    if tagged is None:
        return None
    if tagged.has(CARD_FILE, (info.sha256,)):
        signed = signature is None or tagged.has(SIGNATURE_FILE, oids(signature))
        return "there" if signed else "elsewhere"
    if not force:
        raise _taken(remote, tag)
    return "elsewhere"


def set_tag(remote: HubRemote, tag: str, commit: str, info: CardInfo, *, move: bool) -> None:
    """Tag a commit.

    Raises:
        ConflictError: if somebody else gave the tag to other bytes meanwhile.
    """

    def settled() -> bool | None:
        state = remote.state(tag)
        if state is None:
            return None
        if state.has(CARD_FILE, (info.sha256,)):
            return True
        raise _taken(remote, tag)

    def send() -> bool:
        message = plain(f"{info.spec.name} {info.spec.version}", 80)
        remote.api.create_tag(remote.repo_id, tag=tag, revision=commit, tag_message=message)
        return True

    if move:

        def delete() -> bool:
            with contextlib.suppress(RevisionNotFoundError):
                remote.api.delete_tag(remote.repo_id, tag=tag)
            return True

        remote.again(delete)
    try:
        remote.again(send, settled)
    except ConflictError:  # somebody else has it now
        raise
    except BaseException as error:
        if isinstance(error, HfHubHTTPError) and error.response.status_code == 409 and settled():
            return
        if move:
            _gone(remote, tag, error)
        raise


def _gone(remote: HubRemote, tag: str, error: BaseException) -> None:
    """Say of a tag that was taken off, and could not be set again, that it is not there now."""
    gone = f"the tag {tag} is gone: it was taken off the other card, and not set on yours"
    ours = (
        explain(error, remote.repo_id, remote.endpoint, remote.token, "push to")
        if isinstance(error, Exception)
        else None
    )
    if ours is None:  # Ctrl-C, or our own disk
        remote.tell(f"{gone[0].upper()}{gone[1:]}. Run the command again to set it.")
        return
    raise type(ours)(
        f"{ours.message} Your card is there, but {gone}.",
        f"Run the command again: it sets the tag. {ours.hint or ''}".rstrip(),
    ) from error


def _taken(remote: HubRemote, tag: str) -> ConflictError:
    return ConflictError(
        f"Expected the tag {tag} of {remote.url} to be free, but it marks another card.",
        "Versions do not move: raise it (pe edit --card-version), or use --force to move the tag.",
    )
