"""The GPU benchmark, tiny on the CPU: the transcription is the algorithm, the page is honest."""

from __future__ import annotations

import torch

from benchmarks import models, report
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
    assert cells[2] == cells[9] == report.NOTHING
    assert cells[8] == "2"
    page = report.PAGE.read_text(encoding="utf-8")
    assert all(f"| {name} |" in page for name in report.NAMES.values())
    assert report.estimates() in page, (
        "python -c 'from benchmarks import report; report.write(None)'"
    )
