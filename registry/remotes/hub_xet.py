"""xet, the storage behind the Hub: used where it works, with an end to the waiting, else gone
without.

Its client waits up to 6 minutes for each request and says nothing meanwhile; and an upload from
memory asks for xet even where the server has none. Everything here can also go by plain HTTP.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from huggingface_hub import constants, get_session

from pe_toolkit.errors import PeError
from pe_toolkit.registry.remotes.hub_errors import cleaned
from pe_toolkit.registry.remotes.hub_state import setting
from pe_toolkit.registry.remotes.retry import chain, passing, response_of

if TYPE_CHECKING:
    from pe_toolkit.registry.remotes.hub import HubRemote

T = TypeVar("T")
SHARE = 0.5
"""Of the time that a request may stay without an answer: how long xet may take to begin."""
SLOWEST = 200_000
"""Bytes per second below which plain HTTP does better: it goes on as long as anything comes."""
AGAIN = 1.0
"""Seconds between two attempts to end what is too late."""


def without_xet() -> contextlib.AbstractContextManager[None]:
    """The client does not use xet while the block runs."""
    return setting("HF_HUB_DISABLE_XET", True)


def takes_xet(remote: HubRemote) -> bool:
    """Whether to upload by xet: the server offers it, and the user did not turn it off."""
    if constants.HF_HUB_DISABLE_XET:
        return False
    url = f"{remote.endpoint}/api/models/{remote.repo_id}/xet-write-token/main"
    response = remote.again(
        lambda: get_session().get(url, headers=remote.headers, timeout=remote.timeout)
    )
    if constants.HUGGINGFACE_HEADER_X_XET_ENDPOINT not in response.headers:
        return False
    try:  # xet's own client reads the body, and repeats for minutes what it does not understand
        return response.status_code == 200 and bool(response.json()["casUrl"])
    except (ValueError, KeyError, TypeError):
        return False


def by_xet(remote: HubRemote, action: Callable[[], T], otherwise: Callable[[], T], size: int) -> T:
    """`action` with xet. If that fails, or takes too long for `size` bytes, `otherwise` without."""
    try:
        from huggingface_hub.utils._xet import abort_xet_session
    except ImportError:  # another client, whose transfers we cannot end
        with without_xet():
            return otherwise()
    end: Callable[[], None] = abort_xet_session
    seconds = remote.timeout * SHARE + size / SLOWEST
    late = threading.Event()
    try:
        with _ended(seconds, late, end):
            return action()
    except (Exception, KeyboardInterrupt) as error:
        # What we ended may be called an interrupt, with a text; a real one comes without.
        if isinstance(error, KeyboardInterrupt) and not (late.is_set() and error.args):
            raise
        end()  # else what is left of it keeps the process from ending
        why = f"failed ({cleaned(str(error), remote.token)})" if _of_xet(error) else ""
    if late.is_set():
        why = f"did not finish within {seconds:.0f} s"
    if why:
        remote.tell(f"The xet storage {why}; going on without it, as with HF_HUB_DISABLE_XET=1.")
    with without_xet():
        return otherwise()


@contextlib.contextmanager
def _ended(seconds: float, late: threading.Event, end: Callable[[], None]) -> Iterator[None]:
    """End what xet does after so many seconds, and whatever it begins after that."""
    done = threading.Event()

    def watch() -> None:
        wait = seconds
        while not done.wait(wait):
            late.set()
            end()
            wait = AGAIN

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        done.set()


def _of_xet(error: BaseException) -> bool:
    """Whether the storage failed, and not something that will also be said on the other way."""
    response: Any = response_of(error)
    if response is not None:
        return "/xet-" in str(response.url)  # where its tokens come from
    return passing(error) is None and not any(
        isinstance(link, PeError) or (isinstance(link, OSError) and link.errno is not None)
        for link in chain(error)
    )
