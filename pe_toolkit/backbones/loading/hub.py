"""A pipeline of the Hub in the local cache: found there without a network, fetched once. No torch.

What a pipeline needs is read off its own `model_index.json` and its lists of shards: what else a
repository holds (a README, pictures, pickled weights) need not be in the cache, and is not fetched.
Configurations come first and are checked before a single weight is. Files are kept where
huggingface_hub and diffusers keep theirs, under the branch or tag that was asked for as well.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from pe_toolkit.backbones.loading import files, trust
from pe_toolkit.backbones.loading.hub_errors import explained
from pe_toolkit.backbones.loading.hub_get import Fetcher
from pe_toolkit.backbones.loading.hub_watch import patient
from pe_toolkit.errors import BackboneError, UsageError
from pe_toolkit.writing import write_atomically

Say = Callable[[str], None]
MAIN = "main"
SECONDS = 8.0
"""How long a request may stay without any answer. The client tries a download six times."""
MOST_FILES = 10_000
_NAME = re.compile(r"[\w][\w.-]*/[\w][\w.+-]*", re.ASCII)
_PATH = re.compile(r"(?!\.)[\w. +()-]+(/(?!\.)[\w. +()-]+)*", re.ASCII)
_SMALL = (".json", ".model", ".txt")


def prepare_download(model_id: str, revision: str | None, say: Say) -> str:
    """Have a pipeline in the cache; returns its commit.

    Raises:
        BackboneError, DependencyError, UsageError: as `fetch`.
    """
    return fetch(model_id, revision, say).name


def cached(model_id: str, revision: str | None = None) -> Path | None:
    """The folder in the cache for a branch, tag or commit, if all that its pipeline needs is there.

    Raises:
        BackboneError: a list of parts or shards that cannot be read.
    """
    folder = _snapshot(model_id, revision or MAIN)
    return folder if folder is not None and not files.missing(folder) else None


def fetch(model_id: str, revision: str | None, say: Say, *, of_card: bool = False) -> Path:
    """The folder of a pipeline in the cache, fetched if it is not there or not all of it.

    Args:
        model_id: `owner/name`; never a path.
        revision: a branch, tag or commit; default: the branch main.
        say: told what is found or downloaded.
        of_card: a card chose the revision, not the person: only a commit of a branch, or a tag.

    Raises:
        BackboneError: not to be had, refused by `trust`, or too little disk.
        DependencyError: a proxy that needs a package.
        UsageError: a revision that is none, or not one that a card may choose.
    """
    wanted = revision or MAIN
    if not trust.is_revision(wanted) and (of_card or not _is_ref(wanted)):
        raise UsageError(f"Expected a branch, a tag or a commit, got {wanted[:100]!r}.")
    folder = _snapshot(model_id, wanted)
    if folder is not None and not files.missing(folder):
        say(f"{model_id}: from the cache.")
        return folder
    with explained(f"the model {model_id}"), patient(SECONDS):
        return _download(model_id, wanted, folder, say, of_card)


def fetch_one(
    model_id: str,
    revision: str | None,
    pick: Callable[[Collection[str]], str | None],
    beside: Callable[[str], str | None],
    say: Say,
) -> Path:
    """One file of a repository in the cache, and the one that belongs to it if the repository has
    it.

    Args:
        model_id: `owner/name`; never a path.
        revision: a branch, tag or commit; default: the branch main.
        pick: which, of the names of its files, None for none of them; raises what it will.
        beside: the name of the file that belongs to one, in the same folder; None: there is none.

    Raises:
        BackboneError, DependencyError, UsageError: as `fetch`.
    """
    from huggingface_hub import constants

    wanted = revision or MAIN
    if not trust.is_revision(wanted):
        raise UsageError(f"Expected a branch, a tag or a commit, got {ascii(wanted)[:100]}.")
    folder, lacks = _snapshot(model_id, wanted), ""
    if folder is not None and (name := pick(_names(folder))) is not None:
        other = beside(name)
        if other is None or (folder / name).with_name(other).is_file():
            say(f"{model_id}: from the cache.")
            return folder / name
        lacks = f" with its {other}"  # weights alone would be applied with another factor
    with explained(f"the LoRA {model_id}"), patient(SECONDS):
        if constants.is_offline_mode():
            raise BackboneError(
                f"Expected the LoRA {model_id} in the local cache{lacks}, as offline mode is on, "
                "but it is not there.",
                "Unset HF_HUB_OFFLINE once, with a network, to fetch it.",
            )
        return _download_one(model_id, wanted, pick, beside, say)


def _download_one(
    model_id: str,
    wanted: str,
    pick: Callable[[Collection[str]], str | None],
    beside: Callable[[str], str | None],
    say: Say,
) -> Path:
    """What `fetch_one` fetches, from the Hub."""
    from huggingface_hub import HfApi, constants

    free = _free(Path(constants.HF_HUB_CACHE))
    info = HfApi().model_info(model_id, revision=wanted, files_metadata=True, timeout=SECONDS)
    commit = _commit(info)
    sizes = {f.rfilename: f.size or 0 for f in info.siblings or () if _PATH.fullmatch(f.rfilename)}
    name = pick(sizes)
    if name is None:
        raise UsageError(
            f"Expected LoRA weights in {model_id}, got a repository without the file.",
            "Look at its page for the names: --lora hf://OWNER/NAME/FILE.safetensors.",
        )
    size = sizes[name]
    say(f"{model_id}: downloading {_bytes(size)}, once (free disk: {_bytes(free)}).")
    _check_room(model_id, size, free)
    _keep_ref(model_id, wanted, commit)
    fetcher, digests = Fetcher(model_id, commit, SECONDS, say), _digests(info)
    belongs = beside(name)
    other = None if belongs is None else str(PurePosixPath(name).with_name(belongs))
    if other in sizes:
        _check_size(other, sizes[other])
        fetcher.get(other, digests.get(other))
    fetcher.get(name, digests.get(name))
    return _repository(model_id) / "snapshots" / commit / name


def _names(folder: Path) -> list[str]:
    """The files in a snapshot, as the Hub names them; a link that leads nowhere is none."""
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


def _is_ref(text: str) -> bool:
    """A reference in full, such as `refs/pr/1`: a person may ask for it."""
    return re.fullmatch(r"refs/(pr|heads|tags|convert)/[\w.-]+", text, re.ASCII) is not None


def _repository(model_id: str) -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"models--{model_id.replace('/', '--')}"


def _snapshot(model_id: str, revision: str) -> Path | None:
    """The folder of a revision in the cache, whole or not."""
    repository = _repository(model_id)
    commit = revision
    if not trust.COMMIT.fullmatch(revision):
        try:
            commit = (repository / "refs" / revision).read_text("ascii").strip()
        except (OSError, ValueError):
            return None
    if not trust.COMMIT.fullmatch(commit):
        return None
    folder = repository / "snapshots" / commit
    return folder if folder.is_dir() else None


def _download(model_id: str, wanted: str, folder: Path | None, say: Say, of_card: bool) -> Path:
    from huggingface_hub import HfApi, constants

    cache = Path(constants.HF_HUB_CACHE)
    free = _free(cache)
    if constants.is_offline_mode():
        raise _offline(model_id, folder)
    api = HfApi()
    asked = folder.name if folder is not None else wanted  # what is there in part is completed
    info = api.model_info(model_id, revision=asked, files_metadata=True, timeout=SECONDS)
    commit = _commit(info)
    if of_card and wanted != MAIN:  # the answer counts: a server may know other names of a commit
        _check_own(api, model_id, commit)
    sizes = {f.rfilename: f.size or 0 for f in info.siblings or ()}
    if files.INDEX not in sizes or len(sizes) > MOST_FILES:
        raise BackboneError(
            f"Expected a CogVideoX pipeline at {model_id}, but it has no {files.INDEX}.",
            "Name the repository of a whole pipeline.",
        )
    folder = _repository(model_id) / "snapshots" / commit
    partial = not set(files.missing(folder)).issuperset([files.INDEX])

    fetcher = Fetcher(model_id, commit, SECONDS, say)
    _keep_ref(model_id, wanted, commit)
    for name in small(sizes):
        _check_size(name, sizes[name])
        fetcher.get(name)
        if name == files.INDEX:
            trust.check_index(files.read_json(folder / name), model_id)
    trust.check_folder(folder, model_id, weights=False)
    needed = weights_of(folder, sizes, model_id)
    left = [name for name in needed if not (folder / name).is_file()]
    digests, blobs = _digests(info), _repository(model_id) / "blobs"
    # What another commit has as well is in the cache already.
    size = sum(sizes[n] for n in left if not (blobs / digests.get(n, "none")).is_file())
    if size:
        told = f"{_bytes(size)}, once (free disk: {_bytes(free)})"
        if partial and len(left) < len(needed):
            told = f"{told}; {len(needed) - len(left)} of {len(needed)} files are in the cache"
        say(f"{model_id}: {'downloading the rest, ' if partial else 'downloading '}{told}.")
    _check_room(model_id, size, free)
    for name in left:
        fetcher.get(name, digests.get(name))
    return folder


def small(sizes: Mapping[str, int]) -> list[str]:
    """The files of a pipeline that are no weights: the list of its parts first, the files by which
    an interrupted download is recognised last.
    """
    found = [
        name
        for name in sizes
        if _NAME.fullmatch(name) and name.partition("/")[0] in files.PARTS and name.endswith(_SMALL)
    ]

    def late(name: str) -> bool:
        part, _, file = name.partition("/")
        return file in files.TOKENIZERS or file == files.CONFIGS.get(part)

    return [files.INDEX, *sorted(found, key=lambda name: (late(name), name))]


def weights_of(folder: Path, sizes: Mapping[str, int], model_id: str) -> list[str]:
    """The files with weights that a pipeline needs, all of them on the server.

    Raises:
        BackboneError: none as safetensors, or not all.
    """
    needed = []
    for part in files.STEMS:
        names = {n.partition("/")[2] for n in sizes if n.startswith(f"{part}/")}
        read = _reader(folder / part)
        found = files.weights(part, names, read)
        if found is None:
            raise trust.no_safetensors(part, names, model_id)
        needed += [f"{part}/{name}" for name in found.files]
    for name in needed:
        if name not in sizes:
            raise BackboneError(
                f"Expected {name} in {model_id}, but it is not there.",
                "The repository is not complete: name another one, or tell its owner.",
            )
    return needed


def _digests(info: Any) -> dict[str, str]:
    """SHA-256 of the large files."""
    large = {f.rfilename: f.lfs for f in info.siblings or () if f.lfs is not None}
    return {name: str(lfs.sha256) for name, lfs in large.items() if lfs.sha256}


def _commit(info: Any) -> str:
    """The commit that the server names: the client makes a path of it."""
    commit = str(info.sha)
    if trust.COMMIT.fullmatch(commit) is None:
        raise BackboneError(
            f"Expected a commit, 40 hex digits, from the server, got {ascii(commit)[:60]}.",
            "Is it a Hugging Face Hub? HF_ENDPOINT says which server is asked.",
        )
    return commit


def _bytes(count: int) -> str:
    """`13.8 GB`, `26 MB`, `0.5 MB`."""
    if count >= 1e9:
        return f"{count / 1e9:.1f} GB"
    return f"{count / 1e6:.0f} MB" if count >= 1e7 else f"{count / 1e6:.1f} MB"


def _check_room(model_id: str, size: int, free: int) -> None:
    if size > free:
        raise BackboneError(
            f"Expected {_bytes(size)} of free disk for {model_id}, got {_bytes(free)}.",
            f"Free some space, or point HF_HOME to another disk (now {_home()}).",
        )


def _reader(folder: Path) -> Callable[[str], Mapping[str, Any]]:
    return lambda name: files.read_json(folder / name)


def _check_size(name: str, size: int) -> None:
    most = files.MOST_TOKENIZER if name.startswith("tokenizer/") else files.MOST_JSON
    if size > most:
        raise BackboneError(f"Expected at most {most} bytes in {name} of the model, got {size}.")


def _check_own(api: Any, model_id: str, commit: str) -> None:
    """Refuse a commit that only a proposal of a stranger has: a Hub hands those out by name too."""
    known = {item.commit_id for item in api.list_repo_commits(model_id)}
    if commit not in known:
        refs = api.list_repo_refs(model_id)
        known |= {ref.target_commit for ref in (*refs.branches, *refs.tags)}
    if commit not in known:
        raise UsageError(
            f"Expected a card at a commit of {model_id}'s own branches, got one at {commit}, which "
            "is on none of them.",
            "A card does not choose what is downloaded and run. If you trust that commit, type "
            f"the same with --backbone {model_id} --revision {commit} (downloads it).",
        )


def _keep_ref(model_id: str, revision: str, commit: str) -> None:
    """Remember which commit a branch or tag is, where huggingface_hub does."""
    if trust.COMMIT.fullmatch(revision):
        return
    place = _repository(model_id) / "refs" / revision
    place.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(place, [commit.encode()], force=True)


def _free(cache: Path) -> int:
    """Bytes of free disk where the cache is, or would be made."""
    root = next(place for place in (cache, *cache.parents) if place.exists())
    if not root.is_dir():
        raise BackboneError(
            f"Expected a folder for the cache of models, got the file {root}.",
            f"Point HF_HOME to a folder (now {_home()}).",
        )
    return shutil.disk_usage(root).free


def _home() -> str:
    return os.environ.get("HF_HOME", "the default")


def _offline(model_id: str, folder: Path | None) -> BackboneError:
    lacking = files.missing(folder) if folder is not None else []
    have = "not in the cache"
    if lacking and lacking != [files.INDEX]:
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        have = f"in the cache without {lacking[0]}{more}"
    return BackboneError(
        f"Expected the model {model_id} in the local cache, as offline mode is on, but it is "
        f"{have}.",
        "Unset HF_HUB_OFFLINE once, with a network, to fetch it.",
    )
