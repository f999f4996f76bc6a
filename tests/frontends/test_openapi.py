"""The document says what the shim does: every path, every status, examples that are served."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import orjson
import pytest

from relay.content import Policy
from relay.errors import Code, Reason, RelayError
from relay.frontends.http_app import HttpApp
from relay.frontends.http_errors import http_status
from relay.frontends.openapi import openapi_json
from relay.frontends.request_policy import read_policy
from tests.fakes.memory_transport import FakeEndpoint
from tests.fakes.scenario import Scenario
from tests.fakes.virtual_time import run
from tests.frontends.test_http_app import SETTINGS

EVERYTHING = [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/messages",
    "/v1/messages/count_tokens",
]


def document() -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(openapi_json(EVERYTHING, "fast"))
    return found


def served() -> set[str]:
    paths: list[set[str]] = []

    async def main() -> None:
        scenario = Scenario({"a": FakeEndpoint()})
        paths.append(set(HttpApp(scenario.services, SETTINGS)._routes))

    run(main())
    return paths[0]


def test_every_path_is_described() -> None:
    described = set(orjson.loads(openapi_json(served(), "fast"))["paths"])
    assert described - {"/v1/models/{id}"} == served() - {"/openapi.json"}


def test_kept_responses_are_described_where_there_are_some() -> None:
    kept = "/v1/responses/{id}"
    assert kept not in document()["paths"]
    found = orjson.loads(openapi_json([*EVERYTHING, kept], "fast"))["paths"][kept]
    assert found.keys() == {"parameters", "get", "delete"}


def test_where_keys_are_needed_it_says_so() -> None:
    assert {} in document()["security"]
    keyed = orjson.loads(openapi_json(EVERYTHING, "fast", needs_keys=True))
    schemes = keyed["components"]["securitySchemes"]
    assert keyed["security"] == [{name: []} for name in schemes]
    assert {scheme["name"] for scheme in schemes.values() if "name" in scheme} == {
        "x-api-key",
        "api-key",
    }
    for path in ("/v1/models", "/v1/models/{id}"):
        responses = keyed["paths"][path]["get"]["responses"]
        assert {"401", "403", "429", "503"} <= set(responses)
        assert "401" not in document()["paths"][path]["get"]["responses"]


def test_every_status_is_described() -> None:
    described = set(document()["paths"]["/v1/chat/completions"]["post"]["responses"])
    kinds = [
        type("Error", (RelayError,), {"reason": reason, "code": code})
        for reason in Reason
        for code in Code
    ]
    assert {str(http_status(kind("x"))) for kind in kinds} <= described
    assert all(status == "499" or HTTPStatus(int(status)) for status in described)


@pytest.mark.parametrize("path", EVERYTHING)
def test_examples_fit(path: str) -> None:
    content = document()["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    schema, example = content["schema"], content["example"]
    assert set(schema["required"]) <= set(example) <= set(schema["properties"])


def test_every_header_of_the_policy_is_described() -> None:
    parameters = document()["paths"]["/v1/chat/completions"]["post"]["parameters"]
    names = [parameter["name"] for parameter in parameters]
    for parameter in parameters:
        name, schema = parameter["name"], parameter["schema"]
        value = str(schema["enum"][0] if "enum" in schema else schema.get("minimum", "auto"))
        policy, _ = read_policy({"headers": [(name.encode(), value.encode())]}, {})
        assert isinstance(policy, Policy)
    known = read_names()
    assert {name.removeprefix("x-relay-") for name in names} - {"traceparent"} == known


def read_names() -> set[str]:
    """Those that a request may have, as its refusal tells them; `model` is another name of one."""
    with pytest.raises(RelayError) as raised:
        read_policy({"headers": [(b"x-relay-zzzz", b"1")]}, {})
    listed = raised.value.public_message.partition("known are ")[2]
    return set(listed.split(", ")) - {"model"}
