"""From what huggingface_hub raises to what the user reads: what was expected, what to do next."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator

from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from pe_toolkit.errors import PeError
from pe_toolkit.registry.remotes.base import CARD_FILE
from pe_toolkit.registry.remotes.errors import (
    AccessError,
    ConflictError,
    RemoteError,
    RemoteMissingError,
    UnreachableError,
)
from pe_toolkit.registry.remotes.retry import (
    NO_CONNECTION,
    asked_wait,
    chain,
    passing,
    response_of,
    status_of,
)
from pe_toolkit.shown import printable

LOG_IN = "Log in with `hf auth login`, or set HF_TOKEN."
_MOST = 300
_TOKEN = re.compile(r"[!-~]+")
"""What a header may carry; no token has anything else."""


@contextlib.contextmanager
def explained(repo_id: str, endpoint: str, token: str | None, action: str) -> Iterator[None]:
    """Turn what the client raises in the block into our errors.

    Args:
        action: what was being done, such as "push to".
    """
    try:
        yield
    except PeError:
        raise
    except Exception as error:
        ours = explain(error, repo_id, endpoint, token, action)
        if ours is None:
            raise
        raise ours from error


def explain(
    error: Exception, repo_id: str, endpoint: str, token: str | None, action: str
) -> PeError | None:
    """Our error for one of the client's, or None if it has nothing to do with the Hub."""
    links = list(chain(error))
    where = f"{endpoint}/{repo_id}".rstrip("/")
    for link in links:
        ours = _by_kind(link, where, endpoint, token, action)
        if ours is not None:
            return ours
    reason = passing(error)
    if reason == NO_CONNECTION:
        return unconnected(where, action)
    if reason is not None:
        wait = asked_wait(error)
        return UnreachableError(
            f"Expected to {action} {where}, but {reason}, every time.",
            f"It asks to wait {wait:.0f} seconds." if wait else "Try again later.",
        )
    response = response_of(error)
    if response is not None:
        return _by_status(int(response.status_code), error, where, endpoint, token, action)
    if isinstance(error, HFValidationError):
        return RemoteError(
            f"Expected a sound repository name, got {printable(repo_id)!r}.",
            "Write OWNER/NAME: letters, digits, dots, - and _, up to 96 characters.",
        )
    if isinstance(error, OSError) and error.errno is not None:
        return None  # the disk, not the Hub
    if token is not None and _TOKEN.fullmatch(token) is None:  # no request was made
        return AccessError(
            f"Expected a token to {action} {where}, but yours has characters that no token has.",
            log_in(endpoint),
        )
    if isinstance(error, ValueError | KeyError | TypeError | RuntimeError | OSError) or any(
        link.__class__.__module__.partition(".")[0] in ("huggingface_hub", "httpx", "httpx2")
        for link in links
    ):
        said = ": ".join(str(link) or type(link).__name__ for link in links)
        return RemoteError(
            f"Expected to {action} {where}, but: {cleaned(said, token)}.",
            "Is it a Hugging Face Hub? HF_ENDPOINT says which server is asked.",
        )
    return None


def _by_kind(
    link: BaseException, where: str, endpoint: str, token: str | None, action: str
) -> PeError | None:
    """Our error for one of the client's that says by its class what is wrong."""
    pushing = token is not None and action.startswith("push")
    if isinstance(link, OfflineModeIsEnabled):
        return UnreachableError(
            f"Expected to {action} {where}, but offline mode is on.", "Unset HF_HUB_OFFLINE."
        )
    if isinstance(link, GatedRepoError):
        # Whoever may write need not accept terms: accepting them would not help to push.
        return _no_right(link, where, endpoint, token, action) if pushing else _gated(where, token)
    if isinstance(link, RepositoryNotFoundError) and not refused(link, token):
        return _missing(where, token)
    if isinstance(link, RevisionNotFoundError):
        return RemoteMissingError(
            f"Expected that tag, branch or commit in {where}, but it is not there.",
            f"See {where}/tree/main for what is there, or leave out the part after @.",
        )
    if isinstance(link, EntryNotFoundError) and status_of(link) is not None:
        return RemoteMissingError(
            f"Expected {CARD_FILE} in {where}, but there is no such file.",
            "That repository does not hold a motion card as `pe push` writes it.",
        )
    return None


def unconnected(where: str, action: str) -> UnreachableError:
    """The error for a server that no connection can be made to."""
    return UnreachableError(
        f"Expected to {action} {where}, but {NO_CONNECTION}.",
        "Check the network" + (", and HF_ENDPOINT." if os.environ.get("HF_ENDPOINT") else "."),
    )


def log_in(endpoint: str) -> str:
    """How to get a token that is taken: one in the environment counts before the one logged in."""
    if os.environ.get("HF_TOKEN"):
        return f"HF_TOKEN is set: give it a token of {endpoint}/settings/tokens, or unset it."
    return LOG_IN


def _by_status(
    status: int, error: Exception, where: str, endpoint: str, token: str | None, action: str
) -> PeError:
    said = _said(error, token)
    if status == 401:
        what = "none was given" if token is None else "yours was refused: it is wrong or expired"
        return AccessError(
            f"Expected a token to {action} {where}, but {what}.{said}",
            LOG_IN if token is None else log_in(endpoint),
        )
    if status == 403:
        return _no_right(error, where, endpoint, token, action)
    if status in (409, 412):
        return ConflictError(
            f"Expected to {action} {where}, but somebody else changed it meanwhile.{said}",
            "Run the command again.",
        )
    hint = "If it stays so, --debug shows what was asked, and HF_ENDPOINT says which server."
    if status == 400 and action.startswith("push"):
        hint = f"Perhaps the bytes were changed on the way. Run the command again. {hint}"
    return RemoteError(
        f"Expected to {action} {where}, but the server answered {status}.{said}",
        hint if status == 400 else f"Try again later. {hint}",
    )


def _no_right(
    error: Exception, where: str, endpoint: str, token: str | None, action: str
) -> AccessError:
    message = f"Expected the right to {action} {where}, but the server refuses it."
    if action.startswith("push"):
        hint = (
            "OWNER in OWNER/NAME must be you, or an organisation of yours, and the token must have "
            f"write access: {endpoint}/settings/tokens"
        )
    else:
        hint = (
            LOG_IN if token is None else f"Look at what your token may: {endpoint}/settings/tokens"
        )
    return AccessError(message + _said(error, token), hint)


def refused(error: HfHubHTTPError, token: str | None) -> bool:
    """Whether the server refused our token itself. With a good one, what is hidden is a 404."""
    return token is not None and error.response.status_code == 401


def _gated(where: str, token: str | None) -> AccessError:
    login = "" if token else f" {LOG_IN}"
    return AccessError(
        f"Expected access to {where}, but its owner wants its terms to be accepted first.",
        f"Accept them at {where}, then run the command again.{login}",
    )


def _missing(where: str, token: str | None) -> RemoteMissingError:
    name = "/".join(where.split("/")[-2:])
    file = f"For the file of that name, write ./{name}. " if os.path.isfile(name) else ""
    return RemoteMissingError(
        f"Expected the repository {where}, but it does not exist, or is private.",
        f"{file}Check the name. If it is private: {LOG_IN[0].lower()}{LOG_IN[1:]}"
        if token is None
        else f"{file}Check the name. If it is private, your token must have access to it.",
    )


def _said(error: Exception, token: str | None) -> str:
    for link in chain(error):
        message = isinstance(link, HfHubHTTPError) and link.server_message
        if message:
            return f" It says: {cleaned(message, token)}"
    return ""


def cleaned(text: str, token: str | None) -> str:
    """Text from a server: one line, harmless to a terminal, bounded, without our token."""
    if token:
        text = text.replace(token, "***")
    text = printable(" ".join(text[: 4 * _MOST].split()))
    return (text if len(text) <= _MOST else text[: _MOST - 3] + "...").rstrip(".")
