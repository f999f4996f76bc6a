"""Values against the schemas that the OpenAPI document shows: what is read is what is described.

Of JSON Schema what our own schemas use; that a field fits is not yet that it makes sense, which
`relay.administration` says.
"""

from __future__ import annotations

from typing import Any, Final

from relay.administration.faults import Invalid
from relay.frontends.admin.route import Schema

_KINDS: Final[dict[str, tuple[type, str]]] = {
    "string": (str, "a text"),
    "integer": (int, "a whole number"),
    "boolean": (bool, "true or false"),
    "array": (list, "a list"),
    "object": (dict, "an object"),
}


def checked(schema: Schema, value: Any, path: str = "") -> Any:
    """The value.

    Args:
        path: of the field, for the message.

    Raises:
        Invalid: naming the field.
    """
    if "anyOf" in schema:
        schema, nothing = schema["anyOf"]
        if value is None and nothing == {"type": "null"}:
            return None
    kind, words = _KINDS[schema["type"]]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise Invalid(f"{path or 'the body'} must be {words}", path)
    if "enum" in schema and value not in schema["enum"]:
        raise Invalid(f"{path} must be one of {', '.join(schema['enum'])}", path)
    if isinstance(value, str):
        low, high = schema.get("minLength", 0), schema.get("maxLength", 4096)
        if not low <= len(value) <= high:
            raise Invalid(f"{path} must have {low} to {high} characters", path)
    elif isinstance(value, dict):
        _object(schema, value, path)
    elif isinstance(value, list):
        if len(value) > schema.get("maxItems", 256):
            raise Invalid(f"{path} must have at most {schema.get('maxItems', 256)} items", path)
        for index, item in enumerate(value):
            checked(schema["items"], item, f"{path}[{index}]")
    elif not isinstance(value, bool):
        low, high = schema.get("minimum", -(2**63)), schema.get("maximum", 2**63 - 1)
        if not low <= value <= high:
            raise Invalid(f"{path} must be from {low} to {high}", path)
    return value


def _object(schema: Schema, value: dict[str, Any], path: str) -> None:
    fields, begin = schema["properties"], f"{path}." if path else ""
    for name, item in value.items():
        if name not in fields:
            shown = name[:64] if name and name.isprintable() else "?"
            known = ", ".join(fields) or "none"
            raise Invalid(f"{begin}{shown} is not known; there are {known}", f"{begin}{shown}")
        checked(fields[name], item, f"{begin}{name}")
    for name in schema.get("required", ()):
        if name not in value:
            raise Invalid(f"{begin}{name} is missing", f"{begin}{name}")


def checked_query(schemas: Any, name: str, text: str) -> Any:
    """A parameter of a query, which is a text in any case.

    Raises:
        Invalid
    """
    if name not in schemas:
        shown = name[:64] if name and name.isprintable() else "?"
        raise Invalid(f"{shown} is not known; there are {', '.join(schemas) or 'none'}", shown)
    value: Any = text
    if schemas[name]["type"] == "integer" and text.isascii() and text.isdigit() and len(text) < 20:
        value = int(text)
    elif schemas[name]["type"] == "boolean":
        value = {"true": True, "false": False}.get(text, text)
    return checked(schemas[name], value, name)
