"""kill -9 at random points of push and pull, with a shared folder and with a Hub on loopback.

Part of `python -m benchmarks.registry` (`remote`, `hub`). POSIX only.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pe_toolkit.card import verify_card
from pe_toolkit.registry.references import FolderReference, HubReference
from pe_toolkit.registry.remotes import open_remote, receive
from pe_toolkit.registry.remotes.base import CARD_FILE, PushOptions
from pe_toolkit.registry.remotes.errors import ConflictError, RemoteMissingError
from pe_toolkit.registry.store import Store
from tests.registry.cards import make_card

if TYPE_CHECKING:
    from pe_toolkit.registry.remotes.hub import HubRemote

TOKEN = "hf_zoe_secret_token"
REPOS = ("wave", "orbit", "bounce")
TAG = "v1.0.0"
SERVE = f"""
import sys
from tests.registry.hub_server import HubServer
with HubServer() as hub:
    hub.users[{TOKEN!r}] = "zoe"
    print(hub.url, flush=True)
    sys.stdin.read()
"""
Say = Callable[[str], None]


def sources(folder: Path, count: int) -> Path:
    """A folder with that many cards, all different."""
    made = folder / "cards"
    made.mkdir()
    for seed in range(count):
        # Every fourth has a megabyte, so that kills hit copies too.
        make_card(made, f"wave {seed}", seed=seed, width=0 if seed % 4 else 20_000)
    return made


def killed(live: Callable[[Say], None], seconds: float) -> str:
    """Run `live` in a child and kill it then; the last word that it said, or "start"."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:  # never returns
        try:
            live(lambda word: void(os.write(writer, word.encode() + b" ")))
        finally:
            os._exit(3)
    os.close(writer)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    if not os.WIFSIGNALED(os.waitpid(child, 0)[1]):
        raise SystemExit("the child failed before it was killed")
    with os.fdopen(reader) as pipe:
        return (["start", *pipe.read().split()])[-1]


def void(_: object) -> None:
    """For a function that must give nothing back."""


def check_registry(known: set[str], must: set[str]) -> None:
    """Every card in the registry is whole and one of ours, and these names are there.

    Raises:
        SystemExit: if not.
    """
    store = Store()
    bad = [error for _, error in store.verify_all() if error is not None]
    entries = store.entries()
    if bad or {entry.digest for entry in entries} - known:
        raise SystemExit(f"the registry is damaged: {bad}")
    if lost := must - {entry.name for entry in entries}:
        raise SystemExit(f"lost from the registry: {lost}")


def folder_kills(folder: Path, times: int, seed: int) -> None:
    """kill -9 at random points of push to and pull from a shared folder."""
    shared, cards = folder / "shared", sorted(sources(folder, 8).iterdir())
    shared.mkdir()
    os.environ["PE_HOME"] = str(folder / "registry")
    known = {f"sha256:{verify_card(path).sha256}" for path in cards}
    url, rng, under_way = shared.as_uri(), random.Random(seed), Counter[str]()
    open_remote(FolderReference(url)).push(cards[0], PushOptions())
    receive(open_remote(FolderReference(f"{url}/wave-0")))
    began = time.perf_counter()
    for number in range(times):
        mine = random.Random(f"{seed}-{number}")

        def live(say: Say, mine: random.Random = mine) -> None:
            while True:
                card, there = mine.choice(cards), mine.choice(list(shared.glob("wave-*")))
                say("push")
                options = PushOptions(force=mine.random() < 0.5)
                open_remote(FolderReference(url)).push(card, options)
                say("pull")
                receive(open_remote(FolderReference(f"{url}/{there.name}")), force=True)

        under_way[killed(live, rng.uniform(0, 0.12))] += 1
        for path in shared.rglob("*.safetensors"):
            if f"sha256:{verify_card(path).sha256}" not in known:
                raise SystemExit(f"{path} is not a card that was pushed")
        check_registry(known, {"wave-0"})
        open_remote(FolderReference(url)).push(rng.choice(cards), PushOptions())
        receive(open_remote(FolderReference(f"{url}/wave-0")))
    left = [path for path in shared.rglob("*") if path.name.startswith(".pe-") and path.suffix]
    print(f"{times} kills in {time.perf_counter() - began:.0f} s: no card lost, none half there")
    print(f"  killed in: {dict(under_way)}; temporary files left in the folder: {len(left)}")


def hub_kills(folder: Path, times: int, seed: int) -> None:
    """kill -9 at random points of push to and pull from a Hub, which the killed one shares."""
    cards = sorted(sources(folder, 8).iterdir())
    os.environ |= {
        "PE_HOME": str(folder / "registry"), "HF_HOME": str(folder / "hf"), "HF_TOKEN": TOKEN,
        "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }  # fmt: skip
    digests = {path: verify_card(path).sha256 for path in cards}
    known = {f"sha256:{digest}" for digest in digests.values()}
    for number, path in enumerate(cards[:3]):
        Store().add(path, f"kept-{number}")
    must = {f"kept-{number}" for number in range(3)}
    rng, under_way = random.Random(seed), Counter[str]()
    with subprocess.Popen(
        [sys.executable, "-c", SERVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        os.environ["HF_ENDPOINT"] = server.stdout.readline().strip()  # before the client comes in
        began = time.perf_counter()
        for number in range(times):
            mine = random.Random(f"{seed}-{number}")

            def live(say: Say, mine: random.Random = mine) -> None:
                _use_hub(cards, mine, say)

            under_way[killed(live, rng.uniform(0, 0.6))] += 1
            for repo in REPOS:
                _check_repository(_remote(repo), set(digests.values()))
            check_registry(known, must)
            # The next commands work: this card, this tag, back again.
            card, repo = rng.choice(cards), rng.choice(REPOS)
            _remote(repo).push(card, PushOptions(tag=TAG, force=True))
            _, entry = receive(_remote(repo, TAG), force=True)
            if entry.digest != f"sha256:{digests[card]}":
                raise SystemExit(f"pushed {digests[card]}, got {entry.digest}")
        server.stdin.close()
    print(f"{times} kills in {time.perf_counter() - began:.0f} s: no card lost, none half there")
    print(f"  killed in: {dict(under_way)}")
    left = [path for path in (folder / "hf").rglob("*.incomplete")]
    staged = list((folder / "registry" / "tmp").iterdir())
    print(f"  left behind: {len(left)} in the client's cache, {len(staged)} in the registry")


def _remote(name: str, revision: str | None = None) -> HubRemote:
    from pe_toolkit.registry.remotes.hub import HubRemote
    from pe_toolkit.registry.remotes.retry import Backoff

    return HubRemote(HubReference("zoe", name, revision), backoff=Backoff(3, 0.05, 0.1))


def _use_hub(cards: list[Path], rng: random.Random, say: Say) -> None:
    """Push and pull without end."""
    while True:
        repo = rng.choice(REPOS)
        if rng.random() < 0.5:
            say("pull")
            with contextlib.suppress(RemoteMissingError):  # before the first push
                receive(_remote(repo), force=True)
            continue
        say("push")
        tag, force = rng.choice((None, TAG)), rng.random() < 0.7
        with contextlib.suppress(ConflictError):  # a tag that marks another card, without force
            _remote(repo).push(rng.choice(cards), PushOptions(tag=tag, force=force))


def _check_repository(remote: HubRemote, known: set[str]) -> None:
    """What anybody would fetch now is a card that was pushed, with the README of that card.

    Raises:
        SystemExit: if not.
    """
    from huggingface_hub import hf_hub_download

    state = remote.state()
    if state is None or set(state.files) == {".gitattributes"}:
        return  # not made yet, or made and nothing more
    if set(state.files) != {".gitattributes", CARD_FILE, "README.md"}:
        raise SystemExit(f"{remote.url} has {sorted(state.files)}")
    pulled = remote.pull()
    path = hf_hub_download(remote.repo_id, "README.md", revision=state.head, token=TOKEN)
    said = re.search(r'sha256: "([0-9a-f]{64})"', Path(path).read_text(encoding="utf-8"))
    if verify_card(pulled.path).sha256 not in known or said is None:
        raise SystemExit(f"{remote.url} has a card that was never pushed, or no README of it")
    if f"sha256:{said[1]}" != pulled.digest:
        raise SystemExit(f"{remote.url} has the README of another card")
    tagged = remote.state(TAG)
    if tagged is not None and not tagged.has(CARD_FILE, tuple(known)):
        raise SystemExit(f"the tag of {remote.url} marks no card")
