"""Strings of strangers in Markdown and YAML: shown as they are, and acting as nothing.

Names, authors, licenses and prompts in a card are whatever their maker typed. In a README they
must be neither markup nor HTML nor YAML: in the text they become code spans, in which nothing is
interpreted, and in the metadata quoted scalars.
"""

from __future__ import annotations

import json
import re

from pe_toolkit.shown import printable

MOST = 300
"""Characters of one string that a README shows."""

# Ids that the Hub knows as `license:`; anything else goes to `license_name` below `license: other`.
LICENSES = frozenset(
    """
    apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0
    bigcode-openrail-m afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause
    bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0
    cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0
    cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0
    cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1
    eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 isc lppl-1.3c ms-pl mpl-2.0
    odc-by odbl openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl unknown other
    """.split()  # noqa: SIM905
)


def plain(text: str, most: int = MOST) -> str:
    """`text` on one line without control or invisible characters, cut after `most`."""
    shown = printable(text)
    return shown if len(shown) <= most else shown[: most - 3] + "..."


def code(text: str, most: int = MOST) -> str:
    """A code span: nothing in it is markup, HTML or a link. Backticks come out as quotes."""
    inside = plain(text, most).replace("`", "'").strip()
    return f"`{inside or '-'}`"


def quoted(text: str, most: int = MOST) -> str:
    """A YAML scalar in double quotes, on one line: no key, no list and no comment can begin in it.

    JSON strings are YAML; after `printable` there is no control character and no lone surrogate,
    whose spelling differs between the two.
    """
    return json.dumps(plain(text, most), ensure_ascii=False)


def license_lines(license_text: str) -> list[str]:
    """The `license` entries of the metadata; none if the card names no license."""
    known = license_text.strip().lower()
    if not known:
        return []
    if known in LICENSES:
        return [f"license: {known}"]
    return ["license: other", f"license_name: {quoted(slugged(license_text), 64)}"]


def slugged(text: str) -> str:
    """Lower-case letters, digits, dots and dashes only; never empty."""
    return re.sub(r"[^a-z0-9.]+", "-", printable(text).lower()).strip("-.") or "other"
