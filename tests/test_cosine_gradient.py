"""The published gradient of the cosine tables: the script shows what docs/decisions.md says."""

from __future__ import annotations

import re

import pytest

from benchmarks import cosine_gradient


def test_only_the_published_cosines_are_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    cosine_gradient.main()
    said = capsys.readouterr().out
    true = [float(x) for x in re.findall(r"-?\d+\.\d+", said.splitlines()[0])]
    rows = {
        line[:30].strip(): [float(x) for x in line[30:].split()] for line in said.splitlines()[3:6]
    }
    for name in ("with one copy added", "ours"):
        assert rows[name][:2] == pytest.approx(true, rel=5e-3)
        assert rows[name][2] < 1e-3
    cosines, sines, wrong = rows["as published"]
    assert abs(cosines - true[0]) > 0.2 * abs(true[0])
    assert sines == pytest.approx(true[1], rel=5e-3)
    assert wrong > 0.1
    assert "modified by an inplace operation" in said
