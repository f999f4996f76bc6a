"""Bills of a whole worker for odd requests and odd answers, over its sockets and a SQLite file."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from relay.emulator.event_stream import event
from relay.store.engine import engine_for, make_ready
from tests.codecs import anthropic_text as wire
from tests.fakes.converse_client import prompt, start
from tests.fakes.directory_rows import PEPPER, Rows
from tests.fakes.h1_server import Exchange, H1Server, Script
from tests.fakes.relay_under_test import (
    DONE,
    RelayUnderTest,
    chat_body,
    chunk,
    eventually,
    provider,
    relay_under_test,
)

pytestmark = pytest.mark.sockets

CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"
PRICES = {"m1": {"input": 1.0, "output": 10.0}}


class Shop:
    """A relay with one key, its provider and its database."""

    def __init__(self, relay: RelayUnderTest, server: H1Server, rows: Rows, path: Path) -> None:
        self.relay = relay
        self.server = server
        self.rows = rows
        self.organisation_id = rows.organisation()
        self.team_id = rows.team(self.organisation_id)
        self._path = path

    def ask(self, sql: str) -> list[dict[str, Any]]:
        connection = sqlite3.connect(self._path)
        try:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(sql)]
        finally:
            connection.close()

    async def heard(self) -> None:
        """The relay knows what was changed."""
        access = self.relay.worker.accounts.access
        assert access is not None
        assert await access.sync.look()

    async def key(self, **more: Any) -> dict[str, str]:
        """The header of a new key, which the relay knows of."""
        _, text = self.rows.key(self.team_id, **more)
        await self.heard()
        return {"authorization": f"Bearer {text}"}

    def bodies(self) -> Sequence[dict[str, Any]]:
        """What the provider was asked."""
        return [orjson.loads(one.body) for one in self.server.exchanges if one.body]

    async def attempt(self) -> dict[str, Any]:
        """The one that was made, when it is booked."""
        sql = "SELECT * FROM attempts WHERE state <> 'open'"
        await eventually(lambda: self.ask(sql))
        (row,) = self.ask(sql)
        return row


@asynccontextmanager
async def shop(folder: Path, **document: Any) -> AsyncIterator[Shop]:
    pepper = folder / "pepper"
    pepper.write_text(PEPPER, encoding="utf-8")
    path = folder / "relay.db"
    url = f"sqlite:///{path}"
    make_ready(url)
    engine = engine_for(url)
    async with H1Server() as server:
        rows: dict[str, Any] = {
            "lab": provider(server.url, prices=PRICES, passthrough=True),
            "openai": provider(server.url),
            "openai-fast": provider(server.url, door="openai", service_tier="priority"),
            "converse": provider(
                server.url,
                wire="bedrock_converse",
                base_url=server.url,
                prices={
                    "m1": {**PRICES["m1"], "tiers": {"priority": {"input": 2.0, "output": 20.0}}}
                },
            ),
            "anthropic": provider(server.url, wire="anthropic_messages", base_url=server.url),
            "claude": provider(
                server.url, wire="anthropic_messages", base_url=server.url, prices=PRICES
            ),
        }
        whole = {
            "store": {"url": url},
            "auth": {"pepper": f"${{file:{pepper}}}", "sync_ms": 50},
            "audit": {"anchor": str(folder / "audit.anchor")},
            "providers": rows,
            **document,
        }
        try:
            async with relay_under_test(whole) as relay:
                yield Shop(relay, server, Rows(engine), path)
        finally:
            engine.dispose()


def says(*pieces: bytes, hangs: bool = False, kind: str = "text/event-stream") -> Script:
    """An answer of these pieces, which then ends, or goes on in silence."""

    async def script(exchange: Exchange) -> None:
        await exchange.head(200, ("content-type", kind), ("transfer-encoding", "chunked"))
        for piece in pieces:
            await exchange.chunk(piece)
        if hangs:
            await exchange.hang()
        await exchange.chunk(b"")

    return script


def usage(prompt: int, completion: int) -> dict[str, int]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


GREETING = (chunk({"content": "hi"}), chunk(finish="stop"), chunk(usage=usage(10, 5)), DONE)


async def test_an_answer_that_is_left_costs_what_has_come_of_it(tmp_path: Path) -> None:
    """The Messages API counts the prompt first and the answer at its end."""
    words = "word " * 400
    async with shop(tmp_path) as there:
        begin = wire.block(0, {"type": "text", "text": ""})
        said = wire.delta(0, "text_delta", text=words)
        there.server.routes[MESSAGES] = says(wire.start(), begin, said, hangs=True)
        key = await there.key()
        body = chat_body("claude/m1")
        async with there.relay.http.stream("POST", CHAT, json=body, headers=key) as answer:
            assert answer.status_code == 200
            async for piece in answer.aiter_text():
                if "word" in piece:
                    break
        attempt = await there.attempt()
    assert (attempt["prompt_tokens"], attempt["output_tokens"]) == (10, 500)
    assert (attempt["state"], attempt["cost_micro"]) == ("estimated", 5010)


@pytest.mark.parametrize("budget", ["none", "soft", "hard"])
async def test_without_a_price_it_runs_where_nothing_counts_it(tmp_path: Path, budget: str) -> None:
    async with shop(tmp_path) as there:
        there.server.routes[CHAT] = says(*GREETING)
        if budget != "none":
            there.rows.budget("team", there.team_id, 1_000_000, is_hard=int(budget == "hard"))
        key = await there.key()
        answer = await there.relay.chat(chat_body("lab/of-no-price"), **key)
        if budget == "none":
            assert answer.status_code == 200, answer.text
            attempt = await there.attempt()
            assert (attempt["state"], attempt["cost_micro"]) == ("unpriced", None)
        else:
            assert answer.status_code == 400, answer.text
            assert "has no price" in answer.text
            assert CHAT not in {one.path for one in there.server.exchanges}


@pytest.mark.parametrize(
    ("asked", "told", "cost_micro"),
    [("auto", "priority", 12_500), ("priority", "default", 6250), ("priority", "", 12_500)],
)
async def test_the_tier_is_the_one_that_the_answer_tells(
    tmp_path: Path, asked: str, told: str, cost_micro: int
) -> None:
    async with shop(tmp_path) as there:
        said = {"service_tier": told} if told else {}
        there.server.routes[CHAT] = says(
            chunk({"content": "hi"}, **said), *GREETING[1:2], chunk(usage=usage(1000, 500)), DONE
        )
        key = await there.key()
        answer = await there.relay.chat(chat_body("openai/gpt-5.1", service_tier=asked), **key)
        assert answer.status_code == 200, answer.text
        attempt = await there.attempt()
        assert (attempt["state"], attempt["cost_micro"]) == ("actual", cost_micro)


@pytest.mark.parametrize(
    ("told", "cost_micro"), [("priority", 10 * 2 + 5 * 20), ("default", 10 + 5 * 10)]
)
async def test_the_tier_that_bedrock_tells_with_its_counts(
    tmp_path: Path, told: str, cost_micro: int
) -> None:
    """A request for a dearer tier without room is served, and billed, at the usual one."""
    async with shop(tmp_path) as there:
        counts = {"inputTokens": 10, "outputTokens": 5, "totalTokens": 15}
        delta = {"contentBlockIndex": 0, "delta": {"text": "hi"}}
        told_last = {"usage": counts, "metrics": {}, "serviceTier": {"type": told}}
        path = "/model/m1/converse-stream"
        there.server.routes[path] = says(
            event("messageStart", b'{"role":"assistant"}'),
            event("contentBlockDelta", orjson.dumps(delta)),
            event("contentBlockStop", b'{"contentBlockIndex":0}'),
            event("messageStop", b'{"stopReason":"end_turn"}'),
            event("metadata", orjson.dumps(told_last)),
            kind="application/vnd.amazon.eventstream",
        )
        key = await there.key()
        body = chat_body("converse/m1", service_tier="priority")
        answer = await there.relay.chat(body, **key)
        assert answer.status_code == 200, answer.text
        attempt = await there.attempt()
        assert (attempt["state"], attempt["cost_micro"]) == ("actual", cost_micro)


@pytest.mark.parametrize(
    ("asked", "sent", "cost_micro"),
    [(None, "priority", 12_500), ("default", "default", 6250)],
)
async def test_the_tier_of_a_row_is_sent_and_booked(
    tmp_path: Path, asked: str | None, sent: str, cost_micro: int
) -> None:
    async with shop(tmp_path) as there:
        there.server.routes[CHAT] = says(*GREETING[:2], chunk(usage=usage(1000, 500)), DONE)
        key = await there.key()
        body = chat_body("openai-fast/gpt-5.1", **({"service_tier": asked} if asked else {}))
        answer = await there.relay.chat(body, **key)
        assert answer.status_code == 200, answer.text
        assert [each["service_tier"] for each in there.bodies()] == [sent]
        attempt = await there.attempt()
        assert (attempt["state"], attempt["cost_micro"]) == ("actual", cost_micro)


@pytest.mark.parametrize(
    ("speed", "cost_micro"), [("fast", 10 * 10 + 7 * 50), ("", 10 * 5 + 7 * 25)]
)
async def test_a_fast_answer_of_claude_costs_more(
    tmp_path: Path, speed: str, cost_micro: int
) -> None:
    async with shop(tmp_path) as there:
        counts = {"input_tokens": 10, "output_tokens": 7, "service_tier": "standard"}
        said = (
            wire.start(**counts),
            wire.text(0, "hi"),
            wire.ending("end_turn", counts),
            wire.STOP,
        )
        there.server.routes[MESSAGES] = says(*said)
        there.rows.budget("team", there.team_id, 1_000_000)
        key = await there.key()
        more = {"speed": speed} if speed else {}
        body = {**chat_body("anthropic/claude-opus-4-8"), "max_tokens": 100, **more}
        answer = await there.relay.http.post(MESSAGES, json=body, headers=key)
        assert answer.status_code == 200, answer.text
        attempt = await there.attempt()
        assert (attempt["state"], attempt["cost_micro"]) == ("actual", cost_micro)


@pytest.mark.parametrize("name", ["n", "max_completion_tokens", "max_tokens", "service_tier"])
async def test_further_fields_do_not_say_otherwise(tmp_path: Path, name: str) -> None:
    """They would be sent to the provider, and no scope or budget had seen them."""
    async with shop(tmp_path) as there:
        there.server.routes[CHAT] = says(*GREETING)
        key = await there.key()
        asked = prompt("Hello")
        asked.extra_json = orjson.dumps({name: "priority" if name == "service_tier" else 8})
        async with there.relay.talk(metadata=key, model="lab/m1") as call:
            await call.send(start=start("g1", "lab/m1", prompt=asked))
            ended = await call.ended("g1")
        assert ended.end is not None
        assert f"extra_json.{name} has a field of its own" in ended.end.error.message
        assert not there.bodies()


@pytest.mark.parametrize("more", [{"best_of": 50}, {"max_new_tokens": 5000}, {"n_predict": 5000.0}])
async def test_what_other_hosts_go_by_is_put_aside(tmp_path: Path, more: dict[str, Any]) -> None:
    async with shop(tmp_path) as there:
        there.server.routes[CHAT] = says(*GREETING)
        there.rows.budget("team", there.team_id, 20_000)
        key = await there.key()
        body = chat_body("lab/m1", max_tokens=100)
        assert (await there.relay.chat(body, **key)).status_code == 200
        answer = await there.relay.chat({**body, **more}, **key)
        assert answer.json()["error"]["code"] == "budget_exceeded"


async def test_under_a_tag_s_budget_no_other_models_are_named(tmp_path: Path) -> None:
    async with shop(tmp_path) as there:
        there.server.routes[CHAT] = says(*GREETING)
        there.rows.budget("tag", "voice", 1_000_000)
        key = await there.key(tags=["voice"])
        body = chat_body("lab/m1")
        assert (await there.relay.chat(body, **key)).status_code == 200
        answer = await there.relay.chat({**body, "models": ["dear/model"]}, **key)
        assert answer.status_code == 403, answer.text
        assert len(there.bodies()) == 1


async def test_a_tag_s_budget_holds_for_what_is_handed_through(tmp_path: Path) -> None:
    async with shop(tmp_path) as there:
        there.rows.budget("tag", "voice", 1)
        key = await there.key(tags=["voice"], scopes={"passthrough": True})
        answer = await there.relay.http.get("/pass/lab/files", headers=key)
        assert answer.status_code == 403, answer.text
        assert "budget" in answer.text
        assert "/v1/files" not in {one.path for one in there.server.exchanges}


@pytest.mark.parametrize("budget", ["none", "soft"])
async def test_no_number_of_a_client_is_too_large_for_the_books(
    tmp_path: Path, budget: str
) -> None:
    async with shop(tmp_path) as there:
        there.server.routes[CHAT] = says(*GREETING)
        if budget == "soft":
            there.rows.budget("team", there.team_id, 50_000, is_hard=0)
        key = await there.key()
        body = chat_body("lab/m1", thinking={"budget_tokens": 9_000_000_000_000_000_000})
        answers = await asyncio.gather(*(there.relay.chat(body, **key) for _ in range(4)))
        assert [answer.status_code for answer in answers] == [200] * 4, answers[0].text
        booked = there.ask("SELECT state, settled_micro FROM generations")
        assert booked == [{"state": "settled", "settled_micro": 60}] * 4
        sums = there.ask("SELECT settled_micro, reserved_micro FROM budget_periods")
        assert sums in ([], [{"settled_micro": 240, "reserved_micro": 0}])


async def test_a_connection_that_was_closed_meanwhile_costs_nothing(tmp_path: Path) -> None:
    """The provider never saw what was sent over it."""
    async with shop(tmp_path) as there:
        answers = says(*GREETING)
        has_closed = False

        async def script(exchange: Exchange) -> None:
            nonlocal has_closed
            has_closed = not has_closed and len(exchange.connection.exchanges) > 1
            if has_closed:
                exchange.connection.abort()
            else:
                await answers(exchange)

        there.server.routes[CHAT] = script
        there.rows.budget("team", there.team_id, 20_000)
        key = await there.key()
        body = chat_body("lab/m1", max_tokens=1000)
        for _ in range(3):
            assert (await there.relay.chat(body, **key)).status_code == 200
        attempts = there.ask("SELECT role, state, cost_micro FROM attempts ORDER BY role")
        assert {one["role"] for one in attempts} == {"primary", "retry"}
        assert {one["cost_micro"] for one in attempts if one["state"] == "free"} == {0}
        assert {one["cost_micro"] for one in attempts if one["state"] == "actual"} == {60}
        assert {one["state"] for one in attempts} == {"actual", "free"}


@pytest.mark.parametrize(
    ("counts", "tokens", "state"),
    [
        (usage(-5, -7), (6, 4), "estimated"),
        (usage(10**12, 10**12), (6, 4), "estimated"),
        (usage(0, 0), (0, 0), "actual"),
        ({"total_tokens": 30}, (30, 4), "estimated"),
        ({"total_tokens": 30, "prompt_tokens": 20}, (20, 10), "actual"),
        ({"total_tokens": 30, "completion_tokens": 10}, (20, 10), "actual"),
        ({"completion_tokens": 10}, (6, 10), "estimated"),
        ({"prompt_tokens": 1e300, "completion_tokens": 10}, (6, 10), "estimated"),
    ],
)
async def test_counts_that_cannot_be(
    tmp_path: Path, counts: dict[str, Any], tokens: tuple[int, int], state: str
) -> None:
    async with shop(tmp_path) as there:
        said = (chunk({"content": "hello you there"}), chunk(finish="stop"))
        there.server.routes[CHAT] = says(*said, chunk(usage=counts), DONE)
        there.rows.budget("team", there.team_id, 1_000_000)
        key = await there.key()
        assert (await there.relay.chat(chat_body("lab/m1"), **key)).status_code == 200
        attempt = await there.attempt()
        assert (attempt["prompt_tokens"], attempt["output_tokens"]) == tokens
        assert (attempt["state"], attempt["cost_micro"]) == (state, tokens[0] + 10 * tokens[1])


@pytest.mark.parametrize(("most_micro", "attempts"), [(1500, 1), (4000, 2)])
async def test_a_failover_keeps_to_what_a_key_allows_for_a_request(
    tmp_path: Path, most_micro: int, attempts: int
) -> None:
    async with shop(
        tmp_path,
        models={
            "fast": {
                "candidates": [{"provider": "lab", "model": "m1"}],
                "fallbacks": [{"provider": "claude", "model": "m1"}],
            }
        },
    ) as there:

        async def breaks(exchange: Exchange) -> None:
            """May have cost something."""
            await exchange.head(200, ("content-type", "text/event-stream"))
            exchange.connection.abort()

        there.server.routes[CHAT] = there.server.routes[MESSAGES] = breaks
        key = await there.key(scopes={"max_cost_micro": most_micro})
        answer = await there.relay.chat(chat_body(max_tokens=16), **key)
        assert answer.status_code >= 500
        assert len(there.bodies()) == attempts
