"""Bodies and queries of the administration, by every route's own schema.

Held to: what is refused is refused as `Invalid` by the path of a field, in few words; what is taken
fits the schema as a judge of JSON Schema has it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlencode

import orjson

from relay.administration.faults import Invalid
from relay.administration.teams import limits_of
from relay.frontends.admin.api import _query
from relay.frontends.admin.checked import checked
from relay.frontends.admin.problems import Problem
from relay.frontends.admin.routes import ROUTES
from relay.frontends.admin.usage_routes import selection_of
from relay.governance.scopes import BadScopes, Scopes
from relay.store.usage_fields import UsageError
from tests.fakes.json_schema import faults
from tests.fuzz.registry import Target

BODIES = [route for route in ROUTES if route.body is not None]
QUERIES = [route for route in ROUTES if route.query]


def check_body(given: bytes) -> bool:
    """The first byte says whose."""
    if not given:
        return False
    route = BODIES[given[0] % len(BODIES)]
    assert route.body is not None
    try:
        value = orjson.loads(given[1:])
    except orjson.JSONDecodeError:
        return False
    try:
        body = checked(route.body, value)
    except Invalid as error:
        assert error.field or "body" in str(error)
        assert len(str(error)) < 2000
        return False
    assert faults(route.body, body) == [], f"{route.path}: {body}"
    for name, read in (("scopes", Scopes.from_mapping), ("limits", limits_of)):
        try:
            if body.get(name) is not None:
                read(body[name])
        except (BadScopes, Invalid):
            continue
    return True


def check_query(given: bytes) -> bool:
    if not given:
        return False
    route = QUERIES[given[0] % len(QUERIES)]
    try:
        found = _query({"query_string": given[1:]}, route)
        for name, value in found.items():
            assert faults(route.query[name], value) == []
        if "where" in found or "usage" in route.path:
            selection_of(found)
    except (Invalid, Problem, UsageError) as error:
        assert len(str(error)) < 2000
        return False
    return bool(found)


def bodies() -> Iterable[bytes]:
    for at, route in enumerate(BODIES):
        yield bytes([at]) + orjson.dumps(dict(route.example))
        names: Any = route.body["properties"] if route.body else {}
        yield bytes([at]) + orjson.dumps({name: [{"a": 1}] for name in names})


def queries() -> Iterable[bytes]:
    for at, route in enumerate(QUERIES):
        yield bytes([at]) + urlencode(dict.fromkeys(route.query, "5")).encode()
        yield bytes([at]) + urlencode(dict.fromkeys([*route.query][:2], "true")).encode()


TARGETS = {"body": Target(check_body, bodies), "query": Target(check_query, queries)}
