"""Cards by name, from Python: `pe_toolkit.load`, `applied`, `replay` and `push_to_hub`."""

from __future__ import annotations

import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pe_toolkit.card import MotionCard
from pe_toolkit.errors import UsageError
from pe_toolkit.registry.references import HubReference, parse
from pe_toolkit.registry.resolve import card_path
from pe_toolkit.shown import shown

if TYPE_CHECKING:
    from pe_toolkit.apply import Application, Replay
    from pe_toolkit.registry.remotes.base import Pushed
    from pe_toolkit.video import Clip


def load(card: str | Path) -> MotionCard:
    """Read a card from wherever it is, and check it completely.

    Args:
        card: a path (`wave.safetensors`, `./wave`), a name in the local registry (`wave`,
            `wave@1.2.0`), or a repository on the Hugging Face Hub (`owner/wave`,
            `hf://owner/wave@v1.2.0`), which is fetched and kept without a name. If a
            `pe.lock` in the current folder pins it, only the card that it pins is taken.

    Raises:
        UsageError: if it has none of these forms.
        RegistryError: if it is not there, cannot be fetched, or is not the one that is pinned.
        CardError: if it is not a sound card.

    Warns:
        CopyWarning: if the Hub could not be asked, and the copy of an earlier time is taken.
    """
    return MotionCard.load(_path(card))


def _path(card: str | Path) -> Path:
    """The file of a card that is named as `load` says."""
    if isinstance(card, Path):
        return card
    if not isinstance(card, str):
        raise UsageError(
            f"Expected the path or the name of a card, got {shown(card)}.",
            "What `train` gives, and `load`, is a card already.",
        )
    return card_path(card)


def applied(
    pipe: Any,
    card: MotionCard | str | Path,
    strength: float = 1.0,
    *,
    kv_from: Clip | None = None,
    no_kv: bool = False,
    phase: float | None = None,
    camera: float | None = None,
    subject: float | None = None,
) -> AbstractContextManager[Application]:
    """Guide every generation of `pipe` by a positions card while the context is open:
    `with applied(pipe, "wave") as log: pipe("a red circle", ...)`.

    `card` is a card, or where it is as for `load`: a path, a name, `owner/wave`. Everything else is
    as in `pe_toolkit.apply.applied`, which says what it raises and yields.
    """
    import pe_toolkit.apply as core

    found = card if isinstance(card, MotionCard) else load(card)
    return core.applied(
        pipe, found, strength, kv_from=kv_from, no_kv=no_kv, phase=phase, camera=camera,
        subject=subject,
    )  # fmt: skip


def replay(
    pipe: Any,
    card: MotionCard | str | Path,
    *,
    kv_from: Clip | None = None,
    no_kv: bool = False,
) -> AbstractContextManager[Replay]:
    """Replay a latents card: `with replay(pipe, "wave") as r: pipe(..., **r.arguments())`.

    `card` is a card, or where it is as for `load`; everything else is as in
    `pe_toolkit.apply.replay`.
    """
    import pe_toolkit.apply as core

    found = card if isinstance(card, MotionCard) else load(card)
    return core.replay(pipe, found, kv_from=kv_from, no_kv=no_kv)


def push_to_hub(
    card: MotionCard | str | Path,
    repo: str,
    *,
    private: bool = False,
    tag: str | None = None,
    message: str | None = None,
    preview: str | Path | None = None,
    force: bool = False,
    dry_run: bool = False,
    sign: str | Path | None = None,
) -> Pushed:
    """Bring a card to the Hugging Face Hub, with a README made from what it says.

    Pushing the same card twice changes nothing. The token is that of `hf auth login` or HF_TOKEN.

    Args:
        card: a card, or where it is (as for `load`).
        repo: `owner/name`; made if it is not there.
        private: make it visible to its owner only.
        tag: mark this as a version: the card's own, `v1.0.0`.
        message: of the commit.
        preview: a video or picture that the page shows.
        force: move the tag if it marks another card.
        dry_run: look, and change nothing.
        sign: an SSH key to sign the card with; the signature lies beside it.

    Returns:
        What was done, or would be.

    Raises:
        UsageError: if `repo` is no `owner/name`, or `tag` is not the card's version.
        CardError: if the card is not sound.
        SignatureError: if it cannot be signed.
        RemoteError: if the Hub cannot be reached, refuses us, or somebody else pushed meanwhile.
    """
    from pe_toolkit.registry.remotes import open_remote
    from pe_toolkit.registry.remotes.base import PushOptions

    target = parse(repo)
    if not isinstance(target, HubReference):
        raise UsageError(f"Expected owner/name on the Hub, got {repo!r}.")
    options = PushOptions(
        private, tag, message, Path(preview) if preview is not None else None, force, dry_run,
        sign=Path(sign) if sign is not None else None,
    )  # fmt: skip
    remote = open_remote(target)
    if not isinstance(card, MotionCard):
        return remote.push(_path(card), options)
    with tempfile.TemporaryDirectory(prefix="pe-") as folder:
        path = Path(folder) / "card.safetensors"
        card.save(path)
        return remote.push(path, options)
