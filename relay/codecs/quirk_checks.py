"""Checks of a provider row's quirks, shared by the wires: unknown keys, wrong values, all named.

A wire's quirks are a frozen dataclass; its `from_mapping` calls `checked` with a function that
checks the value of one key by means of the others here.

Raises (all functions):
    ValueError: naming provider and key, with the nearest known name where there is one.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping
from dataclasses import fields
from typing import Any


def checked(
    quirks: type[Any],
    values: Mapping[str, Any],
    provider: str,
    check: Callable[[str, Any, str], Any],
) -> dict[str, Any]:
    """The arguments of the dataclass `quirks`.

    Args:
        check: makes the value of a known key from what the row says; gets key, value, and the
            words that messages begin with.
    """
    known = {entry.name for entry in fields(quirks)}
    arguments: dict[str, Any] = {}
    for key, value in values.items():
        where = f"provider {provider!r}: quirk {key!r}"
        if key not in known:
            raise ValueError(f"{where} is unknown{_nearest(key, known)}")
        arguments[key] = check(key, value, where)
    return arguments


def flag(value: Any, where: str) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ValueError(f"{where} must be true or false")  # noqa: TRY004 - one class for a row
    return value


def text(value: Any, where: str, choices: Collection[str] | None = None) -> str:
    """A text that is not empty, one of `choices` if there are any."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"{where} must be a text")
    if choices is not None and value not in choices:
        raise ValueError(f"{where} must be one of {', '.join(choices)}")
    return value


def path(value: Any, where: str) -> str:
    """What is appended to the path of a `base_url`."""
    given = text(value, where)
    if not given.startswith("/"):
        raise ValueError(f"{where} must begin with '/'")
    return given


def names(value: Any, where: str, known: frozenset[str] | None = None) -> frozenset[str]:
    """A list of names, each of them one of `known` unless that is None."""
    if not isinstance(value, list | tuple | set | frozenset) or not all(
        isinstance(name, str) for name in value
    ):
        raise ValueError(f"{where} must be a list of names")
    if known is not None:
        for name in value:
            if name not in known:
                raise ValueError(f"{where}: unknown field {name!r}{_nearest(name, known)}")
    return frozenset(value)


def _nearest(name: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(name, sorted(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
