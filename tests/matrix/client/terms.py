"""How long, how often, for how much: deadlines, repeats, the edge of a budget (rows C14 to C16)."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from typing import Any

import pytest

import relay.attempt
import relay.generation
from relay.frontends.kept_answers import KeptAnswers
from relay.governance.bounds import MESSAGE_TOKENS, REQUEST_TOKENS
from relay.store.sqlite_books import Books
from tests.fakes.converse_client import reason_of, start, status_of
from tests.fakes.h2_server import CANCEL, ServerStream, hang, stream_chunks
from tests.fakes.relay_under_test import chat_body, eventually
from tests.matrix.client.raw import Frames, framed, grpc_headers, request_bytes
from tests.matrix.row import Part, Row, Stage
from tests.matrix.world import CHAT, World, whole_answer, word, world

TEN_YEARS_MS = 10 * 365 * 86_400_000


async def times_of_requests(stage: Stage) -> None:
    """`x-relay-total-ms`: none, one, a day, ten years."""
    async with world(stage, total_ms=60_000) as here:
        here.lab.routes[CHAT] = hang()
        total_ms = stage.draw.choice((1, 40, 150))
        for body in (chat_body("alone", stream=False), chat_body("alone")):
            answer = await here.relay.chat(body, x_relay_total_ms=str(total_ms))
            error = answer.json()["error"]
            assert (answer.status_code, error["x_relay"]["reason"]) == (504, "DEADLINE_EXCEEDED")
        for wrong in ("0", "-1", "soon", str(TEN_YEARS_MS)):
            answer = await here.relay.chat(chat_body("alone"), x_relay_total_ms=wrong)
            assert answer.status_code == 400
            assert answer.json()["error"]["param"] == "x-relay-total-ms"
        streams = here.lab.requests(CHAT)
        await here.lab.until(lambda: all(one.reset_code == CANCEL for one in streams))
        await here.quiet()
        # Of a millisecond there may be no row at all: it was over before anything was put aside.
        assert set(here.books.check()) <= {"void", "estimated"}
        attempts = here.books.rows("SELECT * FROM attempts")
        took_us = [one["ended_us"] - one["started_us"] for one in attempts]
        # Of two the shorter: a machine may be busy once.
        assert not took_us or min(took_us) <= total_ms * 1000 + 250_000, "outlived its request"


async def times_of_models(stage: Stage) -> None:
    """Who names no time has the model's; who names ten years too."""
    async with world(stage, total_ms=200) as here:
        here.lab.routes[CHAT] = hang()
        face = here.face()
        reply = await here.ask(face, "alone")
        assert reply.reason == "ATTEMPT_TIMEOUT", reply
        async with Frames(here.relay.worker.grpc_port) as client:
            head = grpc_headers(here, ("grpc-timeout", "87600H"))
            rpc = await client.over(client.call(head, framed(request_bytes())))
            assert rpc.code in (4, 14), rpc
        await here.booked(2)


async def deadlines_of_calls(stage: Stage) -> None:
    """gRPC's own, of a microsecond to some milliseconds: over before anything is put aside."""
    text = stage.draw.choice(("1n", "1u", "1m", "30m"))
    async with world(stage) as here:
        here.lab.routes[CHAT] = hang()
        async with Frames(here.relay.worker.grpc_port) as client:
            head = grpc_headers(here, ("grpc-timeout", text))
            rpc = await client.over(client.call(head, framed(request_bytes())))
            assert rpc.code == 4 or rpc.reset_code is not None, rpc
        await here.quiet()
        for stream in here.lab.requests(CHAT):
            assert stream.reset_code == CANCEL
        if not here.lab.requests(CHAT):
            assert not here.books.check()["settled"]


class _Never:
    """A timer that does not fire."""

    def __init__(self, *_: Any) -> None:
        pass

    def stop(self) -> None:
        pass


def requests_have_no_time(patch: pytest.MonkeyPatch) -> None:
    """That a request's own time ends it."""
    patch.setattr(relay.generation, "Timer", _Never)


def models_have_no_time(patch: pytest.MonkeyPatch) -> None:
    """That a model's time ends an attempt."""
    patch.setattr(relay.attempt, "Timer", _Never)


# --- C15 --------------------------------------------------------------------------------------


async def repeats(stage: Stage) -> None:
    async with world(stage) as here:
        gate = asyncio.Event()

        async def held(stream: ServerStream) -> None:
            await stream.send_headers()
            await stream.send(word("One"))
            await gate.wait()
            for piece in whole_answer(" two")[1:]:
                await stream.send(piece)
            await stream.end()

        here.lab.routes[CHAT] = held
        body = chat_body("alone", stream=stage.draw.random() < 0.5)
        name = stage.draw.choice(("idempotency_key", "x_relay_idempotency_key"))
        key = {name: "order-7"}
        first = asyncio.create_task(here.relay.chat(body, **key))
        await here.lab.request(CHAT)
        twin = await here.relay.chat(body, **key)
        assert (twin.status_code, twin.headers.get("retry-after")) == (409, "1")
        gate.set()
        answer = await first
        again = await here.relay.chat(body, **key)
        assert (answer.status_code, again.status_code) == (200, 200)
        assert answer.content == again.content
        assert again.headers["idempotent-replayed"] == "true"
        other = await here.relay.chat({**body, "seed": 7}, **key)
        assert other.status_code == 400
        assert other.json()["error"]["param"] == "idempotency-key"
        (booked,) = await here.booked(1)
        assert (booked.state, booked.cost_micro) == ("settled", 200), "charged once"
        # Of another team the same words are another request.
        _, stranger = here.rows.key(here.rows.team(here.rows.organisation()))
        access = here.relay.worker.accounts.access
        assert access is not None
        assert await access.sync.look()
        theirs = await here.relay.chat(body, authorization=f"Bearer {stranger}", **key)
        assert "idempotent-replayed" not in theirs.headers
        assert len(here.lab.requests(CHAT)) == 2
        await here.booked(2)


def every_request_is_new(patch: pytest.MonkeyPatch) -> None:
    """That an answer is kept under its key."""
    claim, numbers = KeptAnswers.claim, itertools.count()

    def claims(kept: KeptAnswers, tenant: str, key: str, digest: bytes, send: Any) -> Any:
        return claim(kept, tenant, f"{key}{next(numbers)}", digest, send)

    patch.setattr(KeptAnswers, "claim", claims)


# --- C16 --------------------------------------------------------------------------------------

MANY = 60
"""Two hundred on several workers and machines: `test_budget_edge.py`."""
RESERVE_MICRO = REQUEST_TOKENS + MESSAGE_TOKENS + len("Hello") + 10 * 100
"""What a question of this file has put aside for it."""


async def at_the_edge_of_a_budget(stage: Stage) -> None:
    worth = stage.draw.randint(3, 20)
    limit_micro = worth * RESERVE_MICRO + stage.draw.randrange(RESERVE_MICRO)
    gate, told = asyncio.Event(), Counter[str]()
    async with world(stage, limit_micro=limit_micro) as here:

        async def held(stream: ServerStream) -> None:
            await gate.wait()
            await stream_chunks(whole_answer("fine"))(stream)

        here.lab.routes[CHAT] = held
        asking = [asyncio.create_task(_ask(here, number, told)) for number in range(MANY)]
        try:
            await eventually(lambda: told.total() >= MANY - worth, 20)
            assert told == {"refused": MANY - worth}
            assert len(here.lab.requests(CHAT)) == worth
            assert here.books.left_micro(here.budget_id) >= 0
        finally:
            gate.set()
            await asyncio.gather(*asking)
        assert told == {"refused": MANY - worth, "fine": worth}
        for booked in await here.booked(worth):
            assert (booked.state, booked.cost_micro) == ("settled", 200)
        assert here.books.left_micro(here.budget_id) == limit_micro - worth * 200


async def _ask(here: World, number: int, told: Counter[str]) -> None:
    if number % 2:
        result = await here.relay.generate(start("g", "alone"))
        if result.error is None:
            told[result.text] += 1
            return
        status = status_of(result.error)
        assert (status.code, reason_of(status)) == (8, "BUDGET_EXCEEDED")
        told["refused"] += 1
        return
    answer = await here.relay.chat(chat_body("alone", stream=False))
    if answer.status_code == 200:
        told[answer.json()["choices"][0]["message"]["content"]] += 1
        return
    assert answer.status_code == 429, answer.text
    assert answer.headers["x-should-retry"] == "false"
    assert answer.json()["error"]["x_relay"]["reason"] == "BUDGET_EXCEEDED"
    told["refused"] += 1


def everything_is_affordable(patch: pytest.MonkeyPatch) -> None:
    """That what is put aside must be left."""
    patch.setattr(Books, "_affordable", lambda _, __, amounts: amounts[0])


ROWS = (
    Row(
        "C14",
        inject="deadlines of none, a nanosecond, a millisecond, ten years",
        client="the smaller of the request's and the model's time: DEADLINE_EXCEEDED, HTTP 504; a"
        " time that is none is INVALID_ARGUMENT",
        accounting="void, or estimated where a provider was asked",
        retry="no attempt outlives its request",
        parts=(
            Part("requests", times_of_requests, requests_have_no_time),
            Part("models", times_of_models, models_have_no_time),
            Part(
                "calls",
                deadlines_of_calls,
                undefended="grpc's core ends a call at its deadline by itself",
            ),
        ),
    ),
    Row(
        "C15",
        inject="an idempotency key again, at the same time, with another body, of another team",
        client="the kept answer; HTTP 409; INVALID_ARGUMENT; an answer of their own",
        accounting="charged once",
        retry="a twin may wait a second",
        parts=(Part("http", repeats, every_request_is_new),),
        also=("tests/integration/test_idempotency.py", "tests/frontends/test_kept_answers.py"),
    ),
    Row(
        "C16",
        inject="60 and 200 at once where a budget ends; at the edge of a limit's window",
        client="as many are let in as it covers; the rest `BUDGET_EXCEEDED`, HTTP 429 with"
        " `x-should-retry: false`",
        accounting="the sum never exceeds the limit; what is left is never negative",
        retry="not worth it",
        parts=(Part("budget", at_the_edge_of_a_budget, everything_is_affordable, timeout_s=60),),
        also=("tests/integration/test_budget_edge.py", "tests/integration/test_rate_limits.py"),
    ),
)
