"""`pe train`, `pe apply` and `pe demo`: requests refused before anything is read or loaded."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pe_toolkit.cli.main import cli

GOLDEN = Path(__file__).parent / "golden"
CARD = GOLDEN / "rotary-angle.safetensors"
LATENTS = GOLDEN / "latents.safetensors"
PROMPT = "a red circle on a black background"


def pe(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-o", "c.txt"], "Expected -o to end in .safetensors"),
        (
            ["-o", "c.safetensors", "--preview", "p.mov"],
            "Expected --preview to end in .mp4 or .gif",
        ),
        (["-o", "c.safetensors", "--prompt", "  "], "got an empty one"),
        (
            ["-o", "c.safetensors", "--mode", "latents", "--samples", "2"],
            "one prompt and one sample",
        ),
        (
            ["-o", "c.safetensors", "--mode", "latents", "--prompt", "a", "--prompt", "b"],
            "one prompt and one sample",
        ),
        (["-o", "c.safetensors", "--mode", "latents", "--param", "table"], "Expected no --param"),
        (
            ["-o", "c.safetensors", "--backbone", "bundled-absolute", "--param", "angle"],
            "Expected --param table or offset for bundled-absolute, got angle",
        ),
        (
            ["-o", "c.safetensors", "--backbone", "cogvideox-2b", "--param", "angle"],
            "Expected --param table or offset for cogvideox-2b, got angle",
        ),
        (["-o", "c.safetensors", "--backbone", "cogvidex"], "got 'cogvidex'"),
        (["-o", "c.safetensors", "--set", "tau"], "KEY=VALUE such as tau=6, got 'tau'"),
        (["-o", "c.safetensors", "--set", "tau=1", "--set", "tau=2"], "got 'tau' more than once"),
        (["-o", "c.safetensors", "--set", "speed=2"], "block, tau, mask, K, lr, range, start"),
        (["-o", "c.safetensors", "--set", "tau=fast"], "got tau=fast"),
        (["-o", "c.safetensors", "--set", "tau=-1"], "Expected a tau above 0"),
        (["-o", "c.safetensors", "--set", "mask=any"], "Expected a mask out of"),
        (["-o", "c.safetensors", "--set", "range=1,0.5"], "Expected a guided range LOW,HIGH"),
        (["-o", "c.safetensors", "--size", "12"], "such as 720x480, got '12'"),
        (["-o", "c.safetensors", "--size", "0x9"], "such as 720x480, got '0x9'"),
        (["-o", "c.safetensors", "--fps", "nan"], "got 'nan'"),
        (["-o", "c.safetensors", "--fps", "0"], "above 0"),
        (["-o", "c.safetensors", "--start", "-1"], "from 0"),
        (["-o", "c.safetensors", "--end", "-1"], "from 0"),
        (["-o", "c.safetensors", "--end", "nan"], "got 'nan'"),
        (["-o", "c.safetensors", "--end", "0"], "Expected --end after --start (0 s), got 0 s."),
        (
            ["-o", "c.safetensors", "--start", "2", "--end", "1.5"],
            "Expected --end after --start (2 s), got 1.5 s.",
        ),
        (["-o", "c.safetensors", "--seed", "-1"], "--seed"),
        (["-o", "c.safetensors", "--seed", str(2**63)], "--seed"),
        (["-o", "c.safetensors", "--samples", "0"], "--samples"),
        (["-o", "c.safetensors", "--frames", "0"], "--frames"),
        (["-o", "c.safetensors", "--guidance-scale", "inf"], "got 'inf'"),
        (["-o", "c.safetensors", "--device", "gpu"], "got 'gpu'"),
        (["-o", "c.safetensors", "--dtype", "int8"], "--dtype"),
        (["-o", "c.safetensors", "--offload", "disk"], "--offload"),
        (["-o", "c.safetensors", "--card-version", "1"], "Expected `--card-version` to be"),
        (["-o", "c.safetensors", "--name", ""], "Expected `--name` to be"),
        (["-o", "c.safetensors", "--author", "a" * 201], "Expected `--author` to be"),
    ],
)
def test_train_refuses(
    words: list[str], message: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    result = pe("train", "missing.mp4", *words)
    assert result.exit_code == 2, result.stderr
    assert message in " ".join(result.stderr.split())
    assert list(folder.iterdir()) == []


def test_train_output_exists(folder: Path) -> None:
    card = folder / "c.safetensors"
    card.write_bytes(b"mine")
    result = pe("train", "missing.mp4", "-o", card)
    assert result.exit_code == 2
    assert "--force" in result.stderr
    assert card.read_bytes() == b"mine"


def test_train_preview_exists(folder: Path) -> None:
    video = folder / "p.mp4"
    video.touch()
    result = pe("train", "missing.mp4", "-o", folder / "c.safetensors", "--preview", video)
    assert result.exit_code == 2
    assert "p.mp4" in result.stderr


def test_train_folder_in_the_way(folder: Path) -> None:
    (folder / "c.safetensors").mkdir()
    result = pe("train", "missing.mp4", "-o", folder / "c.safetensors", "--force")
    assert result.exit_code == 2
    assert "got the folder" in result.stderr


def test_train_into_a_missing_folder(folder: Path) -> None:
    result = pe("train", "missing.mp4", "-o", folder / "a b" / "c.safetensors")
    assert result.exit_code == 1
    assert f"mkdir -p '{folder / 'a b'}'" in result.stderr


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder nobody can write to")
def test_train_into_a_folder_that_takes_no_files() -> None:
    result = pe("train", "missing.mp4", "-o", "/proc/self/c.safetensors")
    assert result.exit_code == 1
    assert "Expected to write into /proc/self, but: it takes no files." in result.stderr


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes anywhere")
def test_train_into_a_read_only_folder(folder: Path) -> None:
    folder.chmod(0o500)
    result = pe("train", "missing.mp4", "-o", folder / "c.safetensors")
    folder.chmod(0o700)
    assert result.exit_code == 1
    assert "Expected to write into" in result.stderr


def test_train_on_a_card(folder: Path) -> None:
    card = Path(__file__).parent / "golden" / "rotary-offset.safetensors"
    result = pe("train", card, "-o", folder / "c.safetensors", "--backbone", "bundled")
    assert result.exit_code == 1
    assert "'rotary-offset.safetensors' is a motion card." in result.stderr
    assert "pe apply" in result.stderr


def test_resume_without_a_state(folder: Path) -> None:
    result = pe("train", "missing.mp4", "-o", folder / "c.safetensors", "--resume")
    assert result.exit_code == 1
    assert "c.safetensors.resume, found none" in result.stderr


def test_a_state_is_not_thrown_away_by_accident(folder: Path) -> None:
    state = folder / "c.safetensors.resume"
    state.write_bytes(b"work")
    result = pe("train", "missing.mp4", "-o", folder / "c.safetensors")
    assert result.exit_code == 2
    assert "--resume" in result.stderr
    assert state.read_bytes() == b"work"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Expected --prompt or --prompt-file, got none."),
        (["--prompt", ""], "got an empty one"),
        (["--prompt", PROMPT, "--prompt", PROMPT], "Expected each --prompt once"),
        (["--prompt", PROMPT, "--seed", "1", "--seed", "1"], "Expected each --seed once"),
        (["--prompt", PROMPT, "--strength", "2.5"], "from 0 up to 2, got '2.5'"),
        (["--prompt", PROMPT, "--strength", "nan"], "got 'nan'"),
        (["--prompt", PROMPT, "--scheduler", "euler"], "--scheduler"),
        (["--prompt", PROMPT, "--sheet", "sheet.jpg"], "Expected --sheet to end in .png"),
        (["--prompt-file", "none.txt"], "Expected a readable --prompt-file"),
    ],
)
def test_apply_refuses(words: list[str], message: str, folder: Path) -> None:
    result = pe("apply", CARD, "-o", folder / "out.mp4", *words)
    assert result.exit_code == 2, result.stderr
    assert message in " ".join(result.stderr.split())
    assert list(folder.iterdir()) == []


def test_apply_wants_mp4(folder: Path) -> None:
    result = pe("apply", CARD, "--prompt", PROMPT, "-o", folder / "out.avi")
    assert result.exit_code == 2
    assert "Use -o out.mp4" in result.stderr


@pytest.mark.parametrize(
    "name", ["out-p01-s1.mp4", "out-p02-s2.json", "out-p02-s1-side-by-side.mp4"]
)
def test_apply_finds_every_existing_output_before_any_work(name: str, folder: Path) -> None:
    (folder / name).touch()
    result = pe(
        "apply", CARD, "--prompt", PROMPT, "--prompt", "a blue cross on a grey background",
        "--seed", 1, "--seed", 2, "--side-by-side", "ref.mp4", "-o", folder / "out.mp4",
    )  # fmt: skip
    assert result.exit_code == 2
    assert name in result.stderr
    assert "--force" in result.stderr


def test_apply_finds_an_existing_sheet(folder: Path) -> None:
    (folder / "s.png").touch()
    words = ("--prompt", PROMPT, "-o", folder / "out.mp4", "--sheet", folder / "s.png")
    result = pe("apply", CARD, *words)
    assert result.exit_code == 2
    assert "s.png" in result.stderr


def test_apply_damaged_card(folder: Path) -> None:
    bad = folder / "bad.safetensors"
    bad.write_bytes(CARD.read_bytes()[:-3])
    result = pe("apply", bad, "--prompt", PROMPT, "-o", folder / "out.mp4")
    assert result.exit_code == 1
    assert "cut off" in result.stderr


@pytest.mark.parametrize(
    "words", [["--seed", 7], ["--strength", "0.5"], ["--scheduler", "dpm"], ["--steps", 7]]
)
def test_latents_cards_are_bound(words: list[object], folder: Path) -> None:
    result = pe("apply", LATENTS, "--prompt", PROMPT, "-o", folder / "out.mp4", *words)
    assert result.exit_code == 2
    assert f"Expected no {words[0]} with a latents card" in result.stderr


def test_lora_without_peft(folder: Path) -> None:
    from importlib.util import find_spec

    if find_spec("peft") is not None:
        pytest.skip("peft is installed")
    result = pe("apply", CARD, "--prompt", PROMPT, "--lora", "x", "-o", folder / "out.mp4")
    assert result.exit_code == 1
    assert "pip install peft" in result.stderr


def test_demo_finds_existing_files(folder: Path) -> None:
    (folder / "sheet.png").touch()
    result = pe("demo", "-o", folder)
    assert result.exit_code == 2
    assert "sheet.png" in result.stderr


def test_demo_into_a_file(folder: Path) -> None:
    (folder / "file").touch()
    result = pe("demo", "-o", folder / "file" / "deeper")
    assert result.exit_code == 1
    assert "Expected to make the folder" in result.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("train", "", "-o", "c.safetensors"),
        ("train", "ref.mp4", "-o", ""),
        ("train", "ref.mp4", "-o", "c.safetensors", "--image", ""),
        ("apply", "c.safetensors", "--prompt", "x", "-o", "o.mp4", "--kv-from", ""),
    ],
)
def test_an_empty_name_is_not_the_current_folder(words: tuple[str, ...]) -> None:
    result = CliRunner().invoke(cli, list(words))
    assert result.exit_code == 2
    assert "the name of a file, got an empty one" in " ".join(result.stderr.split())


def test_a_folder_of_videos_is_told_before_the_output(folder: Path) -> None:
    clips = folder / "my clips"
    clips.mkdir()
    (clips / "a.MP4").write_bytes(b"x")
    result = pe("train", clips, "-o", folder / "cards")
    assert result.exit_code == 1
    said = " ".join(result.stderr.split())
    assert f"pe train '{clips}'/*.MP4 -o DIR" in said
    (clips / "a.MP4").unlink()
    assert "Images are files ending in .png" in pe("flow", clips, "-o", folder / "a.mp4").stderr


def test_a_file_that_looks_like_an_option(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert "./-dash.mp4" not in pe("train", "-dash.mp4").stderr
    Path("-dash.mp4").touch()
    result = pe("train", "-dash.mp4")
    assert result.exit_code == 2
    assert "No such option" in result.stderr
    assert "For the file of that name, write ./-dash.mp4" in result.stderr


def test_resume_where_nothing_was_kept(folder: Path) -> None:
    (folder / "a.mp4").write_bytes(b"x")
    result = pe("train", folder / "a.mp4", "-o", folder / "c.safetensors", "--resume")
    assert result.exit_code == 1
    said = " ".join(result.stderr.split())
    assert "optimises nothing, as with --recipe rich, leaves no state" in said
