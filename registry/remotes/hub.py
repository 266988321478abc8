"""The Hugging Face Hub as a remote, through huggingface_hub itself.

A repository holds `card.safetensors`, a README, and a preview if one was given. What the client
leaves open is closed here: a commit names the commit that it follows, so that two pushers cannot
overwrite each other; what fails for a reason that passes is repeated, a commit only after a look
whether it arrived; and bytes that were downloaded are compared with the digest that the Hub
announced, because the client compares only their number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from huggingface_hub import constants, get_session, get_token
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

from pe_toolkit.card.reader import verify_card
from pe_toolkit.errors import UsageError
from pe_toolkit.registry.references import HubReference, RemoteReference
from pe_toolkit.registry.remotes.base import (
    SIGNATURE_FILE,
    TAG,
    Check,
    Found,
    Pulled,
    Pushed,
    PushOptions,
    Tell,
    silent,
)
from pe_toolkit.registry.remotes.hub_errors import explained, refused
from pe_toolkit.registry.remotes.hub_guard import MOST_JSON, SLOWEST, guarded
from pe_toolkit.registry.remotes.hub_state import RepoState, setting, state_of, timed
from pe_toolkit.registry.remotes.retry import Backoff, retry

if TYPE_CHECKING:
    from huggingface_hub import HfApi

SCHEME = "hf"
T = TypeVar("T")
SECONDS = 60.0
"""How long a request may stay without any answer."""
MOST_FOUND = 1000
MOST_SEARCH, MOST_ENTRY = 1 << 20, 1 << 14
"""Bytes of an answer to a search, and for each repository: with README metadata, some 2,000."""


def connect(reference: RemoteReference, *, tell: Tell = silent) -> HubRemote:
    """The repository on the Hub that a reference names."""
    if not isinstance(reference, HubReference):
        raise UsageError(f"Expected owner/name, got {reference}.")
    return HubRemote(reference, tell=tell)


class HubRemote:
    """A repository on the Hub.

    Args:
        reference: the repository; None to search only.
        endpoint: the server. Default: HF_ENDPOINT, else https://huggingface.co.
        token: default: HF_TOKEN, else that of `hf auth login`.
        backoff: how often and how long to wait where the client does not.
        timeout: seconds that a request may stay without an answer.
        tell: told about repetitions and the use of the cache.
    """

    def __init__(
        self,
        reference: HubReference | None = None,
        *,
        endpoint: str | None = None,
        token: str | None = None,
        backoff: Backoff | None = None,
        timeout: float | None = None,
        tell: Tell = silent,
    ) -> None:
        self.reference = reference
        self.endpoint = (endpoint or constants.ENDPOINT).rstrip("/")
        self.token = token or get_token()
        self.backoff = backoff or Backoff()
        self.timeout = timeout or SECONDS
        self.tell = tell

    @cached_property
    def api(self) -> HfApi:
        """The client; its module is large, and only `push` needs it."""
        from huggingface_hub import HfApi

        return HfApi(endpoint=self.endpoint, token=self.token or False)

    @property
    def repo_id(self) -> str:
        """`owner/name`.

        Raises:
            UsageError: if this remote is for searching only.
        """
        if self.reference is None:
            raise UsageError("Expected the name of a repository, got none.", "Write owner/name.")
        return self.reference.repo_id

    @property
    def url(self) -> str:
        """The page of the repository."""
        return f"{self.endpoint}/{self.repo_id}"

    @property
    def headers(self) -> dict[str, str]:
        """For requests to the endpoint that the client has no function for."""
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    def push(self, card: Path, options: PushOptions) -> Pushed:
        """Bring a card to the Hub; see `Remote.push`."""
        from pe_toolkit.registry.remotes.hub_push import push

        return push(self, card, options)

    def pull(self, check: Check = verify_card) -> Pulled:
        """Fetch the card into the cache of huggingface_hub; see `Remote.pull`."""
        from pe_toolkit.registry.remotes.hub_pull import pull

        return pull(self, check)

    def search(
        self, words: Sequence[str], *, backbone: str | None, author: str | None, limit: int
    ) -> list[Found]:
        """Repositories tagged `motion-card`; see `Remote.search`."""
        if not 1 <= limit <= MOST_FOUND:
            raise UsageError(f"Expected a limit from 1 to {MOST_FOUND}, got {limit}.")
        filters = [TAG]
        if backbone:
            filters.append(f"base_model:{backbone}" if "/" in backbone else backbone)
        params: dict[str, Any] = {
            "filter": filters, "limit": limit, "full": "true", "cardData": "true",
        }  # fmt: skip
        if words:
            params["search"] = " ".join(words)
        if author:
            params["author"] = author

        # Not `HfApi.list_models`: it offers no time-out.
        def ask() -> Any:
            url = f"{self.endpoint}/api/models"
            response = get_session().get(
                url, params=params, headers=self.headers, timeout=self.timeout
            )
            response.raise_for_status()
            return response.json()

        with explained("", self.endpoint, self.token, "search"):
            items = self.again(ask, most=MOST_SEARCH + limit * MOST_ENTRY)
            if not isinstance(items, list):
                raise ValueError("the server sent something that is no list of repositories")
            return [_found(item) for item in items[:limit] if isinstance(item, dict)]

    def once(
        self, action: Callable[[], T], *, most: int = MOST_JSON, seconds: float | None = None
    ) -> T:
        """`action`, within bounds; see `guarded`.

        Args:
            most: bytes of the body of an answer.
            seconds: in all, beside the time-out of each wait. Default: twice that;
                infinite: as long as it takes.
        """
        total = 2 * self.timeout if seconds is None else seconds
        bound = total if math.isfinite(total) else None
        with (
            # Else the client asks the server which agents there are, and believes any answer.
            setting("HF_HUB_DISABLE_TELEMETRY", True),
            timed(self.timeout),
            guarded(self.endpoint, self.token, most=most, seconds=bound),
        ):
            return action()

    def again(
        self,
        action: Callable[[], T],
        settled: Callable[[], T | None] | None = None,
        *,
        most: int = MOST_JSON,
        seconds: float | None = None,
    ) -> T:
        """As `once`, repeated as `retry` says."""
        return retry(
            lambda: self.once(action, most=most, seconds=seconds),
            self.backoff, settled=settled, on_wait=self.tell,
        )  # fmt: skip

    def seconds_for(self, size: int) -> float:
        """How long a download of so many bytes may take."""
        return 2 * self.timeout + size / SLOWEST

    def state(self, revision: str | None = None) -> RepoState | None:
        """The repository as it is now; None if there is none, or no such revision.

        Raises:
            Exception: what the client raises, also for a repository that we may not see into.
        """

        def look() -> RepoState | None:
            try:
                info = self.api.model_info(
                    self.repo_id, revision=revision, files_metadata=True, timeout=self.timeout
                )
            except RevisionNotFoundError:
                return None
            except RepositoryNotFoundError as error:
                if type(error) is not RepositoryNotFoundError or refused(error, self.token):
                    raise  # gated, or our token is bad
                return None
            return state_of(info)

        return self.again(look)


def _found(item: dict[str, Any]) -> Found:
    """One repository of the answer. Whoever wrote its README chose these values: trust no type."""

    def text(value: Any) -> str:
        return value[:200] if isinstance(value, str) else ""

    def count(value: Any) -> int | None:
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    front = item.get("cardData")
    front = front if isinstance(front, dict) else {}
    card = front.get("motion_card")
    card = card if isinstance(card, dict) else {}
    tags, siblings = item.get("tags"), item.get("siblings")
    license_text = text(front.get("license_name")) or text(front.get("license"))
    name = text(item.get("id")) or text(item.get("modelId"))
    return Found(
        reference=name,
        author=text(item.get("author")) or name.partition("/")[0],
        version=text(card.get("version")),
        backbone=text(card.get("backbone")),
        license=license_text,
        updated=text(item.get("lastModified")),
        downloads=count(item.get("downloads")),
        likes=count(item.get("likes")),
        private=item.get("private") is True,
        gated=item.get("gated") not in (None, False),
        signed=any(
            isinstance(file, dict) and file.get("rfilename") == SIGNATURE_FILE
            for file in (siblings if isinstance(siblings, list) else ())
        ),
        tags=tuple(text(tag) for tag in tags[:50]) if isinstance(tags, list) else (),
    )
