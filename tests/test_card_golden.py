"""The golden cards: cards that users have must stay readable, and keep their bytes."""

from __future__ import annotations

import hashlib
import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from pe_toolkit.card import MotionCard, read_card, read_info, verify_card

GOLDEN = Path(__file__).parent / "golden"
MAKE = runpy.run_path(str(GOLDEN / "make.py"))
MANIFEST = json.loads((GOLDEN / "manifest.json").read_text(encoding="utf-8"))
CASES = MAKE["CASES"]


def test_manifest_lists_every_golden_card() -> None:
    assert {path.stem for path in GOLDEN.glob("*.safetensors")} == set(MANIFEST) == set(CASES)


@pytest.mark.parametrize("case", CASES)
def test_golden_card_reads_as_the_manifest_says(case: str) -> None:
    path = GOLDEN / f"{case}.safetensors"
    expected = MANIFEST[case]
    info = read_info(path)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == expected["sha256"] == info.sha256
    assert info.size_bytes == expected["size_bytes"] == path.stat().st_size
    assert info.spec.to_dict() == expected["spec"]
    layout = {name: [dtype, list(shape)] for name, (dtype, shape) in info.tensors.items()}
    assert layout == expected["tensors"]
    assert verify_card(path) == info


@pytest.mark.parametrize("case", CASES)
def test_golden_card_holds_the_numbers_it_was_made_from(case: str) -> None:
    card = read_card(GOLDEN / f"{case}.safetensors")
    made = MAKE["tensors"](case)
    assert card.tensors.keys() == made.keys()
    for name, array in made.items():
        assert card.tensors[name].dtype == array.dtype
        np.testing.assert_array_equal(card.tensors[name], array)


@pytest.mark.parametrize("case", CASES)
def test_written_again_a_golden_card_has_the_same_bytes(case: str, tmp_path: Path) -> None:
    golden = GOLDEN / f"{case}.safetensors"
    for name, card in {"read": MotionCard.load(golden), "made": MAKE["build"](case)}.items():
        info = card.save(tmp_path / name)
        assert (tmp_path / name).read_bytes() == golden.read_bytes()
        assert info == read_info(golden)


@pytest.mark.parametrize("case", CASES)
def test_the_safetensors_library_agrees_in_both_directions(case: str) -> None:
    path = GOLDEN / f"{case}.safetensors"
    with safetensors.safe_open(path, "numpy") as file:
        metadata = file.metadata()
    assert list(metadata) == ["pe_card"]
    assert json.loads(metadata["pe_card"]) == MANIFEST[case]["spec"]
    loaded = safetensors.numpy.load_file(path)
    card = read_card(path)
    assert loaded.keys() == card.tensors.keys()
    for name, array in card.tensors.items():
        np.testing.assert_array_equal(loaded[name], array)
    assert safetensors.numpy.save(dict(card.tensors), metadata=metadata) == path.read_bytes()


def test_digest_is_what_the_format_page_says() -> None:
    """Computed here from the words of docs/card-format.md, with nothing of the package."""
    path = GOLDEN / "rotary-angle.safetensors"
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    spec = json.loads(header.pop("__metadata__")["pe_card"])
    digest = spec.pop("digest")

    def canonical(value: object) -> bytes:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    hashed = canonical(spec) + b"\n"
    for name in sorted(header):
        entry = header[name]
        start, stop = entry["data_offsets"]
        hashed += canonical([name, entry["dtype"], entry["shape"]]) + b"\n"
        hashed += raw[8 + length + start : 8 + length + stop]
    assert digest == "sha256:" + hashlib.sha256(hashed).hexdigest()
