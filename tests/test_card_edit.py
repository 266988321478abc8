"""A corrected card is a new card: same motion, another digest, its parent recorded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from pe_toolkit.card import FORMAT_VERSION, MotionCard
from pe_toolkit.card.edit import mean_scores, revised
from pe_toolkit.cli.main import cli
from pe_toolkit.errors import CardError, UsageError
from pe_toolkit.registry.store import Store
from tests.registry.cards import GOLDEN, make_card

OLD = GOLDEN / "rotary-angle.safetensors"


def pe(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


@pytest.mark.parametrize("case", ["rotary-angle", "absolute-table", "latents", "rotary-angle-read"])
def test_a_revised_card_has_the_same_motion_and_says_where_it_came_from(case: str) -> None:
    old = MotionCard.load(GOLDEN / f"{case}.safetensors")
    new = revised(old, name="Näme", license="", version="1.0.1", scores={"cosine": 0.75})
    assert (new.spec.name, new.spec.author, new.spec.license) == ("Näme", old.spec.author, "")
    assert new.spec.scores == {**old.spec.scores, "cosine": 0.75}
    assert (new.spec.parents, new.spec.format_version) == ((old.digest,), FORMAT_VERSION)
    assert new.digest != old.digest
    assert new.spec.created == old.spec.created
    np.testing.assert_array_equal(new.mask, old.mask)
    for name in old.tensors.keys() - {"flow_mask"}:
        np.testing.assert_array_equal(new.tensors[name], old.tensors[name])
    again = revised(new, version="1.0.2")
    assert again.spec.parents == (new.digest,)


def test_what_changes_nothing_or_breaks_a_rule_is_refused() -> None:
    old = MotionCard.load(OLD)
    with pytest.raises(UsageError, match="something to change"):
        revised(old, name=old.spec.name, scores=dict(old.spec.scores))
    with pytest.raises(CardError, match="semantic version"):
        revised(old, version="2")
    with pytest.raises(CardError, match="`scores"):
        revised(old, scores={"cosine": float("nan")})


def test_mean_scores_say_of_how_many() -> None:
    assert mean_scores("cosine", [0.5, 1.0]) == {"cosine": 0.75, "cosine_videos": 2.0}
    assert mean_scores("cosine", []) == {}


def test_pe_edit_writes_a_new_file_and_leaves_the_old_one(tmp_path: Path) -> None:
    path, new = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    path.write_bytes(OLD.read_bytes())
    made = pe("edit", path, "--license", "MIT", "--score", "fidelity=0.5", "-o", new)
    assert made.exit_code == 0, made.stderr
    assert "license         CC-BY-4.0 -> MIT" in made.stdout
    card = MotionCard.load(new)
    assert card.spec.license == "MIT"
    assert card.spec.scores["fidelity"] == 0.5
    assert path.read_bytes() == OLD.read_bytes()
    assert f"parent     content {card.spec.came_from[0]}" in pe("show", new).stdout
    assert pe("verify", new).exit_code == 0
    refused = pe("edit", path, "--license", "MIT")
    assert refused.exit_code == 2
    assert "-o NEW.safetensors" in refused.stderr
    assert pe("edit", path, "--license", "MIT", "-o", path).exit_code == 2  # it is there
    assert pe("edit", path, "--license", "MIT", "-o", path, "--force").exit_code == 0
    assert MotionCard.load(path).spec.license == "MIT"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--card-version", "2"], "Expected `version` to be a semantic version"),
        ([], "or what its motion becomes (--mirror, --reverse,"),
        (["--name", MotionCard.load(OLD).spec.name], "says all of it already"),
        (["--name", ""], "Expected `name`"),
        (["--score", "x=y"], "Expected a number for --score x"),
        (["--score", "x=inf"], "Expected `scores.x`"),
    ],
)
def test_pe_edit_refuses(tmp_path: Path, words: list[str], says: str) -> None:
    result = pe("edit", OLD, *words, "-o", tmp_path / "new.safetensors")
    assert result.exit_code == 2, result.stderr
    assert says in result.stderr
    assert not list(tmp_path.iterdir())


def test_pe_edit_in_the_registry_makes_another_version(tmp_path: Path) -> None:
    pe("add", make_card(tmp_path, "wave", "1.0.0"), "big-wave")
    refused = pe("edit", "big-wave", "--license", "MIT")
    assert refused.exit_code == 2
    said = " ".join(refused.stderr.split())
    assert "Expected a version or a name of its own for the new card: big-wave@1.0.0 is" in said
    assert "pe edit big-wave --license MIT --card-version 1.0.1." in said
    made = pe("edit", "big-wave", "--license", "MIT", "--card-version", "1.0.1")
    assert made.exit_code == 0, made.stderr
    assert "big-wave@1.0.1 is a new card; big-wave@1.0.0 is as it was." in made.stderr
    entries = Store().entries()
    assert [str(e.reference) for e in entries] == ["big-wave@1.0.0", "big-wave@1.0.1"]
    assert entries[1].facts["license"] == "MIT"
    renamed = pe("edit", "big-wave@1.0.0", "--name", "Ripple")
    assert renamed.exit_code == 0, renamed.stderr
    assert (
        "name       ripple@1.0.0 (the card itself says Ripple 1.0.0)" in pe("show", "ripple").stdout
    )
    taken = pe("edit", "big-wave@1.0.0", "--name", "Ripple", "--license", "MIT")
    assert "Expected ripple@1.0.0 to be free" in taken.stderr
    again = pe("edit", "big-wave@1.0.0", "--license", "GPL-3.0-only")
    assert "--card-version 1.0.2." in " ".join(again.stderr.split())


def test_a_version_that_disagrees_with_the_card_is_said_at_once(tmp_path: Path) -> None:
    path = make_card(tmp_path, "wave", "1.0.0")
    added = pe("add", path, "wave@2.0.0")
    assert "the card itself says version 1.0.0" in added.stderr
    assert "pe edit wave@2.0.0 --card-version 2.0.0 --force" in added.stderr
    assert "(the card itself says 1.0.0)" in pe("show", "wave@2.0.0").stdout
    assert "wave@2.0.0 (1.0.0)" in pe("list").stderr
    tagged = pe("tag", "wave@2.0.0", "wave@3.0.0")
    assert "the card itself says version 1.0.0" in tagged.stderr
    fixed = pe("edit", "wave@2.0.0", "--card-version", "2.0.0", "--force")
    assert fixed.exit_code == 0, fixed.stderr
    assert "card itself" not in pe("show", "wave@2.0.0").stdout
    assert "card itself" not in pe("add", path, "other").stderr
