"""A provider's `/moderations` over its row: what it is sent, and what is no answer."""

from __future__ import annotations

import asyncio

import pytest

from relay.guardrails.asking import CannotTell, NotAsked
from relay.moderations import MAX_ANSWER_BYTES, moderations_of
from tests.fakes.h1_server import Exchange, H1Server
from tests.fakes.relay_under_test import provider, relay_under_test

BODY = b'{"input": ["x"]}'


async def test_it_goes_over_the_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELAY_TEST_KEY", "the-key")

    async def answers(exchange: Exchange) -> None:
        await exchange.head(200, ("content-length", "2"))
        await exchange.write(b"{}")

    async def endless(exchange: Exchange) -> None:
        await exchange.head(200, ("content-length", str(2 * MAX_ANSWER_BYTES)))
        for _ in range(2 * MAX_ANSWER_BYTES // 65536):
            await exchange.write(b" " * 65536)

    async def refuses(exchange: Exchange) -> None:
        await exchange.head(429, ("content-length", "0"))

    async def hangs(exchange: Exchange) -> None:
        await asyncio.Event().wait()

    async with H1Server() as server:
        row = provider(
            server.url,
            http="h1",
            auth="bearer",
            api_key="${RELAY_TEST_KEY}",
            data_zone="eu",
            headers={"x-mine": "1"},
            warm_connections=0,
        )
        async with relay_under_test({"providers": {"mod": row}}) as relay:
            services = relay.worker.services
            of = moderations_of(services, services.catalog.endpoints.get)
            ask = of("mod")
            server.routes["/v1/moderations"] = answers
            assert await ask(BODY, None) == b"{}"
            assert await ask(BODY, frozenset({"eu", "us"})) == b"{}"
            exchange = await server.request("/v1/moderations")
            assert (exchange.method, exchange.body) == ("POST", BODY)
            assert exchange.header("authorization") == "Bearer the-key"
            assert exchange.header("x-mine") == "1"
            with pytest.raises(NotAsked, match="zones"):
                await ask(BODY, frozenset({"us"}))
            assert len(server.requests("/v1/moderations")) == 2
            server.routes["/v1/moderations"] = refuses
            with pytest.raises(CannotTell, match="429"):
                await ask(BODY, None)
            server.routes["/v1/moderations"] = endless
            with pytest.raises(CannotTell, match="too long"):
                await ask(BODY, None)
            server.routes["/v1/moderations"] = hangs
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await ask(BODY, None)
            with pytest.raises(CannotTell, match="no such provider"):
                await of("gone")(BODY, None)
            await relay.settled()


async def test_nobody_there_is_no_answer() -> None:
    async with H1Server() as server:
        url = server.url
    row = provider(url, http="h1", warm_connections=0)
    async with relay_under_test({"providers": {"mod": row}}) as relay:
        services = relay.worker.services
        ask = moderations_of(services, services.catalog.endpoints.get)("mod")
        with pytest.raises(CannotTell, match="upstream_unreachable"):
            await ask(BODY, None)
