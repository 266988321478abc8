"""The README: what it says, that strangers cannot write into it, and that your words stay."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pe_toolkit.card import CardInfo
from pe_toolkit.registry.remotes.frontmatter import MAX_FRONT, split
from pe_toolkit.registry.remotes.markdown import code, license_lines, quoted
from pe_toolkit.registry.remotes.readme import BEGIN, END, around, editable, readme
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


@pytest.mark.parametrize("variant", ["custom", "evil-model", "gpt2", "cogvideox-5b"])
def test_the_python_of_the_readme_loads_no_model_that_the_card_chose(variant: str) -> None:
    spec = CARDS["rotary-angle"].spec
    made = info(backbone=replace(spec.backbone, variant=variant, model_id="evil/model"))
    source = readme(made, "zoe/wave").split("```python\n")[1].split("```")[0]
    (loaded,) = re.findall(r"load_backbone\((.*)\)", source)
    assert loaded == ('"cogvideox-5b"' if variant == "cogvideox-5b" else '"./model"')
    assert "evil" not in source
    assert "backbone.model_id" not in source


def test_the_readme_says_how_to_install() -> None:
    assert "`pip install .`" in readme(info(), "zoe/wave")


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
        # Tags of YAML whose values do not fit: PyYAML raises all kinds of errors.
        "---\ndate: !!timestamp foo\n---\nAll by hand.\n",
        "---\nx: !!bool foo\n---\nAll by hand.\n",
        "---\nx: !!int ''\n---\nAll by hand.\n",
        "---\nx: !!float foo\n---\nAll by hand.\n",
        "---\nx: 0001-01-01 00:00:00 +01:00\n---\nAll by hand.\n",
        "---\n? [a, b]\n: c\n---\nAll by hand.\n",
        "---\nx: " + "[" * 600 + "]" * 600 + "\n---\nAll by hand.\n",
    ],
    ids=lambda previous: previous[:30],
)
def test_a_readme_of_another_hand_stays_below(previous: str) -> None:
    made = readme(info(), "zoe/wave", previous=previous)
    assert "All by hand." in around(split(made)[1])[1]
    assert readme(info(), "zoe/wave", previous=made) == made


def test_metadata_of_another_hand_is_spelled_as_it_was() -> None:
    mine = (
        "# Mine.\nlanguage: no  # Norwegian\nmodel_version: 1.10\n\nnumber: 0o17\n"
        "mine: {a: [yes, 2026-01-02],\n  b: '1'}\ntext: |\n  a\n\n    b\n# The end."
    )
    previous = f"---\npipeline_tag: mine\n{mine}\nlibrary_name: x # y\n---\nBy hand.\n"
    made = readme(info(), "zoe/wave", previous=previous)
    assert f"\n{mine}\n---\n" in made
    assert "pipeline_tag: mine" not in made
    assert readme(info(), "zoe/wave", previous=made) == made


@pytest.mark.parametrize(
    "mine",
    [
        "{a: 1, library_name: x, b: [no, 2]}",
        "  a: 1\n  b: [no, 2]",
        "x: &x {a: 1}\ntags: &t [mine]\nb: *t\n<<: *x",
        "? a\n: 1\n? b\n: 2",
        "'a': 1\n!!str b: 2",
        "a: 1\nb: 2\n...",
    ],
)
def test_metadata_in_other_styles_keeps_its_values(mine: str) -> None:
    before = yaml.safe_load(mine)
    made = readme(info(), "zoe/wave", previous=f"---\n{mine}\n---\nBy hand.\n")
    front = split(made)[0]
    assert (front["a"], front["b"]) == (before["a"], before["b"])
    assert front["library_name"] == "pe-toolkit"
    assert made.endswith(f"{END}\n\nBy hand.\n")
    assert readme(info(), "zoe/wave", previous=made) == made


def test_a_base_model_and_a_widget_of_another_hand_stay_if_we_write_none() -> None:
    mine = "base_model: foo/bar\nbase_model_relation: finetune\nwidget:\n- text: hand  # mine"
    made = readme(info(), "zoe/wave", previous=f"---\n{mine}\n---\n")
    assert mine in made
    assert readme(info(version="2.0.0"), "zoe/wave", previous=made).count(mine) == 1
    # Those that a push wrote go with its card and its preview.
    back = CARDS["rotary-angle"].spec.backbone
    hub_model = info(backbone=replace(back, model_id="THUDM/CogVideoX-5b"))
    theirs = readme(hub_model, "zoe/wave", preview="preview.mp4", previous=made)
    front = split(theirs)[0]
    assert front["base_model"] == "THUDM/CogVideoX-5b"
    assert front["base_model_relation"] == "adapter"
    assert [entry["text"] for entry in front["widget"]] == [
        CARDS["rotary-angle"].spec.samples[0].prompt, "hand"
    ]  # fmt: skip
    assert readme(hub_model, "zoe/wave", preview="preview.mp4", previous=theirs) == theirs
    front = split(readme(info(), "zoe/wave", previous=theirs))[0]
    assert "base_model" not in front
    assert "base_model_relation" not in front
    assert front["widget"] == [{"text": "hand"}]


def test_a_byte_order_mark_does_not_hide_the_metadata() -> None:
    previous = "\ufeff---\nlanguage: en\ntags: mine\n---\nBy hand.\n"
    made = readme(info(), "zoe/wave", previous=previous)
    assert made.startswith("---\nlibrary_name")
    assert split(made)[0]["language"] == "en"
    assert "mine" in split(made)[0]["tags"]
    assert made.count("---\n") == 2


def test_metadata_that_is_too_long_is_left_alone() -> None:
    short, long = (f"---\nmine:\n{'- a' * n}\n---\nBy hand.\n" for n in (1000, 30_000))
    assert editable(short.encode()) == (short, "")
    text, warning = editable(long.replace("\n", "\r\n").encode())
    assert text is None
    assert warning.startswith("README.md begins with 90006 bytes of metadata: it was left as it is")
    assert str(MAX_FRONT) in warning
    # Where nobody asked `editable`: not read as metadata, and nothing is lost.
    assert readme(info(), "zoe/wave", previous=long).endswith(f"{END}\n\n{long}")


def test_aliases_of_aliases_take_no_time() -> None:
    names = "abcdefghi"
    mine = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    for before, name in pairwise(names):
        mine.append(f"{name}: &{name} [{', '.join(9 * [f'*{before}'])}]")
    made = readme(info(), "zoe/wave", previous="\n".join(["---", *mine, "---", ""]))
    assert set(names) <= set(split(made)[0])
    assert len(made) < 4000


WORDS = st.sampled_from(
    ["a", "tags", "license", "widget", "base_model", "language", "no", "1", ": ", ":", "- ", "#",
     "\n", "\n  ", " ", "[", "]", "{", "}", "|", ">", "'", '"', "&x ", "*x", "!!int ", "<<", "? ",
     "...", "%", "---", ",", "\t", "é"]
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(WORDS, max_size=40).map("".join))
@example("#*x")  # no alias: a comment
def test_any_metadata_is_kept_or_moved_below(text: str) -> None:
    previous = f"---\n{text}\n---\nBy hand.\n"
    made = readme(info(), "zoe/wave", previous=previous)
    assert readme(info(), "zoe/wave", previous=made) == made
    assert made.endswith("By hand.\n")
    before, after = split(previous)[0], split(made)[0]
    if before:
        ours = {"library_name", "pipeline_tag", "license", "license_name", "tags", "motion_card"}
        for key in set(before) - ours:
            assert after[key] == before[key]
    elif split(previous)[1] == previous:
        assert made.endswith(f"{END}\n\n{previous}")


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
