"""`pe eval` of a pair, trackers against true tracks, files of tracks."""

from __future__ import annotations

import dataclasses
import io
import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from click.testing import CliRunner

from pe_toolkit import MotionCard, evaluation
from pe_toolkit.cli.main import cli
from pe_toolkit.errors import ClipError, DependencyError, UsageError
from pe_toolkit.evaluation import pair, trackers
from pe_toolkit.evaluation.contract import Pair
from pe_toolkit.evaluation.trackers import cotracker
from pe_toolkit.evaluation.trackers.base import grid_points
from pe_toolkit.evaluation.tracks import Tracks, load_tracks, save_tracks, tracks_of
from pe_toolkit.video import read_clip, write_video
from pe_toolkit.world.motions import scenes_of
from pe_toolkit.world.points import true_points
from pe_toolkit.world.scenes import render, sample_scene
from tests.clips import write_clip
from tests.tiny_clip import save_tiny_clip


def scene(family, seed, frames=9):
    return sample_scene(np.random.default_rng(seed), (family,), frames=frames)


SCENES = [scene("line", 1), scene("pan", 3), scene("zoom", 5), scene("eight", 7)]


def pe(*words):
    return CliRunner().invoke(cli, ["eval", *map(str, words)])


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A reference, and the same path drawn with other colours, slower and larger."""
    folder = tmp_path_factory.mktemp("pair")
    path = scene("line", 1)
    write_video(folder / "ref.mp4", render(path), 16)
    write_video(folder / "same.mp4", render(path, 192)[::2], 8)
    write_video(folder / "other.mp4", render(scene("eight", 7)), 16)
    return folder


# Trackers


@pytest.mark.parametrize(("name", "most"), [("lk", 1.0), ("dis", 2.0)])
def test_trackers_follow_rendered_shapes(name, most):
    """Only points that move: at rest, doing nothing would be right."""
    pytest.importorskip("cv2")
    errors, found = [], []
    for one in (scene("line", 1, 25), scene("pan", 3, 25), scene("zoom", 5, 25)):
        starts = grid_points(128, 128, 16)
        points, seen, _ = true_points(one, starts, 128)
        tracks = trackers.tracker(name).track(render(one), starts)
        assert tracks.points.shape == points.shape
        assert tracks.size == (128, 128)
        moves = np.linalg.norm(np.diff(points, axis=1), axis=2).sum(1) > 4
        both = seen & tracks.visible
        errors += list(np.linalg.norm(tracks.points - points, axis=2)[moves, 1:][both[moves, 1:]])
        found.append(tracks.visible[moves][seen[moves]].mean())
    assert np.median(errors) < most
    assert np.mean(found) > 0.5


def test_true_points_are_where_the_pixels_are():
    """A point of a turning square keeps its colour, the background's under a moving camera too."""
    one = scene("pan", 3)
    frames = render(one).astype(float)
    points, seen, owner = true_points(one, grid_points(128, 128, 24), 128)
    assert set(owner) == {-1, 0}
    x, y = np.rint(np.clip(points, 0, 127)).astype(int).transpose(2, 0, 1)
    first = frames[0, y[:, 0], x[:, 0]]
    last = frames[-1, y[:, -1], x[:, -1]]
    both = seen[:, 0] & seen[:, -1]
    assert np.median(np.abs(first - last)[both].max(1)) < 6
    assert np.abs(np.diff(points, axis=1)).max() > 1


def test_a_tracker_loses_what_leaves_and_refuses_what_is_no_clip():
    pytest.importorskip("cv2")
    frames = np.zeros((6, 40, 40, 3), np.uint8)
    for t in range(6):
        frames[t, 10:20, 28 + 3 * t : 40] = 200
    tracks = trackers.tracker("lk").track(frames, np.array([[28.0, 10.0], [5.0, 30.0]]))
    assert not tracks.visible[0].all()
    assert tracks.visible[1].all()
    assert np.array_equal(tracks.points[1], np.broadcast_to([5.0, 30.0], (6, 2)))
    for bad in (frames[:1], frames[..., 0], frames.astype(float)):
        with pytest.raises(UsageError, match="Expected at least 2 frames"):
            trackers.tracker("lk").track(bad, np.zeros((1, 2)))
    with pytest.raises(UsageError, match="points"):
        trackers.tracker("lk").track(frames, np.zeros((0, 2)))


def test_cotracker_says_that_it_cannot_be_had(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))  # and there is no network in tests
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(DependencyError, match="Expected to fetch CoTracker3") as refused:
        trackers.tracker("cotracker3").track(np.zeros((3, 32, 32, 3), np.uint8), np.zeros((1, 2)))
    assert "--tracker lk" in refused.value.hint


STILL = """\
import pathlib, torch
dependencies = ["torch"]
class Resting(torch.nn.Module):
    def forward(self, video, queries):
        assert video.ndim == 5 and video.max() > 1  # (1, F, 3, H, W), grey levels
        points = queries[:, None, :, 1:].expand(-1, video.shape[1], -1, -1)
        return points, torch.ones(points.shape[:-1], dtype=torch.bool)
def cotracker3_offline(**kwargs):
    with (pathlib.Path(__file__).parent / "loaded").open("a") as file:
        file.write("once ")
    return Resting()
"""


def test_cotracker_is_loaded_once(tmp_path, monkeypatch):
    """By the real `torch.hub`, from code that lies where it keeps what it fetched."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    fetched = tmp_path / "hub" / "facebookresearch_co-tracker_main"
    fetched.mkdir(parents=True)
    (fetched / "hubconf.py").write_text(STILL)
    frames, starts = np.full((5, 32, 48, 3), 9, np.uint8), grid_points(48, 32, 3)
    try:
        for _ in range(2):
            tracks = trackers.tracker("cotracker3").track(frames, starts)
    finally:
        cotracker._model.cache_clear()
    assert (fetched / "loaded").read_text() == "once "
    assert tracks.visible.all()
    assert np.allclose(tracks.points, starts[:, None], atol=1e-4)


# Files of tracks


def some_tracks(frames=9, size=(128, 128)):
    points, seen, _ = true_points(SCENES[0], grid_points(128, 128, 5), 128)
    return Tracks(points[:, :frames], seen[:, :frames], size)


def test_tracks_come_back_from_their_file(tmp_path):
    tracks = some_tracks()
    save_tracks(tmp_path / "t.npz", tracks)
    again = load_tracks(tmp_path / "t.npz")
    assert np.allclose(again.points, tracks.points, atol=1e-4)
    assert np.array_equal(again.visible, tracks.visible)
    assert again.size == (128, 128)
    np.savez(tmp_path / "u.npz", points=tracks.points.astype(np.float16), size=[128, 128])
    assert load_tracks(tmp_path / "u.npz").visible.all()


def npz(path, **arrays):
    np.savez(path, **arrays)
    return path


def claims(path, shape):
    """A file whose array says that it is larger than it is."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f8", "fortran_order": False, "shape": shape}
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("points.npy", header.getvalue())
    return path


def damaged(path, at):
    """A compressed file of which a few bytes are others."""
    np.savez_compressed(path, points=np.arange(240.0).reshape(10, 12, 2), size=[8, 8])
    data = bytearray(path.read_bytes())
    data[at : at + 8] = bytes(8)
    path.write_bytes(data)
    return path


def headed(path, header):
    """A file whose array begins with this header."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("points.npy", b"\x93NUMPY\x01\x00" + bytes([len(header), 0]) + header)
    return path


POINTS = np.zeros((3, 4, 2))
BAD = {
    "missing": lambda p: p,
    "text": lambda p: p.write_text("points") and p,
    "no points": lambda p: npz(p, size=[1, 1]),
    "no size": lambda p: npz(p, points=POINTS),
    "pickled": lambda p: npz(p, points=np.array([{}, []], object), size=[8, 8]),
    "words": lambda p: npz(p, points=POINTS.astype(str), size=[8, 8]),
    "a bomb": lambda p: claims(p, (10**6, 10**4, 2)),
    "negative": lambda p: claims(p, (-(10**6), 10**4, 2)),
    "cut off": lambda p: claims(p, (3, 4, 2)),
    "flat": lambda p: npz(p, points=POINTS[0], size=[8, 8]),
    "one frame": lambda p: npz(p, points=POINTS[:, :1], size=[8, 8]),
    "nan": lambda p: npz(p, points=POINTS * np.nan, size=[8, 8]),
    "far away": lambda p: npz(p, points=POINTS + 1e308, size=[8, 8]),
    "far to the left": lambda p: npz(p, points=POINTS - 81, size=[8, 8]),
    "other visible": lambda p: npz(p, points=POINTS, visible=np.ones((4, 3)), size=[8, 8]),
    "half visible": lambda p: npz(p, points=POINTS, visible=np.full((3, 4), 0.5), size=[8, 8]),
    "no pixels": lambda p: npz(p, points=POINTS, size=[0, 8]),
    "damaged": lambda p: damaged(p, 60),
    "a damaged header": lambda p: headed(p, b"{'descr': '<f8', 'shape': (3,\n"),
    "no shape": lambda p: headed(p, b"{'descr': '<f8', 'fortran_order': 0, 'shape': 3}\n"),
    "half a pixel": lambda p: npz(p, points=POINTS, size=[8.5, 8]),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_file_of_tracks_is_refused(kind, tmp_path):
    with pytest.raises(ClipError, match=r"^Expected a file of tracks, but "):
        load_tracks(BAD[kind](tmp_path / "t.npz"))


@pytest.mark.parametrize("far", [1e308, -1e200, np.inf, 1e4])
def test_hidden_points_far_away_disturb_nothing(far, recwarn):
    """They are not defined; seen ones near the picture stay as they are."""
    rng = np.random.default_rng(0)
    points = rng.uniform(-9, 70, (20, 1, 2)) + np.cumsum(rng.normal(0, 1, (20, 8, 2)), 1)
    seen = np.ones((20, 8), bool)
    seen[:5, 2:5] = False
    frames = np.zeros((8, 64, 64, 3), np.uint8)
    found = []
    for hidden in (np.nan, far):
        moved = np.where(seen[..., None], points, hidden)
        tracks = tracks_of(moved, seen, (64, 64))
        assert np.array_equal(tracks.points[seen], points[seen])
        other = tracks_of(points, None, (128, 128))
        two = pair.with_tracks(Pair(frames, frames), tracks, other)
        found.append(pair.score(two, ["mf", "hybrid", "frechet_distance", "dynamic_degree"]))
    assert found[0] == found[1]
    assert not [str(w.message) for w in recwarn]
    with pytest.raises(UsageError, match="10 times its longer side"):
        tracks_of(np.where(seen[..., None], points, 1e4), None, (64, 64))


# Pairs


def test_clips_of_other_lengths_and_sizes_are_brought_in_step(clips):
    a, b, notes = pair.read_pair(clips / "ref.mp4", clips / "same.mp4")
    assert (len(a), len(b)) == (5, 5)
    assert (a.shape[1], b.shape[1]) == (128, 192)
    assert any("resampled over its span to 5 frames" in note for note in notes)
    assert any("Sizes differ" in note for note in notes)
    cut, _, notes = pair.read_pair(clips / "ref.mp4", clips / "same.mp4", align="frames")
    assert np.array_equal(cut, pair.read_pair(clips / "ref.mp4", clips / "ref.mp4")[0][:5])
    assert any("cut to 5 frames" in note for note in notes)
    small, same, notes = pair.read_pair(
        clips / "ref.mp4", clips / "same.mp4", frames=4, size=(64, 64)
    )
    assert small.shape == same.shape == (4, 64, 64, 3)
    assert not any("Sizes differ" in note for note in notes)
    with pytest.raises(UsageError, match="align by span or frames"):
        pair.read_pair(clips / "ref.mp4", clips / "same.mp4", align="ends")


def test_frames_are_those_that_a_training_takes(tmp_path):
    """By their times: the frames that `read_clip` takes of the clip are the clip, at any rate."""
    frames = render(scene("line", 1, 49))
    steps = 3 * np.arange(49, dtype=np.uint8)[:, None, None, None]
    bright = frames // 4 + steps
    uneven = np.cumsum([0.02] * 20 + [0.1] * 29) - 0.02
    for name, times in (("even.mkv", None), ("uneven.mkv", uneven)):
        path = write_clip(tmp_path / name, bright, fps=24, times=times, codec="ffv1")
        taken = read_clip(path, frames=33).frames
        short = write_clip(tmp_path / f"short-{name}", taken, fps=24, codec="ffv1")
        a, b, _ = pair.read_pair(path, short)
        # A frame is three grey levels brighter than the one before; a codec takes one or two.
        assert np.ptp(a.mean((1, 2, 3)) - b.mean((1, 2, 3))) < 1.5, name


def test_many_points_are_followed(tmp_path):
    """OpenCV looks up 32,767 at a time."""
    pytest.importorskip("cv2")
    frames = render(scene("line", 1), 64)[:3]
    found = trackers.tracker("lk").track(frames, grid_points(64, 64, 182))
    few = trackers.tracker("lk").track(frames, grid_points(64, 64, 182)[-5:])
    assert np.array_equal(found.points[-5:], few.points)


def test_tracks_are_brought_to_the_frames_and_pixels_of_the_pair():
    frames = np.zeros((5, 128, 128, 3), np.uint8)
    two = pair.with_tracks(Pair(frames, frames), some_tracks(), some_tracks(size=(256, 256)))
    a, b = two.both
    assert a.frames == b.frames == 5
    assert np.allclose(a.points, some_tracks().points[:, ::2])
    assert np.allclose(b.points, (some_tracks().points[:, ::2] + 0.5) / 2 - 0.5)
    cut = pair.with_tracks(Pair(frames, frames), some_tracks(), some_tracks(), "frames")
    assert np.allclose(cut.both[0].points, some_tracks().points[:, :5])
    with pytest.raises(UsageError, match="at least the 5 frames"):
        pair.with_tracks(Pair(frames, frames), some_tracks(4), some_tracks())


def test_the_truth_of_the_bundled_world_is_in_the_same_table():
    one = SCENES[0]
    frames = render(one)
    two = Pair(frames, frames, prompt=one.caption, truth=one.things[0].path.astype(float))
    names = pair.default_names(two)
    assert "true_cosine" in names
    assert "mf" not in names
    found = {result.name: result.value for result in pair.score(two, names)}
    assert found["true_cosine"] > 0.98
    assert found["true_adherence"] == found["driving_similarity"] == 1
    with pytest.raises(UsageError, match="Expected tracks of both clips for the metric mf"):
        pair.score(two, ["mf"])


@pytest.mark.parametrize("name", ["zoom", "roll", "pan", "held", "two", "across"])
@pytest.mark.parametrize("size", [128, 96])
def test_a_rendered_class_is_scored_by_what_the_class_says(name, size):
    """Of the reference itself all of it is there, whatever the class; of a still clip nothing."""
    one, other = scenes_of(name, 2)
    frames = render(one, size)
    two = Pair(frames, frames, prompt=one.caption, scene=one)
    found = {r.name: r.value for r in pair.score(two, pair.default_names(two))}
    assert found["true_adherence"] == found["true_visibility"] == 1
    if name in ("zoom", "roll", "held"):
        assert found["true_cosine"] is None  # the thing has no path of its own
    else:
        assert found["true_cosine"] > 0.95
    if name in ("two", "across"):
        assert found["true_share"] is None
    else:
        assert found["true_share"] == pytest.approx(1, abs=0.15)
    assert (found["true_worse"] is None) == (name != "two")
    if name == "two":
        assert 0.9 < found["true_worse"] <= found["true_cosine"]
        # Which of the two has which way is not said.
        swapped = dataclasses.replace(one, things=one.things[::-1])
        same = Pair(frames, frames, prompt=one.caption, scene=swapped)
        (again,) = pair.score(same, ["true_cosine"])
        assert again.value == pytest.approx(found["true_cosine"])
    else:
        still = Pair(frames, frames[:1].repeat(len(frames), 0), prompt=one.caption, scene=other)
        values = {r.name: r.value for r in pair.score(still, ["true_cosine", "true_share"])}
        assert all(v is None or abs(v) < 0.2 for v in values.values())


def test_a_prompt_of_another_number_of_things_than_the_reference_has_no_number():
    two, one = scenes_of("two", 1)[0], scenes_of("across", 1)[0]
    for shown, prompt in ((two, one.caption), (one, two.caption)):
        frames = render(shown)
        (found,) = pair.score(Pair(frames, frames, prompt=prompt, scene=shown), ["true_cosine"])
        assert found.value is None
        assert "as many things as the reference shows" in found.why


def test_every_metric_of_the_table_is_there_and_says_its_range():
    for name in evaluation.METRICS:
        one = evaluation.metric(name)
        assert one.low < one.high
        assert one.title
    with pytest.raises(UsageError, match="Expected a metric out of mf, "):
        evaluation.metric("nix")
    with pytest.raises(UsageError, match="Expected a tracker out of lk, "):
        trackers.tracker("nix")


def test_other_packages_add_metrics_and_trackers(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "jerky.py").write_text(
        "import numpy as np\n"
        "from pe_toolkit.evaluation.contract import Metric\n"
        "from pe_toolkit.evaluation.tracks import tracks_of\n"
        "JERK = Metric('frames', lambda pair: float(len(pair.video)), 0, 99)\n"
        "BAD = 3\n"
        "class Resting:\n"
        "    def track(self, frames, starts):\n"
        "        points = np.repeat(starts[:, None], len(frames), 1)\n"
        "        return tracks_of(points, None, frames.shape[2:0:-1])\n"
        "class Raising:\n"
        "    def track(self, frames, starts):\n"
        "        return 1 / 0\n"
        "class Short:\n"
        "    def track(self, frames, starts):\n"
        "        return Resting().track(frames[1:], starts)\n"
        "class Lost:\n"
        "    def __init__(self, model):\n"
        "        pass\n"
        "    track = None.__eq__\n"
        "def boom(pair):\n"
        "    raise IndexError('nothing there')\n"
        "BOOM = Metric('boom', boom, 0, 1)\n"
        "NONE = Metric('none', lambda pair: None, 0, 1)\n"
        "LARGE = Metric('large', lambda pair: np.float64('inf'), 0, 1)\n"
    )
    about = tmp_path / "jerky-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: jerky\nVersion: 1\n")
    (about / "entry_points.txt").write_text(
        "[pe_toolkit.metrics]\njerk = jerky:JERK\nbad = jerky:BAD\nboom = jerky:BOOM\n"
        "none = jerky:NONE\nlarge = jerky:LARGE\n"
        "[pe_toolkit.trackers]\nresting = jerky:Resting\nraising = jerky:Raising\n"
        "short = jerky:Short\nlost = jerky:Lost\n"
    )
    frames = np.zeros((4, 32, 32, 3), np.uint8)
    two = Pair(frames, frames)
    two = pair.with_tracks(two, *pair.tracks_of_both(two, trackers.tracker("resting"), 3))
    found = pair.score(two, ["jerk", "mf"])
    assert [result.value for result in found] == [4, 1]
    with pytest.raises(DependencyError, match="package jerky 1"):
        evaluation.metric("bad")
    for name, why in (("boom", "IndexError: nothing there"), ("none", "TypeError")):
        with pytest.raises(DependencyError, match=f"'{name}' from the package jerky 1.*{why}"):
            pair.score(two, [name])
    assert pair.score(two, ["large"]) == [pair.Result("large", None, "it is inf")]
    for name, why in (("raising", "ZeroDivisionError"), ("short", "got"), ("lost", "TypeError")):
        with pytest.raises(DependencyError, match=f"'{name}' from the package jerky 1.*{why}"):
            trackers.tracker(name).track(frames, grid_points(32, 32, 3))
    monkeypatch.delitem(sys.modules, "jerky")


# The command


def test_pe_eval_measures_a_pair(clips):
    pytest.importorskip("cv2")
    words = ("--ref", clips / "ref.mp4", "--grid", 12, "--json")
    seen = {}
    for name in ("same", "other"):
        result = pe(*words, "--video", clips / f"{name}.mp4", "--unrelated", clips / "other.mp4")
        assert result.exit_code == 0, result.output
        lines = [json.loads(line) for line in result.stdout.splitlines()]
        seen[name] = lines[-1]["scores"]
        assert lines[-1]["tracks"] == "lk"
    assert seen["same"]["mf"] > 0.9 > seen["other"]["mf"]
    assert seen["same"]["mf_speed"] > 0.8 > seen["other"]["mf_speed"]
    assert seen["same"]["driving_similarity"] > seen["other"]["driving_similarity"]
    assert seen["same"]["leak"] > 0.1
    assert seen["other"]["leak"] is None  # the "unrelated" clip is the video itself
    assert seen["same"]["mf_official"] is None
    text = pe("--ref", clips / "ref.mp4", "--video", clips / "other.mp4", "--grid", 6)
    assert text.exit_code == 0
    assert "0.58 of those without" in " ".join(text.stderr.split())
    alone = pe("--ref", clips / "ref.mp4", "--video", clips / "other.mp4", "--metrics", "hybrid")
    assert "of those without" not in " ".join(alone.stderr.split())
    assert "a point rests for a step" in text.stdout
    assert "higher is better" in text.stdout
    assert "9 frames of 128x128" in text.stderr


def test_a_pair_in_which_nothing_moves_is_said(clips, tmp_path):
    pytest.importorskip("cv2")
    write_video(tmp_path / "still.mp4", np.full((9, 128, 128, 3), 90, np.uint8), 16)
    pairs = {
        ("still", "still"): ["the reference, still.mp4", "the video, still.mp4"],
        ("ref", "still"): ["the video, still.mp4"],
        ("still", "ref"): ["the reference, still.mp4"],
        ("ref", "other"): [],
    }
    for (a, b), wanted in pairs.items():
        paths = [(tmp_path if name == "still" else clips) / f"{name}.mp4" for name in (a, b)]
        words = ("--ref", paths[0], "--video", paths[1], "--metrics", "mf")
        lines = [json.loads(line) for line in pe(*words, "--json").stdout.splitlines()]
        said = [note for note in lines[-1]["notes"] if "moves" in note]
        assert len(said) == len(wanted)
        assert all(what in note for what, note in zip(wanted, said, strict=True))
        told = " ".join(pe(*words).stderr.split())
        assert told.count("Nothing that can be seen moves in") == len(wanted)
        assert all(f"Nothing that can be seen moves in {what}" in told for what in wanted)


def test_pe_eval_takes_tracks_of_another_tracker(clips, tmp_path):
    save_tracks(tmp_path / "a.npz", some_tracks())
    result = pe(
        "--ref", clips / "ref.mp4", "--video", clips / "ref.mp4", "--tracks-ref",
        tmp_path / "a.npz", "--tracks-video", tmp_path / "a.npz", "--metrics", "mf,endpoint_error",
        "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    last = json.loads(result.stdout.splitlines()[-1])
    assert last["scores"] == {"mf": pytest.approx(1), "endpoint_error": 0}
    assert last["tracks"] == "files"


def test_pe_eval_imports_no_torch(clips):
    pytest.importorskip("cv2")
    code = (
        "import sys; from pe_toolkit.cli.main import cli\n"
        "try: cli(sys.argv[1:])\n"
        "except SystemExit as done: assert not done.code\n"
        "assert 'torch' not in sys.modules and 'scipy' not in sys.modules"
    )
    words = ["eval", "--ref", clips / "ref.mp4", "--video", clips / "other.mp4", "--grid", "4"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def carded(tmp_path_factory):
    """A clip that rests at first, a real card of its later part, and the frames of that part."""
    folder = tmp_path_factory.mktemp("carded")
    moving = render(scene("line", 1, 33))
    whole = np.concatenate([np.repeat(moving[:1], 24, 0), moving, moving[::-1]])
    write_clip(folder / "ref.mp4", np.pad(whole, ((0, 0), (0, 0), (0, 64), (0, 0))), fps=24)
    done = CliRunner().invoke(cli, [
        "train", str(folder / "ref.mp4"), "-o", str(folder / "card.safetensors"), "--backbone",
        "bundled", "--start", "1", "--fps", "20", "--fit", "pad",
    ])  # fmt: skip
    assert done.exit_code == 0, done.output
    spec = MotionCard.load(folder / "card.safetensors").spec
    size = (spec.clip.width, spec.clip.height)
    part = read_clip(
        folder / "ref.mp4", start=1, fps=20, frames=spec.clip.frames, size=size, fit="pad"
    )
    write_clip(folder / "video.mkv", part.frames, fps=8, codec="ffv1", pix_fmt="bgr0")
    write_clip(folder / "short.mkv", part.frames[::2], fps=8, codec="ffv1", pix_fmt="bgr0")
    write_clip(folder / "other.mp4", moving, fps=24)
    return folder, part


def test_a_pair_is_compared_by_the_part_of_the_card(carded):
    pytest.importorskip("cv2")
    folder, part = carded
    words = ("--ref", folder / "ref.mp4", "--video", folder / "video.mkv", "--grid", 12, "--json")
    card = ("--card", folder / "card.safetensors")
    seen = {}
    for name, more in (("whole", ()), ("part", card)):
        done = pe(*words, *more)
        assert done.exit_code == 0, done.output
        seen[name] = json.loads(done.stdout.splitlines()[-1])
        assert "Warning" not in done.stderr
    assert seen["part"]["scores"]["driving_similarity"] == 1
    assert seen["part"]["scores"]["endpoint_error"] == 0
    assert seen["whole"]["scores"]["endpoint_error"] > 1
    assert seen["part"]["card"].endswith("card.safetensors")
    assert seen["part"]["frames"] == len(part.frames)
    short = pe(*words[:3], folder / "short.mkv", *words[4:], *card)
    last = json.loads(short.stdout.splitlines()[-1])
    assert last["frames"] == len(part.frames[::2])
    assert last["scores"]["endpoint_error"] == 0
    other = pe("--ref", folder / "other.mp4", *words[2:], *card)
    assert other.exit_code == 0, other.output
    assert "the clip of --ref" in other.stderr
    assert "is not the one that the card was made from" in " ".join(other.stderr.split())


def test_the_card_of_a_video_is_named_where_it_was_not_given(carded, tmp_path):
    folder, _ = carded
    video, card = tmp_path / "new.mkv", tmp_path / "ref.safetensors"
    video.write_bytes((folder / "video.mkv").read_bytes())
    words = ("--ref", folder / "ref.mp4", "--video", video, "--metrics", "driving_similarity")
    spec = MotionCard.load(folder / "card.safetensors").spec
    own = {"name": spec.name, "version": spec.version, "digest": spec.digest}
    sidecar = tmp_path / "new.json"
    sidecar.write_text(json.dumps({"video": "new.mkv", "card": own}))

    def told(*more):
        done = pe(*words, *more)
        assert done.exit_code == 0, done.output
        return " ".join(done.stderr.split())

    says = "new.mkv was made with the card ref 1.0.0: --card {} compares it with the part of --ref"
    assert says.format("CARD") in told()
    card.write_bytes(b"no card")
    assert says.format("CARD") in told()
    card.write_bytes((folder / "card.safetensors").read_bytes())
    assert says.format(str(card)) in told()
    for more in (("--card", card), ("--frames", 9), ("--size", "64x64")):
        assert "was made with the card" not in told(*more)
    for facts in ({"card": None}, {"card": own | {"name": 3}}, {"video": "b.mkv", "card": own}, []):
        sidecar.write_text(json.dumps(facts))
        assert "was made with the card" not in told()
    sidecar.write_bytes(b"\xff{")
    assert "was made with the card" not in told()


@pytest.mark.parametrize("more", [("--frames", 5), ("--size", "32x32"), ("--tracks-ref", "a")])
def test_a_card_says_how_the_reference_is_read(carded, more):
    folder, _ = carded
    words = ("--ref", folder / "ref.mp4", "--video", folder / "video.mkv")
    if more[0] == "--tracks-ref":
        more = (*more, "--tracks-video", "b")
    done = pe(*words, "--card", folder / "card.safetensors", *more)
    assert done.exit_code == 2
    said = f"Expected --card, which says how the reference is read, or {more[0]}"
    assert said in " ".join(done.stderr.split())
    suite = pe("--suite", "bundled", "-o", "x", "--card", folder / "card.safetensors")
    assert suite.exit_code == 2
    assert "got --card as well" in suite.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--ref", "ref.mp4"), "Expected --ref and --video"),
        (("--ref", "ref.mp4", "--video", "x", "--suite", "bundled"), "got --suite as well"),
        (("--suite", "bundled", "-o", "x", "--frames", "3"), "got --frames as well"),
        (("--ref", "ref.mp4", "--video", "other.mp4", "--tracks-ref", "a"), "of both clips"),
        (
            ("--ref", "a", "--video", "b", "--tracks-ref", "a", "--tracks-video", "b", "--grid", 3),
            "got both",
        ),
        (("--ref", "ref.mp4", "--video", "other.mp4", "--metrics", "nix"), "a metric out of mf"),
        (("--ref", "ref.mp4", "--video", "other.mp4", "--metrics", ","), "names of metrics"),
        (("--ref", "ref.mp4", "--video", "other.mp4", "--metrics", "leak"), "nothing to do with"),
        (
            ("--ref", "ref.mp4", "--video", "other.mp4", "--metrics", "text_similarity"),
            "Expected the prompt",
        ),
        (("--ref", "ref.mp4", "--video", "other.mp4", "--tracker", "nix"), "a tracker out of lk"),
        (("--ref", "ref.mp4", "--video", "other.mp4", "--metrics", "true_cosine"), "true path"),
    ],
)
def test_what_makes_no_sense_is_said(words, message, clips, monkeypatch):
    monkeypatch.chdir(clips)
    result = pe(*words)
    assert result.exit_code == 2, result.output
    assert message in result.stderr


def test_without_opencv_the_rest_is_measured(clips, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    result = pe("--ref", clips / "ref.mp4", "--video", clips / "other.mp4", "--json")
    assert result.exit_code == 0, result.output
    last = json.loads(result.stdout.splitlines()[-1])
    assert set(last["scores"]) == {"driving_similarity"}
    assert "pip install 'pe-toolkit[eval]'" in result.stderr
    asked = pe("--ref", clips / "ref.mp4", "--video", clips / "other.mp4", "--metrics", "mf")
    assert asked.exit_code == 1
    assert "Expected OpenCV" in asked.stderr


# CLIP


@pytest.fixture(scope="module")
def tiny_clip(tmp_path_factory):
    """A real CLIP of tiny size, in a folder as the Hub has it."""
    return save_tiny_clip(tmp_path_factory.mktemp("clip"))


def test_clip_compares_pictures_and_words(tiny_clip):
    from pe_toolkit.evaluation import clip

    name = str(tiny_clip)
    frames = render(SCENES[0])
    text = clip.text_similarity(frames, "a red circle", name)
    assert -1 <= text <= 1
    assert text != clip.text_similarity(frames, "a blue square " * 60, name)
    assert clip.driving_similarity_clip(frames, frames, name) == pytest.approx(1)
    other = clip.driving_similarity_clip(frames, render(SCENES[3])[:, :, ::2], name)
    assert -1 <= other < 0.9999


def test_clip_that_cannot_be_had_is_said(clips):
    result = pe(
        "--ref", clips / "ref.mp4", "--video", clips / "other.mp4", "--metrics",
        "driving_similarity_dino",
    )  # fmt: skip
    assert result.exit_code == 1
    assert "Expected the weights of facebook/dino-vitb16" in result.stderr
    assert "Hint: They are fetched from the Hub on first use" in result.stderr


def test_tracks_that_are_not_of_the_clips_are_refused():
    """CoTracker has frames first; transposed, they would be resampled into plausible nonsense."""
    frames = np.zeros((8, 32, 32, 3), np.uint8)
    two = Pair(frames, frames)

    def tracks(points, count):
        return tracks_of(np.zeros((points, count, 2)), np.ones((points, count), bool), (32, 32))

    fit, longer = tracks(30, 8), tracks(30, 16)
    assert pair.with_tracks(two, fit, longer, totals=(8, 16)).video_tracks is not None
    assert pair.with_tracks(two, fit, tracks(30, 15), totals=(8, 16)).video_tracks is not None
    for reference, video, which in ((tracks(8, 30), fit, "reference"), (fit, longer, "video")):
        with pytest.raises(UsageError, match=f"frames of the {which}.*points") as caught:
            pair.with_tracks(two, reference, video, totals=(8, 8))
        assert "transposed" in str(caught.value.hint)
    assert pair.with_tracks(two, fit, longer).video_tracks is not None  # as many as they like
