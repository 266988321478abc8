"""`pe flow`: what was read of a clip, drawn on it, with words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from pe_toolkit.cli.main import cli
from pe_toolkit.errors import UsageError
from pe_toolkit.video import read_clip, write_video
from pe_toolkit.visual import flow_frames
from pe_toolkit.visual.apart import SUBJECTS
from pe_toolkit.visual.arrows import colour_of
from pe_toolkit.world.motions import scenes_of
from pe_toolkit.world.scenes import render, trajectory

RIGHT = (1, 0)


def _flow(frames: int = 3, side: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """One patch moves to the right by one patch a frame; nothing else does."""
    flow = np.zeros((frames, frames, side, side, 2), np.int8)
    kept = np.zeros(flow.shape[:-1], bool)
    for i in range(frames - 1):
        flow[i, i + 1, 1, i] = RIGHT
        kept[i, i + 1, 1, i] = True
    return flow, kept


def _near(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return np.abs(picture.astype(int) - colour).sum(-1) < 40


def test_arrows_dots_and_hatches_lie_on_their_patches() -> None:
    flow, kept = _flow()
    matched = np.ones_like(kept)
    matched[..., 3, 3] = False
    grey = np.full((9, 64, 64, 3), 128, np.uint8)
    drawn = flow_frames(grey, flow, kept, matched, legend=False)
    assert drawn.shape == (9, 384, 384, 3)
    red = _near(drawn[0], colour_of(np.array(RIGHT)))
    rows, columns = np.nonzero(red)
    patch = 96
    assert red.sum() > 100
    assert 1 * patch < rows.min() < rows.max() < 2 * patch  # in the second row of patches
    assert columns.min() < patch < columns.max()  # from the first patch into the second
    corner, plain = drawn[0][3 * patch :, 3 * patch :], drawn[0][2 * patch : 3 * patch, :patch]
    assert corner.mean() < 110 < plain.mean()  # shaded
    assert (plain > 160).any()  # a dot
    assert not _near(drawn[8], colour_of(np.array(RIGHT))).any()  # the last has no next


def test_the_legend_and_the_words_stand_below() -> None:
    flow, kept = _flow()
    clip = np.zeros((9, 64, 64, 3), np.uint8)
    plain = flow_frames(clip, flow, kept, kept, legend=False)
    told = flow_frames(clip, flow, kept, kept, words=["one", "two"])
    assert told.shape[1] - plain.shape[1] == 5 * 22 + 8  # no path, and no mark of one
    long = flow_frames(clip, flow, kept, kept, words=["one " * 30])
    assert long.shape[1] - plain.shape[1] == (3 + 3) * 22 + 8  # on three lines
    np.testing.assert_array_equal(told[:, :384], plain)
    path = np.array([[0, 0], [1, 0], [2, 0]], np.float32)
    trailed = flow_frames(clip, flow, kept, kept, path=path, legend=False)
    white = [_near(frame, (255, 255, 255)) for frame in trailed]
    assert white[0][192, 100:280].mean() > 0.8  # a line across the middle
    dots = [np.nonzero(w[187:190].any(0))[0].mean() for w in white]
    assert dots[0] < dots[4] < dots[8]  # the dot is where the clip is


@pytest.mark.parametrize(
    "wrong", ["flow", "kept", "frames"]
)  # fmt: skip
def test_shapes_that_do_not_fit_are_refused(wrong: str) -> None:
    flow, kept = _flow()
    given = {"frames": np.zeros((9, 64, 64, 3), np.uint8), "flow": flow, "kept": kept}
    given[wrong] = given[wrong][..., :1][0]
    with pytest.raises(UsageError, match="Expected frames"):
        flow_frames(given["frames"], given["flow"], given["kept"], kept)


@pytest.mark.parametrize("shape", [(2, 2), (9, 2), (3, 3), (3,)])
def test_a_path_of_another_length_is_refused(shape: tuple[int, ...]) -> None:
    flow, kept = _flow()
    assert len(flow) == 3
    with pytest.raises(UsageError, match=r"Expected a path .3, 2. as the flow"):
        flow_frames(np.zeros((9, 64, 64, 3), np.uint8), flow, kept, kept, path=np.zeros(shape))


def pe(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


def test_pe_flow_draws_a_clip_and_says_whether_it_will_do(tmp_path: Path) -> None:
    (scene,) = scenes_of("translation", 1)
    write_video(tmp_path / "ref.mp4", render(scene), 16)
    made = pe("flow", tmp_path / "ref.mp4", "-o", tmp_path / "flow.mp4", "--json")
    assert made.exit_code == 0, made.stderr
    found = json.loads(made.stdout.splitlines()[-1])
    assert found["words"][0].endswith("of the picture moves and can be followed")
    assert "moves on its own" in found["words"][1]
    path, truth = np.array(found["path"]), trajectory(scene)[0][::4] * 8  # in patches
    assert np.abs(path - (truth - truth[0])).max() < 1.5
    drawn = read_clip(tmp_path / "flow.mp4")
    assert found["parts"]["subject"] > 0.5  # the one thing that moves
    assert sum(found["parts"].values()) + found["neither"] == pytest.approx(1, abs=1e-3)
    # What is followed, camera and subject apart beside it; five lines of what that is (four marks
    # on the other side), and two of words.
    assert drawn.size == (2 * 384, 384 + 5 * 22 + 8 + 2 * 22 + 8)
    assert len(drawn.frames) == 33
    again = pe("flow", tmp_path / "ref.mp4", "-o", tmp_path / "flow.mp4")
    assert again.exit_code == 2  # it is there


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["-o", "flow.txt"], "end in .mp4, .gif, .png"),
        (["--set", "nothing=1"], "KEY out of"),
        (["--set", "lrr=1"], "Did you mean lr?"),
    ],
)
def test_pe_flow_refuses_early(tmp_path: Path, words: list[str], says: str) -> None:
    write_video(tmp_path / "ref.mp4", np.zeros((9, 32, 32, 3), np.uint8), 8)
    refused = pe("flow", tmp_path / "ref.mp4", "--backbone", "bundled", *words)
    assert refused.exit_code == 2
    assert says in refused.stderr


def test_no_path_is_drawn_through_a_zoom(tmp_path: Path) -> None:
    """Of what grows, one path explains nothing: no line of it, and no mark that explains one."""
    (scene,) = scenes_of("zoom", 1)
    write_video(tmp_path / "ref.mp4", render(scene), 16)
    made = pe("flow", tmp_path / "ref.mp4", "-o", tmp_path / "flow.png")
    assert made.exit_code == 0, made.stderr
    with Image.open(tmp_path / "flow.png") as picture:
        below = np.asarray(picture.convert("RGB"))[3 * (192 + 4 + 22) :]
    assert not (below[:, 10:25] == 255).all(-1).any()  # the mark of a path is a white dot


def test_a_still_clip_is_said_to_be_one(tmp_path: Path) -> None:
    write_video(tmp_path / "ref.mp4", np.full((33, 32, 32, 3), 90, np.uint8), 8)
    refused = pe("flow", tmp_path / "ref.mp4", "-o", tmp_path / "flow.mp4")
    assert refused.exit_code == 1
    assert "move" in refused.stderr
    assert not (tmp_path / "flow.mp4").exists()


def test_a_sheet_has_the_clip_what_is_followed_and_the_words(tmp_path: Path) -> None:
    (scene,) = scenes_of("translation", 1)
    write_video(tmp_path / "ref.mp4", render(scene), 16)
    made = pe("flow", tmp_path / "ref.mp4", "-o", tmp_path / "flow.png")
    assert made.exit_code == 0, made.stderr
    with Image.open(tmp_path / "flow.png") as picture:
        legend = np.asarray(picture.convert("RGB"))[3 * (192 + 4 + 22) :]
    assert len(legend) == 4 * 22 + 8 + 2 * 22 + 8  # four marks and two lines of words
    assert (legend[:, 10:25] == 255).all(-1).any()  # a white dot marks the path
    assert (legend[-26:] > 200).any()
    orange = np.abs(legend.astype(int) - SUBJECTS[0]).sum(-1) < 60
    assert orange[:, legend.shape[1] // 2 :].any()  # the legend of the parts
