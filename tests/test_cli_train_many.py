"""`pe train A B ... -o DIR`: a card for each, failures told, what is there left alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pe_toolkit.card import MotionCard
from pe_toolkit.card.motion_words import card_motion
from pe_toolkit.cli.main import cli
from pe_toolkit.jobs.folder import JobFolder
from pe_toolkit.jobs.job import Job
from pe_toolkit.suites import cards, doing
from pe_toolkit.suites.bundled import moving_scenes
from pe_toolkit.training.request import TrainRequest
from pe_toolkit.video import write_video
from pe_toolkit.video.sources import digest
from pe_toolkit.world.scenes import render

CHEAP = ("--backbone", "bundled", "--recipe", "rich", "--steps", "2", "--samples", "1")


def pe(*words: object) -> Result:
    return CliRunner().invoke(cli, ["train", *map(str, words)])


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two references of one name, in two folders."""
    home = tmp_path_factory.mktemp("clips")
    for name, scene in zip("ab", moving_scenes(2), strict=True):
        (home / name).mkdir()
        write_video(home / name / "ref.mp4", render(scene), 16)
    return [home / name / "ref.mp4" for name in "ab"]


def test_a_card_for_each_and_failures_told(clips: list[Path], tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    out = tmp_path / "cards"
    odd = ("--prompt", "a red circle on a yellow background")
    words = (*clips, tmp_path / "bad.mp4", "-o", out, *CHEAP, *odd)
    first = pe(*words, "--json")
    assert first.exit_code == 1
    summary = json.loads(first.stdout.splitlines()[-1])
    assert (summary["done"], summary["there"], len(summary["failed"])) == (2, 0, 1)
    assert first.stderr.count("bad: ") == 1
    bad = pe(words[2], "--jobs", 1, "-o", tmp_path / "none", *CHEAP)
    assert bad.stderr.count("bad: ") == 1
    assert "0 cards made, 0 were there, 1 failed: bad." in bad.stderr
    assert "knows no yellow background" in first.stderr
    names = ["ref.safetensors", "ref-2.safetensors"]
    assert [Path(card).name for card in summary["cards"]] == names
    one, two = (MotionCard.load(out / name) for name in names)
    assert one.spec.name == two.spec.name == "ref"
    assert one.spec.reference.sha256 != two.spec.reference.sha256
    stamps = [(out / name).stat().st_mtime_ns for name in names]

    again = pe(*words[:2], *words[3:])
    assert again.exit_code in (0, 3), again.output
    assert "0 cards made, 2 were there, 0 failed." in again.stderr
    assert [(out / name).stat().st_mtime_ns for name in names] == stamps
    for card in (one, two):  # what is said of one reference alone
        assert card_motion(card.spec) in again.stderr
    assert again.stderr.count("at their own speed, 128x128 as they are") == 2
    other = pe(*words[:2], *words[3:], "--seed", 1)
    assert other.exit_code == 2
    assert "but there is one, made otherwise" in other.stderr


def test_alone_and_among_others_it_is_the_same_card(clips: list[Path], tmp_path: Path) -> None:
    alone = pe(clips[0], "-o", tmp_path / "one.safetensors", *CHEAP)
    assert alone.exit_code in (0, 3), alone.output
    many = pe(clips[0], "-o", tmp_path / "many", "--jobs", 1, *CHEAP)
    assert many.exit_code in (0, 3), many.output
    one = MotionCard.load(tmp_path / "one.safetensors")
    two = MotionCard.load(tmp_path / "many" / "ref.safetensors")
    assert one.spec.recipe == two.spec.recipe
    assert one.spec.reference == two.spec.reference
    assert one.spec.samples == two.spec.samples
    assert all((one.tensors[name] == two.tensors[name]).all() for name in one.tensors)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "Expected -o DIR with several references"),
        (("-o", "x.safetensors"), "Expected a folder for several cards"),
        (("-o", "x", "--preview", "p.mp4"), "Expected no --preview with several"),
        (("-o", "x", "--name", "n"), "Expected no --name with several"),
        (("-o", "x", "--resume"), "Expected no --resume with several"),
        (("-o", "x", "--set", "tau=0"), "a tau above 0"),
    ],
)
def test_what_makes_no_sense(
    words: tuple[str, ...],
    message: str,
    clips: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = pe(*clips, *CHEAP, *words)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert not list(tmp_path.iterdir())


def test_all_are_read_up_to_the_end(clips: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "cards"
    span = ("--start", "0.5", "--end", "1.5")
    made = pe(*clips, "-o", out, *CHEAP, *span)
    assert made.exit_code in (0, 3), made.output
    for name in ("ref", "ref-2"):
        found = MotionCard.load(out / f"{name}.safetensors").spec.reference
        assert (found.start, found.used) == (pytest.approx(0.5), pytest.approx(1.0))
    again = pe(*clips, "-o", out, *CHEAP, *span)
    assert "0 cards made, 2 were there" in again.stderr
    other = pe(*clips, "-o", out, *CHEAP, *span[:3], "1.6")
    assert "but there is one, made otherwise" in other.stderr


def test_an_end_beyond_the_clip_is_refused(clips: list[Path], tmp_path: Path) -> None:
    card = tmp_path / "c.safetensors"
    result = pe(clips[0], "-o", card, *CHEAP, "--end", "7")
    assert result.exit_code == 1
    assert "Expected --end within the clip, but 'ref.mp4' ends at 2." in result.stderr
    assert not card.exists()


def test_a_request_as_json() -> None:
    asked = TrainRequest(
        reference=Path("/a/b.mp4"),
        end=2.5,
        size=(8, 4),
        prompts=("a", "b"),
        overrides=(("tau", "2"),),
        kv_from=Path("/a/b.mp4"),
        steps=3,
    )
    assert cards.from_dict(json.loads(json.dumps(cards.as_dict(asked)))) == asked


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("a.mp4", "a"), ("a b/ä b.mov", "ä_b"), (".hidden", "hidden"), ("...", "motion"),
        ("фото.mp4", "фото"), ("हिन्दी 2.mp4", "हिन्दी_2"), ("日本:語?.mp4", "日本_語_"),
        ("a\u0308.mp4", "ä"), ("x\u3164\udcff\u202e.mp4", "x___"), ("語" * 90, "語" * 53),
    ],
)  # fmt: skip
def test_names_of_cards(name: str, file: str) -> None:
    assert [job.name for job in cards.jobs([TrainRequest(reference=Path(name))], {})] == [file]


def test_no_two_cards_of_one_name() -> None:
    paths = [
        "x/фото.mp4",
        "y/фото.mp4",
        "Фото.mov",
        "фото-2.mp4",
        "A.mp4",
        "a.mp4",
        "?.mp4",
        "*.mp4",
    ]
    listed = cards.jobs([TrainRequest(reference=Path(path)) for path in paths], {})
    names = ["фото", "фото-2", "Фото-3", "фото-2-2", "A", "a-2", "_", "_-2"]
    assert [job.name for job in listed] == names


def test_what_is_there_has_to_be_what_would_be_made(clips: list[Path], tmp_path: Path) -> None:
    clip, out = tmp_path / "ref.mp4", tmp_path / "cards"
    clip.write_bytes(clips[0].read_bytes())
    words = (clip, "-o", out, "--jobs", 1, *CHEAP)
    assert pe(*words).exit_code in (0, 3)
    card = out / "ref.safetensors"
    made = card.read_bytes()
    card.unlink()  # the same command makes what is missing
    assert "1 cards made, 0 were there" in pe(*words).stderr
    assert MotionCard.load(card).tensors["flow"].tobytes() in made
    card.write_bytes(made + b"x")
    other = pe(*words)
    assert (other.exit_code, card.read_bytes()) == (2, made + b"x")
    assert "made otherwise" in other.stderr
    card.write_bytes(made)
    # As after `--force`, or a kill between the card and its record: the same command goes on.
    folder, job = JobFolder(out), cards_jobs(out)
    folder.own(job.id, digest(card))
    folder.again(job)
    assert "1 cards made, 0 were there" in pe(*words).stderr
    assert folder.owned(job.id) == set()
    # And not, if another list has put its own there since.
    folder.own(job.id, digest(card))
    folder.again(job)
    assert "1 cards made" in pe(*words, "--seed", 7, "--force").stderr
    theirs = card.read_bytes()
    other = pe(*words)
    assert (other.exit_code, card.read_bytes()) == (2, theirs)
    assert "made otherwise" in other.stderr
    assert "1 cards made" in pe(*words, "--force").stderr
    clip.write_bytes(clips[1].read_bytes())
    other = pe(*words)
    assert other.exit_code == 2
    assert "made of another ref.mp4" in other.stderr
    assert "1 cards made" in pe(*words, "--force").stderr


def cards_jobs(out: Path) -> Job:
    """The one job of a folder."""
    (record,) = (json.loads(path.read_text()) for path in (out / "records").glob("*.json"))
    return Job(record["args"]["card"], record["work"], record["args"])


def test_a_card_that_comes_while_they_are_made_stays(
    clips: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of somebody else, or of another list with a reference of that name."""
    out, made = tmp_path / "cards", doing.trained

    def slow(*given: Any) -> Any:
        (out / "ref.safetensors").write_bytes(b"mine")
        return made(*given)

    monkeypatch.setattr(doing, "trained", slow)
    result = pe(clips[0], "-o", out, "--jobs", 1, *CHEAP)
    assert result.exit_code == 1
    assert "Expected no file at" in result.stderr
    assert (out / "ref.safetensors").read_bytes() == b"mine"
    assert not list((out / "records").glob("*.safetensors"))


def test_a_folder_has_to_be_named(clips: list[Path]) -> None:
    asked = pe(clips[0], "--jobs", 1)
    assert asked.exit_code == 2
    assert "Expected -o DIR with --jobs, got none." in asked.stderr
