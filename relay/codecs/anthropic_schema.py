"""A JSON Schema as Anthropic's constrained decoding takes it: of structured output, and of strict
tools.

It wants every object closed (`additionalProperties: false`) and answers bounds with 400. So objects
are closed, of which every answer still fits the client's schema; bounds go into the `description`,
where the model reads them and nothing enforces them, as Anthropic's own SDK does; `oneOf` becomes
`anyOf`. What would be another answer when closed is refused by name: an object whose properties
have no names (a map), and several objects joined by `allOf`.

Source: Anthropic's page on structured outputs, mid 2026.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

import orjson

from relay.codecs.request_json import read_object
from relay.content import ResponseFormat
from relay.errors import UnsupportedFeature

_BOUNDS: Final = frozenset(
    {
        "exclusiveMaximum",
        "exclusiveMinimum",
        "maxContains",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minContains",
        "minItems",
        "minLength",
        "minProperties",
        "minimum",
        "multipleOf",
        "uniqueItems",
    }
)
_FORMATS: Final = frozenset(
    {"date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uri", "uuid"}
)
_NAMED: Final = frozenset({"properties", "$defs", "definitions"})
"""Fields that hold schemas by name."""
_LISTED: Final = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
"""Fields that hold a list of schemas."""


def closed(schema: Mapping[str, Any], field: str, provider: str) -> dict[str, Any]:
    """The schema with its keys in their order, since the model answers in that order.

    Args:
        field: where it stands in the request, for the message.

    Raises:
        UnsupportedFeature: it cannot be said, named.
    """
    return _Closing(field, provider).schema(schema)


def answer_schema(
    wanted: ResponseFormat | None, refuses: Collection[str], provider: str
) -> dict[str, Any] | None:
    """The closed schema that an answer must follow; None where any text will do.

    Raises:
        UnsupportedFeature: it cannot be said, named.
        InvalidRequest: it is no schema.
    """
    if wanted is None or wanted.kind == "text":
        return None
    if wanted.kind == "json_object":
        raise UnsupportedFeature("response_format json_object", provider)
    if "json_schema" in refuses:
        raise UnsupportedFeature("json_schema", provider)
    if not wanted.schema_json:
        raise UnsupportedFeature("json_schema without a schema", provider)
    field = "response_format.json_schema.schema"
    return closed(read_object(wanted.schema_json, field), field, provider)


class _Closing:
    def __init__(self, field: str, provider: str) -> None:
        self._field = field
        self._provider = provider

    def schema(self, given: Mapping[str, Any]) -> dict[str, Any]:
        made: dict[str, Any] = {}
        moved: list[str] = []
        for name, value in given.items():
            if name in _BOUNDS or (name == "format" and value not in _FORMATS):
                if name == "minItems" and value in (0, 1):
                    made[name] = value  # the two that are known
                else:
                    moved.append(f"{name}: {orjson.dumps(value).decode()}")
            elif name in _NAMED and isinstance(value, Mapping):
                made[name] = {key: self._within(inner) for key, inner in value.items()}
            elif name in _LISTED and isinstance(value, list):
                if name == "allOf" and sum(map(_is_object, value)) > 1:
                    raise self._refuse("objects joined by allOf")
                name = "anyOf" if name == "oneOf" and "anyOf" not in given else name
                made[name] = [self._within(inner) for inner in value]
            elif name == "items":
                made[name] = self._within(value)
            else:
                made[name] = value
        if moved:
            said = f"({', '.join(moved)})"
            about = made.get("description")
            made["description"] = f"{about} {said}" if about and isinstance(about, str) else said
        kind = given.get("type")
        if kind == "object" or (isinstance(kind, list) and "object" in kind) or _names(given):
            self._close(made)
        return made

    def _within(self, value: Any) -> Any:
        return self.schema(value) if isinstance(value, Mapping) else value

    def _close(self, made: dict[str, Any]) -> None:
        others = made.get("additionalProperties")
        is_map = isinstance(others, Mapping) and bool(others)
        if is_map or made.get("patternProperties") or (others is not False and not _names(made)):
            raise self._refuse("objects with properties that have no names")
        made["additionalProperties"] = False

    def _refuse(self, what: str) -> UnsupportedFeature:
        return UnsupportedFeature(f"{self._field}: {what}", self._provider)


def _names(schema: Mapping[str, Any]) -> bool:
    return isinstance(schema.get("properties"), Mapping)


def _is_object(schema: Any) -> bool:
    return isinstance(schema, Mapping) and (_names(schema) or "$ref" in schema)
