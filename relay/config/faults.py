"""One line for one fault of the file."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from relay.config import credentials, guardrail_scans
from relay.config.providers import RETENTION_PATTERN, ZONE_PATTERN
from relay.config.whole import Config


def describe(fault: Any) -> str:
    """One line for one fault: path, what is wrong, the nearest known name for an unknown key."""
    path = ""
    if fault["type"] in ("union_tag_invalid", "union_tag_not_found"):
        return _of_kind(fault)
    for part in _without_tags(fault["loc"]):
        if part == "[key]":  # pydantic's word for a key that is wrong itself
            continue
        path += f"[{part}]" if isinstance(part, int) else (f".{part}" if path else str(part))
    message = str(fault["msg"]).removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        message = _of_unknown_key(str(fault["loc"][-1]), _known_keys(fault["loc"][:-1]))
    elif fault["type"] == "literal_error":
        message = _of_choice(fault["input"], fault["ctx"]["expected"])
    elif fault["type"] in _BOUNDS:
        words, bound = _BOUNDS[fault["type"]]
        message = f"{words} {fault['ctx'][bound]:g} is expected"
    elif fault["type"] == "missing":
        message = "is required"
    elif fault["type"] == "string_pattern_mismatch":
        message = _OF_PATTERNS.get(fault["ctx"]["pattern"], message)
    elif fault["type"] == "too_short" and fault["ctx"]["min_length"] == 1:
        message = "is empty"
    elif fault["type"] == "too_short":
        least, found = fault["ctx"]["min_length"], fault["ctx"]["actual_length"]
        message = f"at least {least} are expected, not {found}"
    else:
        message = _PLAIN_WORDS.get(fault["type"], message)
    return f"{path}: {message}" if path else message


def _of_unknown_key(key: str, known: list[str]) -> str:
    """With the one that was meant, or else with all that there are, where they are not many."""
    if near := difflib.get_close_matches(key, known, 1):
        return f"unknown key; did you mean {near[0]!r}?"
    return "unknown key" + (f"; known are {', '.join(known)}" if len(known) <= _LISTED else "")


def _of_choice(found: object, expected: str) -> str:
    """Of a word that is none of a few.

    Args:
        expected: pydantic's list of them, `'a', 'b' or 'c'`.
    """
    near = difflib.get_close_matches(str(found), re.findall(r"'([^']*)'", expected), 1, 0.7)
    return f"{expected} is expected" + (f"; did you mean {near[0]!r}?" if near else "")


def _of_kind(fault: Any) -> str:
    """Of a section whose fields depend on its `kind`."""
    path = ".".join(str(part) for part in fault["loc"])
    words = "is required" if fault["type"] == "union_tag_not_found" else "is not known"
    kinds = _KINDS.get(str(fault["loc"][-1]), {})
    return f"{path}.kind: {words}: {' or '.join(', '.join(kinds).rsplit(', ', 1))}"


def _without_tags(path: tuple[Any, ...]) -> tuple[Any, ...]:
    """The path as the file has it: the kind of a credential is no key around its fields."""
    return tuple(
        part
        for index, part in enumerate(path)
        if not (index > 0 and part in _KINDS.get(str(path[index - 1]), {}))
    )


_KINDS: Mapping[str, Mapping[str, type[BaseModel]]] = {
    "credential": credentials.KINDS,
    "scan": guardrail_scans.KINDS,
}
"""Of sections whose fields depend on their `kind`, by the section's key."""


_LISTED = 16
"""Keys that are listed where none is near to the unknown one."""

_BOUNDS: Mapping[str, tuple[str, str]] = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}
"""Of kinds of fault: words, and where pydantic has the bound."""

_NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
_MOMENT = "a moment such as 2027-01-31T08:00:00+01:00 is expected"

_PLAIN_WORDS: Mapping[str, str] = {
    "datetime_from_date_parsing": _MOMENT,
    "datetime_parsing": _MOMENT,
    "datetime_type": _MOMENT,
    "timezone_aware": f"{_MOMENT}, with its time zone",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "float_parsing": "must be a number",
    "bool_parsing": "must be true or false",
    "string_type": "must be text",
}
"""Of kinds of fault that pydantic tells in words of Python's."""

_OF_PATTERNS: Mapping[str, str] = {
    _NAME_PATTERN: "a name begins with a letter or digit, has of other signs '.', '_' and '-',"
    " and 64 characters at most",
    ZONE_PATTERN: "a small letter, then small letters, digits and '-' are expected, 32 at most",
    RETENTION_PATTERN: "days as `30d`, or `unknown`, are expected",
}


def _known_keys(path: tuple[Any, ...]) -> list[str]:
    """The keys of the model at a path of the file."""
    model: Any = Config
    for part in path:
        by_kind = next(
            (kinds for key, kinds in _KINDS.items() if key in model.model_fields and part in kinds),
            None,
        )
        if by_kind is not None:
            model = by_kind[part]
            continue
        field = next(
            (row for name, row in model.model_fields.items() if part in (name, row.alias)), None
        )
        if field is None or part in _KINDS:
            continue  # a name inside a mapping, an index, or told by its kind: the model stays
        model = _model_in(field.annotation) or model
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The first model that a type is, or is made of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = (_model_in(one) for one in getattr(annotation, "__args__", ()))
    return next((one for one in inner if one is not None), None)
