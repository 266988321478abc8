"""Every link of the documentation leads somewhere.

python docs/check_links.py             # README.md, docs/*.md and their like
python docs/check_links.py site        # the pages that `make docs` wrote

Relative links have to name a file that is there, and a heading or an id that it has. Addresses of
the network are not asked.
"""

from __future__ import annotations

import re
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).parent.parent
_CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)|^\[[^\]]+\]:\s*(\S+)", re.MULTILINE)


class _Page(HTMLParser):
    """Links and ids of a page of HTML, or of HTML inside of Markdown."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and name in ("href", "src"):
                self.links.append(value)
            elif value and name in ("id", "name"):
                self.ids.add(value)


def slug(heading: str) -> str:
    """The id that GitHub gives a heading."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


@cache
def read(path: Path) -> tuple[list[str], set[str]]:
    """Links of a page, and the ids that links to it may name."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".html":
        page = _Page(text)
        return page.links, page.ids
    bare = _CODE.sub("", text)
    page = _Page(bare)
    links = [first or second for first, second in _LINK.findall(bare)] + page.links
    ids, counted = set(page.ids), dict[str, int]()
    without = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", without, flags=re.MULTILINE):
        name = slug(heading)
        number = counted.get(name, 0)
        counted[name] = number + 1
        ids.add(f"{name}-{number}" if number else name)
    return links, ids


def wrong(path: Path) -> list[str]:
    """In words, the links of a page that lead nowhere."""
    found = []
    for link in read(path)[0]:
        if re.match(r"[a-z][a-z0-9+.-]*:|//", link, flags=re.IGNORECASE):
            continue
        name, _, part = link.partition("#")
        target = path if not name else path.parent / unquote(name.partition("?")[0])
        if target.is_dir():
            target = target / "index.html" if path.suffix == ".html" else target
        if not target.exists():
            found.append(f"{link}: no such file")
        elif part and target.suffix in (".md", ".html") and unquote(part) not in read(target)[1]:
            found.append(f"{link}: no such heading")
    return found


def pages(words: list[str]) -> list[Path]:
    """What is checked: the folder that is named, or the Markdown of this repository."""
    if words:
        return sorted(Path(words[0]).rglob("*.html"))
    places = (
        ROOT,
        ROOT / "docs",
        ROOT / "docs" / "experiments",
        ROOT / "benchmarks",
        ROOT / "examples",
        ROOT / "tests",
    )
    return sorted(path for place in places for path in place.glob("*.md"))


def main(words: list[str]) -> int:
    """Returns the exit code."""
    checked = pages(words)
    if not checked:
        print(f"Expected pages in {words[0] if words else ROOT}, found none.", file=sys.stderr)
        return 1
    faults = [f"{path}: {text}" for path in checked for text in wrong(path)]
    print("\n".join(faults) or f"{len(checked)} pages: every link leads somewhere.")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
