"""The report in a real browser: /usr/bin/chromium, headless, through playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pe_toolkit.evaluation.report import write_report
from tests.clips import moving_square, write_clip
from tests.test_report import HOSTILE, record

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")

PLAYS = """() => new Promise((done) => {
  const videos = [...document.querySelectorAll("video")];
  const look = () => videos.every((v) => v.currentTime > 0) ? done(true) : setTimeout(look, 20);
  setTimeout(() => done(false), 20000);
  look();
})"""
COLUMN = "() => [...document.querySelectorAll('#table tbody tr')].map((r) => r.cells[5].innerText)"
ORDER = "() => [...document.querySelectorAll('#cases article')].map((a) => a.id)"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three cases, two methods, tracks, and names that would like to be scripts."""
    folder = tmp_path_factory.mktemp("browser")
    for name, step in (("ref", 3), ("none", 1), ("rich", 2)):
        write_clip(folder / f"{name}.mp4", moving_square(24, step=step))
    records = []
    for case, plain, card in (("a", 0.3, 0.7), ("b", 0.1, 0.95), (HOSTILE, None, 0.5)):
        for method, value in (("none", plain), ("rich", card)):
            records.append(replace(record(method, case, value), prompt=f"{case} {HOSTILE}"))

    def track(frames):
        points = np.tile(np.arange(len(frames))[None, :, None] + 5.0, (3, 1, 2))
        return points, np.ones((3, len(frames)), bool)

    return write_report(folder / "page.html", records, folder, title=HOSTILE, track=track).path


@pytest.fixture(scope="module")
def tab(page: Path) -> Iterator[Any]:
    """The page, open; everything that it says or asks for is kept in `tab.heard`."""
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        tab = browser.new_page(viewport={"width": 1200, "height": 900})
        tab.heard = []
        tab.on("console", lambda m: tab.heard.append(f"console: {m.text}"))
        tab.on("pageerror", lambda e: tab.heard.append(f"error: {e}"))
        tab.on("dialog", lambda d: (tab.heard.append(f"dialog: {d.message}"), d.dismiss()))
        tab.on("request", lambda r: r.url.startswith("blob:") or tab.heard.append(r.url))
        tab.goto(page.as_uri())
        yield tab
        browser.close()


def test_videos_play(tab: Any) -> None:
    assert tab.locator("video").count() == 9
    assert tab.evaluate(PLAYS)
    tab.click("#play")
    assert tab.evaluate("() => [...document.querySelectorAll('video')].every((v) => v.paused)")
    tab.click("#play")


def test_tracks_are_drawn_when_asked_for(tab: Any) -> None:
    inked = """() => new Promise((done) => requestAnimationFrame(() => {
      const seen = document.querySelector("canvas"), copy = new OffscreenCanvas(96, 64);
      const pen = copy.getContext("2d", { willReadFrequently: true });
      pen.drawImage(seen, 0, 0);
      done(pen.getImageData(0, 0, 96, 64).data.some((v) => v > 0));
    }))"""
    assert not tab.evaluate(inked)
    tab.check("#tracks")
    tab.wait_for_timeout(200)
    assert tab.evaluate(inked)


def test_the_table_sorts_and_the_videos_with_it(tab: Any) -> None:
    assert tab.evaluate(ORDER) == ["c0", "c1", "c2"]
    head = "#table th:nth-child(6)"
    tab.click(f"{head} button")
    assert tab.evaluate(COLUMN) == ["0.100", "0.300", "0.500", "0.700", "0.950", "-"]
    assert tab.get_attribute(head, "aria-sort") == "ascending"
    assert tab.evaluate(ORDER) == ["c1", "c0", "c2"]
    tab.click(f"{head} button")
    assert tab.evaluate(COLUMN) == ["0.950", "0.700", "0.500", "0.300", "0.100", "-"]
    tab.click("#table th:nth-child(1) button")
    assert tab.get_attribute(head, "aria-sort") is None


def test_a_row_leads_to_its_videos(tab: Any) -> None:
    tab.click("#table tbody tr:nth-child(1) td:nth-child(1)")
    assert tab.locator("article.here").count() == 1
    box = tab.locator("article.here").bounding_box()
    assert 0 <= box["y"] < 900


def test_a_phone_can_read_it(tab: Any) -> None:
    tab.set_viewport_size({"width": 360, "height": 740})
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360
    tab.set_viewport_size({"width": 1200, "height": 900})


def test_it_asked_for_nothing_and_said_nothing(tab: Any, page: Path) -> None:
    """After all of the above: one request, for itself; no script of a stranger ran."""
    assert tab.heard == [page.as_uri()]
    assert tab.title().startswith("</script><script>alert(1)")
