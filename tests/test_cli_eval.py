"""`pe eval --suite`: the real bundled backbone, two denoising steps, a few references."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from pe_toolkit.cli.main import cli
from pe_toolkit.video import read_clip

CHEAP = ("--backbone", "bundled", "--steps", "2", "--kind", "Caption", "--suite", "bundled")


def pe(*words: object) -> Result:
    return CliRunner().invoke(cli, ["eval", *map(str, words)])


def events(result: Result) -> list[dict[str, object]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def numbers(folder: Path) -> object:
    """What must not depend on how the table came about."""
    table = json.loads((folder / "table.json").read_text())
    for video in table["videos"]:
        del video["seconds"]
    for row in table["rows"]:
        del row["seconds"], row["training"]
    return {key: table[key] for key in ("suite", "kinds", "metrics", "rows", "videos")}


def ended(folder: Path) -> list[str]:
    lines = map(json.loads, (folder / "journal.jsonl").read_text().splitlines())
    return sorted(line["job"] for line in lines if line["what"] == "end")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One reference, two methods: a card and two videos."""
    folder = tmp_path_factory.mktemp("eval") / "results"
    done = pe(*CHEAP, "--method", "none,rich", "--references", 1, "-o", folder)
    assert done.exit_code == 0, done.output
    assert re.search(r"^ *none .*\n(?:.*\n)* *rich ", done.stdout, re.M), done.stdout
    assert "3 jobs done, 0 were there, 0 failed." in done.stderr
    return folder


def test_it_writes_everything(results: Path) -> None:
    names = {path.name for path in results.iterdir()}
    assert names == {
        "cards", "journal.jsonl", "records", "references", "runs", "table.csv", "table.json",
        "table.md", "table.tex", "videos", "videos.csv", "report.html",
    }  # fmt: skip
    table = json.loads((results / "table.json").read_text())
    assert table["rows"][1]["cells"]["Caption"]["true_cosine"]["references"] == 1
    for video in table["videos"]:
        assert read_clip(results / video["video"]).frames.shape == (33, 128, 128, 3)
        assert read_clip(results / video["reference_video"]).frames.shape == (33, 128, 128, 3)
    (run,) = (results / "runs").iterdir()
    record = json.loads(run.read_text())
    assert record["state"] == "finished"
    assert record["command"][0] == "pe"
    assert len(record["done"]) == 3
    assert record["versions"]["torch"]


def test_what_is_there_is_not_done_again(results: Path) -> None:
    before = numbers(results)
    again = pe(*CHEAP, "--method", "none,rich", "--references", 1, "-o", results, "--json")
    assert again.exit_code == 0, again.output
    summary = events(again)[-1]
    assert (summary["done"], summary["there"]) == (0, 3)
    assert numbers(results) == before
    assert len(ended(results)) == 3
    more = pe(*CHEAP, "--method", "none", "--references", 2, "-o", results, "--json")
    assert (events(more)[-1]["done"], events(more)[-1]["there"]) == (1, 1)
    assert len(list((results / "runs").iterdir())) >= 2


@pytest.mark.slow
def test_processes_make_the_same_table(results: Path, tmp_path: Path) -> None:
    """Two workers, one of which is killed in the middle of its work."""
    out = tmp_path / "out"
    words = [*CHEAP, "--method", "none,rich", "--references", "2", "-o", str(out), "--jobs", "2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "pe_toolkit", "eval", *words],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    journal = out / "journal.jsonl"
    deadline = time.monotonic() + 120
    while not (journal.exists() and journal.read_text()):
        assert time.monotonic() < deadline, "no job began"
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    os.kill(json.loads(journal.read_text().splitlines()[0])["pid"], signal.SIGKILL)
    stdout, stderr = process.communicate()
    assert process.returncode == 0, stderr
    assert re.search(r"^ *rich ", stdout, re.M), stdout
    assert "6 jobs done, 0 were there, 0 failed." in stderr
    alone = pe(*CHEAP, "--method", "none,rich", "--references", 2, "-o", results)
    assert alone.exit_code == 0, alone.output
    assert numbers(out) == numbers(results)
    assert len(ended(out)) == len(set(ended(out))) == 6


def test_the_backbone_alone_is_a_stock_generation(results: Path) -> None:
    from pe_toolkit.apply import generate
    from pe_toolkit.jobs.job import Place
    from pe_toolkit.suites.doing import _adapter
    from pe_toolkit.suites.methods import choose
    from pe_toolkit.suites.named import load_suite
    from pe_toolkit.suites.plan import Settings, plan

    made = plan(load_suite("bundled", 1), choose("none"), Settings(steps=2)).videos[0]
    adapter = _adapter(dict(made.job.args), Place(results, "x"))
    (stock,) = generate(adapter, [made.prompt], [made.seed], steps=2)
    video = read_clip(results / "videos" / f"{made.job.id}.mp4").frames
    again = results / "stock.mp4"
    from pe_toolkit.video import write_video

    write_video(again, stock.frames, stock.fps, force=True)
    assert np.array_equal(read_clip(again).frames, video)
    again.unlink()


def test_drafts_choose_seeds_of_the_same_cards(tmp_path: Path, results: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(results, out)
    result = pe(*CHEAP, "--references", 1, "-o", out, "--method", "rich-drafts")
    assert result.exit_code == 0, result.output
    assert "1 jobs done, 1 were there" in result.stderr  # the card of `rich`
    assert re.search(r"^ *rich-drafts ", result.stdout, re.M), result.stdout
    others = re.search(r"tables, which are of this command: (\d+) other videos", result.stderr)
    assert others is not None
    assert int(others[1]) >= 2
    table = json.loads((out / "table.json").read_text())
    assert [video["method"] for video in table["videos"]] == ["rich-drafts"]
    records = [json.loads(path.read_text()) for path in (out / "records").glob("rich-*-p1-*.json")]
    (drafted,) = (record for record in records if "drafts" in record["args"])
    alone = {key: value for key, value in drafted["args"].items() if key != "drafts"}
    (plain,) = (record for record in records if record["args"] == alone)
    chosen, first = drafted["result"]["chosen_seed"], drafted["args"]["seed"]
    assert chosen in {first + 1000 * k for k in range(4)}
    videos = [read_clip(out / record["result"]["video"]).frames for record in (plain, drafted)]
    assert np.array_equal(*videos) == (chosen == first)


def test_a_clip_that_cannot_be_read_stops_no_other(tmp_path: Path, results: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    good = next((results / "references").glob("00-*.mp4"))
    manifest = tmp_path / "suite.yaml"
    prompts = "prompts: {Mine: a red circle on a yellow background}"
    manifest.write_text(
        f"pe_suite: 1\nname: two\nclips:\n  - {{name: bad, path: bad.mp4, {prompts}}}\n"
        f"  - {{name: good, path: '{good}', {prompts}}}\n"
    )
    out = tmp_path / "out"
    words = ("--suite", manifest, "--backbone", "bundled", "--steps", 2, "-o", out)
    result = pe(*words, "--method", "rich")
    assert result.exit_code == 1
    assert "2 jobs done, 0 were there, 2 failed." in result.stderr
    assert "knows no yellow background" in result.stderr
    assert "rich-bad-card: " in result.stderr
    assert "Expected rich-bad-card to be done before, but it failed." in result.stderr
    (run,) = (out / "runs").iterdir()
    assert json.loads(run.read_text())["state"] == "with failures"
    assert len(json.loads((out / "table.json").read_text())["videos"]) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--suite", "bundled"), "Expected -o"),
        (("-o", "x"), "Expected --suite"),
        (("--suite", "nix", "-o", "x"), "Expected a suite, one of bundled"),
        (("--suite", "bundled", "-o", "x", "--method", "nix"), "Expected methods out of none, kv"),
        (("--suite", "bundled", "-o", "x", "--kind", "Nix"), "kinds of prompts out of Caption"),
        (("--suite", "bundled", "-o", "x", "--set", "tau=0"), "a tau above 0"),
        (("--suite", "bundled", "-o", "x", "--references", "1001"), "up to 1000 references"),
        (("--suite", "bundled", "-o", "x", "--gpus-per-job", "1"), "--gpus-per-job with --ray"),
        (("--suite", "bundled", "-o", "x", "--ray", "auto", "--jobs", "2"), "--jobs or --ray"),
    ],
)
def test_what_makes_no_sense(
    words: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = pe("--backbone", "bundled", *words)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert not Path("x", "videos").exists()
