"""From what huggingface_hub and the libraries below it raise to what the user reads. No torch."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from pe_toolkit.errors import BackboneError, DependencyError, PeError, UsageError

LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"


@contextlib.contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn what goes wrong with the network, the Hub or the cache in the block into our errors.

    Args:
        what: is being fetched, such as `the model owner/name`.

    Raises:
        BackboneError, DependencyError, UsageError: says what to do.
    """
    try:
        yield
    except PeError:
        raise
    except Exception as error:
        raise _explain(error, what) from error


def _explain(error: Exception, what: str) -> PeError:
    links = list(_chain(error))
    expected = f"Expected {what} in the local cache or on the Hugging Face Hub"
    for link in links:
        if isinstance(link, ImportError) and "socks" in str(link).lower():
            return DependencyError(
                f"{expected}, but the proxy of this machine speaks SOCKS, and the package socksio "
                "is not installed.",
                "pip install socksio, or unset ALL_PROXY (HTTPS_PROXY, HTTP_PROXY).",
            )
    for link in links:
        if (ours := _by_kind(link, expected, what)) is not None:
            return ours
    said = " ".join(str(error).split())[:300] or type(error).__name__
    return BackboneError(f"{expected}, got: {said}", "Check the name and the network.")


def _by_kind(link: BaseException, expected: str, what: str) -> PeError | None:
    """Our error, if the class of one in the chain says what is wrong."""
    kinds = {kind.__name__ for kind in type(link).__mro__}
    status = getattr(getattr(link, "response", None), "status_code", None)
    if "OfflineModeIsEnabled" in kinds:
        return BackboneError(
            f"{expected}, but it is not in the cache and offline mode is on.",
            "Unset HF_HUB_OFFLINE once, with a network, to fetch it.",
        )
    if "HFValidationError" in kinds:
        return UsageError(f"Expected the name of a model, got {what}.", "Write OWNER/NAME.")
    if "GatedRepoError" in kinds:
        return BackboneError(
            f"{expected}, but it is gated: its owner has to let you in.",
            f"Ask for access on its page, then {LOG_IN}.",
        )
    if "RevisionNotFoundError" in kinds:
        return BackboneError(
            f"{expected}, but it has no such branch, tag or commit.", "Check --revision."
        )
    if "RepositoryNotFoundError" in kinds:
        return BackboneError(
            f"{expected}, but there is no model of that name, or it is private.",
            f"Check the name; if it is private, {LOG_IN}.",
        )
    if isinstance(status, int):
        return BackboneError(f"{expected}, but the server answered {status}.", "Try again later.")
    if "TimeoutException" in kinds and "ConnectTimeout" not in kinds:
        return BackboneError(
            f"{expected}, but the server does not answer.",
            "Try again later; what was fetched is kept.",
        )
    if kinds & {"TransportError", "InvalidURL", "UnsupportedProtocol"}:
        return BackboneError(
            f"{expected}, but there is no connection to the server "
            f"({' '.join(str(link).split())[:100] or type(link).__name__}).",
            "Check the name, the network"
            + (", HF_ENDPOINT" if os.environ.get("HF_ENDPOINT") else "")
            + " and the proxy; what was fetched is kept.",
        )
    if isinstance(link, OSError) and link.errno in (errno.ENOSPC, errno.EDQUOT):
        return BackboneError(
            f"Expected room for {what} on the disk, but it is full.",
            "Free some space, or point HF_HOME to another disk; what was fetched is kept.",
        )
    if isinstance(link, OSError) and link.errno is not None and not isinstance(link, TimeoutError):
        place = f" at {link.filename}" if link.filename else ""
        return BackboneError(
            f"Expected to keep {what} in the cache, got: {link.strerror}{place}.",
            "Point HF_HOME to a folder that can be written "
            f"(now {os.environ.get('HF_HOME', 'the default')}).",
        )
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """`error` and what it was raised from or while handling: the client wraps what happened."""
    link: BaseException | None = error
    for _ in range(10):
        if link is None:
            return
        yield link
        link = link.__cause__ or link.__context__
