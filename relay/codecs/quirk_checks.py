"""Checks a row's quirks, key by key: what every wire's quirks share.

A wire lists its quirks as a table of checks; a check takes the row's value and the words that
name it (`provider 'p': quirk 'path'`), and returns the value as the codec wants it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9-]{1,100}")

Check = Callable[[Any, str], Any]
"""Value and where it stands, to the checked value. Raises ValueError naming the place."""


def read_quirks(
    values: Mapping[str, Any], checks: Mapping[str, Check], provider: str
) -> dict[str, Any]:
    """The checked values of a row, as arguments for a wire's dataclass of quirks.

    Raises:
        ValueError: an unknown key or a wrong value, named, with the nearest known one.
    """
    checked: dict[str, Any] = {}
    for key, value in values.items():
        where = f"provider {provider!r}: quirk {key!r}"
        check = checks.get(key)
        if check is None:
            raise ValueError(f"{where} is unknown{_nearest(key, checks)}")
        checked[key] = check(value, where)
    return checked


def flag(value: Any, where: str) -> bool:
    """True or false."""
    if value is True or value is False:
        return bool(value)
    raise ValueError(f"{where} must be true or false")


def text(value: Any, where: str) -> str:
    """A text that is not empty."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"{where} must be a text")
    return value


def path(value: Any, where: str) -> str:
    """What is appended to the base path of an address."""
    if not text(value, where).startswith("/"):
        raise ValueError(f"{where} must begin with '/'")
    return str(value)


def header_name(value: Any, where: str) -> str:
    """A header's name; sent in lower case."""
    if not _HEADER_NAME.fullmatch(text(value, where)):
        raise ValueError(f"{where} must be the name of a header")
    return str(value).lower()


def one_of(words: Iterable[str]) -> Check:
    """A check for one of some words."""
    known = tuple(words)

    def check(value: Any, where: str) -> str:
        if text(value, where) not in known:
            raise ValueError(f"{where} must be one of {', '.join(known)}")
        return str(value)

    return check


def whole_number(low: int, high: int) -> Check:
    """A check for an integer in a range, both ends included."""

    def check(value: Any, where: str) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"{where} must be a whole number from {low} to {high}")
        return value

    return check


def names(value: Any, where: str) -> frozenset[str]:
    """A list of names."""
    return frozenset(ordered_names(value, where))


def ordered_names(value: Any, where: str) -> tuple[str, ...]:
    """A list of names whose order counts."""
    if not isinstance(value, list | tuple | set | frozenset) or not all(
        isinstance(name, str) for name in value
    ):
        raise ValueError(f"{where} must be a list of names")
    return tuple(value)


def names_or_all(value: Any, where: str) -> frozenset[str] | None:
    """A list of names; null stands for all there are."""
    return None if value is None else names(value, where)


def names_among(known: frozenset[str]) -> Check:
    """A check for a list of known names: a misspelt one would silently do nothing."""

    def check(value: Any, where: str) -> frozenset[str]:
        for name in names(value, where):
            if name not in known:
                raise ValueError(f"{where}: unknown field {name!r}{_nearest(name, known)}")
        return names(value, where)

    return check


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, sorted(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
