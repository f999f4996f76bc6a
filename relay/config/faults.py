"""One line for one fault of the file."""

from __future__ import annotations

import difflib
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
        path += f"[{part}]" if isinstance(part, int) else (f".{part}" if path else str(part))
    message = str(fault["msg"]).removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        key = str(fault["loc"][-1])
        near = difflib.get_close_matches(key, _known_keys(fault["loc"][:-1]), 1)
        message = "unknown key" + (f"; did you mean {near[0]!r}?" if near else "")
    elif fault["type"] == "missing":
        message = "is required"
    elif fault["type"] == "string_pattern_mismatch":
        message = _OF_PATTERNS.get(fault["ctx"]["pattern"], message)
    elif fault["type"] == "too_short" and fault["ctx"]["min_length"] == 1:
        message = "is empty"
    else:
        message = _PLAIN_WORDS.get(fault["type"], message)
    return f"{path}: {message}" if path else message


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


_PLAIN_WORDS: Mapping[str, str] = {
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
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        if annotation is None:
            continue  # a name inside a mapping, or an index: the model stays
        model = next(
            (
                inner
                for inner in (annotation, *getattr(annotation, "__args__", ()))
                if isinstance(inner, type) and issubclass(inner, BaseModel)
            ),
            model,
        )
    return [field.alias or name for name, field in model.model_fields.items()]
