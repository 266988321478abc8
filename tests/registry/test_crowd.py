"""Many processes at once, and processes that are killed (long runs: `benchmarks.registry`)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pe_toolkit.registry.locks import MARK
from pe_toolkit.registry.store import Store
from tests.registry.cards import make_card
from tests.registry.crowd import LEAST
from tests.registry.killing import fill_disk, kill, kill_rebuilds

ROOT = Path(__file__).parents[2]


@pytest.fixture
def cards(tmp_path: Path) -> Path:
    folder = tmp_path / "cards"
    folder.mkdir()
    for seed in range(6):
        make_card(folder, seed=seed)
    return folder


def test_processes_share_a_registry(tmp_path: Path, cards: Path) -> None:
    root = tmp_path / "registry"
    command = [sys.executable, "-m", "tests.registry.crowd", str(root), str(cards)]
    runs = [
        subprocess.Popen([*command, str(seed), "1.5"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for seed in range(4)
    ]
    said = [run.communicate(timeout=100)[0] for run in runs]
    assert [run.returncode for run in runs] == [0] * 4
    results = [json.loads(text) for text in said]
    assert [result["errors"] for result in results] == [[]] * 4
    assert all(sum(result["done"].values()) >= LEAST for result in results)
    expected = {name: digest for result in results for name, digest in result["mine"].items()}
    store = Store(root)
    assert {entry.name: entry.digest for entry in store.entries()} == expected
    assert [error for _, error in store.verify_all() if error] == []
    store.gc()
    files = list((root / "objects").rglob("*.safetensors"))
    assert len(files) == len(set(expected.values()))


@pytest.mark.skipif(os.name == "nt", reason="forks and kills")
@pytest.mark.parametrize("by_file", [False, True])
def test_kill_9_loses_nothing(tmp_path: Path, cards: Path, by_file: bool) -> None:
    """Also where a lock file takes the place of locks that do nothing."""
    (tmp_path / "registry").mkdir()
    if by_file:
        (tmp_path / "registry" / MARK).touch()
    toll = kill(tmp_path / "registry", cards, 15, longest=0.2)
    assert sum(toll.kills.values()) == 15
    assert toll.finished
    assert toll.slowest < 10


@pytest.mark.skipif(os.name == "nt", reason="forks and kills")
def test_kill_9_of_a_rebuild_loses_nothing(tmp_path: Path, cards: Path) -> None:
    toll = kill_rebuilds(tmp_path / "registry", cards, 10, longest=0.05)
    assert sum(toll.kills.values()) == 10
    fill_disk(tmp_path / "registry", (0, 1000, 9000), toll)
    assert toll.finished["full"] == 3
