"""`pe ui` without a browser: the queue, the server in front, and what the handlers ask and say."""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from huggingface_hub import constants

from pe_toolkit.cli.errors import Session, explainer
from pe_toolkit.cli.loading import BackboneOptions
from pe_toolkit.cli.main import cli
from pe_toolkit.cli.page import server, words
from pe_toolkit.cli.page.studio import Studio
from pe_toolkit.cli.page.work import Job, Work
from pe_toolkit.errors import OutputError, PeError, UsageError
from pe_toolkit.registry.store import Store
from tests.registry.hub import QUIET, TOKEN, card, folder, hub, online
from tests.registry.hub_server import HubServer

__all__ = ["card", "folder", "hub", "online"]
HOSTILE = '<img src=x onerror="hacked=1">{{7*7}}${7*7}\u202e'


AS_TRAINED = (1.0, 1.0, 1.0)
"""Phase, camera and subject."""


def explain(error: BaseException) -> tuple[str, str | None]:
    return str(error), getattr(error, "hint", None)


@pytest.fixture
def work() -> Iterator[Work]:
    made = Work(explain)
    yield made
    assert made.close(60)


# The queue.


def ended(job: Job) -> Job:
    for _ in job.watch():
        pass
    return job


def test_work_is_done_one_piece_at_a_time_and_in_order(work: Work) -> None:
    begun, go, done = threading.Event(), threading.Event(), []

    def first(job: Job) -> str:
        begun.set()
        assert go.wait(30)
        done.append(1)
        return "card"

    one = work.submit("one", "train", first)
    two = work.submit("two", "train", lambda job: done.append(2))
    assert begun.wait(30)
    assert (one.state, two.state) == ("running", "waiting")
    assert work.before(two) == [one]
    assert work.last("train") is one  # what runs, for a tab that is opened now
    assert "Waiting for: one" in words.bar(two, work.before(two))
    go.set()
    ended(two)
    assert (one.result, done) == ("card", [1, 2])
    assert work.last("train") is two


def test_a_job_stops_between_two_steps_and_one_that_waits_at_once(work: Work) -> None:
    begun = threading.Event()
    left: list[str] = []

    def steps(job: Job) -> None:
        try:
            while True:
                job.tell(0.1, "step")
                begun.set()
                time.sleep(0.01)
        finally:
            left.append("hooks")

    one, two = work.submit("one", "train", steps), work.submit("two", "train", steps)
    assert begun.wait(30)
    work.stop(two.number)
    assert two.state == "stopped"
    work.stop(one.number)
    assert ended(one).state == "stopped"
    assert left == ["hooks"]
    assert "Stopped" in words.bar(one)
    work.stop(one.number)  # again, and one that never was
    work.stop(99)


def test_a_failure_is_told_and_ends_nothing_else(work: Work) -> None:
    def wrong(job: Job) -> None:
        raise UsageError("Expected a clip, got <b>.", "Drop one.")

    job = ended(work.submit("one", "see", wrong))
    assert job.state == "failed"
    assert "Expected a clip, got &lt;b&gt;." in words.bar(job)
    assert "Drop one." in words.bar(job)
    assert ended(work.submit("two", "see", lambda job: 2)).result == 2


def test_closing_stops_what_runs_and_what_waits() -> None:
    work, begun = Work(explain), threading.Event()

    def steps(job: Job) -> None:
        begun.set()
        while True:
            job.tell(0.5)
            time.sleep(0.01)

    jobs = [work.submit("one", "train", steps), work.submit("two", "train", steps)]
    assert begun.wait(30)
    assert work.close(30)
    assert [job.state for job in jobs] == ["stopped", "stopped"]


# What is shown.


def test_what_a_stranger_wrote_is_text() -> None:
    shown = words.text(HOSTILE)
    assert "<" not in shown
    assert "{" not in shown
    assert "$" not in shown
    assert "\\u202e" in shown
    job = Job(HOSTILE, "train", lambda job: None)
    job.warnings.append(HOSTILE)
    job.words.append(HOSTILE)
    for made in (words.bar(job, [job]), words.said(job), words.failure(HOSTILE, HOSTILE),
                 words.notice(HOSTILE), words.facts({HOSTILE: HOSTILE}),
                 words.download(Path("/x") / "a<b>\"'.mp4", HOSTILE)):  # fmt: skip
        assert "<img" not in made
        assert "<b>" not in made.replace("<b>&lt;", "")
        assert "{{" not in made
        assert "${" not in made


# The server in front.


def asked(front: server.Front, path: str = "/", host: str = "127.0.0.1:7860") -> tuple[Any, bytes]:
    """Start line with headers, and body, of a GET."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "headers": [(b"host", host.encode())]}
    asyncio.run(front(scope, None, send))  # type: ignore[arg-type]
    return sent[0], sent[1]["body"]


def test_the_page_answers_before_gradio_is_there() -> None:
    front = server.Front(lambda: None, server.LOOPBACK)
    start, body = asked(front)
    assert start["status"] == 200
    assert b"Starting" in body
    headers = dict(start["headers"])
    assert b"default-src 'self'" in headers[b"content-security-policy"]
    assert asked(front, "/gradio_api/queue/join")[0]["status"] == 503


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:7860", "", "127.0.0.1.evil.example"]
)
def test_a_strangers_name_for_this_machine_is_refused(host: str) -> None:
    assert asked(server.Front(lambda: None, server.LOOPBACK), host=host)[0]["status"] == 403


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "[::1]:7860", "[::1]"])
def test_the_names_of_this_machine_are_not(host: str) -> None:
    assert asked(server.Front(lambda: None, server.LOOPBACK), host=host)[0]["status"] == 200


def test_nothing_is_fetched_for_a_visitor() -> None:
    front = server.Front(lambda: None, ())
    for path in ("/gradio_api/file=http://example.org/x", "/gradio_api/proxy=https://x.hf.space/"):
        assert asked(front, path, "anything")[0]["status"] == 403


def test_a_taken_port_is_said_and_another_one_is_found() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(OutputError, match=f"127.0.0.1:{port}") as caught:
            server.listen("127.0.0.1", port)
        assert "--port" in (caught.value.hint or "")
        with server.listen("127.0.0.1", None) as made:
            assert made.getsockname()[1] >= server.FIRST_PORT


WITHOUT_GRADIO = """
import sys
class Without:
    def __init__(self, finder): self.finder = finder
    def find_spec(self, name, *rest):
        return None if name == "gradio" else self.finder.find_spec(name, *rest)
sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
sys.argv = ["pe", "ui", "--port", "0"]
from pe_toolkit.cli.main import main
main()
"""


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_GRADIO], capture_output=True, text=True, check=False,
        cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 1
    assert "Error: Expected the package gradio" in result.stderr
    assert 'pip install "pe-toolkit[ui]"' in result.stderr
    assert result.stdout == ""


def test_what_makes_no_sense_is_found_before_anything_is_served() -> None:
    pytest.importorskip("gradio")
    result = CliRunner().invoke(cli, ["ui", "--host", ""])
    assert result.exit_code == 2
    assert "Expected --host" in result.stderr


# The handlers, on the bundled backbone.


@pytest.fixture
def page(tmp_path: Path, work: Work) -> Any:
    pytest.importorskip("gradio")
    from pe_toolkit.cli.page.handlers import Page

    served = tmp_path / "served"
    served.mkdir()
    studio = Studio(BackboneOptions(backbone="bundled"), served, tmp_path / "kept")
    return Page(studio, work, explainer(Session()))


@pytest.fixture
def clip(page: Any, orbit: Path) -> Path:
    """A clip that came to the page."""
    return Path(shutil.copy(orbit, page.studio.served))


@pytest.fixture(scope="module")
def orbit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from pe_toolkit.video import write_video
    from pe_toolkit.world.scenes import render, sample_scene

    scene = sample_scene(np.random.default_rng(5), ("orbit",), frames=33, styles=("flat",))
    path = tmp_path_factory.mktemp("clip") / "orbit.mp4"
    write_video(path, render(scene, 128), 16.0)
    return path


def last(updates: Iterator[Any]) -> Any:
    found = None
    for update in updates:
        found = update
    return found


def test_from_a_clip_to_videos_with_two_cards_and_one_loading(page: Any, clip: Path) -> None:
    shown, said = last(page.see(str(clip), 0.0, None, "crop"))
    assert shown.count("<video") == 3  # the clip, what is followed, camera and subjects apart
    assert "subject: " in shown
    assert "neither: " in shown
    assert "of the picture moves and can be followed" in shown
    assert "33 frames of 128x128" in said

    for name in (HOSTILE, "second"):
        learned = last(page.train(str(clip), name, "rich", 0.0, None, "crop", 1, 2, 0))
        assert "Learned in" in learned[2], learned
    first, second = page.studio.trained
    assert second == "second.safetensors"
    assert {path.name for path in page.studio.output.iterdir()} == {first, second}

    made = last(page.make(first, "a red circle\n", 7, 1.0, *AS_TRAINED, True, None, 1, None))
    assert made[2] == "", made
    assert made[3].count("<video") == 3
    assert "does not know" not in made[4]
    assert "Kept as" in made[3]
    made = last(page.make(second, "a red circle", 7, 0.5, 0.5, 1, 1, True, None, 1, None))
    assert made[3].count("<video") == 3
    assert page.studio.loads == 1
    assert len(page.studio.plain) == 1  # the same without the card: made once
    videos = [path.name for path in page.studio.output.glob("*.mp4")]
    assert sorted(videos)[-1] == "second.mp4"
    assert len(videos) == 2

    assert "second@1.0.0 is in the registry" in page.keep(learned[0], "second")
    assert [value for _, value in page.studio.choices()] == [second, first, "second@1.0.0"]
    items, names, told = page.gallery("second")
    assert (names, told) == (["second@1.0.0"], "")
    assert Path(items[0][0]).is_file()
    made = last(page.make("second@1.0.0", "<b>{{7*7}}", 1, 1.0, *AS_TRAINED, False, 2, 1, None))
    assert made[3].count("<video") == 1  # no clip to show beside, and nothing to compare
    assert "<b>{{" not in made[3] + made[4]
    assert "does not know" in made[4]

    made = last(page.make("second@1.0.0", "a red circle", 7, 1.0, *AS_TRAINED, True, 5, 2, None))
    assert made[2] == "", made
    assert "the best of 2 drafts. Kept as" in made[3]
    seeds = {int(found) for found in re.findall(r"Seed (\d+), the best", made[3])}
    assert seeds <= {7, 1007}
    told = last(page.make("second@1.0.0", "a red circle", 7, 0, *AS_TRAINED, True, 5, 2, None))
    assert "nothing that they are to follow" in told[2]


def test_a_training_that_is_stopped_leaves_nothing(page: Any, clip: Path) -> None:
    stopped = False
    for update in page.train(str(clip), None, "default", None, None, "crop", 1, None, None):
        if not stopped and "Guided step" in update[2]:
            page.work.stop(update[0])
            stopped = True
    assert stopped
    assert "Stopped" in update[2]
    assert page.studio.trained == {}
    assert list(page.studio.output.iterdir()) == []
    backbone = page.studio.adapter
    assert all(p.requires_grad for p in backbone.pipe.transformer.parameters())  # as it was
    again = last(page.reopened())
    assert "Stopped" in again[2]  # in a tab that is opened later


def test_a_request_that_makes_no_sense_is_refused_at_once(page: Any, clip: Path) -> None:
    """Fields that were never shown are None; a name that no card may have is refused in words."""
    told = last(page.train(str(clip), "n" * 300, "default", None, None, "crop", None, None, None))
    assert "Expected" in told[2]
    made = last(page.make("", None, None, 1, *AS_TRAINED, True, None, 1, None))
    assert "none is chosen" in made[2]
    assert "No card is here" in page.gallery(None)[2]
    assert "pe-error" in page.attempt(lambda: page.push("", None, True))
    assert page.work.last("train") is None


@pytest.mark.parametrize("kind", ["text", "picture", "nothing"])
def test_a_wrong_file_is_answered_in_the_librarys_words(page: Any, kind: str) -> None:
    from PIL import Image

    from pe_toolkit.video import read_clip

    wrong = page.studio.served / "clip.mp4"
    match kind:
        case "text":
            wrong.write_text("not a video\n" * 100)
        case "nothing":
            wrong.touch()
        case "picture":
            wrong = page.studio.served / "picture.png"
            Image.new("RGB", (64, 64), "red").save(wrong)
    with pytest.raises(PeError) as caught:
        read_clip(wrong)
    shown, _ = last(page.see(str(wrong), None, None, "crop"))
    assert words.text(caught.value.message) in shown
    learned = last(page.train(str(wrong), "", "fast", 0.0, None, "crop", 1, 2, 0))
    assert words.text(caught.value.message) in learned[2]


def test_files_that_did_not_come_to_the_page_stay_unread(
    page: Any, orbit: Path, card: Path
) -> None:
    """A request may name any file of this machine."""
    Store().add(card)
    link = page.studio.served / "link.mp4"
    link.symlink_to(orbit)
    for foreign in (str(orbit), str(page.studio.served / ".." / orbit.name), str(link)):
        shown, told = last(page.see(foreign, 0.0, None, "crop"))
        assert "<video" not in shown
        assert "given to this page" in told
        learned = last(page.train(foreign, "n", "rich", 0.0, None, "crop", 1, 2, 0))
        assert "given to this page" in learned[2]
        asked = ("wave@1.0.0", "a red circle", 1, 1.0, *AS_TRAINED, False, 2, 1, foreign)
        assert "given to this page" in last(page.make(*asked))[2]


LAUNCHED = """
import sys
from pathlib import Path
import gradio as gr
from pe_toolkit.cli.page import layout, studio, work
gr.mount_gradio_app = lambda app, blocks, **_: blocks
asked = studio.BackboneOptions(backbone="bundled")
made = studio.Studio(asked, Path(sys.argv[1]), Path(sys.argv[1]))
print(layout.build(made, work.Work(lambda error: ("", None)), None).has_launched)
"""


def test_gradio_looks_at_what_a_request_names(tmp_path: Path) -> None:
    """It does for pages that it launched itself; this one is mounted."""
    pytest.importorskip("gradio")
    done = subprocess.run(
        [sys.executable, "-c", LAUNCHED, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "True"


def test_strength_is_that_of_pe_apply(
    page: Any, card: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts whose sliders stay at 1 go as the strength has them go."""
    from pe_toolkit.cli.page import handlers

    asked: list[Any] = []
    monkeypatch.setattr(
        handlers, "make", lambda studio, job, card, request, **_: asked.append(request)
    )
    golden = Path(__file__).parent / "golden" / "rotary-angle-phase.safetensors"
    Store().add(golden, "phased")
    for phase in (1.0, 0.4):
        last(page.make("phased@1.0.0", "a red circle", 1, 0.5, phase, 1, 1, False, None, 1, None))
    assert [(request.strength, request.phase) for request in asked] == [(0.5, None), (0.5, 0.4)]


def test_where_results_go_is_tried_before_any_work(page: Any, clip: Path, tmp_path: Path) -> None:
    page.studio.output = tmp_path / "file" / "deep"
    (tmp_path / "file").touch()
    learned = last(page.train(str(clip), "n", "rich", 0.0, None, "crop", 1, 2, 0))
    assert "Expected to make the folder" in learned[2]
    result = CliRunner().invoke(cli, ["ui", "-o", str(tmp_path / "file")])
    assert result.exit_code == 1


def test_a_card_that_cannot_be_kept_can_be_downloaded(
    page: Any, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(name: str, suffix: str) -> Path:
        raise OutputError("Expected room on the disk, but it is full.")

    monkeypatch.setattr(page.studio, "free", full)
    learned = last(page.train(str(clip), "n", "rich", 0.0, None, "crop", 1, 2, 0))
    assert "Learned in" in learned[2]
    assert "Download the card" in learned[4]
    (made,) = page.studio.trained.values()
    assert made.card.is_file()


def test_a_damaged_registry_stops_no_training(page: Any, clip: Path) -> None:
    root = Store().root
    root.mkdir(parents=True)
    (root / "index.sqlite3").write_bytes(b"garbage" * 1000)
    # A field without a number may be shown as 0 by the browser.
    learned = last(page.train(str(clip), "n", "rich", 0, 0, "crop", 0, 0, 0))
    assert "Learned in" in learned[2]
    items, _, told = page.gallery("")
    assert items == []
    assert "pe-error" in told


@pytest.mark.parametrize("host", ["nosuch.invalid", "127.0.0.1:7860", "192.0.2.77", "a\udcff"])
def test_no_address_of_this_machine(host: str) -> None:
    with pytest.raises(UsageError, match="--host to be an address of this machine"):
        server.listen(host, None)


def test_only_cards_that_are_listed_are_opened(page: Any, card: Path) -> None:
    for chosen in ("", str(card), "owner/wave", f"../{card.name}", "nothing@1.0.0"):
        with pytest.raises(PeError):
            page.studio.path(chosen)
        made = last(page.make(chosen, "a red circle", 1, 1.0, *AS_TRAINED, False, None, 1, None))
        assert "pe-error" in made[2]
    Store().add(card)
    assert page.studio.path("wave@1.0.0").is_file()
    made = last(page.make("wave@1.0.0", " \n", 1, 1.0, *AS_TRAINED, False, None, 1, None))
    assert "got none" in made[2]


def test_the_sliders_are_those_of_what_a_card_holds(page: Any) -> None:
    golden = Path(__file__).parent / "golden"
    for path in golden.glob("*.safetensors"):
        Store().add(path)
    shown = {
        entry.name: [update["visible"] for update in page.fits(str(entry.reference))]
        for entry in Store().entries()
    }
    assert shown["golden-rotary-angle"] == [False, False, False]
    assert shown["golden-rotary-angle-phase"] == [True, False, False]
    assert [True, True, True] in shown.values()  # of a phase, a camera and a subject
    assert [update["visible"] for update in page.fits("nothing")] == [False, False, False]


def test_a_damaged_card_is_named_in_the_gallery(page: Any, card: Path) -> None:
    entry = Store().add(card)
    entry.path.chmod(0o600)
    entry.path.write_bytes(entry.path.read_bytes()[:-1] + b"\x7f")
    items, names, told = page.gallery("")
    assert (items, names) == ([], [])
    assert "wave@1.0.0" in told
    assert "No card is here" in page.gallery("nothing of that name")[2]


@QUIET
def test_a_card_is_pushed(
    page: Any, card: Path, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    Store().add(card)
    assert "It is there" in page.push("wave@1.0.0", " zoe/wave ", True)
    assert hub.repos["zoe/wave"].private
    assert hub.repos["zoe/wave"].files["card.safetensors"].data == card.read_bytes()
    assert "Nothing to do" in page.push("wave@1.0.0", "zoe/wave", True)
    told = page.attempt(lambda: page.push("wave@1.0.0", "nonsense", True))
    assert "pe-error" in told
    assert TOKEN not in told
