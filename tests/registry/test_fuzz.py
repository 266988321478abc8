"""The reader against mutated cards: each is a clean `CardError` or a sound card, and soon.

A few seconds by default; `make fuzz` and `python -m benchmarks.registry fuzz` go on for longer.
"""

from __future__ import annotations

import os
import random
import tracemalloc
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pe_toolkit.card import read_info
from pe_toolkit.cli.commands.show import describe
from pe_toolkit.errors import CardError
from tests.registry.mutate import CARDS, HOSTILE, _warped, huge_headers, judge, mutant, mutants

COUNT = int(os.environ.get("PE_FUZZ_CARDS", "400"))
SEED = int(os.environ.get("PE_FUZZ_SEED", "0"))
SECONDS = 1.0


def test_mutated_cards(tmp_path: Path) -> None:
    path = tmp_path / "mutant.safetensors"
    valid, slowest = 0, 0.0
    for number, raw in enumerate(islice(mutants(SEED), COUNT)):
        path.write_bytes(raw)
        try:
            verdict = judge(path)
        except Exception as error:
            pytest.fail(f"mutant {number} of seed {SEED}: {type(error).__name__}: {error}")
        valid += verdict.valid
        slowest = max(slowest, verdict.seconds)
    # The mutator itself: some of its cards must be sound, and most must not.
    assert 0 < valid < COUNT / 2
    assert slowest < SECONDS


def test_the_same_seed_gives_the_same_cards() -> None:
    assert list(islice(mutants(7), 50)) == list(islice(mutants(7), 50))
    assert list(islice(mutants(7), 50)) != list(islice(mutants(8), 50))


def test_hostile_values_stay_as_they_are() -> None:
    """A value that is put into one card and warped there must not reach the next one."""
    before = repr(HOSTILE)
    rng = random.Random(5)
    for _ in range(2000):
        value: dict[str, Any] = {key: [] for key in "abcdefgh"}  # more than can be taken away
        for _ in range(4):
            _warped(rng, value)
    assert repr(HOSTILE) == before


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_bytes_in_place_of_some(tmp_path: Path, data: st.DataObject) -> None:
    """hypothesis shrinks what it finds; every change of a golden card must be noticed."""
    raw = data.draw(st.sampled_from(CARDS))
    start = data.draw(st.integers(0, len(raw)))
    stop = data.draw(st.integers(start, min(len(raw), start + 40)))
    changed = raw[:start] + data.draw(st.binary(max_size=40)) + raw[stop:]
    path = tmp_path / "changed.safetensors"
    path.write_bytes(changed)
    assert judge(path).valid == (changed == raw)


def test_show_reads_no_more_than_it_checks(tmp_path: Path) -> None:
    """`read_info`, which skips the numbers, is as calm about mutants as `verify_card`."""
    rng = random.Random(SEED + 1)
    path = tmp_path / "mutant.safetensors"
    read = refused = 0
    for _ in range(100):
        path.write_bytes(mutant(rng))
        try:
            info = read_info(path)
        except CardError:
            refused += 1
        else:
            read += 1
            assert info.size_bytes == path.stat().st_size
            assert all(describe(info).values())
    assert read
    assert refused


@pytest.mark.parametrize("name", huge_headers())
def test_a_header_made_to_be_slow(name: str, tmp_path: Path) -> None:
    """At most a second, and 10 times the file plus 16 MB; also for the largest header."""
    path = tmp_path / "huge.safetensors"
    path.write_bytes(huge_headers()[name])
    verdict = judge(path)
    assert not verdict.valid
    assert verdict.seconds < SECONDS
    tracemalloc.start()
    try:
        judge(path)
        assert tracemalloc.get_traced_memory()[1] < 10 * path.stat().st_size + (16 << 20)
    finally:
        tracemalloc.stop()
