"""The right frames in the right order: containers without presentation times, and seeking.

`python -m benchmarks.containers` tries many more containers and codecs, with the program ffmpeg.
"""

from __future__ import annotations

import logging
from pathlib import Path

import av
import numpy as np
import pytest

from pe_toolkit.video import read_clip
from tests.clips import moving_square, remux, square_x, write_clip

CLOSED = {"g": "12", "bf": "3", "b_strategy": "0", "sc_threshold": "0"}
OPEN = CLOSED | {"x264-params": "open-gop=1"}


def ordered(path: Path, count: int = 30) -> None:
    """All frames are there, one after the other."""
    clip = read_clip(path)
    assert clip.total_frames == len(clip.frames) == count
    np.testing.assert_allclose(
        [square_x(frame) for frame in clip.frames], np.arange(count) * 2, atol=1.5
    )
    assert clip.fps == pytest.approx(24, rel=0.01)


class TestWithoutTimes:
    @pytest.mark.parametrize("name", ["a.avi", "a.asf", "a.h264"])
    @pytest.mark.parametrize("between", ["0", "1", "3", "16"])
    def test_h264(self, tmp_path: Path, name: str, between: str) -> None:
        ordered(write_clip(
            tmp_path / name, moving_square(30, step=2),
            options={"bf": between, "b_strategy": "0", "x264-params": "b-pyramid=none"},
        ))  # fmt: skip

    @pytest.mark.parametrize("name", ["a.avi", "a.asf"])
    def test_mpeg4(self, tmp_path: Path, name: str) -> None:
        options = {"bf": "2", "g": "10", "b": "4000000"}
        frames = moving_square(30, step=2)
        ordered(write_clip(tmp_path / name, frames, codec="mpeg4", options=options))

    @pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.ts", "a.nut", "a.mov"])
    @pytest.mark.parametrize("options", [CLOSED, OPEN], ids=["closed", "open"])
    def test_times_of_decoding(self, tmp_path: Path, name: str, options: dict[str, str]) -> None:
        good = write_clip(tmp_path / "good.mp4", moving_square(30, step=2), options=options)
        ordered(good)
        ordered(remux(tmp_path / name, good, times=False))

    def test_what_an_edit_list_hides_is_not_damage(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        good = write_clip(tmp_path / "good.mp4", moving_square(30, step=2), options=CLOSED)
        early = tmp_path / "early.mp4"  # decoding times, two of them before the beginning
        with av.open(str(good)) as source, av.open(str(early), "w") as out:
            stream = out.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(video=0):
                if packet.size:
                    packet.pts = packet.dts
                    packet.stream = stream
                    out.mux(packet)
        with av.open(str(early)) as container:
            there = sum(1 for _ in container.decode(video=0))
            assert there < container.streams.video[0].frames == 30
        with caplog.at_level(logging.WARNING):
            clip = read_clip(early)
        assert clip.total_frames == there
        assert not caplog.records

    def test_two_frames_of_many(self, tmp_path: Path) -> None:
        # The few that are asked for may lie before the first that comes late.
        good = write_clip(tmp_path / "good.mp4", moving_square(30, step=2), options=CLOSED)
        bad = remux(tmp_path / "bad.mkv", good, times=False)
        for start in (0.0, 0.5):
            one = read_clip(good, start=start, frames=3, fps="native").frames
            np.testing.assert_array_equal(
                read_clip(bad, start=start, frames=3, fps="native").frames, one
            )

    def test_avi_counts_pictures_that_are_not_there(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        good = write_clip(tmp_path / "good.avi", moving_square(22, step=2), codec="mpeg4")
        path = tmp_path / "gap.avi"
        with av.open(str(good)) as source, av.open(str(path), "w") as out:
            stream = out.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(video=0):
                if packet.size:
                    packet.pts = packet.dts = packet.dts + 5 * (packet.dts > 10)
                    packet.stream = stream
                    out.mux(packet)
        with av.open(str(path)) as container:
            assert container.streams.video[0].frames == 27
        with caplog.at_level(logging.WARNING):
            clip = read_clip(path)
        assert clip.total_frames == 22
        assert clip.duration == pytest.approx(27 / 24)
        assert "damaged" not in caplog.text


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """10 s with a key frame each half second, open GOPs."""
    frames = moving_square(240, size=(512, 64), step=2)
    return write_clip(tmp_path_factory.mktemp("long") / "l.mp4", frames, options=OPEN)


class TestSeeking:
    @pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.mov", "a.nut", "a.flv"])
    def test_same_frames_without_decoding_all(self, tmp_path: Path, long: Path, name: str) -> None:
        path = remux(tmp_path / name, long)
        whole = read_clip(path)
        assert whole.total_frames == 240
        for start in (0.0, 0.9, 3.0, 7.73, 9.5):
            seen: list[tuple[int, int]] = []

            def saw(done: int, total: int, seen: list[tuple[int, int]] = seen) -> None:
                seen.append((done, total))

            clip = read_clip(path, start=start, frames=9, fps="native", on_progress=saw)
            first = round(start * 24 + 0.49)
            np.testing.assert_array_equal(clip.frames, whole.frames[first : first + 9])
            assert len(seen) < 60, "everything before was decoded"
            assert seen[-1][0] == seen[-1][1] == len(seen)

    def test_far_apart(self, long: Path) -> None:
        seen: list[int] = []
        whole = read_clip(long).frames
        few = read_clip(long, frames=5, on_progress=lambda done, _: seen.append(done))
        np.testing.assert_array_equal(few.frames, whole[[0, 60, 119, 179, 239]])
        assert len(seen) < 120

    def test_without_times(self, tmp_path: Path, long: Path) -> None:
        path = remux(tmp_path / "a.mkv", long, times=False)
        clip = read_clip(path, start=5.0, frames=9, fps="native")
        np.testing.assert_array_equal(clip.frames, read_clip(long).frames[120:129])

    def test_animations_are_drawn_from_the_first(self, tmp_path: Path) -> None:
        # Every packet of a GIF calls itself a key frame, but changes only a part of the picture.
        frames = moving_square(60, size=(160, 64), step=2)
        path = write_clip(tmp_path / "a.gif", frames, codec="gif", pix_fmt="rgb8", fps=25)
        whole = read_clip(path).frames
        part = read_clip(path, start=1.6, frames=9, fps="native").frames
        np.testing.assert_array_equal(part, whole[40:49])

    @pytest.mark.parametrize("refresh", ["intra-refresh=1:keyint=24"])
    def test_recovery_that_takes_time(self, tmp_path: Path, refresh: str) -> None:
        # Marked as keys, but the picture is whole only a second later.
        frames = moving_square(120, size=(320, 64), step=2)
        options = {"bf": "0", "x264-params": refresh}
        path = write_clip(tmp_path / "a.ts", frames, options=options)
        whole = read_clip(path).frames
        part = read_clip(path, start=3.2, frames=9, fps="native").frames
        np.testing.assert_array_equal(part, whole[77:86])
