"""Going on with a batch of videos that was interrupted: which are there, and are they these?"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pe_toolkit.cli.files import Target
from pe_toolkit.errors import ResumeError

INTERRUPTED = "interrupted"
"""In the JSON file of a video, why it has no score, until all of its files are there."""
FORCE = "Repeat the options of the interrupted run, or begin anew with --force instead of --resume."


def finished(
    targets: Sequence[Target], wanted: Mapping[Target, Mapping[str, object]]
) -> list[Target]:
    """Those of which the video and its JSON file are there; with `again` where the run that made
    them was interrupted in the middle of it, or did not make all that is wanted now.

    Args:
        wanted: what the JSON file of each has to say, as far as it is known before generating.

    Raises:
        ResumeError: a video that was made otherwise, or JSON that is not ours.
    """
    found = []
    for target in targets:
        if not (target.video.is_file() and target.sidecar.is_file()):
            continue
        facts = _facts(target)
        for key, value in wanted[target].items():
            if facts.get(key, None if key in ("prompt", "seed") else value) != value:
                raise ResumeError(
                    f"Expected {target.video} to be of this very request, but it was made with "
                    f"{key} {facts.get(key)!r} (now {value!r}).",
                    FORCE,
                )
        partly = facts.get("motion_follows_reason") == INTERRUPTED
        lacking = target.side_by_side is not None and not target.side_by_side.is_file()
        found.append(replace(target, again=partly or lacking))
    return found


def _facts(target: Target) -> Mapping[str, object]:
    try:
        facts = json.loads(target.sidecar.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ResumeError(
            f"Expected what pe apply wrote in {target.sidecar}, but it cannot be read: {error}.",
            FORCE,
        ) from error
    if not isinstance(facts, dict):
        raise ResumeError(f"Expected what pe apply wrote in {target.sidecar}.", FORCE)
    return facts
