"""JSON Schema cut to the subset of OpenAPI 3.0 that Gemini's `parameters` understand.

Keywords outside of it are answered with 400; those that only narrow what is allowed are left
out, which is what Google's own client does. References are refused: leaving one out would leave
a hole.
"""

from __future__ import annotations

from typing import Any, Final

from relay.errors import UnsupportedFeature

_KEYWORDS: Final = frozenset(
    {
        "type",
        "format",
        "title",
        "description",
        "nullable",
        "enum",
        "default",
        "example",
        "minItems",
        "maxItems",
        "minProperties",
        "maxProperties",
        "minLength",
        "maxLength",
        "pattern",
        "minimum",
        "maximum",
        "required",
        "propertyOrdering",
    }
)


def to_openapi(schema: Any, provider: str) -> Any:
    """The schema with known keywords only; `const` as an enum of one, a list of types as the one
    that is not null.

    Raises:
        UnsupportedFeature: the schema holds a reference, or a list of several types.
    """
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        raise UnsupportedFeature("$ref in a schema", provider)
    cut = {key: value for key, value in schema.items() if key in _KEYWORDS}
    kind = schema.get("type")
    if isinstance(kind, list):
        kinds = [one for one in kind if one != "null"]
        if len(kinds) != 1:
            raise UnsupportedFeature("a list of types in a schema", provider)
        cut["type"] = kinds[0]
        if "null" in kind:
            cut["nullable"] = True
    if "const" in schema:
        cut["enum"] = [schema["const"]]
    properties = schema.get("properties")
    if isinstance(properties, dict):
        cut["properties"] = {
            name: to_openapi(inner, provider) for name, inner in properties.items()
        }
    if "items" in schema:
        cut["items"] = to_openapi(schema["items"], provider)
    either = schema.get("anyOf", schema.get("oneOf"))
    if isinstance(either, list):
        cut["anyOf"] = [to_openapi(inner, provider) for inner in either]
    return cut
