"""Frames of many containers and codecs in the right order, and the same after a seek.

    python -m benchmarks.containers [--frames 48] [--keep FOLDER] [--only WORD]

Needs the `ffmpeg` program, which the toolkit itself does not. Every clip shows the number of each
frame as eight bright or dark bars; a clip is read whole, and from its middle. Columns: frames that
FFmpeg decodes, frames read, backward steps in their numbers, whether a number is missing (encoders
and edits leave some out: no fault, if FFmpeg's count is ours), the rate read (24 was written, 23.5
in `vfr`), and whether the frames from the middle on are byte for byte those of the whole read.

`pts=dts` after a name: the presentation times were replaced by the decoding times, as in containers
that keep only those.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pe_toolkit.errors import PeError
from pe_toolkit.video import read_clip

FPS = 24
WIDTH, HEIGHT = 192, 128  # a multiple of 16, and of 8 bars
_X264 = "-c:v libx264 -x264-params keyint=12:scenecut=0:b-adapt=0"
_X265 = "-c:v libx265 -x265-params log-level=none:keyint=12:scenecut=0:b-adapt=0"
_STRIP = "-c copy -bsf:v setts=ts=DTS-STARTDTS"

# Name of the file, and how ffmpeg writes it. `<` takes an earlier clip as the source.
CLIPS: dict[str, str] = {
    **{f"h264-bf{n}.mp4": f"{_X264} -bf {n}" for n in (0, 1, 2, 3, 8, 16)},
    "h264-open-gop.mp4": f"{_X264}:open-gop=1 -bf 3",
    "h264-intra-refresh.mp4": f"{_X264}:intra-refresh=1 -bf 0",
    "h264-pyramid.mkv": f"{_X264}:b-pyramid=normal -bf 8",
    "h264-interlaced.mp4": f"{_X264}:interlaced=1 -bf 2",
    "h264.mov": f"{_X264} -bf 3",
    "h264.mkv": f"{_X264} -bf 3",
    "h264.flv": f"{_X264} -bf 3",
    "h264.nut": f"{_X264} -bf 3",
    "h264.3gp": f"{_X264} -bf 3",
    "h264.ts": f"{_X264} -bf 3",
    "h264-open-gop.ts": f"{_X264}:open-gop=1 -bf 3",
    "h264-intra-refresh.ts": f"{_X264}:intra-refresh=1 -bf 0",
    "h264.mpg": f"{_X264} -bf 3",
    "h264.mxf": f"{_X264} -bf 3",
    "h264.h264": f"{_X264} -bf 3",
    **{f"h264-bf{n}.avi": f"{_X264} -bf {n}" for n in (0, 1, 3, 16)},
    **{f"h264-bf{n}.wmv": f"{_X264} -bf {n} -f asf" for n in (0, 3)},
    "h264-pts=dts.mkv": f"< h264.mkv {_STRIP}",
    "h264-pts=dts.mp4": f"< h264-bf3.mp4 {_STRIP}",
    "h264-pts=dts.ts": f"< h264.ts {_STRIP}",
    "h264-pts=dts-open-gop.mp4": f"< h264-open-gop.mp4 {_STRIP}",
    "h264-pts=dts-bf16.nut": f"< h264-bf16.mp4 {_STRIP}",
    "h264-edit-list.mp4": "-ss 0.2 < h264-bf3.mp4 -c copy",
    **{f"hevc-bf{n}.mp4": f"{_X265} -bf {n}" for n in (0, 3, 16)},
    "hevc-open-gop.mp4": f"{_X265}:open-gop=1 -bf 3",
    "hevc.ts": f"{_X265} -bf 3",
    "hevc.mkv": f"{_X265} -bf 3",
    "hevc.hevc": f"{_X265} -bf 3",
    "hevc-pts=dts.mkv": f"< hevc.mkv {_STRIP}",
    "mpeg4-bf0.avi": "-c:v mpeg4 -q:v 2 -g 12 -bf 0",
    "mpeg4-bf2.avi": "-c:v mpeg4 -q:v 2 -g 12 -bf 2",
    "mpeg4-bf2.mp4": "-c:v mpeg4 -q:v 2 -g 12 -bf 2",
    "mpeg4-bf2.m4v": "-c:v mpeg4 -q:v 2 -g 12 -bf 2 -f m4v",
    "mpeg4-bf2.wmv": "-c:v mpeg4 -q:v 2 -g 12 -bf 2 -f asf",
    "xvid.avi": "-c:v libxvid -q:v 2 -g 12 -bf 2",
    "xvid.mkv": "-c:v libxvid -q:v 2 -g 12 -bf 2",
    "mpeg2.mpg": "-c:v mpeg2video -q:v 2 -g 12 -bf 2",
    "mpeg2.ts": "-c:v mpeg2video -q:v 2 -g 12 -bf 2",
    "mpeg2.mxf": "-c:v mpeg2video -q:v 2 -g 12 -bf 2",
    "mpeg2.mkv": "-c:v mpeg2video -q:v 2 -g 12 -bf 2",
    "mpeg2.avi": "-c:v mpeg2video -q:v 2 -g 12 -bf 2",
    "mpeg2.m2v": "-c:v mpeg2video -q:v 2 -g 12 -bf 2",
    "mpeg2-pts=dts.ts": f"< mpeg2.ts {_STRIP}",
    "mpeg1.mpg": "-c:v mpeg1video -q:v 2 -g 12 -bf 2",
    "wmv2.wmv": "-c:v wmv2 -q:v 2 -g 12",
    "msmpeg4.avi": "-c:v msmpeg4 -q:v 2 -g 12",
    "flv1.flv": "-c:v flv1 -q:v 2 -g 12",
    "vp8.webm": "-c:v libvpx -b:v 2M -g 12 -auto-alt-ref 1 -lag-in-frames 16",
    "vp8.avi": "-c:v libvpx -b:v 2M -g 12 -auto-alt-ref 1 -lag-in-frames 16",
    "vp8.ivf": "-c:v libvpx -b:v 2M -g 12 -auto-alt-ref 1 -lag-in-frames 16",
    "vp9.webm": "-c:v libvpx-vp9 -b:v 2M -g 12 -auto-alt-ref 1 -lag-in-frames 16",
    "vp9.mp4": "-c:v libvpx-vp9 -b:v 2M -g 12 -auto-alt-ref 1 -lag-in-frames 16",
    "av1.mkv": "-c:v libaom-av1 -cpu-used 8 -b:v 2M -g 12 -lag-in-frames 16",
    "av1.mp4": "-c:v libsvtav1 -preset 10 -g 12",
    "theora.ogv": "-c:v libtheora -q:v 8 -g 12",
    "mjpeg.avi": "-c:v mjpeg -q:v 2",
    "prores.mov": "-c:v prores_ks",
    "dnxhr.mxf": "-c:v dnxhd -profile:v dnxhr_sq -pix_fmt yuv422p -s 256x128",
    "dnxhr.mov": "-c:v dnxhd -profile:v dnxhr_sq -pix_fmt yuv422p -s 256x128",
    "ffv1.mkv": "-c:v ffv1 -g 12 -context 1",
    "huffyuv.avi": "-c:v huffyuv",
    "raw.y4m": "",
    "qtrle.mov": "-c:v qtrle -g 12",
    "animated.gif": "-r 25",
    "animated.apng": "-c:v apng",
    "vfr-h264.mkv": f"-vf settb=1/1000,setpts=PTS+12*mod(N\\,3) {_X264} -bf 3 -vsync vfr",
    "vfr-h264-pts=dts.mkv": f"< vfr-h264.mkv {_STRIP}",
}


def numbered(count: int) -> NDArray[np.uint8]:
    """`(F, H, W)` uint8 grey: bar `k` is bright where bit `k` of the frame's number is set, over a
    texture that moves, so that encoders have a reason for their B-frames.
    """
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 60, (HEIGHT, WIDTH + count), np.uint8)
    clip = np.stack([texture[:, i : i + WIDTH] for i in range(count)])
    bar = WIDTH // 8
    for i in range(count):
        for k in range(8):
            if i >> k & 1:
                clip[i, HEIGHT // 4 : -HEIGHT // 4, k * bar : (k + 1) * bar] = 230
    return clip


def number_of(frame: NDArray[np.uint8]) -> int:
    """The number that a frame `(H, W, 3)` shows."""
    height, width = frame.shape[:2]
    middle = frame[height * 3 // 8 : height * 5 // 8].mean(axis=(0, 2))
    bars = [middle[(2 * k + 1) * width // 16 - 2 : (2 * k + 1) * width // 16 + 3] for k in range(8)]
    return sum(1 << k for k, bar in enumerate(bars) if bar.mean() > 130)


def write(folder: Path, name: str, arguments: str, source: Path) -> str:
    """Write one clip; what ffmpeg says if it cannot."""
    words = arguments.split()
    before: list[str] = []
    if "<" in words:
        place = words.index("<")
        before, source = words[:place], folder / words[place + 1]
        words = words[place + 2 :]
    command = ["ffmpeg", "-v", "error", "-y", *before, "-i", str(source), *words]
    if "pix_fmt" not in arguments and "copy" not in words and "gif" not in name:
        command += ["-pix_fmt", "yuv422p10le" if "prores" in name else "yuv420p"]
    if "qtrle" in name or "apng" in name:
        command[-1] = "rgb24"
    if "huffyuv" in name:
        command[-1] = "yuv422p"
    done = subprocess.run(
        [*command, "-threads", "1", str(folder / name)], capture_output=True, text=True, check=False
    )
    return "" if done.returncode == 0 else done.stderr.strip().splitlines()[-1][:80]


def decodes(path: Path) -> int:
    """Frames that ffmpeg itself decodes."""
    done = subprocess.run(
        ["ffprobe", "-v", "quiet", "-count_frames", "-select_streams", "v:0", "-show_entries",
         "stream=nb_read_frames", "-of", "default=nw=1:nk=1", str(path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return int(done.stdout.split()[0]) if done.stdout.strip() else -1


def row(path: Path) -> tuple[str, bool]:
    """One line of the table, and whether everything in it is right."""
    try:
        clip = read_clip(path)
    except PeError as error:
        return f"{error}", False
    numbers = np.array([number_of(frame) for frame in clip.frames])
    steps = np.diff(numbers)
    there = decodes(path)
    start = clip.duration / 2
    part = read_clip(path, start=start, frames=8, fps="native")
    first = int(np.argmax([np.array_equal(f, part.frames[0]) for f in clip.frames]))
    same = np.array_equal(part.frames, clip.frames[first : first + 8])
    backward, gaps = int((steps < 0).sum()), bool((steps != 1).any())
    right = not backward and same and len(numbers) == there
    text = f"{there:4} {len(numbers):4} {backward:4} {'gap' if gaps else 'all':4} {clip.fps:7.2f}"
    return f"{text} {'same' if same else 'DIFFERS'}", right


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--frames", type=int, default=48)
    parser.add_argument("--keep", type=Path, help="folder for the clips, instead of a temporary")
    parser.add_argument("--only", default="", help="clips whose name contains this")
    args = parser.parse_args()
    if shutil.which("ffmpeg") is None:
        sys.exit(
            "Expected the program ffmpeg: install it (apt install ffmpeg, brew install ffmpeg)."
        )
    logging.disable()
    wrong = written = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        source = folder / "source.y4m"
        subprocess.run(
            ["ffmpeg", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "gray", "-s",
             f"{WIDTH}x{HEIGHT}", "-r", str(FPS), "-i", "-", "-pix_fmt", "yuv420p", str(source)],
            input=numbered(args.frames).tobytes(), check=True,
        )  # fmt: skip
        print(f"{'clip':28} ffmpeg read back order     fps middle")
        for name, arguments in CLIPS.items():
            failed = write(folder, name, arguments, source)
            if args.only not in name:
                continue
            if failed:
                print(f"{name:28} not written: {failed}")
                continue
            text, right = row(folder / name)
            written, wrong = written + 1, wrong + (not right)
            print(f"{name:28} {text}{'' if right else '   WRONG'}", flush=True)
    print(f"{written} clips, {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
