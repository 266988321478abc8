"""Drafts: of several seeds, the one whose few steps follow the card best makes the video."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from pe_toolkit.apply import ApplyRequest, Draft, Generated, drafts
from pe_toolkit.card import CardSpec, MotionCard
from pe_toolkit.cli.main import cli
from pe_toolkit.cli.requests.apply import ApplyOptions
from pe_toolkit.errors import UsageError
from pe_toolkit.evaluation.in_place import agreement_in_place
from pe_toolkit.video import read_clip, write_video
from pe_toolkit.world.motions import scenes_of
from pe_toolkit.world.scenes import render
from tests.clips import moving_square, write_clip
from tests.test_following import RIGHT, flow_of

GOLDEN = Path(__file__).parent / "golden"
PROMPT = "a yellow cross and a white circle on a brown background"


def pe(*words: object) -> Result:
    result = CliRunner().invoke(cli, [str(word) for word in words])
    assert "Traceback" not in result.stderr
    return result


def made(seed: int) -> Generated:
    return Generated("a", seed, np.full((1, 1, 1, 3), seed, np.uint8), 8.0, 1, "S", 0.0)


def test_the_best_comes_first_and_the_seed_itself_where_nothing_is_known() -> None:
    known = {1: 0.2, 2: 0.9, 3: None, 4: -0.5}
    found = drafts.judged(map(made, known), lambda frames: known[int(frames[0, 0, 0, 0])])
    assert [draft.seed for draft in found] == [2, 1, 4, 3]
    assert found[0] == Draft(2, 0.9)
    none = drafts.judged(map(made, known), lambda frames: None)
    assert [draft.seed for draft in none] == [1, 2, 3, 4]


def test_drafts_are_of_the_seed_and_take_a_fifth_of_the_steps() -> None:
    assert drafts.seeds_of(42, 3) == [42, 1042, 2042]
    assert [drafts.draft_steps(steps) for steps in (50, 20, 7, 3, 1)] == [10, 4, 2, 2, 1]


def test_agreement_in_place_tells_two_motions_that_cancel_each_other() -> None:
    def two(first: list[tuple[int, int]], second: list[tuple[int, int]]) -> torch.Tensor:
        upper, lower = flow_of(first), flow_of([(x, y + 5) for x, y in second])
        return torch.where((upper != 0).any(-1, keepdim=True), upper, lower)

    left = [(5 - x, y) for x, y in RIGHT]
    wanted = two(RIGHT, left)
    assert agreement_in_place(wanted, wanted) == pytest.approx(1)
    assert agreement_in_place(two(left, RIGHT), wanted) < 0.1
    assert 0.2 < agreement_in_place(two(RIGHT, [(2, 2)] * 6), wanted) < 0.7
    assert np.isnan(agreement_in_place(wanted, torch.zeros_like(wanted)))


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"drafts": 0}, "drafts, got 0"),
        ({"drafts": 17}, "drafts, got 17"),
        ({"drafts": 2, "no_card": True}, "a card that acts"),
        ({"drafts": 2, "strength": 0.0}, "a card that acts"),
    ],
)
def test_drafts_of_nothing_are_refused(more: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        ApplyRequest(prompts=("a",), **more).check()  # type: ignore[arg-type]


def test_a_latents_card_is_bound_to_its_seed() -> None:
    spec = MotionCard.load(GOLDEN / "latents.safetensors").spec
    with pytest.raises(UsageError, match="drafts with a latents card"):
        ApplyRequest(prompts=("a",), drafts=2).seeds_for(spec)


def test_where_nobody_says_how_many_two_things_get_four() -> None:
    two = MotionCard.load(GOLDEN / "rotary-offset.safetensors").spec
    assert "subject-2" in (two.recipe.layers or ())
    plain = replace(two, recipe=replace(two.recipe, layers=("camera", "subject")), digest="")
    said = {"prompt_file": None, "negative_prompt": None, "loras": (), "card_path": GOLDEN}

    def count(spec: CardSpec, *, bundled: bool = True, **more: Any) -> int:
        words = {"prompts": ("a",), "seeds": (), "drafts": None} | more
        asked = ApplyOptions.of(**said | words)
        return (asked.with_drafts(spec, bundled=bundled) if asked.free else asked).drafts

    assert count(two) == drafts.PAY
    assert count(plain) == count(two, bundled=False) == 1
    assert count(two, seeds=(3,)) == count(two, drafts=1) == count(two, no_card=True) == 1
    assert count(two, strength=0.0) == count(two, subject=0.0) == 1
    assert count(two, seeds=(3,), drafts=2) == count(plain, drafts=2) == 2


def test_a_video_is_that_of_the_seed_that_was_chosen(tmp_path: Path) -> None:
    write_video(tmp_path / "ref.mp4", render(scenes_of("two", 1)[0]), 16.0)
    card = tmp_path / "card.safetensors"
    assert pe("train", tmp_path / "ref.mp4", "-o", card).exit_code == 0
    out, again = tmp_path / "out.mp4", tmp_path / "again.mp4"
    asked = ("apply", card, "--prompt", PROMPT, "--steps", "5")
    result = pe(*asked, "--drafts", "3", "-o", out, "--json")
    assert result.exit_code == 0, result.stderr
    facts = json.loads(out.with_suffix(".json").read_text())
    follows = {draft["seed"]: draft["follows"] for draft in facts["drafted"]}
    assert sorted(follows) == [42, 1042, 2042]
    assert follows[facts["chosen_seed"]] == max(follows.values())
    (event,) = (e for e in map(json.loads, result.stdout.splitlines()) if e["event"] == "generated")
    assert event["seed"] == facts["chosen_seed"]
    assert event["drafts"] == facts["drafted"]
    alone = pe(*asked, "--seed", facts["chosen_seed"], "-o", again)
    assert alone.exit_code == 0
    assert "best of" not in alone.stderr
    assert "drafted" not in json.loads(again.with_suffix(".json").read_text())
    by_itself = pe(*asked, "-o", tmp_path / "itself.mp4")
    assert "is the best of 4" in " ".join(by_itself.stderr.split())
    assert len(json.loads((tmp_path / "itself.json").read_text())["drafted"]) == 4
    assert np.array_equal(read_clip(out).frames, read_clip(again).frames)
    assert "1 of 1 videos" in pe(*asked, "--drafts", "3", "-o", out, "--resume").stderr
    other = pe(*asked, "--drafts", "2", "-o", out, "--resume")
    assert other.exit_code != 0
    assert "drafts" in other.stderr


def test_without_anything_to_follow_no_drafts_are_made(tmp_path: Path) -> None:
    """One motion after another: neither displacements nor paths are those of a clip."""
    write_clip(tmp_path / "ref.mp4", moving_square(40))
    whole, card, out = (tmp_path / name for name in ("a.safetensors", "b.safetensors", "out.mp4"))
    assert pe("train", tmp_path / "ref.mp4", "-o", whole, "--size", "96x96").exit_code == 0
    assert pe("edit", whole, "--then", whole, "-o", card).exit_code == 0
    result = pe("apply", card, "--prompt", PROMPT, "--steps", "4", "--drafts", "2", "-o", out)
    assert result.exit_code == 0, result.stderr
    assert "No drafts are made" in " ".join(result.stderr.split())
    assert "chosen_seed" not in json.loads(out.with_suffix(".json").read_text())
