"""Schemas and texts, friendly and hostile."""

from __future__ import annotations

import threading
import time
from typing import Any

import orjson
import pytest

from relay.policy import schema_check
from relay.policy.schema_check import MAX_TEXT_BYTES, breaks_schema, is_broken

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": "^[A-Z]"},
        "age": {"type": "integer", "minimum": 0},
        "tags": {"type": "array", "uniqueItems": True},
        "kind": {"enum": ["a", "b"]},
        "next": {"$ref": "#"},
    },
    "required": ["name"],
    "additionalProperties": False,
}


def breaks(value: Any, schema: Any) -> bool:
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return breaks_schema(text, orjson.dumps(schema) if schema is not None else b"")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"name": "Ada"}, False),
        ({"name": "Ada", "age": 3, "tags": [1, 2], "kind": "a", "next": {"name": "B"}}, False),
        ({"name": "ada"}, True),
        ({}, True),
        ({"name": "Ada", "age": -1}, True),
        ({"name": "Ada", "age": 1.5}, True),
        ({"name": "Ada", "tags": [{"x": 1}, {"x": 1}]}, True),
        ({"name": "Ada", "kind": "c"}, True),
        ({"name": "Ada", "other": 1}, True),
        ({"name": "Ada", "next": {}}, True),
        ("Ada", True),
        ("", True),
        ('{"name": "Ada"', True),
        ('{"name": "Ada"} and more', True),
        ([], True),
    ],
)
def test_a_schema(value: Any, expected: bool) -> None:
    assert breaks(value, PERSON) is expected


@pytest.mark.parametrize(
    ("value", "expected"), [("{}", False), ("[]", True), ("1", True), ("", True)]
)
def test_without_a_schema_it_is_an_object(value: str, expected: bool) -> None:
    assert breaks(value, None) is expected


def test_pattern_properties_and_additional_ones() -> None:
    schema = {
        "type": "object",
        "patternProperties": {"^x_": {"type": "integer"}},
        "additionalProperties": {"type": "string"},
    }
    assert not breaks({"x_a": 1, "b": "c"}, schema)
    assert breaks({"x_a": "1"}, schema)
    assert breaks({"b": 1}, schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "nope"},
        {"$ref": "http://example.com/a.json"},
        {"$ref": "#/$defs/missing"},
        {"$ref": "file:///etc/passwd"},
        [1],
        "x",
        {"properties": {"a": {"pattern": "(?=look)"}}},
    ],
)
def test_what_cannot_be_judged_is_good(schema: Any) -> None:
    assert not breaks({"a": "x"}, schema)


def test_what_is_no_json_schema_at_all() -> None:
    assert not breaks_schema("{}", b"{")
    assert not breaks_schema('"' + "x" * MAX_TEXT_BYTES + '"', b'{"type": "integer"}')


def _nested() -> dict[str, Any]:
    names = {
        f"n{k}": {"oneOf": [{"$ref": f"#/$defs/n{k + 1}"}, {"$ref": f"#/$defs/n{k + 1}"}]}
        for k in range(40)
    }
    return {"$defs": {**names, "n40": {"type": "string"}}, "$ref": "#/$defs/n0"}


@pytest.mark.parametrize(
    ("value", "schema"),
    [
        (1, _nested()),
        (1, {"$defs": {"x": {"allOf": [{"$ref": "#/$defs/x"}]}}, "$ref": "#/$defs/x"}),
        ("a" * 100_000 + "!", {"type": "string", "pattern": "^(a+)+$"}),
        ([{"k": number} for number in range(10_000)], {"uniqueItems": True}),
        ({"a" * 50_000 + "!": 1}, {"patternProperties": {"^(a|a)*$": False}}),
        (
            {"a" * 50 + "!": 1},
            {"patternProperties": {"^(a|a)*$": {}}, "unevaluatedProperties": False},
        ),
    ],
)
def test_hostile_ones_are_bounded(value: Any, schema: Any) -> None:
    text, encoded = orjson.dumps(value).decode(), orjson.dumps(schema)
    began_s = time.perf_counter()
    breaks_schema(text, encoded)
    assert time.perf_counter() - began_s < 5.0  # half a second where nothing else runs


async def test_large_ones_go_to_a_thread() -> None:
    text = orjson.dumps({"name": "A" * 5000}).decode()
    assert not await is_broken(text, orjson.dumps(PERSON))
    assert await is_broken(text.replace("name", "nome"), orjson.dumps(PERSON))
    assert not await is_broken("1", orjson.dumps(_nested()))
    assert await is_broken("{}", orjson.dumps(PERSON))


async def test_a_schema_that_is_new_is_read_in_a_thread() -> None:
    threads: list[bool] = []
    schema = orjson.dumps({"type": "object", "title": "new"})
    compiled = schema_check._compiled

    def noted(schema_json: bytes) -> Any:
        threads.append(threading.current_thread() is threading.main_thread())
        return compiled(schema_json)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema_check, "_compiled", noted)
        assert not await is_broken("{}", schema)
        assert await is_broken("[]", schema)
    assert threads == [False]


def test_schemas_that_are_kept_are_bounded() -> None:
    for number in range(schema_check.MAX_KNOWN + 10):
        breaks_schema("{}", b'{"title": "%d"}' % number)
    assert len(schema_check._known) == schema_check.MAX_KNOWN
