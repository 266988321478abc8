"""Outputs: which files a command will write, checked before any work; small files written whole."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import shlex
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pe_toolkit.cli.output import plain
from pe_toolkit.errors import OutputError, OutputExistsError, UsageError


@dataclass(frozen=True)
class Target:
    """One generation and the files that it becomes."""

    prompt: str
    seed: int
    video: Path
    side_by_side: Path | None = None
    again: bool = False
    """Whether files of an interrupted run are there, which this one makes anew."""

    @property
    def sidecar(self) -> Path:
        """`OUT.json` beside `OUT.mp4`."""
        return self.video.with_suffix(".json")

    @property
    def files(self) -> list[Path]:
        """Everything that will be written."""
        return [p for p in (self.video, self.sidecar, self.side_by_side) if p is not None]


def plan(
    out: Path, prompts: Sequence[str], seeds: Sequence[int], *, side_by_side: bool = False
) -> list[Target]:
    """Prompts x seeds: exactly one -> OUT.mp4, more -> OUT-p01-s42.mp4 and so on."""
    alone = len(prompts) * len(seeds) == 1
    digits = max(2, len(str(len(prompts))))
    targets = []
    for number, prompt in enumerate(prompts, 1):
        for seed in seeds:
            stem = out.stem if alone else f"{out.stem}-p{number:0{digits}d}-s{seed}"
            video = out.with_name(stem + out.suffix)
            targets.append(Target(prompt, seed, video, beside(video) if side_by_side else None))
    return targets


def beside(video: Path) -> Path:
    """Where reference and result stand side by side."""
    return video.with_name(f"{video.stem}-side-by-side{video.suffix}")


def numbered(stem: str, suffix: str) -> Iterator[Path]:
    """Names for a file that nobody named, in the current folder: `ref.mp4`, `ref-2.mp4`, ..."""
    yield Path(stem + suffix)
    for number in itertools.count(2):
        yield Path(f"{stem}-{number}{suffix}")


def there(path: Path) -> bool:
    """Whether something has this name, also a link that leads nowhere."""
    return path.is_symlink() or path.exists()


def check_outputs(paths: Iterable[Path], *, force: bool) -> None:
    """All files can be written: their folder is there and takes files, and none is in the way.

    Raises:
        OutputExistsError: if one exists and `force` is not given.
        UsageError: if one is a folder.
        OutputError: if a folder is missing, not writable or full.
    """
    paths = list(paths)
    for path in paths:
        if path.is_dir():
            raise UsageError(f"Expected a file to write, got the folder {path}.", "Name a file.")
    taken = [path for path in paths if there(path)]
    if taken and not force:
        names = ", ".join(str(path) for path in taken[:3])
        more = f" and {len(taken) - 3} more" if len(taken) > 3 else ""
        raise OutputExistsError(
            f"Expected no file at {names}{more}, but there is one.",
            "Use --force to overwrite, or choose another name.",
        )
    for folder in dict.fromkeys(path.parent for path in paths):
        probe_folder(folder)


def next_free(target: Target) -> Target:
    """The same under the next of the names that nobody gave (`numbered`) of which no file is
    there.
    """
    for video in itertools.islice(numbered(target.video.stem, target.video.suffix), 1, None):
        side_by_side = None if target.side_by_side is None else beside(video)
        found = replace(target, video=video, side_by_side=side_by_side)
        if not any(map(there, found.files)):
            return found
    raise AssertionError("there is always another number")


PICTURES = (".png",)
"""Endings of what we write that a folder of pictures is read from."""


def check_not_read(written: Iterable[Path], read: Iterable[Path | None]) -> None:
    """Nothing that is read is overwritten, not by force either: what was drawn from it would be
    all that is left. Nor does a picture come into a folder of pictures that is read: it would be
    one of them the next time.

    Raises:
        UsageError: a file is both.
    """
    for path, source in itertools.product(written, filter(None, read)):
        with contextlib.suppress(OSError):
            picture = path.suffix.lower() in PICTURES
            if picture and source.is_dir() and path.parent.samefile(source):
                raise UsageError(
                    f"Expected a file outside of {source} to write, whose pictures are read, got "
                    f"{path}.",
                    "Choose another folder.",
                )
            if path.samefile(source):
                raise UsageError(
                    f"Expected another file than {source} to write, which is read.",
                    "Choose another name.",
                )


def probe_folder(folder: Path) -> None:
    """A file can be made in `folder`: tried out, because permission bits do not tell everything.

    Raises:
        OutputError: if not.
    """
    if not folder.is_dir():
        raise OutputError(
            f"Expected the folder {folder}, but there is none.",
            f"mkdir -p {shlex.quote(str(folder))}",
        )
    try:
        with tempfile.TemporaryFile(dir=folder, prefix=".pe-"):
            pass
    except OSError as error:
        # Some folders of the system are there and take no files, which they say in this odd way.
        why = "it takes no files" if error.errno == errno.ENOENT else error.strerror or error
        raise OutputError(
            f"Expected to write into {folder}, but: {why}.",
            "Check its permissions and the free space, or choose another place.",
        ) from error


def make_folder(folder: Path) -> None:
    """Have a folder that a file can be made in.

    Raises:
        OutputError: if that cannot be.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"Expected to make the folder {folder}, but: {error.strerror or error}.",
            "Choose another place.",
        ) from error
    probe_folder(folder)


VIDEOS = (".mp4", ".gif")
"""Endings of the videos that are written (`video.output.VIDEO_SUFFIXES`, which needs PyAV)."""


def check_suffix(path: Path, suffixes: str | tuple[str, ...], option: str = "-o") -> None:
    """`path` ends in one of `suffixes`, in any case.

    Raises:
        UsageError: if not.
    """
    every = (suffixes,) if isinstance(suffixes, str) else suffixes
    if path.suffix.lower() not in every:
        raise UsageError(
            f"Expected {option} to end in {' or '.join(every)}, got {path.name!r}.",
            f"Use {option} {path.stem.strip('.-') or 'out'}{every[0]}",
        )


def write_json(path: Path, value: Any, *, force: bool = False) -> None:
    """Write indented JSON, the whole file or nothing.

    Raises:
        OutputExistsError, OutputError: as `pe_toolkit.writing.write_atomically`.
    """
    from pe_toolkit.writing import write_atomically

    text = json.dumps(plain(value), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    write_atomically(path, [text.encode("utf-8", "backslashreplace")], force=force)
