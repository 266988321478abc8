"""The README: what it says, that strangers cannot write into it, and that your words stay."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pe_toolkit.card import CardInfo
from pe_toolkit.registry.remotes.markdown import code, license_lines, quoted
from pe_toolkit.registry.remotes.readme import BEGIN, END, around, readme, split
from tests.registry.cards import BUILD

EVIL = [
    "<script>alert(1)</script>",
    "![x](https://evil.example/x.png)",
    "`` ` </code><img src=x onerror=alert(1)>",
    "a\n---\nlicense: mit\ntags: [evil]\n---\n# Hello",
    "\x1b[31mred\x1b]8;;http://evil\x07",
    "‮txt.exe",
    '"\nlibrary_name: evil\n',
    f"x\n{END}\nhand-written",
    "{{7*7}} ${HOME} %s",
    "{a: [b, c]} & *anchor !!python/object:os.system",
    "🎬 ' : # - ? | >",
]


CARDS = {case: BUILD(case) for case in ("rotary-angle", "absolute-table", "latents")}


def info(case: str = "rotary-angle", **fields: object) -> CardInfo:
    spec = replace(CARDS[case].spec, **fields)
    return CardInfo(spec, 2340, "ab" * 32, {})


def with_everything(text: str) -> CardInfo:
    """A card with `text` in every field that may hold any text."""
    spec = CARDS["rotary-angle"].spec
    short = text[:200] or "x"
    return info(
        name=short, author=short, license=short,
        samples=(replace(spec.samples[0], prompt=text[:2000]),),
        scores={short: 1.0}, software={short: short},
        recipe=replace(spec.recipe, name=short),
        schedule=replace(spec.schedule, scheduler=short),
        training=replace(spec.training, device=short),
        backbone=replace(spec.backbone, model_id="owner/model", revision=short),
    )  # fmt: skip


def test_metadata_is_what_the_hub_expects() -> None:
    spec = CARDS["rotary-angle"].spec
    made = info(backbone=replace(spec.backbone, model_id="THUDM/CogVideoX-5b"))
    front, body = split(readme(made, "zoe/wave", preview="preview.mp4"))
    assert front["library_name"] == "pe-toolkit"
    assert front["pipeline_tag"] == "text-to-video"
    assert front["base_model"] == "THUDM/CogVideoX-5b"
    assert front["base_model_relation"] == "adapter"
    assert front["license"] == "cc-by-4.0"
    assert {"motion-card", "pe-toolkit", "cogvideox", "bundled"} <= set(front["tags"])
    assert front["widget"][0]["output"]["url"] == "preview.mp4"
    assert front["motion_card"]["sha256"] == "ab" * 32
    assert "<Gallery />" in body
    assert "pe apply zoe/wave" in body
    assert 'pe_toolkit.load("zoe/wave")' in body
    assert "`cosine`: 0.5" in body


def test_a_card_without_a_hub_model_names_none() -> None:
    front, body = split(readme(info(), "zoe/wave"))
    assert "base_model" not in front
    assert "base_model_relation" not in front
    assert "<Gallery" not in body


@pytest.mark.parametrize("case", ["rotary-angle", "absolute-table", "latents"])
def test_the_python_of_the_readme_is_python(case: str) -> None:
    text = readme(info(case), "zoe/wave")
    source = text.split("```python\n")[1].split("```")[0]
    compile(source, "README", "exec")
    import pe_toolkit

    for name in re.findall(r"pe_toolkit\.(\w+)", source):
        assert name in pe_toolkit.__all__


@pytest.mark.parametrize("text", EVIL)
def test_a_stranger_cannot_write_into_it(text: str) -> None:
    check_harmless(with_everything(text))


@settings(max_examples=50, deadline=None)
@given(st.text(min_size=1, max_size=300).filter(lambda t: t.encode("utf-8", "ignore") != b""))
def test_no_text_at_all_can(text: str) -> None:
    text = text.encode("utf-8", "ignore").decode()  # cards hold no lone surrogates
    check_harmless(with_everything(text))


def check_harmless(made: CardInfo) -> None:
    text = readme(made, "zoe/wave")
    reference = readme(with_everything("x"), "zoe/wave")
    front, body = split(text)
    assert set(front) <= set(split(reference)[0]) | {"license_name"}
    assert front["library_name"] == "pe-toolkit"
    assert all(isinstance(tag, str) for tag in front["tags"])
    assert len(front["tags"]) == 5
    # The same lines, whatever the strings are; outside of code spans the same characters.
    assert len(body.split("\n")) == len(reference.split("---\n", 2)[2].split("\n"))
    outside = re.sub(r"`[^`\n]*`", "``", body)
    assert outside == re.sub(r"`[^`\n]*`", "``", split(reference)[1])
    assert all(char.isprintable() or char == "\n" for char in text)
    assert around(body) == ("", "")


def test_pushing_again_changes_nothing() -> None:
    once = readme(info(), "zoe/wave")
    assert readme(info(), "zoe/wave", previous=once) == once


def test_hand_written_parts_survive() -> None:
    once = readme(info(), "zoe/wave")
    edited = once.replace(BEGIN, "Above, by hand.\n\n" + BEGIN) + "\n## Notes\n\nBelow, by hand.\n"
    edited = edited.replace("library_name", "language: en\nlibrary_name")
    edited = edited.replace("tags:\n", 'tags:\n- "mine"\n')
    edited = edited.replace("# `wave`", "# defaced")
    again = readme(info(version="2.0.0"), "zoe/wave", previous=edited)
    front, body = split(again)
    assert "Above, by hand." in body
    assert "## Notes\n\nBelow, by hand." in body
    assert "defaced" not in body
    assert "`2.0.0`" in body
    assert front["language"] == "en"
    assert "mine" in front["tags"]
    assert body.index("Above") < body.index(BEGIN) < body.index(END) < body.index("Below")
    assert readme(info(version="2.0.0"), "zoe/wave", previous=again) == again


@pytest.mark.parametrize(
    "previous",
    [
        "# Mine\n\nAll by hand.\n",
        "---\nlicense: [broken\n---\n# Mine\n\nAll by hand.\n",
        "---\n- a list\n---\nAll by hand.\n",
        f"{BEGIN}\nAll by hand.\n",
        f"All by hand.\n{END}\n",
        "---\r\nlanguage: en\r\n---\r\nAll by hand.\r\n",
        "---\nAll by hand.",
    ],
)
def test_a_readme_of_another_hand_stays_below(previous: str) -> None:
    made = readme(info(), "zoe/wave", previous=previous)
    assert "All by hand." in around(split(made)[1])[1]
    assert readme(info(), "zoe/wave", previous=made) == made


def test_metadata_of_another_hand_is_spelled_as_it_was() -> None:
    mine = "language: no\nmodel_version: 1.10\nnumber: 0o17\nmine: {a: [yes, 2026-01-02], b: '1'}"
    made = readme(info(), "zoe/wave", previous=f"---\n{mine}\nwidget: old\n---\nBy hand.\n")
    assert mine in made
    assert "widget" not in made
    assert readme(info(), "zoe/wave", previous=made) == made


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=400))
def test_any_previous_text_is_kept_and_stable(text: str) -> None:
    previous = f"first line\n{text}"
    made = readme(info(), "zoe/wave", previous=previous)
    assert readme(info(), "zoe/wave", previous=made) == made
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        assert line in made


def test_a_license_that_the_hub_does_not_know() -> None:
    assert license_lines("MIT") == ["license: mit"]
    assert license_lines("My own (2026)") == ["license: other", 'license_name: "my-own-2026"']
    assert license_lines("") == []
    assert yaml.safe_load("\n".join(license_lines("x: [y]\n- z")))["license"] == "other"


def test_a_license_written_by_hand_stays_if_the_card_has_none() -> None:
    made = readme(info(license=""), "zoe/wave", previous="---\nlicense: mit\n---\n")
    assert split(made)[0]["license"] == "mit"


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=400))
def test_quoted_is_one_yaml_string(text: str) -> None:
    value = yaml.safe_load(f"key: {quoted(text)}")
    assert list(value) == ["key"]
    assert isinstance(value["key"], str)


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=400))
def test_code_is_one_span(text: str) -> None:
    span = code(text)
    assert span.count("`") == 2
    assert span.startswith("`")
    assert span.endswith("`")
    assert len(span) > 2
    assert "\n" not in span


def test_many_prompts_are_cut() -> None:
    sample = CARDS["rotary-angle"].spec.samples[0]
    samples = tuple(replace(sample, prompt=f"prompt {n}", seed=n) for n in range(200))
    text = readme(info(samples=samples), "zoe/wave")
    assert "and 192 more" in text
    assert len(text) < 6000


def test_no_path_of_this_machine(tmp_path: Path) -> None:
    assert str(tmp_path.parent) not in readme(info(), "zoe/wave")
