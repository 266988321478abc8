"""The report of scored videos: its text. tests/test_report_browser.py opens it."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import av
import numpy as np
import pytest
from click.testing import CliRunner

from pe_toolkit.cli.main import cli
from pe_toolkit.errors import OutputExistsError, UsageError
from pe_toolkit.evaluation.records import ScoredVideo, from_json, to_json
from pe_toolkit.evaluation.report import Column, build_report, is_report, write_report
from pe_toolkit.evaluation.report.media import read_media, shrink
from tests.clips import moving_square, write_clip

HOSTILE = (
    "</script><script>alert(1)</script><img src=http://example.com/x onerror=alert(2)>'\"&\u202e"
)


def record(method: str = "none", case: str = "a 1", value: float | None = 0.5) -> ScoredVideo:
    return ScoredVideo(
        case, "ref.mp4", "Caption", "a cat", 3, method, f"{method}.mp4", {"mf": value}
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clips of the names that `record` gives."""
    made = tmp_path_factory.mktemp("report")
    for name, step in (("ref", 3), ("none", 0), ("rich", 3)):
        write_clip(made / f"{name}.mp4", moving_square(12, step=step))
    return made


class Page(HTMLParser):
    """Tags, attributes and the text between."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


def test_records_come_back_as_they_were() -> None:
    records = [record(), replace(record("rich", value=None), prompt=HOSTILE, seconds=1.5)]
    assert from_json(to_json(records)) == records
    assert from_json(to_json([record(value=float("nan"))]))[0].scores == {"mf": None}


def test_numbers_of_numpy_are_written_as_others() -> None:
    own = replace(record(value=0.5), seed=np.int64(3), seconds=np.float32(1.5))
    own = replace(own, scores={"mf": np.float32(0.5), "leak": np.float64("nan")})
    (back,) = from_json(to_json([own]))
    assert (back.seed, back.seconds, back.scores) == (3, 1.5, {"mf": 0.5, "leak": None})


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"seed": "1"}, "seed"), ({"seed": True}, "seed"), ({"scores": []}, "scores"),
        ({"scores": {"mf": "high"}}, "mf"), ({"prompt": None}, "prompt"),
        ({"seconds": "long"}, "seconds"), ({"more": 1}, "more"),
    ],
)  # fmt: skip
def test_records_are_checked(change: dict[str, object], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        from_json(json.dumps([record().to_dict() | change]))


@pytest.mark.parametrize("text", ["", "{}", "[1]", "[" * 100_000])
def test_other_texts_are_no_records(text: str) -> None:
    with pytest.raises(UsageError):
        from_json(text)


def test_a_page_shows_reference_plain_and_card_beside_each_other(folder: Path) -> None:
    text, media = build_report([record("rich", value=0.9), record("none", value=0.1)], folder)
    page = Page(text)
    assert page.count("article") == 1
    assert page.count("video") == 3
    figures = [t for t in page.texts if t in ("reference", "none (no card)", "rich")]
    assert figures[-5:-2] == ["reference", "none (no card)", "rich"]
    assert {one.why for one in media.values()} == {""}
    with av.open(io.BytesIO(media["rich.mp4"].mp4)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert stream.frames == 12


def test_the_summary_counts_each_reference_once(folder: Path) -> None:
    """Two videos of one reference (0.0 and 0.2) and one of another (0.5): 0.3, not 0.233."""
    records = [
        record("rich", "a 1", 0.0),
        record("rich", "a 2", 0.2),
        replace(record("rich", "b 1", 0.5), reference="none.mp4"),
    ]
    text, _ = build_report(records, folder, columns={"mf": Column("MF", "higher", "alike")})
    assert "0.300" in text
    assert "0.233" not in text
    assert "[0.100, 0.500]" in text
    assert "MF ↑" in text


def test_nothing_that_a_stranger_wrote_becomes_part_of_the_page(folder: Path) -> None:
    bad = ScoredVideo(
        HOSTILE, "ref.mp4", HOSTILE, HOSTILE, 1, HOSTILE, "none.mp4", {HOSTILE: 0.5}, 1.0
    )
    plain = ScoredVideo("c", "ref.mp4", "k", "p", 1, "m", "none.mp4", {"s": 0.5}, 1.0)
    text, _ = build_report([bad], folder, title=HOSTILE, columns={HOSTILE: Column(HOSTILE)})
    clean, _ = build_report([plain], folder)
    kinds = [tag for tag, _ in Page(text).tags]
    assert kinds == [tag for tag, _ in Page(clean).tags]
    for tag, attributes in Page(text).tags:
        assert not any(name.startswith("on") for name in attributes), tag
        assert "http" not in str(attributes.get("src", "")), tag
    assert "\u202e" not in text  # written out, so that no name reads backwards


def test_the_policy_lets_only_its_own_script_run(folder: Path) -> None:
    text, _ = build_report([record()], folder)
    policy = next(
        a["content"]
        for tag, a in Page(text).tags
        if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert not re.findall(r"https?://", text)


def test_a_video_that_cannot_be_read_is_said_and_stops_nothing(folder: Path) -> None:
    (folder / "broken.mp4").write_bytes(b"no video")
    records = [record(), replace(record("rich"), video="broken.mp4"),
               replace(record("x"), video="missing.mp4")]  # fmt: skip
    written = write_report(folder / "page.html", records, folder)
    assert set(written.unread) == {"broken.mp4", "missing.mp4"}
    assert written.videos == 2
    text = (folder / "page.html").read_text()
    assert "missing.mp4" in text
    assert len(text.encode()) == written.size


def test_what_has_no_room_is_left_out(folder: Path) -> None:
    one = read_media(folder / "ref.mp4")
    room = 3000 + len(one.mp4) * 4 // 3 + 10
    _, media = build_report([record()], folder, most_bytes=room)
    assert [bool(m.mp4) for m in media.values()] == [True, False]


def test_tracks_are_those_of_the_tracker(folder: Path) -> None:
    def track(frames):
        points = np.full((2, len(frames), 2), 7.4)
        seen = np.ones((2, len(frames)), bool)
        seen[1, 3] = False
        return points, seen

    text, media = build_report([record()], folder, track=track)
    assert media["none.mp4"].tracks[0][0] == (7, 7)
    assert media["none.mp4"].tracks[1][3] is None
    held = re.search(r'id="t0">(.*?)</script>', text)
    assert held is not None
    found = json.loads(held[1])
    assert found["points"][1][6:8] == [-1, -1]
    assert "draw tracks" in text
    assert "draw tracks" not in build_report([record()], folder)[0]


def test_small_videos_keep_their_shape() -> None:
    frames = np.zeros((2, 480, 720, 3), np.uint8)
    assert shrink(frames).shape == (2, 200, 300, 3)
    assert shrink(frames[:, :100, :101]).shape[1] == 100


def test_no_records_no_page() -> None:
    with pytest.raises(UsageError, match="at least one"):
        build_report([])


def test_records_may_come_one_by_one(folder: Path) -> None:
    text, media = build_report((record(name) for name in ("none", "rich")), folder)
    assert len(media) == 3
    assert text == build_report([record("none"), record("rich")], folder)[0]


def test_a_column_that_is_better_in_no_way(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"Expected higher, lower, neither .* 'mf', got 'up'"):
        build_report([record()], folder, columns={"mf": Column("l", "up")})  # type: ignore[arg-type]


def test_only_a_report_is_written_over(folder: Path) -> None:
    page, own = folder / "again.html", folder / "mine.html"
    own.write_text("<html>mine</html>")
    write_report(page, [record()], folder)
    assert is_report(page)
    assert not is_report(own)
    with pytest.raises(OutputExistsError):
        write_report(own, [record()], folder)
    done = CliRunner().invoke(cli, ["eval", "--ref", str(folder / "ref.mp4"), "--video",
                                    str(folder / "rich.mp4"), "--html", str(own)])  # fmt: skip
    assert done.exit_code == 2
    assert "an older report, got another file" in done.stderr
    assert own.read_text() == "<html>mine</html>"


def test_pe_eval_writes_the_page_of_a_pair(folder: Path) -> None:
    pytest.importorskip("cv2")
    page = folder / "pair.html"
    words = ["eval", "--ref", str(folder / "ref.mp4"), "--video", str(folder / "rich.mp4"),
             "--html", str(page), "--metrics", "dynamic_degree"]  # fmt: skip
    for _ in range(2):  # the second time over its own
        done = CliRunner().invoke(cli, words)
        assert done.exit_code == 0, done.output
    assert "2 videos" in done.stderr
    assert Page(page.read_text()).count("video") == 2
    assert CliRunner().invoke(cli, [*words[:-4], "--html", "page.txt"]).exit_code == 2
