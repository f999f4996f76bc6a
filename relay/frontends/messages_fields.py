"""Fields of a Messages body, read by their type and refused by their path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from relay.errors import InvalidRequest

T = TypeVar("T")

_WORDS: Mapping[type, str] = {
    str: "a string",
    bool: "true or false",
    int: "an integer",
    dict: "an object",
    list: "an array",
}


def typed(value: Mapping[str, Any], key: str, kind: type[T], path: str = "") -> T | None:
    """A field of one type, None where it is absent or null.

    Raises:
        InvalidRequest: it is of another type.
    """
    found = value.get(key)
    if found is None:
        return None
    if not isinstance(found, kind) or (isinstance(found, bool) and kind is not bool):
        field = f"{path}.{key}" if path else key
        raise InvalidRequest(f"{field} must be {_WORDS[kind]}", field=field)
    return found


def required(value: Mapping[str, Any], key: str, kind: type[T], path: str = "") -> T:
    """The same of a field that must be there, and not empty where it is a string.

    Raises:
        InvalidRequest: it is absent, empty or of another type.
    """
    found = typed(value, key, kind, path)
    if found is None or found == "":
        field = f"{path}.{key}" if path else key
        raise InvalidRequest(f"{field} is required", field=field)
    return found


def integer(value: Mapping[str, Any], key: str, low: int, high: int, path: str = "") -> int | None:
    """An integer within bounds.

    Raises:
        InvalidRequest: it is none, or beyond them.
    """
    found = typed(value, key, int, path)
    if found is not None and not low <= found <= high:
        field = f"{path}.{key}" if path else key
        raise InvalidRequest(f"{field} must be between {low} and {high}", field=field)
    return found


def number(value: Mapping[str, Any], key: str, low: float, high: float) -> float | None:
    """A number within bounds.

    Raises:
        InvalidRequest: it is none, or beyond them.
    """
    found = value.get(key)
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise InvalidRequest(f"{key} must be a number", field=key)
    if not low <= found <= high:
        raise InvalidRequest(f"{key} must be between {low} and {high}", field=key)
    return float(found)


def an_object(value: object, path: str) -> Mapping[str, Any]:
    """
    Raises:
        InvalidRequest: it is something else.
    """
    if not isinstance(value, dict):
        raise InvalidRequest(f"{path} must be an object", field=path)
    return value


def said(value: Mapping[str, Any]) -> set[str]:
    """The fields that are there and not null, which clients write for nothing."""
    return {name for name, found in value.items() if found is not None}
