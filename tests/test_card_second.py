"""Format 2.0: what it added is checked as strictly, and what was there before stays readable."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pe_toolkit.card import (
    CardSpec,
    EditSpec,
    MotionCard,
    edited,
    read_card,
    read_info,
    renewed,
    verify_card,
)
from pe_toolkit.card.migrations import FORMAT_VERSION, SINCE, forward
from pe_toolkit.card.text import canonical_json
from pe_toolkit.cli.commands.show import describe as shown
from pe_toolkit.errors import CardError

GOLDEN = Path(__file__).parent / "golden"
MAKE = runpy.run_path(str(GOLDEN / "make.py"))
OLD = [case for case in MAKE["CASES"] if case not in MAKE["SECOND"]]
DIGEST = "sha256:" + "d4" * 32


def described(case: str, edit: Callable[[dict[str, Any]], object]) -> bytes:
    """A golden card with another description, the digest left alone."""
    raw = (GOLDEN / f"{case}.safetensors").read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    spec = json.loads(header["__metadata__"]["pe_card"])
    edit(spec)
    header["__metadata__"]["pe_card"] = canonical_json(spec).decode()
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + raw[8 + length :]


def motion(spec: dict[str, Any]) -> Any:
    return spec["reference"]["motion"]


LIES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no layers": (lambda s: s["recipe"].pop("layers"), "with `recipe.layers`"),
    "layers of angles": (
        lambda s: s["recipe"].update(parametrisation="angle"),
        "without `recipe.layers`",
    ),
    "one layer twice": (
        lambda s: s["recipe"].update(layers=["camera", "camera", "subject"]),
        "different names",
    ),
    "one layer more": (
        lambda s: s["recipe"]["layers"].append("subject-3"),
        "'positions' of shape",
    ),
    "unknown layer": (lambda s: s["recipe"].update(layers=["sky"]), "`recipe.layers[0]`"),
    "subject-1": (lambda s: s["recipe"].update(layers=["subject-1"]), "`recipe.layers[0]`"),
    "later of other layers": (
        lambda s: s["recipe"].update(below={"noise": 0.5, "times": [0.5]}),
        "`recipe.below.times` to be 3 numbers, one for each of `recipe.layers`, got [0.5]",
    ),
    "backwards later": (
        lambda s: s["recipe"].update(below={"noise": 0.5, "times": [0, 0, -1]}),
        "`recipe.below.times[2]`",
    ),
    "no noise": (
        lambda s: s["recipe"].update(below={"noise": 1.5, "times": [0, 0, 1]}),
        "`recipe.below.noise`",
    ),
    "no layer": (lambda s: s["recipe"].update(layers=[]), "1 to 8 entries"),
    "layers null": (lambda s: s["recipe"].update(layers=None), "with `recipe.layers`"),
    "offsets in 1.4": (lambda s: s.update(format_version="1.4"), "came with 2.0"),
    "motion null": (lambda s: s["reference"].update(motion=None), "canonical"),
    "motion of a frame less": (lambda s: motion(s)["camera"].pop(), "3 entries"),
    "motion of five numbers": (lambda s: motion(s)["camera"][0].pop(), "6 entries"),
    "path of a frame more": (
        lambda s: motion(s)["subjects"][1]["path"].append([0.0, 0.0]),
        "`reference.motion.subjects[1].path` to have 3 entries",
    ),
    "path of one number": (
        lambda s: motion(s)["subjects"][0]["path"][0].pop(),
        "2 entries",
    ),
    "five decimals": (
        lambda s: motion(s)["camera"][1].__setitem__(4, 0.12345),
        "canonical",
    ),
    "minus zero": (lambda s: motion(s)["camera"][0].__setitem__(4, -0.0), "canonical"),
    "share above one": (
        lambda s: motion(s)["subjects"][0].update(share=1.5),
        "`reference.motion.subjects[0].share`",
    ),
    "a disc of two numbers": (
        lambda s: motion(s)["subjects"][0].update(disc=[1.0, 2.0]),
        "`reference.motion.subjects[0].disc`",
    ),
    "a disc inside out": (
        lambda s: motion(s)["subjects"][0].update(disc=[1.0, 2.0, -0.5]),
        "x, y and a radius from 0 up",
    ),
    "nine subjects": (
        lambda s: motion(s).update(subjects=motion(s)["subjects"][:1] * 9),
        "0 to 8 entries",
    ),
    "unknown key of motion": (lambda s: motion(s).update(zoom=1), "unknown key 'zoom'"),
    "parent": (lambda s: s.update(parent=DIGEST), "went after 1.4"),
    "reference block": (
        lambda s: s["recipe"].update(reference_block=3),
        "went after 1.4",
    ),
    "edits of nothing": (
        lambda s: s.update(edits=[{"what": "mirror", "settings": {}}]),
        "`parents`",
    ),
    "no parents": (lambda s: s.update(parents=[]), "1 to 8 entries"),
    "one parent twice": (lambda s: s.update(parents=[DIGEST] * 2), "different digests"),
    "parent by name": (lambda s: s.update(parents=["wave"]), "`parents[0]`"),
    "edit without settings": (
        lambda s: s.update(parents=[DIGEST], edits=[{"what": "mirror"}]),
        "'settings', but it is missing",
    ),
    "edit with a name of its own": (
        lambda s: s.update(parents=[DIGEST], edits=[{"what": "Mirror!", "settings": {}}]),
        "`edits[0].what`",
    ),
    "edit with a list": (
        lambda s: s.update(parents=[DIGEST], edits=[{"what": "a", "settings": {"by": [1]}}]),
        "`edits[0].settings.by`",
    ),
    "edit with a truth value": (
        lambda s: s.update(parents=[DIGEST], edits=[{"what": "a", "settings": {"by": True}}]),
        "`edits[0].settings.by`",
    ),
    "33 edits": (
        lambda s: s.update(parents=[DIGEST], edits=[{"what": "a", "settings": {}}] * 33),
        "1 to 32 entries",
    ),
}


@pytest.mark.parametrize("case", LIES)
def test_what_is_new_is_checked_as_strictly(case: str, tmp_path: Path) -> None:
    edit, reason = LIES[case]
    (tmp_path / "x").write_bytes(described("rotary-offset", edit))
    for read in (read_info, read_card, verify_card):
        with pytest.raises(CardError) as caught:
            read(tmp_path / "x")
        assert reason in caught.value.message


NEW = ("rotary-offset", "rotary-offset-combined")


def places(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Paths of all values of a description."""
    items = value.items() if isinstance(value, dict) else enumerate(value)  # type: ignore[arg-type]
    found = [(*path, key) for key, _ in items]
    for place in list(found):
        if isinstance(inner := at(value, place[len(path) :]), dict | list):
            found += places(inner, place)
    return found


def at(value: Any, path: tuple[str | int, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


@pytest.mark.parametrize("case", NEW)
def test_no_value_of_another_kind_and_no_unknown_key_gets_through(case: str) -> None:
    """Every place of a description with everything that is new, and every kind of wrong value."""
    free = {("scores",), ("software",)}  # any keys
    for path in places(MAKE["description"](case)):
        data = MAKE["description"](case)
        inside = at(data, path)
        if isinstance(inside, dict) and path not in free and path[-1] != "settings":
            inside["surprise"] = 1
            with pytest.raises(CardError, match="unknown key 'surprise'"):
                CardSpec.from_dict(data)
        for wrong in (object(), {"a": None}, [{}], float("nan"), "\ud800", 10**400, True):
            data = MAKE["description"](case)
            if wrong is True and isinstance(at(data, path), bool):
                continue
            at(data, path[:-1])[path[-1]] = wrong
            with pytest.raises(CardError, match=str(path[0])):
                CardSpec.from_dict(data)


def test_the_longest_description_is_read(tmp_path: Path) -> None:
    spec = MAKE["description"]("rotary-offset")
    steps, side = 1000, 128
    spec["schedule"] |= {
        "steps": steps, "timesteps": list(range(steps)),
        "noise": [round(1 - i / steps, 4) for i in range(steps)],
    }  # fmt: skip
    spec["training"]["loss"] = [[1e-9, 1e-9]] * steps
    spec["samples"] = [{"prompt": "é" * 500, "seed": 2**63 - 1}] * 256
    spec["grid"] = {"frames": side, "height": 1, "width": 1}
    subject = {"path": [[-1234.5678] * 2] * side, "share": 0.1234}
    motion(spec).update(camera=[[-1234.5678] * 6] * side, subjects=[subject] * 8)
    spec["parents"] = [f"sha256:{i:064x}" for i in range(8)]
    spec["edits"] = [{"what": "a" * 64, "settings": {f"{i}": "x" * 200 for i in range(16)}}] * 32
    spec["scores"] = {f"s{i}": 0.5 for i in range(100)}
    spec["software"] = {f"s{i}": "x" * 200 for i in range(100)}
    tensors = {
        "positions": np.zeros((1, 3, side, 3), np.float16),
        "flow": np.zeros((side, side, 1, 1, 2), np.int8),
        "flow_mask": np.zeros(side * side // 8, np.uint8),
        "phase": np.zeros((side, 1, 5), np.uint8),
    }
    info = MotionCard(CardSpec.from_dict(spec), tensors).save(tmp_path / "long")
    assert read_info(tmp_path / "long") == verify_card(tmp_path / "long") == info
    assert shown(info)["edits"].count("\n") == 31


def test_no_earlier_version_has_what_came_later() -> None:
    """Of every key in the table, held against every golden card of an earlier version."""
    values = {
        "recipe.reference_block": 3, "reference.used": 1.0, "reference.fit": "crop",
        "recipe.phase.mean": False,
        "recipe.reading": {"blocks": [1], "by": "content", "timestep": 0},
        "schedule.negative_prompt": "blurred", "parent": DIGEST, "reference.encoded": "whole",
        "parents": [DIGEST], "reference.motion": motion(MAKE["description"]("rotary-offset")),
    }  # fmt: skip
    for since, keys in SINCE.items():
        for key in keys:
            if key not in values:  # it needs more than itself; covered in test_card_lies.py
                continue
            for case in OLD:
                spec = MAKE["description"](case)
                if spec["format_version"] >= since:
                    continue
                *path, name = key.split(".")
                place = spec
                for part in path:
                    place = place.get(part)
                if place is None:  # without a phase, nothing is said of it
                    continue
                place[name] = values[key]
                with pytest.raises(CardError, match=r"came with|or `recipe\.reference_block`"):
                    CardSpec.from_dict(spec)


@pytest.mark.parametrize("case", OLD)
def test_every_earlier_card_has_a_form_of_today(case: str, tmp_path: Path) -> None:
    old = read_card(GOLDEN / f"{case}.safetensors")
    spec, tensors = renewed(old)
    new = MotionCard(spec, tensors)
    assert new.spec.format_version == FORMAT_VERSION
    assert new.spec.came_from == old.spec.came_from
    assert new.spec.recipe.reads() == old.spec.recipe.reads()
    assert new.spec.recipe.reference_block is None
    np.testing.assert_array_equal(new.mask, old.mask)
    for name in ("flow", "phase", new.spec.kind):
        if name in old.tensors:
            np.testing.assert_array_equal(new.tensors[name], old.tensors[name])
    new.save(tmp_path / "new")
    assert verify_card(tmp_path / "new").spec == new.spec
    assert forward(new.spec.to_dict()) == new.spec.to_dict() | {"digest": ""}


def test_cards_of_today_have_one_set_or_one_per_step() -> None:
    for case, sets in (("rotary-angle-shared", 1), ("rotary-offset", 1), ("latents-2", 2)):
        card = read_card(GOLDEN / f"{case}.safetensors")
        assert (card.guided_steps, len(card.tensors[card.spec.kind])) == (2, sets)
    spec, tensors = MAKE["build"]("latents-2").spec.unsealed(), MAKE["tensors"]("latents-2")
    with pytest.raises(CardError, match="'latents' of shape"):
        MotionCard(spec, tensors | {"latents": tensors["latents"][:1]})
    spec, tensors = MAKE["build"]("rotary-angle").spec.unsealed(), MAKE["tensors"]()
    with pytest.raises(CardError, match="'positions' of shape"):
        MotionCard(spec, tensors | {"positions": tensors["positions"][:1]})


def test_equal_sets_become_one_where_a_card_is_made_anew() -> None:
    old = read_card(GOLDEN / "rotary-angle.safetensors")
    same = old.tensors["positions"][[1, 1]]
    card = MotionCard(old.spec.unsealed(), old.tensors | {"positions": same})
    np.testing.assert_array_equal(renewed(card)[1]["positions"], same[:1])


def test_an_edited_card_says_what_was_done_and_to_which() -> None:
    old = read_card(GOLDEN / "rotary-offset.safetensors")
    other = read_card(GOLDEN / "absolute-offset.safetensors")
    mirror = EditSpec(what="mirror", settings={"axis": "x"})
    once = edited(old, [mirror], tensors={"positions": -old.tensors["positions"]})
    assert (once.spec.parents, once.spec.edits) == ((old.digest,), (mirror,))
    assert once.spec.scores == {}
    np.testing.assert_array_equal(once.tensors["positions"], -old.tensors["positions"])
    np.testing.assert_array_equal(once.tensors["phase"], old.tensors["phase"])
    combine = EditSpec(what="combine", settings={"share": 0.5})
    twice = edited(once, [combine], others=[other], tensors={"flow_mask": ~once.mask}, name="two")
    assert twice.spec.parents == (once.digest, other.digest)
    assert twice.spec.edits == (mirror, combine)
    assert twice.spec.name == "two"
    np.testing.assert_array_equal(twice.mask, ~old.mask)


def test_show_says_what_is_in_both_generations(tmp_path: Path) -> None:
    rows = shown(read_info(GOLDEN / "rotary-offset.safetensors"))
    assert rows["kind"] == (
        "positions, offset (camera + subject + subject-2), 2 guided steps with one set of positions"
    )
    assert "parents" not in rows
    rows = shown(read_info(GOLDEN / "rotary-offset-combined.safetensors"))
    assert rows["edits"].splitlines() == [
        "mirror: axis left-right", "combine: from 0.5, mask Maske é.png", "reverse",
    ]  # fmt: skip
    assert len(rows["parents"].splitlines()) == 2
    rows = shown(read_info(GOLDEN / "rotary-angle-edited.safetensors"))
    assert rows["parent"] == f"content {DIGEST}"
    assert rows["kind"] == "positions, angle, 2 guided steps"
    card = read_card(GOLDEN / "rotary-offset.safetensors")
    sly = EditSpec(what="mask", settings={"file": "a\x1b[2J\nb"})
    text = shown(edited(card, [sly]).save(tmp_path / "sly"))["edits"]
    assert text == "mask: file a\\x1b[2J\\nb"
