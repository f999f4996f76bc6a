"""Warm connections that are not there any more (rows U6, U7)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import wreq

import relay.transport.wreq
from relay.transport.pool import OriginPool
from tests.fakes import h1_server
from tests.fakes.h2_server import H2Server, cut, in_turn, stream_chunks
from tests.fakes.relay_under_test import Document, eventually
from tests.matrix.links.proxy import Proxy
from tests.matrix.links.telling import (
    answered_by_spare,
    comes_true,
    reasons,
    scale_down,
    state_of,
    story,
)
from tests.matrix.row import Part, Row, Stage
from tests.matrix.world import CHAT, WHOLE_MICRO, World, whole_answer, world

WHOLE = stream_chunks(whole_answer("One", " two"))


def said(reply: Any) -> None:
    assert reply.is_clean, reply
    assert (reply.text, reply.provider) == ("One two", "lab")


# --- U6 -------------------------------------------------------------------------------------------


async def closes_as_it_is_used(stage: Stage) -> None:
    """The request and the end of the connection cross each other."""
    async with world(stage) as here:
        here.lab.routes[CHAT] = in_turn(cut(abort=stage.draw.random() < 0.5), WHOLE)
        said(await here.ask(here.face()))
        (booked,) = await here.booked(1)
        assert story(booked) == [("lab", "primary", "free"), ("lab", "retry", "actual")]
        assert booked.cost_micro == WHOLE_MICRO
        first, second = here.lab.requests(CHAT)
        assert first.connection is not second.connection
        assert not here.spare.requests(CHAT)
        is_no_fault_of_the_provider(here)


async def closes_while_idle(stage: Stage) -> None:
    async with world(stage) as here:
        here.lab.routes[CHAT] = WHOLE
        face = here.face()
        said(await here.ask(face))
        for connection in here.lab.open_connections:
            if stage.draw.random() < 0.5:
                connection.abort()
            else:
                connection.close()
        said(await here.ask(face))
        for booked in await here.booked(2):
            assert booked.state == "settled"
            assert booked.cost_micro == WHOLE_MICRO
            assert set(booked.asked) == {"lab"}
        is_no_fault_of_the_provider(here)


async def closes_as_it_is_used_http1(stage: Stage) -> None:
    """Over HTTP/1.1, where a server may close whenever it likes."""

    async def whole(exchange: h1_server.Exchange) -> None:
        await h1_server.chunked(whole_answer("One", " two"))(exchange)

    async def once(exchange: h1_server.Exchange) -> None:
        server.routes[CHAT] = whole
        await h1_server.close(abort=stage.draw.random() < 0.5)(exchange)

    async with h1_server.H1Server() as server:
        server.routes[CHAT] = whole
        lab: Document = {"base_url": f"{server.url}/v1", "http": "h1", "ca_file": None}
        async with world(stage, {"providers": {"lab": lab}}) as here:
            face = here.face()
            said(await here.ask(face))
            server.routes[CHAT] = once
            said(await here.ask(face))
            _, booked = await here.booked(2)
            assert story(booked) == [("lab", "primary", "free"), ("lab", "retry", "actual")]
            assert booked.cost_micro == WHOLE_MICRO
            is_no_fault_of_the_provider(here)


def is_no_fault_of_the_provider(here: World) -> None:
    assert state_of(here).failed == 0


def nothing_is_tried_again(patch: pytest.MonkeyPatch) -> None:
    """The free second try of what broke on a connection that had served."""
    mapped = relay.transport.wreq._mapped

    def without(error: Exception, *, headers_received: bool, reused: bool = False) -> Any:
        return mapped(error, headers_received=headers_received)

    patch.setattr(relay.transport.wreq, "_mapped", without)


# --- U7 -------------------------------------------------------------------------------------------

FIRST_TOKEN_MS = 400


@asynccontextmanager
async def behind_a_proxy(
    stage: Stage, settings: dict[str, Any], **timeouts: int
) -> AsyncIterator[tuple[World, Proxy]]:
    """One warm connection to `lab` through a proxy; the pool's own limits scaled down."""
    scale_down(stage, **settings)
    lab = H2Server(tls=stage.authority.server_context(alpn=("h2",)))
    lab.routes[CHAT] = WHOLE
    async with Proxy(lambda: lab.port) as proxy:
        row = {"base_url": f"https://127.0.0.1:{proxy.port}/v1"}
        async with world(stage, {"providers": {"lab": row}}, lab=lab, **timeouts) as here:
            await eventually(lambda: proxy.wires)
            yield here, proxy


async def is_found_by_a_ping(stage: Stage) -> None:
    settings = {"ping_interval_s": 0.2, "ping_timeout_s": 0.4}
    async with behind_a_proxy(stage, settings) as (here, proxy):
        face = here.face()
        asked = stage.draw.randint(1, 3)
        for _ in range(asked):
            said(await here.ask(face))
        frozen = proxy.freeze()
        assert frozen
        assert await comes_true(lambda: all(wire.is_left for wire in frozen)), "still in use"
        said(await here.ask(face))
        *_, booked = await here.booked(asked + 1)
        assert set(booked.asked) == {"lab"}
        assert booked.cost_micro == WHOLE_MICRO


async def is_found_by_the_first_token(stage: Stage) -> None:
    settings = {"probe_timeout_s": 0.2}
    limits = {"first_token_ms": FIRST_TOKEN_MS}
    async with behind_a_proxy(stage, settings, **limits) as (here, proxy):
        face = here.face()
        frozen = proxy.freeze()
        answered_by_spare(await here.ask(face))
        assert await comes_true(lambda: all(wire.is_left for wire in frozen)), "still in use"
        said(await here.ask(face))
        saved, after = await here.booked(2)
        assert saved.asked == ["lab", "spare"]
        assert reasons(saved) == ["FIRST_TOKEN_TIMEOUT", ""]
        assert saved.attempts[0]["state"] == "estimated", "whether it arrived is not known"
        assert after.asked == ["lab"]
        assert not here.lab.requests(CHAT)[0].connection.closed


def nobody_pings(patch: pytest.MonkeyPatch) -> None:
    """The keep-alive pings of HTTP/2."""
    options = wreq.Http2Options

    def without(**given: Any) -> Any:
        return options(**{k: v for k, v in given.items() if not k.startswith("keep_alive")})

    patch.setattr(wreq, "Http2Options", without)


def nobody_doubts(patch: pytest.MonkeyPatch) -> None:
    """The question to a connection over which a request had no answer."""
    patch.setattr(OriginPool, "_doubt", lambda *_: None)


ROWS = {
    "U6": Row(
        "U6",
        inject="a warm connection is closed while idle, or just as a request goes out over it",
        client="nothing of it",
        accounting="the first try is free",
        retry="once, at once, over another connection, if no byte of an answer had come; from no "
        "retry budget, and no breaker counts it",
        parts=(
            Part("crossed", closes_as_it_is_used, nothing_is_tried_again),
            Part("crossed_http1", closes_as_it_is_used_http1, nothing_is_tried_again),
            Part(
                "idle", closes_while_idle, undefended="the HTTP engine notices and dials by itself"
            ),
        ),
        also=(
            "tests/transport/test_http1.py::test_closed_just_as_it_is_used_again",
            "tests/transport/test_pool.py::test_what_broke_one_may_have_broken_all",
        ),
    ),
    "U7": Row(
        "U7",
        inject="a warm connection goes silent, without a FIN or an RST (half-open)",
        client="nothing of it; before it is found, another provider's answer after the limit of "
        "the first token",
        accounting="found by the limit: estimated, since nobody knows what arrived",
        retry="the next target; the connection is left, and the next request has another",
        parts=(
            Part("found_by_ping", is_found_by_a_ping, nobody_pings),
            Part("found_by_first_token", is_found_by_the_first_token, nobody_doubts),
        ),
        also=(
            "tests/transport/test_http2.py::test_a_connection_that_answers_no_probe_is_replaced",
            "tests/transport/test_pool.py::test_a_request_given_up_in_silence_has_its_connection_asked",
        ),
    ),
}
