"""What is repeated, how often, and after which waits; with the errors that the client raises."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from pe_toolkit.registry.remotes.retry import Backoff, asked_wait, passing, retry

httpx2 = pytest.importorskip("httpx2", reason="huggingface_hub 1 has httpx, with the same names")
REQUEST = httpx2.Request("GET", "http://127.0.0.1/")


def answered(status: int, **headers: str) -> HfHubHTTPError:
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    response = httpx2.Response(status, headers=named, request=REQUEST)
    return HfHubHTTPError(f"status {status}", response=response)


def failing(*errors: Exception) -> tuple[Callable[[], str], list[int]]:
    """An action that raises `errors` one after the other, and then succeeds."""
    calls: list[int] = []

    def action() -> str:
        calls.append(1)
        if len(calls) <= len(errors):
            raise errors[len(calls) - 1]
        return "done"

    return action, calls


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_passing_status_is_repeated(status: int) -> None:
    action, calls = failing(answered(status), answered(status))
    waits: list[float] = []
    assert retry(action, Backoff(first=1.0), sleep=waits.append) == "done"
    assert len(calls) == 3
    assert 0.75 <= waits[0] <= 1.25
    assert 1.5 <= waits[1] <= 2.5


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 412, 413])
def test_what_stays_is_not_repeated(status: int) -> None:
    action, calls = failing(answered(status))
    with pytest.raises(HfHubHTTPError):
        retry(action, Backoff(), sleep=pytest.fail)
    assert len(calls) == 1


@pytest.mark.parametrize(
    "error",
    [
        httpx2.ConnectError("refused", request=REQUEST),
        httpx2.ReadTimeout("slow", request=REQUEST),
        httpx2.ReadError("reset", request=REQUEST),
        httpx2.RemoteProtocolError("hung up", request=REQUEST),
        json.JSONDecodeError("not JSON", "<html>", 0),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        OSError("Consistency check failed: file should be of size 5 but has size 4"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_bad_line_is_repeated(error: Exception) -> None:
    action, calls = failing(error)
    assert retry(action, Backoff(), sleep=lambda seconds: None) == "done"
    assert len(calls) == 2


@pytest.mark.parametrize("error", [OSError(28, "No space left"), ValueError("x"), KeyError("x")])
def test_our_own_trouble_is_not_repeated(error: Exception) -> None:
    assert passing(error) is None


def test_the_cause_of_an_error_counts() -> None:
    """The client raises `LocalEntryNotFoundError` from what the network said."""
    for cause, expected in [(answered(503), True), (answered(403), False)]:
        error = LocalEntryNotFoundError("cannot find the file")
        error.__cause__ = cause
        assert (passing(error) is not None) is expected


def test_tries_are_bounded() -> None:
    action, calls = failing(*[answered(503)] * 9)
    with pytest.raises(HfHubHTTPError, match="503"):
        retry(action, Backoff(tries=4), sleep=lambda seconds: None)
    assert len(calls) == 4


def test_waits_are_bounded() -> None:
    waits = list(Backoff(tries=12, first=1, longest=16).waits())
    assert len(waits) == 11
    assert max(waits) <= 16 * 1.25


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry_After": "7"}, 7),
        ({"RateLimit": '"api";r=0;t=55'}, 55),
        ({"RateLimit": '"api";r=3;t=55'}, None),
        ({"Retry_After": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        ({"Retry_After": "²"}, None),
        ({}, None),
    ],
)
def test_the_server_may_ask_for_a_wait(headers: dict[str, str], seconds: float | None) -> None:
    raw: Any = {key.replace("_", "-"): value for key, value in headers.items()}
    error = RuntimeError()
    error.response = SimpleNamespace(headers=raw)  # type: ignore[attr-defined]
    assert asked_wait(error) == seconds


def test_a_wait_that_is_asked_for_is_kept_and_told() -> None:
    action, _ = failing(answered(429, Retry_After="7"))
    waits: list[float] = []
    said: list[str] = []
    retry(action, Backoff(first=0.1), sleep=waits.append, on_wait=said.append)
    assert waits == [7]
    assert said == ["the server answered 429; trying again in 7 s"]


def test_a_wait_beyond_patience_is_an_error_at_once() -> None:
    action, calls = failing(answered(429, Retry_After="3600"))
    with pytest.raises(HfHubHTTPError):
        retry(action, Backoff(patience=300), sleep=pytest.fail)
    assert len(calls) == 1


def test_an_attempt_that_took_effect_is_not_repeated() -> None:
    action, calls = failing(answered(500))
    assert retry(action, Backoff(), settled=lambda: "there", sleep=lambda s: None) == "there"
    assert len(calls) == 1


def test_the_last_attempt_may_have_taken_effect_too() -> None:
    action, calls = failing(answered(500), answered(500))
    answers = iter([None, "there"])
    done = retry(action, Backoff(2), settled=lambda: next(answers), sleep=lambda s: None)
    assert done == "there"
    assert len(calls) == 2


def test_if_nobody_can_say_the_error_counts() -> None:
    action, _ = failing(answered(500))

    def settled() -> str:
        raise answered(503)

    with pytest.raises(HfHubHTTPError, match="status 500"):
        retry(action, Backoff(1), settled=settled)


def test_interruption_is_never_caught() -> None:
    def action() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        retry(action, Backoff(), sleep=pytest.fail)
