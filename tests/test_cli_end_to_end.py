"""The command line with the bundled backbone: train, apply, show, verify, interrupt and resume."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from pe_toolkit.card import MotionCard
from pe_toolkit.cli.main import cli

ROOT = Path(__file__).parents[1]
BUNDLED = ROOT / "pe_toolkit" / "backbones" / "bundled"
PROMPT = "a yellow cross on a brown background"
OTHER = "a cyan square on a black background"
# Small clips: what is tested is the command line, on two busy cores.
SMALL = ("--frames", "17", "--size", "96x96", "--steps", "4", "--set", "K=1", "--seed", "3")
SHORT = (*SMALL, "--samples", "1")

pytestmark = pytest.mark.skipif(
    not (BUNDLED / "transformer").is_dir(),
    reason="the bundled weights are not there",
)


def pe(*words: object) -> Result:
    result = CliRunner().invoke(cli, [str(word) for word in words])
    assert "Traceback" not in result.stderr
    return result


def lines(result: Result) -> list[dict[str, object]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("with space é")


@pytest.fixture(scope="module")
def reference(place: Path) -> Path:
    from pe_toolkit.video import write_video
    from pe_toolkit.world.scenes import render, sample_scene

    scene = sample_scene(np.random.default_rng(5), ("orbit",), frames=33, styles=("flat",))
    path = place / "ref clip.mp4"
    write_video(path, render(scene, 128), 16.0)
    return path


@pytest.fixture(scope="module")
def card(place: Path, reference: Path) -> Path:
    path = place / "card.safetensors"
    result = pe("train", reference, "-o", path, "--backbone", "bundled", *SHORT)
    assert result.exit_code == 0, result.stderr
    assert "guided step" in result.stderr
    assert "of the picture moves and can be followed" in result.stderr
    assert f"pe apply '{path}'" in result.stderr
    assert not path.with_name("card.safetensors.resume").exists()
    return path


def test_the_card_is_sound_and_says_how_it_was_made(card: Path) -> None:
    assert pe("verify", card).exit_code == 0
    text = pe("show", card).stdout
    assert "ref clip 1.0.0" in text
    assert "of the picture moves and can be followed" in text
    spec = MotionCard.load(card).spec
    assert (spec.schedule.steps, len(spec.samples), spec.samples[0].seed) == (4, 1, 3)
    assert str(card.parent) not in text  # no path of this machine in a card


def test_train_again_gives_the_same_positions(card: Path, reference: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.safetensors"
    assert pe("train", reference, "-o", again, "--backbone", "bundled", *SHORT).exit_code == 0
    first, second = MotionCard.load(card), MotionCard.load(again)
    np.testing.assert_array_equal(first.tensors["positions"], second.tensors["positions"])


def test_train_json_is_events_then_summary(reference: Path, tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    preview = tmp_path / "p.mp4"
    result = pe(
        "train", reference, "-o", path, "--backbone", "bundled", *SHORT,
        "--preview", preview, "--plot", tmp_path / "p.png", "--json",
    )  # fmt: skip
    events = lines(result)
    kinds = [event["event"] for event in events]
    assert {"started", "reference-matched", "inner-step", "guided-step", "finished"} <= set(kinds)
    assert kinds[-1] == "summary"
    assert events[-1]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert preview.stat().st_size > 0
    assert (tmp_path / "p.png").read_bytes()[1:4] == b"PNG"


def test_apply_one(card: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    result = pe("apply", card, "--prompt", PROMPT, "-o", out)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{out}\n"  # for `$(pe apply ...)`
    assert f'{out}  "{PROMPT}", seed 42' in result.stderr
    facts = json.loads(out.with_suffix(".json").read_text("utf-8"))
    assert facts["card"]["digest"] == MotionCard.load(card).digest
    assert (facts["prompt"], facts["seed"], facts["strength"]) == (PROMPT, 42, 1.0)
    score = facts["motion_follows"]
    assert (facts["motion_follows_reason"] is None) == (score is not None)
    assert ("no motion score" if score is None else f"reference: {score:.2f}") in result.stderr
    assert 0 < facts["guided_steps"] <= facts["steps"] == 4
    assert str(tmp_path) not in out.with_suffix(".json").read_text("utf-8")


def test_loras_act_and_their_weights_are_recorded(card: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    file = lora_for_the_bundled_backbone(tmp_path / "style.safetensors")
    videos = []
    for weights in ([], [1.0, -0.5]):
        out = tmp_path / f"{len(weights)}.mp4"
        words = [word for weight in weights for word in ("--lora", f"{file}:{weight}")]
        result = pe("apply", card, "--prompt", PROMPT, "-o", out, "--no-score", *words)
        assert result.exit_code == 0, result.stderr
        assert result.stderr.count("Warning") == 1  # 96x96
        assert json.loads(out.with_suffix(".json").read_text("utf-8"))["loras"] == [
            {"name": "style.safetensors", "weight": weight} for weight in weights
        ]
        videos.append(out.read_bytes())
    assert videos[0] != videos[1]


def lora_for_the_bundled_backbone(path: Path) -> Path:
    """Random matrices for the attention of the first block, as PEFT names them."""
    from safetensors.numpy import save_file

    rng, prefix = np.random.default_rng(0), "base_model.model.transformer_blocks.0.attn1"
    config = json.loads((BUNDLED / "transformer" / "config.json").read_text("utf-8"))
    width = config["num_attention_heads"] * config["attention_head_dim"]
    weights = {}
    for layer in ("to_q", "to_v"):
        for kind, shape in (("A", (2, width)), ("B", (width, 2))):
            values = rng.normal(size=shape).astype(np.float32)
            weights[f"{prefix}.{layer}.lora_{kind}.weight"] = values
    save_file(weights, path)
    return path


def test_a_lora_that_is_none_is_refused_by_its_name(card: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    out, missing = tmp_path / "out.mp4", tmp_path / "missing.safetensors"
    words = ("apply", card, "--prompt", PROMPT, "-o", out, "--lora")
    result = pe(*words, card)
    assert result.exit_code == 2
    assert "got a motion card" in result.stderr
    result = pe(*words, f"{missing}:0.5")
    assert result.exit_code == 2
    assert f"got {missing}, which is not there" in result.stderr
    assert "Loading" not in result.stderr  # a model takes minutes to load
    assert not out.exists()


def test_batch_has_the_same_bytes_and_an_own_name_for_each(
    card: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pe_toolkit.apply import Generated, generate

    texts = tmp_path / "prompts.txt"
    texts.write_text(f"# two\n{PROMPT}\n{OTHER}\n", "utf-8")
    calls = []

    def counted(*args: object, **words: object) -> Iterator[Generated]:
        calls.append(args[1:3])
        return generate(*args, **words)  # type: ignore[arg-type]

    monkeypatch.setattr("pe_toolkit.apply.generation.generate", counted)
    result = pe(
        "apply", card, "--prompt-file", texts, "--seed", 1, "--seed", 42, "-o", tmp_path / "o.mp4",
        "--sheet", tmp_path / "sheet.png", "--no-score",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert calls == [((PROMPT, OTHER), [1, 42])]  # the card is put on the device once
    assert f'o-p02-s1.mp4 "{OTHER}", seed 1\n' in re.sub(" +", " ", result.stderr)
    assert result.stderr.splitlines()[-1].startswith(str(tmp_path / "sheet.png"))
    assert result.stdout.splitlines() == [
        str(tmp_path / f"o-p0{p}-s{s}.mp4") for p in (1, 2) for s in (1, 42)
    ]
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 9 * 96
        assert sheet.height > 4 * 96
    facts = json.loads((tmp_path / "o-p02-s1.json").read_text("utf-8"))
    assert facts["motion_follows"] is None
    assert facts["motion_follows_reason"] == "no score was asked for"
    names = sorted(path.name for path in tmp_path.glob("*.mp4"))
    assert names == [f"o-p0{p}-s{s}.mp4" for p in (1, 2) for s in (1, 42)]
    assert pe("apply", card, "--prompt", PROMPT, "-o", tmp_path / "one.mp4").exit_code == 0
    one = (tmp_path / "one.mp4").read_bytes()
    assert (tmp_path / "o-p01-s42.mp4").read_bytes() == one
    assert (tmp_path / "o-p02-s42.mp4").read_bytes() != one


def test_without_the_card_and_at_strength_0_are_the_same(card: Path, tmp_path: Path) -> None:
    for name, words in (
        ("plain", ["--no-card"]),
        ("zero", ["--strength", 0]),
        ("full", []),
    ):
        path = tmp_path / f"{name}.mp4"
        assert pe("apply", card, "--prompt", PROMPT, "-o", path, *words).exit_code == 0
    plain, zero, full = ((tmp_path / f"{n}.mp4").read_bytes() for n in ("plain", "zero", "full"))
    assert plain == zero
    assert plain != full
    facts = json.loads((tmp_path / "plain.json").read_text("utf-8"))
    assert (facts["card"], facts["guided_steps"]) == (None, 0)


def test_faster_and_smaller(card: Path, tmp_path: Path) -> None:
    from pe_toolkit.video import read_clip

    words = ("--steps", 8, "--cache", "taylorseer", "--quantize", "fp8", "--vae-tiling")
    result = pe("apply", card, "--prompt", PROMPT, "-o", tmp_path / "out.mp4", *words)
    assert result.exit_code == 0, result.stderr
    facts = json.loads((tmp_path / "out.json").read_text("utf-8"))
    assert read_clip(tmp_path / "out.mp4").frames.shape[1:3] == (96, 96)
    assert (facts["cache"], facts["quantize"], facts["steps"]) == ("taylorseer", "fp8", 8)
    assert facts["guided_steps"]


def test_training_with_smaller_weights(reference: Path, tmp_path: Path) -> None:
    words = ("--steps", 4, "--samples", 1, "--set", "K=1", "--quantize", "fp8")
    result = pe("train", reference, "-o", tmp_path / "small.safetensors", *words)
    assert result.exit_code == 0, result.stderr


def test_side_by_side(card: Path, reference: Path, tmp_path: Path) -> None:
    from pe_toolkit.video import read_clip

    out = tmp_path / "out.mp4"
    words = ("apply", card, "--prompt", PROMPT, "-o", out, "--side-by-side", reference)
    result = pe(*words)
    assert result.exit_code == 0, result.stderr
    clip = read_clip(tmp_path / "out-side-by-side.mp4")
    assert clip.frames.shape[2] >= 2 * 96
    assert result.stdout == f"{out}\n"
    assert f"{tmp_path / 'out-side-by-side.mp4'}  reference | result" in result.stderr
    assert "--side-by-side" not in result.stderr
    assert pe(*words).exit_code == 2
    assert pe(*words, "--force").exit_code == 0


def test_gifs_for_those_who_show_them(card: Path, reference: Path, tmp_path: Path) -> None:
    from pe_toolkit.video import read_clip

    out = tmp_path / "out.gif"
    words = ("apply", card, "--prompt", PROMPT, "-o", out, "--side-by-side", reference)
    result = pe(*words)
    assert result.exit_code == 0, result.stderr
    spec = MotionCard.load(card).spec
    for name in ("out.gif", "out-side-by-side.gif"):
        assert (tmp_path / name).read_bytes()[:6] == b"GIF89a"
        clip = read_clip(tmp_path / name)
        assert len(clip.frames) == spec.clip.frames
        assert clip.fps == pytest.approx(spec.clip.fps, rel=0.02)
    assert json.loads((tmp_path / "out.json").read_text())["video"] == "out.gif"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "out-side-by-side.gif", "out.gif", "out.json"
    ]  # fmt: skip
    assert pe(*words, "--resume").exit_code == 0
    preview = tmp_path / "preview.gif"
    made = pe("train", reference, "-o", tmp_path / "c.safetensors", "--steps", 2, "--samples", 1,
              "--set", "K=1", "--preview", preview)  # fmt: skip
    assert made.exit_code in (0, 3), made.stderr
    assert (
        len(read_clip(preview).frames)
        == MotionCard.load(tmp_path / "c.safetensors").spec.clip.frames
    )


@pytest.mark.filterwarnings("always::pe_toolkit.apply.CardWarning")
def test_another_clip_than_the_cards_is_told(card: Path, reference: Path, tmp_path: Path) -> None:
    from pe_toolkit.video import read_clip, write_video

    other = tmp_path / "other.mp4"
    write_video(other, read_clip(reference).frames[::-1], 16.0)
    words = ("apply", card, "--prompt", PROMPT, "-o", tmp_path / "out.mp4", "--no-score")
    result = pe(*words, "--side-by-side", other, "--kv-from", other)
    assert result.exit_code == 0, result.stderr
    said = " ".join(result.stderr.split())
    assert "the clip of --side-by-side" in said
    assert "keys and values come from another one" in said


def test_unknown_words_are_warned_of(card: Path, tmp_path: Path) -> None:
    words = ("apply", card, "--prompt", "a pink cat", "-o", tmp_path / "o.mp4")
    result = pe(*words)
    assert result.exit_code == 0, result.stderr
    assert "does not know pink, cat" in result.stderr


def test_a_too_long_prompt(card: Path, tmp_path: Path) -> None:
    result = pe("apply", card, "--prompt", "red circle " * 200, "-o", tmp_path / "o.mp4")
    assert result.exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_card_for_another_backbone(card: Path, tmp_path: Path) -> None:
    words = ("apply", card, "--prompt", PROMPT, "-o", tmp_path / "o.mp4")
    result = pe(*words, "--backbone", "bundled-absolute")
    assert result.exit_code == 2, result.stderr
    assert list(tmp_path.iterdir()) == []


def test_latents_card_replays_its_own_prompt(reference: Path, tmp_path: Path) -> None:
    path = tmp_path / "latents.safetensors"
    words = ("--mode", "latents", "--prompt", PROMPT, *SMALL)
    assert pe("train", reference, "-o", path, "--backbone", "bundled", *words).exit_code == 0
    result = pe("apply", path, "--prompt", PROMPT, "-o", tmp_path / "own.mp4")
    assert result.exit_code == 0, result.stderr
    assert result.stderr.count("Warning: the bundled backbone was made for") == 1
    assert result.stderr.count("Warning") == 1
    assert json.loads((tmp_path / "own.json").read_text("utf-8"))["seed"] == 3
    result = pe("apply", path, "--prompt", OTHER, "-o", tmp_path / "other.mp4")
    assert result.exit_code == 0, result.stderr
    assert "leaks" in result.stderr
    assert (
        pe("apply", path, "--prompt", PROMPT, "--seed", 3, "-o", tmp_path / "x.mp4").exit_code == 2
    )


def test_bad_references_are_found_before_a_model_is_loaded(tmp_path: Path) -> None:
    from pe_toolkit.video import write_video

    still = tmp_path / "still.mp4"
    write_video(still, np.full((33, 64, 64, 3), 90, np.uint8), 16.0)
    junk = tmp_path / "junk.mp4"
    junk.write_bytes(b"not a video" * 99)
    for path in (still, junk, tmp_path / "missing.mp4"):
        run = subprocess.run(
            [
                sys.executable, "-c",
                "import sys; from pe_toolkit.cli.main import cli\n"
                "code = cli.main(sys.argv[1:], standalone_mode=False)\n"
                "print(code, 'diffusers' in sys.modules)",
                "train", str(path), "-o", str(tmp_path / "c.safetensors"), "--backbone", "bundled",
            ],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert run.stdout.splitlines()[-1] == "1 False", run.stdout + run.stderr
        assert "Hint:" in run.stderr


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_interrupt_and_resume_give_the_same_card(
    number: signal.Signals, card: Path, reference: Path, tmp_path: Path
) -> None:
    path = tmp_path / "card.safetensors"
    words = ["train", str(reference), "-o", str(path), "--backbone", "bundled", *SHORT]
    # Background jobs of a shell, and so perhaps these tests, begin with SIGINT ignored.
    heeded = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    for _ in range(3):  # on a busy machine the training may be over before the signal comes
        child = subprocess.Popen(
            [sys.executable, "-m", "pe_toolkit", *words, "--json"],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            preexec_fn=heeded,
        )  # fmt: skip
        assert child.stdout is not None
        for line in child.stdout:
            if json.loads(line)["event"] == "saved":
                child.send_signal(number)
                break
        out, err = child.communicate(timeout=120)
        if child.returncode != 0:
            break
        path.unlink()
    assert not path.exists()
    if number == signal.SIGINT:
        assert child.returncode == 130, err
        assert "--resume" in err
        assert json.loads(out.splitlines()[-1])["exit_code"] == 130
        assert [p.name for p in tmp_path.iterdir()] == ["card.safetensors.resume"]
    result = pe(*words)
    assert result.exit_code == 2  # a state is there: not thrown away by accident
    result = pe(*words, "--resume")
    assert result.exit_code == 0, result.stderr
    first, second = MotionCard.load(card), MotionCard.load(path)
    np.testing.assert_array_equal(first.tensors["positions"], second.tensors["positions"])
    same = replace(second.spec, created=first.spec.created, digest=first.spec.digest)
    assert same == first.spec
    assert [p.name for p in tmp_path.iterdir()] == ["card.safetensors"]


def test_demo_writes_everything_and_measures(tmp_path: Path) -> None:
    result = pe("demo", "-o", tmp_path / "d", "--steps", 4, "--samples", 1)
    assert result.exit_code == 0, result.stderr
    made = {str(p.relative_to(tmp_path / "d")) for p in (tmp_path / "d").rglob("*") if p.is_file()}
    kept = ("card.safetensors", "new-no-card.mp4", "new.mp4", "ref.mp4")
    assert made == {"sheet.png", "side-by-side.mp4"} | {
        f"{motion}/{name}" for motion in ("back", "zoom", "two") for name in kept
    }
    rows = [line.split() for line in result.stdout.splitlines()]
    for motion in ("back", "zoom", "two"):
        assert MotionCard.load(tmp_path / "d" / motion / "card.safetensors").spec.name == (
            f"demo-{motion}"
        )
        assert sum(bool(row) and row[0] == motion for row in rows) == 1
    two = MotionCard.load(tmp_path / "d" / "two" / "card.safetensors").spec.recipe
    assert two.layers == ("subject", "subject-2")
    assert (two.phase and two.phase.radius, two.ground) == (4.0, None)
    assert "Warning" not in result.stderr


def test_a_batch_goes_on_where_it_stopped(card: Path, tmp_path: Path) -> None:
    words = ("apply", card, "--prompt", PROMPT, "--prompt", OTHER, "-o", tmp_path / "o.mp4")
    assert pe(*words).exit_code == 0
    first, second = tmp_path / "o-p01-s42.mp4", tmp_path / "o-p02-s42.mp4"
    kept, again = first.stat().st_mtime_ns, second.read_bytes()
    second.unlink()
    second.with_suffix(".json").unlink()
    scored = tmp_path / "scored.safetensors"
    result = pe(*words, "--resume", "--scored-card", scored, "--sheet", tmp_path / "s.png")
    assert result.exit_code == 0, result.stderr
    assert "1 of 2 videos are there already." in result.stderr
    assert result.stdout.splitlines() == [str(first), str(second)]
    assert (first.stat().st_mtime_ns, second.read_bytes()) == (kept, again)
    assert (tmp_path / "s.png").stat().st_size > 0
    scores = [
        json.loads(p.with_suffix(".json").read_text())["motion_follows"] for p in (first, second)
    ]
    known = [score for score in scores if score is not None]
    if known:
        new = MotionCard.load(scored).spec
        assert new.came_from == (MotionCard.load(card).digest,)
        assert new.scores["motion_follows"] == pytest.approx(sum(known) / len(known), abs=1e-4)
        assert new.scores["motion_follows_videos"] == len(known)
    else:
        assert "no video has a score" in result.stderr
        assert not scored.exists()
    nothing = pe(*words, "--resume")
    assert nothing.exit_code == 0
    assert nothing.stdout.splitlines() == [str(first), str(second)]
    other = pe(*words, "--resume", "--strength", "0.5")
    assert other.exit_code == 1
    assert "made with strength 1.0 (now 0.5)" in other.stderr


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_an_interrupted_batch_says_how_to_go_on(card: Path, tmp_path: Path) -> None:
    words = ["apply", str(card), "--prompt", PROMPT, "-o", str(tmp_path / "o.mp4"), "--json",
             *(word for seed in range(40) for word in ("--seed", str(seed)))]  # fmt: skip
    code = (  # a shell that starts tests in the background lets them ignore SIGINT
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from pe_toolkit.cli.main import main; main()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, *words],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert child.stdout is not None
    for line in child.stdout:
        if json.loads(line)["event"] == "generated":
            child.send_signal(signal.SIGINT)
            break
    _, err = child.communicate(timeout=240)
    assert child.returncode == 130, err
    found = re.search(r"(\d+) of 40 videos are done. Continue with: pe apply .* --resume", err)
    assert found is not None, err
    assert len(list(tmp_path.glob("*.json"))) >= int(found[1]) > 0
