"""Schemas for constrained decoding: closed objects, bounds in words, what cannot be said."""

from __future__ import annotations

from typing import Any

import pytest

from relay.codecs.anthropic_schema import closed
from relay.errors import UnsupportedFeature


def test_objects_are_closed_and_bounds_are_words_everywhere() -> None:
    given = {
        "type": "object",
        "properties": {
            "minimum": {"type": "integer", "minimum": 1, "maximum": 9, "description": "How many"},
            "names": {
                "type": "array",
                "items": {"type": "string", "minLength": 2, "format": "email"},
                "minItems": 1,
                "maxItems": 3,
            },
            "pair": {"type": "array", "items": {}, "minItems": 2},
            "place": {"anyOf": [{"$ref": "#/$defs/Place"}, {"type": "null"}]},
            "which": {"oneOf": [{"type": "object", "properties": {}}, {"const": "a"}]},
            "one": {"allOf": [{"$ref": "#/$defs/Place"}], "description": "One"},
            "odd": {"type": "string", "format": "phone", "pattern": "^a"},
        },
        "required": ["names"],
        "$defs": {
            "Place": {
                "type": ["object", "null"],
                "properties": {"x": {"type": "number", "multipleOf": 0.5}},
                "additionalProperties": True,
            }
        },
    }
    sent = closed(given, "f", "p")
    assert sent == {
        "type": "object",
        "properties": {
            "minimum": {"type": "integer", "description": "How many (minimum: 1, maximum: 9)"},
            "names": {
                "type": "array",
                "items": {"type": "string", "format": "email", "description": "(minLength: 2)"},
                "minItems": 1,
                "description": "(maxItems: 3)",
            },
            "pair": {"type": "array", "items": {}, "description": "(minItems: 2)"},
            "place": {"anyOf": [{"$ref": "#/$defs/Place"}, {"type": "null"}]},
            "which": {
                "anyOf": [
                    {"type": "object", "properties": {}, "additionalProperties": False},
                    {"const": "a"},
                ]
            },
            "one": {"allOf": [{"$ref": "#/$defs/Place"}], "description": "One"},
            "odd": {"type": "string", "pattern": "^a", "description": '(format: "phone")'},
        },
        "required": ["names"],
        "$defs": {
            "Place": {
                "type": ["object", "null"],
                "properties": {"x": {"type": "number", "description": "(multipleOf: 0.5)"}},
                "additionalProperties": False,
            }
        },
        "additionalProperties": False,
    }
    assert list(sent["properties"]) == list(given["properties"])
    assert closed(sent, "f", "p") == sent


@pytest.mark.parametrize(
    ("schema", "what"),
    [
        ({"type": "object"}, "properties that have no names"),
        ({"type": "object", "additionalProperties": {"type": "string"}}, "have no names"),
        (
            {"type": "object", "properties": {"m": {"type": "object"}}},
            "f: objects with properties that have no names",
        ),
        (
            {"type": "object", "properties": {}, "patternProperties": {"^a": {}}},
            "have no names",
        ),
        (
            {"allOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]},
            "f: objects joined by allOf",
        ),
    ],
)
def test_what_would_be_another_answer_is_refused(schema: dict[str, Any], what: str) -> None:
    with pytest.raises(UnsupportedFeature, match=what):
        closed(schema, "f", "p")
