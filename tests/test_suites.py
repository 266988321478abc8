"""Suites as files and folders, the jobs that they become, and the tables that come out."""

from __future__ import annotations

import csv
import html
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pe_toolkit.cli import suite_table
from pe_toolkit.cli.output import Output
from pe_toolkit.errors import (
    CardError,
    ClipError,
    DependencyError,
    OutputExistsError,
    SuiteError,
    UsageError,
)
from pe_toolkit.evaluation import metric
from pe_toolkit.evaluation.report.media import Media
from pe_toolkit.evaluation.trackers.lucas_kanade import LucasKanade
from pe_toolkit.evaluation.tracks import Tracks
from pe_toolkit.jobs.folder import JobFolder
from pe_toolkit.jobs.job import Place
from pe_toolkit.suites import bundled, formats
from pe_toolkit.suites.manifest import read_manifest
from pe_toolkit.suites.methods import METHODS, choose
from pe_toolkit.suites.named import load_suite
from pe_toolkit.suites.plan import SAMPLES, Plan, Settings, check, plan
from pe_toolkit.suites.reading import read_source
from pe_toolkit.suites.results import check_clips, check_folder
from pe_toolkit.suites.scoring import score
from pe_toolkit.suites.suite import Prompt, Suite, SuiteClip
from pe_toolkit.suites.tables import Table, build_table, interval
from pe_toolkit.video import Clip, read_clip, write_video
from pe_toolkit.world.scenes import render
from pe_toolkit.world.vocabulary import TRAINING_PROMPTS
from tests.clips import write_clip

GARDEN = """\
pe_suite: 1
name: garden
seeds: [1, 2]
clips:
  - name: dog
    path: dog.mp4
    frames: [0, 12, 2]
    prompts:
      Scene: [a plane in the sky, a bear in the snow]
      Caption: a dog runs in a garden
  - {name: cat, path: cats/cat.mp4, start: 0.5, prompts: {Mine: a cat}, seeds: [7]}
"""
PROMPTS_JS = """\
const prompts = {
    'blackswan': {
      'easy': 'A black swan', 'medium': 'A duck\\'s hat'
, 'hard': 'A boat',
      'frame_range': '[2, 14, 3]'
    },
    'bus': {
      'easy': 'A bus',
      'medium': 'A car',
      'hard': 'An ant',
    }
  };
"""


def manifest(folder: Path, text: str = GARDEN, name: str = "suite.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def counting(folder: Path, count: int = 20) -> Path:
    """A folder of pictures whose brightness is their number times ten."""
    folder.mkdir(parents=True)
    for number in range(count):
        pixels = np.full((24, 32, 3), 10 * number, np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:05d}.jpg")
    return folder


def test_a_manifest(tmp_path: Path) -> None:
    suite = read_manifest(manifest(tmp_path))
    assert suite.name == "garden"
    assert suite.kinds == ("Caption", "Scene", "Mine")
    dog, cat = suite.clips
    assert dog.source == {"path": str(tmp_path / "dog.mp4"), "frames": [0, 12, 2]}
    assert dog.prompts[0] == Prompt("Scene", "a plane in the sky")
    assert dog.seeds == (1, 2)
    assert cat.source == {"path": str(tmp_path / "cats" / "cat.mp4"), "start": 0.5}
    assert cat.seeds == (7,)
    assert suite.part(1, seeds=4).clips == (
        type(dog)(dog.name, dog.source, dog.prompts, (1, 2, 3, 4)),
    )
    with pytest.raises(UsageError, match="up to 2 references"):
        suite.part(3)


def test_a_clip_is_not_unrelated_to_itself(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).touch()
    (tmp_path / "link.mp4").symlink_to(tmp_path / "a.mp4")
    sources: list[dict[str, object]] = [
        {"path": str(tmp_path / "a.mp4"), "frames": [0, 12, 2]},
        {"path": str(tmp_path / "x" / ".." / "a.mp4"), "start": 2.0},
        {"path": str(tmp_path / "link.mp4")},
        {"path": str(tmp_path / "b.mp4")},
    ]
    clips = tuple(
        SuiteClip(str(n), source, (Prompt("Mine", "a cat"),), (1,))
        for n, source in enumerate(sources)
    )
    found = [clip.unrelated for clip in Suite("s", clips).with_unrelated().clips]
    assert found == [(sources[3],)] * 3 + [(sources[0], sources[1])]
    alone = plan(Suite("s", clips[:3]).with_unrelated(), choose("none"), Settings())
    assert not any("unrelated" in video.job.args for video in alone.videos)


def test_a_manifest_in_json_is_the_same(tmp_path: Path) -> None:
    import yaml

    data = yaml.safe_load(GARDEN)
    assert read_manifest(manifest(tmp_path, json.dumps(data), "suite.json")) == read_manifest(
        manifest(tmp_path)
    )


def test_json_of_any_program_is_read(tmp_path: Path) -> None:
    """Tabs, characters beyond the BMP as escapes, and 1e-1 are JSON, and no YAML."""
    prompts = {"Caption": "a \U0001f600"}
    clip = {"name": "a", "path": "a.mp4", "prompts": prompts, "start": 0.1}
    text = json.dumps({"pe_suite": 1, "name": "g", "clips": [clip]}, indent="\t")
    path = manifest(tmp_path, text.replace("0.1", "1e-1"), "suite.json")
    (found,) = read_manifest(path).clips
    assert (found.prompts[0].text, found.source["start"]) == ("a \U0001f600", 0.1)
    with pytest.raises(SuiteError, match="'name' stands there twice"):
        read_manifest(manifest(tmp_path, text.replace('"start"', '"name"'), "suite.json"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("pe_suite: 1", "pe_suite: 2"), "`suite.pe_suite` to be from 1 to 1, got 2"),
        (("name: dog", "name: ../dog"), r"`suite.clips\[0\].name` to be letters, digits"),
        (("name: dog", "name: cat"), "its own name, got 'cat' twice"),
        (("seeds: [1, 2]", "seeds: 1"), "`suite.seeds` to be a list"),
        (("seeds: [1, 2]", "seed: 1"), "the unknown key 'seed'"),
        (("    path: dog.mp4\n", ""), r"`suite.clips\[0\]` to have the key 'path'"),
        (("[0, 12, 2]", "[0, 12]"), "to have 3 entries, got 2"),
        (("[0, 12, 2]", "[0, 2, 2]"), "that are two or more"),
        (("start: 0.5", "start: 0.5, end: 0.2"), "an end of 'cat' after its start"),
        (("start: 0.5", "frames: [0, 9, 1], end: 3"), "frames or seconds of 'cat', got both"),
        (("Mine: a cat", "All: a cat"), "other than All, got 'All'"),
        (("Mine: a cat", ""), "'cat' to have prompts, got none"),
        (("Mine: a cat", "Mine: no"), "Mine` to be a prompt .in quotes"),
        (("Mine: a cat", "Mine: [a cat, a cat]"), "each prompt of 'cat' once, got 'a cat' twice"),
        (("Mine: a cat", "Mine: ''"), "Mine` to be 1 to 2000 characters"),
        (("name: garden", "name: garden\nname: garden"), "'name' stands there twice"),
        (("[1, 2]", "&a [1, 2]\nabout: *a"), "aliases"),
        (("pe_suite: 1", "pe_suite: [1"), "Expected YAML or JSON in .*line"),
        (("pe_suite: 1", "pe_suite: !!python/name:os.system"), "Expected YAML or JSON"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, change: tuple[str, str], words: str) -> None:
    text = GARDEN.replace(*change)
    assert text != GARDEN
    with pytest.raises(SuiteError, match=words) as caught:
        read_manifest(manifest(tmp_path, text))
    assert "docs/evaluate.md" in str(caught.value.hint)


def test_a_manifest_has_a_size(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="up to 4 MB"):
        read_manifest(manifest(tmp_path, "#" * (5 * 1024**2)))
    with pytest.raises(SuiteError, match="No such file"):
        read_manifest(tmp_path / "none.yaml")


def test_davis_as_published(tmp_path: Path) -> None:
    for name in ("blackswan", "bus"):
        counting(tmp_path / "JPEGImages" / "480p" / name)
    manifest(tmp_path, PROMPTS_JS, "prompts.js")
    suite = load_suite(f"davis:{tmp_path}")
    assert [clip.name for clip in suite.clips] == ["blackswan", "bus"]
    swan = suite.clips[0]
    assert [(prompt.kind, prompt.text) for prompt in swan.prompts] == [
        ("Caption", "A black swan"),
        ("Subject", "A duck's hat"),
        ("Scene", "A boat"),
    ]
    assert swan.seeds == (1,)
    clip = read_source(swan.source, 4, (32, 24), "paper")
    assert np.allclose(clip.frames.mean((1, 2, 3)), [20, 50, 80, 110], atol=3)
    assert clip.fps == pytest.approx(16 / 3)


def test_quotes_of_javascript(tmp_path: Path) -> None:
    counting(tmp_path / "480p" / "bus", 2)
    row = """{'easy': "a car\\'s race", 'medium': 'a "b"', 'hard': 'c\\'s'}"""
    text = f"const prompts = {{'bus': {row}}};\nexport default prompts;\n"
    (clip,) = load_suite(f"davis:{manifest(tmp_path, text, 'prompts.js').parent}").clips
    assert [prompt.text for prompt in clip.prompts] == ["a car's race", 'a "b"', "c's"]


@pytest.mark.parametrize("quote", ["'", '"'])
@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (r"c\u2019d", "c\u2019d"),
        (r"a\\b", "a\\b"),
        (r"a\nb\tc\x41", "a\nb\tcA"),
        (r"\ud83d\ude00 \u{1F600}", "\U0001f600 \U0001f600"),
        ("caf\u00e9 \u2028 \U0001f600: {a}, #b", "caf\u00e9 \u2028 \U0001f600: {a}, #b"),
        ("a \\\nb", "a b"),
        (r"\a\/\'\"", "a/'\""),
    ],
)
def test_signs_of_javascript(tmp_path: Path, quote: str, written: str, meant: str) -> None:
    counting(tmp_path / "480p" / "bus", 2)
    row = f"{{'easy': {quote}{written}{quote}, 'medium': 'b', 'hard': 'c'}}"
    (tmp_path / "prompts.js").write_text(f"const prompts = {{'bus': {row}}};\n", encoding="utf-8")
    (clip,) = load_suite(f"davis:{tmp_path}").clips
    assert clip.prompts[0].text == meant


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("const prompts = {};", "got none"),
        ("const prompts = {'blackswan': {'easy': 'A'}};", "easy, medium, hard in"),
        (PROMPTS_JS.replace("[2, 14, 3]", "[2]"), "FIRST, STOP, STEP"),
        (PROMPTS_JS.replace("[2, 14, 3]", "[-2, 14, 3]"), "from 0 on.*got '.-2, 14, 3.'"),
        (PROMPTS_JS.replace("'A black swan'", "' '"), "Expected prompts for easy, medium, hard in"),
        (PROMPTS_JS.replace("'bus'", "'tram'"), "Expected tram"),
    ],
)
def test_davis_prompts_that_are_none(tmp_path: Path, text: str, words: str) -> None:
    for name in ("blackswan", "bus"):
        counting(tmp_path / "480p" / name, 2)
    manifest(tmp_path, text, "prompts.js")
    with pytest.raises(SuiteError, match=words):
        load_suite(f"davis:{tmp_path}")


def test_a_folder_that_is_not_davis(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="JPEGImages/480p/NAME"):
        load_suite(f"davis:{tmp_path}")
    counting(tmp_path / "480p" / "bus", 2)
    with pytest.raises(SuiteError, match=r"prompts\.js"):
        load_suite(f"davis:{tmp_path}")
    with pytest.raises(SuiteError, match="Expected a folder"):
        load_suite("davis:/nowhere/at/all")


def video(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = np.stack([np.full((32, 32, 3), 10 * n, np.uint8) for n in range(20)])
    write_video(path, frames, 10)
    return path


def test_mtbench_as_its_authors_read_it(tmp_path: Path) -> None:
    home = tmp_path / "easy" / "snowboard"
    video(home / "videos" / "snowboard.mp4")
    (home / "eval_prompts.txt").write_text("A robot rides.  \nAn ape rides.\n\n")
    suite = load_suite(f"mtbench:{tmp_path}")
    (clip,) = suite.clips
    assert clip.name == "snowboard"
    assert [p.text for p in clip.prompts] == ["A robot rides.", "An ape rides."]
    assert suite.kinds == ("Eval",)
    assert load_suite(f"mtbench:{home}").clips == suite.clips
    (home / "videos" / "snowboard.mp4").unlink()
    with pytest.raises(SuiteError, match=r"videos/snowboard\.mp4"):
        load_suite(f"mtbench:{tmp_path}")
    with pytest.raises(SuiteError, match="eval_prompts"):
        load_suite(f"mtbench:{tmp_path / 'easy' / 'snowboard' / 'videos'}")


def test_mtbench_ends_prompts_at_the_ends_of_lines(tmp_path: Path) -> None:
    home = tmp_path / "snowboard"
    video(home / "videos" / "snowboard.mp4")
    (home / "eval_prompts.txt").write_bytes("A\u2028B\x85C\x0cD.\r\nE.\r\n".encode())
    (clip,) = load_suite(f"mtbench:{home}").clips
    assert [p.text for p in clip.prompts] == ["A\u2028B\x85C\x0cD.", "E."]


@pytest.mark.parametrize("name", ["__MACOSX/snowboard", ".cache/snowboard", "easy/.trash"])
def test_mtbench_beside_folders_that_are_no_clips(tmp_path: Path, name: str) -> None:
    video(tmp_path / "easy" / "snowboard" / "videos" / "snowboard.mp4")
    for home in (tmp_path / "easy" / "snowboard", tmp_path / name):
        home.mkdir(parents=True, exist_ok=True)
        (home / "eval_prompts.txt").write_text("A robot rides.\n")
    assert [clip.name for clip in load_suite(f"mtbench:{tmp_path}").clips] == ["snowboard"]


def test_movebench_keeps_every_caption(tmp_path: Path) -> None:
    for number in (0, 1):
        video(tmp_path / "en" / "video" / f"P{number}.mp4")
    (tmp_path / "en" / "single_track.txt").write_text("P0.mp4,One.\nP1.mp4,Three.\nP0.mp4,One.\n")
    (tmp_path / "en" / "multi_track.txt").write_text("P0.mp4,Two\x0cor more.\n")
    clips = load_suite(f"movebench:{tmp_path}").clips
    assert [(clip.name, [p.text for p in clip.prompts]) for clip in clips] == [
        ("P0", ["One.", "Two\x0cor more."]),
        ("P1", ["Three."]),
    ]


def test_movebench_as_its_authors_read_it(tmp_path: Path) -> None:
    video(tmp_path / "en" / "video" / "Pexels_0.mp4")
    video(tmp_path / "en" / "video" / "Pexels_1.mp4")
    (tmp_path / "en" / "single_track.txt").write_text("Pexels_0.mp4,A laptop, on a table.\n")
    (tmp_path / "en" / "multi_track.txt").write_text(
        "# both\nPexels_0.mp4,A laptop, on a table.\nPexels_1.mp4,Two birds.\n"
    )
    suite = load_suite(f"movebench:{tmp_path}")
    assert [(c.name, c.prompts[0].text) for c in suite.clips] == [
        ("Pexels_0", "A laptop, on a table."),
        ("Pexels_1", "Two birds."),
    ]
    with pytest.raises(SuiteError, match="single_track"):
        load_suite(f"movebench:{tmp_path / 'en' / 'video'}")
    (tmp_path / "en" / "single_track.txt").write_text("Pexels_0.mp4\n")
    with pytest.raises(SuiteError, match="NAME,CAPTION"):
        load_suite(f"movebench:{tmp_path}")


def test_no_suite_of_that_name() -> None:
    with pytest.raises(UsageError, match="bundled-classes") as caught:
        load_suite("bundld")
    assert caught.value.hint == "Did you mean bundled?"


def test_rendered_clips_are_always_the_same() -> None:
    suite = load_suite("bundled", 3, seeds=2)
    assert len(load_suite("bundled").clips) == 24
    assert suite.clips == load_suite("bundled", 5, seeds=2).clips[:3]
    for clip in suite.clips:
        assert [prompt.kind for prompt in clip.prompts] == ["Caption", "Subject", "Scene"]
        texts = [prompt.text for prompt in clip.prompts]
        assert not set(texts).intersection(TRAINING_PROMPTS)
        assert texts[0].split(" on a ")[1] == texts[1].split(" on a ")[1]
        assert texts[0].split(" on a ")[1] != texts[2].split(" on a ")[1]
        assert clip.seeds[0] >= bundled.FIRST_SEED
    frames = read_source(suite.clips[0].source, 33, (128, 128), "default").frames
    assert frames.shape == (33, 128, 128, 3)
    assert bundled.true_path(suite.clips[0].source).shape == (33, 2)


def test_one_class_of_motion_after_the_other() -> None:
    from pe_toolkit.world.motions import CLASSES

    suite = load_suite("bundled-classes", len(CLASSES) + 1)
    names = [clip.name for clip in suite.clips]
    assert [name.partition("-")[2] for name in names[:-1]] == list(CLASSES)
    assert names[-1].partition("-")[2] == names[0].partition("-")[2]
    first, last = (bundled.true_path(suite.clips[i].source) for i in (0, -1))
    assert not np.array_equal(first, last)


def test_parts_of_a_clip(tmp_path: Path) -> None:
    clip = str(video(tmp_path / "a.mp4"))

    def means(recipe: str = "default", frames: int = 5, **span: object) -> list[int]:
        read = read_source({"path": clip, **span}, frames, (32, 32), recipe)
        return [round(value / 10) for value in read.frames.mean((1, 2, 3))]

    assert means(frames=20) == list(range(20))
    assert means() == [0, 5, 9, 14, 19]  # the nearest to 4.75, 9.5 and so on
    assert means(start=1.0, end=1.4) == [10, 11, 12, 13, 14]
    assert means(end=0.8) == [0, 2, 4, 6, 8]
    read = read_source({"path": clip, "frames": [4, 20, 2]}, 8, (32, 32), "default")
    assert [round(v / 10) for v in read.frames.mean((1, 2, 3))] == [4, 6, 8, 10, 12, 14, 16, 18]
    assert read.fps == pytest.approx(5)
    assert read.start == pytest.approx(0.4)
    with pytest.raises(ClipError, match="too short"):
        read_source({"path": clip, "frames": [4, 20, 2]}, 9, (32, 32), "paper")
    with pytest.raises(ClipError, match="too short"):
        read_source({"path": clip, "frames": [18, 40, 2]}, 8, (32, 32), "default")


def test_of_a_long_clip_only_the_frames_of_the_suite_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = np.stack([np.full((64, 96, 3), 10 * i, np.uint8) for i in range(25)])
    uneven = [i * 0.01 for i in range(12)] + [0.12 + i * 0.09 for i in range(13)]
    path = write_clip(tmp_path / "v.mkv", pictures, times=uneven)
    whole = {
        fit: read_clip(path, fps="native", size=(32, 32), fit=fit) for fit in ("crop", "stretch")
    }
    monkeypatch.setattr("pe_toolkit.video.span.MAX_BYTES", 8 * 32 * 32 * 3)
    with pytest.raises(ClipError, match="25 frames of 32x32"):
        read_clip(path, fps="native", size=(32, 32))
    for recipe, fit, indices, slower in (
        ("default", "crop", [3, 7, 9, 13, 17, 19, 23], 6 / 10),
        ("paper", "stretch", [3, 5, 7, 9, 11, 13, 15], 1),
    ):
        read = read_source({"path": str(path), "frames": [3, 99, 2]}, 7, (32, 32), recipe)
        np.testing.assert_array_equal(read.frames, whole[fit].frames[indices])
        assert read.fps == pytest.approx(whole[fit].fps / 2 * slower)
        assert read.start == pytest.approx(3 / whole[fit].fps)
        assert (read.total_frames, read.duration) == (25, whole[fit].duration)


def small_plan(references: int = 3, methods: str = "none,zero-shot") -> Plan:
    return plan(load_suite("bundled", references), choose(methods), Settings(steps=4))


def test_the_jobs_of_a_suite() -> None:
    made = small_plan(2)
    assert len(made.videos) == 2 * 2 * 3
    assert len(made.cards) == 2
    assert len(made.jobs) == 14
    ids = [job.id for job in made.jobs]
    assert len(set(ids)) == 14
    for job in made.jobs:
        assert all(ids.index(need) < ids.index(job.id) for need in job.needs)
    assert [job.id for job in small_plan(2).jobs] == ids
    assert {job.id for job in small_plan(3).jobs}.issuperset(ids)
    json.dumps([job.args for job in made.jobs])  # can be sent anywhere
    settings = Settings.from_dict(json.loads(json.dumps(made.jobs[0].args["settings"])))
    assert settings == Settings(steps=4)


def test_methods_by_name() -> None:
    assert [method.name for method in choose("rich, none")] == ["rich", "none"]
    for text, words in (("", "got none"), ("nix", "got 'nix'"), ("none,none", "more than once")):
        with pytest.raises(UsageError, match=words):
            choose(text)


def test_keys_and_values_for_who_takes_them() -> None:
    made = plan(load_suite("bundled", 1), choose("none,kv,latents"), Settings(kv=True))
    found = {v.method.name: v.job.args["settings"].get("kv", False) for v in made.videos}
    assert found == {"none": False, "kv": True, "latents": True}


def scored(folder: Path, made: Plan) -> Table:
    """A table of invented scores: references differ, kinds differ, one video is not measured."""
    records = JobFolder(folder)
    for number, video in enumerate(made.videos):
        base = 0.1 if video.method.name == "none" else 0.7
        scores = {
            "true_cosine": None if number == 0 else base + 0.05 * int(video.clip.name[:2]),
            "true_error": 0.2 - base / 10,
            "true_adherence": 1.0,
        }
        result = {"scores": scores, "video": "v.mp4", "reference": "r.mp4", "seconds": 2.0}
        records.keep(video.job, {"job": video.job.id, "result": result, "run": {"device": "cpu"}})
    for job in made.cards:
        records.keep(job, {"job": job.id, "result": {"seconds": 5.0}})
    return build_table(made, records)


def test_a_table(tmp_path: Path) -> None:
    table = scored(tmp_path, small_plan())
    assert table.kinds == ("Caption", "Subject", "Scene", "All")
    assert table.metrics == ("true_cosine", "true_adherence", "true_error")
    assert (table.done, table.planned) == (18, 18)
    plain, card = table.rows
    cell = card.cells["All"]["true_cosine"]
    assert cell.mean == pytest.approx(0.75)
    assert (cell.references, cell.videos, cell.missing) == (3, 9, 0)
    assert cell.low is not None
    assert cell.high is not None
    assert 0.7 <= cell.low < 0.75 < cell.high <= 0.8
    assert plain.cells["Caption"]["true_cosine"].references == 2
    assert plain.cells["Caption"]["true_cosine"].missing == 1
    assert (card.seconds, card.training, plain.training) == (2.0, 5.0, None)


def test_what_was_not_measured_is_said_and_wins_nothing(tmp_path: Path) -> None:
    table = scored(tmp_path, small_plan())
    cell = table.rows[0].cells["Caption"]["true_cosine"]
    assert cell.rests_on == "(2 of 3)"
    assert "(2 of 3)" in formats.to_markdown(table)
    assert "(2 of 3)" in formats.to_latex(table)
    own = replace(cell, mean=0.99)
    rows = (replace(table.rows[0], cells=table.rows[0].cells | {
        "Caption": table.rows[0].cells["Caption"] | {"true_cosine": own}
    }), *table.rows[1:])  # fmt: skip
    best = formats.best(replace(table, rows=rows))
    assert best[0] == set()  # one row is left of which all was measured
    assert best[2] == {1}


def test_all_that_are_equally_good_are_bold(tmp_path: Path) -> None:
    table = scored(tmp_path, small_plan())
    cells = table.rows[1].cells["Caption"]
    near = replace(cells["true_cosine"], mean=cells["true_cosine"].mean - 1e-6)
    rows = tuple(
        replace(row, cells=row.cells | {"Caption": cells | {"true_cosine": own}})
        for row, own in zip(table.rows, (near, cells["true_cosine"]), strict=True)
    )
    table = replace(table, rows=rows)
    assert formats.best(table)[0] == {0, 1}
    bold = [r"\textbf{0.750}" in line for line in formats.to_latex(table).splitlines()]
    assert sum(bold) == 2


def test_cards_of_a_suite_have_seeds_and_prompts_of_their_own(tmp_path: Path) -> None:
    prompt = TRAINING_PROMPTS[0]
    clips = tuple(
        SuiteClip(name, {"path": f"{name}.mp4"}, (Prompt("Mine", prompt),), (1, 70))
        for name in ("a", "b")
    )
    made = plan(Suite("s", clips), choose("rich,rich-drafts"), Settings())
    numbers = [job.args["number"] for job in {job.id: job for job in made.cards}.values()]
    assert len(numbers) == 2
    assert len(set(numbers)) == 2
    assert not {1, 70} & {SAMPLES * n + k for n in numbers for k in range(SAMPLES)}
    assert made.cards[0].args["avoid"] == [prompt]
    own = plan(load_suite("bundled", 2), choose("rich"), Settings())
    assert [job.args["number"] for job in own.cards] == [0, 1]  # no seed of theirs is near


def test_intervals_are_over_references() -> None:
    """Many videos of few references are few observations."""
    assert interval([0.5]) == (0.5, None, None)
    mean, low, high = interval([0.0, 1.0])
    assert (mean, low, high) == (0.5, 0.0, 1.0)
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(200):
        _, low, high = interval(list(rng.normal(0, 1, 24)))
        assert low is not None
        assert high is not None
        inside += low < 0 < high
    assert 180 <= inside <= 199  # 95 % are 190; a bootstrap of 24 is a little too narrow


@pytest.mark.parametrize("width", [45, 60, None])
def test_rows_have_their_names_however_narrow_the_terminal_is(
    width: int | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = scored(tmp_path, small_plan())
    suite_table.draw(table, Output(), width)
    lines = capsys.readouterr().out.splitlines()
    assert width is None or max(map(len, lines)) <= width
    heads = [line for line in lines if line.lstrip().startswith("method")]
    for row in table.rows:
        assert sum(line.split()[:1] == [row.method] for line in lines) == len(heads) >= 1
    assert not any("\u2026" in line for line in lines)


def test_a_table_as_text(tmp_path: Path) -> None:
    table = scored(tmp_path, small_plan())
    value = json.loads(formats.to_json(table, {"command": "pe eval"}))
    assert value["rows"][1]["cells"]["All"]["true_cosine"]["mean"] == pytest.approx(0.75)
    assert value["metrics"]["true_error"]["higher_is_better"] is False
    assert value["about"] == {"command": "pe eval"}
    rows = list(csv.DictReader(io.StringIO(formats.to_csv(table))))
    assert len(rows) == 2 * 4 * 3
    assert float(rows[-3]["mean"]) == pytest.approx(0.75)
    videos = list(csv.DictReader(io.StringIO(formats.videos_csv(table))))
    assert len(videos) == 18
    assert videos[0]["true_cosine"] == ""
    lines = formats.to_markdown(table).splitlines()
    assert "| method | Caption cos ↑ | Caption prompt ↑ |" in lines[6]
    assert lines[9].startswith("| zero-shot | 0.750 [0.7")
    assert "| none | " in "\n".join(lines)
    told = "Methods: none (Backbone); zero-shot (card, zero-shot)."
    assert told in lines
    tex = formats.to_latex(table)
    assert r"\multicolumn{2}{c}{Caption}" in tex
    assert r"\textbf{0.750}" in tex
    assert "\nzero-shot &" in tex
    assert f"% {told}" in tex.splitlines()
    assert value["rows"][1]["label"] == "card, zero-shot"
    assert tex.count("\\\\\n") == 4


def test_kinds_of_prompts_are_no_markup(tmp_path: Path) -> None:
    (tmp_path / "dog.mp4").touch()
    (tmp_path / "s.yaml").write_text(
        "pe_suite: 1\nname: garden\nseeds: [1]\nclips:\n"
        "  - {name: dog, path: dog.mp4, prompts: {'a<b>|c & \"d\"': a dog, '<img src=x>': a cat}}\n"
    )
    made = plan(load_suite(str(tmp_path / "s.yaml")), choose("none,zero-shot"), Settings(steps=4))
    records = JobFolder(tmp_path)
    for video in made.videos:
        result = {
            "scores": {"mf": 0.5},
            "video": "v",
            "reference": "r",
            "seconds": 1.0,
            "device": "cpu",
        }
        records.keep(video.job, {"job": video.job.id, "result": result, "run": {}})
    table = build_table(made, records)
    tex = formats.to_latex(table)
    assert r'{a\textless{}b\textgreater{}\textbar{}c \& "d"}' in tex
    assert r"{\textless{}img src=x\textgreater{}}" in tex
    text = formats.to_markdown(table)
    assert r'a&lt;b&gt;\|c &amp; "d" ' in text
    assert "&lt;img src=x&gt;" in text
    assert not set("<>") & set(text)


@pytest.mark.parametrize(
    ("index", "has"), [(3, "true_share"), (4, "true_share"), (7, "true_worse")]
)
def test_a_rendered_clip_is_scored_by_its_class(index: int, has: str) -> None:
    source = {"bundled": "bundled-classes", "index": index}
    shown = bundled.scene_of(source)
    frames = render(shown)
    clip = Clip(frames, 16.0, "rendered", "0" * 64, len(frames) / 16, len(frames))
    settings = Settings(metrics=("true_share", "true_worse"))
    found = score({"clip": source}, clip, frames, shown.caption, settings)
    # Two things, and shapes that lean, are what the prompt says.
    assert found["true_adherence"] == 1
    own = {name for name in ("true_share", "true_worse") if found[name] is not None}
    assert own == {has}
    assert found[has] == pytest.approx(1, abs=0.1)
    plain = score(
        {"clip": source | {"bundled": "bundled"}}, clip, frames, shown.caption, Settings()
    )
    assert "true_share" not in plain


@pytest.mark.parametrize("size", [(96, 64), (64, 96)])
def test_of_a_clip_that_is_not_square_only_the_path_is_known(size: tuple[int, int]) -> None:
    source = {"bundled": "bundled-classes", "index": 2}  # small
    clip = read_source(source, 33, size, "rich")
    found = score({"clip": source}, clip, clip.frames, bundled.scene_of(source).caption, Settings())
    assert "true_share" not in found
    assert found["true_error"] < 0.002  # in the picture that was cut out; in the whole one 0.023


def test_a_reference_is_followed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    followed: list[int] = []
    track = LucasKanade.track

    def counted(self: LucasKanade, frames: np.ndarray, starts: np.ndarray) -> Tracks:
        followed.append(len(frames))
        return track(self, frames, starts)

    monkeypatch.setattr(LucasKanade, "track", counted)
    first, second = (
        read_source({"bundled": "bundled", "index": i}, 9, (64, 64), "rich") for i in (0, 1)
    )
    settings = Settings(grid=5)
    for clip, index in ((first, 0), (first, 0), (second, 1)):
        source = {"bundled": "bundled", "index": index}
        once = score({"clip": source}, clip, second.frames, "a red circle", settings)
    assert len(followed) == 2 + 1 + 2
    assert once["mf"] == pytest.approx(1)  # of the second clip with itself


def test_videos_of_classes_are_not_those_of_an_earlier_way_to_score(tmp_path: Path) -> None:
    for name, way in (("bundled-classes", "by class"), ("bundled", None)):
        made = plan(load_suite(name, 1), choose("none"), Settings())
        assert {video.job.args.get("measured") for video in made.videos} == {way}


def test_the_table_by_class_shows_what_changes_beside_a_path(tmp_path: Path) -> None:
    made = plan(load_suite("bundled-classes", 3), choose("none,zero-shot"), Settings())
    table = scored(tmp_path, made)
    assert table.by_class == ("true_cosine", "true_adherence")
    assert replace(table, metrics=(*table.metrics, "true_share")).by_class == (
        "true_cosine",
        "true_share",
        "true_adherence",
    )


def test_a_table_by_class_of_motion(tmp_path: Path) -> None:
    """The first three clips of the suite are of three classes, and score 0.7, 0.75 and 0.8."""
    made = plan(load_suite("bundled-classes", 3), choose("none,zero-shot"), Settings())
    classes = ("translation", "across", "small")
    assert made.suite.groups == classes
    table = scored(tmp_path, made)
    assert table.groups == classes
    card = table.rows[1]
    means = [card.groups[name]["true_cosine"].mean for name in classes]
    assert means == pytest.approx([0.7, 0.75, 0.8])
    assert card.groups["across"]["true_cosine"].references == 1

    value = json.loads(formats.to_json(table, {}))
    assert value["classes"] == list(classes)
    assert value["rows"][1]["groups"]["small"]["true_cosine"]["mean"] == pytest.approx(0.8)
    rows = list(csv.DictReader(io.StringIO(formats.to_csv(table))))
    own = {r["class"]: r["mean"] for r in rows if r["method"] == "zero-shot" and r["class"]}
    assert set(own) == set(classes)
    assert {r["kind"] for r in rows if r["class"]} == {"All"}
    lines = formats.to_markdown(table).splitlines()
    at = lines.index("## By class of motion")
    assert lines[at + 2].startswith("| class | ")
    assert lines[at + 5].startswith("| across | ")
    tex = formats.to_latex(table)
    assert tex.count(r"\begin{tabular}") == 2
    assert "across & " in tex

    from pe_toolkit.cli import suite_table
    from pe_toolkit.cli.output import Output

    class Kept(Output):
        """What would be printed."""

        def data(self, text: str) -> None:
            parts.append(text)

    parts: list[str] = []
    suite_table.draw(table, Kept(), 200)
    assert "class" in parts[-1]
    assert parts[-1].index("translation") < parts[-1].index("across") < parts[-1].index("small")
    suite_table.draw(table, Kept(), 50)
    assert max(len(line) for text in parts[2:] for line in text.splitlines()) <= 60

    from pe_toolkit.evaluation.report.page import page
    from pe_toolkit.suites.page import columns, scored_videos

    records = scored_videos(table)
    media = {path: Media(why="none") for r in records for path in (r.reference, r.video)}
    text = page(records, media, title="t", columns=columns(table))
    assert "<summary>By class of motion</summary>" in text
    assert "<caption>across</caption>" in text
    title = metric("true_error").title
    assert f'<span title="{html.escape(title)}; lower is better">error ↓</span>' in text


def test_suites_without_classes_have_no_table_of_them(tmp_path: Path) -> None:
    table = scored(tmp_path, small_plan())
    assert table.groups == ()
    assert "By class" not in formats.to_markdown(table) + formats.to_latex(table)


def test_a_table_of_what_is_done_by_now(tmp_path: Path) -> None:
    empty = build_table(small_plan(), JobFolder(tmp_path))
    assert (empty.done, empty.planned, empty.metrics) == (0, 18, ())
    for text in (formats.to_markdown(empty), formats.to_latex(empty)):
        assert "0 of 18 videos" in text


def test_every_method_is_a_training_that_there_is() -> None:
    from pe_toolkit.training import TrainConfig

    for method in METHODS.values():
        TrainConfig(**method.config)


def test_csv_is_safe_in_a_spreadsheet(tmp_path: Path) -> None:
    path = manifest(tmp_path, GARDEN.replace("Mine: a cat}", "'=2': '=1+1'}"))
    made = plan(read_manifest(path), choose("none"), Settings())
    records = JobFolder(tmp_path / "out")
    last = made.videos[-1]
    result = {"scores": {"mf": 0.5}, "video": "v", "reference": "r", "seconds": 1.0}
    records.keep(last.job, {"job": last.job.id, "result": result, "run": {"device": "cpu"}})
    table = build_table(made, records)
    assert ",'=1+1," in formats.videos_csv(table)
    assert "\nnone,'=2,,mf,0.5," in formats.to_csv(table)


def test_a_pair_of_files_in_one_call(tmp_path: Path) -> None:
    from pe_toolkit.evaluation.pair import compare
    from pe_toolkit.world.scenes import render

    for name, number in (("a.mp4", 0), ("b.mp4", 1)):
        write_video(tmp_path / name, render(bundled.scene("bundled", number)), 16)
    same = compare(tmp_path / "a.mp4", tmp_path / "a.mp4")
    other = compare(tmp_path / "a.mp4", tmp_path / "b.mp4", "a red circle")
    assert same["driving_similarity"] == pytest.approx(1)
    assert other["driving_similarity"] is not None
    assert other["driving_similarity"] < 0.99
    pytest.importorskip("cv2")
    assert same["mf"] == pytest.approx(1, abs=1e-6)


def test_seeds_count_on_from_the_largest(tmp_path: Path) -> None:
    suite = read_manifest(manifest(tmp_path, GARDEN.replace("seeds: [1, 2]", "seeds: [5, 1]")))
    assert suite.part(1, seeds=4).clips[0].seeds == (5, 1, 6, 7)
    last = GARDEN.replace("seeds: [1, 2]", f"seeds: [{2**63 - 1}]")
    with pytest.raises(UsageError, match="up to 9223372036854775807, got 1 more after"):
        read_manifest(manifest(tmp_path, last)).part(1, seeds=2)
    with pytest.raises(SuiteError, match="seeds of the suite that differ"):
        read_manifest(manifest(tmp_path, GARDEN.replace("seeds: [1, 2]", "seeds: [1, 1]")))
    with pytest.raises(SuiteError, match="seeds of 'cat' that differ"):
        read_manifest(manifest(tmp_path, GARDEN.replace("seeds: [7]", "seeds: [7, 7]")))
    same = GARDEN.replace("seeds: [7]", f"seeds: [7, {7 + 2**32}]")
    with pytest.raises(SuiteError, match=f"got 7 and {7 + 2**32}, which give the same videos"):
        read_manifest(manifest(tmp_path, same))


def test_a_part_of_the_kinds_is_a_part_of_the_jobs(tmp_path: Path) -> None:
    suite, methods = read_manifest(manifest(tmp_path)), choose("none,zero-shot")
    every = {job.id for job in plan(suite, methods, Settings()).jobs}
    for kinds in (["Caption"], ["Mine"], ["Scene", "Mine"]):
        part = [job.id for job in plan(suite.of_kinds(kinds), methods, Settings()).jobs]
        assert part
        assert every.issuperset(part)


def test_a_card_does_not_depend_on_how_videos_are_measured(tmp_path: Path) -> None:
    suite, methods = read_manifest(manifest(tmp_path)), choose("zero-shot")
    one, two = (
        plan(suite, methods, settings)
        for settings in (Settings(), Settings(metrics=("mf",), grid=20, tracker="dis"))
    )
    assert one.cards == two.cards
    assert not {v.job.id for v in one.videos} & {v.job.id for v in two.videos}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (Settings(metrics=("nope",)), "Expected a metric out of"),
        (Settings(tracker="nope"), "Expected a tracker out of"),
        (Settings(metrics=("true_cosine",)), "the true path of the reference for the metric true"),
        (Settings(metrics=("leak",)), "nothing to do with the reference for the metric leak"),
    ],
)
def test_metrics_are_looked_at_before_any_work(
    settings: Settings, words: str, tmp_path: Path
) -> None:
    made = plan(read_manifest(manifest(tmp_path)), choose("none"), settings)
    with pytest.raises(UsageError, match=words):
        check(made, None)
    rendered = load_suite("bundled-classes", 3)
    check(plan(rendered, choose("none"), Settings(metrics=("true_cosine", "leak"))), None)


def test_weights_of_metrics_are_had_before_any_work(tmp_path: Path) -> None:
    """Without a network they cannot be."""
    made = plan(
        read_manifest(manifest(tmp_path)), choose("none"), Settings(metrics=("text_similarity",))
    )
    with pytest.raises(DependencyError, match="Expected the weights of openai/clip"):
        check(made, None)


def test_tables_of_somebody_else_stay(tmp_path: Path) -> None:
    check_folder(tmp_path / "none")
    (tmp_path / "table.tex").write_text("mine")
    with pytest.raises(OutputExistsError, match=r"no file at .*table.tex"):
        check_folder(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "20261127T000000Z-1.json").write_text("{}")
    check_folder(tmp_path)


def test_a_clip_that_changed_under_its_name(tmp_path: Path) -> None:
    frames = counting(tmp_path / "dog.mp4")
    made = plan(read_manifest(manifest(tmp_path)), choose("none"), S)
    folder, job = JobFolder(tmp_path / "out"), made.videos[0].job
    check_clips(made, folder)
    clip = read_source(job.args["clip"], 9, (32, 32), "default")
    result = {"scores": {}, "sha256": clip.sha256}
    folder.keep(job, {"job": job.id, "result": result, "run": {}})
    check_clips(made, folder)
    first = next(frames.glob("*.jpg"))
    Image.fromarray(np.full((24, 32, 3), 99, np.uint8)).save(first)
    with pytest.raises(SuiteError, match=f"{job.name} was done with, but it has changed"):
        check_clips(made, folder)


def test_seconds_are_those_of_the_frames(tmp_path: Path) -> None:
    times = np.cumsum([0.02] * 20 + [0.1] * 13) - 0.02
    pictures = np.stack([np.full((32, 32, 3), 7 * n, np.uint8) for n in range(33)])
    path = write_clip(tmp_path / "a.mkv", pictures, times=list(times), codec="ffv1")
    source = {"path": str(path), "start": 0.4, "end": 1.2}
    clip = read_source(source, 9, (32, 32), "default")
    levels = clip.frames[:, 0, 0, 0] / 7
    first, last = np.flatnonzero((times >= 0.399) & (times <= 1.201))[[0, -1]]
    assert levels[[0, -1]] == pytest.approx([first, last], abs=0.5)


def test_a_table_without_numbers_has_no_columns(tmp_path: Path) -> None:
    made = plan(read_manifest(manifest(tmp_path, GARDEN.replace("Mine", "=1"))), choose("none"), S)
    table = build_table(made, JobFolder(tmp_path / "out"))
    assert formats.to_latex(table).splitlines() == [f"% garden: 0 of 7 videos. {formats.NOTE}"]


S = Settings()


def test_a_damaged_card_says_what_to_do(tmp_path: Path) -> None:
    from pe_toolkit.suites.doing import _applied

    (tmp_path / "cards").mkdir()
    path = tmp_path / "cards" / "c.safetensors"
    path.write_bytes(b"damaged")
    nothing: Any = None  # the card is read before anything else is looked at
    with pytest.raises(CardError) as caught:
        _applied({"card": "c"}, Place(tmp_path, "v"), nothing, nothing, Settings())
    assert caught.value.hint == f"Delete {path}: it is made again."
