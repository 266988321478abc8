"""References: decided by form alone, and never by what exists."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pe_toolkit.errors import UsageError
from pe_toolkit.registry import semver
from pe_toolkit.registry.references import (
    FolderReference,
    HubReference,
    LocalReference,
    PathReference,
    RemoteReference,
    UrlReference,
    local,
    parse,
    slug,
)

HEX = "dff0292b20ca36c07a8ce39d7e9c6f3be9eb8fcb1f5a4bb9312c1abf779abcd9"


@pytest.mark.parametrize(
    "text",
    [
        "wave.safetensors", "WAVE.SAFETENSORS", "./wave", "../wave", "/a/wave", ".", "..", "/",
        "C:\\cards\\wave", "c:wave", "cards\\wave", "cards/wave.safetensors", "a/b/c", "cards/",
        "wave.mp4", "wave.tar.gz", "./owner/name@v1", "with space.safetensors", "é/ü.safetensors",
        "owner/name@v1.safetensors", "wave.v2@1.0.0",
        "clips/ball.mp4", "clips/BALL.MOV", "made/ball.gif", "made/ball.json", "a/prompts.txt",
    ],
)  # fmt: skip
def test_paths(text: str) -> None:
    assert parse(text) == PathReference(Path(text))


def test_home_is_expanded() -> None:
    assert parse("~/wave") == PathReference(Path.home() / "wave")
    assert isinstance(parse("~nobody-of-this-name/wave"), PathReference)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("wave", LocalReference("wave")),
        ("Wave", LocalReference("wave")),
        ("w", LocalReference("w")),
        ("wave_2-b", LocalReference("wave_2-b")),
        ("wave@1.2.0", LocalReference("wave", "1.2.0")),
        ("wave@v1.2.0", LocalReference("wave", "1.2.0")),
        ("wave@2.0.0-rc.1+x", LocalReference("wave", "2.0.0-rc.1+x")),
        ("wave@sha256:dff0292b", LocalReference("wave", None, "sha256:dff0292b")),
        (f"wave@SHA256:{HEX.upper()}", LocalReference("wave", None, f"sha256:{HEX}")),
    ],
)
def test_local(text: str, expected: LocalReference) -> None:
    assert parse(text) == expected
    assert parse(str(expected)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("owner/name", HubReference("owner", "name")),
        ("Owner-1/na.me_2", HubReference("Owner-1", "na.me_2")),
        ("owner/name@v1.0.0", HubReference("owner", "name", "v1.0.0")),
        ("owner/name@refs/pr/1", HubReference("owner", "name", "refs/pr/1")),
        ("hf://owner/name", HubReference("owner", "name")),
        ("owner/wave.v2", HubReference("owner", "wave.v2")),
        ("hf://owner/ball.mp4", HubReference("owner", "ball.mp4")),
        ("HF://owner/name@main", HubReference("owner", "name", "main")),
        (f"hf://owner/name@{HEX[:40]}", HubReference("owner", "name", HEX[:40])),
    ],
)
def test_hub(text: str, expected: HubReference) -> None:
    assert parse(text) == expected
    assert parse(str(expected)) == expected


@pytest.mark.parametrize("text", ["file://[x/wave", "file://[::1/wave"])
def test_no_url(text: str) -> None:
    with pytest.raises(UsageError, match="file:///folder/name"):
        parse(text)


def test_spellings_of_a_card_in_a_folder_are_one_pin() -> None:
    def key(text: str) -> str:
        reference = parse(text)
        assert isinstance(reference, FolderReference)
        return reference.key

    same = ("Wave", "wave@", "wave/", "WAVE/.", "./wave", "/wave")
    assert {key(f"file:///cards/{text}") for text in same} == {"file:///cards/wave"}
    versions = ("wave@1.0.0", "Wave@v1.0.0", "wave@V1.0.0/")
    assert {key(f"file:///cards/{text}") for text in versions} == {"file:///cards/wave@1.0.0"}
    assert key("file://localhost/") == "file:///"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("ball@9", "Did you mean ball@9.0.0?"),
        ("Ball@v1.2", "Did you mean ball@1.2.0?"),
        ("Größe", "Did you mean groe? A card in the local registry is named wave"),
        ("my wave@1.0.0", "Did you mean my-wave? A card"),
        ("ball@latest", "A card in the local registry is named wave"),
        ("./ball", "A card in the local registry is named wave"),
        ("写", "A card in the local registry is named wave"),
    ],
)
def test_what_was_meant(text: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        local(text)
    assert str(caught.value.hint).startswith(hint)


def test_a_name_is_its_own_slug() -> None:
    assert slug("a--b") == "a--b"
    assert slug("A--b") == "a-b"


def test_a_folder_called_like_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse("./~/c.safetensors") == PathReference(Path("~/c.safetensors"))


def test_folder() -> None:
    assert parse("file:///shared/cards/wave") == FolderReference("file:///shared/cards/wave")
    assert parse("FILE:///wave").scheme == "file"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "text", ["s3://a/b@1", "https://huggingface.co/owner/name", "S3://", "x://y"]
)
def test_another_remote(text: str) -> None:
    reference = parse(text)
    assert reference == UrlReference(text)
    assert parse(str(reference)) == reference
    assert reference.scheme == text.partition(":")[0].lower()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "text",
    [
        "", "\0", "a" * 5000, "@", "wave@", "wave@1", "wave@1.2", "wave@latest", "wave@01.2.3",
        "wave@sha256:dff0292", "wave@sha256:xyzxyzxyz", "wave@md5:dff0292b", "-wave", "wave-", "_",
        "wave wave", "wäve", "w" * 97, "wave@1.2.0@3", "hf://owner", "hf://owner/", "hf:///name",
        "hf://a/b/c", "hf://", "owner/na--me", "-owner/name", "owner/name-", "owner/name.git",
        "owner/name@", "owner/name@a b", "owner/name@..", "owner/name@a//b", "own er/name",
        "hub_errors://a/b", "../a://b", "s-3://a", "1a://b", "é://a", "a\n://b", "a.b://c",
        "owner/" + "n" * 96, "owner/näme", "a:b",
        "hf:owner/name", "wave\n", "owner/name\n", "wave@1.2.0\n",
    ],
)  # fmt: skip
def test_malformed(text: str) -> None:
    if text == "a:b":  # a drive letter
        assert isinstance(parse(text), PathReference)
        return
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert caught.value.exit_code == 2
    assert "wave@1.2.0" in (caught.value.hint or "")
    assert caught.value.message.isprintable()


@pytest.mark.parametrize(
    "text", [f"owner/wave@sha256:{HEX[:64]}", "hf://owner/wave@SHA256:DFF0292B"]
)
def test_the_hub_does_not_find_digests(text: str) -> None:
    with pytest.raises(UsageError, match="a tag, branch or commit") as caught:
        parse(text)
    digest = text.partition("@")[2][:15].lower()
    assert f"NAME@{digest}" in str(caught.value.hint)
    assert "pe lock" in str(caught.value.hint)


def test_what_exists_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = [parse(text) for text in ("wave", "owner/name", "wave.safetensors")]
    (tmp_path / "wave").touch()
    (tmp_path / "owner" / "name").mkdir(parents=True)
    assert [parse(text) for text in ("wave", "owner/name", "wave.safetensors")] == before


@given(
    st.text(alphabet=st.characters(codec=None), max_size=60) | st.from_regex(r"[a-z@/.:~-]{0,20}")
)
@example("\ud800")
@example("~\ud800/x")
@example("a@v")
def test_any_text_is_a_reference_or_a_usage_error(text: str) -> None:
    try:
        reference = parse(text)
    except UsageError as caught:
        refused: UsageError | None = caught
    else:
        refused = None
        if isinstance(reference, LocalReference | RemoteReference):
            assert parse(str(reference)) == reference
    assert refused is None or refused.message.isprintable()


@given(st.text(max_size=120))
@example("")
@example("../../etc/passwd")
@example("\x1b]0;x\x07")
@example("x" * 95 + "--y")
def test_a_slug_is_a_name(text: str) -> None:
    made = slug(text)
    assert local(made) == LocalReference(made)
    assert slug(made) == made


def test_slugs_can_be_read() -> None:
    assert slug("Zoë's Wave v1.5") == "zoe-s-wave-v1-5"
    assert slug("波") == "card"


def test_semver_order() -> None:
    ordered = [
        "0.0.1", "0.9.0", "0.10.0", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta",
        "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.0.0+b", "1.0.1",
        "2.0.0-1", "2.0.0", "10.0.0",
    ]  # fmt: skip
    assert sorted(reversed(ordered), key=semver.order) == ordered
    assert [text for text in ordered if not semver.is_release(text)][:2] == ordered[3:5]
    assert semver.order("1.0.0-1") != semver.order("1.0.0-01")


def test_semver_refuses() -> None:
    for text in ("1", "1.0", "01.0.0", "1.0.0-", "v1.0.0", "1.0.0 ", "1.0.0\n", "1." * 200):
        assert not semver.is_version(text)
    with pytest.raises(ValueError, match="expected a version"):
        semver.order("one")


@pytest.mark.parametrize("blank", ["\u3164", "\u2800", "\u115f", "\ufe0f", "\u00ad", "\u200b"])
def test_blank_letters_are_no_part_of_a_name(blank: str) -> None:
    assert slug(f"wave{blank}") == "wave"
    assert slug(blank) == "card"
    with pytest.raises(UsageError) as caught:
        local(f"wave{blank}")
    assert caught.value.message.isascii()
