"""`push` with the real client against a Hub on loopback: what arrives, and what is refused."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest

from pe_toolkit.card import verify_card
from pe_toolkit.errors import CardError, UsageError
from pe_toolkit.registry.remotes.base import PushOptions
from pe_toolkit.registry.remotes.errors import (
    AccessError,
    ConflictError,
    RemoteError,
    UnreachableError,
)
from pe_toolkit.registry.remotes.hub_state import RepoState
from pe_toolkit.registry.remotes.readme import END, MAX_README
from tests.registry.cards import make_card
from tests.registry.hub import QUIET, TOKEN, card, folder, hub, online, remote
from tests.registry.hub_server import Fault, File, HubServer

__all__ = ["card", "folder", "hub", "online"]
pytestmark = QUIET
PLAIN = PushOptions()
COMMIT = "/commit/"


def text_of(hub: HubServer) -> str:
    return hub.repos["zoe/wave"].files["README.md"].data.decode()


def test_a_repository_holds_the_card_and_a_readme(hub: HubServer, card: Path) -> None:
    done = remote(hub).push(card, PLAIN)
    repo = hub.repos["zoe/wave"]
    assert sorted(repo.files) == [".gitattributes", "README.md", "card.safetensors"]
    file = repo.files["card.safetensors"]
    assert file.lfs
    assert file.data == card.read_bytes()
    assert file.oid == verify_card(card).sha256 == done.digest.removeprefix("sha256:")
    assert done.created
    assert done.committed
    assert done.commit == repo.head
    assert not repo.private
    assert repo.tags == {}
    assert repo.titles[-1] == "Push wave 1.0.0"


def test_the_token_goes_to_the_endpoint_only(hub: HubServer, card: Path) -> None:
    remote(hub).push(card, PLAIN)
    remote(hub).pull()
    elsewhere = [r for r in hub.requests if r.origin == "cdn"]
    assert {r.method for r in elsewhere} == {"PUT", "GET"}
    assert all(r.token is None for r in elsewhere)
    assert all(r.token == TOKEN for r in hub.requests if r.origin == "hub")


def test_identical_content_makes_no_commit(hub: HubServer, card: Path) -> None:
    first = remote(hub).push(card, PLAIN)
    hub.requests.clear()
    again = remote(hub).push(card, PLAIN)
    assert not again.committed
    assert not again.created
    assert again.commit == first.commit
    assert set(again.files.values()) == {"unchanged"}
    assert all(r.method in ("GET", "HEAD") for r in hub.requests)


def test_another_spelling_of_the_repository_changes_nothing(hub: HubServer, card: Path) -> None:
    remote(hub).push(card, PLAIN)
    before, commits = text_of(hub), len(hub.repos["zoe/wave"].commits)
    done = remote(hub, "Zoe/WAVE").push(card, PLAIN)
    assert (done.created, done.committed, done.reference) == (False, False, "zoe/wave")
    assert set(hub.repos) == {"zoe/wave"}
    assert (text_of(hub), len(hub.repos["zoe/wave"].commits)) == (before, commits)


def test_a_new_version_of_a_card(hub: HubServer, card: Path, folder: Path) -> None:
    remote(hub).push(card, PushOptions(tag="1.0.0"))
    newer = make_card(folder, version="1.1.0", seed=1)
    done = remote(hub).push(newer, PushOptions(tag="v1.1.0", message="better"))
    repo = hub.repos["zoe/wave"]
    assert done.files == {"card.safetensors": "changed", "README.md": "changed"}
    assert done.reference == "zoe/wave@v1.1.0"
    assert set(repo.tags) == {"v1.0.0", "v1.1.0"}
    assert repo.tags["v1.1.0"] == repo.head
    assert repo.titles[-1] == "better"
    assert remote(hub, "zoe/wave@1.0.0").pull().path.read_bytes() == card.read_bytes()
    assert remote(hub, "zoe/wave").pull().path.read_bytes() == newer.read_bytes()


def test_a_tag_must_be_the_version_of_the_card(hub: HubServer, card: Path) -> None:
    with pytest.raises(UsageError, match=r"v1\.0\.0"):
        remote(hub).push(card, PushOptions(tag="v2.0.0"))
    assert hub.requests == []


def test_a_tag_does_not_move(hub: HubServer, card: Path, folder: Path) -> None:
    remote(hub).push(card, PushOptions(tag="v1.0.0"))
    repo = hub.repos["zoe/wave"]
    before, head = dict(repo.tags), repo.head
    other = make_card(folder, seed=1)
    hub.requests.clear()
    with pytest.raises(ConflictError, match=r"the tag v1\.0\.0"):
        remote(hub).push(other, PushOptions(tag="v1.0.0"))
    assert (repo.tags, repo.head) == (before, head)
    assert not hub.sent("POST|PUT|DELETE", "")  # refused before anything was sent
    done = remote(hub).push(other, PushOptions(tag="v1.0.0", force=True))
    assert done.tagged
    assert repo.tags == {"v1.0.0": repo.head}
    assert repo.files["card.safetensors"].data == other.read_bytes()


def test_a_tag_of_the_same_bytes_stays_where_it_is(hub: HubServer, card: Path) -> None:
    remote(hub).push(card, PushOptions(tag="v1.0.0"))
    repo = hub.repos["zoe/wave"]
    before = repo.tags["v1.0.0"]
    hub.put("zoe/wave", {"NOTES.md": b"by hand"})
    done = remote(hub).push(card, PushOptions(tag="v1.0.0"))
    assert not done.tagged
    assert repo.tags["v1.0.0"] == before


def test_private(hub: HubServer, card: Path) -> None:
    done = remote(hub).push(card, PushOptions(private=True))
    assert done.private
    assert hub.repos["zoe/wave"].private
    remote(hub).push(card, PLAIN)  # it stays private


def test_private_is_refused_for_what_became_public_meanwhile(
    hub: HubServer, card: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = remote(hub)
    look = ours.state

    def state(revision: str | None = None) -> RepoState | None:
        found = look(revision)
        if found is None and "zoe/wave" not in hub.repos:
            hub.create("zoe/wave")
        return found

    monkeypatch.setattr(ours, "state", state)
    with pytest.raises(UsageError, match="private"):
        ours.push(card, PushOptions(private=True))
    assert "card.safetensors" not in hub.repos["zoe/wave"].files


def test_private_is_refused_for_what_is_public(hub: HubServer, card: Path) -> None:
    hub.create("zoe/wave")
    with pytest.raises(UsageError, match="public"):
        remote(hub).push(card, PushOptions(private=True))
    assert list(hub.repos["zoe/wave"].files) == [".gitattributes"]


def test_dry_run_changes_nothing(hub: HubServer, card: Path) -> None:
    done = remote(hub, token=None).push(card, PushOptions(dry_run=True, tag="v1.0.0"))
    assert done.files == {"card.safetensors": "new", "README.md": "new"}
    assert done.created
    assert done.commit is None
    assert "# `wave` `1.0.0`" in done.readme
    assert all(r.method in ("GET", "HEAD") for r in hub.requests)
    assert hub.repos == {}


def test_hand_written_readme_survives(hub: HubServer, card: Path, folder: Path) -> None:
    remote(hub).push(card, PLAIN)
    text = text_of(hub) + "\n## Notes\n\nFilmed in Ørsta 🎬.\n"
    hub.put("zoe/wave", {"README.md": text.encode()})
    remote(hub).push(make_card(folder, version="2.0.0"), PLAIN)
    assert "Filmed in Ørsta 🎬." in text_of(hub)
    assert "`2.0.0`" in text_of(hub)
    assert text_of(hub).index(END) < text_of(hub).index("Filmed")


@pytest.mark.parametrize(
    "readme", [b"x" * (MAX_README + 1), b"caf\xe9 \xff"], ids=["huge", "not UTF-8"]
)
def test_a_readme_that_we_cannot_edit_is_left_alone(
    hub: HubServer, card: Path, readme: bytes
) -> None:
    hub.put("zoe/wave", {"README.md": readme})
    done = remote(hub).push(card, PLAIN)
    assert done.files == {"card.safetensors": "new"}
    assert "README.md" in done.warnings[0]
    assert hub.repos["zoe/wave"].files["README.md"].data == readme
    assert not hub.sent("GET", "/resolve/.*README") or len(readme) < MAX_README


def test_a_long_readme_within_the_bound_is_kept_whole(hub: HubServer, card: Path) -> None:
    long = b"# Mine\n" + b"A line by hand.\n" * 60_000
    hub.put("zoe/wave", {"README.md": long})
    remote(hub).push(card, PLAIN)
    assert text_of(hub).count("A line by hand.") == 60_000


def test_other_files_are_left_alone(hub: HubServer, card: Path) -> None:
    hub.put("zoe/wave", {"other.bin": b"mine"})
    remote(hub).push(card, PLAIN)
    assert hub.repos["zoe/wave"].files["other.bin"].data == b"mine"


def test_preview(hub: HubServer, card: Path, folder: Path, tmp_path: Path) -> None:
    video = tmp_path / "my holiday.mp4"
    video.write_bytes(b"\0\0\0\x20ftypisom" + b"\0" * 50)
    done = remote(hub).push(card, PushOptions(preview=video))
    files = hub.repos["zoe/wave"].files
    assert done.files["preview.mp4"] == "new"
    assert files["preview.mp4"].data == video.read_bytes()
    assert 'url: "preview.mp4"' in text_of(hub)
    assert "holiday" not in text_of(hub)
    # The same card again, without naming the preview: nothing changes.
    assert not remote(hub).push(card, PLAIN).committed
    # Another card: the old preview would lie about it.
    done = remote(hub).push(make_card(folder, seed=1), PLAIN)
    assert done.files["preview.mp4"] == "deleted"
    assert "preview.mp4" not in hub.repos["zoe/wave"].files
    assert "preview" not in text_of(hub)


@pytest.mark.parametrize(
    ("name", "data"), [("a.mp4", b"no video"), ("a.exe", b"MZ"), ("gone.mp4", None)]
)
def test_what_is_no_preview(
    hub: HubServer, card: Path, tmp_path: Path, name: str, data: bytes | None
) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(UsageError):
        remote(hub).push(card, PushOptions(preview=tmp_path / name))
    assert hub.requests == []


def test_a_damaged_card_is_not_pushed(hub: HubServer, card: Path) -> None:
    data = bytearray(card.read_bytes())
    data[-3] ^= 1
    card.write_bytes(data)
    with pytest.raises(CardError):
        remote(hub).push(card, PLAIN)
    assert hub.requests == []


def test_a_card_that_changes_meanwhile_is_not_pushed(
    hub: HubServer, card: Path, folder: Path
) -> None:
    other = make_card(folder, seed=1).read_bytes()
    hub.create("zoe/wave")
    hub.faults.append(Fault("POST", "/preupload/", action=lambda: card.write_bytes(other)))
    with pytest.raises((CardError, RemoteError)):
        remote(hub).push(card, PLAIN)
    assert "card.safetensors" not in hub.repos["zoe/wave"].files


def test_a_revision_is_no_place_to_push_to(hub: HubServer, card: Path) -> None:
    with pytest.raises(UsageError, match="owner/name to push to"):
        remote(hub, "zoe/wave@v1.0.0").push(card, PLAIN)


# Rights


def test_without_a_token(hub: HubServer, card: Path) -> None:
    with pytest.raises(AccessError) as error:
        remote(hub, token=None).push(card, PLAIN)
    assert "hf auth login" in str(error.value.hint)
    assert hub.requests == []


def test_with_an_expired_token(hub: HubServer, card: Path) -> None:
    hub.expired.add(TOKEN)
    with pytest.raises(AccessError, match="wrong or expired") as error:
        remote(hub).push(card, PLAIN)
    assert TOKEN not in error.value.message + str(error.value.hint)
    assert hub.repos == {}


@pytest.mark.parametrize("there", [True, False])
def test_without_the_right_to_write(hub: HubServer, card: Path, there: bool) -> None:
    if there:
        hub.create("bob/wave")
    with pytest.raises(AccessError, match="the right to push to") as error:
        remote(hub, "bob/wave").push(card, PLAIN)
    assert "settings/tokens" in str(error.value.hint)
    assert not there or list(hub.repos["bob/wave"].files) == [".gitattributes"]


def test_a_server_that_repeats_the_token_does_not_make_us_print_it(
    hub: HubServer, card: Path
) -> None:
    hub.create("zoe/wave")
    body = b'{"error": "bad \\u001b[31m token ' + TOKEN.encode() + b'"}'
    hub.faults.append(Fault("POST", COMMIT, status=403, body=body))
    with pytest.raises(AccessError) as error:
        remote(hub).push(card, PLAIN)
    assert TOKEN not in error.value.message
    assert "\x1b" not in error.value.message


# What passes

STEPS = ["/api/models/zoe/wave$", "/api/repos/create", "/preupload/", "/objects/batch", "/upload/",
         "/verify", "/validate-yaml", COMMIT, "/tag/"]  # fmt: skip


OURS = [step for step in STEPS if re.search("wave|create|yaml|commit|tag", step)]
"""Steps that the client does not repeat by itself."""


@pytest.mark.parametrize(
    ("step", "status"),
    [*((step, 503) for step in STEPS), *((s, n) for s in OURS for n in (429, 500))],
)
def test_a_status_that_passes(hub: HubServer, card: Path, step: str, status: int) -> None:
    hub.faults.append(Fault(".*", step, times=2, status=status))
    done = remote(hub).push(card, PushOptions(tag="v1.0.0"))
    arrived(hub, card, done.commit)


@pytest.mark.parametrize("cut", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_a_cut_connection(hub: HubServer, card: Path, step: str, cut: str) -> None:
    hub.faults.append(Fault(".*", step, cut=cut))
    done = remote(hub).push(card, PushOptions(tag="v1.0.0"))
    arrived(hub, card, done.commit)


def arrived(hub: HubServer, card: Path, commit: str | None) -> None:
    """Exactly one commit with everything, and its tag."""
    repo = hub.repos["zoe/wave"]
    assert all(fault.times == 0 for fault in hub.faults), "the fault never struck"
    assert len(repo.commits) == 2
    assert repo.head == commit
    assert repo.files["card.safetensors"].data == card.read_bytes()
    assert repo.tags == {"v1.0.0": commit}


@pytest.mark.parametrize("step", STEPS)
def test_what_does_not_pass_is_an_error_and_can_be_repeated(
    hub: HubServer, card: Path, step: str
) -> None:
    hub.faults.append(Fault(".*", step, times=100, status=503))
    with pytest.raises(UnreachableError, match="503"):
        remote(hub).push(card, PushOptions(tag="v1.0.0"))
    hub.faults.clear()
    done = remote(hub).push(card, PushOptions(tag="v1.0.0"))
    repo = hub.repos["zoe/wave"]
    assert len(repo.commits) == 2
    assert repo.tags == {"v1.0.0": repo.head}
    assert done.tagged


def test_a_commit_whose_answer_was_lost_is_not_repeated(hub: HubServer, card: Path) -> None:
    hub.faults.append(Fault("POST", COMMIT, cut="after"))
    remote(hub).push(card, PLAIN)
    assert len(hub.sent("POST", COMMIT)) == 1


def test_a_slow_server_is_given_up(hub: HubServer, card: Path) -> None:
    hub.create("zoe/wave")
    hub.faults.append(Fault("POST", "/validate-yaml", times=100, delay=0.5))
    with pytest.raises(UnreachableError, match="does not answer"):
        remote(hub, timeout=0.1, tries=2).push(card, PLAIN)


def test_a_commit_that_arrives_with_its_last_answer_lost(hub: HubServer, card: Path) -> None:
    hub.create("zoe/wave")
    hub.faults.append(Fault("POST", COMMIT, cut="after"))
    done = remote(hub, tries=1).push(card, PLAIN)
    assert done.commit == hub.repos["zoe/wave"].head


def test_a_server_that_is_slow_once_is_waited_for(hub: HubServer, card: Path) -> None:
    said: list[str] = []
    hub.create("zoe/wave")
    hub.faults.append(Fault("POST", COMMIT, delay=0.8))
    done = remote(hub, timeout=0.4, said=said).push(card, PLAIN)
    assert done.commit == hub.repos["zoe/wave"].head
    assert len(hub.repos["zoe/wave"].commits) == 2
    assert "does not answer" in said[0]


def test_a_wait_that_the_server_asks_for_is_too_long(hub: HubServer, card: Path) -> None:
    hub.faults.append(Fault("POST", "/repos/create", status=429, headers={"Retry-After": "3600"}))
    with pytest.raises(UnreachableError) as error:
        remote(hub).push(card, PLAIN)
    assert "3600 seconds" in str(error.value.hint)


def test_what_is_no_hub(hub: HubServer, card: Path) -> None:
    hub.faults.append(Fault("GET", "/api/models", times=100, status=200, body=b"[1, 2]"))
    with pytest.raises(RemoteError, match="Expected to push to"):
        remote(hub).push(card, PLAIN)


# Two pushers


def test_somebody_else_pushed_between_look_and_commit(
    hub: HubServer, card: Path, folder: Path
) -> None:
    hub.create("zoe/wave")
    theirs = make_card(folder, seed=9).read_bytes()
    push_theirs = lambda: hub.put("zoe/wave", {"card.safetensors": theirs})  # noqa: E731
    hub.faults.append(Fault("POST", "/validate-yaml", action=push_theirs))
    with pytest.raises(ConflictError, match="somebody else pushed meanwhile"):
        remote(hub).push(card, PLAIN)
    assert hub.repos["zoe/wave"].files["card.safetensors"].data == theirs
    remote(hub).push(card, PLAIN)  # the command again: now on top of theirs
    assert hub.repos["zoe/wave"].files["card.safetensors"].data == card.read_bytes()


def test_parallel_pushers_lose_nothing(hub: HubServer, folder: Path) -> None:
    hub.create("zoe/wave")
    cards = [make_card(folder, seed=n) for n in range(4)]
    outcomes: list[str] = []
    gate = threading.Barrier(len(cards))

    def work(path: Path) -> None:
        client = remote(hub)
        gate.wait()
        try:
            client.push(path, PLAIN)
            outcomes.append("done")
        except ConflictError:
            outcomes.append("conflict")

    threads = [threading.Thread(target=work, args=(path,)) for path in cards]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == len(cards)
    repo = hub.repos["zoe/wave"]
    # Every push that said "done" is a commit of its own in the history.
    assert len(repo.commits) - 1 == outcomes.count("done") >= 1
    history = {files["card.safetensors"].data for files in list(repo.commits.values())[1:]}
    assert len(history) == outcomes.count("done")


def test_two_pushers_of_the_same_card_both_succeed(hub: HubServer, card: Path) -> None:
    hub.create("zoe/wave")
    rival = lambda: remote(hub).push(card, PLAIN)  # noqa: E731
    hub.faults.append(Fault("POST", "/validate-yaml", action=rival))
    done = remote(hub).push(card, PLAIN)
    repo = hub.repos["zoe/wave"]
    assert len(repo.commits) == 2
    assert done.commit == repo.head


def test_a_tag_that_somebody_else_set_meanwhile(hub: HubServer, card: Path, folder: Path) -> None:
    theirs = make_card(folder, seed=9).read_bytes()

    def tag_theirs() -> None:
        repo = hub.repos["zoe/wave"]
        files = repo.files | {"card.safetensors": File(theirs, True)}
        repo.tags["v1.0.0"] = repo.commit(files, "theirs")

    hub.create("zoe/wave")
    hub.faults.append(Fault("POST", "/tag/", action=tag_theirs))
    with pytest.raises(ConflictError, match="the tag"):
        remote(hub).push(card, PushOptions(tag="v1.0.0"))
    assert remote(hub, "zoe/wave@v1.0.0").pull().path.read_bytes() == theirs
