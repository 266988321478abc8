"""The GPU benchmark, tiny on the CPU: the transcription is the algorithm, the page is honest."""

from __future__ import annotations

import argparse
import json

import pytest
import torch

from benchmarks import cuda, models, report
from benchmarks.official import Official


def official(adapter):
    clip = models.moving_square(adapter, models.TINY_FRAMES)
    with torch.no_grad():
        reference = adapter.encode_clip(clip.frames)
        text = adapter.encode_text([models.PROMPT])
    return Official(
        adapter, reference, text, text, block=1, size=(models.TINY_FRAMES, 32, 32), inner=1
    )


def test_the_transcription_taps_what_we_tap():
    for name in ("cogvideox-5b", "cogvideox-2b"):
        ours, theirs = (models.build(name, torch.device("cpu"), tiny=True) for _ in range(2))
        run = official(theirs)
        x = torch.randn(run.reference.shape, generator=torch.Generator().manual_seed(0))
        rotary = ours.base_positions(9, 32, 32) if ours.positions == "rotary" else None
        expected = ours.queries_and_keys(x, run.text, 500, 1, rotary)
        for a, b in zip(run._tapped(x, run.text, 500, grad=True), expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_a_published_step_moves_the_positions_and_keeps_weight_gradients():
    adapter = models.build("cogvideox-5b", torch.device("cpu"), tiny=True)
    run = official(adapter)
    before = [t.detach().clone() for t in run.free]
    out = run.guided_step(torch.randn_like(run.reference), 999, 0.002, 7.0)
    assert torch.isfinite(out).all()
    assert all(not torch.equal(a, b) for a, b in zip(before, run.free, strict=True))
    blocks = adapter.transformer.transformer_blocks
    assert blocks[0].ff.net[2].weight.grad is not None
    assert blocks[2].ff.net[2].weight.grad is None  # after block n


def test_the_page_says_what_was_not_measured():
    text = report.table(None)
    assert text.count(report.NOTHING) == len(report.NAMES) * len(report.COLUMNS)
    row = {
        "row": "5b-49",
        "paper": {"steps": [1.0, 2.0, 3.0], "card_seconds": 30.0, "peak_gib": 18.0},
        "fast": {"steps": [1.0]},
        "official": {"out_of_memory": "no"},
        "logits_bytes": 48 * 17550**2 * 2,
        "floor_seconds": 1.0,
    }
    cells = report.cells_of(row)
    assert cells[0] == "out of memory (28 GiB of logits)"
    assert cells[1] == "2"
    assert cells[2] == cells[6] == cells[11] == report.NOTHING
    assert cells[10] == "2"
    begun = report.cells_of({"row": "5b-49", "paper": {"error": "x", "without_cap": "y"}})
    assert begun[0] == report.NOTHING
    assert begun[1] == "failed*"
    page = report.PAGE.read_text(encoding="utf-8")
    assert all(f"| {name} |" in page for name in report.NAMES.values())
    assert report.estimates() in page, (
        "python -c 'from benchmarks import report; report.write(None)'"
    )


def test_a_failure_is_recorded_and_the_other_parts_go_on():
    def fails():
        raise RuntimeError("no such kernel\nsecond line")

    def out_of_memory():
        raise torch.OutOfMemoryError("tried to allocate 30 GiB\nand more")

    assert cuda.attempt(fails) == {"error": "RuntimeError: no such kernel"}
    assert cuda.attempt(out_of_memory) == {"out_of_memory": "tried to allocate 30 GiB"}


def test_rows_that_were_measured_stay_in_the_record(tmp_path):
    about = {"date": "2026-01-01", "gpu": "a", "torch": "2"}
    path = tmp_path / "records" / "cuda.json"
    cuda.Record(path, about).put({"row": "5b-24", "frames": 24})
    cuda.Record(path, about).put({"row": "2b-24", "frames": 24})
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    assert [row["row"] for row in rows] == ["2b-24", "5b-24"]  # in the order of the page
    cuda.Record(path, about | {"gpu": "b"}).put({"row": "2b-24"})
    assert len(json.loads(path.read_text(encoding="utf-8"))["rows"]) == 1


@pytest.mark.parametrize("row", ["5b-24", "2b-24"])
@pytest.mark.filterwarnings("ignore:The card was trained with keys and values")
def test_every_part_is_measured_and_kept(row):
    """On a GPU where there is one: devices must match there."""
    place = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    options = argparse.Namespace(tiny=True, cap=22.0, steps=4, repeats=1)
    kept = []
    out = cuda.measure(
        row, options, cuda.Gpu(place), 1e12, lambda now: kept.append(sorted(now.keys()))
    )
    assert [len(keys) for keys in kept] == [5, 6, 7, 8]
    for part in ("paper", "fast", "official"):
        assert "error" not in out[part]
        assert min(out[part]["steps"]) > 0
    assert {"plain", "applied", "applied, pab", "applied, taylorseer"} <= set(out["generation"])
    assert "error" not in out["generation"]


def test_the_formulas_say_what_the_cap_needs():
    small = cuda.computed("cogvideox-5b", 49, 22.0, 5e14)
    assert small["checkpointing"] == "on"
    assert cuda.computed("cogvideox-2b", 24, 22.0, 5e14)["checkpointing"] == "off"
    assert small["estimate_gib"] < 22.0
