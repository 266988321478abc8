"""The server of the page: it answers at once, while gradio (some three seconds) and then torch are
imported behind it.

Nothing but this machine is asked for anything: the browser is told to load from here only, gradio
is told not to report, and what it would fetch for a visitor is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import threading
import warnings
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any, TextIO

from pe_toolkit.cli.page.studio import Said
from pe_toolkit.errors import OutputError, UsageError
from pe_toolkit.shown import shown

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

FIRST_PORT = 7860
WATCHERS = 1000
"""Threads for what is asked of the page: a tab that waits for a job takes one."""
PORTS = 40
"""How many ports are tried where none was asked for."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' data: blob:; "
    "font-src 'self' data:; worker-src 'self' blob:; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'none'"
)
HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
]
STARTING = b"""<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="1"><link rel="icon" href="data:,"><title>pe-toolkit</title>
<style>
body{font:1.1rem sans-serif;display:grid;place-content:center;min-height:90vh;text-align:center}
@media (prefers-color-scheme:dark){body{background:#0b0f19;color:#f3f4f6}}
</style></head><body><h1>pe-toolkit</h1><p>Starting. The page comes by itself in a few
seconds.</p></body></html>"""


def listen(host: str, port: int | None) -> socket.socket:
    """A socket that accepts: at `port`, else at the first free one from 7860 on.

    Raises:
        OutputError: it is taken, or there is no such address.
    """
    ports = [port] if port is not None else range(FIRST_PORT, FIRST_PORT + PORTS)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for number in ports:
        made = socket.socket(family)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind((host, number))
            made.listen(100)  # from now on a browser waits rather than being refused
            return made
        except (OSError, TypeError, UnicodeError) as error:
            made.close()
            if not isinstance(error, OSError) or isinstance(error, socket.gaierror):
                raise _no_address(host) from error
            if error.errno == errno.EADDRNOTAVAIL:
                raise _no_address(host) from error
            reason = error.strerror or str(error)
    if port is None:
        raise OutputError(
            f"Expected to serve at {host}, at a port from {FIRST_PORT} to {ports[-1]}, but: "
            f"{reason}.",
            "Let the machine choose one: --port 0",
        )
    raise OutputError(
        f"Expected to serve at {host}:{port}, but: {reason}.",
        "Choose another --port, or leave it out.",
    )


def _no_address(host: str) -> UsageError:
    return UsageError(
        f"Expected --host to be an address of this machine, got {shown(host)}.",
        "Leave it out, or use 0.0.0.0 for all of them.",
    )


def quiet_gradio(folder: Path) -> None:
    """What gradio reads when it is imported: no reports, and every file in one folder.

    Args:
        folder: the only one whose files are served.
    """
    os.environ |= {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_TEMP_DIR": str(folder),
        "GRADIO_EXAMPLES_CACHE": str(folder / "examples"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }


class Front:
    """The ASGI application in front of gradio's.

    Args:
        build: makes gradio's application; called once, in a thread.
        hosts: names under which the page may be asked for; none: any. Another one means that a
            stranger's page has its own name lead here (DNS rebinding).
    """

    def __init__(self, build: Callable[[], Any], hosts: tuple[str, ...]) -> None:
        self.build, self.hosts = build, hosts
        self.inner: Any = None
        self.failed: BaseException | None = None
        self.ending = False
        self.on_failure: Callable[[], None] = lambda: None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, _with_headers(send))

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
        name = host.rsplit(":", 1)[0].strip("[]") if not host.endswith("]") else host.strip("[]")
        path = scope["path"]
        if self.hosts and name not in self.hosts:
            await _reply(send, 403, b"Open this page by the address that `pe ui` printed.")
        elif "/file=http" in path or "/proxy=" in path:  # what a visitor would have us fetch
            await _reply(send, 403, b"Nothing is fetched from elsewhere.")
        elif self.inner is not None:
            await self.inner(scope, receive, send)
        elif scope["method"] in ("GET", "HEAD") and path == "/":
            await _reply(send, 200, STARTING)
        else:
            await _reply(send, 503, b"Starting.")

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        begun = asyncio.Event()
        stack = contextlib.AsyncExitStack()
        task = asyncio.create_task(self._begin(stack, begun))
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self.ending = True
        if begun.is_set():
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await send({"type": "lifespan.shutdown.complete"})

    async def _begin(self, stack: contextlib.AsyncExitStack, begun: asyncio.Event) -> None:
        """Import and build in a thread, then let gradio's application live until the end."""
        import anyio

        # Who watches a job waits in a thread; nobody else is to wait for a free one.
        anyio.to_thread.current_default_thread_limiter().total_tokens = WATCHERS
        async with stack:
            try:
                inner = await asyncio.to_thread(self.build)
                if self.ending:  # Ctrl-C in the first seconds
                    return
                await stack.enter_async_context(inner.router.lifespan_context(inner))
            except BaseException as error:
                self.failed = error
                self.on_failure()
                return
            self.inner = inner
            begun.set()
            if self.ending:
                return
            await asyncio.Event().wait()  # until it is cancelled


def serve(front: Front, made: socket.socket) -> None:
    """Serve until Ctrl-C.

    Raises:
        KeyboardInterrupt: it was pressed, or SIGTERM came.
        BaseException: whatever building the page raised.
    """
    import uvicorn

    config = uvicorn.Config(
        front, log_level="error", access_log=False, ws="none", server_header=False,
        timeout_graceful_shutdown=1,
    )  # fmt: skip
    server = uvicorn.Server(config)
    front.on_failure = lambda: setattr(server, "should_exit", True)
    server.run(sockets=[made])
    if front.failed is not None:
        raise front.failed


@contextlib.contextmanager
def warnings_to(said: Said, thread: threading.Thread) -> Iterator[None]:
    """What pe-toolkit warns of while it works goes to the page, each time that it does."""
    with warnings.catch_warnings():
        warnings.filterwarnings("always", module=r"pe_toolkit\.")
        before = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            ours = category.__module__.startswith("pe_toolkit.")
            if ours and threading.current_thread() is thread:
                said.warn(str(message))
            else:
                before(message, category, filename, lineno, file, line)

        warnings.showwarning = show
        yield


def check_installed() -> None:
    """gradio is there; it is not imported to find out.

    Raises:
        DependencyError: it is not.
    """
    from importlib.util import find_spec

    from pe_toolkit.errors import DependencyError

    if find_spec("gradio") is None:
        raise DependencyError(
            "Expected the package gradio, which draws the page, but it is not installed.",
            'pip install "pe-toolkit[ui]"; from a checkout: pip install -e ".[ui]"',
        )


async def _reply(send: Send, status: int, body: bytes) -> None:
    kind = b"text/html; charset=utf-8" if body.startswith(b"<!") else b"text/plain"
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode()),
               (b"cache-control", b"no-store")]  # fmt: skip
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _with_headers(send: Send) -> Send:
    """`send`, with the headers that keep a page to itself."""

    async def sending(message: Any) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), *HEADERS]
        await send(message)

    return sending


def check_host(host: str) -> tuple[str, ...]:
    """The names under which a page at `host` may be asked for; none, for any, where the host is
    not this machine's own.

    Raises:
        UsageError: no address at all.
    """
    if not host:
        raise UsageError("Expected --host to be an address, got nothing.", "Leave it out.")
    return (*LOOPBACK, host) if host in LOOPBACK or host.startswith("127.") else ()
