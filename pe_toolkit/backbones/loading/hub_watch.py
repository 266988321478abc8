"""An eye on the client's requests: it waits for a silent server for minutes, and makes paths of the
names that a server gives to commits and files. No torch.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pe_toolkit.errors import BackboneError

TRIES = 3
"""Requests in a row without an answer."""
_NAME = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@contextlib.contextmanager
def patient(seconds: float) -> Iterator[None]:
    """Have the client give up on a server that stays silent, and take no name that is no digest.

    Args:
        seconds: how long a request may wait for an answer, or for more of it.

    Raises:
        BackboneError: the server does not answer, or sends such a name.
    """
    from huggingface_hub import constants, get_session

    session, watch = get_session(), _Watch(seconds)
    timeout, hooks = session.timeout, session.event_hooks
    untold = constants.HF_HUB_DISABLE_TELEMETRY
    # Else the client asks the server which agents there are, and believes any answer.
    constants.HF_HUB_DISABLE_TELEMETRY = True
    session.timeout = seconds
    session.event_hooks = {
        "request": [*hooks["request"], watch.asked],
        "response": [*hooks["response"], watch.answered],
    }
    try:
        yield
    finally:
        session.timeout, session.event_hooks = timeout, hooks
        constants.HF_HUB_DISABLE_TELEMETRY = untold


@dataclass
class _Watch:
    seconds: float
    silent: int = 0

    def asked(self, request: Any) -> None:
        self.silent += 1
        if self.silent > TRIES:
            raise BackboneError(
                "Expected an answer from the Hugging Face Hub, but the server does not answer.",
                "Try again later; what was fetched is kept.",
            )
        waits = request.extensions.get("timeout") or {}
        request.extensions["timeout"] = {
            kind: self.seconds if waits.get(kind) is None else min(waits[kind], self.seconds)
            for kind in ("connect", "read", "write", "pool")
        }

    def answered(self, response: Any) -> None:
        self.silent = 0
        headers = response.headers
        if "X-Repo-Commit" not in headers:  # it is not about a file
            return
        plain = headers.get("ETag") if response.status_code < 300 else None
        tag = headers.get("X-Linked-Etag") or plain
        names = [headers["X-Repo-Commit"], *([tag.removeprefix("W/").strip('"')] if tag else [])]
        for name in names:
            if _NAME.fullmatch(name) is None:
                raise BackboneError(
                    "Expected hex digits as the name of a commit or a file from the server, got "
                    f"{ascii(name)[:60]}.",
                    "Is it a Hugging Face Hub? HF_ENDPOINT says which server is asked.",
                )
