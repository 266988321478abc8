"""`pe show` and `pe verify` on golden cards, damaged cards and hostile text."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pe_toolkit.card import MotionCard, renewed
from pe_toolkit.card.followed import little
from pe_toolkit.cli.main import cli

GOLDEN = Path(__file__).parent / "golden"
CARDS = sorted(GOLDEN.glob("*.safetensors"))
CARD = GOLDEN / "rotary-angle.safetensors"


def pe(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_show_says_what_is_in_it(path: Path) -> None:
    result = pe("show", path, "--all")
    assert result.exit_code == 0
    assert result.stderr == ""
    short = [line[:10].strip() for line in pe("show", path).stdout.splitlines()]
    assert len(short) < 20
    assert not {"recipe", "loss", "file"} & set(short)
    card = MotionCard.load(path)
    rows = {line[:10].strip(): line[11:] for line in result.stdout.splitlines()}
    assert rows["name"] == f"{card.spec.name} 1.0.0"
    before = "before it was edited, " if card.spec.edits else ""
    assert rows["followed"] == f"{before}75% of the picture moves and can be followed"
    assert rows["loss"] == ("1.5 -> 0.5" if card.spec.training.loss else "not optimised")
    assert rows["grid"].startswith("3x2x2")
    assert card.spec.backbone.variant in rows["backbone"]
    assert rows["content"] == card.digest
    assert rows["file"] == f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def test_show_json_is_one_summary_line() -> None:
    result = pe("show", CARD, "--json")
    (line,) = result.stdout.splitlines()
    data = json.loads(line)
    assert data["event"] == "summary"
    assert data["card"]["reference"]["matched"] == 0.75
    assert data["size_bytes"] == CARD.stat().st_size
    assert line.isascii()


@pytest.mark.parametrize(
    ("share", "variant", "said"),
    [
        (0.0, "bundled", "0.0% of the picture moves and can be followed: little to learn from"),
        (0.04, "bundled-absolute", "4.0% of the picture moves and can be followed: little to"),
        (0.076, "bundled", "7.6% of the picture moves and can be followed"),
        (0.005, "cogvideox-5b", "0.5% of the picture moves and can be followed"),
    ],
)
def test_show_says_how_much_can_be_followed(
    tmp_path: Path, share: float, variant: str, said: str
) -> None:
    card = MotionCard.load(CARD)
    spec = replace(
        card.spec,
        reference=replace(card.spec.reference, matched=share),
        backbone=replace(card.spec.backbone, variant=variant),
        digest="",
    )
    MotionCard(spec, card.tensors).save(tmp_path / "card.safetensors")
    lines = pe("show", tmp_path / "card.safetensors").stdout.splitlines()
    (text,) = [line[11:] for line in lines if line.startswith("followed")]
    assert text.startswith(said)
    assert ("little" in text) == ("little" in said)


def test_a_camera_is_not_little_to_learn_from() -> None:
    spec = MotionCard.load(GOLDEN / "rotary-offset.safetensors").spec
    spec = replace(
        spec,
        reference=replace(spec.reference, matched=0.027),
        backbone=replace(spec.backbone, variant="bundled"),
        digest="",
    )
    for start, said in (("layers", False), ("flow", True)):
        assert little(replace(spec, recipe=replace(spec.recipe, start=start))) == said


def test_hostile_text_is_neutralised(tmp_path: Path) -> None:
    card = MotionCard.load(CARD)
    name = "evil\x1b]0;owned\x07\nname  fake\u202e"
    spec = replace(card.spec, name=name, author="a\rb\x9b31m", digest="")
    path = tmp_path / "evil.safetensors"
    MotionCard(spec, card.tensors).save(path)
    text = pe("show", path).stdout
    assert not set(text) & set("\x1b\x07\r\x9b\u202e")
    assert "\\x1b]0;owned\\x07\\nname  fake\\u202e" in text
    assert json.loads(pe("show", path, "--json").stdout)["card"]["name"] == name


def test_many_samples_are_cut(tmp_path: Path) -> None:
    card = MotionCard.load(CARD)
    samples = tuple(replace(card.spec.samples[0], seed=seed) for seed in range(12))
    path = tmp_path / "many.safetensors"
    MotionCard(replace(card.spec, samples=samples, digest=""), card.tensors).save(path)
    assert "and 9 more" in pe("show", path).stdout
    text = pe("show", path, "--all").stdout
    assert "seed 7\n" in text
    assert "seed 8\n" not in text
    assert "and 4 more" in text


def test_verify_all_golden_cards() -> None:
    result = pe("verify", *CARDS)
    assert result.exit_code == 0
    assert result.stdout.count(": ok, file sha256:") == len(CARDS)


def damaged(tmp_path: Path) -> Path:
    data = bytearray(CARD.read_bytes())
    data[-1] ^= 1  # one bit of the last tensor
    path = tmp_path / "flipped.safetensors"
    path.write_bytes(data)
    return path


def test_verify_finds_one_flipped_bit_and_goes_on(tmp_path: Path) -> None:
    bad = damaged(tmp_path)
    result = pe("verify", bad, CARD)
    assert result.exit_code == 1
    assert f"Error: {bad}: " in result.stderr
    assert "Hint:" in result.stderr
    assert f"{CARD}: ok" in result.stdout


def test_verify_json(tmp_path: Path) -> None:
    result = pe("verify", damaged(tmp_path), CARD, "--json")
    first, second, last = map(json.loads, result.stdout.splitlines())
    assert (first["ok"], second["ok"]) == (False, True)
    assert last == {"event": "summary", "ok": False, "cards": 2, "bad": 1}
    assert result.exit_code == 1


def test_verify_debug_shows_a_traceback(tmp_path: Path) -> None:
    result = pe("verify", damaged(tmp_path), "--debug")
    assert result.exit_code == 1
    assert "Traceback" in result.stderr


@pytest.mark.parametrize("command", ["show", "verify"])
@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04" + bytes(40), b"\x80\x04" + bytes(40), bytes(20)]
)
def test_strangers_are_refused(command: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "with space é.safetensors"
    path.write_bytes(content)
    result = pe(command, path)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert result.stdout == ""


@pytest.mark.parametrize("command", ["show", "verify"])
def test_a_missing_card(command: str, tmp_path: Path) -> None:
    result = pe(command, tmp_path / "none.safetensors")
    assert result.exit_code == 1
    assert "no such file" in result.stderr


@pytest.mark.parametrize("command", ["show", "verify"])
def test_no_card_is_a_usage_error(command: str) -> None:
    assert pe(command).exit_code == 2


@pytest.mark.parametrize("more", [(), ("--backbone", "bundled")])
def test_a_card_of_an_unknown_family_is_shown_and_not_applied(
    tmp_path: Path, more: tuple[str, ...]
) -> None:
    card = MotionCard.load(CARD)
    own = replace(card.spec.backbone, family="unheard-of", variant="it", model_id="some/model")
    path = tmp_path / "other.safetensors"
    spec, tensors = renewed(card)
    MotionCard(replace(spec, backbone=own), tensors).save(path)
    assert pe("show", path, "--all").exit_code == pe("verify", path).exit_code == 0
    result = pe("apply", path, "--prompt", "a red circle", "-o", tmp_path / "video.mp4", *more)
    assert result.exit_code == 2
    assert "'unheard-of', which this pe-toolkit does not drive" in " ".join(result.stderr.split())
    assert "newer pe-toolkit" in result.stderr
    assert "--backbone some/model" not in result.stderr
    assert not (tmp_path / "video.mp4").exists()
