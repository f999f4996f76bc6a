"""The administration's API under requests that nobody should send: every route and method, ids of
others, bodies and queries bent out of shape, by every role in every part, one after another.

Whatever is asked: the answer is none of the server's own failures, an error is one of the closed
list, nobody does what his role or part does not let him, and who is bound to a part of the accounts
reads nothing of another.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.administration.roles import ROLES
from relay.frontends.admin.problems import PROBLEMS
from relay.frontends.admin.route import Route
from relay.frontends.admin.routes import ROUTES
from tests.fakes.admin_world import PARTS, Office, World, office_over
from tests.fakes.odd_json import bodies
from tests.fakes.properties import examples
from tests.frontends.admin.test_role_matrix import MATRIX, body_for, name_of

METHODS: Final = ("GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS", "TRACE")
PLACES: Final = ("own", "beside", "other")
ODD_IDS: Final = st.sampled_from(
    ["x", "_", "key_1", "a" * 64, "a" * 65, "%00", "..", "%2e%2e", "é", "0' OR '1'='1", "{key_id}"]
)
ODD_QUERIES: Final = st.sampled_from(
    [
        *("limit=0", "limit=-1", "limit=99999999999999999999", "limit=5&limit=6", "after=%ff"),
        *("where=team:x", "where=%25", "organisation_id=%27", "group_by=x", "unknown=1"),
        *("since_us=9223372036854775808", "since=never", "time_zone=../../etc/passwd", "=", "&&&"),
    ]
)
TYPES: Final = st.sampled_from(["application/json", "text/plain", "", "application/json; x=y"])
EXAMPLE_BODIES: Final = [dict(route.example) for route in ROUTES if route.body is not None]
ODD_VALUES: Final[st.SearchStrategy[Any]] = st.sampled_from(
    [None, True, 0, -1, 2**63, 2**64, 1e300, "", "x" * 5000, "\x00", "\u202e", [], {}, [[]], ["a"]]
)


@st.composite
def calls(draw: st.DrawFn) -> dict[str, Any]:
    """One request, without the ids, which a world gives it."""
    route = draw(st.sampled_from(ROUTES))
    return {
        "route": route,
        "method": draw(st.sampled_from([route.method] * 6 + list(METHODS))),
        "who": draw(st.sampled_from([*itertools.product(ROLES, PARTS), ("nobody", "whole")])),
        "place": draw(st.sampled_from(PLACES)),
        "odd_id": draw(st.none() | st.none() | st.none() | ODD_IDS),
        "query": draw(st.none() | st.none() | ODD_QUERIES),
        "type": draw(st.just("application/json") | TYPES),
        "body": draw(st.none() | st.none() | bodies(EXAMPLE_BODIES)),
        "change": draw(st.none() | st.tuples(st.integers(0, 9), ODD_VALUES)),
    }


def path_of(route: Route, ids: dict[str, str], odd_id: str | None) -> str:
    path = route.path
    for name in route.names:
        path = path.replace("{" + name + "}", odd_id or ids[name])
    return path


def body_of(call: dict[str, Any], ids: dict[str, str], number: int) -> bytes:
    """Good, with one value changed, or any bent document."""
    if call["body"] is not None:
        return bytes(call["body"])
    body = body_for(call["route"], ids, number)
    if body is None:
        return b""
    if call["change"] is not None and body:
        at, value = call["change"]
        body[[*body][at % len(body)]] = value
    return orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS, default=str)


def others(world: World, part: str) -> dict[str, str]:
    """What who is bound to this part of `own` may never read."""
    names = ("key_id", "budget_id", "administrator_id", "secret", "team_id")
    hidden = {name: world.places["other"][name] for name in (*names, "organisation_id")}
    if part == "team":
        hidden |= {f"beside {name}": world.places["beside"][name] for name in names}
    return hidden


async def ask(office: Office, world: World, number: int, call: dict[str, Any]) -> None:
    route: Route = call["route"]
    role, part = call["who"]
    token = world.tokens.get((role, part), "rta_nobody")
    ids = world.places[call["place"]]
    path = path_of(route, ids, call["odd_id"])
    try:
        body = body_of(call, ids, number)
    except TypeError:  # a value that is no JSON at all
        body = b"{"
    url = f"{path}?{call['query']}" if call["query"] is not None else path
    headers = {"authorization": f"Bearer {token}", "content-type": call["type"]}
    told = await office.client.request(call["method"], url, headers=headers, content=body)
    shown = f"{call['method']} {url} by {role} of {part}: {told.status_code} {told.text[:300]}"
    assert told.status_code < 500, shown
    may = role in MATRIX[name_of(route)][0].split() and part in MATRIX[name_of(route)][1].split()
    if role == "nobody":
        assert told.status_code == 401, shown
    elif told.status_code < 300 and call["method"] == route.method:
        assert may, shown
    if told.status_code >= 400 and call["method"] != "HEAD":
        error = told.json()["error"]
        assert error["code"] in PROBLEMS, shown
        assert PROBLEMS[error["code"]][0] == told.status_code, shown
        assert len(error["message"]) < 3000, shown
        assert "Traceback" not in told.text
        assert "sqlite" not in told.text.lower(), shown
    if part != "whole":
        asked = f"{url} ".encode() + body
        for name, value in others(world, part).items():
            if value.encode() not in asked:
                assert value not in told.text, f"reads {name}: {shown}"
    if told.status_code != 201 and "rotate" not in path:
        for secret in world.tokens.values():
            assert secret not in told.text, f"a token is told: {shown}"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(f"sqlite:///{tmp_path_factory.mktemp('world') / 'relay.db'}")


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("copies")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


_numbers = itertools.count()


@examples(100, full=10_000)
@given(asked=st.lists(calls(), min_size=1, max_size=6))
def test_any_requests(world: World, copies: Path, asked: list[dict[str, Any]]) -> None:
    async def run(url: str) -> None:
        async with office_over(url) as office:
            for number, call in enumerate(asked):
                await ask(office, world, number, call)
            told = await office.ask("GET", "/me", world.tokens["owner", "whole"])
            is_rotated = any("rotate" in call["route"].path for call in asked)
            assert (
                told.status_code == 200
                or is_rotated
                or any("revoke" in call["route"].path for call in asked)
            )

    # One name over: a copy takes the place of the one before.
    path = copies / f"relay-{next(_numbers) % 4}.db"
    for beside in copies.glob(f"{path.name}*"):
        beside.unlink()
    asyncio.run(partial(run, world.copy(path))())
