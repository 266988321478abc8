"""Files that are no cards, and cards that lie in exactly one way: each a clear `CardError`."""

from __future__ import annotations

import io
import json
import os
import pickle
import runpy
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pe_toolkit.card import CardSpec, MotionCard, read_card, read_info, verify_card
from pe_toolkit.card.tensors import content_digest
from pe_toolkit.card.text import canonical_json
from pe_toolkit.errors import CardError, CardVersionError

GOLDEN = Path(__file__).parent / "golden"
MAKE = runpy.run_path(str(GOLDEN / "make.py"))
RAW = (GOLDEN / "rotary-angle.safetensors").read_bytes()
LENGTH = int.from_bytes(RAW[:8], "little")
DATA = RAW[8 + LENGTH :]

READERS = [read_info, read_card, verify_card]


def join(header: bytes, data: bytes = DATA) -> bytes:
    """A file around any header bytes, padded as the format wants it."""
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data


def edited(edit: Callable[[dict[str, Any]], object]) -> bytes:
    """The golden card with an edited header, in the same spelling."""
    header = json.loads(RAW[8 : 8 + LENGTH])
    edit(header)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False)
    return join(text.encode())


def described(edit: Callable[[dict[str, Any]], object]) -> bytes:
    """The golden card with an edited description, the digest left alone."""

    def change(header: dict[str, Any]) -> None:
        spec = json.loads(header["__metadata__"]["pe_card"])
        edit(spec)
        header["__metadata__"]["pe_card"] = canonical_json(spec).decode()

    return edited(change)


def put(header: dict[str, Any], name: str, **values: object) -> None:
    header[name].update(values)


def test_the_helpers_change_nothing_by_themselves() -> None:
    assert edited(lambda header: None) == RAW
    assert described(lambda spec: None) == RAW


def pickled(protocol: int) -> bytes:
    return pickle.dumps({"weights": [1.0] * 20}, protocol=protocol)


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("data.pkl", pickled(2))
    return buffer.getvalue()


STRANGERS = {
    "empty": (b"", "empty file"),
    "seven bytes": (RAW[:7], "too short"),
    "length only": (RAW[:8], "announces a header"),
    "pickle 2": (pickled(2), "a pickle"),
    "pickle 4": (pickled(4), "a pickle"),
    "pickle 5": (pickled(5), "a pickle"),
    "zip": (zipped(), "a zip archive"),
    "json": (b'{\n  "card": {}\n}\n', "a JSON file"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(100), "a PNG picture"),
    "mp4": (b"\x00\x00\x00\x20ftypisom" + bytes(100), "an MP4 video"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\n", "Git LFS pointer"),
    "text": (b"this is not a card, it is a letter to a friend", "announces a header"),
    "zeros": (bytes(64), "without a safetensors header"),
    "foreign": (safetensors.numpy.save({"lora": np.zeros(4, np.float32)}), "without 'pe_card'"),
    "foreign with metadata": (
        safetensors.numpy.save({"lora": np.zeros(4, np.float32)}, metadata={"format": "pt"}),
        "without 'pe_card'",
    ),
    "foreign, large header": (join(b"{" + b" " * (1 << 20) + b"}"), "at most 1048576 bytes"),
    "4 GB header": ((4 << 30).to_bytes(8, "little") + RAW[8:], "4294967296 bytes, but the file"),
    "2**64 header": (b"\xff" * 8 + RAW[8:], "18446744073709551615 bytes, but"),
    "header longer by one": ((LENGTH + 1).to_bytes(8, "little") + RAW[8:], "JSON"),
    "header shorter by one": ((LENGTH - 1).to_bytes(8, "little") + RAW[8:], ""),
    "header cut short": ((LENGTH // 2).to_bytes(8, "little") + RAW[8:], "JSON"),
    "truncated in the header": (RAW[: LENGTH // 2], "cut off"),
    "truncated in the tensors": (RAW[:-1], "cut off"),
    "no tensors": (RAW[: 8 + LENGTH], "cut off"),
    "bytes at the end": (RAW + b"\0", "bytes to spare"),
    "not JSON": (join(b"{nonsense}"), "JSON"),
    "not UTF-8": (join(b'{"\xff":1}'), "JSON"),
    "nested": (join(b'{"a":' + b"[" * 500_000), "nested too deep"),
    "duplicate key": (join(RAW[8 : 8 + LENGTH].rstrip()[:-1] + b',"flow":{}}'), "'flow' more than"),
    "header NaN": (join(b'{"__metadata__":NaN}'), "NaN"),
}

TENSOR_LIES = {
    "no metadata": (lambda h: h.pop("__metadata__"), "without 'pe_card'"),
    "metadata is a list": (lambda h: h.update(__metadata__=["pe_card"]), "without 'pe_card'"),
    "second metadata key": (lambda h: put(h, "__metadata__", format="pt"), "'format' too"),
    "metadata not a string": (lambda h: put(h, "__metadata__", pe_card={}), "to be a string"),
    "surrogate": (lambda h: put(h, "__metadata__", pe_card="x"), "JSON"),
    "entry not an object": (lambda h: h.update(flow=3), "'flow'"),
    "entry with more": (lambda h: put(h, "flow", extra=1), "data_offsets"),
    "BF16": (lambda h: put(h, "positions", dtype="BF16"), "'BF16'"),
    "dtype not a string": (lambda h: put(h, "positions", dtype=["F16"]), "one of F32"),
    "U8 for I8": (lambda h: put(h, "flow", dtype="U8"), "'flow' in I8"),
    "smaller dtype": (lambda h: put(h, "positions", dtype="I8"), "bytes"),
    "negative side": (lambda h: put(h, "flow", shape=[3, 3, -2, -2, 2]), "sides of at least 1"),
    "zero side": (lambda h: put(h, "flow", shape=[0]), "sides of at least 1"),
    "huge side": (lambda h: put(h, "flow", shape=[2**62, 2**62]), "bytes"),
    "true as a side": (lambda h: put(h, "flow", shape=[True, 72]), "sides of at least 1"),
    "float side": (lambda h: put(h, "flow", shape=[72.0]), "sides of at least 1"),
    "no sides": (lambda h: put(h, "flow", shape=[]), "sides of at least 1"),
    "many sides": (lambda h: put(h, "flow", shape=[1] * 9), "sides of at least 1"),
    "three offsets": (lambda h: put(h, "flow", data_offsets=[0, 1, 2]), "two offsets"),
    "negative offset": (lambda h: put(h, "flow", data_offsets=[-72, 0]), "two offsets"),
    "huge offset": (lambda h: put(h, "flow", data_offsets=[2**70, 2**70 + 72]), "to begin at byte"),
    "overlap": (lambda h: put(h, "flow", data_offsets=[0, 72]), "to begin at byte"),
    "hole": (lambda h: put(h, "flow_mask", data_offsets=[460, 496]), "to begin at byte"),
    "other shape, same bytes": (lambda h: put(h, "flow", shape=[72]), "(3, 3, 2, 2, 2)"),
    "steps and tokens swapped": (lambda h: put(h, "positions", shape=[12, 2, 2, 4]), "(2, 2, 12"),
    "tensor missing": (lambda h: h.update(other=h.pop("flow")), "unknown 'other'"),
    "many tensors": (lambda h: h.update({str(i): h["flow"] for i in range(17)}), "up to 16"),
    "order of keys": (lambda h: h.update(flow=h.pop("flow")), "canonical form"),
}

SPEC_LIES = {
    "other format": (lambda s: s.update(format="x"), "not a motion card"),
    "no format": (lambda s: s.pop("format"), "not a motion card"),
    "version 0.9": (lambda s: s.update(format_version="0.9"), "never published"),
    "noise of generations in 1.3": (
        lambda s: (
            s.update(format_version="1.3"),
            s["recipe"].update(kv="required", kv_noise="generation"),
        ),
        "came with 1.4",
    ),
    "phase in 1.3": (
        lambda s: (
            s.update(format_version="1.3"),
            s["recipe"].update(phase={"radius": 1.5, "gamma": 2.0}),
        ),
        "came with 1.4",
    ),
    "ground in 1.4": (
        lambda s: (
            s.update(format_version="1.4"),
            s["recipe"].update(phase={"radius": 1.5, "gamma": 2.0}, ground=1.0),
        ),
        "came with 2.0",
    ),
    "ground of no phase": (
        lambda s: (s.update(format_version="2.0"), s["recipe"].update(ground=1.0)),
        "to have `recipe.phase`",
    ),
    "ground of nothing": (
        lambda s: (
            s.update(format_version="2.0"),
            s["recipe"].update(phase={"radius": 1.5, "gamma": 2.0}, ground=0.0),
        ),
        "recipe.ground",
    ),
    "phase without its tensor": (
        lambda s: (
            s.update(format_version="1.4"),
            s["recipe"].update(phase={"radius": 1.5, "gamma": 2.0}),
        ),
        "'phase', but it is missing",
    ),
    "phase of more cycles than there are": (
        lambda s: (
            s.update(format_version="1.4"),
            s["recipe"].update(phase={"radius": 1e9, "gamma": 2.0}),
        ),
        "recipe.phase.radius",
    ),
    "another objective in 1.3": (
        lambda s: (s.update(format_version="1.3"), s["recipe"].update(objective="smm")),
        "came with 1.4",
    ),
    "encoded in 1.3": (
        lambda s: (s.update(format_version="1.3"), s["reference"].update(encoded="whole")),
        "came with 1.4",
    ),
    "noise without keys and values": (
        lambda s: (s.update(format_version="1.4"), s["recipe"].update(kv_noise="generation")),
        "required only",
    ),
    "noise of something else": (
        lambda s: (
            s.update(format_version="1.4"),
            s["recipe"].update(kv="required", kv_noise="seed"),
        ),
        "recipe.kv_noise",
    ),
    "encoded in some way": (
        lambda s: (s.update(format_version="1.4"), s["reference"].update(encoded="halves")),
        "reference.encoded",
    ),
    "tracked in 1.0": (lambda s: s["recipe"].update(mask="tracked"), "came with 1.1"),
    "reference block in 1.0": (lambda s: s["recipe"].update(reference_block=2), "came with 1.1"),
    "reference block null": (lambda s: s["recipe"].update(reference_block=None), "canonical"),
    "reference block -1": (
        lambda s: s["recipe"].update(reference_block=-1),
        "`recipe.reference_block` to be from 0",
    ),
    "used in 1.1": (
        lambda s: (s.update(format_version="1.1"), s["reference"].update(used=1.0)),
        "came with 1.2",
    ),
    "used 0": (
        lambda s: (s.update(format_version="1.2"), s["reference"].update(used=0.0)),
        "above 0 up to",
    ),
    "fit in 1.0": (lambda s: s["reference"].update(fit="crop"), "came with 1.2"),
    "reading in 1.2": (
        lambda s: (
            s.update(format_version="1.2"),
            s["recipe"].update(reading={"blocks": [1], "by": "content", "timestep": 0}),
        ),
        "came with 1.3",
    ),
    "start scale in 1.0": (
        lambda s: s["recipe"].update(start="flow", start_scale=2.0),
        "came with 1.3",
    ),
    "start scale of nothing": (
        lambda s: (s.update(format_version="1.3"), s["recipe"].update(start_scale=2.0)),
        "with the start `flow` or `layers` only",
    ),
    "reading and reference block": (
        lambda s: (
            s.update(format_version="1.3"),
            s["recipe"].update(
                reference_block=2, reading={"blocks": [1], "by": "content", "timestep": 0}
            ),
        ),
        "got both",
    ),
    "reading of falling blocks": (
        lambda s: (
            s.update(format_version="1.3"),
            s["recipe"].update(reading={"blocks": [2, 1], "by": "content", "timestep": 0}),
        ),
        "rising block numbers",
    ),
    "reading by magic": (
        lambda s: (
            s.update(format_version="1.3"),
            s["recipe"].update(reading={"blocks": [2], "by": "magic", "timestep": 0}),
        ),
        "`recipe.reading.by`",
    ),
    "negative prompt in 1.2": (
        lambda s: (
            s.update(format_version="1.2"),
            s["schedule"].update(negative_prompt="bad quality"),
        ),
        "came with 1.3",
    ),
    "empty negative prompt": (
        lambda s: (s.update(format_version="1.3"), s["schedule"].update(negative_prompt="")),
        "`schedule.negative_prompt` to be 1 to 2000 characters",
    ),
    "endless negative prompt": (
        lambda s: (
            s.update(format_version="1.3"),
            s["schedule"].update(negative_prompt="x" * 2001),
        ),
        "`schedule.negative_prompt` to be 1 to 2000 characters",
    ),
    "negative prompt null": (
        lambda s: (s.update(format_version="1.3"), s["schedule"].update(negative_prompt=None)),
        "canonical",
    ),
    "parent in 1.3": (
        lambda s: s.update(format_version="1.3", parent="sha256:" + "d4" * 32),
        "came with 1.4",
    ),
    "parent null": (lambda s: s.update(format_version="1.4", parent=None), "canonical"),
    "parent by name": (lambda s: s.update(format_version="1.4", parent="wave"), "`parent`"),
    "version 1.5": (lambda s: s.update(format_version="1.5"), "never published"),
    "version 1": (lambda s: s.update(format_version=1), "such as '2.0'"),
    "version 1.0.0": (lambda s: s.update(format_version="1.0.0"), "such as '2.0'"),
    "unknown key": (lambda s: s.update(extra=1), "unknown key 'extra'"),
    "unknown key inside": (lambda s: s["recipe"].update(extra=1), "unknown key 'extra'"),
    "missing key": (lambda s: s.pop("grid"), "'grid', but it is missing"),
    "whole number for a float": (lambda s: s["recipe"].update(tau=2), "canonical form"),
    "other grid": (lambda s: s["grid"].update(frames=4), "'positions' of shape"),
    "transposed grid": (lambda s: s["grid"].update(height=1, width=4), "'flow' of shape"),
    "one guided step more": (
        lambda s: (
            s["schedule"].update(timesteps=[3, 2, 1], noise=[0.5, 0.5, 0.5]),
            s["training"].update(loss=[[1.0, 1.0]] * 3),
        ),
        "3 guided steps",
    ),
    "other kind": (
        lambda s: (s.update(kind="latents"), s["recipe"].update(parametrisation=None)),
        "unknown 'positions'",
    ),
    "other parametrisation": (
        lambda s: s["recipe"].update(parametrisation="table"),
        "'positions' of shape",
    ),
    "no digest": (lambda s: s.update(digest=""), "digest"),
}


def check(path: Path, data: bytes, reason: str) -> list[CardError]:
    """Every reader refuses, naming the file and the reason, with something to do next."""
    path.write_bytes(data)
    errors = []
    for read in READERS:
        with pytest.raises(CardError) as caught:
            read(path)
        assert caught.value.message.startswith(f"{path}: ")
        assert caught.value.hint
        assert reason in caught.value.message + caught.value.hint
        errors.append(caught.value)
    return errors


@pytest.mark.parametrize("case", STRANGERS)
def test_a_file_that_is_no_card(case: str, tmp_path: Path) -> None:
    data, reason = STRANGERS[case]
    check(tmp_path / "x", data, reason)


@pytest.mark.parametrize("case", ["pickle 2", "pickle 5", "zip"])
def test_a_pickle_is_never_loaded_and_the_hint_says_so(case: str, tmp_path: Path) -> None:
    for error in check(tmp_path / "x", STRANGERS[case][0], ""):
        assert "never loads pickles" in (error.hint or "")


@pytest.mark.parametrize("case", TENSOR_LIES)
def test_a_header_that_lies(case: str, tmp_path: Path) -> None:
    edit, reason = TENSOR_LIES[case]
    check(tmp_path / "x", edited(edit), reason)


@pytest.mark.parametrize("case", SPEC_LIES)
def test_a_description_that_lies(case: str, tmp_path: Path) -> None:
    edit, reason = SPEC_LIES[case]
    check(tmp_path / "x", described(edit), reason)


def test_a_description_spelled_another_way(tmp_path: Path) -> None:
    def space(header: dict[str, Any]) -> None:
        text = header["__metadata__"]["pe_card"]
        header["__metadata__"]["pe_card"] = text.replace(":", ": ", 1)

    check(tmp_path / "x", edited(space), "canonical form")


def test_a_lone_surrogate_in_the_description(tmp_path: Path) -> None:
    header = RAW[8 : 8 + LENGTH].rstrip().replace(b"golden-", rb"\\ud800-", 1)
    check(tmp_path / "x", join(header), "valid Unicode")
    header = RAW[8 : 8 + LENGTH].rstrip().replace(b"golden-", rb"\ud800-", 1)
    check(tmp_path / "x", join(header), "valid Unicode")


def test_a_newer_major_version_names_what_is_needed(tmp_path: Path) -> None:
    def newer(header: dict[str, Any]) -> None:
        header["__metadata__"]["pe_card"] = '{"format":"pe-motion-card","format_version":"3.0"}'
        header["flow"]["dtype"] = "BF16"  # whatever else is new must not hide the version

    for error in check(tmp_path / "x", edited(newer), "needs a newer pe-toolkit"):
        assert isinstance(error, CardVersionError)
        assert "Install a newer pe-toolkit" in (error.hint or "")


def test_a_newer_minor_version_is_read_strictly(tmp_path: Path) -> None:
    def newer(spec: dict[str, Any]) -> None:
        spec.update(format_version="2.7", mood="new")

    for error in check(tmp_path / "x", described(newer), "unknown key 'mood'"):
        assert isinstance(error, CardVersionError)
        assert "2.7" in error.message
        assert "Install a newer pe-toolkit" in (error.hint or "")


def test_a_newer_minor_version_without_news_is_read_and_kept(tmp_path: Path) -> None:
    case = "rotary-offset"
    spec = CardSpec.from_dict(MAKE["description"](case) | {"format_version": "2.7"})
    MotionCard(spec, MAKE["tensors"](case)).save(tmp_path / "x")
    assert read_card(tmp_path / "x").spec.format_version == "2.7"


def poisoned(name: str, index: tuple[int, ...], value: float, case: str = "rotary-angle") -> bytes:
    """A card with one wrong number and the digest that fits it: only the number is wrong."""
    spec, tensors = MAKE["build"](case).spec, MAKE["tensors"](case)
    tensors[name][index] = value
    digest = content_digest(spec, tensors)
    text = canonical_json(spec.to_dict() | {"digest": digest}).decode()
    return safetensors.numpy.save(tensors, metadata={"pe_card": text})


@pytest.mark.parametrize(
    ("name", "index", "value", "case", "reason"),
    [
        ("positions", (1, 0, 0, 0), float("nan"), "rotary-angle", "guided step 1"),
        ("positions", (0, 1, 3), float("inf"), "absolute-table", None),
        ("latents", (0, 0, 0, 0, 0), float("-inf"), "latents", "guided step 0"),
        ("flow", (0, 1, 0, 0, 0), 2, "rotary-angle", "leaves it"),
        ("flow", (0, 1, 0, 0, 1), -1, "rotary-angle", "leaves it"),
        ("flow", (0, 1, 1, 1, 1), 127, "rotary-angle", "leaves it"),
        ("flow_mask", (0, 0, 0, 0), 2, "rotary-angle", "0 and 1"),
    ],
)
def test_wrong_numbers_under_a_right_digest(
    name: str, index: tuple[int, ...], value: float, case: str, reason: str | None, tmp_path: Path
) -> None:
    if case == "absolute-table":
        index = (0, 1, 3)
    path = tmp_path / "x"
    path.write_bytes(poisoned(name, index, value, case))
    assert read_info(path)  # it looks at the description only
    for read in (read_card, verify_card):
        with pytest.raises(CardError, match=reason or "NaN or infinity"):
            read(path)


def test_any_flipped_bit_is_noticed(tmp_path: Path) -> None:
    """Each byte of the file, with one of its bits in turn."""
    path = tmp_path / "x"
    for position in range(len(RAW)):
        data = bytearray(RAW)
        data[position] ^= 1 << (position % 8)
        path.write_bytes(data)
        with pytest.raises(CardError):
            read_card(path)


def test_a_flipped_bit_in_the_tensors_names_the_digest(tmp_path: Path) -> None:
    data = bytearray(RAW)
    data[8 + LENGTH] ^= 1
    path = tmp_path / "x"
    path.write_bytes(data)
    with pytest.raises(CardError, match="digest"):
        verify_card(path)


def test_missing_folder_and_special_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, reason in {
        tmp_path / "none": "no such file",
        tmp_path: "a folder",
        tmp_path / "pipe": "device or pipe",
        tmp_path / ("x" * 300): "readable file",
        tmp_path / "nul\0byte": "readable file",
        Path("/dev/zero"): "device or pipe",
    }.items():
        for read in READERS:
            with pytest.raises(CardError, match=reason):
                read(path)


def test_a_sparse_giant_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(RAW)
    os.truncate(path, (4 << 30) + 1)
    with pytest.raises(CardError, match="at most 4294967296 bytes"):
        read_card(path)


def test_the_path_in_a_message_cannot_steer_the_terminal(tmp_path: Path) -> None:
    with pytest.raises(CardError) as caught:
        read_card(tmp_path / "\x1b[2J")
    assert "\x1b" not in caught.value.message


splices = st.lists(
    st.tuples(st.integers(0, len(RAW)), st.integers(0, 40), st.binary(max_size=40)), max_size=4
)


@settings(
    max_examples=200,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(splices=splices)
def test_fuzz_a_mutated_file_is_valid_or_a_card_error(
    splices: list[tuple[int, int, bytes]], tmp_path: Path
) -> None:
    data = RAW
    for position, removed, inserted in splices:
        data = data[:position] + inserted + data[position + removed :]
    path = tmp_path / "x"
    path.write_bytes(data)
    for read in READERS:
        try:
            read(path)
        except CardError:
            assert data != RAW
        else:
            assert read is read_info or data == RAW


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@settings(
    max_examples=200,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(value=json_values, choice=st.integers(0, 10_000))
def test_fuzz_any_value_in_any_place_of_the_header(
    value: object, choice: int, tmp_path: Path
) -> None:
    header = json.loads(RAW[8 : 8 + LENGTH])
    spec = json.loads(header["__metadata__"]["pe_card"])
    places = [(tree, node, key) for tree in (header, spec) for node, key in keys_of(tree)]
    tree, node, key = places[choice % len(places)]
    node[key] = value
    if tree is spec:
        header["__metadata__"]["pe_card"] = json.dumps(spec, ensure_ascii=False)
    path = tmp_path / "x"
    path.write_bytes(join(json.dumps(header, ensure_ascii=True).encode()))
    for read in READERS:
        with pytest.raises(CardError):
            read(path)


def keys_of(tree: Any) -> list[tuple[Any, Any]]:
    """(container, key) of every value in a JSON tree."""
    items = list(tree.items() if isinstance(tree, dict) else enumerate(tree))
    found = [(tree, key) for key, _ in items]
    for _, item in items:
        if isinstance(item, dict | list):
            found += keys_of(item)
    return found
