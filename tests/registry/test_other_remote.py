"""Another remote is one file: a module that names its scheme, found by it and by nothing else."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pe_toolkit.cli.main import cli
from pe_toolkit.errors import UsageError
from pe_toolkit.registry import remotes
from pe_toolkit.registry.references import UrlReference, parse
from pe_toolkit.registry.store import Store
from tests.registry.cards import make_card

MEMORY = '''
"""Cards in the memory of this process."""

from pathlib import Path

from pe_toolkit.card import read_info, verify_card
from pe_toolkit.registry.remotes.base import Found, Pulled, Pushed
from pe_toolkit.registry.remotes.errors import RemoteMissingError

SCHEME = "mem"
CARDS = {}
COPY = Path(__file__).with_name("copy.safetensors")


def connect(reference, *, tell):
    return Memory(str(reference))


class Memory:
    def __init__(self, url):
        self.url = url

    def push(self, card, options):
        info, data = verify_card(card), card.read_bytes()
        new = CARDS.get(self.url) != data
        if not options.dry_run:
            CARDS[self.url] = data
        return Pushed(
            reference=self.url, url=self.url, digest=f"sha256:{info.sha256}", size=len(data),
            files={"card.safetensors": "new" if new else "unchanged"}, committed=new,
            private=None, dry_run=options.dry_run,
        )

    def pull(self, check=verify_card):
        if self.url not in CARDS:
            raise RemoteMissingError(f"Expected {self.url}, but it is not there.")
        COPY.write_bytes(CARDS[self.url])
        info = check(COPY)
        return Pulled(
            path=COPY, digest=f"sha256:{info.sha256}", size=info.size_bytes,
            name=self.url.rpartition("/")[2], origin=self.url, info=info,
        )

    def search(self, words, *, backbone, author, limit):
        found = [url for url in CARDS if url.startswith(self.url) and all(w in url for w in words)]
        return [Found(url) for url in found][:limit]
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose modules lie in the package of the remotes, as if they came with it."""
    made = tmp_path / "remotes"
    made.mkdir()
    before = set(sys.modules)
    monkeypatch.setattr(remotes, "__path__", [*remotes.__path__, str(made)])
    yield made
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(made)):
            del sys.modules[name]
            delattr(remotes, name.rpartition(".")[2])


def module(folder: Path, name: str, text: str) -> None:
    (folder / f"{name}.py").write_text(text, encoding="utf-8")
    importlib.invalidate_caches()


def pe(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


def test_one_file_and_every_command_knows_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module(folder, "mem", MEMORY)
    monkeypatch.chdir(tmp_path)
    card, url = make_card(tmp_path), "mem://box/wave"
    pushed = pe("push", card, url)
    assert pushed.exit_code == 0, pushed.stderr
    assert pushed.stdout.splitlines()[-1] == f"Get it with: pe pull {url}"
    assert "Nothing to do" in pe("push", card, url).stdout
    assert pe("search", "wave", "--in", "mem://box").stdout == f"{url}\n"
    assert pe("search", "--in", "mem://shelf").stdout == ""

    assert "name       wave 1.0.0" in pe("show", url).stdout
    pulled = pe("pull", url, "--json")
    assert json.loads(pulled.stdout.splitlines()[-1])["origin"] == url
    assert Store().entries()[0].path.read_bytes() == card.read_bytes()
    assert pe("pull", url, "-o", "out.safetensors").exit_code == 0
    assert Path("out.safetensors").read_bytes() == card.read_bytes()

    assert pe("lock", url).exit_code == 0
    assert pe("lock", "--check").stdout.startswith(f"{url}: ok")
    assert pe("push", make_card(tmp_path, seed=1), url).exit_code == 0
    assert pe("rm", "wave").exit_code == 0
    assert "name       wave 1.0.0" in pe("show", url).stdout  # what was looked at is pinned
    shutil.rmtree(Store().looked.folder)
    other = pe("show", url)
    assert other.exit_code == 1
    assert "pe.lock pins it" in other.stderr


def test_a_remote_is_told_its_reference(folder: Path) -> None:
    module(folder, "mem", "SCHEME = 'mem'\ndef connect(reference, *, tell):\n    return reference")
    for text in ("mem://box/wave", "MEM://box/wave@1.2.0", "mem://", "mem://../a b?c#d"):
        assert remotes.open_remote(parse(text)) == UrlReference(text)
        assert parse(text).scheme == "mem"  # type: ignore[union-attr]


@pytest.mark.parametrize("scheme", ["s3", "https", "mem", "hub", "folder", "base", "retry", "os"])
def test_a_scheme_without_a_remote(scheme: str) -> None:
    result = pe("show", f"{scheme}://a/b")
    assert result.exit_code == 2
    assert f"Expected file:// or hf://, got '{scheme}://a/b'." in result.stderr
    assert "wave@1.2.0" in result.stderr


@pytest.mark.parametrize(
    "scheme",
    ["hub_errors", "../evil", "a.b", "os.path", "1a", "__init__", "é", "mem\n", "a b", "-a"],
)
def test_what_is_no_scheme_is_never_looked_for(scheme: str) -> None:
    with pytest.raises(UsageError, match="letters and digits"):
        parse(f"{scheme}://a/b")
    with pytest.raises(UsageError, match=r"file:// or hf://"):
        remotes.open_remote(UrlReference(f"{scheme}://a/b"))


def test_nothing_of_the_user_is_imported(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    module(tmp_path, "evil", "SCHEME = 'evil'\nraise RuntimeError('imported')")
    assert pe("show", "evil://a").exit_code == 2


@pytest.mark.parametrize(
    "text",
    [
        "def connect(reference, *, tell): ...",
        "SCHEME = 'odd'",
        "SCHEME = 'other'\ndef connect(reference, *, tell): ...",
    ],
    ids=["no scheme", "no connect", "another's scheme"],
)
def test_a_module_that_is_no_remote(folder: Path, text: str) -> None:
    module(folder, "odd", text)
    module(folder, "mem", MEMORY)
    with pytest.raises(UsageError, match=r"^Expected file://, hf:// or mem://, got 'odd://a'\.$"):
        remotes.open_remote(parse("odd://a"))
