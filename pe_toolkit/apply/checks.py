"""Whether a card fits a pipeline, and the clip that goes with it."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path

from pe_toolkit.apply.sense import check_sense
from pe_toolkit.backbones import ways
from pe_toolkit.backbones.contract import Backbone, KeysValues
from pe_toolkit.card import MotionCard
from pe_toolkit.card.compat import check_fits
from pe_toolkit.card.sampling import check_reference
from pe_toolkit.errors import MismatchError, UnsupportedError, UsageError, option
from pe_toolkit.grid import TokenGrid
from pe_toolkit.shown import shown
from pe_toolkit.video import Clip


class CardWarning(UserWarning):
    """A card is used in another way than it was made for; it may still work."""


def card_of(card: MotionCard | str | Path) -> MotionCard:
    """The card itself, or the one at a path.

    Raises:
        UsageError: no card, and no path of one: names are found one layer up.
        CardError: if it is not a sound card.
    """
    if isinstance(card, MotionCard):
        return card
    named = isinstance(card, str) and (card.endswith(".safetensors") or Path(card).is_file())
    if isinstance(card, Path) or named:
        return MotionCard.load(card)
    raise UsageError(
        f"Expected a card or the path of one, got {shown(card)}.",
        "Names are found by pe_toolkit.applied, pe_toolkit.replay and pe_toolkit.load.",
    )


def check_card(adapter: Backbone, card: MotionCard) -> None:
    """Refuse a card that does not fit; warn where it might.

    Raises:
        MismatchError: wrong backbone; says what would fit.
        CardError: a card for this backbone that says what cannot be.
    """
    spec = card.spec
    warned = check_fits(
        spec,
        family=adapter.family,
        fingerprint=adapter.fingerprint(),
        positions=adapter.positions,
        # What is generated is the card's own clip: `check_sense` compares it with the grid.
        grid=TokenGrid(*spec.grid.token_grid()),
        frames=spec.clip.frames,
        width=spec.clip.width,
        height=spec.clip.height,
        # A plain pipeline does not say what it is called; its architecture was compared above.
        variant=adapter.variant.name if adapter.variant else spec.backbone.variant,
        model_id=adapter.model_id,
        revision=adapter.revision,
        weights_digest=adapter.weights_digest,
    )
    check_sense(adapter, spec)
    for text in warned:
        warnings.warn(text, CardWarning, stacklevel=4)


def keys_values(
    adapter: Backbone, card: MotionCard, clip: Clip | None, waived: bool
) -> KeysValues | None:
    """Keys and values of the reference, if they are given, or a refusal if they must be.

    Raises:
        UsageError: the card requires them and there is no clip, or what is given is none.
        MismatchError: a clip of another size than the card's.
    """
    spec, own = card.spec, card.spec.reference.sha256
    check_reference(spec, given=clip is not None, waived=waived)
    if clip is None:
        if spec.recipe.kv == "required":
            warnings.warn(
                "The card was trained with keys and values of its reference, and is applied "
                "without them: the motion may be weaker.",
                CardWarning,
                stacklevel=4,
            )
        return None
    if not isinstance(clip, Clip):
        raise UsageError(
            f"Expected a clip as {option('kv_from')}, got {type(clip).__name__}.",
            "Read it with pe_toolkit.read_clip.",
        )
    frames, height, width = clip.frames.shape[:3]
    if (frames, width, height) != (spec.clip.frames, spec.clip.width, spec.clip.height):
        raise MismatchError(
            f"Expected a reference clip of {spec.clip.frames} frames at {spec.clip.width}x"
            f"{spec.clip.height} for this card's keys and values, got {frames} at {width}x{height}."
        )
    if clip.sha256 != own:
        warnings.warn(
            f"The card was made from the clip with sha256 {own}; keys and values come from "
            f"another one ({clip.sha256}).",
            CardWarning,
            stacklevel=4,
        )
    recorded = spec.reference.encoded
    latents, way = adapter.encode(clip.frames, ways.again(recorded))
    if way != recorded:
        warnings.warn(
            f"The reference was encoded in the way `{recorded}` when the card was trained; there "
            f"is memory for `{way}` only: its keys and values differ a little.",
            CardWarning,
            stacklevel=4,
        )
    return adapter.keys_values(
        latents,
        spec.recipe.seed,
        frames,
        width,
        height,
        adapter.encode_image(clip.frames),
        fixed=spec.recipe.kv == "required" and spec.recipe.kv_noise is None,
    )


@contextlib.contextmanager
def vae_check(adapter: Backbone) -> Iterator[None]:
    """Refuse, once it is to encode or decode, a VAE whose weights are elsewhere then; warn before.
    And refuse numbers that are not finite, which would be a black video.

    A generation with `output_type="latent"` needs none.
    """
    try:
        adapter.check_decoder()
    except UnsupportedError as error:
        warnings.warn(
            f'{error.message} Only output_type="latent" will work. {error.hint}',
            CardWarning,
            stacklevel=4,
        )
    else:
        with adapter.finite_decoding():
            yield
        return
    with adapter.before_decoding(adapter.check_decoder):
        yield


@contextlib.contextmanager
def size_check(adapter: Backbone, expected: TokenGrid, card: MotionCard) -> Iterator[None]:
    """Refuse, at the first forward pass, latents of another size than the card's."""
    clip = card.spec.clip

    def look(got: TokenGrid) -> None:
        if got != expected:
            raise MismatchError(
                f"Expected a generation of {clip.frames} frames at {clip.width}x{clip.height} "
                "(token grid "
                f"{expected}), which this card was trained for, got the grid {got}.",
                f"Call pipe(..., num_frames={clip.frames}, width={clip.width}, "
                f"height={clip.height}).",
            )

    with adapter.watching_grid(look):
        yield
