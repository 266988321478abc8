"""Bad clips: each a clear error, none a hang."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from pe_toolkit.errors import ClipError, MotionError, UsageError
from pe_toolkit.video import Clip, motion_level, read_clip, require_motion
from pe_toolkit.video.image import read_image
from tests.clips import (
    moving_square,
    open_folder,
    square_x,
    unprivileged,
    write_animation,
    write_clip,
    write_folder,
    write_sound,
)

ROOT = Path(__file__).parents[1]


def refused(path: Path, match: str, **request: object) -> ClipError:
    with pytest.raises(ClipError, match=match) as caught:
        read_clip(path, **request)  # type: ignore[arg-type]
    assert str(path.parent) not in str(caught.value), "the name says enough"
    return caught.value


def test_missing(tmp_path: Path) -> None:
    assert refused(tmp_path / "no.mp4", "'no.mp4' does not exist").hint


def test_empty(tmp_path: Path) -> None:
    (tmp_path / "e.mp4").touch()
    assert refused(tmp_path / "e.mp4", "empty").hint


def test_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    assert refused(tmp_path / "f", "Expected images").hint


def test_folder_with_one_image(tmp_path: Path) -> None:
    refused(write_folder(tmp_path / "f", moving_square(1)), "one picture")


def test_folder_with_a_damaged_image(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "f", moving_square(4))
    data = (folder / "frame2.png").read_bytes()
    (folder / "frame2.png").write_bytes(data[: len(data) // 2])
    refused(folder, r"frame2\.png")
    (folder / "frame2.png").write_text("text")
    refused(folder, r"frame2\.png")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.gif", "a.webp", "a.bmp"])
def test_one_picture(tmp_path: Path, name: str) -> None:
    Image.fromarray(moving_square(1)[0]).save(tmp_path / name)
    assert refused(tmp_path / name, "one picture").hint


def test_one_frame_video(tmp_path: Path) -> None:
    refused(write_clip(tmp_path / "one.mp4", moving_square(1)), "one picture")


@pytest.mark.parametrize("name", ["t.mp4", "t.txt", "t.nfo", "t.bin", "t.gif"])
@pytest.mark.parametrize("text", ["just some words\n" * 200, "{}", "<html><video></html>" * 50])
def test_text(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert refused(tmp_path / name, "Expected").hint


def test_noise(tmp_path: Path) -> None:
    for seed in range(8):
        (tmp_path / "n.mp4").write_bytes(np.random.default_rng(seed).bytes(20_000))
        refused(tmp_path / "n.mp4", "Expected")


def test_playlists_open_nothing(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.ts", moving_square(8))
    (tmp_path / "l.m3u8").write_text("#EXTM3U\n#EXTINF:1,\na.ts\n#EXT-X-ENDLIST\n")
    refused(tmp_path / "l.m3u8", "Expected a video")
    (tmp_path / "l.ffconcat").write_text("ffconcat version 1.0\nfile a.ts\n")
    refused(tmp_path / "l.ffconcat", "Expected a video")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_what_a_playlist_names_is_never_opened(tmp_path: Path) -> None:
    # Being refused is not enough: FFmpeg opens the entries before its format can be asked for.
    # Opening this entry would wait for a writer, so that the child would not end.
    os.mkfifo(tmp_path / "entry.ts")
    playlist = tmp_path / "l.ffconcat"
    playlist.write_text("ffconcat version 1.0\nfile entry.ts\n")
    code = "import sys; from pe_toolkit.video import read_clip; read_clip(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, "l.ffconcat"], cwd=tmp_path, capture_output=True, text=True,
        timeout=60, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert "ClipError: Expected a video" in done.stderr


LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 12345\n"
ANNEX = "/annex/objects/SHA256E-s12345--" + "0" * 64 + ".mp4\n"


@pytest.mark.parametrize(("text", "kind"), [(LFS, "Git LFS"), (ANNEX, "git-annex")])
@pytest.mark.parametrize("name", ["p.mp4", "p.webp"])
def test_pointer(tmp_path: Path, name: str, text: str, kind: str) -> None:
    (tmp_path / name).write_text(text)
    assert "git" in str(refused(tmp_path / name, f"'{name}' is a {kind} pointer").hint)


def test_pointer_in_a_folder(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "f", moving_square(3))
    (folder / "frame2.png").write_text(LFS)
    assert "git lfs pull" in str(refused(folder, r"'frame2\.png' is a Git LFS pointer").hint)


def test_encrypted(tmp_path: Path) -> None:
    path = write_clip(
        tmp_path / "e.mp4", moving_square(24),
        container_options={
            "encryption_scheme": "cenc-aes-ctr",
            "encryption_key": "76a6c65c5ea762046bd749a2e632ccbb",
            "encryption_kid": "a7e61c373e219033c21091fa607bf3b8",
        },
    )  # fmt: skip
    assert refused(path, "encrypted").hint


def test_no_name() -> None:
    with pytest.raises(UsageError, match="empty name"):
        read_clip("")


@pytest.mark.parametrize("name", ["s.wav", "s.m4a"])
def test_sound_only(tmp_path: Path, name: str) -> None:
    assert refused(write_sound(tmp_path / name), "sound only").hint


def test_truncated_without_index(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "t.mp4", moving_square(48))
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"moov") - 100])
    assert refused(path, "moov.*truncated").hint


def textured(frames: int) -> np.ndarray:
    """A clip that compresses badly, so that a cut leaves whole frames behind."""
    grain = np.random.default_rng(0).integers(0, 60, (64, 96, 3), np.uint8)
    return np.maximum(moving_square(frames, step=2), grain)


@pytest.mark.parametrize("name", ["t.mp4", "t.mkv", "t.ts"])
def test_truncated_midway_uses_what_is_there(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    front = {"movflags": "+faststart"} if name == "t.mp4" else None
    path = write_clip(
        tmp_path / name, textured(32), container_options=front,
        options={"g": "8", "bf": "0", "crf": "18"},
    )  # fmt: skip
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    with caplog.at_level(logging.WARNING):
        clip = read_clip(path, frames=8)
    assert 8 <= clip.total_frames < 32
    assert clip.duration == pytest.approx(clip.total_frames / 24, abs=0.1)
    last = square_x(clip.frames[-1])
    assert last == pytest.approx((clip.total_frames - 1) * 2, abs=2)
    if name == "t.mp4":  # the index still knows how many there were
        assert "cut off" in caplog.text
    refused(path, "too short", frames=30, min_frames=32)


def test_truncated_before_the_first_frame(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "t.mp4", textured(8), container_options={"movflags": "+faststart"})
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"mdat") + 40])
    refused(path, "none could be decoded")


def test_flipped_bytes_never_hang_or_leak(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "d.mp4", textured(16))
    good = path.read_bytes()
    for seed in range(30):
        rng = np.random.default_rng(seed)
        data = bytearray(good)
        for place in rng.integers(0, len(data), 12):
            data[place] = rng.integers(256)
        path.write_bytes(data)
        try:
            assert len(read_clip(path, frames=5, size=(32, 32)).frames) == 5
        except ClipError:
            continue


@pytest.mark.parametrize("name", ["d.gif", "d.webp", "d.png"])
def test_truncated_animations(tmp_path: Path, name: str) -> None:
    path = write_animation(tmp_path / name, textured(12))
    good = path.read_bytes()
    for share in (0.02, 0.3, 0.6, 0.95):
        path.write_bytes(good[: int(len(good) * share)])
        try:
            assert len(read_clip(path, frames=3).frames) == 3
        except ClipError:
            continue


def test_start_outside(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", moving_square(24), fps=24)
    assert refused(path, r"ends at 1\.00 s and the start is 7 s", start=7.0).hint
    refused(path, "0 seconds or later, got -1", start=-1.0)
    refused(path, "0 seconds or later, got nan", start=float("nan"))
    refused(path, "too short", start=0.97)


def test_too_short(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", moving_square(6), fps=24)
    few = refused(path, "at least 9 different frames, but 6 came", frames=33, min_frames=9).hint
    assert few == "Use a longer clip, an earlier start, or --frames 17."
    few = refused(path, "4 frames at 24 fps", start=0.17, frames=4, fps=24).hint
    assert few == "Use a longer clip, an earlier start, or a higher --fps."
    few = refused(path, "33 frames at 40 fps", frames=33, fps=40).hint
    assert few == "Use a longer clip, an earlier start, a higher --fps, or --frames 9."
    few = refused(path, "9 different frames", frames=33, fps=500, min_frames=9).hint
    assert few == "Use a lower --fps."
    few = refused(path, "9 different frames, but 6 came", fps=24, min_frames=9).hint
    assert few == "Use a longer clip or an earlier start."
    assert len(read_clip(path, frames=33, min_frames=6).frames) == 33
    refused(path, "10 frames from 0 s, but 6 are left", fps="native", frames=10)


def test_unreadable() -> None:
    with open_folder() as folder:
        path = write_clip(folder / "a.mp4", moving_square(4))
        path.chmod(0)
        with unprivileged():
            refused(path, "cannot be opened")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    refused(tmp_path / "pipe.mp4", "neither")
    with pytest.raises(ClipError, match="no file"):
        read_image(tmp_path / "pipe.mp4")


def test_cover_art_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "song.m4a"
    sound = write_sound(tmp_path / "s.m4a")
    picture = write_clip(tmp_path / "c.mkv", moving_square(1), codec="mjpeg", pix_fmt="yuvj420p")
    with (
        av.open(str(sound)) as a,
        av.open(str(picture)) as v,
        av.open(str(path), "w", format="mp4") as out,
    ):
        streams = [(a, a.streams.audio[0]), (v, v.streams.video[0])]
        copies = [out.add_stream_from_template(stream) for _, stream in streams]
        copies[1].disposition = av.stream.Disposition.attached_pic
        for (source, stream), copy in zip(streams, copies, strict=True):
            for packet in source.demux(stream):
                if packet.size:
                    packet.stream = copy
                    out.mux(packet)
    refused(path, "sound only")


class TestMotion:
    def clip(self, frames: np.ndarray) -> Clip:
        return Clip(frames, 16, "x.mp4", "", len(frames) / 16, len(frames))

    def test_motion_passes(self) -> None:
        require_motion(self.clip(moving_square(24)))
        require_motion(self.clip(moving_square(24, size=(320, 240), side=32)))

    def test_slow_motion_passes(self) -> None:
        frames = np.repeat(moving_square(5, side=12, step=2), 10, axis=0)
        require_motion(self.clip(frames))

    def test_a_loop_passes(self) -> None:
        there = moving_square(12)
        require_motion(self.clip(np.concatenate([there, there[::-1]])))

    @pytest.mark.parametrize("period", [2, 4])
    def test_a_loop_as_long_as_what_lies_between_the_frames_that_are_compared(
        self, period: int
    ) -> None:
        require_motion(self.clip(np.concatenate([moving_square(period)] * (32 // period))[:33]))

    def test_still_is_refused(self) -> None:
        still = np.repeat(textured(1), 12, axis=0)
        with pytest.raises(MotionError, match=r"x\.mp4.*0\.0 of 255") as caught:
            require_motion(self.clip(still))
        assert caught.value.hint

    def test_sensor_noise_is_refused(self) -> None:
        rng = np.random.default_rng(0)
        still = np.repeat(textured(1), 12, axis=0).astype(float)
        noisy = (still + rng.normal(0, 4, still.shape)).clip(0, 255).astype(np.uint8)
        assert 0.5 < motion_level(noisy) < 6
        with pytest.raises(MotionError):
            require_motion(self.clip(noisy))

    def test_codec_noise_is_refused(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        still = np.repeat(textured(1), 30, axis=0).astype(float)
        noisy = (still + rng.normal(0, 3, still.shape)).clip(0, 255).astype(np.uint8)
        path = write_clip(tmp_path / "s.mp4", noisy, options={"crf": "38"})
        with pytest.raises(MotionError):
            require_motion(read_clip(path, frames=17))

    def test_what_a_crop_cuts_off_is_said(self) -> None:
        still = Clip(textured(1).repeat(9, axis=0), 16, "x.mp4", "", 1.0, 9)
        for size, fit, told in (
            ((640, 360), "crop", True),
            ((600, 400), "crop", False),
            ((640, 360), "pad", False),
        ):
            with pytest.raises(MotionError) as caught:
                require_motion(replace(still, source_size=size, fit=fit))
            assert ("--fit pad" in (caught.value.hint or "")) is told
