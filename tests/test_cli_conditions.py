"""`--kv-from`, `--image`, `--quantize` and memory switches on the command line."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from pe_toolkit.card import CardSpec, ClipSpec, MotionCard
from pe_toolkit.card.sampling import read_as_trained
from pe_toolkit.cli.errors import Session, describe
from pe_toolkit.cli.main import cli
from pe_toolkit.errors import ClipError
from pe_toolkit.video import Clip, read_clip
from tests.clips import moving_square, write_clip

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden"
PROMPT = "a yellow cross on a brown background"
SMALL = ("--size", "96x96", "--steps", "5", "--set", "K=1", "--backbone", "bundled")


def pe(*words: object) -> Result:
    result = CliRunner().invoke(cli, [str(word) for word in words])
    assert "Traceback" not in result.stderr
    return result


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    path = tmp_path / "ref.mp4"
    write_clip(path, moving_square(40))
    return path


@pytest.fixture
def requiring(tmp_path: Path) -> Path:
    """A golden card that says it was trained with keys and values."""
    card = MotionCard.load(GOLDEN / "rotary-angle.safetensors")
    recipe = replace(card.spec.recipe, kv="required")
    path = tmp_path / "kv.safetensors"
    MotionCard(replace(card.spec, recipe=recipe, digest=""), card.tensors).save(path)
    return path


def test_a_card_that_requires_a_clip_names_its_hash(requiring: Path, tmp_path: Path) -> None:
    result = pe("apply", requiring, "--prompt", PROMPT, "-o", tmp_path / "o.mp4")
    assert result.exit_code == 2
    assert MotionCard.load(requiring).spec.reference.sha256 in result.stderr.replace("\n", "")
    assert "--no-kv" in result.stderr


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--kv-from", "other.mp4"), "the reference itself"),
    ],
)
def test_requests_that_make_no_sense_are_found_early(
    reference: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    text: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "other.mp4", moving_square(30))
    result = pe("train", reference.name, "-o", "c.safetensors", *SMALL, *words)
    assert result.exit_code == 2
    assert text in " ".join(result.stderr.split())
    assert not (tmp_path / "c.safetensors").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("flow", "REF", "-o", "REF"),
        ("train", "REF", "-o", "c.safetensors", "--preview", "REF"),
        ("apply", "card.safetensors", "-o", "REF", "--side-by-side", "REF", "--prompt", "a"),
    ],
)
def test_what_is_read_is_not_overwritten_by_force_either(
    reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    clip = tmp_path / "ref.mp4"
    clip.write_bytes(reference.read_bytes())
    shutil.copy(GOLDEN / "rotary-angle-used.safetensors", tmp_path / "card.safetensors")
    result = pe(*(clip.name if word == "REF" else word for word in words), "--force")
    assert (result.exit_code, clip.read_bytes()) == (2, reference.read_bytes())
    assert "Expected another file than ref.mp4 to write, which is read." in result.stderr


def as_card(clip: Clip, recipe: str = "default") -> CardSpec:
    """What a card remembers of the clip that it was trained with."""
    spec = MotionCard.load(GOLDEN / "rotary-angle-used.safetensors").spec
    frames, height, width = clip.frames.shape[:3]
    return replace(
        spec,
        clip=ClipSpec(frames, width, height, 8.0),
        recipe=replace(spec.recipe, name=recipe),
        reference=replace(
            spec.reference, sha256=clip.sha256, start=clip.start, used=clip.used, fit=clip.fit
        ),
        digest="",
    )


@pytest.mark.parametrize("recipe", ["default", "paper"])
@pytest.mark.parametrize("start", [0.0, 0.11])
@pytest.mark.parametrize("end", [None, 0.87])
@pytest.mark.parametrize("fps", [None, "native", 8.0, 11.0, 60.0])
def test_a_reference_is_read_as_it_was_trained(
    tmp_path: Path, recipe: str, start: float, end: float | None, fps: Any
) -> None:
    """Of variable rate, so that frames evenly in time are not consecutive ones."""
    path = tmp_path / "ref.mp4"
    write_clip(path, moving_square(24), times=[i / 24 + 0.001 * i * i for i in range(24)])
    fps = fps or ("native" if recipe == "paper" else None)
    if fps == "native" and recipe == "default":
        return  # only the paper's recipe takes consecutive frames
    if fps == 8.0 and end is not None:
        return  # nine such frames do not fit
    trained = read_clip(path, start=start, end=end, frames=9, fps=fps, size=(48, 48), fit="pad")
    again = read_as_trained(path, as_card(trained, recipe))
    assert again is not None
    np.testing.assert_array_equal(again.frames, trained.frames)
    assert again.used == pytest.approx(trained.used)
    # A card from before 1.2 knows no rate: the usual one.
    old = as_card(trained, recipe)
    old = replace(old, reference=replace(old.reference, used=None))
    usual = read_clip(
        path, start=start, frames=9, fps="native" if recipe == "paper" else None, size=(48, 48),
        fit="pad",
    )  # fmt: skip
    again = read_as_trained(path, old)
    assert again is not None
    np.testing.assert_array_equal(again.frames, usual.frames)


def test_few_frames_that_were_read_at_a_rate(tmp_path: Path) -> None:
    """There are no nine consecutive frames, as the paper's recipe would take them."""
    path = tmp_path / "ref.mp4"
    write_clip(path, moving_square(6), fps=2)
    trained = read_clip(path, frames=9, fps=4.0, size=(48, 48))
    again = read_as_trained(path, as_card(trained, "paper"))
    assert again is not None
    np.testing.assert_array_equal(again.frames, trained.frames)


def test_another_clip_beside_the_result_is_shown_whole(tmp_path: Path, reference: Path) -> None:
    other = tmp_path / "other.mp4"
    write_clip(other, moving_square(30), fps=6)
    trained = read_clip(reference, frames=9, fps=30.0, size=(48, 48))
    again = read_as_trained(other, as_card(trained))
    assert again is not None
    assert again.used == pytest.approx(29 / 6)


def test_another_clip_that_ends_too_early_is_told_to_be_another(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("ref.mp4", "other.mp4", "bad.mp4")]
    for path, frames in zip(paths, (60, 24), strict=False):
        write_clip(path, moving_square(frames, (256, 64)))
    paths[2].write_bytes(b"no video")
    spec = as_card(read_clip(paths[0], start=2.0, frames=9, size=(48, 48)))
    with pytest.raises(ClipError, match="clip that the card was made from") as caught:
        read_as_trained(paths[1], spec)
    assert "'other.mp4'" in caught.value.message
    assert "a start" not in f"{caught.value.message} {caught.value.hint}"
    with pytest.raises(ClipError) as caught:
        read_as_trained(paths[2], spec)
    assert "made from" not in caught.value.message


def test_a_bad_picture_is_refused_and_a_good_one_where_nothing_looks(
    requiring: Path, reference: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"not a picture")
    words = ("apply", requiring, "--no-kv", "--prompt", PROMPT, "-o", tmp_path / "o.mp4")
    result = pe(*words, "--image", bad)
    assert result.exit_code == 1
    assert "Expected a picture" in result.stderr
    good = tmp_path / "good.png"
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(good)
    wide = tmp_path / "wide.png"
    Image.fromarray(np.zeros((32, 128, 3), np.uint8)).save(wide)
    result = pe(*words, "--image", wide)
    assert result.exit_code == 2
    assert "Image: the middle 32x32 of 128x32 (75% of the picture cut off)" in result.stderr
    pointer = tmp_path / "pointer.png"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert "'pointer.png' is a Git LFS pointer" in pe(*words, "--image", pointer).stderr
    result = pe("train", reference, "-o", tmp_path / "c.safetensors", *SMALL, "--image", good)
    assert result.exit_code == 2
    assert "Expected no image" in result.stderr


def test_the_papers_recipe_with_keys_and_values_from_end_to_end(
    reference: Path, tmp_path: Path
) -> None:
    card, out = tmp_path / "c.safetensors", tmp_path / "o.mp4"
    result = pe(
        "train", reference, "-o", card, *SMALL, "--recipe", "paper", "--kv-from", reference,
        "--prompt", PROMPT, "--checkpointing", "on", "--fps", "20", "--fit", "pad",
    )  # fmt: skip
    # The card is there, but of a thing so small attention follows little.
    assert result.exit_code == 3, result.stderr
    assert "there is little to learn from in this reference" in result.stderr
    assert "at 20 frames per second" in result.stderr
    spec = MotionCard.load(card).spec
    assert (spec.reference.used, spec.reference.fit) == (23 / 20, "pad")
    assert (spec.recipe.kv, spec.recipe.name, spec.clip.frames) == ("required", "paper", 24)
    assert (spec.recipe.parametrisation, spec.recipe.mask, spec.guided_steps) == (
        "table", "nonzero", 1,
    )  # fmt: skip
    result = pe("apply", card, "--prompt", PROMPT, "-o", out, "--kv-from", reference)
    assert result.exit_code == 0, result.stderr
    assert result.stderr.count("Warning") == 1  # 96x96
    assert json.loads(out.with_suffix(".json").read_text("utf-8"))["kv"] is True


class OutOfMemoryError(RuntimeError):
    """Bears the name of torch's, by which the table knows it without importing torch."""


@pytest.mark.parametrize(
    ("choice", "first"), [("auto", "--checkpointing on"), ("on", "--quantize")]
)
def test_out_of_memory_in_a_training_knows_what_auto_chose(
    reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, choice: str, first: str
) -> None:
    """On a CPU `auto` keeps everything, and there is nothing to move parts off."""

    def fails(*_: object) -> None:
        raise OutOfMemoryError("CUDA")

    monkeypatch.setattr("pe_toolkit.backbones.cogvideox.sampling.CogVideoXSampler.step", fails)
    result = pe(
        "train", reference, "-o", tmp_path / "c.safetensors", *SMALL, "--device", "cpu",
        "--checkpointing", choice, "--preview", tmp_path / "p.mp4",
    )  # fmt: skip
    assert result.exit_code == 1
    hint = " ".join(result.stderr.split("Hint: ")[1].split())
    assert hint.startswith(f"Try {first}")
    assert "--offload" not in hint.split("Finished steps")[0]


def test_out_of_memory_names_the_next_switch_and_keeps_the_work(tmp_path: Path) -> None:
    state = tmp_path / "c.safetensors.resume"

    def hint(**facts: object) -> str:
        session = Session(smaller="--samples 1.", **facts)  # type: ignore[arg-type]
        message, text, code = describe(OutOfMemoryError("CUDA"), session)
        assert (message, code) == ("Out of memory.", 1)
        assert text is not None
        return text

    assert hint() == "Try --samples 1."  # nothing is placed yet: there is nothing to move
    assert hint(offload="none").startswith("Try --offload model (on a GPU)")
    placed = {"gpu": True, "quantize": "none", "offload": "none"}
    assert hint(**placed, checkpointing="off") == "Try --checkpointing on, or --samples 1."
    # Before `auto` has chosen, it is the weights that do not fit.
    assert hint(**placed, checkpointing="auto") == "Try --offload model, or --samples 1."
    on = {"checkpointing": "on", "gpu": True, "quantize": "none"}
    assert hint(**on, offload="none") == "Try --offload model, or --samples 1."
    assert hint(**on, offload="model") == "Try --offload group, --quantize fp8, or --samples 1."
    assert hint(**on, offload="group").startswith("Try --offload sequential, --quantize fp8")
    assert hint(**on, offload="sequential") == "Try --quantize fp8, or --samples 1."
    done = on | {"quantize": "fp8", "offload": "sequential"}
    assert hint(**done) == "Try --samples 1."
    # Nothing can be moved off a CPU.
    assert hint(**on | {"gpu": False}, offload="none") == "Try --quantize fp8, or --samples 1."
    assert "saved" not in hint(checkpointing="on", resume=state)
    state.write_bytes(b"")
    assert "--resume continues them" in hint(checkpointing="on", resume=state)


@pytest.mark.parametrize(
    "words",
    [
        ("flow", "frames", "-o", "frames/000.png"),
        ("flow", "frames", "-o", "frames/motion.png"),
        ("train", "frames", "-o", "c.safetensors", "--plot", "frames/001.png"),
        (
            "apply",
            "card.safetensors",
            "-o",
            "v.mp4",
            "--sheet",
            "frames/s.png",
            "--side-by-side",
            "frames",
            "--prompt",
            "a",
        ),
    ],
)
def test_nothing_comes_into_a_folder_of_pictures_that_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """It would be one of them the next time, or is one now."""
    monkeypatch.chdir(tmp_path)
    Path("frames").mkdir()
    for number, picture in enumerate(moving_square(9)):
        Image.fromarray(picture).save(f"frames/{number:03d}.png")
    before = {path: path.read_bytes() for path in Path("frames").iterdir()}
    shutil.copy(GOLDEN / "rotary-angle-used.safetensors", tmp_path / "card.safetensors")
    result = pe(*words, "--force")
    assert result.exit_code == 2, result.stderr
    assert "Expected a file outside of frames to write" in result.stderr
    assert {path: path.read_bytes() for path in Path("frames").iterdir()} == before
