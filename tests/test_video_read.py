"""Reading clips: time, size, orientation, pixel formats and containers."""

from __future__ import annotations

import hashlib
import logging
import os
import struct
import subprocess
import sys
import tracemalloc
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition
from PIL import Image

from pe_toolkit.errors import ClipError, UsageError
from pe_toolkit.video import read_clip
from tests.clips import (
    BACKGROUND,
    SQUARE,
    moving_square,
    redness,
    remux,
    square_x,
    write_animation,
    write_clip,
    write_folder,
    write_rotated,
)


def positions(frames: np.ndarray) -> list[float]:
    return [square_x(frame) for frame in frames]


def near(colour: np.ndarray, wanted: tuple[int, int, int], tolerance: int = 12) -> bool:
    return bool(np.abs(colour.astype(int) - wanted).max() <= tolerance)


class TestTime:
    def test_whole_clip(self, tmp_path: Path) -> None:
        path = write_clip(tmp_path / "a.mp4", moving_square(24), fps=24)
        clip = read_clip(path)
        assert clip.frames.shape == (24, 64, 96, 3)
        assert clip.frames.dtype == np.uint8
        assert clip.size == (96, 64)
        assert clip.fps == pytest.approx(24)
        assert clip.duration == pytest.approx(1.0)
        assert clip.total_frames == 24
        assert clip.source == "a.mp4"
        assert clip.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        np.testing.assert_allclose(positions(clip.frames), np.arange(24) * 3, atol=1)

    def test_uniform_keeps_first_and_last(self, tmp_path: Path) -> None:
        path = write_clip(tmp_path / "a.mp4", moving_square(25), fps=25)
        clip = read_clip(path, frames=9)
        np.testing.assert_allclose(positions(clip.frames), np.arange(9) * 9, atol=1)
        assert clip.fps == pytest.approx(8 / 0.96)

    def test_fewer_source_frames_repeat(self, tmp_path: Path) -> None:
        path = write_clip(tmp_path / "a.mp4", moving_square(5), fps=10)
        clip = read_clip(path, frames=9)
        xs = positions(clip.frames)
        assert xs[0] == pytest.approx(0, abs=1)
        assert xs[-1] == pytest.approx(12, abs=1)
        assert np.diff(xs).min() >= -1

    def test_variable_rate_is_resampled_in_time(self, tmp_path: Path) -> None:
        # 12 frames in the first tenth of the clip, then 13 slow ones: by index the middle frame
        # would be frame 12; by time it is frame 18.
        times = [i * 0.01 for i in range(12)] + [0.12 + i * 0.09 for i in range(13)]
        for name in ("v.mkv", "v.mp4"):
            path = write_clip(tmp_path / name, moving_square(25), times=times)
            clip = read_clip(path, frames=3)
            middle = min(range(25), key=lambda i: abs(times[i] - times[-1] / 2))
            assert middle == 17
            np.testing.assert_allclose(positions(clip.frames), [0, middle * 3, 72], atol=1)

    def test_fps_takes_frames_at_that_rate(self, tmp_path: Path) -> None:
        path = write_clip(tmp_path / "a.mkv", moving_square(24), fps=24)
        clip = read_clip(path, fps=8, frames=5)
        assert clip.fps == 8
        np.testing.assert_allclose(positions(clip.frames), np.arange(5) * 9, atol=1)
        assert len(read_clip(path, fps=8).frames) == 8
        assert len(read_clip(path, fps=24).frames) == 24

    def test_native_rate_takes_consecutive_frames(self, tmp_path: Path) -> None:
        path = write_clip(tmp_path / "a.mp4", moving_square(24), fps=30000 / 1001)
        clip = read_clip(path, fps="native", frames=10, start=0.1)
        assert clip.fps == pytest.approx(30000 / 1001, rel=1e-3)
        np.testing.assert_allclose(positions(clip.frames), np.arange(3, 13) * 3, atol=1)

    def test_end(self, tmp_path: Path) -> None:
        path = write_clip(tmp_path / "a.mp4", moving_square(24), fps=24)
        whole = read_clip(path, start=0.25, end=0.5)
        np.testing.assert_allclose(positions(whole.frames), np.arange(6, 13) * 3, atol=1)
        assert whole.fps == pytest.approx(24)
        few = read_clip(path, start=0.25, end=0.5, frames=3)
        np.testing.assert_allclose(positions(few.frames), [18, 27, 36], atol=1)
        assert len(read_clip(path, end=0.5, fps=8).frames) == 5
        assert len(read_clip(path, end=99).frames) == 24
        with pytest.raises(ClipError, match="too short"):
            read_clip(path, start=0.26, end=0.28)
        with pytest.raises(ClipError, match=r"an end after the start at 0\.5 seconds, got 0\.5"):
            read_clip(path, start=0.5, end=0.5)

    def test_what_an_end_leaves_is_too_little(self, tmp_path: Path) -> None:
        path = write_clip(tmp_path / "a.mkv", moving_square(48, (256, 64)), fps=24)
        assert len(read_clip(path, start=0.5, end=1.5, frames=11, fps=10).frames) == 11
        says = "12 frames at 10 fps .* the span ends at 1.5 s: 11 frames"
        with pytest.raises(ClipError, match=says) as caught:
            read_clip(path, start=0.5, end=1.5, frames=12, fps=10)
        assert (
            caught.value.hint == "Use a later end, an earlier start, a higher --fps, or --frames 9."
        )
        with pytest.raises(ClipError, match=r"30 frames from 0\.5 s, but 25 are in the span"):
            read_clip(path, start=0.5, end=1.5, frames=30, fps="native")
        with pytest.raises(ClipError, match="9 different frames, but 3 came") as caught:
            read_clip(path, start=0.5, end=0.6, frames=33, min_frames=9)
        assert caught.value.hint == "Use a later end, an earlier start, or --frames 9."

    def test_a_span_with_an_end_tells_where_it_begins(self, tmp_path: Path) -> None:
        path = write_clip(tmp_path / "a.mkv", moving_square(48, (256, 64)), fps=24)
        clip = read_clip(path, start=0.51, end=1.24, frames=9)
        assert (clip.start, clip.end) == (pytest.approx(13 / 24, abs=1e-3), 1.24)
        assert clip.start + clip.used == pytest.approx(29 / 24, abs=1e-3)
        assert read_clip(path, start=0.51, end=1.24, fps=8).start == 0.51
        assert read_clip(path, start=0.51).end is None

    def test_start(self, tmp_path: Path) -> None:
        path = write_clip(tmp_path / "a.mp4", moving_square(24), fps=24)
        clip = read_clip(path, start=0.5, frames=5)
        assert clip.start == 0.5
        assert positions(clip.frames)[0] == pytest.approx(36, abs=1)
        assert positions(clip.frames)[-1] == pytest.approx(69, abs=1)

    def test_too_high_rate_says_how_long_it_must_be(self, tmp_path: Path) -> None:
        path = write_clip(tmp_path / "a.mp4", moving_square(24), fps=24)
        with pytest.raises(ClipError, match=r"25 frames at 24 fps.*needs 1\.00 s.*1\.00 s long"):
            read_clip(path, fps=24, frames=25)
        with pytest.raises(ClipError, match=r"needs 6\.00 s"):
            read_clip(path, fps=8, frames=49)

    def test_b_frames_come_in_display_order(self, tmp_path: Path) -> None:
        path = write_clip(
            tmp_path / "b.ts", moving_square(24), options={"bf": "3", "b_strategy": "0"}
        )
        np.testing.assert_allclose(positions(read_clip(path).frames), np.arange(24) * 3, atol=1)

    @pytest.mark.parametrize(
        ("name", "codec"), [("j.ts", "libx264"), ("j.ts", "mpeg2video"), ("j.mpg", "mpeg2video")]
    )
    @pytest.mark.parametrize("seconds", [(10, 3610), (3610, 10), (40, 10)])
    def test_a_jump_of_the_clock_is_one_frame(
        self,
        tmp_path: Path,
        name: str,
        codec: str,
        seconds: tuple[int, int],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        frames = moving_square(48, size=(128, 64), step=2)
        parts = [
            write_clip(
                tmp_path / f"{k}-{name}", frames[k * 24 : (k + 1) * 24], fps=25, codec=codec,
                options={"bf": "2"}, container_options={"output_ts_offset": str(start)},
            ).read_bytes()
            for k, start in enumerate(seconds)
        ]  # fmt: skip
        (tmp_path / name).write_bytes(b"".join(parts))
        clip = read_clip(tmp_path / name)
        np.testing.assert_allclose(positions(clip.frames), np.arange(48) * 2, atol=1)
        assert clip.fps == pytest.approx(25)
        assert clip.duration == pytest.approx(48 / 25)
        assert "jumps" in caplog.text

    def test_a_jump_in_a_stream_without_a_fault(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        frames = moving_square(24)
        for late, duration in ((3600, 0.96), (5, 5.92)):  # the second is a picture that is held
            times = [i * 0.04 + (late if i >= 12 else 0) for i in range(24)]
            path = write_clip(tmp_path / f"{late}.ts", frames, fps=25, times=times)
            clip = read_clip(path, start=0.6) if late == 3600 else read_clip(path)
            assert clip.duration == pytest.approx(duration, abs=0.05)
            assert positions(clip.frames)[-1] == pytest.approx(69, abs=1)
            assert ("jumps" in caplog.text) == (late == 3600)
            caplog.clear()
        path = write_clip(tmp_path / "slow.ts", frames, fps=25, times=[15.0 * i for i in range(24)])
        assert read_clip(path).duration == pytest.approx(360, abs=16)
        assert not caplog.text


class TestSize:
    def test_odd_sizes(self, tmp_path: Path) -> None:
        frames = moving_square(6, size=(37, 29), side=8)
        path = write_clip(tmp_path / "odd.mkv", frames, codec="ffv1", pix_fmt="bgr0")
        np.testing.assert_array_equal(read_clip(path).frames, frames)
        path = write_clip(tmp_path / "odd.mp4", frames, pix_fmt="yuv444p")
        assert read_clip(path).frames.shape == (6, 29, 37, 3)
        assert read_clip(path, size=(51, 33)).frames.shape == (6, 33, 51, 3)

    def test_crop_cuts_the_centre(self, tmp_path: Path) -> None:
        frames = np.zeros((3, 40, 80, 3), np.uint8)
        frames[:, :, :20] = (255, 0, 0)
        frames[:, :, 20:60] = (0, 255, 0)
        frames[:, :, 60:] = (0, 0, 255)
        path = write_clip(tmp_path / "w.mkv", frames, codec="ffv1", pix_fmt="bgr0")
        cropped = read_clip(path, size=(20, 20), fit="crop").frames
        # The filter reaches across the cut at the outermost column, as resampling does.
        assert (cropped[:, :, 1:-1] == (0, 255, 0)).all()
        assert near(cropped[0, 10, 0], (0, 255, 0), 20)
        stretched = read_clip(path, size=(20, 20), fit="stretch").frames
        assert near(stretched[0, 10, 1], (255, 0, 0))
        assert near(stretched[0, 10, 18], (0, 0, 255))
        padded = read_clip(path, size=(20, 20), fit="pad").frames
        assert (padded[0, :5] == 0).all()
        assert (padded[0, 15:] == 0).all()
        assert near(padded[0, 10, 10], (0, 255, 0))
        assert near(padded[0, 10, 1], (255, 0, 0))

    def test_non_square_pixels(self, tmp_path: Path) -> None:
        frames = moving_square(4, size=(48, 48))
        path = write_clip(tmp_path / "sar.mp4", frames, aspect=Fraction(4, 3))
        assert read_clip(path).frames.shape == (4, 48, 64, 3)

    @pytest.mark.parametrize(
        ("pasp", "width"),
        [
            ((8, 1), 384),
            ((1, 16), 3),
            ((17, 1), 48),
            ((1, 17), 48),
            ((400_000, 1), 48),
            ((1, 400_000), 48),
        ],
    )
    def test_absurd_pixel_aspects_are_ignored(
        self,
        tmp_path: Path,
        pasp: tuple[int, int],
        width: int,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        path = write_clip(
            tmp_path / "a.mp4", moving_square(4, size=(48, 48)), aspect=Fraction(4, 3)
        )
        data = bytearray(path.read_bytes())
        place = data.index(b"pasp") + 4
        data[place : place + 8] = struct.pack(">2I", *pasp)
        path.write_bytes(data)
        with caplog.at_level(logging.WARNING):
            assert read_clip(path).frames.shape == (4, 48, width, 3)
        assert ("'a.mp4'" in caplog.text) == (width == 48)

    @pytest.mark.parametrize(
        "request_",
        [
            {"frames": 1},
            {"fps": 0},
            {"fps": float("nan")},
            {"fps": "slow"},
            {"size": (0, 8)},
            {"fit": "zoom"},
        ],
    )
    def test_senseless_request(self, tmp_path: Path, request_: dict) -> None:
        path = write_clip(tmp_path / "a.mp4", moving_square(4))
        with pytest.raises(UsageError, match="Expected"):
            read_clip(path, **request_)

    def test_refuses_to_fill_the_memory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = write_clip(tmp_path / "a.mp4", moving_square(10))
        monkeypatch.setattr("pe_toolkit.video.span.MAX_BYTES", 10 * 96 * 64 * 3 - 1)
        with pytest.raises(ClipError, match="10 frames of 96x64") as caught:
            read_clip(path)
        assert "smaller size" in str(caught.value.hint)
        assert read_clip(path, size=(48, 32)).frames.shape == (10, 32, 48, 3)

    @pytest.mark.parametrize("size", [None, (48, 32)])
    @pytest.mark.parametrize(
        "request_",
        [{"frames": 10**9}, {"frames": 10**400}, {"fps": 1e300}, {"fps": 1e308}, {"fps": 1e10}],
    )
    def test_absurd_numbers_of_frames_are_refused_at_once(
        self, tmp_path: Path, request_: dict, size: tuple[int, int] | None
    ) -> None:
        folder = write_folder(tmp_path / "f", moving_square(4))
        paths = [write_clip(tmp_path / "a.mp4", moving_square(48)), folder]
        for path in paths if "frames" in request_ else paths[:1]:
            tracemalloc.start()
            with pytest.raises(ClipError, match="at most 4 GiB") as caught:
                read_clip(path, size=size, **request_)
            most = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert most < 20 * 2**20
            assert len(str(caught.value)) < 150
        assert len(read_clip(paths[0], end=0.5, fps=1000).frames) == 502


class TestOrientation:
    @pytest.mark.parametrize("mirror", [False, True])
    @pytest.mark.parametrize("turns", [0, 1, 2, 3])
    def test_display_matrix(self, tmp_path: Path, turns: int, mirror: bool) -> None:
        frames = moving_square(4, size=(96, 64), side=20)
        source = write_clip(tmp_path / "plain.mp4", frames)
        plain = read_clip(source).frames
        turned = read_clip(write_rotated(tmp_path / "r.mp4", source, turns, mirror=mirror)).frames
        wanted = plain[:, :, ::-1] if mirror else plain
        np.testing.assert_array_equal(turned, np.rot90(wanted, -turns, axes=(1, 2)))

    @pytest.mark.parametrize("where", ["insert", "first"])
    def test_message_inside_the_stream(self, tmp_path: Path, where: str) -> None:
        # The decoder reports it with key frames only; phones and `ffmpeg -bsf h264_metadata` write
        # it with each, others with the first alone.
        frames = moving_square(96, size=(200, 64), side=20, step=1)
        source = write_clip(tmp_path / "a.mp4", frames, options={"g": "12", "bf": "2"})
        turn = "h264_metadata=display_orientation=insert:rotate=90"
        turned = remux(tmp_path / "turned.mp4", source, filters=turn)
        if where == "first":  # only the first second of the stream is from the turned one
            with (
                av.open(str(turned)) as a,
                av.open(str(source)) as b,
                av.open(str(tmp_path / "first.mp4"), "w") as out,
            ):
                stream = out.add_stream_from_template(a.streams.video[0])
                pairs = zip(a.demux(video=0), b.demux(video=0), strict=True)
                for number, (one, other) in enumerate(pairs):
                    packet = one if number < 12 else other
                    if packet.size:
                        packet.stream = stream
                        out.mux(packet)
            turned = tmp_path / "first.mp4"
        wanted = np.rot90(read_clip(source).frames, 1, axes=(1, 2))
        np.testing.assert_array_equal(read_clip(turned).frames, wanted)
        part = read_clip(turned, start=3.0, frames=9, fps="native").frames
        np.testing.assert_array_equal(part, wanted[72:81])

    def test_exif_in_a_folder(self, tmp_path: Path) -> None:
        folder = tmp_path / "exif"
        folder.mkdir()
        exif = Image.Exif()
        exif[0x0112] = 6  # turn clockwise to show
        for i, frame in enumerate(moving_square(3)):
            Image.fromarray(frame).save(folder / f"{i}.png", exif=exif)
        frames = read_clip(folder).frames
        np.testing.assert_array_equal(frames, np.rot90(moving_square(3), -1, axes=(1, 2)))


class TestSeveralStreams:
    """Moving before still, then the default flag, then size."""

    def written(self, path: Path, *clips: Path, default: int | None = None) -> Path:
        with av.open(str(path), "w") as out:
            opened = [av.open(str(clip)) for clip in clips]
            streams = [out.add_stream_from_template(c.streams.video[0]) for c in opened]
            for number, stream in enumerate(streams):
                stream.disposition = Disposition.default if number == default else Disposition(0)
            packets = [p for c in opened for p in c.demux(video=0) if p.size]
            owners = {id(c.streams.video[0]): s for c, s in zip(opened, streams, strict=True)}
            for packet in sorted(packets, key=lambda p: float((p.dts or 0) * p.time_base)):
                packet.stream = owners[id(packet.stream)]
                out.mux(packet)
            for container in opened:
                container.close()
        return path

    @pytest.fixture
    def clips(self, tmp_path: Path) -> dict[str, Path]:
        still = np.repeat(moving_square(1, size=(320, 200), side=30), 24, axis=0)
        return {
            "thumbnail": write_clip(
                tmp_path / "t.mkv", still[:1], codec="mjpeg", pix_fmt="yuvj420p"
            ),
            "still": write_clip(tmp_path / "s.mkv", still),
            "small": write_clip(tmp_path / "a.mkv", moving_square(24)),
            "large": write_clip(tmp_path / "b.mkv", moving_square(24, size=(192, 128), side=32)),
        }

    @pytest.mark.parametrize(
        ("order", "default", "size"),
        [
            (["thumbnail", "small"], None, (96, 64)),
            (["thumbnail", "small"], 0, (96, 64)),
            (["small", "thumbnail"], 1, (96, 64)),
            (["small", "still"], 1, (96, 64)),
            (["still", "small"], 0, (96, 64)),
            (["small", "large"], None, (192, 128)),
            (["small", "large"], 0, (96, 64)),
            (["large", "small"], 1, (96, 64)),
            (["thumbnail", "still", "large", "small"], 3, (96, 64)),
            (["small", "small"], None, (96, 64)),
        ],
    )
    def test_choice(
        self,
        tmp_path: Path,
        clips: dict[str, Path],
        order: list[str],
        default: int | None,
        size: tuple[int, int],
    ) -> None:
        path = self.written(tmp_path / "all.mkv", *(clips[n] for n in order), default=default)
        clip = read_clip(path)
        assert clip.size == size
        assert clip.total_frames == 24
        assert square_x(clip.frames[-1]) > 60

    def test_which_one_is_said(
        self, tmp_path: Path, clips: dict[str, Path], caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING):
            read_clip(self.written(tmp_path / "one.mkv", clips["thumbnail"], clips["small"]))
        assert not caplog.text
        with caplog.at_level(logging.WARNING):
            read_clip(self.written(tmp_path / "two.mkv", clips["small"], clips["large"]))
        assert "2 video streams; stream 1 is read" in caplog.text


class TestPixelFormats:
    def test_ten_bit(self, tmp_path: Path) -> None:
        path = write_clip(tmp_path / "10.mp4", moving_square(8), pix_fmt="yuv420p10le")
        clip = read_clip(path)
        assert near(clip.frames[0, 24, 8], SQUARE)
        assert near(clip.frames[0, 60, 90], BACKGROUND)
        np.testing.assert_allclose(positions(clip.frames), np.arange(8) * 3, atol=1)

    @pytest.mark.parametrize(
        ("name", "codec", "pix_fmt"),
        [
            ("a.mov", "qtrle", "argb"),
            ("a.mov", "prores_ks", "yuva444p10le"),
            ("a.webm", "libvpx-vp9", "yuva420p"),
            ("a.mkv", "ffv1", "yuva444p"),
        ],
    )
    def test_alpha_goes_over_black(
        self, tmp_path: Path, name: str, codec: str, pix_fmt: str
    ) -> None:
        rgb = moving_square(6)
        rgba = np.full((*rgb.shape[:3], 4), 255, np.uint8)
        rgba[..., :3] = rgb
        hidden = ~np.stack([redness(frame) for frame in rgb])
        rgba[hidden] = (90, 200, 90, 0)  # a colour that must not show through
        path = write_clip(tmp_path / name, rgba, codec=codec, pix_fmt=pix_fmt)
        frames = read_clip(path).frames
        assert len(frames) == 6
        assert near(frames[0, 60, 90], (0, 0, 0), 3)
        assert near(frames[0, 24, 8], SQUARE, 16)

    def test_half_transparent_is_half_as_bright(self, tmp_path: Path) -> None:
        rgba = np.full((3, 16, 16, 4), 200, np.uint8)
        rgba[..., 3] = 128
        path = write_clip(tmp_path / "h.mov", rgba, codec="qtrle", pix_fmt="argb")
        assert near(read_clip(path).frames[1, 8, 8], (100, 100, 100), 1)

    def test_sixteen_bit_and_grey_images(self, tmp_path: Path) -> None:
        folder = tmp_path / "deep"
        folder.mkdir()
        Image.fromarray(np.full((8, 8), 32768, np.uint16)).save(folder / "1.png")
        Image.fromarray(np.full((8, 8), 50, np.uint8)).save(folder / "2.png")
        frames = read_clip(folder).frames
        assert (frames[0] == 128).all()
        assert (frames[1] == 50).all()


class TestContainers:
    @pytest.mark.parametrize(
        ("name", "codec"),
        [
            ("a.mov", "libx264"),
            ("a.mkv", "libx264"),
            ("a.webm", "libvpx-vp9"),
            ("a.webm", "libvpx"),
            ("a.ts", "mpeg2video"),
            ("a.ts", "libx264"),
            ("a.avi", "mpeg4"),
            ("a.mpg", "mpeg2video"),
            ("a.m4v", "mpeg4"),
            ("a.flv", "libx264"),
            ("a.h264", "libx264"),
            ("a.mp4", "libx265"),
        ],
    )
    def test_many(self, tmp_path: Path, name: str, codec: str) -> None:
        options = {"b": "4000000"} if codec != "libx265" else {"x265-params": "log-level=none"}
        path = write_clip(
            tmp_path / name, moving_square(24, size=(176, 144)), fps=25, codec=codec,
            options=options,
        )  # fmt: skip
        clip = read_clip(path)
        assert clip.total_frames == len(clip.frames) == 24
        assert clip.fps == pytest.approx(25, rel=0.01)
        np.testing.assert_allclose(positions(clip.frames), np.arange(24) * 3, atol=2)

    @pytest.mark.parametrize("fps", [12, 24, 50])
    def test_the_rate_of_a_raw_stream_is_that_of_its_codec(self, tmp_path: Path, fps: int) -> None:
        clip = read_clip(write_clip(tmp_path / "a.h264", moving_square(24), fps=fps))
        assert clip.fps == pytest.approx(fps, rel=0.01)
        assert clip.duration == pytest.approx(24 / fps, rel=0.01)

    @pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.apng", "a.avif"])
    def test_animations(self, tmp_path: Path, name: str) -> None:
        delays = [100, 100, 300, *[100] * 5]
        path = write_animation(tmp_path / name, moving_square(8), delay_ms=delays)
        clip = read_clip(path)
        assert clip.total_frames == 8
        assert clip.duration == pytest.approx(1.0, abs=0.02)
        np.testing.assert_allclose(positions(clip.frames), np.arange(8) * 3, atol=1)
        # Frames 0.3 s apart are 0, 2 (at 0.2 s), 4 (at 0.6 s), 7; by index it would be 0, 2, 5, 7.
        assert positions(read_clip(path, frames=4).frames) == pytest.approx([0, 6, 12, 21], abs=1)

    def test_transparent_gif(self, tmp_path: Path) -> None:
        images = []
        for i in range(4):
            image = Image.new("RGBA", (32, 32), (0, 200, 0, 0))
            image.paste(SQUARE, (i * 4, 8, i * 4 + 8, 16))
            images.append(image)
        path = tmp_path / "t.gif"
        images[0].save(path, save_all=True, append_images=images[1:], duration=50, disposal=2)
        frames = read_clip(path).frames
        assert near(frames[3, 28, 28], (0, 0, 0), 2)
        np.testing.assert_allclose(positions(frames), [0, 4, 8, 12])

    def test_transparent_avif(self, tmp_path: Path) -> None:
        # Its alpha is a second track, which is no second clip.
        frames = np.zeros((6, 48, 96, 4), np.uint8)
        frames[..., :3] = (0, 200, 0)
        for i in range(6):
            frames[i, 8:24, i * 8 : i * 8 + 16] = (*SQUARE, 255)
        images = [Image.fromarray(frame) for frame in frames]
        path = tmp_path / "t.avif"
        images[0].save(path, save_all=True, append_images=images[1:], duration=50, quality=90)
        clip = read_clip(path)
        assert near(clip.frames[3, 40, 90], (0, 0, 0), 6)
        np.testing.assert_allclose(positions(clip.frames), np.arange(6) * 8, atol=1)
        assert clip.duration == pytest.approx(0.3)

    def test_folder_in_natural_order(self, tmp_path: Path) -> None:
        folder = write_folder(tmp_path / "f", moving_square(12))
        (folder / "notes.txt").write_text("not an image")
        (folder / ".hidden.png").write_bytes(b"neither")
        clip = read_clip(folder)
        assert clip.fps == pytest.approx(16)
        assert clip.source == "f"
        np.testing.assert_array_equal(clip.frames, moving_square(12))
        assert read_clip(folder, fps=4, frames=3).fps == 4
        np.testing.assert_array_equal(read_clip(folder, fps=4, frames=3).frames, clip.frames[:3])

    def test_folder_digest_knows_names_and_bytes(self, tmp_path: Path) -> None:
        one = read_clip(write_folder(tmp_path / "one", moving_square(4))).sha256
        assert one == read_clip(write_folder(tmp_path / "two", moving_square(4))).sha256
        renamed = write_folder(tmp_path / "three", moving_square(4), "image{}.png")
        assert one != read_clip(renamed).sha256
        assert one != read_clip(write_folder(tmp_path / "four", moving_square(4)[::-1])).sha256

    def test_folder_of_differing_sizes(self, tmp_path: Path) -> None:
        folder = write_folder(tmp_path / "f", moving_square(3))
        Image.fromarray(moving_square(1, size=(192, 128), side=32)[0]).save(folder / "frame4.png")
        assert read_clip(folder).frames.shape == (4, 64, 96, 3)

    @pytest.mark.parametrize(
        "name", ["with space.mp4", "影片 été.mp4", "odd%03d.mp4", "colon:name.mp4", "-dash.mp4"]
    )
    def test_names(self, tmp_path: Path, name: str) -> None:
        path = write_clip(tmp_path / "plain.mp4", moving_square(5)).rename(tmp_path / name)
        assert read_clip(path).source == name
        assert read_clip(str(path)).total_frames == 5


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="names are Unicode there")
def test_a_name_that_is_not_unicode(tmp_path: Path) -> None:
    name = os.fsdecode(b"clip-\xff\xfe.mp4")
    path = write_clip(tmp_path / "plain.mp4", moving_square(5)).rename(tmp_path / name)
    clip = read_clip(path)
    assert clip.source == "clip-\ufffd\ufffd.mp4"
    assert clip.source.encode()
    path.write_bytes(b"nothing")
    with pytest.raises(ClipError) as caught:
        read_clip(path)
    assert str(caught.value).encode()


def test_numbers_of_numpy(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", moving_square(24), fps=24)
    plain = read_clip(path, frames=5, size=(32, 24), start=0.5)
    own = read_clip(path, frames=np.int64(5), size=np.array([32, 24]), start=np.float64(0.5))
    assert np.array_equal(own.frames, plain.frames)
    assert own.size == plain.size
    assert [type(number) for number in (own.fps, own.start)] == [float, float]
    assert (own.fps, own.start) == (plain.fps, plain.start)


@pytest.mark.parametrize("asked", [{"frames": 5.5}, {"size": (8.5, 8)}, {"size": (8, 8, 3)}])
def test_what_is_no_number_of_pixels_or_frames(tmp_path: Path, asked: dict[str, Any]) -> None:
    path = write_clip(tmp_path / "a.mp4", moving_square(8))
    with pytest.raises(UsageError, match="Expected a"):
        read_clip(path, **asked)


def test_importing_needs_no_torch() -> None:
    code = (
        "import sys, pe_toolkit.video, pe_toolkit.visual;"
        "sys.exit(' '.join({'torch', 'diffusers', 'cv2'} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_pictures_whose_range_nothing_says_are_refused(tmp_path: Path) -> None:
    for name, kind in (("f", np.float32), ("i", np.int32)):
        folder = tmp_path / name
        folder.mkdir()
        for number in range(3):
            Image.fromarray(np.full((32, 32), number / 3, kind)).save(folder / f"{number}.tif")
        with pytest.raises(ClipError, match="of 8 or 16 bits"):
            read_clip(folder)


def test_a_transparent_grey_of_16_bits(tmp_path: Path) -> None:
    for number in range(3):
        levels = np.full((32, 32), 40_000, np.uint16)
        levels[:16] = 51_200
        path = tmp_path / f"{number}.png"
        Image.fromarray(levels).save(path, transparency=51_200)
    frames = read_clip(tmp_path).frames
    assert (frames[:, :16] == 0).all()
    assert (frames[:, 16:] == 40_000 >> 8).all()
