"""One use of a transformer at a time."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator
from typing import Any

from pe_toolkit.errors import UnsupportedError

_TAKEN: weakref.WeakSet[Any] = weakref.WeakSet()
"""Transformers under a card, or in training, now."""


@contextlib.contextmanager
def alone(transformer: Any, what: str = "a second") -> Iterator[None]:
    """One card at a time: two would not add up (rotary tables of one replace those of the other),
    and a training under a card would learn what is missing from it.

    Args:
        what: wants the transformer.

    Raises:
        UnsupportedError: a card is applied to this transformer, or one is being trained with it, by
            whichever pipeline.
    """
    if transformer in _TAKEN:
        raise UnsupportedError(
            f"Expected one card at a time, got {what} while one is applied to this model, or being "
            "trained with it.",
            "Leave the first `with applied(...)`, or finish the training, before you go on.",
        )
    _TAKEN.add(transformer)
    try:
        yield
    finally:
        _TAKEN.discard(transformer)
