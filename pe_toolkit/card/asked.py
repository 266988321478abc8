"""What a request has to be so that a card, or a generation, can be made of it: found before any
work.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from operator import index

from pe_toolkit.card.spec import LARGEST_SEED, CardSpec
from pe_toolkit.errors import CardError, UsageError, option
from pe_toolkit.shown import shown


def checked_prompts(prompts: Iterable[str]) -> list[str]:
    """The prompts as a list, also those of an iterator, which can be taken once only.

    Raises:
        UsageError: one string where several are expected (it would be taken letter by letter), or
            something that is no string among them.
    """
    several = isinstance(prompts, Iterable) and not isinstance(prompts, str)
    found = list(prompts) if several else []
    if not several or not all(isinstance(prompt, str) for prompt in found):
        got = shown(found if several else prompts)
        raise UsageError(f"Expected a list of prompts, got {got}.", 'Such as ["a cat"].')
    return found


def checked_seeds(seeds: Iterable[int]) -> list[int]:
    """The seeds as plain integers.

    Raises:
        UsageError: they are no list, or one is no whole number, or not from 0 to 2^63 - 1.
    """
    if not isinstance(seeds, Iterable):
        raise UsageError(f"Expected a list of seeds, got {shown(seeds)}.", "Such as [1, 2].")
    found = []
    for seed in seeds:
        try:
            found.append(index(seed))
        except TypeError as error:
            raise UsageError(f"Expected seeds that are whole numbers, got {seed!r}.") from error
        if not 0 <= found[-1] <= LARGEST_SEED:
            raise UsageError(f"Expected a seed from 0 to 2^63 - 1, got {seed}.")
    return found


def same_noise(seeds: Sequence[int]) -> tuple[int, int] | None:
    """The first two different seeds that give the same initial noise; None if there are none.

    Torch's generator on the CPU, which draws it, uses the lowest 32 bits of a seed.
    """
    drawn: dict[int, int] = {}
    for seed in seeds:
        first = drawn.setdefault(seed % 2**32, seed)
        if first != seed:
            return first, seed
    return None


def check_words(**words: str) -> None:
    """What goes into a card as it is obeys the card's rules now, not after an hour of training.

    Args:
        words: by the names of a request's fields: `name`, `card_version`, `author`, `license`.

    Raises:
        UsageError: one that no card may hold.
    """
    rules = {field.name: field.metadata["rule"] for field in dataclasses.fields(CardSpec)}
    for name, value in words.items():
        try:
            rules[name.removeprefix("card_")].check(value, option(name))
        except CardError as error:
            raise UsageError(error.message, error.hint) from error
