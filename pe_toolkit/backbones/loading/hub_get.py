"""Files of a repository into the cache: by xet while anything comes, else by plain HTTP; and with
the digest that the server announced, which the client does not compare. No torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pe_toolkit.errors import BackboneError, PeError

STILL = 30.0
"""Seconds without a byte after which xet, whose client waits for minutes, is given up on."""


@dataclass
class Fetcher:
    """Fetches files of one commit.

    Args:
        seconds: how long the client may wait for what it asks about a file.
        say: told when xet is given up on, and when a file came damaged.
    """

    model_id: str
    commit: str
    seconds: float
    say: Callable[[str], None]
    xet: bool = field(default=True, init=False)

    def get(self, name: str, sha256: str | None = None) -> Path:
        """A file, from the cache or from the server.

        Args:
            sha256: of its bytes; None for whatever comes.

        Raises:
            BackboneError: twice other bytes came than were announced; nothing is kept.
            Exception: what the client raises.
        """
        for _ in range(2):
            path = self._by_xet(name) if self.xet else self._plain(name)
            if sha256 is None or _digest(path) == sha256:
                return path
            self.say(f"{name}: other bytes came than the server announced; fetching them again.")
            self.xet = False
            path.resolve().unlink(missing_ok=True)
            path.unlink(missing_ok=True)
        raise BackboneError(
            f"Expected {name} of {self.model_id} with the bytes that the server announced, but "
            "twice others came: they are damaged on the way, or on the server.",
            "Nothing was kept of this file. Try again, without a proxy or mirror between if there "
            "is one.",
        )

    def _download(self, name: str, **more: Any) -> Path:
        from huggingface_hub import hf_hub_download

        commit, seconds = self.commit, self.seconds
        return Path(
            hf_hub_download(self.model_id, name, revision=commit, etag_timeout=seconds, **more)
        )

    def _plain(self, name: str) -> Path:
        from huggingface_hub import constants

        before = constants.HF_HUB_DISABLE_XET
        constants.HF_HUB_DISABLE_XET = True
        try:
            return self._download(name)
        finally:
            constants.HF_HUB_DISABLE_XET = before

    def _by_xet(self, name: str) -> Path:
        from huggingface_hub import constants

        try:
            from huggingface_hub.utils._xet import abort_xet_session
        except ImportError:  # another client, whose transfers we cannot end
            return self._plain(name)
        if constants.HF_HUB_DISABLE_XET:
            return self._plain(name)
        end: Callable[[], None] = abort_xet_session
        late = threading.Event()
        try:
            with _watched(late, end) as bar:
                return self._download(name, tqdm_class=bar)
        except (Exception, KeyboardInterrupt) as error:
            # What we ended may be called an interrupt, with a text; a real one comes without.
            if isinstance(error, KeyboardInterrupt) and not (late.is_set() and error.args):
                raise
            if not late.is_set() and not _of_xet(error):
                raise
            end()  # else what is left of it keeps the process from ending
        self.say(
            f"The xet storage {'stands still' if late.is_set() else 'failed'}; going on without "
            "it, as with HF_HUB_DISABLE_XET=1."
        )
        self.xet = False
        return self._plain(name)


@contextlib.contextmanager
def _watched(late: threading.Event, end: Callable[[], None]) -> Iterator[type]:
    """The class of a bar; while it does not move for too long, what is running is ended."""
    from huggingface_hub.utils.tqdm import tqdm

    moved, done = [time.monotonic()], threading.Event()

    class Bar(tqdm):
        def update(self, n: float | None = 1) -> bool | None:
            if n:
                moved[0] = time.monotonic()
            shown: bool | None = super().update(n)
            return shown

    def watch() -> None:
        while not done.wait(min(1.0, STILL / 4)):
            if time.monotonic() - moved[0] > STILL:
                late.set()
                end()

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield Bar
    finally:
        done.set()


def _of_xet(error: BaseException) -> bool:
    """Whether the storage failed, and not something that would fail on the other way too."""
    if isinstance(error, PeError | OSError):
        return False
    return type(error).__module__.partition(".")[0] not in ("huggingface_hub", "httpx", "httpx2")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
