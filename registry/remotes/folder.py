"""A shared folder as a remote: for teams with a common disk, and for tests.

    file:///shared/cards/wave          the highest release of wave
    file:///shared/cards/wave@1.2.0    a version
    file:///shared/cards/wave@sha256:dff0292b

Files lie at `/shared/cards/wave/1.2.0.safetensors`. A version appears whole and at once, and is
never replaced without `force`, so the folder needs no lock and no index.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from pe_toolkit.card import CardInfo, CardSpec, read_info, verify_card
from pe_toolkit.errors import CardError, OutputError, PeError, UsageError
from pe_toolkit.registry import semver, signature_files, signatures
from pe_toolkit.registry.references import (
    FolderReference,
    LocalReference,
    RemoteReference,
    local,
    slug,
)
from pe_toolkit.registry.remotes.base import (
    Check,
    Found,
    Pulled,
    Pushed,
    PushOptions,
    Tell,
    check_tag,
    silent,
)
from pe_toolkit.registry.remotes.errors import ConflictError, RemoteError, RemoteMissingError
from pe_toolkit.registry.remotes.folder_signature import place, planned
from pe_toolkit.shown import printable, shown

MARK = ".pe-cards"
"""An empty file that says: cards lie here. It tells `/shared/cards` from a card in `/shared`."""
SCHEME = "file"
SUFFIX = ".safetensors"
_CHUNK = 1 << 20
_NOT_HERE = {
    "private": "Who may read a folder is up to its permissions.",
    "message": "A folder keeps no history.",
    "preview": "A folder has no pages.",
}
"""Option of a push -> why it makes no sense here."""


def connect(reference: RemoteReference, *, tell: Tell = silent) -> FolderRemote:
    """The folder that a `file://` reference names."""
    if not isinstance(reference, FolderReference):
        raise UsageError(f"Expected file:///folder, got {reference}.")
    return FolderRemote(reference.url)


class FolderRemote:
    """Cards in a folder.

    Args:
        url: `file:///folder`, or `file:///folder/name[@version]`.

    Raises:
        UsageError: if the URL names no absolute path on this machine.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.path, self.rest = _path(url)

    def push(self, card: Path, options: PushOptions) -> Pushed:
        """Copy a card into the folder; see `Remote.push`."""
        for option, why in _NOT_HERE.items():
            if getattr(options, option):
                raise UsageError(f"Expected no --{option} with a folder.", why)
        info = verify_card(card)
        tag = check_tag(options.tag, info.spec.version)
        signature = signatures.sign(card, options.sign) if options.sign else None
        root, name = self._place(slug(options.name or info.spec.name))
        target = root / name / f"{info.spec.version}{SUFFIX}"
        _check_links(root / MARK, target.parent, target)
        reference = f"{root.as_uri()}/{name}@{info.spec.version}"
        there = _digest(target) if os.path.lexists(target) else None
        changed = there != info.sha256
        if there is not None and changed and not options.force:
            raise _taken(reference)
        created = not (root / name).is_dir()
        signed = planned(card, target, signature, same=not changed, force=options.force)
        if not options.dry_run:
            if changed:
                _copy(card, target, info, force=options.force, mark=root / MARK)
            place(target, signature, signed)
        state = "unchanged" if not changed else "changed" if there else "new"
        files = {target.name: state}
        if signed:
            files[signature_files.beside(target).name] = signed
        there_now = {f"{name}/{file}": change for file, change in files.items()}
        return Pushed(
            reference=reference, url=target.as_uri(), digest=f"sha256:{info.sha256}",
            size=info.size_bytes, files=there_now, created=created,
            private=None, committed=any(c != "unchanged" for c in files.values()),
            tag=tag, tagged=tag is not None and changed,
            dry_run=options.dry_run,
        )  # fmt: skip

    def pull(self, check: Check = verify_card) -> Pulled:
        """The card's file in the folder; see `Remote.pull`."""
        if (self.path / MARK).is_file():
            names = ", ".join(sorted(_names(self.path))[:8]) or "none yet"
            raise UsageError(
                f"Expected the name of a card, got the folder {printable(self.url)}.",
                f"Write {self.url.rstrip('/')}/NAME. There is: {names}.",
            )
        reference = self._reference()
        folder = self.path.parent / reference.name
        _check_links(folder, *([folder / f"{reference.version}{SUFFIX}"] * bool(reference.version)))
        path = _choose(reference, folder)
        info = None
        with contextlib.suppress(CardError):  # whoever keeps it says what is wrong
            info = check(path)
        digest = info.sha256 if info else _digest(path)
        return Pulled(
            path=path, digest=f"sha256:{digest}", size=path.stat().st_size, name=reference.name,
            origin=f"{folder.as_uri()}@{path.name.removesuffix(SUFFIX)}", info=info,
            signature=signature_files.read(signature_files.beside(path)),
        )  # fmt: skip

    def search(
        self, words: Sequence[str], *, backbone: str | None, author: str | None, limit: int
    ) -> list[Found]:
        """Cards of the folder; see `Remote.search`. Looks into names, licenses and prompts too."""
        if not self.path.is_dir():
            raise _no_folder(self.path)
        found: list[Found] = []
        for name in sorted(_names(self.path)):
            for version in _versions(self.path / name):
                try:
                    spec = read_info(self.path / name / f"{version}{SUFFIX}").spec
                except CardError:
                    continue  # not a card; pulling it would say so
                if not _matches(spec, [name, version], words, backbone, author):
                    continue
                found.append(
                    Found(
                        reference=f"{self.path.as_uri()}/{name}@{version}",
                        author=spec.author,
                        version=version,
                        backbone=spec.backbone.variant,
                        license=spec.license,
                        updated=spec.created,
                        signed=signature_files.beside(
                            self.path / name / f"{version}{SUFFIX}"
                        ).is_file(),
                    )
                )
                if len(found) == limit:
                    return found
        return found

    def _place(self, name: str) -> tuple[Path, str]:
        """The folder of all cards, and the name of this one in it."""
        if self.rest:
            raise UsageError(
                f"Expected file:///folder or file:///folder/name, got {printable(self.url)}.",
                "The version is that of the card.",
            )
        if (self.path / MARK).is_file():
            return self.path, name
        if (self.path.parent / MARK).is_file():
            return self.path.parent, local(self.path.name).name
        if self.path.is_dir():
            return self.path, name
        if self.path.parent.is_dir():  # it may have been meant as the name of the card
            raise RemoteMissingError(
                f"Expected the folder {printable(str(self.path))}, but there is none.",
                f"Make it first: mkdir {printable(shlex.quote(str(self.path)))}. To share a card "
                f"as {shown(self.path.name)} in {printable(str(self.path.parent))}, where no cards "
                f"lie yet: push the first one to {printable(self.path.parent.as_uri())}",
            )
        raise _no_folder(self.path)

    def _reference(self) -> LocalReference:
        return local(self.path.name + (f"@{self.rest}" if self.rest else ""))


def _matches(
    spec: CardSpec, names: list[str], words: Sequence[str], backbone: str | None, author: str | None
) -> bool:
    back = spec.backbone
    text = [*names, spec.name, spec.author, spec.license, back.variant]
    text += [sample.prompt for sample in spec.samples]
    everything = "\n".join(text).casefold()
    models = (back.variant.casefold(), back.family, (back.model_id or "").casefold())
    return (
        all(word.casefold() in everything for word in words)
        and (not backbone or backbone.casefold() in models)
        and (not author or author.casefold() in spec.author.casefold())
    )


def _path(url: str) -> tuple[Path, str]:
    """The absolute path in a `file://` URL, and what follows the last @ of its last part."""
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or parts.query or parts.fragment:
        raise UsageError(
            f"Expected file:///absolute/folder, got {shown(url)}.", "Three slashes, no host."
        )
    text = url2pathname(parts.path)
    if "\0" in unquote(parts.path) or not Path(text).is_absolute() or ".." in Path(text).parts:
        raise UsageError(f"Expected file:///absolute/folder, got {shown(url)}.", "No .. in it.")
    path = Path(text)
    name, _, rest = path.name.partition("@")
    return (path.with_name(name), rest) if name else (path, "")


def _names(root: Path) -> Iterator[str]:
    for path in root.iterdir():
        if path.name == slug(path.name) and path.is_dir() and not path.is_symlink():
            yield path.name


def _check_links(*paths: Path) -> None:
    """Everybody who may write into the folder could lead us anywhere on this machine.

    Raises:
        RemoteError: if one of the paths is a link.
    """
    for path in paths:
        if path.is_symlink():
            raise RemoteError(
                f"Expected a file or a folder at {printable(str(path))}, but it is a link.",
                "Links in a shared folder are not followed. The folder itself may be one.",
            )


def _versions(folder: Path) -> list[str]:
    """Versions of a card, highest last; releases above pre-releases."""
    if not folder.is_dir():
        return []
    paths = [path for path in folder.glob(f"*{SUFFIX}") if not path.is_symlink()]
    found = [path.name.removesuffix(SUFFIX) for path in paths]
    found = [version for version in found if semver.is_version(version)]
    return sorted(found, key=lambda v: (semver.is_release(v), semver.order(v)))


def _choose(reference: LocalReference, folder: Path) -> Path:
    versions = _versions(folder)
    if reference.digest:
        wanted = reference.digest.removeprefix("sha256:")
        paths = [folder / f"{version}{SUFFIX}" for version in versions]
        fitting = [path for path in paths if _digest(path).startswith(wanted)]
        if len(fitting) == 1:
            return fitting[0]
    elif reference.version is None and versions:
        return folder / f"{versions[-1]}{SUFFIX}"
    elif reference.version in versions:
        return folder / f"{reference.version}{SUFFIX}"
    names = [] if versions or not folder.parent.is_dir() else sorted(_names(folder.parent))
    there = (
        f"There is {reference.name} {', '.join(versions[-8:])}."
        if versions
        else f"There is {', '.join(names[:8])}."
        if names
        else "Check the name and the folder."
    )
    raise RemoteMissingError(
        f"Expected the card {reference} in {printable(str(folder.parent))}, but it is not there.",
        there,
    )


def _digest(path: Path) -> str:
    """SHA-256 of a file, 64 hex digits."""
    try:
        if not path.is_file():
            raise RemoteError(
                f"Expected a file at {printable(str(path))}, but it is none.",
                "Whoever looks after the folder has to remove that, and push the card again.",
            )
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise RemoteError(
            f"Expected to read {printable(str(path))}, but: {error.strerror or error}.",
            "Check the permissions of the folder.",
        ) from error


def _copy(source: Path, target: Path, info: CardInfo, *, force: bool, mark: Path) -> None:
    """Copy the checked bytes, synced, under a name that appears only when they are all there."""
    temporary = target.parent / f".pe-{secrets.token_hex(8)}.tmp"
    try:
        target.parent.mkdir(exist_ok=True)
        mark.touch()
        try:
            state = hashlib.sha256()
            with open(source, "rb") as read, open(temporary, "xb") as write:
                while chunk := read.read(_CHUNK):
                    state.update(chunk)
                    write.write(chunk)
                write.flush()
                os.fsync(write.fileno())
            if state.hexdigest() != info.sha256:
                raise CardError("Expected the card that was checked, but it changed meanwhile.")
            _publish(temporary, target, info, force=force)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()
    except PeError:
        raise
    except OSError as error:
        raise OutputError(
            f"Expected to write {printable(str(target))}, but: {error.strerror or error}.",
            "Check the folder, its permissions and the free space.",
        ) from error


def _publish(temporary: Path, target: Path, info: CardInfo, *, force: bool) -> None:
    if force:
        os.replace(temporary, target)
        return
    try:
        os.link(temporary, target)  # unlike a rename it fails if somebody was faster
    except FileExistsError:
        if _digest(target) != info.sha256:
            raise _taken(target.as_uri()) from None
    except OSError:  # a file system without links
        if os.path.lexists(target):
            raise _taken(target.as_uri()) from None
        os.rename(temporary, target)


def _taken(reference: str) -> ConflictError:
    return ConflictError(
        f"Expected {printable(reference)} to be free, but there is another card of that version.",
        "Raise the version (pe edit ... --card-version), or replace the other one with --force.",
    )


def _no_folder(path: Path) -> RemoteMissingError:
    return RemoteMissingError(
        f"Expected the folder {printable(str(path))}, but there is none.",
        f"Make it first: mkdir -p {printable(shlex.quote(str(path)))}",
    )
