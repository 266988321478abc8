"""The benchmark for owners of a GPU, on the bundled backbone: it runs, resumes, writes a table."""

from __future__ import annotations

import dataclasses
import json
import sys

import numpy as np
import pytest

from benchmarks import kept, real, real_rows, real_table
from benchmarks.transfer import clip_of, references
from pe_toolkit.backbones.catalogue.variants import VARIANTS
from pe_toolkit.errors import UsageError
from pe_toolkit.evaluation import clip
from pe_toolkit.video import write_video
from pe_toolkit.video.image import read_image
from tests.tiny_clip import as_fetched, save_tiny_clip, save_tiny_dino


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    scene = clip_of(references(1)[0])
    write_video(folder / "ball.mp4", scene.frames, 16.0)
    (folder / "ball.txt").write_text("a red circle on a grey background\n\n", encoding="utf-8")
    (folder / "still.txt").write_text("no video\n", encoding="utf-8")
    return folder


def run(clips, out, rows, *more):
    real.main(["--backbone", "bundled", "--clips", str(clips), "-o", str(out), "--steps", "2",
               "--rows", rows, *more])  # fmt: skip
    return kept.lines(out / "results.jsonl")


def row_of(table, row):
    """The cells of a row, of both tables."""
    lines = [line for line in table.splitlines() if line.startswith(f"| {row} |")]
    return [cell.strip() for line in lines for cell in line.split("|")[2:-1]]


def test_rows_are_made_once_and_more_can_follow(clips, tmp_path, capsys) -> None:
    first = run(clips, tmp_path, "no-card,rich,default-17")
    assert [entry["row"] for entry in first] == ["no-card", "rich"]  # there is no block 17
    assert {entry["prompt"] for entry in first} == {"a red circle on a grey background"}
    assert all(entry["score"] is None or -1 <= entry["score"] <= 1 for entry in first)
    assert (tmp_path / "cards" / "ball-rich.safetensors").is_file()
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "videos").iterdir()}
    assert len(made) == 2

    with (tmp_path / "results.jsonl").open("a") as file:
        file.write('{"row": "lat\n')  # cut off while it was written
    again = run(clips, tmp_path, "no-card,rich,latents-rich")
    assert [entry["row"] for entry in again] == ["no-card", "rich", "latents-rich"]
    assert all(path.stat().st_mtime_ns == at for path, at in made.items())
    table = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert "| latents-rich | 1 |" in table
    assert "| rich | 1 |" in table
    assert read_image(tmp_path / "ball.png").ndim == 3
    assert not list((tmp_path / "cards").glob("*.resume"))
    assert "| no-card | 1 |" in capsys.readouterr().out


def test_motion_looks_and_controls_of_two_clips(clips, tmp_path, isolated, capsys) -> None:
    """Two judges, controls, and CLIP and DINO on videos that were made without."""
    pytest.importorskip("cv2")
    folder, out = tmp_path / "clips", tmp_path / "out"
    folder.mkdir()
    for name, scene in zip("ab", references(2), strict=True):
        write_video(folder / f"{name}.mp4", clip_of(scene).frames, 16.0)
    (folder / "prompts.txt").write_text("a red circle on a grey background\n", encoding="utf-8")
    (folder / "b.txt").write_text("a whale in the deep sea\n", encoding="utf-8")
    rows = ["no-card", "rich", "rich-other", "rich-shuffled-both"]
    made = run(folder, out, ",".join(rows))
    assert [(m["clip"], m["row"]) for m in made] == [(c, row) for c in "ab" for row in rows]
    videos = {path: path.stat().st_mtime_ns for path in (out / "videos").iterdir()}
    assert len({path.read_bytes() for path in videos}) == len(made)  # every row changes it
    for m in made:
        assert m["judges"] == "lk, block 1 by content"
        assert m["others"] == ["b" if m["clip"] == "a" else "a"]
        for name in ("mf", "mf other", "score", "like own", "leak"):
            assert m[name] is None or -1 <= m[name] <= 1
        # Nobody tells whales from others by their colours.
        assert m["adherent"] in ((0.0, 1.0) if m["clip"] == "a" else (None,))
    # Dashes, not numbers, where nothing was asked for.
    cells = row_of((out / "table.md").read_text(encoding="utf-8"), "rich")
    assert cells[0] == "2"
    assert cells[9] == "-"
    assert cells[10] in ("0.00", "1.00")  # of one clip: no interval
    assert " [" in cells[11]
    assert cells[-4:] == ["-"] * 4
    controls_change_what_they_say(out)

    asked = ",".join(real.WEIGHTS)
    assert len(run(folder, out, "rich", "--metrics", asked)) == len(made)  # offline: nothing new
    assert "can be added later" in capsys.readouterr().err
    hub = isolated / "huggingface" / "hub"
    save_tiny_clip(as_fetched(hub, clip.CLIP))
    save_tiny_dino(as_fetched(hub, clip.DINO))
    try:
        again = run(folder, out, "rich", "--metrics", asked)[len(made) :]
    finally:  # other tests are to find none
        clip._clip.cache_clear()
        clip._dino.cache_clear()
    assert {path: path.stat().st_mtime_ns for path in (out / "videos").iterdir()} == videos
    for before, now in zip([m for m in made if m["row"] == "rich"], again, strict=True):
        assert before.items() <= now.items()  # read from the same files
        assert all(
            -1 <= now[name] <= 1 for name in (*real.WEIGHTS, "driving_similarity_dino other")
        )
    assert "-" not in row_of((out / "table.md").read_text(encoding="utf-8"), "rich")[9:]


def controls_change_what_they_say(out) -> None:
    """The cards of `rich` that are there, as its controls apply them to clip a."""
    bench = real.Bench(None, None, out, 2, (0,))  # type: ignore[arg-type]
    job = real.Job("a", None, (), (("b", None),))  # type: ignore[arg-type]
    own, other, *shuffles = (
        real.card_for(bench, job, row).tensors
        for row in ("rich", "rich-other", "rich-shuffled-phase", "rich-shuffled-positions")
    )
    assert not np.array_equal(own["flow"], other["flow"])
    for name, tensors in zip(("phase", "positions"), shuffles, strict=True):
        assert {key for key in own if not np.array_equal(own[key], tensors[key])} == {name}
        assert np.array_equal(np.sort(own[name], axis=None), np.sort(tensors[name], axis=None))
    assert {path.name for path in (out / "cards").iterdir()} == {
        "a-rich.safetensors", "b-rich.safetensors"
    }  # fmt: skip


def test_without_opencv_and_without_another_clip(clips, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    [entry] = run(clips, tmp_path, "no-card,rich-other", "--judge", "2")
    assert entry["judges"] == "no tracker, block 2 by content"
    assert "mf" not in entry
    assert entry["like other"] is None
    said = capsys.readouterr().err
    assert "pip install 'pe-toolkit[eval]'" in said
    assert "rich-other ball: Expected another clip" in said
    assert row_of((tmp_path / "table.md").read_text(encoding="utf-8"), "no-card")[2] == "-"


def test_a_card_without_what_is_to_be_shuffled_is_no_control(clips, tmp_path, capsys) -> None:
    """Cards of `flow` hold no phase."""
    real_rows.CONTROLS["bare"] = ("flow", "shuffled-phase")
    try:
        assert run(clips, tmp_path, "bare") == []
    finally:
        del real_rows.CONTROLS["bare"]
    assert "Expected something that shuffled-phase would change" in capsys.readouterr().err


def test_records_of_rows_that_judged_themselves_are_refused(clips, tmp_path) -> None:
    old = {"row": "rich", "clip": "ball", "prompt": "a", "seed": 0, "score": 0.9, "seconds": 1}
    (tmp_path / "results.jsonl").write_text(json.dumps(old) + "\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="records that name their judges"):
        run(clips, tmp_path, "no-card")


def test_the_table_pairs_by_clip_and_leaves_out_other_judges() -> None:
    def entry(row, clip, mf, judges="lk"):
        return {"row": row, "clip": clip, "judges": judges, "mf": mf, "score": None, "seconds": 2.0}

    entries = [
        entry("no-card", "a", 0.2), entry("no-card", "b", 0.4), entry("rich", "a", 0.6),
        entry("rich", "a", 0.8), entry("rich", "b", 0.5), entry("rich", "c", 0.9),
        entry("rich", "c", -1.0, "dis"),
    ]  # fmt: skip
    text = real_table.table(entries, ["no-card", "rich", "flow"], "lk")
    assert row_of(text, "rich")[:4] == ["4", "0", "0.70 [0.50, 0.90]", "0.30 [0.10, 0.50]"]
    assert row_of(text, "no-card")[3] == ""
    assert row_of(text, "flow")[:3] == ["0", "0", "-"]


def test_results_of_other_settings_and_clips_of_one_name(clips, tmp_path) -> None:
    run(clips, tmp_path / "out", "no-card")
    with pytest.raises(SystemExit, match=r"Expected steps 2.*got 3"):
        real.main(["--backbone", "bundled", "--clips", str(clips), "-o", str(tmp_path / "out"),
                   "--steps", "3"])  # fmt: skip
    folder = tmp_path / "clips"
    folder.mkdir()
    for name in ("a.mp4", "a.MOV"):
        (folder / name).write_bytes((clips / "ball.mp4").read_bytes())
    with pytest.raises(SystemExit, match="names of their own"):
        run(folder, tmp_path / "other", "no-card")
    (folder / "a.MOV").unlink()
    (folder / "b.mp4").write_text("no video")  # it is not the end of the evening
    found = run(folder, tmp_path / "third", "no-card")
    assert {entry["clip"] for entry in found} == {"a"}


def test_a_line_after_one_that_was_cut_off_is_kept(tmp_path) -> None:
    path = tmp_path / "raw.jsonl"
    path.write_text('{"a": 1}\n{"b"')
    kept.add(path, {"c": 3})
    kept.add(path, {"d": 4})
    assert kept.lines(path) == [{"a": 1}, {"c": 3}, {"d": 4}]


def test_rows_differ_in_what_is_asked() -> None:
    recipes = {row: real_rows.config(row).resolve(VARIANTS["bundled"]).recipe
               for row in real_rows.ROWS if row != "no-card" and "17" not in row}  # fmt: skip
    assert recipes["default"] == "default"
    assert recipes["rich"] == "rich"


def test_every_row_is_a_training_that_makes_sense() -> None:
    for row in real_rows.ROWS:
        for variant in ("cogvideox-5b", "cogvideox-2b"):
            real_rows.config(row).resolve(VARIANTS[variant])
    resolved = real_rows.config("rich-17").resolve(VARIANTS["cogvideox-5b"])
    assert resolved.reading.blocks == (17,)
    assert {of for of, _ in real_rows.CONTROLS.values()} <= set(real_rows.ROWS)


@pytest.mark.parametrize(
    ("name", "blocks", "used", "judge"),
    [("cogvideox-5b", 42, {17, 20}, 23), ("cogvideox-2b", 30, {15, 17}, 12),
     ("bundled", 7, {4, 5, 6}, 1)],
)  # fmt: skip
def test_no_row_is_made_at_the_block_that_judges(name, blocks, used, judge) -> None:
    variant = VARIANTS[name]
    assert real_rows.taken(variant, blocks) == used
    reading = real_rows.judge(variant, blocks)
    assert (reading.blocks, reading.by) == ((judge,), "content")
    assert real_rows.judge(variant, blocks, 0).blocks == (0,)
    for block in (min(used), blocks, -1):
        with pytest.raises(UsageError, match="a block that no row uses, 0, 1"):
            real_rows.judge(variant, blocks, block)
    assert real_rows.judge(dataclasses.replace(variant, block=0, reading=None), 2) is None


def test_what_is_not_there_is_refused(tmp_path, capsys) -> None:
    with pytest.raises(SystemExit):
        real.main(["--clips", str(tmp_path / "none")])
    with pytest.raises(SystemExit):
        real.main(["--clips", str(tmp_path), "--rows", "best"])
    assert "got best" in capsys.readouterr().err
