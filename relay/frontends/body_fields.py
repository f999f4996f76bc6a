"""Fields of a JSON body, checked for their type and range; what is wrong is refused by its path.

Every reader takes the object that the field stands in, the field's key, and the object's own path
("" for the body), and gives None for a field that is absent or null, which clients write for
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any, Final, TypeVar

from relay.errors import InvalidRequest, shown
from relay.frontends.limits import MAX_BODY_FIELDS, check_count

T = TypeVar("T")

NEVER_SENT_ON: Final = frozenset(
    {"base_url", "api_base", "api_key", "api_version", "extra_headers"}
)
"""What some client libraries would have name another host or key: dropped from every body, at any
time."""


_WORDS: Final[Mapping[type, str]] = {
    str: "a string",
    bool: "true or false",
    int: "an integer",
    dict: "an object",
    list: "an array",
}


def typed(value: Mapping[str, Any], key: str, kind: type[T], path: str = "") -> T | None:
    """A field of one type.

    Raises:
        InvalidRequest: it has another type.
    """
    found = value.get(key)
    if found is None:
        return None
    if not isinstance(found, kind) or (isinstance(found, bool) and kind is not bool):
        raise wrong(_path(path, key), f"must be {_WORDS[kind]}")
    return found


def text(value: Mapping[str, Any], key: str, path: str = "") -> str:
    """A string, empty when absent or null.

    Raises:
        InvalidRequest: it is none.
    """
    return typed(value, key, str, path) or ""


def required(value: Mapping[str, Any], key: str, kind: type[T], path: str = "") -> T:
    """A field that must be there, and not empty where it is a string.

    Raises:
        InvalidRequest: it is absent, empty or of another type.
    """
    found = typed(value, key, kind, path)
    if found is None or found == "":
        raise wrong(_path(path, key), "is required")
    return found


def needed(value: Mapping[str, Any], key: str, path: str = "") -> str:
    """A string that must be there and say something.

    Raises:
        InvalidRequest: it is missing, empty or no string.
    """
    return required(value, key, str, path)


def number(
    value: Mapping[str, Any], key: str, low: float, high: float, path: str = ""
) -> float | None:
    """A number within its range.

    Raises:
        InvalidRequest: it is none, or outside.
    """
    found = value.get(key)
    if found is None:
        return None
    field = _path(path, key)
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise wrong(field, "must be a number")
    if not low <= found <= high:
        raise wrong(field, f"must be between {low} and {high}")
    return float(found)


def integer(value: Mapping[str, Any], key: str, low: int, high: int, path: str = "") -> int | None:
    """An integer within its range.

    Raises:
        InvalidRequest: it is none, or outside.
    """
    found = typed(value, key, int, path)
    if found is not None and not low <= found <= high:
        raise wrong(_path(path, key), f"must be between {low} and {high}")
    return found


def an_object(value: object, path: str) -> Mapping[str, Any]:
    """What stands at a path, as an object.

    Raises:
        InvalidRequest: it is something else.
    """
    if not isinstance(value, dict):
        raise wrong(path, "must be an object")
    return value


def further(body: Mapping[str, Any], read: Set[str], path: str = "") -> dict[str, Any]:
    """The fields of a body that go on as they came, since nobody here reads them.

    Some hosts know no case (Go's JSON takes `Model` for `model`, and the last of the two counts):
    what is read here, as scopes, limits and budgets go by it, must not go on in another spelling.

    Args:
        read: names of those that are read here.

    Raises:
        InvalidRequest: a field is one of those in another case, or one that is never sent on; or
            there are more than `MAX_BODY_FIELDS`.
    """
    check_count(len(body), MAX_BODY_FIELDS, path or "the body")
    found: dict[str, Any] = {}
    for name, value in body.items():
        if name in read or name in NEVER_SENT_ON:
            continue
        if not (name.isascii() and name.islower()):
            folded = name.casefold()
            if folded in read or folded in NEVER_SENT_ON:
                raise wrong(_path(path, shown(name)), f"must be written {folded}")
        found[name] = value
    return found


def said(value: Mapping[str, Any]) -> set[str]:
    """The fields that are there and not null."""
    return {name for name, found in value.items() if found is not None}


def wrong(field: str, why: str) -> InvalidRequest:
    """The error for a field, which its message begins with."""
    return InvalidRequest(f"{field} {why}", field=field)


def _path(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
