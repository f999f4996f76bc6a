"""One line for one fault of the file."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from relay.config.whole import Config


def describe(fault: Any) -> str:
    """One line for one fault: path, what is wrong, the nearest known name for an unknown key."""
    path = ""
    for part in fault["loc"]:
        path += f"[{part}]" if isinstance(part, int) else (f".{part}" if path else str(part))
    message = str(fault["msg"]).removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        key = str(fault["loc"][-1])
        near = difflib.get_close_matches(key, _known_keys(fault["loc"][:-1]), 1)
        message = "unknown key" + (f"; did you mean {near[0]!r}?" if near else "")
    elif fault["type"] == "missing":
        message = "is required"
    else:
        message = _PLAIN_WORDS.get(fault["type"], message)
    return f"{path}: {message}" if path else message


_PLAIN_WORDS: Mapping[str, str] = {
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "float_parsing": "must be a number",
    "bool_parsing": "must be true or false",
    "string_type": "must be text",
}
"""Of kinds of fault that pydantic tells in words of Python's."""


def _known_keys(path: tuple[Any, ...]) -> list[str]:
    """The keys of the model at a path of the file."""
    model: Any = Config
    for part in path:
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
