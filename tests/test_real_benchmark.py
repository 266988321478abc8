"""The benchmark for owners of a GPU, on the bundled backbone: it runs, resumes, writes a table."""

from __future__ import annotations

import pytest

from benchmarks import kept, real
from benchmarks.transfer import clip_of, references
from pe_toolkit.video import write_video
from pe_toolkit.video.image import read_image


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    scene = clip_of(references(1)[0])
    write_video(folder / "ball.mp4", scene.frames, 16.0)
    (folder / "ball.txt").write_text("a red circle on a grey background\n\n", encoding="utf-8")
    (folder / "still.txt").write_text("no video\n", encoding="utf-8")
    return folder


def run(clips, out, rows):
    real.main(["--backbone", "bundled", "--clips", str(clips), "-o", str(out), "--steps", "2",
               "--rows", rows])  # fmt: skip
    return kept.lines(out / "results.jsonl")


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
    from pe_toolkit.backbones.catalogue.variants import VARIANTS

    bench = real.Bench(None, None, None, (0,))  # type: ignore[arg-type]
    recipes = {row: bench.config(row).resolve(VARIANTS["bundled"]).recipe for row in real.ROWS
               if row != "no-card" and "17" not in row}  # fmt: skip
    assert recipes["default"] == "default"
    assert recipes["rich"] == "rich"


def test_every_row_is_a_training_that_makes_sense() -> None:
    from pe_toolkit.backbones.catalogue.variants import VARIANTS

    bench = real.Bench(None, None, None, (0,))  # type: ignore[arg-type]
    for row in real.ROWS:
        for variant in ("cogvideox-5b", "cogvideox-2b"):
            bench.config(row).resolve(VARIANTS[variant])
    assert bench.config("rich-17").resolve(VARIANTS["cogvideox-5b"]).reading.blocks == (17,)


def test_what_is_not_there_is_refused(tmp_path, capsys) -> None:
    with pytest.raises(SystemExit):
        real.main(["--clips", str(tmp_path / "none")])
    with pytest.raises(SystemExit):
        real.main(["--clips", str(tmp_path), "--rows", "best"])
    assert "got best" in capsys.readouterr().err
