"""Repeating what failed for a reason that passes: too many requests, server errors, cut lines.

huggingface_hub repeats uploads and downloads by itself, but not the creation of a repository, a
commit or a tag, and no look-ups. Those go through `retry`.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from pe_toolkit.errors import PeError

T = TypeVar("T")

PASSING_STATUS = frozenset({408, 429, 500, 502, 503, 504})
# By name, because the library below huggingface_hub is httpx or httpx2, depending on its version.
_PASSING_CLASSES = frozenset({"TimeoutException", "NetworkError", "RemoteProtocolError"})
NO_CONNECTION = "there is no connection to the server"
_TOO_SHORT = "Consistency check failed"


@dataclass(frozen=True)
class Backoff:
    """How often and how long to wait.

    Args:
        tries: attempts in all.
        first: seconds before the second attempt; doubled for each further one.
        longest: most seconds between two attempts, unless the server asks for more.
        patience: most seconds that a server may ask us to wait.
    """

    tries: int = 5
    first: float = 1.0
    longest: float = 16.0
    patience: float = 300.0

    def waits(self) -> Iterator[float]:
        """Seconds to wait after each failed attempt but the last."""
        for count in range(self.tries - 1):
            # Spread, so that many clients that failed together do not come back together.
            yield min(self.first * 2**count, self.longest) * random.uniform(0.75, 1.25)


def retry(
    action: Callable[[], T],
    backoff: Backoff,
    *,
    settled: Callable[[], T | None] | None = None,
    on_wait: Callable[[str], None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """The result of `action`, repeated while it fails for a reason that passes.

    Args:
        settled: asked before each repetition, and after the last attempt, whether it took effect
            although its answer was lost: its result, or None. Raises PeError if repeating would do
            harm.
        on_wait: told why and how long we wait.

    Raises:
        Exception: the last one of `action`; at once if it is of a kind that stays.
    """
    waits = backoff.waits()
    while True:
        try:
            return action()
        except Exception as error:
            reason = passing(error)
            wait = next(waits, None)
            if reason is None:
                raise
            wait = None if wait is None else max(wait, asked_wait(error) or 0.0)
            if wait is None or wait > backoff.patience:
                if settled is not None and (result := _at_last(settled)) is not None:
                    return result
                raise
            if on_wait is not None:
                on_wait(f"{reason}; trying again in {wait:.0f} s")
        sleep(wait)
        if settled is not None and (result := settled()) is not None:
            return result


def _at_last(settled: Callable[[], T | None]) -> T | None:
    """Whether the last attempt took effect; None also if even that cannot be found out."""
    try:
        return settled()
    except PeError:
        raise
    except Exception:
        return None


def passing(error: BaseException) -> str | None:
    """Why `error` may pass by itself, in a few words, or None if it stays."""
    for link in chain(error):
        status = status_of(link)
        if status is not None:
            return f"the server answered {status}" if status in PASSING_STATUS else None
        names = {kind.__name__ for kind in type(link).__mro__}
        if names & _PASSING_CLASSES:
            if "ConnectTimeout" in names:
                return NO_CONNECTION
            if "TimeoutException" in names:
                return "the server does not answer"
            return NO_CONNECTION if "ConnectError" in names else "the connection was cut"
        if isinstance(link, json.JSONDecodeError | UnicodeDecodeError):
            return "the server sent no sound answer"
        if isinstance(link, OSError) and _TOO_SHORT in str(link):
            return "the file came incomplete"
    return None


def chain(error: BaseException) -> Iterator[BaseException]:
    """`error` and what it was raised from: the client wraps what the network said."""
    link: BaseException | None = error
    for _ in range(10):
        if link is None:
            return
        yield link
        link = link.__cause__


def response_of(error: BaseException) -> Any:
    """The HTTP response that an error of the client carries, or None."""
    for link in chain(error):
        response = getattr(link, "response", None)
        if response is not None:
            return response
    return None


def status_of(error: BaseException) -> int | None:
    """The HTTP status that an error (not its causes) carries, or None."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def asked_wait(error: BaseException) -> float | None:
    """Seconds that the server asked us to wait, or None."""
    response = response_of(error)
    if response is None:
        return None
    value = str(response.headers.get("Retry-After", "")).strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    # `RateLimit: "api";r=0;t=55`: nothing remains, for 55 seconds
    fields = dict(
        part.strip().partition("=")[::2]
        for part in str(response.headers.get("RateLimit", "")).split(";")
    )
    seconds = fields.get("t", "")
    if fields.get("r") == "0" and seconds.isascii() and seconds.isdigit():
        return float(seconds[:9])
    return None
