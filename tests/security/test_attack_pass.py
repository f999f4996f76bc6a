"""What a stranger, or a team that wants another's, has tried on the relay: each with what held.

Most tries are in the files of what they were aimed at; here are those that belong nowhere else.
"""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.codecs.request_json import cache_key
from relay.content import GenerateRequest, Message, Policy, Role, TextPart
from relay.policy.schema_check import breaks_schema, is_broken
from tests.fakes.properties import examples
from tests.security.test_ssrf import Trap


def remote_schemas(url: str) -> list[dict[str, Any]]:
    return [
        {"$ref": url},
        {"$schema": url, "type": "object"},
        {"$id": url, "$ref": "other.json"},
        {"$id": url, "$dynamicRef": "other.json#x"},
        {"allOf": [{"$ref": f"{url}#/definitions/x"}]},
        {"$schema": "http://json-schema.org/draft-03/schema#", "extends": {"$ref": url}},
        {"$schema": "http://json-schema.org/draft-04/schema#", "id": url, "$ref": "x.json"},
        {"$schema": "http://json-schema.org/draft-07/schema#", "properties": {"a": {"$ref": url}}},
        {"$recursiveRef": url, "$schema": "https://json-schema.org/draft/2019-09/schema"},
        {"$ref": url.replace("http", "file", 1)},
        {"$ref": "file:///etc/passwd"},
    ]


@pytest.mark.sockets
@pytest.mark.parametrize("at", range(len(remote_schemas(""))))
async def test_no_schema_of_a_callers_is_fetched(at: int) -> None:
    """`jsonschema` fetches what `$ref` names by itself, by urllib, unless it is told not to."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    trap = Trap(port, "127.0.0.1")
    try:
        schema = json.dumps(remote_schemas(f"http://127.0.0.1:{port}/x.json")[at]).encode()
        assert breaks_schema('{"a": 1}', schema) in (True, False)
        await asyncio.wait_for(is_broken('{"a": 1}', schema), 5)
        assert trap.is_quiet()
    finally:
        trap.close()


DRAFTS = (
    *(f"http://json-schema.org/draft-0{number}/schema#" for number in (3, 4, 6, 7)),
    *(f"https://json-schema.org/draft/{name}/schema" for name in ("2019-09", "2020-12")),
    "",
)
KEYWORDS = (
    *("$ref", "$id", "id", "$dynamicRef", "$recursiveRef", "$anchor", "$defs", "definitions"),
    *("extends", "disallow", "type", "properties", "items", "additionalItems", "dependencies"),
    *("allOf", "anyOf", "not", "if", "then", "else", "enum", "const", "required", "divisibleBy"),
    *("pattern", "patternProperties", "contains", "prefixItems", "propertyNames", "multipleOf"),
)
LEAVES = st.one_of(
    st.sampled_from(["#", "x.json", "#/definitions/a", "object", "any", "^a", "", "http://x/"]),
    st.none(),
    st.booleans(),
    st.integers(-2, 2),
)
NESTED = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(KEYWORDS), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(
    st.sampled_from(DRAFTS),
    st.dictionaries(st.sampled_from(KEYWORDS), NESTED, max_size=5),
    st.sampled_from(['{"a": 1}', "[1, 2]", '"x"', "{}", "null"]),
)
@example(DRAFTS[0], {"extends": {"$ref": "http://x/"}}, '{"a": 1}')
@examples(200, full=10_000)
def test_no_schema_of_a_callers_trips_the_relay(
    draft: str, schema: dict[str, Any], text: str
) -> None:
    """The library raises errors of its own for schemas that its drafts take for good."""
    document = {**schema, **({"$schema": draft} if draft else {})}
    assert breaks_schema(text, json.dumps(document).encode()) in (True, False)


def asked(tenant: str, session_id: str) -> GenerateRequest:
    policy = Policy(tenant=tenant, session_id=session_id, prompt_cache="auto")
    return GenerateRequest("m", (Message(Role.USER, (TextPart("Hi"),)),), policy=policy)


TEXT = st.text(max_size=40)


@given(TEXT, TEXT, TEXT, TEXT)
def test_no_two_tenants_share_a_providers_cache_by_the_name_of_a_session(
    tenant: str, session_id: str, other: str, other_session: str
) -> None:
    """CVE-2026-105755: what a caller names is a label, and no key for others' answers."""
    one, two = asked(tenant, session_id or "x"), asked(other, other_session or "x")
    is_same = (tenant, session_id or "x") == (other, other_session or "x")
    encoded = "".join((tenant, session_id, other, other_session)).encode("utf-8", "replace")
    if b"?" not in encoded:  # half a surrogate pair is written as one
        assert (cache_key(one) == cache_key(two)) is is_same
