"""Two hundred at once at the edge of a budget that is worth twenty: on one worker, on four, and on
two relays over PostgreSQL and Redis. Nothing is overspent, and nobody is refused who could pay."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import func, select

from relay.store import schema
from relay.store.engine import engine_for, make_ready, reading
from relay.store.rebuild import drifts
from tests.fakes.directory_rows import PEPPER, Rows
from tests.fakes.h2_server import H2Server, stream_chunks
from tests.fakes.relay_fleet import relay_fleet
from tests.fakes.relay_under_test import answer_chunks, chat_body, chunk, provider
from tests.fakes.servers import (
    postgres_cluster,
    postgres_server,
    postgres_url,
    redis_server,
    redis_url,
)

pytestmark = [pytest.mark.sockets, pytest.mark.timeout(120)]

__all__ = ["postgres_cluster", "postgres_server", "postgres_url", "redis_server", "redis_url"]

CHAT = "/v1/chat/completions"
MAX_TOKENS, OUTPUT_MICRO = 100, 10
ATTEMPT_MICRO = MAX_TOKENS * OUTPUT_MICRO
WORTH, CALLERS = 20, 200


def answer(output_tokens: int) -> list[bytes]:
    """With a usage of so many tokens."""
    counted = {"prompt_tokens": 5, "completion_tokens": output_tokens}
    usage = chunk(usage={**counted, "total_tokens": 5 + output_tokens})
    return [*answer_chunks("Hi")[:-1], usage, b"data: [DONE]\n\n"]


@pytest.fixture(params=["one worker", "four workers", "two relays"])
async def world(
    request: pytest.FixtureRequest,
    upstream: H2Server,
    ca_file: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[World]:
    monkeypatch.setenv("THE_PEPPER", PEPPER)
    store: dict[str, Any] = {"url": f"sqlite:///{tmp_path / 'relay.db'}"}
    if request.param == "two relays":
        store = {
            "url": request.getfixturevalue("postgres_url"),
            "redis": request.getfixturevalue("redis_url"),
        }
    make_ready(store["url"])
    prices = {"m1": {"input": 0.0, "output": float(OUTPUT_MICRO)}}
    document = {
        "store": store,
        "auth": {"pepper": "${THE_PEPPER}", "sync_ms": 50},
        "providers": {
            "lab": provider(upstream.url, ca_file=ca_file, prices=prices),
            "other": provider(upstream.url, ca_file=ca_file, prices=prices),
        },
        "models": {
            "fast": {"candidates": [{"provider": "lab", "model": "m1"}]},
            "raced": {
                "candidates": [
                    {"provider": "lab", "model": "m1"},
                    {"provider": "other", "model": "m1"},
                ],
                "hedge": {"mode": "active", "delay": 1},
            },
        },
    }
    engine = engine_for(store["url"])
    rows = Rows(engine)
    hosts = ("127.0.0.1", "127.0.0.2") if request.param == "two relays" else ("127.0.0.1",)
    workers = 4 if request.param == "four workers" else 1
    try:
        async with relay_fleet(tmp_path, document, hosts=hosts, workers=workers) as relays:
            yield World(rows, engine, [(relay.host, relay.ports["http"]) for relay in relays])
    finally:
        engine.dispose()


class World:
    """Relays, and the database that they share."""

    def __init__(self, rows: Rows, engine: Any, places: list[tuple[str, int]]) -> None:
        self.rows = rows
        self.engine = engine
        self.urls = [f"http://{host}:{port}{CHAT}" for host, port in places]

    async def known(self, key: str) -> None:
        """Until every worker lets the key in; a worker is asked by connections of their own."""
        headers = {"authorization": f"Bearer {key}"}
        async with asyncio.timeout(20):
            for url in self.urls:
                models = url.replace("chat/completions", "models")
                good = 0
                while good < 16:
                    async with httpx2.AsyncClient(trust_env=False, timeout=20) as http:
                        told = await http.get(models, headers=headers)
                    good = good + 1 if told.status_code == 200 else 0

    async def ask(self, key: str, count: int, model: str) -> Counter[int]:
        """So many at once, each over a connection of its own; by status."""
        body = chat_body(model, max_tokens=MAX_TOKENS)
        headers = {"authorization": f"Bearer {key}"}
        limits = httpx2.Limits(max_connections=count)

        async def one(number: int) -> int:
            url = self.urls[number % len(self.urls)]
            told = await http.post(url, json=body, headers=headers)
            assert told.status_code in (200, 429), told.text
            if told.status_code == 200:
                assert told.text.endswith("data: [DONE]\n\n")
            return int(told.status_code)

        async with httpx2.AsyncClient(trust_env=False, timeout=60, limits=limits) as http:
            return Counter(await asyncio.gather(*[one(number) for number in range(count)]))

    def spent(self, budget_id: str) -> tuple[int, int]:
        table = schema.budget_periods
        with reading(self.engine) as connection:
            query = select(table.c.settled_micro, table.c.reserved_micro)
            row = connection.execute(query.where(table.c.budget_id == budget_id)).one()
        return int(row[0]), int(row[1])

    def check(self) -> None:
        """Nothing is open, and counters are what the rows say."""
        states = schema.generations.c.state
        with reading(self.engine) as connection:
            query = select(func.count()).where(states == "open")
            assert connection.execute(query).scalar_one() == 0
            assert drifts(connection) == []


@pytest.mark.parametrize("model", ["fast", "raced"])
async def test_exactly_so_many_are_let_in(world: World, upstream: H2Server, model: str) -> None:
    """Each costs as much as it may at most; what the bound says of its prompt is free here."""
    upstream.default = stream_chunks(answer(MAX_TOKENS))
    team_id = world.rows.team(world.rows.organisation())
    _, key = world.rows.key(team_id)
    cap_micro = WORTH * ATTEMPT_MICRO
    budget_id = world.rows.budget("team", team_id, cap_micro)
    await world.known(key)
    statuses = await world.ask(key, CALLERS, model)
    while statuses[200] < WORTH and model == "raced" and (await world.ask(key, 1, model))[200]:
        statuses[200] += 1  # what losers had put aside is free again
    settled_micro, reserved_micro = world.spent(budget_id)
    assert reserved_micro == 0
    assert settled_micro <= cap_micro
    if model == "fast":
        assert statuses == {200: WORTH, 429: CALLERS - WORTH}
        assert settled_micro == cap_micro
    if settled_micro + ATTEMPT_MICRO > cap_micro:
        assert (await world.ask(key, 4, model))[200] == 0
    world.check()


async def test_nobody_is_refused_who_could_pay(world: World, upstream: H2Server) -> None:
    """They cost a tenth of what they may: once those that run have settled, others can pay."""
    upstream.default = stream_chunks(answer(10))
    team_id = world.rows.team(world.rows.organisation())
    _, key = world.rows.key(team_id)
    cap_micro = WORTH * ATTEMPT_MICRO
    budget_id = world.rows.budget("team", team_id, cap_micro)
    await world.known(key)
    served = (await world.ask(key, CALLERS, "fast"))[200]
    assert served >= WORTH
    cost_micro = 10 * OUTPUT_MICRO
    while True:
        settled_micro, reserved_micro = world.spent(budget_id)
        assert (settled_micro, reserved_micro) == (served * cost_micro, 0)
        could_pay = settled_micro + ATTEMPT_MICRO <= cap_micro
        many = min(WORTH, (cap_micro - settled_micro) // ATTEMPT_MICRO)
        told = await world.ask(key, max(1, many), "fast")
        assert told[429] == (0 if could_pay else 1)
        served += told[200]
        if not could_pay:
            break
    world.check()
