"""The description of a card: strict both ways, one spelling, and rules that really refuse."""

from __future__ import annotations

import copy
import dataclasses
import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pe_toolkit.card import CardSpec, ScheduleSpec, utc_now
from pe_toolkit.card.text import canonical_json, strict_json
from pe_toolkit.cli.commands import show
from pe_toolkit.errors import CardError
from pe_toolkit.shown import printable

MAKE = runpy.run_path(str(Path(__file__).parent / "golden" / "make.py"))
describe: Callable[..., dict[str, Any]] = MAKE["description"]


def places(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Paths of all objects in a description whose keys are fixed."""
    found: list[tuple[str | int, ...]] = []
    if isinstance(value, dict) and path not in {("scores",), ("software",)}:
        found.append(path)
        for key, item in value.items():
            found += places(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            found += places(item, (*path, index))
    return found


def at(value: Any, path: tuple[str | int, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


OBJECTS = places(describe())
KEYS = [(*path, key) for path in OBJECTS for key in at(describe(), path)]


def test_round_trip_through_json() -> None:
    spec = CardSpec.from_dict(describe())
    assert CardSpec.from_dict(json.loads(spec.canonical())) == spec
    assert spec.to_dict() == describe()


@pytest.mark.parametrize("path", OBJECTS, ids=str)
def test_unknown_key_is_refused_by_name(path: tuple[str | int, ...]) -> None:
    data = describe()
    at(data, path)["surprise"] = 1
    with pytest.raises(CardError, match="unknown key 'surprise'"):
        CardSpec.from_dict(data)


@pytest.mark.parametrize("path", KEYS, ids=str)
def test_missing_key_is_refused_by_name(path: tuple[str | int, ...]) -> None:
    data = describe()
    del at(data, path[:-1])[path[-1]]
    with pytest.raises(CardError, match=f"'{path[-1]}', but it is missing"):
        CardSpec.from_dict(data)


@pytest.mark.parametrize("path", KEYS, ids=str)
@pytest.mark.parametrize("wrong", [object(), {"a": None}, [{}], float("nan"), "\ud800", 10**400])
def test_wrong_type_is_refused_naming_the_field(path: tuple[str | int, ...], wrong: object) -> None:
    data = describe()
    at(data, path[:-1])[path[-1]] = wrong
    with pytest.raises(CardError, match=str(path[0])):
        CardSpec.from_dict(data)


WRONG: list[tuple[str, object]] = [
    ("format", "other"),
    ("format_version", "1"),
    ("name", ""),
    ("name", "x" * 201),
    ("version", "1.0"),
    ("version", "1.0.0\n"),
    ("created", "2026-01-31 12:00:00"),
    ("created", "2026-01-31T12:00:00+02:00"),
    ("created", "2026-02-30T12:00:00Z"),
    ("kind", "offsets"),
    ("backbone.family", ""),
    ("backbone.family", "Wan 2"),
    ("backbone.family", "../wan"),
    ("backbone.family", "w" * 65),
    ("backbone.variant", "/home/me/model"),
    ("backbone.model_id", "/home/me/model"),
    ("backbone.model_id", "./model"),
    ("backbone.model_id", "C:\\model"),
    ("backbone.fingerprint", "a1" * 32),
    ("backbone.weights_digest", ""),
    ("grid.frames", 0),
    ("grid.width", 129),
    ("grid.height", True),
    ("grid.height", 2.0),
    ("clip.fps", 0),
    ("schedule.timesteps", []),
    ("schedule.timesteps", [999]),
    ("schedule.timesteps", [999, -1]),
    ("schedule.noise", [0.5]),
    ("schedule.noise", [0.5, 0.75]),
    ("schedule.noise", [1.5, 0.5]),
    ("schedule.noise", [True, 0.5]),
    ("schedule.steps", 1),
    ("schedule.dynamic_cfg", 0),
    ("recipe.objective", "S M M"),
    ("recipe.objective", ""),
    ("recipe.tau", 0),
    ("recipe.mask", "all"),
    ("recipe.learning_rates", [0.1]),
    ("recipe.learning_rates", "ab"),
    ("recipe.parametrisation", None),
    ("recipe.parametrisation", "offset"),
    ("recipe.dtype", "int8"),
    ("recipe.guided_range", [0.9, 0.1]),
    ("recipe.seed", -1),
    ("recipe.seed", 2**63),
    ("samples", []),
    ("samples", [{"prompt": "a", "seed": 1}] * 257),
    ("samples", [{"prompt": "x" * 2001, "seed": 1}]),
    ("reference.sha256", "sha256:" + "c3" * 32),
    ("reference.matched", 1.01),
    ("reference.matched", float("inf")),
    ("training.loss", [[1.0, 1.0]]),
    ("training.loss", []),
    ("training.loss", [[1.0], [1.0]]),
    ("training.loss", [[1.0, -1.0], [1.0, 1.0]]),
    ("scores", {"cosine": "high"}),
    ("scores", {"": 1.0}),
    ("scores", {1: 1.0}),
    ("scores", {str(i): 1.0 for i in range(101)}),
    ("software", {"torch": 2}),
    ("digest", "sha256:12"),
]


@pytest.mark.parametrize(("field", "value"), WRONG, ids=lambda v: str(v)[:40])
def test_value_out_of_range_is_refused(field: str, value: object) -> None:
    data = describe()
    *path, key = field.split(".")
    at(data, tuple(path))[key] = value
    with pytest.raises(CardError):
        CardSpec.from_dict(data)


def test_what_a_kind_of_card_excludes() -> None:
    angle = describe("absolute-table")
    angle["recipe"]["parametrisation"] = "angle"
    with pytest.raises(CardError, match="nothing to rotate"):
        CardSpec.from_dict(angle)
    latents = describe("latents")
    latents["samples"] *= 2
    with pytest.raises(CardError, match="one sample"):
        CardSpec.from_dict(latents)
    latents = describe("latents")
    latents["recipe"]["parametrisation"] = "table"
    with pytest.raises(CardError, match="null in a latents card"):
        CardSpec.from_dict(latents)


def test_a_card_of_any_family_is_read_since_1_4() -> None:
    data = describe()
    data["backbone"]["family"], data["format_version"] = "hunyuan-1.5", "1.4"
    assert CardSpec.from_dict(data).backbone.family == "hunyuan-1.5"
    for before in ("1.0", "1.1", "1.2", "1.3"):
        data["format_version"] = before
        with pytest.raises(CardError, match=f"format {before} for the family 'cogvideox'"):
            CardSpec.from_dict(data)


def test_losses_may_be_missing_only_without_inner_steps() -> None:
    data = describe()
    data["training"]["loss"] = []
    data["recipe"]["inner_steps"] = 0
    assert CardSpec.from_dict(data).training.loss == ()


@pytest.mark.parametrize("wrong", ["", "x" * 2001, 3, ["a"]])
def test_a_negative_prompt_is_text_or_not_there(wrong: object) -> None:
    data = describe("rotary-angle-read")
    assert CardSpec.from_dict(data).schedule.negative_prompt == "schlechte Qualität, blurred"
    data["schedule"]["negative_prompt"] = wrong
    with pytest.raises(CardError, match=r"schedule\.negative_prompt"):
        CardSpec.from_dict(data)
    del data["schedule"]["negative_prompt"]
    assert CardSpec.from_dict(data).schedule.negative_prompt is None


def test_show_names_the_negative_prompt(tmp_path: Path) -> None:
    for case, shown in (("rotary-angle-read", "'schlechte Qualität, blurred'"), ("latents", None)):
        info = MAKE["build"](case).save(tmp_path / case)
        assert show.describe(info).get("negative") == shown


def test_numbers_come_out_in_one_spelling() -> None:
    whole = ScheduleSpec("X", np.int64(20), 6, False, [999], [np.float32(1)])  # type: ignore[arg-type]
    real = ScheduleSpec("X", 20, 6.0, False, (999,), (1.0,))
    assert whole == real
    assert canonical_json(whole.to_dict()) == canonical_json(real.to_dict())
    assert type(whole.steps) is int
    assert type(whole.noise[0]) is float


def test_descriptions_are_frozen_hashable_and_copyable() -> None:
    spec = CardSpec.from_dict(describe())
    assert hash(spec) == hash(copy.deepcopy(spec))
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.name = "x"  # type: ignore[misc]


def test_utc_now_is_a_created_time() -> None:
    assert CardSpec.from_dict(describe() | {"created": utc_now()}).created.endswith("Z")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'{"a":1,"a":2}', "more than once"),
        (b'{"a":{"b":1,"b":2}}', "'b' more than once"),
        (b'{"a":NaN}', "NaN"),
        (b'{"a":-Infinity}', "Infinity"),
        (b"\xff\xfe", "JSON"),
        (b"[" * 200_000, "nested too deep"),
        (b"9" * 10_000, "JSON"),
        (b"{}{}", "JSON"),
    ],
)
def test_sloppy_json_is_refused(text: bytes, reason: str) -> None:
    with pytest.raises(CardError, match=reason):
        strict_json(text, "it")


@pytest.mark.parametrize("value", [float("nan"), "\ud800", {1, 2}, [float("inf")]])
def test_canonical_json_refuses_what_json_cannot_hold(value: object) -> None:
    with pytest.raises(CardError):
        canonical_json(value)


def test_printable_neutralises_what_steers_a_terminal() -> None:
    assert printable("\x1b[31mred\x07\r\n\u202e\x9b\u2028") == (
        "\\x1b[31mred\\x07\\r\\n\\u202e\\x9b\\u2028"
    )
    assert printable("Zoë 🎬 日本") == "Zoë 🎬 日本"


def test_printable_shows_letters_that_look_like_nothing() -> None:
    blank = "\u3164\u115f\u1160\uffa0\u2800\u034f\u17b4\u180b\ufe00\U000e0101"
    assert blank.isprintable()
    assert printable(f"wave{blank}").isascii()
    assert printable("wave\u3164") == "wave\\u3164"
    assert printable("wave\ufe0f") == "wave\\ufe0f"
    assert printable("❤\ufe0f 한글 देवनागरी") == "❤\ufe0f 한글 देवनागरी"


def test_a_message_never_carries_an_escape_sequence() -> None:
    data = describe() | {"\x1b[2J": 1}
    with pytest.raises(CardError) as caught:
        CardSpec.from_dict(data)
    assert "\x1b" not in caught.value.message
    assert "x1b" in caught.value.message
