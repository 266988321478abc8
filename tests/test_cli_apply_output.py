"""What `pe apply` leaves when the score goes wrong, and what it prints for people and programs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from pe_toolkit.apply import Generated
from pe_toolkit.card import MotionCard
from pe_toolkit.cli.apply_output import Results, score_words
from pe_toolkit.cli.apply_resume import finished
from pe_toolkit.cli.files import Target
from pe_toolkit.cli.output import Output
from pe_toolkit.cli.progress import Progress
from pe_toolkit.cli.requests.apply import ApplyOptions
from pe_toolkit.errors import OutputExistsError
from pe_toolkit.evaluation.following import CHANCE, CHANCE_IN_PLACE, Following
from pe_toolkit.video import read_clip

GOLDEN = Path(__file__).parent / "golden"
OPTIONS = ApplyOptions(
    prompts=("a red circle",), negative_prompt="", compile=True, quantize="none",
    card_path=GOLDEN / "rotary-angle.safetensors", output=Path("out.mp4"),
)  # fmt: skip


class Scored:
    """Scores as it was told to."""

    def __init__(self, answer: Following | BaseException, video: Path) -> None:
        self.answer, self.video, self.chance = answer, video, CHANCE

    def compare(self, frames: Any) -> Following:
        assert self.video.exists()  # what took minutes is safe before the score
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


def taken(answer: Following | BaseException | None, folder: Path) -> Results:
    target = Target("a red circle", 5, folder / "out.mp4")
    frames = np.zeros((9, 32, 32, 3), np.uint8)
    motion: Any = None if answer is None else Scored(answer, target.video)
    card = MotionCard.load(GOLDEN / "rotary-angle.safetensors")
    results = Results(card, OPTIONS, Output(), None, motion)
    try:
        with Progress(results.out, "video", 1) as bar:
            made = Generated("a red circle", 5, frames, 8.0, 2, "TheScheduler", 0.5)
            results.take(target, made, bar)
    finally:
        assert read_clip(target.video).frames.shape == frames.shape
    results.finish()
    return results


def facts(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "out.json").read_text("utf-8"))
    return found


class OutOfMemoryError(RuntimeError):
    """Bears the name of torch's."""


@pytest.mark.parametrize(
    ("answer", "score", "reason"),
    [
        (None, None, "no score was asked for"),
        (Following(0.75), 0.75, None),
        (Following(None, "in the video, nothing moves"), None, "in the video, nothing moves"),
        (OutOfMemoryError("tried /x"), None, "scoring failed (OutOfMemoryError)"),
    ],
)
def test_a_video_is_kept_whatever_its_score(
    answer: Following | BaseException | None, score: float | None, reason: str | None,
    tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    done = taken(answer, tmp_path).done[0]
    for found in (facts(tmp_path), vars(done)):
        assert (found["motion_follows"], found["motion_follows_reason"]) == (score, reason)
    assert (facts(tmp_path)["scheduler"], facts(tmp_path)["compile"]) == ("TheScheduler", True)
    err = capsys.readouterr().err
    assert ("no motion score" in err) == (score is None and answer is not None)
    assert ("Warning: " in err) == ("tried /x" in err) == isinstance(answer, BaseException)


def test_a_video_says_what_made_it(tmp_path: Path) -> None:
    results = taken(None, tmp_path)
    with av.open(str(tmp_path / "out.mp4")) as container:
        found = container.metadata
    spec = results.card.spec
    assert (found["prompt"], found["seed"]) == ("a red circle", "5")
    assert (found["card"], found["card_digest"]) == (f"{spec.name} {spec.version}", spec.digest)


def test_ctrl_c_while_it_is_scored_keeps_the_video(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        taken(KeyboardInterrupt(), tmp_path)
    found = facts(tmp_path)
    assert (found["motion_follows"], found["motion_follows_reason"]) == (None, "interrupted")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.json", "out.mp4"]


def test_a_person_gets_a_table_and_a_program_bare_paths(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    results = taken(None, tmp_path)
    captured = capsys.readouterr()
    table = f'{tmp_path / "out.mp4"}  "a red circle", seed 5\n'
    assert captured.out == f"{tmp_path / 'out.mp4'}\n"
    assert captured.err.endswith(table)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    results.finish()
    assert capsys.readouterr() == (table, "")
    results.out.json = True
    results.finish()
    captured = capsys.readouterr()
    (line,) = captured.out.splitlines()
    assert json.loads(line)["event"] == "summary"
    assert captured.err == ""


@pytest.mark.parametrize(("score", "doubt"), [(0.69, True), (0.71, False), (-0.5, True)])
def test_a_score_says_what_it_is_worth(
    score: float, doubt: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken(Following(score), tmp_path)
    err = capsys.readouterr().err
    assert f"motion follows the reference: {score:.2f}" in err
    assert ("(may be chance)" in err) == doubt
    assert "validated on rendered shapes" in err


def test_of_several_motions_a_mean_says_little_and_patches_say_it() -> None:
    one = MotionCard.load(GOLDEN / "rotary-angle.safetensors").spec
    placed = MotionCard.load(GOLDEN / "rotary-offset.safetensors").spec  # two things, and a phase
    assert placed.reference.motion is not None
    assert len(placed.reference.motion.subjects) == 2
    mean = replace(placed, recipe=replace(placed.recipe, phase=None))
    assert "may be chance" in score_words(Following(0.65), one, CHANCE)
    assert "several things move" in score_words(Following(0.65), mean, CHANCE)
    in_place = CHANCE_IN_PLACE
    assert score_words(Following(0.65), placed, in_place) == "motion follows the reference: 0.65"
    assert "may be chance" in score_words(Following(0.55), placed, in_place)
    shown = score_words(Following(0.4, camera=1.1), one, 0.35)
    assert shown == "motion follows the reference: 0.40; shows 1.10 of its camera's motion"
    shown = score_words(Following(None, "too little", 0.9), one, CHANCE)
    assert shown == "no motion score: too little; shows 0.90 of its camera's motion"
    assert score_words(Following(0.9), one, CHANCE) == score_words(Following(0.9), mean, CHANCE)


def test_what_was_interrupted_is_made_again(tmp_path: Path) -> None:
    """A video whose score or comparison is not there yet: the JSON file says so."""
    with pytest.raises(KeyboardInterrupt):
        taken(KeyboardInterrupt(), tmp_path)
    target = Target("a red circle", 5, tmp_path / "out.mp4")
    found = facts(tmp_path)
    (begun,) = finished([target], {target: {"prompt": "a red circle"}})
    assert begun.again
    (tmp_path / "out.json").write_text(json.dumps(found | {"motion_follows_reason": None}))
    (whole,) = finished([target], {target: {}})
    assert not whole.again
    beside = replace(target, side_by_side=tmp_path / "out-side-by-side.mp4")
    (lacking,) = finished([beside], {beside: {}})
    assert lacking.again


def test_a_name_that_nobody_gave_makes_room(tmp_path: Path, monkeypatch: Any) -> None:
    """Of two commands at once without -o, the later one takes the next number."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out.mp4").write_bytes(b"of another command")
    frames = np.zeros((9, 32, 32, 3), np.uint8)
    card = MotionCard.load(GOLDEN / "rotary-angle.safetensors")
    for output, name in ((None, "out-2.mp4"), (Path("out.mp4"), None)):
        results = Results(card, replace(OPTIONS, output=output), Output())
        made = Generated("a red circle", 5, frames, 8.0, 2, "TheScheduler", 0.5)
        target = Target("a red circle", 5, Path("out.mp4"))
        with Progress(results.out, "video", 1) as bar:
            if name is None:
                with pytest.raises(OutputExistsError):
                    results.take(target, made, bar)
                continue
            results.take(target, made, bar)
        assert results.done[0].video == Path(name)
        assert json.loads((tmp_path / "out-2.json").read_text("utf-8"))["video"] == name
    assert (tmp_path / "out.mp4").read_bytes() == b"of another command"
