"""Strict rules for the values of a card: each checks one value and returns it in one spelling.

A `Section` is a frozen dataclass whose fields carry rules; it checks itself on construction, so
that a wrong value can neither be read from a file nor be built in memory. Reading is strict both
ways: a key too many and a key too few are both refused, by name, because an unknown key may
change the motion.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

from pe_toolkit.errors import CardError
from pe_toolkit.shown import printable, shown


class Rule(Protocol):
    """What one value must be."""

    def check(self, value: object, path: str) -> Any:
        """`value` in its one spelling, or `CardError` naming `path`."""
        ...


def refuse(path: str, expected: str, value: object) -> CardError:
    """The error for a value that breaks a rule."""
    return CardError(f"Expected `{path}` to be {expected}, got {shown(value)}.")


@dataclass(frozen=True)
class Text:
    """A string of `least` to `most` characters, of `choices` or matching all of `pattern`."""

    least: int = 1
    most: int = 200
    choices: Collection[str] = ()
    pattern: str | None = None
    like: str = ""
    """What a string of that pattern looks like, in words."""

    def check(self, value: object, path: str) -> str:
        if not isinstance(value, str):
            raise refuse(path, "a string", value)
        if self.choices and value not in self.choices:
            raise refuse(path, "one of " + ", ".join(self.choices), value)
        if not self.least <= len(value) <= self.most:
            raise refuse(path, f"{self.least} to {self.most} characters", value)
        if self.pattern is not None and re.fullmatch(self.pattern, value, re.ASCII) is None:
            raise refuse(path, self.like, value)
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise refuse(path, "valid Unicode", value) from None
        return value


@dataclass(frozen=True)
class Integer:
    """A whole number from `low` to `high`."""

    low: int
    high: int

    def check(self, value: object, path: str) -> int:
        if isinstance(value, bool) or not isinstance(value, numbers.Integral):
            raise refuse(path, "a whole number", value)
        number = int(value)
        if not self.low <= number <= self.high:
            raise refuse(path, f"from {self.low} to {self.high}", value)
        return number


@dataclass(frozen=True)
class Number:
    """A finite number from `low` to `high` (above `low` if `open_low`), kept as a float, rounded to
    `decimals`.
    """

    low: float = -1e300
    high: float = 1e300
    open_low: bool = False
    decimals: int | None = None

    def check(self, value: object, path: str) -> float:
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise refuse(path, "a number", value)
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise refuse(path, "a finite number", value)
        if not self.low <= number <= self.high or (self.open_low and number == self.low):
            above = "above" if self.open_low else "from"
            raise refuse(path, f"{above} {self.low:g} up to {self.high:g}", value)
        if self.decimals is None:
            return number
        return round(number, self.decimals) + 0.0  # never -0.0: one spelling


@dataclass(frozen=True)
class TextOrNumber:
    """A string, or a finite number."""

    def check(self, value: object, path: str) -> str | float:
        if isinstance(value, str):
            return Text(least=0).check(value, path)
        return Number().check(value, path)


@dataclass(frozen=True)
class Flag:
    """True or false."""

    def check(self, value: object, path: str) -> bool:
        if not isinstance(value, bool):
            raise refuse(path, "true or false", value)
        return value


@dataclass(frozen=True)
class Nullable:
    """Null, or what `rule` says."""

    rule: Rule

    def check(self, value: object, path: str) -> Any:
        return None if value is None else self.rule.check(value, path)


@dataclass(frozen=True)
class ListOf:
    """`least` to `most` values of one rule; a list in JSON, a tuple in Python."""

    rule: Rule
    least: int
    most: int

    def check(self, value: object, path: str) -> tuple[Any, ...]:
        if not isinstance(value, Sequence) or isinstance(value, str | bytes):
            raise refuse(path, "a list", value)
        if not self.least <= len(value) <= self.most:
            count = str(self.least) if self.least == self.most else f"{self.least} to {self.most}"
            raise CardError(f"Expected `{path}` to have {count} entries, got {len(value)}.")
        return tuple(self.rule.check(item, f"{path}[{i}]") for i, item in enumerate(value))


@dataclass(frozen=True)
class MapOf:
    """Up to `most` named values of one rule."""

    rule: Rule
    most: int = 100

    def check(self, value: object, path: str) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise refuse(path, "an object", value)
        if len(value) > self.most:
            raise CardError(
                f"Expected `{path}` to have up to {self.most} entries, got {len(value)}."
            )
        name = Text()
        return {
            name.check(key, f"{path} (a key)"): self.rule.check(item, f"{path}.{printable(key)}")
            for key, item in value.items()
        }


@dataclass(frozen=True)
class Record:
    """A section: the dataclass itself, or a JSON object of exactly its keys."""

    section: type[Section]

    def check(self, value: object, path: str) -> Section:
        if isinstance(value, self.section):
            return value
        return self.section.from_dict(value, path)


def ruled(rule: Rule, default: Any = dataclasses.MISSING) -> Any:
    """A dataclass field that obeys `rule`."""
    # Mappings cannot be hashed; everything else in a section can.
    hashed = False if isinstance(rule, MapOf) else None
    return dataclasses.field(default=default, hash=hashed, metadata={"rule": rule})


def optional(rule: Rule) -> Any:
    """A dataclass field that a card may leave out, then None: what later minor versions add."""
    return dataclasses.field(default=None, metadata={"rule": Nullable(rule), "optional": True})


@dataclass(frozen=True)
class Section:
    """Base of the parts of a card's description.

    Raises:
        CardError: on construction, if a value breaks its rule; the message names the field.
    """

    place: ClassVar[str] = ""
    """Where the section stands in the card, used in messages."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            path = f"{self.place}.{field.name}" if self.place else field.name
            value = field.metadata["rule"].check(getattr(self, field.name), path)
            object.__setattr__(self, field.name, value)
        self.check_together()

    def check_together(self) -> None:
        """Rules that concern several fields; `CardError` if they contradict each other."""

    @classmethod
    def from_dict(cls, data: object, path: str = "") -> Self:
        """Read a JSON object that has exactly the keys of this section (optional ones may lack).

        Raises:
            CardError: for an unknown key, a missing key, or a value that breaks its rule.
        """
        if not isinstance(data, Mapping):
            raise refuse(path or "the description", "an object", data)
        where = f"`{path}`" if path else "the card"
        fields = {field.name: field for field in dataclasses.fields(cls)}
        for key in data:
            if key not in fields:
                raise CardError(
                    f"Expected {where} to hold only known keys, got the unknown key {shown(key)}.",
                    "Unknown keys are never skipped, because they may change the motion.",
                )
        for key, field in fields.items():
            if key not in data and "optional" not in field.metadata:
                raise CardError(f"Expected {where} to have the key {key!r}, but it is missing.")
        prefix = f"{path}." if path else ""
        return cls(
            **{
                key: field.metadata["rule"].check(data[key], prefix + key)
                for key, field in fields.items()
                if key in data
            }
        )

    def to_dict(self) -> dict[str, Any]:
        """The section as plain dicts, lists, strings, numbers and booleans; no empty options."""
        return {
            f.name: _plain(getattr(self, f.name))
            for f in dataclasses.fields(self)
            if getattr(self, f.name) is not None or "optional" not in f.metadata
        }


def _plain(value: object) -> Any:
    if isinstance(value, Section):
        return value.to_dict()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return dict(value) if isinstance(value, Mapping) else value
