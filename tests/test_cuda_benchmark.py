"""The GPU benchmark, tiny on the CPU: the transcription is the algorithm, the page is honest."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys

import pytest
import torch

from benchmarks import cuda, cuda_memory, cuda_runs, models, report
from benchmarks.official import (
    Official,
    gradient_parameters,
    least_bytes,
    logits_bytes,
    step_flops,
)
from pe_toolkit.backbones.catalogue import architectures
from pe_toolkit.backbones.machine import checkpointing as training_memory
from pe_toolkit.backbones.machine import memory
from tests.fake import Operations


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


@pytest.mark.parametrize("name", ["cogvideox-5b", "cogvideox-2b", "cogvideox1.5-5b"])
def test_gradients_of_weights_are_those_that_a_published_step_leaves(name):
    adapter = models.build(name, torch.device("cpu"), tiny=True)
    run = official(adapter)
    run.guided_step(torch.randn_like(run.reference), 999, 0.002, 7.0)
    got = sum(p.numel() for p in adapter.transformer.parameters() if p.grad is not None)
    a = architectures.Architecture(
        3, 2, adapter.positions, in_channels=4, text_channels=16, time_channels=8,
        patch_size_t=adapter.transformer.config.patch_size_t,
    )  # fmt: skip
    assert gradient_parameters(a, 1) == got


@pytest.mark.parametrize("name", ["cogvideox-5b", "cogvideox-2b"])
def test_operations_of_a_published_step_are_those_that_it_takes(name):
    adapter = models.build(name, torch.device("cpu"), tiny=True)
    counts = []
    for inner in (1, 3):  # the difference: two inner steps, without the other passes
        run = official(adapter)
        run.inner = inner
        with Operations() as counted:
            run.guided_step(torch.randn_like(run.reference), 999, 0.002, 7.0)
        matrices = counted.addmm + counted.mm
        counts.append((counted.attention, counted.attention_backward, matrices))
    forward, backward, matrices = ((b - a) / 2 for a, b in zip(*counts, strict=True))
    block = 1
    assert (forward, backward) == (2 * block + 1, block)  # 4.5 = 2 + 2.5 of each, and the last one
    a = architectures.Architecture(
        3, 2, adapter.positions, in_channels=4, text_tokens=8, text_channels=16, time_channels=8
    )
    r = memory.Request.of(
        models.variant(name, tiny=True), guided=1, block=block,
        width=64, height=64,  # the tiny VAE shrinks by 4, not by 8
    )  # fmt: skip
    each = [step_flops(a, dataclasses.replace(r, inner=k)) for k in (1, 3)]
    _, attention = memory.pass_flops(a, r, 1)
    amf = 12 * memory.amf_pairs(a, r) * a.channels  # batched products, which are not counted here
    expected = (each[1] - each[0]) / 2 - amf - (4.5 * block + 1) * attention
    assert matrices == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize(
    ("name", "frames", "gigabytes"),
    [
        ("cogvideox-5b", 24, 12.70), ("cogvideox-5b", 49, 59.4),
        ("cogvideox-2b", 24, 7.94), ("cogvideox-2b", 49, 37.1),
    ],
)  # fmt: skip
def test_bytes_of_the_official_amf_are_those_counted_on_its_own_function(name, frames, gigabytes):
    a = architectures.ARCHITECTURES[name]
    request = memory.Request.of(models.variant(name), guided=10, frames=frames)
    least = least_bytes(a, request)
    assert least["AMF"] / 1e9 == pytest.approx(gigabytes, rel=1e-3)
    assert least["logits"] == logits_bytes(a.heads, {24: 8100, 49: 17550}[frames])
    if name == "cogvideox-5b":
        assert least["gradients"] / 1e9 == pytest.approx(5.4, rel=0.01)


def test_the_page_says_what_was_not_measured():
    text = report.table(None)
    cells = len(report.NAMES) * len(report.COLUMNS) + len(report.GOALS) + 1
    assert text.count(report.NOTHING) == cells
    row = {
        "row": "5b-49",
        "paper": {"steps": [1.0, 2.0, 3.0], "card_seconds": 30.0, "peak_gib": 18.0},
        "fast": {"steps": [1.0]},
        "official": {"out_of_memory": "no"},
        "logits_bytes": 48 * 17550**2 * 2,
        "flops_per_step": 0.92e15,
        "floor_seconds": 1.0,
    }
    cells = dict(zip(report.KEYS, report.cells_of(row), strict=True))
    assert cells["published step"] == "out of memory (28 GiB of logits)"
    assert cells["step"] == "2"
    assert cells["step ratio"] == cells["card ratio"] == cells["applied / plain"] == report.NOTHING
    assert cells["operations"] == "0.92"
    assert cells["floor"] == "1"
    assert cells["step / floor"] == "2"
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


def test_what_is_printed_says_operations_and_floor_and_what_did_not_fit(capsys):
    row = {
        "backbone": "cogvideox-5b", "frames": 49, "logits_bytes": 29_568_240_000,
        "flops_per_step": 3.6e15, "floor_seconds": 9.0,
        "paper": {"steps": [17.0, 18.0, 20.0], "card_seconds": 200.0, "peak_gib": 18.0},
        "fast": {"steps": [5.0], "card_seconds": 60.0},  # of a CPU: no peak
        "official": {"out_of_memory": "CUDA out of memory."},
    }  # fmt: skip
    cuda.say(row)
    said = capsys.readouterr().out.splitlines()
    assert any("3.6 PFLOP" in line and "floor 9.000 s" in line for line in said)
    paper, fast, official = (
        next(line for line in said if line.startswith(f"  {name} "))
        for name in ("paper", "fast", "official")
    )
    assert "2.00 times the floor" in paper
    assert "peak 18.0 GiB" in paper
    assert "peak -" in fast
    assert "29,568,240,000 bytes of logits" in official


def test_tiny_runs_every_row_that_was_asked_for(monkeypatch, capsys):
    """The real command line; one part alone is enough to see which rows it takes."""
    done = []

    def measure(row, options, *rest):
        done.append((row, options.tiny))
        return {"backbone": "b", "frames": 9, "paper": {}, "fast": {}, "official": {}}

    monkeypatch.setattr(cuda, "measure", measure)
    monkeypatch.setattr(sys, "argv", ["cuda", "--tiny", "--rows", "5b-24", "1.5-81"])
    assert cuda.main() == 0
    assert done == [("5b-24", True), ("1.5-81", True)]
    assert capsys.readouterr().out.count("not measured") == 6


@pytest.mark.parametrize("row", ["5b-24", "2b-24", "1.5-81"])
@pytest.mark.filterwarnings("ignore:The card was trained with keys and values")
def test_every_part_is_measured_and_kept(row):
    """On a GPU where there is one: devices must match there."""
    place = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    options = argparse.Namespace(tiny=True, cap=22.0, steps=4, cache_steps=6, repeats=1)
    kept = []
    out = cuda.measure(
        row, options, cuda_runs.Gpu(place), 1e12, lambda now: kept.append(sorted(now.keys()))
    )
    assert [len(keys) for keys in kept] == [5, 6, 7, 8]
    assert out["frames"] == models.TINY_FRAMES  # what it did, not what the row is called
    for part in ("paper", "fast", "official"):
        assert "error" not in out[part]
        assert min(out[part]["steps"]) > 0
    assert set(out["generation"]) >= {
        "plain", "applied", "plain, long", "applied, pab, long", "applied, taylorseer, long"
    }  # fmt: skip
    assert "error" not in out["generation"]


def test_the_formulas_say_what_the_cap_needs():
    small = cuda.computed("cogvideox-5b", 24, 22.0, 5e14)
    assert small["checkpointing"] == "partly"  # with `little` 22 GiB were not enough
    assert cuda.computed("cogvideox-5b", 49, 22.0, 5e14)["checkpointing"] == "on"
    assert cuda.computed("cogvideox-2b", 24, 22.0, 5e14)["checkpointing"] == "off"
    assert small["estimate_gib"] < 22.0


def test_goals_are_judged_by_what_was_measured():
    row = {
        "row": "5b-24",
        "paper": {"steps": [2.0], "card_seconds": 30.0, "peak_gib": 18.0},
        "fast": {"steps": [1.0]},
        "official": {"steps": [3.2], "card_seconds": 60.0},
        "floor_seconds": 1.0,
        "generation": {
            "plain": [10.0], "applied": [10.2], "plain, long": [50.0],
            "applied, taylorseer, compiled, long": [19.0],
        },
        "memory": {
            "apply, --offload none": {"estimate_gib": 23.0, "peak_gib": 20.0},
            "apply, --offload model": {"estimate_gib": 10.0, "peak_gib": 12.0},
            "apply, --offload group": {"estimate_gib": 4.0, "error": "RuntimeError: x"},
        },
    }  # fmt: skip
    lines = report.goals({"5b-24": row})
    said = {line.split(" | ")[0].lstrip("| "): line.split(" | ")[3:] for line in lines[2:]}
    assert said["5b training, 24 frames, peak GiB"] == ["18", "reached |"]
    assert said["5b training, 49 frames, peak GiB"] == [report.NOTHING, " |"]
    assert said["seconds per guided step, published way / ours"] == ["1.6", "reached |"]
    assert said["the same with `--recipe fast`"] == ["3.2", "reached |"]
    assert said["seconds per card, published way / ours"] == ["2", "missed |"]
    assert said["applied with cache and compile / plain"] == ["0.38", "aim reached |"]
    assert said["memory model, all rows and offload modes"] == ["-17%", "missed |"]
    small = row | {"row": "2b-24"}
    row = row | {
        "official": {"out_of_memory": "tried"},
        "generation": {
            "plain": [10.0], "applied": [10.2], "plain, long": [50.0],
            "applied, taylorseer, compiled, long": "out of memory: tried",
        },
    }  # fmt: skip
    cells = dict(zip(report.KEYS, report.cells_of(row), strict=True))
    assert cells["step ratio"] == report.NOTHING
    assert cells["fastest / plain"] == "out of memory"
    row["generation"]["applied, taylorseer, compiled, long"] = "RuntimeError: x"
    assert report.cells_of(row)[report.KEYS.index("fastest / plain")] == "failed"
    row["generation"] = {"out_of_memory": "tried"}
    cells = dict(zip(report.KEYS, report.cells_of(row), strict=True))
    assert cells["applied / plain"] == cells["fastest / plain"] == "out of memory"
    for missing in ({}, {"5b-24": row | {"official": {"error": "x"}}}):  # that is another matter
        assert "does not fit" not in "\n".join(report.goals({"2b-24": small} | missing))
    lines = "\n".join(report.goals({"5b-24": row, "2b-24": small}))
    assert "(of 2b, 24 frames: the published way of 5b does not fit this GPU) | 1.5 | 1.8" in lines
    row["paper"]["without_cap"] = "out of memory"
    assert "18* | missed" in "\n".join(report.goals({"5b-24": row}))


def test_the_memory_model_is_judged_in_every_mode():
    cases = list(cuda_memory.cases("cogvideox-5b", 49))
    assert [case.name for case in cases[:3]] == [
        "train, --offload none", "apply, --offload none", "train, --offload model",
    ]  # fmt: skip
    sizes = {case.name: case.estimate_gib for case in cases}
    assert cases[-1].checkpointing == "off"
    assert sizes["train, --checkpointing off"] > 2 * sizes["train, --offload none"]
    assert 20 < sizes["apply, --offload none"] < 25
    assert "measured 10.0 GiB: +10%, within 15%" in cuda_memory.sentence(
        {"estimate_gib": 11.0, "peak_gib": 10.0}
    )
    assert "NOT within" in cuda_memory.sentence({"estimate_gib": 8.0, "peak_gib": 10.0})
    assert "out of memory" in cuda_memory.sentence(
        {"estimate_gib": 8.0, "out_of_memory": "out of memory"}
    )


def test_a_case_of_the_memory_model_runs(monkeypatch):
    """The code around the counter, which a CPU does not have."""
    place = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    gpu, tiny = cuda_runs.Gpu(place), models.TINY_FRAMES
    adapter = models.build("cogvideox-5b", place, tiny=True)
    card = cuda_runs.ours(adapter, tiny, "fast", gpu, "on")["card"]
    seen, real = [], training_memory.checkpointed

    def checkpointed(transformer, on):
        seen.append(on)
        return real(transformer, on)

    monkeypatch.setattr(training_memory, "checkpointed", checkpointed)
    for task, checkpointing in (("train", "on"), ("apply", "on"), ("train", "off")):
        case = cuda_memory.Case(task, "none", tiny, 1.0, 1.0, checkpointing)
        found = cuda_memory.peak(adapter, card, case, gpu)
        assert found["seconds"] > 0
    assert seen == ["on", "off"]


def test_the_time_to_wait_counts_every_part():
    options = argparse.Namespace(steps=10, cache_steps=50, repeats=3)
    whole = cuda.work("5b-24", options)
    peaks = sum(case.flops for case in cuda_memory.cases("cogvideox-5b", 24))
    assert 0.01 < peaks / whole < 0.2
    rest = argparse.Namespace(steps=0, cache_steps=0, repeats=-1)  # two cards only, and the peaks
    a = architectures.ARCHITECTURES["cogvideox-5b"]
    r = memory.Request.of(models.variant("cogvideox-5b"), guided=10, frames=24, samples=1)
    cards = 2 * memory.train_flops(a, r, checkpointing="on")
    assert cuda.work("5b-24", rest) == pytest.approx(cards + peaks)
