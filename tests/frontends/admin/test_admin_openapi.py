"""The administration's OpenAPI document: whole, and of what is served."""

from __future__ import annotations

import re
from typing import Any

import orjson
import pytest

from relay.administration.faults import Invalid
from relay.frontends.admin.checked import checked, checked_query
from relay.frontends.admin.openapi import document
from relay.frontends.admin.problems import PROBLEMS
from relay.frontends.admin.routes import ROUTES

DOCUMENT: dict[str, Any] = orjson.loads(document(ROUTES))
OPERATIONS = [
    (path, method, operation)
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
]


def test_it_has_every_route_once() -> None:
    assert DOCUMENT["openapi"].startswith("3.1.")
    assert {(method.upper(), path) for path, method, _ in OPERATIONS} == {
        (route.method, route.path) for route in ROUTES
    }
    names = [operation["operationId"] for _, _, operation in OPERATIONS]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"\w+", name) for name in names)


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS)
def test_an_operation_says_all_that_a_client_needs(
    path: str, method: str, operation: dict[str, Any]
) -> None:
    assert operation["security"] == [{"administrator": []}]
    assert operation["security"][0].keys() <= DOCUMENT["components"]["securitySchemes"].keys()
    assert operation["summary"]
    assert operation["x-roles"], "somebody may"
    in_path = {one["name"] for one in operation["parameters"] if one["in"] == "path"}
    assert in_path == set(re.findall(r"\{(\w+)\}", path))
    responses = operation["responses"]
    assert {"401", "403", "429", "500", "503"} <= responses.keys()
    assert len([status for status in responses if status.startswith("2")]) == 1
    for status, response in responses.items():
        assert response["description"]
        if status == "204":
            assert "content" not in response
        elif status.startswith("2"):
            (content,) = response["content"].values()
            assert content["schema"]
        else:
            (content,) = response["content"].values()
            assert content["schema"] == {"$ref": "#/components/schemas/Error"}
    if method in ("post", "patch") and "requestBody" in operation:
        (content,) = operation["requestBody"]["content"].values()
        checked(content["schema"], content["example"])  # what is shown as an example is one
        with pytest.raises(Invalid, match="no_such_field is not known"):
            checked(content["schema"], {"no_such_field": 1})


@pytest.mark.parametrize("name", ["", "\n", "\u202e"])
def test_a_name_that_cannot_be_shown_is_shown_as_such(name: str) -> None:
    with pytest.raises(Invalid, match=r"^\? is not known") as raised:
        checked({"type": "object", "properties": {"a": {"type": "string"}}}, {name: 1})
    assert raised.value.field == "?"
    with pytest.raises(Invalid, match=r"^\? is not known"):
        checked_query({}, name, "x")


def test_errors_are_of_a_closed_list() -> None:
    error = DOCUMENT["components"]["schemas"]["Error"]["properties"]["error"]
    assert error["properties"]["code"]["enum"] == sorted(PROBLEMS)
