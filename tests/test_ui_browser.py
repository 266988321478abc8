"""`pe ui` in a real browser, from drop to result on the bundled backbone.

The server is the command itself, in a process that notes every connection it makes.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

pytest.importorskip("gradio")
api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")

HOSTILE = "<b onclick=x>{{7*7}}${7*7}"
LONG = 90_000
"""Milliseconds: for a machine with other things to do."""
PE = """
import socket, sys
log = open(sys.argv[1], "a", buffering=1)
def note(event, args):
    if event == "socket.connect":
        log.write(f"{args[1]!r}\\n")
    elif event == "socket.getaddrinfo":
        log.write(f"{args[0]!r}\\n")
sys.addaudithook(note)
sys.argv = ["pe", *sys.argv[2:]]
from pe_toolkit.cli.main import main
main()
"""


def environment(place: Path) -> dict[str, str]:
    """Of a person whose home is that folder."""
    return {
        **os.environ, "HOME": str(place), "PE_HOME": str(place / "pe"),
        "TMPDIR": str(place / "tmp"), "HF_HOME": str(place / "hf"),
    }  # fmt: skip


def pe(served: Served, *words: str) -> subprocess.CompletedProcess[str]:
    """A command of the same person."""
    return subprocess.run(
        [sys.executable, "-m", "pe_toolkit", *words],
        env=environment(served.place), capture_output=True, text=True, check=False,
    )  # fmt: skip


class Served:
    """A running `pe ui`, and what it leaves."""

    def __init__(self, place: Path) -> None:
        self.place, self.connections = place, place / "connections"
        self.temporary, self.kept = place / "tmp", place / "kept"
        self.temporary.mkdir()
        env = environment(place)
        words = ["ui", "--backbone", "bundled", "--port", "0", "-o", str(self.kept)]
        began = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-c", PE, str(self.connections), *words],
            cwd=place, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        urllib.request.urlopen(self.url).read(1)
        self.first_byte = time.monotonic() - began
        while b"gradio_config" not in urllib.request.urlopen(self.url).read():
            assert time.monotonic() - began < LONG / 1000
            time.sleep(0.2)
        self.whole = time.monotonic() - began

    def status(self, path: str, host: str | None = None) -> int:
        """HTTP status of a GET."""
        request = urllib.request.Request(
            self.url + quote(path, safe="/=:"), headers={"Host": host} if host else {}
        )
        try:
            with urllib.request.urlopen(request) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def end(self) -> str:
        """Ctrl-C; what it said on stderr."""
        self.process.send_signal(signal.SIGINT)
        _, said = self.process.communicate(timeout=120)
        return said


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    made = Served(tmp_path_factory.mktemp("ui"))
    sys.stdout.write(f"first byte {made.first_byte:.2f} s, page {made.whole:.2f} s\n")
    yield made
    said = made.end()
    assert made.process.returncode == 0, said
    assert "Traceback" not in said
    assert list(made.temporary.glob("*pe-*")) == []  # uploads are gone
    assert list(made.temporary.glob("gradio*")) == []
    away = [line for line in made.connections.read_text().splitlines() if "127.0.0.1" not in line]
    assert away == []


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with api.sync_playwright() as play:
        made = play.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield made
        made.close()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from pe_toolkit.video import write_video
    from pe_toolkit.world.scenes import render, sample_scene

    scene = sample_scene(np.random.default_rng(5), ("orbit",), frames=33, styles=("flat",))
    path = tmp_path_factory.mktemp("clip") / "my clip.mp4"
    write_video(path, render(scene, 128), 16.0)
    return path


class Tab:
    """A tab with the page in it, and everything that it asked for and complained of."""

    def __init__(self, browser: Any, url: str, width: int = 1280) -> None:
        self.page = browser.new_page(viewport={"width": width, "height": 900})
        self.page.set_default_timeout(LONG)
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on(
            "console",
            lambda said: self.complaints.append(said.text) if said.type == "error" else None,
        )
        self.page.goto(url)
        self.page.get_by_role("button", name="Learn this motion").wait_for()

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).locator("visible=true").click()

    def see(self, text: str | re.Pattern[str]) -> Any:
        found = self.page.get_by_text(text).locator("visible=true").first
        found.wait_for()
        return found

    def drop(self, clip: Path) -> None:
        self.page.locator("input[type=file]").first.set_input_files(clip)

    def choose(self, recipe: str) -> None:
        self.page.get_by_text(re.compile(f"^{recipe}: ")).click()

    def settings(self, **values: str) -> None:
        self.page.get_by_role("button", name=re.compile("More settings")).locator(
            "visible=true"
        ).click()
        for label, value in values.items():
            self.page.get_by_label(re.compile(f"--{label}")).locator("visible=true").fill(value)


def test_the_first_byte_comes_within_three_seconds(served: Served) -> None:
    assert served.first_byte < 3


def test_from_drop_to_result(served: Served, browser: Any, clip: Path) -> None:
    tab = Tab(browser, served.url)
    page = tab.page
    tab.drop(clip)
    tab.see("of the picture moves and can be followed")
    tab.choose("Default")  # what the page suggests for this model has no loss to show
    tab.settings(name=HOSTILE, samples="1", steps="2")
    tab.press("Learn this motion")
    tab.see("Learned in")
    page.locator("img.pe-loss").wait_for()
    tab.press("Keep it in the registry")
    tab.see("is in the registry")

    tab.press("Make videos with it")
    assert page.get_by_label("Card: the motion").input_value().startswith(HOSTILE)
    page.get_by_label("What to show").fill(HOSTILE)
    tab.press("Make videos")
    tab.see("With the card")
    assert page.locator("h3.pe-prompt").inner_text() == HOSTILE
    videos = page.locator("section video")
    assert videos.count() == 3
    page.wait_for_function(
        "[...document.querySelectorAll('section video')].every(v => v.readyState > 1 && !v.error)"
    )
    tab.see("does not know")

    page.get_by_role("tab", name="Cards").click()
    page.locator(".grid-container button").first.click()
    assert HOSTILE in page.locator("table.pe-facts").inner_text()

    card, video = sorted(path.suffix for path in served.kept.iterdir())
    assert (card, video) == (".mp4", ".safetensors")
    assert tab.complaints == []
    assert {url for url in tab.asked if not url.startswith((served.url, "data:", "blob:"))} == set()
    page.close()


def test_wrong_files_are_answered_in_words(served: Served, browser: Any, tmp_path: Path) -> None:
    from PIL import Image

    text, nothing, picture = (tmp_path / name for name in ("text.mp4", "no.mp4", "one.png"))
    text.write_text("not a video\n" * 50)
    nothing.touch()
    Image.new("RGB", (64, 64), "red").save(picture)
    tab = Tab(browser, served.url)
    for wrong in (text, nothing, picture):
        tab.drop(wrong)
        shown = tab.page.locator(".pe-error").first
        shown.wait_for()
        assert "Expected" in shown.inner_text()
        assert "Unexpected" not in shown.inner_text()
        tab.page.get_by_label(re.compile("Remove|Clear")).first.click()
        shown.wait_for(state="detached")
    tab.press("Learn this motion")
    tab.see("Expected a clip, got none.")
    tab.page.close()


def test_two_trainings_and_a_tab_that_is_closed(served: Served, browser: Any, clip: Path) -> None:
    before = set(served.kept.iterdir()) if served.kept.exists() else set()
    first = Tab(browser, served.url)
    first.drop(clip)
    first.see("of the picture moves and can be followed")
    first.choose("Default")
    first.settings(name="first", samples="1", steps="80")
    first.press("Learn this motion")
    first.see(re.compile("Guided step"))

    second = Tab(browser, served.url)
    second.see(re.compile("Guided step"))  # what runs is seen in every tab
    second.drop(clip)
    second.settings(name="second")
    second.press("Learn this motion")
    second.see("Waiting for: Training first and 1 more")  # a look at the clip, which waits as well
    second.press("Stop")
    second.see("Stopped.")
    second.page.close()

    first.page.close()
    third = Tab(browser, served.url)
    third.see(re.compile("Guided step"))  # it went on
    third.press("Stop")
    third.see("Stopped.")
    third.page.close()
    assert (set(served.kept.iterdir()) if served.kept.exists() else set()) == before


@pytest.mark.slow
def test_a_newcomer_with_a_phone_opens_no_settings(served: Served, browser: Any) -> None:
    """What the page suggests, and nothing else: fields that were never shown have no value."""
    tab = Tab(browser, served.url, width=390)
    page = tab.page
    tab.press("No clip at hand? Take an example")
    tab.see("of the picture moves and can be followed")
    suggested = page.locator("label", has_text="auto, as in pe train").locator("input")
    assert suggested.is_checked()
    tab.press("Learn this motion")
    tab.see("Learned in")
    tab.press("Make videos with it")
    tab.see("Phase")  # this card holds one
    tab.press("Make videos")
    tab.see("With the card")
    tab.see("motion follows the reference")
    assert page.locator("section video").count() == 3
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert tab.complaints == []
    page.close()


@pytest.mark.slow
def test_the_sliders_of_a_card_with_layers(served: Served, browser: Any, tmp_path: Path) -> None:
    """Each of the three reaches the generation: another place of one is another video."""
    from pe_toolkit.video import read_clip, write_video
    from pe_toolkit.world.motions import scenes_of
    from pe_toolkit.world.scenes import render

    write_video(tmp_path / "held.mp4", render(scenes_of("held", 1)[0], 128), 16.0)
    card = str(tmp_path / "layers.safetensors")
    words = ["--backbone", "bundled", "--recipe", "rich", "--set", "start=layers", "-o", card]
    made = pe(served, "train", str(tmp_path / "held.mp4"), *words)
    assert made.returncode in (0, 3), made.stderr  # 3: a small part of the picture moves
    assert pe(served, "add", card).returncode == 0
    before = set(served.kept.iterdir()) if served.kept.exists() else set()
    tab = Tab(browser, served.url)
    page = tab.page
    page.get_by_role("tab", name="2. Make videos").click()
    page.get_by_label("Card: the motion").click()
    page.get_by_role("option", name=re.compile("^held@")).click()
    for name, value in (("Phase", "0.5"), ("Camera", "0"), ("Subject", "0.5"), ("Camera", "1")):
        field = page.get_by_role("spinbutton", name=re.compile(name))
        field.wait_for()
        field.fill(value)
        field.press("Tab")
        tab.press("Make videos")
        page.get_by_role("button", name="Stop", exact=True).wait_for()
        page.get_by_role("button", name="Stop", exact=True).wait_for(state="hidden")
    assert page.locator("section video").count() == 2  # without the card, and with it
    assert tab.complaints == []
    page.close()
    videos = sorted(path for path in served.kept.iterdir() if path not in before)
    shown = [read_clip(path).frames for path in videos]
    assert len(shown) == 4
    for one, other in itertools.combinations(shown, 2):
        assert np.abs(one.astype(float) - other).max() > 20


def test_files_of_others_are_not_served(served: Served, clip: Path) -> None:
    served.place.joinpath("secret.txt").write_text("secret")
    api = "/gradio_api/file="
    for path in ("/etc/passwd", f"{served.place}/secret.txt", "secret.txt", str(clip),
                 f"{served.temporary}/../secret.txt", "http://127.0.0.1:1/x"):  # fmt: skip
        assert served.status(api + path) == 403, path
    assert served.status("/", host="evil.example") == 403
    assert served.status("/") == 200
