"""Writing videos and images: exact, repeatable, whole or not at all."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from pe_toolkit.errors import OutputError, OutputExistsError, UsageError
from pe_toolkit.video import (
    VIDEO_SUFFIXES,
    check_output,
    read_clip,
    write_atomic,
    write_image,
    write_video,
)
from tests.clips import (
    BACKGROUND,
    SQUARE,
    moving_square,
    open_folder,
    square_x,
    unprivileged,
)


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "A.MP4"])
def test_round_trip(tmp_path: Path, name: str) -> None:
    frames = moving_square(17)
    path = write_video(tmp_path / name, frames, 10)
    clip = read_clip(path)
    assert clip.frames.shape == frames.shape
    assert clip.fps == pytest.approx(10)
    assert clip.duration == pytest.approx(1.7)
    error = np.abs(clip.frames.astype(int) - frames)
    assert error.mean() < 2.5
    for place, colour in (((24, 8), SQUARE), ((60, 90), BACKGROUND)):
        assert np.abs(clip.frames[0][place].astype(int) - colour).max() <= 4
    assert [square_x(f) for f in clip.frames] == pytest.approx(list(range(0, 51, 3)), abs=1)


@pytest.mark.parametrize("suffix", VIDEO_SUFFIXES)
def test_same_frames_same_bytes(tmp_path: Path, suffix: str) -> None:
    # x264 with SIMD code gave other bytes in a quarter of the encodes of this very clip, depending
    # on what lay in memory before: hence this size, many repetitions, and a heap that changes.
    frames = moving_square(8, size=(100, 68))
    path = tmp_path / f"a{suffix}"
    rng = np.random.default_rng(1)
    litter: list[bytearray] = []
    seen = set()
    for _ in range(60):
        litter = [*litter[-20:], bytearray(int(rng.integers(1, 200_000)))]
        seen.add(write_video(path, frames, 24, force=True).read_bytes())
    assert len(seen) == 1
    assert write_video(path, frames[::-1], 24, force=True).read_bytes() not in seen


@pytest.mark.parametrize("fps", [8, 16, 24, 50])
def test_a_gif_holds_every_frame_also_those_that_equal_the_one_before(
    tmp_path: Path, fps: int
) -> None:
    for frames in (np.repeat(moving_square(6), 3, 0), np.repeat(moving_square(1), 9, 0)):
        path = write_video(tmp_path / "a.gif", frames, fps, force=True)
        clip = read_clip(path)
        assert len(clip.frames) == len(frames)
        assert clip.fps == pytest.approx(fps, rel=0.02)
        assert clip.duration == pytest.approx(len(frames) / fps, abs=0.01)
        np.testing.assert_array_equal(clip.frames, frames)  # few colours are kept as they are
        with Image.open(path) as picture:
            assert (picture.n_frames, picture.info["loop"]) == (len(frames), 0)  # for ever
            picture.seek(len(frames) - 1)
            last = np.asarray(picture.convert("RGB"))
        np.testing.assert_array_equal(last, frames[-1])


def test_a_gif_keeps_the_colour_of_what_is_small(tmp_path: Path) -> None:
    """Before a slow gradient with noise, of which a palette by counts alone is full."""
    rng, (y, x) = np.random.default_rng(0), np.mgrid[0:128, 0:128]
    ground = np.stack([60 + x / 4, 70 + y / 4, 150 - x / 5 + y / 9], -1)
    frames = (ground + rng.normal(0, 4, (3, 128, 128, 3))).clip(0, 255).round().astype(np.uint8)
    for i, frame in enumerate(frames):
        frame[60:64, 30 * i : 30 * i + 5] = SQUARE
    clip = read_clip(write_video(tmp_path / "a.gif", frames, 8))
    error = np.abs(clip.frames.astype(int) - frames)
    for i in range(3):
        assert error[i, 60:64, 30 * i : 30 * i + 5].max() <= 12
    assert error.mean() < 1.3


@pytest.mark.parametrize("size", [(37, 29), (1, 1), (2, 3), (36, 29)])
def test_odd_sizes_are_made_even(tmp_path: Path, size: tuple[int, int]) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (3, size[1], size[0], 3), np.uint8)
    clip = read_clip(write_video(tmp_path / "odd.mp4", frames, 8))
    assert clip.size == (size[0] + size[0] % 2, size[1] + size[1] % 2)


@pytest.mark.parametrize("fps", [8, 16, 23.976, 29.97, 12.5, 50])
def test_rates(tmp_path: Path, fps: float) -> None:
    for suffix in VIDEO_SUFFIXES:
        clip = read_clip(write_video(tmp_path / f"r{suffix}", moving_square(20), fps))
        assert clip.fps == pytest.approx(fps, rel=0.02)


@pytest.mark.parametrize("suffix", VIDEO_SUFFIXES)
@pytest.mark.parametrize("fps", [np.float32(16), np.float64(16), np.int64(16)])
def test_rates_of_numpy(tmp_path: Path, suffix: str, fps: float) -> None:
    plain = write_video(tmp_path / f"plain{suffix}", moving_square(4), 16)
    own = write_video(tmp_path / f"own{suffix}", moving_square(4), fps)
    assert own.read_bytes() == plain.read_bytes()


def test_one_frame(tmp_path: Path) -> None:
    for suffix in VIDEO_SUFFIXES:
        assert write_video(tmp_path / f"o{suffix}", moving_square(1), 8).stat().st_size > 50


def test_metadata(tmp_path: Path) -> None:
    frames, texts = moving_square(8), {"prompt": "a red circle\nÄ 影", "seed": "42", "digest": "a1"}
    plain = write_video(tmp_path / "plain.mp4", frames, 8).read_bytes()
    path = write_video(tmp_path / "a.mp4", frames, 8, metadata=texts)
    with av.open(str(path)) as container:
        found = container.metadata
        assert {key: found[key] for key in texts} == texts
    again = write_video(tmp_path / "b.mp4", frames, 8, metadata=texts).read_bytes()
    assert path.read_bytes() == again
    place = plain.index(b"mdat")
    end = plain.index(b"moov")
    assert plain[place:end][:-4] in again, "the pictures are the same"
    assert write_video(tmp_path / "c.mp4", frames, 8, metadata={}).read_bytes() == plain
    odd = write_video(tmp_path / "d.mp4", frames, 8, metadata={"prompt": "a\udc80b\0c"})
    with av.open(str(odd)) as container:
        assert container.metadata["prompt"] == r"a\udc80b c"
    write_video(tmp_path / "a.gif", frames, 8, metadata=texts)


def test_image(tmp_path: Path) -> None:
    image = moving_square(1)[0]
    path = write_image(tmp_path / "i.png", image)
    with Image.open(path) as read:
        np.testing.assert_array_equal(np.asarray(read), image)
    with pytest.raises(OutputExistsError):
        write_image(path, image)
    write_image(path, image, force=True)


def test_a_dangling_link_counts_as_existing(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputExistsError):
        write_video(tmp_path / "x.mp4", np.zeros((2, 16, 16, 3), np.uint8), 8.0)
    assert (tmp_path / "x.mp4").is_symlink()


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        path = write_atomic(tmp_path / "a", b"x")
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o644


class TestRefusals:
    @pytest.fixture
    def frames(self) -> np.ndarray:
        return moving_square(4)

    def test_suffix(self, tmp_path: Path, frames: np.ndarray) -> None:
        for name in ("a.avi", "a", "a.mp4.txt"):
            with pytest.raises(UsageError, match=r"\.mp4 or \.gif"):
                write_video(tmp_path / name, frames, 8)
        with pytest.raises(UsageError, match=r"\.png"):
            write_image(tmp_path / "a.jpg", frames[0])
        assert not list(tmp_path.iterdir())

    def test_existing_stays(self, tmp_path: Path, frames: np.ndarray) -> None:
        path = tmp_path / "a.mp4"
        path.write_bytes(b"mine")
        with pytest.raises(OutputExistsError) as caught:
            write_video(path, frames, 8)
        assert "--force" in str(caught.value.hint)
        assert path.read_bytes() == b"mine"
        write_video(path, frames, 8, force=True)
        assert read_clip(path).total_frames == 4

    def test_missing_folder(self, tmp_path: Path, frames: np.ndarray) -> None:
        with pytest.raises(OutputError, match="does not exist") as caught:
            write_video(tmp_path / "no" / "a.mp4", frames, 8)
        assert "mkdir" in str(caught.value.hint)

    def test_parent_is_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "f").touch()
        with pytest.raises(OutputError):
            check_output(tmp_path / "f" / "a.mp4")

    def test_folder_or_device_in_the_place(self, tmp_path: Path, frames: np.ndarray) -> None:
        (tmp_path / "d.mp4").mkdir()
        with pytest.raises(OutputError, match="folder or a device"):
            write_video(tmp_path / "d.mp4", frames, 8, force=True)
        with pytest.raises(OutputError, match="folder or a device"):
            check_output("/dev/null", force=True)

    def test_name_too_long(self, tmp_path: Path, frames: np.ndarray) -> None:
        with pytest.raises(OutputError, match="long"):
            write_video(tmp_path / ("x" * 300 + ".mp4"), frames, 8)
        long = tmp_path / ("x" * 251 + ".mp4")  # as long as a name may be
        assert write_video(long, frames, 8) == long

    def test_unwritable_folder(self, frames: np.ndarray) -> None:
        with open_folder() as folder:
            folder.chmod(0o555)
            with unprivileged(), pytest.raises(OutputError, match="writable") as caught:
                write_video(folder / "a.mp4", frames, 8)
            assert caught.value.hint
            assert not list(folder.iterdir())

    @pytest.mark.parametrize(
        "frames_",
        [
            np.zeros((4, 8, 8, 3), np.float32),
            np.zeros((8, 8, 3), np.uint8),
            np.zeros((4, 8, 8, 4), np.uint8),
            np.zeros((0, 8, 8, 3), np.uint8),
        ],
    )
    def test_shape_and_type(self, tmp_path: Path, frames_: np.ndarray) -> None:
        with pytest.raises(UsageError, match="uint8"):
            write_video(tmp_path / "a.mp4", frames_, 8)

    @pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf")])
    def test_rate(self, tmp_path: Path, frames: np.ndarray, fps: float) -> None:
        with pytest.raises(UsageError, match=r"at least 0\.01"):
            write_video(tmp_path / "a.mp4", frames, fps)


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """The system refuses to let a file grow past `size`: a real write error after some bytes."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("existing", [False, True])
def test_failing_write_leaves_nothing(tmp_path: Path, existing: bool) -> None:
    path = tmp_path / "a.gif"
    if existing:
        path.write_bytes(b"mine")
    frames = np.random.default_rng(0).integers(0, 255, (4, 64, 64, 3), np.uint8)
    with file_size_limit(1000), pytest.raises(OutputError, match="Expected to write") as caught:
        write_video(path, frames, 8, force=True)
    assert caught.value.hint
    assert [p.name for p in tmp_path.iterdir()] == (["a.gif"] if existing else [])
    if existing:
        assert path.read_bytes() == b"mine"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # /dev/full answers every write with ENOSPC, exactly as a full disk does.
    really_open = os.open
    monkeypatch.setattr(
        "pe_toolkit.video.output.os.open",
        lambda name, flags, mode=0o777: really_open(
            "/dev/full" if str(name).endswith(".tmp") else name, os.O_WRONLY, mode
        ),
    )
    with pytest.raises(OutputError, match="No space left") as caught:
        write_atomic(tmp_path / "a.bin", b"x" * 100)
    assert "disk is full" in str(caught.value.hint)
    assert not list(tmp_path.iterdir())
