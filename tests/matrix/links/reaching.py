"""A provider that cannot be reached."""

from __future__ import annotations

import asyncio
import time

import pytest

from relay.resilience.breaker import BreakerSettings, Permit
from tests.fakes.relay_under_test import Document
from tests.matrix.links.telling import (
    SPARED,
    answered_by_spare,
    reasons,
    refused,
    state_of,
    story,
)
from tests.matrix.links.weaknesses import connections_are_waited_for, nobody_else_is_asked
from tests.matrix.row import Part, Row, Stage
from tests.matrix.world import WHOLE_MICRO, world
from tests.transport.test_connect import black_hole, dead_port


def at(port: int, host: str = "127.0.0.1", warm_connections: int = 0) -> Document:
    """`lab` is there."""
    lab = {"base_url": f"https://{host}:{port}/v1", "warm_connections": warm_connections}
    return {"providers": {"lab": lab}}


# --- U1 -------------------------------------------------------------------------------------------


async def is_refused(stage: Stage) -> None:
    # The name has an address of each family, where the machine has both.
    host = stage.draw.choice(("127.0.0.1", "localhost", "[::1]"))
    warm_connections = stage.draw.choice((0, 2))
    with dead_port() as port:
        async with world(stage, at(port, host, warm_connections)) as here:
            face = here.face()
            answered_by_spare(await here.ask(face, "pair"))
            refused(await here.ask(face, "alone"), face, "UPSTREAM_UNREACHABLE", 503)
            saved, lost = await here.booked(2)
            assert story(saved) == SPARED
            assert (saved.state, saved.cost_micro) == ("settled", WHOLE_MICRO)
            assert lost.state == "void"
            assert reasons(saved) == ["UPSTREAM_UNREACHABLE", ""]
            assert reasons(lost) == ["UPSTREAM_UNREACHABLE"]
            assert state_of(here).failed == 2


async def is_left_alone(stage: Stage) -> None:
    enough = BreakerSettings().consecutive_failures
    with dead_port() as port:
        async with world(stage, at(port)) as here:
            face = here.face()
            for _ in range(enough + 1):
                answered_by_spare(await here.ask(face, "pair"))
            *_, before, after = await here.booked(enough + 1)
            assert story(before) == SPARED
            assert reasons(before) == ["UPSTREAM_UNREACHABLE", ""]
            assert reasons(after) == ["BREAKER_OPEN", ""], "it is not dialled any more"
            assert story(after) == SPARED


def failures_are_not_counted(patch: pytest.MonkeyPatch) -> None:
    """The breaker's count of failures."""
    patch.setattr(Permit, "failure", Permit.ignored)


# --- U4 -------------------------------------------------------------------------------------------

CONNECT_MS = 250


async def is_a_black_hole(stage: Stage) -> None:
    with black_hole() as port:
        # A dial's own bound is longer than the request's, and the first token's longer still.
        more = {**at(port), "transport": {"dial_timeout_ms": 20_000}}
        async with world(stage, more, connect_ms=CONNECT_MS, first_token_ms=1500) as here:
            face = here.face()
            began_s = time.monotonic()
            saved_reply, lost_reply = await asyncio.gather(
                here.ask(face, "pair"), here.ask(face, "alone")
            )
            took_s = time.monotonic() - began_s
            answered_by_spare(saved_reply)
            refused(lost_reply, face, "CONNECT_TIMEOUT", 503)
            assert took_s >= CONNECT_MS / 1000
            one, other = await here.booked(2)
            saved, lost = (one, other) if one.state == "settled" else (other, one)
            assert story(saved) == SPARED
            assert saved.cost_micro == WHOLE_MICRO
            assert lost.state == "void"
            assert reasons(lost) == ["CONNECT_TIMEOUT"]
            assert state_of(here).failed == 2


ROWS = {
    "U1": Row(
        "U1",
        inject="connection refused, at all addresses of the provider",
        client="another provider's answer; else UNAVAILABLE / 503 `UPSTREAM_UNREACHABLE`",
        accounting="void; the one who answers settled",
        retry="the next target, at once; the breaker counts it, and opens",
        parts=(
            Part("refused", is_refused, nobody_else_is_asked),
            Part("breaker", is_left_alone, failures_are_not_counted),
        ),
        also=("tests/transport/test_connect.py::test_a_refused_port",),
    ),
    "U4": Row(
        "U4",
        inject="SYNs go unanswered (a black hole)",
        client="as U1 after the connect limit; else UNAVAILABLE / 503 `CONNECT_TIMEOUT`",
        accounting="void",
        retry="the next target; the breaker counts it",
        parts=(Part("black_hole", is_a_black_hole, connections_are_waited_for),),
        also=(
            "tests/transport/test_connect.py::test_a_black_hole_ends_in_time",
            "tests/transport/test_connect.py::test_the_dial_itself_is_bounded",
        ),
    ),
}
