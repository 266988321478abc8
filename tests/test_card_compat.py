"""Whether a card fits a backbone: refused with what it needs and what came, or warned of."""

from __future__ import annotations

import dataclasses
import runpy
from pathlib import Path
from typing import Any

import pytest

from pe_toolkit.card import CardSpec, check_fits
from pe_toolkit.errors import MismatchError
from pe_toolkit.grid import TokenGrid

MAKE = runpy.run_path(str(Path(__file__).parent / "golden" / "make.py"))
SPEC = CardSpec.from_dict(MAKE["description"]())
FITTING: dict[str, Any] = {
    "family": "cogvideox",
    "fingerprint": "sha256:" + "a1" * 32,
    "positions": "rotary",
    "grid": TokenGrid(3, 2, 2),
    "frames": 9,
    "width": 32,
    "height": 32,
    "variant": "bundled",
}


def test_a_card_of_an_unknown_family_needs_a_newer_pe_toolkit() -> None:
    other = dataclasses.replace(SPEC.backbone, family="unheard-of")
    spec = dataclasses.replace(SPEC, backbone=other, format_version="1.4")
    with pytest.raises(MismatchError, match=r"'unheard-of'.*does not drive") as caught:
        check_fits(spec, **FITTING)
    assert "newer pe-toolkit" in caught.value.hint
    assert check_fits(spec, **FITTING | {"family": "unheard-of"}) == []  # a backbone of one's own


def test_a_fitting_backbone_gives_no_warning() -> None:
    assert check_fits(SPEC, **FITTING) == []
    assert check_fits(SPEC, **FITTING | {"variant": None}) == []
    assert check_fits(SPEC, **FITTING, weights_digest="sha256:" + "b2" * 32) == []


@pytest.mark.parametrize(
    ("field", "came", "needs"),
    [
        ("family", "wan", "'cogvideox'"),
        ("positions", "absolute", "'rotary'"),
        ("fingerprint", "sha256:" + "00" * 32, "a1a1"),
        ("grid", TokenGrid(3, 2, 4), "3x2x2"),
        ("frames", 13, "9 frames"),
        ("weights_digest", "sha256:" + "00" * 32, "b2b2"),
    ],
)
def test_a_mismatch_says_what_is_needed_and_what_came(field: str, came: object, needs: str) -> None:
    with pytest.raises(MismatchError) as caught:
        check_fits(SPEC, **FITTING | {field: came})
    assert needs in caught.value.message
    assert str(came) in caught.value.message
    assert caught.value.hint
    assert any(
        word in caught.value.hint for word in ("bundled", "9 frames of 32x32", "version of pe-tool")
    )


@pytest.mark.parametrize(
    ("field", "came", "needs"),
    [
        ("variant", "mine", "bundled"),
        ("width", 48, "32x32"),
    ],
)
def test_a_soft_difference_is_a_warning(field: str, came: object, needs: str) -> None:
    (warning,) = check_fits(SPEC, **FITTING | {field: came})
    assert str(came) in warning
    assert needs in warning


def test_hub_id_and_revision_are_compared_where_both_are_known() -> None:
    data = MAKE["description"]()
    data["backbone"] |= {"model_id": "THUDM/CogVideoX-5b", "revision": "abc"}
    spec = CardSpec.from_dict(data)
    assert check_fits(spec, **FITTING) == []
    warnings = check_fits(spec, **FITTING, model_id="zai-0rg/CogVideoX-5b", revision="def")
    assert len(warnings) == 2
    # One model under its owner's two names.
    assert check_fits(spec, **FITTING, model_id="zai-org/CogVideoX-5b", revision="abc") == []
    assert "zai-0rg/CogVideoX-5b" in warnings[0]
    with pytest.raises(MismatchError) as caught:
        check_fits(spec, **FITTING | {"positions": "absolute", "variant": "cogvideox-2b"})
    assert "cogvideox-2b" in caught.value.message
    assert "THUDM/CogVideoX-5b" in (caught.value.hint or "")


def test_the_hint_does_not_name_the_backbone_that_was_used() -> None:
    """Cards of an earlier `bundled` do not fit the new one: the same name, another model."""
    came = FITTING | {"fingerprint": "sha256:" + "00" * 32}
    with pytest.raises(MismatchError, match="architecture") as caught:
        check_fits(SPEC, **came | {"variant": SPEC.backbone.variant})
    assert "--backbone" not in (caught.value.hint or "")
    assert "train the card again" in (caught.value.hint or "")
    with pytest.raises(MismatchError) as caught:
        check_fits(SPEC, **came | {"variant": "other"})
    assert caught.value.hint == f"Use --backbone {SPEC.backbone.variant}."


def test_a_card_of_a_folder_names_no_backbone_that_there_is_not() -> None:
    data = MAKE["description"]()
    data["backbone"] |= {"variant": "custom", "model_id": None, "revision": None}

    def hint() -> str:
        with pytest.raises(MismatchError) as caught:
            check_fits(CardSpec.from_dict(data), **FITTING | {"fingerprint": "sha256:" + "00" * 32})
        return caught.value.hint or ""

    assert "custom" not in hint()
    assert hint().startswith("Use --backbone with the folder")
    data["backbone"]["model_id"] = "somebody/a-model"
    assert hint() == "Use --backbone somebody/a-model."
