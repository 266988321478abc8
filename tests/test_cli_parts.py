"""The parts under the commands: sink, names of outputs, prompts, parameter types, doctor."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

from pe_toolkit.apply.request import DEFAULT_SEED, ApplyRequest
from pe_toolkit.backbones import VARIANTS
from pe_toolkit.backbones.catalogue.variants import variant_for
from pe_toolkit.card import MotionCard
from pe_toolkit.cli import apply_steps, files, machine, other_shapes, progress, prompts, versions
from pe_toolkit.cli.folding import fold
from pe_toolkit.cli.main import cli
from pe_toolkit.cli.output import Output, aligned, plain, size_text
from pe_toolkit.cli.parameters import Finite, Pair, Size
from pe_toolkit.cli.progress import Progress
from pe_toolkit.errors import OutputExistsError, UsageError
from pe_toolkit.video import read_clip
from pe_toolkit.world.vocabulary import TRAINING_PROMPTS, describe, tokens
from tests.clips import moving_square, remux, write_clip

GOLDEN = Path(__file__).parent / "golden"


# Sink


def test_talk_goes_to_stderr_and_data_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    out = Output()
    out.talk("hello")
    out.warn("careful")
    out.data("1 2 3")
    out.event("step", n=1)
    assert capsys.readouterr() == ("1 2 3\n", "hello\nWarning: careful\n")


def test_json_mode_prints_objects_only(capsys: pytest.CaptureFixture[str]) -> None:
    out = Output(json=True)
    out.talk("hello")
    out.warn("careful")
    out.data("1 2 3")
    out.table({"a": 1})
    out.event("step", path=Path("é"), loss=math.nan, arr=np.float32(0.5))
    got, err = capsys.readouterr()
    assert [json.loads(line) for line in got.splitlines()] == [
        {"event": "message", "text": "hello"},
        {"event": "warning", "text": "careful"},
        {"event": "step", "path": "é", "loss": None, "arr": 0.5},
    ]
    assert err == "Warning: careful\n"


def test_pass_ons_keep_numbers_and_drop_pixels(capsys: pytest.CaptureFixture[str]) -> None:
    @dataclass(frozen=True)
    class PreviewFrames:
        frames: np.ndarray
        fps: float
        grid: tuple[int, ...]
        card: MotionCard

    card = MotionCard.load(GOLDEN / "rotary-angle.safetensors")
    event = PreviewFrames(np.zeros((2, 4, 4, 3), np.uint8), 8.0, (1, 2, 3), card)
    Output(json=True).pass_on(event)
    got = json.loads(capsys.readouterr().out)
    assert got == {"event": "preview-frames", "fps": 8.0, "grid": [1, 2, 3]}


def test_text_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    out = Output()
    out.data("a\x1b[2J\nb")
    out.talk("c\x07")
    assert capsys.readouterr() == ("a\\x1b[2J\nb\n", "c\\x07\n")


def test_lines_break_between_words_and_commands_stay_whole() -> None:
    text = "Warning: " + "a word or two " * 8
    assert all(len(line) <= 60 for line in fold(text, 60, "  ").split("\n"))
    assert " ".join(fold(text, 60, "  ").split()) == text.strip()
    command = 'pe train ref.mp4 -o card.safetensors --prompt "one that is long" --resume'
    hint = f"Hint: Finished steps are saved. Continue with: {command}"
    assert fold(hint, 60, "  ").split("\n") == [
        "Hint: Finished steps are saved. Continue with:",
        f"  {command}",
    ]
    assert fold(hint, None) == hint
    assert fold("short", 60) == "short"


def test_a_column_breaks_between_words_and_long_words_go_below() -> None:
    rows = {"name": "a b", "digest": "sha256:" + "0" * 60, "recipe": "one two three " * 8}
    lines = list(aligned(rows, 72))
    assert lines[:3] == ["name    a b", "digest", "  sha256:" + "0" * 60]
    assert all(len(line) <= 72 for line in lines)
    assert lines[3].startswith("recipe  one two")
    assert lines[4].startswith("        ")
    assert list(aligned(rows))[1] == "digest  sha256:" + "0" * 60


def test_plain_values() -> None:
    value = {1: [math.inf, np.int64(3), True, None], "p": Path("x")}
    assert plain(value) == {"1": [None, 3, True, None], "p": "x"}


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (5e6, "5.0 MB"), (2e12, "2000.0 GB")],
)
def test_sizes(count: float, text: str) -> None:
    assert size_text(count) == text


# Progress


def test_progress_is_plain_lines_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(Output(), "guided step", 3) as bar:
        bar.skip(1)
        bar.part(0.5, "unseen")
        bar.step("loss 2 -> 1")
        bar.step("loss 1 -> 0")
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "guided step 2/3: loss 2 -> 1\nguided step 3/3: loss 1 -> 0\n"


def test_progress_is_silent_under_json(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(Output(json=True), "video", 1) as bar:
        bar.step("x")
    assert capsys.readouterr() == ("", "")


def test_time_left_counts_only_this_run() -> None:
    bar = Progress(Output(json=True), "guided step", 10)
    bar.skip(8)
    assert bar.remaining() is None
    bar._began -= 5.0
    bar.done += 1
    left = bar.remaining()
    assert left is not None
    assert left == pytest.approx(5.0, abs=0.5)


def test_progress_on_a_terminal_draws_and_clears(monkeypatch: pytest.MonkeyPatch) -> None:
    import io
    import sys

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    out = Output()
    with Progress(out, "guided step", 2) as bar:
        bar.part(0.5, "loss [3]")
        out.talk("a remark \x1b[31m")
        bar.step("loss [2]")
        bar.step("loss [1]")
    text = screen.getvalue()
    assert "guided step" in text
    assert "loss [1]" in text
    assert "2/2" in text
    assert "a remark \\x1b[31m" in text
    assert out.bars is None


def test_a_long_read_is_drawn_and_a_short_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import io
    import sys

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    # Read twice: once to count, once for the frames.
    good = write_clip(tmp_path / "a.mp4", moving_square(30))
    bad = remux(tmp_path / "a.mkv", good, times=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    for patience, drawn in ((60.0, False), (0.0, True)):
        monkeypatch.setattr(progress, "PATIENCE", patience)
        monkeypatch.setattr(sys, "stderr", screen := Terminal())
        out = Output()
        with progress.reading(out) as on_progress:
            read_clip(bad, on_progress=on_progress)
        assert ("frame read" in screen.getvalue()) == drawn
        assert ("30/30" in screen.getvalue()) == drawn
        assert out.bars is None


def test_pe_apply_draws_a_bar_for_the_clips_that_it_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import sys

    long = remux(tmp_path / "a.mkv", write_clip(tmp_path / "a.mp4", moving_square(30)), times=False)
    words = ["apply", str(GOLDEN / "rotary-angle.safetensors"), "--prompt", TRAINING_PROMPTS[0]]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    # Each ends before a model is loaded: by a file that is not there, by a device that is not.
    for option, end in (
        ("--side-by-side", ("--kv-from", "none.mp4")),
        ("--kv-from", ("--device", "mps")),
    ):
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        assert cli.main([*words, option, str(long), *end], standalone_mode=False) != 0
        said = capsys.readouterr().err
        assert "frame read" in said, said
        assert "30/30" in said


# Names of outputs


def test_one_generation_has_the_plain_name() -> None:
    (target,) = files.plan(Path("d/out.mp4"), ["a"], [42])
    assert [p.as_posix() for p in target.files] == ["d/out.mp4", "d/out.json"]


def test_many_generations_are_numbered_by_prompt_and_seed() -> None:
    targets = files.plan(Path("out.mp4"), ["a", "b"], [1, 42], side_by_side=True)
    assert [t.video.name for t in targets] == [
        "out-p01-s1.mp4", "out-p01-s42.mp4", "out-p02-s1.mp4", "out-p02-s42.mp4",
    ]  # fmt: skip
    assert targets[1].sidecar.name == "out-p01-s42.json"
    assert targets[1].side_by_side == Path("out-p01-s42-side-by-side.mp4")
    assert [(t.prompt, t.seed) for t in targets] == [("a", 1), ("a", 42), ("b", 1), ("b", 42)]


def test_names_sort_with_many_prompts() -> None:
    names = [t.video.name for t in files.plan(Path("o.mp4"), [str(i) for i in range(101)], [0])]
    assert names[0] == "o-p001-s0.mp4"
    assert names == sorted(names)


def test_one_side_by_side() -> None:
    (target,) = files.plan(Path("out.mp4"), ["a"], [1], side_by_side=True)
    assert target.side_by_side == Path("out-side-by-side.mp4")


def test_json_is_whole_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    files.write_json(path, {"é": [1, math.nan]})
    assert json.loads(path.read_text("utf-8")) == {"é": [1, None]}
    with pytest.raises(OutputExistsError):
        files.write_json(path, {})
    files.write_json(path, {}, force=True)
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_a_dangling_link_is_in_the_way(tmp_path: Path) -> None:
    link = tmp_path / "out.mp4"
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputExistsError):
        files.check_outputs([link], force=False)


# Prompts


def test_prompt_file(tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    path.write_bytes("\ufeff# title\n\n a red circle \r\n#no\nein Kreis é\n".encode())
    assert prompts.from_file(path) == ["a red circle", "ein Kreis é"]


@pytest.mark.parametrize("content", [b"", b"# only\n\n", b"\xff\xfe\x00", b"x" * (1 << 20) + b"yz"])
def test_bad_prompt_files(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    path.write_bytes(content)
    with pytest.raises(UsageError):
        prompts.from_file(path)


def test_unknown_words_are_named_with_what_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    prompts.warn_unknown(Output(), ["a pink circle on a grey background", "a pink cat"], "bundled")
    first, second = " ".join(capsys.readouterr().err.split()).split("Warning: ")[1:]
    assert "does not know pink, and" in first
    assert "'a pink circle on a grey background'" in first
    assert "does not know pink, cat, and" in second
    assert "'a pink cat'" in second
    assert ("magenta" in first, "magenta" in second) == (False, True)


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("a yellow circle on a gray background", "gray (did you mean grey?),"),
        ("two red triangles on a grey background", "two, triangles (did you mean triangle?),"),
        ("a red crown on a grey background", "does not know crown,"),  # no shape is called so
    ],
)
def test_other_spellings_and_plurals(
    prompt: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts.warn_unknown(Output(), [prompt], "bundled")
    assert said in " ".join(capsys.readouterr().err.split())


def test_of_many_prompts_the_first_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    prompts.warn_unknown(Output(), [f"a pink cat {number}" for number in range(20)], "bundled")
    err = capsys.readouterr().err
    assert err.count("Warning") == 8
    assert "12 more prompts" in err


COLOURS = "colours: red, green, blue, yellow, white, magenta, cyan, orange"
SHAPES = "shapes: circle, square, triangle, cross"
GROUNDS = "backgrounds: black, grey, blue, green, brown"


@pytest.mark.parametrize(
    ("prompt", "named", "possible"),
    [
        ("a red circle on a yellow background", "knows no yellow background,", (GROUNDS,)),
        ("a grey circle on a black background", "knows no grey circle,", (COLOURS,)),
        ("a red circle on a circle background", "knows no circle background,", (GROUNDS,)),
        ("a red white on a grey background", "knows no red white,", (SHAPES,)),
        ("a red circle on a pink background", "does not know pink,", (GROUNDS,)),
        ("a pink circle on a grey background", "does not know pink,", (COLOURS,)),
        ("A red STAR on a grey Background!", "does not know star,", (SHAPES,)),
        ("a red circle flying", "does not know flying,", (COLOURS, SHAPES, GROUNDS)),
        (
            "a pink circle on a white background",
            "does not know pink, knows no white background,",
            (COLOURS, GROUNDS),
        ),
        ("a red circle", "one form of captions", (describe(),)),
        ("red circle, grey background", "'red circle, grey background' has another", ()),
        ("a circle on a grey background", "one form of captions", ()),
        ("a red blue circle on a black background", "one form of captions", ()),
        (f"a red circle and {TRAINING_PROMPTS[1]} and {TRAINING_PROMPTS[2]}", "one form", ()),
    ],
)
def test_what_the_bundled_backbone_cannot_draw(
    prompt: str, named: str, possible: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    prompts.warn_unknown(Output(), [TRAINING_PROMPTS[0], prompt], "bundled")
    err = " ".join(capsys.readouterr().err.split())
    assert named in err
    assert err.count("Warning") == 1
    for kind in (COLOURS, SHAPES, GROUNDS):
        assert (kind in err) == (kind in possible)
    assert all(text in err for text in possible)


LONG = "a red circle with spots " * 100


def test_long_prompts_and_words_are_echoed_short(capsys: pytest.CaptureFixture[str]) -> None:
    word = "spotted" * 300
    asked = [TRAINING_PROMPTS[0], f"a {word} circle on a grey background", f"a{' ' * 2000}cat"]
    prompts.warn_unknown(Output(), asked, "bundled")
    err = capsys.readouterr().err
    assert "does not know spottedspotted" in err
    assert len(err) < 700, err


def test_what_will_be_refused_is_not_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    prompts.warn_unknown(Output(), [LONG], "bundled")
    assert capsys.readouterr().err == ""


def test_tokens_are_those_of_the_bundled_tokenizer() -> None:
    from tokenizers import Tokenizer

    from pe_toolkit.backbones import bundled

    tokenizer = Tokenizer.from_file(
        str(Path(bundled.__file__).parent / "tokenizer" / "tokenizer.json")
    )
    two = "A red  circle, and an orange cross on a TEXTURED blue background!"
    for prompt in (*TRAINING_PROMPTS, LONG, two, "red circles", "", "фото: a b?!"):
        assert tokens(prompt) == len(tokenizer.encode(prompt).ids), prompt


def test_prompts_of_its_own_kind_are_not_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    two = "A red circle and a blue square on a blue background."
    prompts.warn_unknown(Output(), [*TRAINING_PROMPTS, two], "bundled")
    assert capsys.readouterr().err == ""


def test_other_backbones_know_every_word(capsys: pytest.CaptureFixture[str]) -> None:
    prompts.warn_unknown(Output(), ["a pink cat"], "cogvideox-5b")
    prompts.warn_unknown(Output(), ["a red circle on a grey background"], "bundled")
    assert capsys.readouterr().err == ""


# Parameter types


def test_parameter_types() -> None:
    assert Size().convert("720x480", None, None) == (720, 480)
    assert Pair().convert("guided_range=0.5,1", None, None) == ("guided_range", "0.5,1")
    assert Pair().convert("a=b=c", None, None) == ("a", "b=c")
    assert Finite(0, 2).convert("2", None, None) == 2.0
    for kind, bad in ((Size(), "1x"), (Size(), "x"), (Pair(), "=1"), (Finite(0, 2), "inf")):
        with pytest.raises(click.BadParameter):
            kind.convert(bad, None, None)


# Choices of apply


def request(**changes: Any) -> ApplyRequest:
    return ApplyRequest(**{"prompts": (), "negative_prompt": ""} | changes)


def test_seeds() -> None:
    spec = MotionCard.load(GOLDEN / "rotary-angle.safetensors").spec
    latents = MotionCard.load(GOLDEN / "latents.safetensors").spec
    assert request().seeds_for(spec) == [DEFAULT_SEED]
    assert request(seeds=(3, 1)).seeds_for(spec) == [3, 1]
    assert request(steps=20).seeds_for(latents) == [latents.samples[0].seed]
    assert request(seeds=(5,), no_card=True).seeds_for(latents) == [5]


def test_latents_card_warns_of_another_prompt(capsys: pytest.CaptureFixture[str]) -> None:
    spec = MotionCard.load(GOLDEN / "latents.safetensors").spec
    apply_steps.warn_prompts(spec, request(prompts=(spec.samples[0].prompt,)), Output())
    assert capsys.readouterr().err == ""
    apply_steps.warn_prompts(spec, request(prompts=("something else",)), Output())
    assert "leaks" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "left"), [("rotary-offset-mean", True), ("rotary-offset", False)])
def test_show_says_where_the_means_of_planes_come_from(name: str, left: bool) -> None:
    result = CliRunner().invoke(cli, ["show", str(GOLDEN / f"{name}.safetensors")])
    assert ("means of planes left to the noise" in " ".join(result.output.split())) is left
    assert "cycles per picture" in result.output


def test_a_cache_that_has_nothing_to_skip_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    """A camera that pans or zooms guides all steps."""
    spec = MotionCard.load(GOLDEN / "rotary-offset-ground.safetensors").spec
    steps = len(spec.schedule.noise)
    every = replace(spec, schedule=replace(spec.schedule, steps=steps))
    apply_steps.warn_cache(every, request(cache="pab"), Output())
    assert f"guides all {steps} steps" in capsys.readouterr().err
    for card, asked in (
        (spec, request(cache="pab")),
        (every, request()),
        (every, request(cache="pab", no_card=True)),
        (every, request(cache="pab", strength=0.0)),
    ):
        apply_steps.warn_cache(card, asked, Output())
    assert capsys.readouterr().err == ""


def test_how_a_texture_is_asked_for_is_said_where_the_camera_moves(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A background without one shows nothing of it."""
    pans = MotionCard.load(GOLDEN / "rotary-offset-ground.safetensors").spec
    plain, textured = (
        "a red cross on a blue background",
        "a red cross on a textured blue background",
    )
    apply_steps.warn_prompts(pans, ApplyRequest(prompts=(plain, textured)), Output())
    assert "on a textured grey background" in capsys.readouterr().err
    rests = MotionCard.load(GOLDEN / "rotary-angle.safetensors").spec
    rolls = replace(pans, recipe=replace(pans.recipe, ground=None))  # its background stays
    for spec, asked in (
        (rolls, ApplyRequest(prompts=(plain,))),
        (pans, ApplyRequest(prompts=(textured,))),
        (pans, ApplyRequest(prompts=(plain,), no_card=True)),
        (rests, ApplyRequest(prompts=(plain,))),
    ):
        apply_steps.warn_prompts(spec, asked, Output())
        assert capsys.readouterr().err == ""


def test_another_number_of_things_than_the_card_moves_is_warned_of(
    capsys: pytest.CaptureFixture[str],
) -> None:
    two = MotionCard.load(GOLDEN / "rotary-offset-disc.safetensors").spec
    motion = two.reference.motion
    assert motion is not None
    alone = replace(two.reference, motion=replace(motion, subjects=motion.subjects[:1]))
    one = replace(two, recipe=replace(two.recipe, layers=("subject",)), reference=alone)
    a, both = (
        "a red circle on a blue background",
        "a red circle and a red cross on a blue background",
    )
    for spec, texts, said in (
        (two, (a,), "the card moves two things, the prompt names one"),
        (replace(two, reference=alone), (a,), "the card moves 1 of 2 things, the prompt names one"),
        (one, (both,), "the card moves one thing, the prompt names two"),
        (two, (both, a), f"the card moves two things, '{a}' names one"),
    ):
        apply_steps.warn_prompts(spec, request(prompts=texts), Output())
        assert said in " ".join(capsys.readouterr().err.split())
    other = replace(two, backbone=replace(two.backbone, variant="cogvideox-5b"))
    plain = request(prompts=(a,), no_card=True)
    for spec, asked in (
        (two, request(prompts=(both, "cats"))), (one, request(prompts=(a,))), (two, plain),
        (other, request(prompts=(a,))), (two, request(prompts=(a,), strength=0.0)),
    ):  # fmt: skip
        apply_steps.warn_prompts(spec, asked, Output())
        assert "Warning" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("backbone", "frames", "size", "said"),
    [
        ("bundled", None, None, ""),
        ("bundled", 33, (128, 128), ""),
        ("bundled", 9, None, ""),
        ("bundled", 49, None, "33 frames of 128x128, and this is for 49 of 128x128: in longer"),
        ("bundled-absolute", 17, (192, 128), "17 of 192x128: at other sizes"),
        ("bundled", 49, (192, 128), "change their colour on the way, and at other sizes"),
        ("cogvideox-5b", 81, (192, 128), ""),
        (None, 49, None, ""),
    ],
)
def test_shapes_that_the_bundled_backbone_was_not_made_for(
    backbone: str | None,
    frames: int | None,
    size: tuple[int, int] | None,
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other_shapes.warn(Output(), VARIANTS[backbone] if backbone else None, frames, size)
    err = " ".join(capsys.readouterr().err.split())
    assert said in err
    assert err.count("Warning") == (said != "")


def test_settings_follow_the_card_also_without_it() -> None:
    spec = MotionCard.load(GOLDEN / "rotary-angle.safetensors").spec
    assert request(strength=0.5).settings(spec).steps == 20
    plain_used = request(no_card=True, guidance_scale=1.0).settings(spec)
    assert (plain_used.steps, plain_used.guidance_scale) == (20, 1)


# Doctor and machine


def doctor(*words: str) -> Result:
    return CliRunner().invoke(cli, ["doctor", *words])


def test_doctor() -> None:
    result = doctor()
    assert result.exit_code == 0
    assert result.stderr == ""
    for word in ("pe-toolkit", "torch", "cores", "memory", "disk", "bundled", "auto"):
        assert word in result.stdout


def test_doctor_json() -> None:
    (line,) = doctor("--json").stdout.splitlines()
    facts = json.loads(line)
    assert facts["event"] == "summary"
    assert set(facts["packages"]) == set(versions.TESTED)
    assert facts["auto"]["backbone"] in ("bundled", "cogvideox-2b", "cogvideox-5b")
    assert facts["backbone"] is None


def test_doctor_says_what_a_backbone_needs() -> None:
    result = doctor("--backbone", "cogvideox-5b", "--json")
    (line,) = result.stdout.splitlines()
    fit = json.loads(line)["backbone"]
    assert "GB" in fit["needs"]["download"]
    assert result.exit_code == (0 if fit["fits"] else 1)
    if not machine.gpus()[0]:
        assert not fit["fits"]
        assert "7.0 GB to train with --offload group (22.1 GB without)" in fit["verdict"]
    estimate = fit["estimate"]
    assert estimate["parameters"] == 5_570_283_072
    assert estimate["train"]["checkpointing"]
    assert estimate["train"]["gpu_gb"] < 24
    assert estimate["by_offload"]["model"]["train_gb"] < 20


@pytest.mark.parametrize("words", [("--frames", "25"), ("--size", "640x480"), ("--frames", "26")])
def test_doctor_refuses_what_training_refuses(words: tuple[str, str]) -> None:
    """Positions that were learned for one size."""
    result = doctor("--backbone", "cogvideox-5b-i2v", *words)
    assert result.exit_code == 2
    assert "49 frames of 720x480, the one size" in " ".join(result.stderr.split())
    assert "Leave --frames and --size out." in result.stderr
    same = doctor("--backbone", "cogvideox-5b-i2v", "--frames", "49", "--size", "720x480")
    assert "49 frames of 720x480" in same.stdout


def test_doctor_estimates_what_is_asked_for() -> None:
    words = ("--backbone", "cogvideox-2b", "--json")
    small, large = (
        json.loads(doctor(*words, "--frames", n, "--samples", "2").stdout)["backbone"]["estimate"]
        for n in ("24", "49")
    )
    assert small["frames"] == 24
    assert small["train"]["pflop"] < large["train"]["pflop"]
    text = doctor("--backbone", "cogvideox-5b", "--frames", "24", "--samples", "1").stdout
    for word in (
        "train",
        "apply",
        "GB of GPU memory",
        "min",
        "PFLOP",
        "a card",
        "not a measurement",
    ):
        assert word in text
    assert doctor("--frames", "24").exit_code == 2
    assert doctor("--backbone", "cogvideox-5b", "--frames", "22").exit_code == 2
    assert doctor("--backbone", "cogvideox-5b", "--size", "100x100").exit_code == 2
    assert json.loads(doctor("--backbone", "bundled", "--json").stdout)["backbone"]["fits"]


def test_doctor_unknown_backbone() -> None:
    assert doctor("--backbone", "nope").exit_code == 2
    assert doctor("--backbone", "bundled", "--frames", "50").exit_code == 2
    assert doctor("--backbone", "bundled", "--size", "100x100").exit_code == 2
    missing = doctor("--backbone", "./nothere")
    assert missing.exit_code == 1
    assert "no such folder" in missing.stderr


def test_doctor_says_where_main_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "gpus", lambda: ([machine.Gpu("G", 40.0, 40.0)], None))
    monkeypatch.setattr(machine, "measured_rate", lambda: None)
    for memory, words in (
        ((4.0, 8.0), "21.1 GB of main memory (8.0 GB in all)"),
        ((60.0, 64.0), ""),
    ):
        monkeypatch.setattr(machine, "memory_gb", lambda memory=memory: memory)
        (line,) = doctor("--backbone", "cogvideox-5b", "--json").stdout.splitlines()
        assert words in json.loads(line)["backbone"]["verdict"]
        assert ("main memory" in json.loads(line)["backbone"]["verdict"]) == bool(words)


def test_auto_choice() -> None:
    big, small, tiny = (machine.Gpu("G", gb, gb) for gb in (80.0, 17.0, 8.0))
    assert machine.choose_auto([big])[0] == "cogvideox-5b"
    assert machine.choose_auto([small])[0] == "cogvideox-2b"
    assert machine.choose_auto([tiny])[0] == "bundled"
    assert machine.choose_auto([])[0] == "bundled"


def test_cache_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert machine.cached("o/m") == "no"
    blobs = tmp_path / "models--o--m" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "x.incomplete").touch()
    assert machine.cached("o/m") == "partly"
    snapshot = tmp_path / "models--o--m" / "snapshots" / "r"
    snapshot.mkdir(parents=True)
    (snapshot / "model_index.json").touch()
    assert machine.cached("o/m") == "partly"
    index = '{"scheduler": ["diffusers", "CogVideoXDDIMScheduler"]}'
    (snapshot / "model_index.json").write_text(index)
    (blobs / "x.incomplete").rename(blobs / "x")
    assert machine.cached("o/m") == "partly"  # the scheduler is not there
    (snapshot / "scheduler").mkdir()
    (snapshot / "scheduler" / "scheduler_config.json").touch()
    assert machine.cached("o/m") == machine.cached("another/name", "o/m") == "yes"


def test_resolve(tmp_path: Path) -> None:
    name, variant, _ = machine.resolve("bundled", None)
    assert (name, variant and variant.name) == ("bundled", "bundled")
    assert machine.resolve("auto", "cpu")[0] == "bundled"
    assert machine.resolve(str(tmp_path), None)[1] is None
    named = tmp_path / "CogVideoX-5b"  # what is in a folder, its name does not say
    named.mkdir()
    assert machine.resolve(str(named), None)[1] is None
    assert machine.resolve("zai-org/CogVideoX-5b", None)[1] is variant_for("cogvideox-5b")
    assert machine.resolve("zai-0rg/CogVideoX-5b", None)[1] is None
    assert machine.resolve("someone/finetune", None)[1] is None
    with pytest.raises(UsageError):
        machine.resolve("cogvidex-5b", None)


def test_older_than_tested_is_untested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(versions.TESTED, "click", "999.1")
    assert versions.state("click") == "untested"
    monkeypatch.setitem(versions.TESTED, "click", "1.0")
    assert versions.state("click") == "ok"
    monkeypatch.setitem(versions.TESTED, "no-such-package-at-all", "1.0")
    assert versions.state("no-such-package-at-all") == "missing"
