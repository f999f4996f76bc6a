"""Whether a document fits a JSON Schema, for the keywords that our own schemas use; any other
keyword is an error, so that nothing passes by not being looked at."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "null": type(None),
}
_NOTES = {"title", "description", "default", "format", "writeOnly", "$schema", "$defs"}


def faults(schema: dict[str, Any], document: object) -> list[str]:
    """What does not fit, each with its path; empty if the document is valid."""
    return list(_faults(schema, document, schema, "$"))


def _faults(
    schema: dict[str, Any], value: object, root: dict[str, Any], path: str
) -> Iterator[str]:
    for keyword, rule in schema.items():
        if keyword in _NOTES:
            continue
        match keyword:
            case "$ref":
                place, _, name = str(rule).rpartition("/")
                assert place == "#/$defs", rule
                yield from _faults(root["$defs"][name], value, root, path)
            case "anyOf":
                if all(any(_faults(choice, value, root, path)) for choice in rule):
                    yield f"{path}: fits none of its forms"
            case "type":
                is_wrong_flag = isinstance(value, bool) and rule != "boolean"
                if is_wrong_flag or not isinstance(value, _TYPES[rule]):
                    yield f"{path}: no {rule}"
            case "enum" if value not in rule:
                yield f"{path}: none of {rule}"
            case "const" if value != rule:
                yield f"{path}: not {rule!r}"
            case "minimum" if isinstance(value, int | float) and value < rule:
                yield f"{path}: below {rule}"
            case "maximum" if isinstance(value, int | float) and value > rule:
                yield f"{path}: above {rule}"
            case "minLength" if isinstance(value, str) and len(value) < rule:
                yield f"{path}: shorter than {rule}"
            case "maxLength" if isinstance(value, str) and len(value) > rule:
                yield f"{path}: longer than {rule}"
            case "maxItems" if isinstance(value, list) and len(value) > rule:
                yield f"{path}: more than {rule}"
            case "minProperties" if isinstance(value, dict) and len(value) < rule:
                yield f"{path}: fewer than {rule}"
            case "minItems" if isinstance(value, list) and len(value) < rule:
                yield f"{path}: fewer than {rule}"
            case "items" if isinstance(value, list):
                for index, item in enumerate(value):
                    yield from _faults(rule, item, root, f"{path}[{index}]")
            case "required" if isinstance(value, dict):
                yield from (f"{path}.{name}: is required" for name in rule if name not in value)
            case "properties" if isinstance(value, dict):
                for name in rule.keys() & value.keys():
                    yield from _faults(rule[name], value[name], root, f"{path}.{name}")
            case "additionalProperties" if isinstance(value, dict):
                for name in value.keys() - schema.get("properties", {}).keys():
                    if rule is False:
                        yield f"{path}.{name}: unknown key"
                    elif rule is not True:
                        yield from _faults(rule, value[name], root, f"{path}.{name}")
            case "enum" | "const" | "minimum" | "maximum" | "minItems" | "items":
                pass
            case "required" | "properties" | "additionalProperties" | "minProperties":
                pass
            case "minLength" | "maxLength" | "maxItems":
                pass
            case _:
                raise NotImplementedError(f"{path}: {keyword}")
