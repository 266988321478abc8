"""Writing cards: same content, same bytes; all of the file or nothing; no torch to read one."""

from __future__ import annotations

import copy
import hashlib
import os
import pickle
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pe_toolkit.card import CardSpec, MotionCard, read_card, read_info, verify_card
from pe_toolkit.errors import CardError, OutputError, OutputExistsError
from pe_toolkit.writing import write_atomically

ROOT = Path(__file__).parent.parent
GOLDEN = Path(__file__).parent / "golden"
MAKE = runpy.run_path(str(GOLDEN / "make.py"))
build = MAKE["build"]


def python(code: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter that sees this checkout."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
    )


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_save_and_load(tmp_path: Path) -> None:
    card = build()
    path = tmp_path / "a card ünïcode 🎬.safetensors"
    info = card.save(path)
    again = MotionCard.load(path)
    assert again.spec == card.spec == info.spec
    assert again.digest == card.digest == info.spec.digest
    assert again.guided_steps == 2
    assert info.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert info == read_info(path) == verify_card(path)
    assert leftovers(tmp_path) == [path.name]


def test_summaries_are_plain_json_values(tmp_path: Path) -> None:
    card = build()
    info = card.save(tmp_path / "x")
    summary = card.summary()
    assert summary["card"]["digest"] == card.digest
    assert summary["tensors"]["positions"] == {"dtype": "F16", "shape": [2, 2, 12, 4], "bytes": 384}
    extra = {"size_bytes": info.size_bytes, "sha256": info.sha256}
    assert info.summary() == summary | extra | {"tensors": info.summary()["tensors"]}
    assert info.summary()["tensors"] == summary["tensors"]


def test_same_bytes_in_two_processes_with_different_hash_seeds(tmp_path: Path) -> None:
    code = (
        "import runpy, sys\nrunpy.run_path(sys.argv[1])['build'](sys.argv[2]).save(sys.argv[3])\n"
    )
    for case in MAKE["CASES"]:
        written = set()
        for seed in ("1", "2"):
            path = tmp_path / f"{case}-{seed}"
            done = python(code, GOLDEN / "make.py", case, path, PYTHONHASHSEED=seed)
            assert done.returncode == 0, done.stderr
            written.add(path.read_bytes())
        assert written == {(GOLDEN / f"{case}.safetensors").read_bytes()}


def test_reading_imports_neither_torch_nor_diffusers_nor_safetensors() -> None:
    code = (
        "import sys\n"
        "import pe_toolkit.card as card\n"
        "assert 'numpy' not in sys.modules\n"
        "for name in card.__all__: getattr(card, name)\n"
        "card.read_info(sys.argv[1]); card.read_card(sys.argv[1]); card.verify_card(sys.argv[1])\n"
        "bad = {m.split('.')[0] for m in sys.modules} & "
        "{'torch', 'diffusers', 'transformers', 'safetensors'}\n"
        "assert not bad, bad\n"
    )
    done = python(code, GOLDEN / "rotary-angle.safetensors")
    assert done.returncode == 0, done.stderr


def test_unknown_names_of_the_package_are_attribute_errors() -> None:
    import pe_toolkit.card

    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = pe_toolkit.card.nothing
    assert set(pe_toolkit.card.__all__) == set(pe_toolkit.card._WHERE)


def test_layout_in_memory_does_not_change_the_bytes(tmp_path: Path) -> None:
    card = build()
    strided = {name: np.repeat(array, 2, axis=-1)[..., ::2] for name, array in card.tensors.items()}
    shuffled = dict(reversed(strided.items()))
    MotionCard(card.spec, shuffled).save(tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == (GOLDEN / "rotary-angle.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: t.pop("flow"), "'flow', but it is missing"),
        (lambda t: t.update(extra=t["flow"]), "unknown 'extra'"),
        (lambda t: t.update(positions=t["positions"].astype(np.float32)), "in F16, got F32"),
        (lambda t: t.update(positions=t["positions"].astype(np.float64)), "float64"),
        (lambda t: t.update(positions=t["positions"].astype(">f2")), "got '>f2'"),
        (lambda t: t.update(positions=[1.0]), "numpy array"),
        (lambda t: t.update(positions=t["positions"][:1]), "of shape"),
        (lambda t: t.update(positions=t["positions"][..., :0]), "of shape"),
        (lambda t: t.update(flow=np.zeros((), np.int8)), "of shape"),
        (lambda t: t["positions"].__setitem__(0, np.nan), "NaN or infinity"),
    ],
)
def test_tensors_that_do_not_fit_never_become_a_card(change: Any, reason: str) -> None:
    tensors = MAKE["tensors"]()
    change(tensors)
    with pytest.raises(CardError, match=reason):
        MotionCard(build().spec.unsealed(), tensors)


def test_free_sides_must_make_sense() -> None:
    tensors = MAKE["tensors"]("rotary-table")
    tensors["positions"] = tensors["positions"][..., :7]
    with pytest.raises(CardError, match="even head_dim"):
        MotionCard(build("rotary-table").spec.unsealed(), tensors)
    tensors = MAKE["tensors"]("latents")
    latents = tensors["latents"]
    for wrong in (latents[:, :2], latents[..., :2], latents[..., :3]):
        with pytest.raises(CardError, match="square patches"):
            MotionCard(build("latents").spec.unsealed(), tensors | {"latents": wrong})
    doubled = np.repeat(latents, 2, axis=1)  # patches of two latent frames
    MotionCard(build("latents").spec.unsealed(), tensors | {"latents": doubled})


def test_another_description_needs_another_digest() -> None:
    card = build()
    with pytest.raises(CardError, match="digest"):
        MotionCard(replace(card.spec, name="other"), card.tensors)
    other = MotionCard(replace(card.spec, name="other", digest=""), card.tensors)
    assert other.digest != card.digest


def test_tensors_changed_in_place_are_not_saved(tmp_path: Path) -> None:
    card = build()
    card.tensors["positions"][0, 0, 0, 0] += 1
    with pytest.raises(CardError, match="digest"):
        card.save(tmp_path / "x")
    assert leftovers(tmp_path) == []


def test_tensors_are_not_exchanged_unchecked() -> None:
    card = build()
    with pytest.raises(TypeError):
        card.tensors["flow"] = None  # type: ignore[index]
    assert (card.tensors | {"flow": None})["flow"] is None


@pytest.mark.parametrize(
    "copied",
    [lambda card: pickle.loads(pickle.dumps(card)), copy.deepcopy, copy.copy, replace],
    ids=["pickle", "deepcopy", "copy", "replace"],
)
def test_copies_are_cards(copied: Callable[[MotionCard], MotionCard]) -> None:
    card = build()
    again = copied(card)
    assert (again.spec, again.digest) == (card.spec, card.digest)
    assert again.tensors.keys() == card.tensors.keys()
    for name, array in card.tensors.items():
        np.testing.assert_array_equal(again.tensors[name], array)


def test_loaded_tensors_can_go_to_torch_without_a_copy() -> None:
    for array in read_card(GOLDEN / "latents.safetensors").tensors.values():
        assert array.flags.writeable
        assert array.flags.c_contiguous
        assert array.dtype.isnative


def test_a_description_too_long_for_a_header_is_refused(tmp_path: Path) -> None:
    samples = [{"prompt": "\x01" * 2000, "seed": 1}] * 256
    spec = CardSpec.from_dict(MAKE["description"]() | {"samples": samples})
    with pytest.raises(CardError, match="at most 1048576 bytes"):
        MotionCard(spec, MAKE["tensors"]()).save(tmp_path / "x")
    assert leftovers(tmp_path) == []


def test_an_existing_file_is_kept_without_force(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("precious")
    with pytest.raises(OutputExistsError) as caught:
        build().save(path)
    assert "--force" in (caught.value.hint or "")
    assert path.read_text() == "precious"
    build().save(path, force=True)
    assert verify_card(path)
    assert leftovers(tmp_path) == ["x"]


def test_a_dangling_link_counts_as_existing(tmp_path: Path) -> None:
    (tmp_path / "x").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputExistsError):
        build().save(tmp_path / "x")


def test_a_file_that_comes_while_we_write_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "x"

    def chunks() -> Any:
        yield b"ours"
        path.write_text("theirs")

    with pytest.raises(OutputExistsError):
        write_atomically(path, chunks())
    assert path.read_text() == "theirs"
    assert leftovers(tmp_path) == ["x"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, MemoryError])
def test_an_interrupted_write_leaves_nothing_behind(
    stop: type[BaseException], tmp_path: Path
) -> None:
    path = tmp_path / "x"
    path.write_text("old")

    def chunks() -> Any:
        yield b"half"
        raise stop

    with pytest.raises(stop):
        write_atomically(path, chunks(), force=True)
    assert path.read_text() == "old"
    assert leftovers(tmp_path) == ["x"]


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for path in (
        tmp_path / "missing" / "x",
        tmp_path / "file" / "x",
        tmp_path / "folder",
        tmp_path / ("x" * 300),
        tmp_path / "nul\0byte",
    ):
        with pytest.raises(OutputError) as caught:
            build().save(path, force=True)
        assert caught.value.hint
    assert leftovers(tmp_path) == ["file", "folder"]
    assert leftovers(tmp_path / "folder") == []


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    build().save(tmp_path / "card")
    (tmp_path / "plain").write_text("")
    assert (tmp_path / "card").stat().st_mode == (tmp_path / "plain").stat().st_mode


SAVE = """
import os, resource, runpy, sys
from pe_toolkit.errors import OutputError
card = runpy.run_path(sys.argv[1])["build"]()
{limit}
try:
    card.save(sys.argv[2], force=True)
except OutputError as error:
    assert error.hint
    print(error.message)
    sys.exit(3)
"""


def test_a_full_disk_keeps_the_old_file_and_leaves_nothing(tmp_path: Path) -> None:
    """The largest file the process may write is limited, so that the system itself refuses."""
    path = tmp_path / "x"
    path.write_text("old")
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))"
    done = python(SAVE.format(limit=limit), GOLDEN / "make.py", path)
    assert done.returncode == 3, done.stderr
    assert "File too large" in done.stdout
    assert path.read_text() == "old"
    assert leftovers(tmp_path) == ["x"]


def test_an_unwritable_folder_is_an_output_error() -> None:
    """The child gives up root, for which no folder is unwritable."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "folder"
        folder.mkdir()
        folder.chmod(0o555)
        Path(name).chmod(0o755)
        limit = "os.geteuid() == 0 and os.seteuid(65534)"
        done = python(SAVE.format(limit=limit), GOLDEN / "make.py", folder / "x")
        assert done.returncode == 3, done.stderr
        assert "Permission denied" in done.stdout
        assert leftovers(folder) == []
        folder.chmod(0o755)


def test_a_card_prints_as_one_short_line() -> None:
    text = repr(MAKE["build"]("latents"))
    assert text.startswith(
        "<MotionCard 'golden-latents' 1.0.0: latents, 2 guided steps, bundled, sha"
    )
    assert len(text) < 200
    assert "\n" not in text
