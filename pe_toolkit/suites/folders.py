"""Suites that others published, read from folders as they are downloaded.

    davis:FOLDER       DAVIS 2017 with the prompts of DiTFlow
    mtbench:FOLDER     MTBench (DeT): the data set QingyuShi/MTBench of the Hub
    movebench:FOLDER   MoveBench (Wan-Move): the data set Ruihang/MoveBench of the Hub

The layouts of MTBench and MoveBench are those that the evaluation scripts of their authors read,
with the examples in their repositories; the data sets themselves were not at hand. What is not
there is said by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from pe_toolkit.errors import SuiteError
from pe_toolkit.shown import shown
from pe_toolkit.suites.manifest import MOST_BYTES, NAME, WHERE, parsed
from pe_toolkit.suites.suite import PUBLISHED, Prompt, Suite, SuiteClip

DAVIS_PROMPTS = "prompts.js"
DAVIS_KINDS = dict(zip(("easy", "medium", "hard"), PUBLISHED, strict=True))
MOST_FRAMES = 10**7
DAVIS_SEED = 1
"""The default of the published code."""
JS_STRING = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", re.DOTALL)
JS_ESCAPE = re.compile(
    r"\\(?:u\{([0-9a-fA-F]{1,5})\}|u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(.))", re.DOTALL
)
JS_SIGNS = dict(zip("nrtbfv0", "\n\r\t\b\f\v\0", strict=True)) | {"\n": ""}
"""What stands behind a backslash, where it is not itself; a line that goes on is nothing."""
JS_END = re.compile(r";?\s*(?:export\s+default\s+\w+\s*;?)?\s*$")
JS_NAME = re.compile(r"^\s*(?:export\s+)?(?:const|let|var)\s+\w+\s*=\s*")


def davis(folder: Path) -> Suite:
    """The 50 clips and 150 prompts of DiTFlow.

    FOLDER is that of DAVIS 2017 (it holds `JPEGImages/480p/NAME/00000.jpg`), with the file
    `prompts.js` of ditflow.github.io (`supp/assets/`) put into it: names of clips, each with
    `easy`, `medium`, `hard` and `frame_range`, which is [first, stop, step] of its frames.

    Raises:
        SuiteError: a file or a clip is missing, or the prompts cannot be read.
    """
    images = next(
        (p for p in (folder / "JPEGImages" / "480p", folder / "480p", folder) if _has_frames(p)),
        None,
    )
    if images is None:
        raise _missing("davis", folder, "JPEGImages/480p/NAME/00000.jpg", "davischallenge.org")
    listing = folder / DAVIS_PROMPTS
    if not listing.is_file():
        raise _missing(
            "davis", folder, DAVIS_PROMPTS, "supp/assets/prompts.js of github.com/ditflow/"
            "ditflow.github.io",
        )  # fmt: skip
    return Suite("davis", tuple(_davis_clips(listing, images)))


def _davis_clips(listing: Path, images: Path) -> Iterator[SuiteClip]:
    text = JS_END.sub("", JS_NAME.sub("", _text(listing)))
    # What is left of the script is YAML as well, but for the way it writes signs in quotes.
    rows = parsed(JS_STRING.sub(_yaml_string, text).encode(), str(listing))
    if not isinstance(rows, dict) or not rows:
        raise SuiteError(f"Expected clips and their prompts in {listing}, got none.", WHERE)
    for name, row in rows.items():
        where = f"{listing}, {name!r}"
        texts = [row.get(key) for key in DAVIS_KINDS] if isinstance(row, dict) else [None]
        if not all(isinstance(text, str) and text.strip() for text in texts):
            raise SuiteError(f"Expected prompts for {', '.join(DAVIS_KINDS)} in {where}.", WHERE)
        clip = images / str(name)
        if not clip.is_dir():
            raise _missing("davis", images.parent, str(clip.name), "davischallenge.org")
        source: dict[str, object] = {"path": str(clip.absolute())}
        if "frame_range" in row:
            source["frames"] = _range(row["frame_range"], where)
        prompts = tuple(Prompt(kind, row[key]) for key, kind in DAVIS_KINDS.items())
        yield SuiteClip(_named(str(name), where), source, prompts, (DAVIS_SEED,))


def _yaml_string(found: re.Match[str]) -> str:
    """A string of JavaScript as one of YAML, in which every sign that may mean more is escaped."""
    text = JS_ESCAPE.sub(_meant, found[0][1:-1])
    # JavaScript writes what has no 16 bits as two of them.
    text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    plain = (c if " " <= c <= "~" and c not in '"\\' else f"\\U{ord(c):08x}" for c in text)
    return f'"{"".join(plain)}"'


def _meant(escape: re.Match[str]) -> str:
    code = escape[1] or escape[2] or escape[3]
    return chr(int(code, 16)) if code else JS_SIGNS.get(escape[4], escape[4])


def _range(value: object, where: str) -> list[int]:
    found = [int(n) for n in re.findall(r"-?\d+", str(value)[:100])]
    whole = len(found) == 3 and min(found) >= 0 and max(found) <= MOST_FRAMES
    if not whole or found[2] < 1 or len(range(*found)) < 2:
        raise SuiteError(
            f"Expected frame_range [FIRST, STOP, STEP] in {where}, from 0 on and of two frames or "
            f"more, got {shown(value)}."
        )
    return found


def mtbench(folder: Path) -> Suite:
    """The clips of MTBench with their evaluation prompts, five each, of the kind `Eval`.

    A clip is a folder NAME with `videos/NAME.mp4` and `eval_prompts.txt` (one prompt a line), at
    any of the first four levels below FOLDER. Folders whose names begin with `.` or `__` are not
    looked into.

    Raises:
        SuiteError: there is none, or a file of one is missing.
    """
    clips = []
    for level in range(4):
        for listing in sorted(folder.glob("*/" * level + "eval_prompts.txt")):
            home = listing.parent
            if any(p.startswith((".", "__")) for p in home.relative_to(folder).parts):
                continue
            video = home / "videos" / f"{home.name}.mp4"
            if not video.is_file():
                raise _missing("mtbench", home, f"videos/{home.name}.mp4", "the Hub")
            texts = [line.strip() for line in _lines(listing) if line.strip()]
            if not texts:
                raise SuiteError(f"Expected prompts in {listing}, got none.", WHERE)
            prompts = tuple(Prompt("Eval", text) for text in texts)
            name = _named(home.name, str(home))
            clips.append(SuiteClip(name, {"path": str(video.absolute())}, prompts, (42,)))
    if not clips:
        raise _missing("mtbench", folder, "NAME/eval_prompts.txt", "QingyuShi/MTBench on the Hub")
    return Suite("mtbench", tuple(_distinct(clips, folder)))


def movebench(folder: Path) -> Suite:
    """The clips of MoveBench, each with its own caption in English: prompts of the kind `Caption`.

    FOLDER holds `en/video/NAME.mp4` and `en/single_track.txt`, `en/multi_track.txt`: a line is a
    name, a comma and the caption. A clip with more than one caption has as many prompts.
    (Its tracks are not read: trackers here are run on both clips.)

    Raises:
        SuiteError: there is none, or a file of one is missing.
    """
    home = folder / "en" if (folder / "en").is_dir() else folder
    prompts: dict[str, list[Prompt]] = {}
    for listing in (home / "single_track.txt", home / "multi_track.txt"):
        for line in _lines(listing) if listing.is_file() else []:
            if not line.strip() or line.startswith("#"):
                continue
            file, comma, caption = line.partition(",")
            if not comma or not caption.strip():
                raise SuiteError(f"Expected NAME,CAPTION in {listing}, got {shown(line)}.", WHERE)
            name = _named(Path(file.strip()).stem, str(listing))
            video = home / "video" / f"{name}.mp4"
            if not video.is_file():
                raise _missing("movebench", home, f"video/{name}.mp4", "the Hub")
            prompt = Prompt("Caption", caption.strip())
            own = prompts.setdefault(name, [])
            if prompt not in own:
                own.append(prompt)
    if not prompts:
        place = "Ruihang/MoveBench on the Hub"
        raise _missing("movebench", folder, "en/single_track.txt", place)
    clips = []
    for name, own in prompts.items():
        path = (home / "video" / f"{name}.mp4").absolute()
        clips.append(SuiteClip(name, {"path": str(path)}, tuple(own), (42,)))
    return Suite("movebench", tuple(clips))


READERS = {"davis": davis, "mtbench": mtbench, "movebench": movebench}


def _has_frames(folder: Path) -> bool:
    return next(folder.glob("*/00000.jpg"), None) is not None


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise SuiteError(f"Expected up to {MOST_BYTES // 2**20} MB in {path}.", WHERE)
        return path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise SuiteError(f"Expected to read {path}, but: {error.strerror or error}.") from error


def _lines(path: Path) -> list[str]:
    """Not `splitlines`, which ends lines at other signs too: a prompt may hold U+2028."""
    return _text(path).split("\n")


def _named(name: str, where: str) -> str:
    if re.fullmatch(NAME, name) is None or len(name) > 80:
        raise SuiteError(f"Expected the name of a clip in {where}, got {shown(name)}.", WHERE)
    return name


def _distinct(clips: list[SuiteClip], folder: Path) -> list[SuiteClip]:
    names = [clip.name for clip in clips]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise SuiteError(f"Expected every clip in {folder} to have its own name, got {twice!r}.")
    return clips


def _missing(kind: str, folder: Path, what: str, source: str) -> SuiteError:
    return SuiteError(
        f"Expected {what} in {folder}, but it is not there.",
        f"--suite {kind}:FOLDER reads the data as it is downloaded (from {source}); "
        "docs/evaluate.md has the layout.",
    )
