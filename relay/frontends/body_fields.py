"""Fields of a JSON body, checked for their type and range; what is wrong is refused by its path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from relay.errors import InvalidRequest

T = TypeVar("T")


def typed(body: Mapping[str, Any], key: str, kind: type[T], what: str, path: str = "") -> T | None:
    """A field of one type, None when absent or null.

    Args:
        what: the type in words, like `a string`.
        path: of the object that the field stands in.

    Raises:
        InvalidRequest: it has another type.
    """
    value = body.get(key)
    if value is None:
        return None
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise wrong(f"{path}.{key}" if path else key, f"must be {what}")
    return value


def text(body: Mapping[str, Any], key: str, path: str = "") -> str:
    """A string, empty when absent or null.

    Raises:
        InvalidRequest: it is none.
    """
    return typed(body, key, str, "a string", path) or ""


def needed(body: Mapping[str, Any], key: str, path: str = "") -> str:
    """A string that must be there and say something.

    Raises:
        InvalidRequest: it is missing, empty or no string.
    """
    value = text(body, key, path)
    if not value:
        raise wrong(f"{path}.{key}" if path else key, "is required")
    return value


def number(body: Mapping[str, Any], key: str, low: float, high: float) -> float | None:
    """A number within its range, None when absent or null.

    Raises:
        InvalidRequest: it is none, or outside.
    """
    value = body.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong(key, "must be a number")
    if not low <= value <= high:
        raise wrong(key, f"must be between {low} and {high}")
    return float(value)


def integer(body: Mapping[str, Any], key: str, low: int, high: int) -> int | None:
    """An integer within its range, None when absent or null.

    Raises:
        InvalidRequest: it is none, or outside.
    """
    value = body.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong(key, "must be an integer")
    if not low <= value <= high:
        raise wrong(key, f"must be between {low} and {high}")
    return value


def wrong(field: str, why: str) -> InvalidRequest:
    """The error for a field, which its message begins with."""
    return InvalidRequest(f"{field} {why}", field=field)
