"""Checks a provider row's quirks against the dataclass of its wire.

What a quirk may be is read off its field's type, so that a wire declares each quirk once: `bool`,
`str`, a `Literal` of words, `frozenset[str]` (a list of names), or the last with `| None` (null
for "all"). Unknown keys and words are refused with the nearest known one.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from dataclasses import fields
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

Q = TypeVar("Q")


def checked(
    quirks: type[Q],
    values: Mapping[str, Any],
    provider: str,
    known_names: Mapping[str, Collection[str]] | None = None,
) -> Q:
    """The quirks of a row.

    Args:
        quirks: a dataclass whose fields all have defaults.
        values: the row's mapping.
        provider: its name, for messages.
        known_names: the only names that a list may hold, by quirk.

    Raises:
        ValueError: an unknown key or a wrong value, named, with the nearest known one.
    """
    known = {entry.name for entry in fields(quirks)}  # type: ignore[arg-type]
    hints = get_type_hints(quirks)
    found: dict[str, Any] = {}
    for key, value in values.items():
        where = f"provider {provider!r}: quirk {key!r}"
        if key not in known:
            raise ValueError(f"{where} is unknown{_nearest(key, known)}")
        found[key] = _check(key, value, hints[key], where)
        if known_names and key in known_names:
            for name in found[key] or ():
                # A misspelt refusal would silently let the field through.
                if name not in known_names[key]:
                    nearest = _nearest(name, known_names[key])
                    raise ValueError(f"{where}: unknown field {name!r}{nearest}")
    return quirks(**found)


def _check(key: str, value: Any, kind: Any, where: str) -> Any:
    choices = get_args(kind)
    if kind is bool:
        if not isinstance(value, bool):
            raise ValueError(f"{where} must be true or false")
        return value
    if kind is not str and get_origin(kind) is not Literal:
        if value is None and NoneType in choices:
            return None
        if not isinstance(value, list | tuple | set | frozenset) or not all(
            isinstance(name, str) for name in value
        ):
            raise ValueError(f"{where} must be a list of names")
        return frozenset(value)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{where} must be a text")
    if choices and value not in choices:
        raise ValueError(f"{where} must be one of {', '.join(choices)}")
    if key == "path" and not value.startswith("/"):
        raise ValueError(f"{where} must begin with '/'")
    return value


def _nearest(name: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(name, sorted(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
