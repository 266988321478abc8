"""What a server may do to us: how many bytes it sends, how long it takes, what becomes a path.

The client believes its server: it writes what comes until the end comes, waits as long as a byte
comes in time, takes the ETag and the commit for file names, and sends the token wherever the server
says. Here every request of a block is looked at on its way out, and every answer before the client
sees it. Nothing changes for requests of other threads, apart from our token: that goes to the
endpoint only, whoever sends it.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
import weakref
from collections import Counter
from collections.abc import Iterator
from socket import SHUT_RDWR
from typing import Any
from urllib.parse import urlsplit

from huggingface_hub import constants, get_session

from pe_toolkit.registry.remotes.errors import RemoteError, UnreachableError
from pe_toolkit.shown import shown

MOST_JSON = 8 << 20
"""Bytes of an answer that is no file of a known size."""
SLOWEST = 20_000
"""Bytes per second that a download must reach, apart from the time for an answer."""
HEX = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}", re.ASCII)
"""What a Hub calls a commit, or the content of a file."""
_RANGE = re.compile(r"bytes=(\d{1,15})-", re.ASCII)
_HERE = threading.local()
_LOCK = threading.Lock()
_BEARERS: Counter[tuple[str, str]] = Counter()
"""`Bearer <token>` and the endpoint that may see it -> blocks that are active."""


class Guard:
    """The bounds of one block.

    Args:
        endpoint: the server.
        most: bytes of the body of an answer.
        seconds: for all requests together; None: as long as it takes.
    """

    def __init__(self, endpoint: str, most: int, seconds: float | None) -> None:
        self.endpoint = endpoint
        self.most = most
        self.seconds = seconds
        self.end = None if seconds is None else time.monotonic() + seconds
        self.late = threading.Event()

    def check(self) -> None:
        """Whether there is time left.

        Raises:
            UnreachableError: if not.
        """
        if self.late.is_set() or (self.end is not None and time.monotonic() >= self.end):
            raise UnreachableError(
                f"Expected the whole answer within {self.seconds:.0f} s, but the server is slower.",
                "Nothing was kept. Try again, or on a faster line.",
            )


@contextlib.contextmanager
def guarded(
    endpoint: str, token: str | None, *, most: int = MOST_JSON, seconds: float | None = None
) -> Iterator[None]:
    """Hold the requests of this thread to bounds while the block runs.

    Args:
        endpoint: the server, which alone may see the token.
        most: bytes of the body of an answer, of which none may be compressed: what is small on the
            line may be large in memory.
        seconds: for all requests together, whatever comes meanwhile; None: as long as it takes.

    Raises:
        RemoteError: when a server sends more than that, or names that are none.
        UnreachableError: when the time is over.
    """
    _watch(get_session())
    bearer = (f"Bearer {token or ''}", endpoint)
    outer = getattr(_HERE, "guard", None)
    _HERE.guard = guard = Guard(endpoint, most, seconds)
    with _LOCK:
        _BEARERS[bearer] += 1
    timer = None
    if seconds is not None:
        # A server that sends one byte of a header a minute is in time for ever.
        timer = threading.Timer(seconds, _hang_up, (guard, _sockets()))
        timer.daemon = True
        timer.start()
    try:
        yield
    except Exception as error:
        if guard.late.is_set() and not isinstance(error, UnreachableError):
            guard.check()
        raise
    finally:
        if timer is not None:
            timer.cancel()
        _HERE.guard = outer
        with _LOCK:
            _BEARERS[bearer] -= 1
            if not _BEARERS[bearer]:
                del _BEARERS[bearer]


def commit_name(text: str) -> str:
    """`text`, if it can be the name of a commit: it becomes a path.

    Raises:
        RemoteError: if not.
    """
    if HEX.fullmatch(text) is None:
        raise RemoteError(
            f"Expected the name of a commit, 40 hex digits, got {shown(text)} from the server.",
            "Is it a Hugging Face Hub? HF_ENDPOINT says which server is asked.",
        )
    return text


def file_name(text: str) -> str:
    """`text`, if it can be what a Hub calls the content of a file; see `commit_name`."""
    if HEX.fullmatch(text) is None:
        raise RemoteError(
            "Expected the digest of a file, 40 or 64 hex digits, as its ETag, got "
            f"{shown(text)} from the server.",
            "Is it a Hugging Face Hub? HF_ENDPOINT says which server is asked.",
        )
    return text


def _watch(session: Any) -> None:
    """Have the session show us its requests and answers; once is enough."""
    hooks = session.event_hooks
    if _on_request not in hooks["request"]:
        session.event_hooks = {
            "request": [*hooks["request"], _on_request],
            "response": [*hooks["response"], _on_response],
        }


def _on_request(request: Any) -> None:
    bearer = request.headers.get("Authorization", "")
    with _LOCK:
        ours = [endpoint for text, endpoint in _BEARERS if text == bearer]
    # Also in the threads of the client, which uploads several files at once.
    if bearer and ours and _origin(str(request.url)) not in map(_origin, ours):
        del request.headers["Authorization"]
    guard: Guard | None = getattr(_HERE, "guard", None)
    if guard is None:
        return
    guard.check()
    request.headers["Accept-Encoding"] = "identity"
    request.extensions.setdefault("trace", _on_connection)


def _on_connection(name: str, info: dict[str, Any]) -> None:
    """A connection was made: what to hang up on."""
    if name in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
        _keep_socket(info.get("return_value"))


def _on_response(response: Any) -> None:
    guard: Guard | None = getattr(_HERE, "guard", None)
    if guard is None:
        return
    guard.check()
    headers = response.headers
    if "X-Repo-Commit" in headers:  # it is about a file: the client makes paths of these
        commit_name(headers["X-Repo-Commit"])
        plain = headers.get("ETag") if response.status_code < 300 else None  # else of the page
        if etag := headers.get("X-Linked-Etag") or plain:
            file_name(etag.removeprefix("W/").strip('"'))
        _check_xet(response, guard)
    if headers.get("Content-Encoding", "identity") != "identity":
        raise RemoteError(
            "Expected an answer as it is, got one that is compressed, which was not asked for.",
            "Try again without a proxy between if there is one.",
        )
    most = guard.most
    start = _RANGE.fullmatch(response.request.headers.get("Range", ""))
    if start is not None and response.status_code == 206:  # the rest of a file
        most = max(0, most - int(start[1]))
    response.stream = _bounded(response.stream, guard, most)


def _check_xet(response: Any, guard: Guard) -> None:
    """Take an offer of xet away that would name a path, or bring the token to another server."""
    route = response.links.get("xet-auth", {}).get("url") or response.headers.get(
        "X-Xet-Refresh-Route", guard.endpoint
    )
    known = map(_origin, (guard.endpoint, constants.HUGGINGFACE_CO_URL_HOME))
    if not HEX.fullmatch(response.headers.get("X-Xet-Hash", "")) or _origin(route) not in known:
        response.headers.pop("X-Xet-Hash", None)


def _bounded(stream: Any, guard: Guard, most: int) -> Any:
    """A stream of the client's library that ends with an error after so many bytes."""

    def chunks(_: Any) -> Iterator[bytes]:
        count = 0
        for chunk in stream:
            guard.check()
            count += len(chunk)
            if count > most:
                raise RemoteError(
                    f"Expected at most {most} bytes from the server, but it sends more.",
                    "Nothing was kept. Try again, without a proxy or mirror between if there is "
                    "one.",
                )
            yield chunk

    # By name, because the library below huggingface_hub is httpx or httpx2.
    base = next(kind for kind in type(stream).__mro__ if kind.__name__ == "SyncByteStream")
    return type("Bounded", (base,), {"__iter__": chunks, "close": lambda _: stream.close()})()


def _sockets() -> weakref.WeakSet[Any]:
    """The connections that this thread made in blocks, some of which may be used again."""
    if not hasattr(_HERE, "sockets"):
        _HERE.sockets = weakref.WeakSet()
    found: weakref.WeakSet[Any] = _HERE.sockets
    return found


def _keep_socket(stream: Any) -> None:
    socket = stream.get_extra_info("socket") if hasattr(stream, "get_extra_info") else None
    if socket is not None:
        _sockets().add(socket)


def _hang_up(guard: Guard, sockets: weakref.WeakSet[Any]) -> None:
    guard.late.set()
    for socket in list(sockets):
        with contextlib.suppress(OSError):
            socket.shutdown(SHUT_RDWR)  # wakes whoever waits for it; closing it would not


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, parts.hostname or "", port
