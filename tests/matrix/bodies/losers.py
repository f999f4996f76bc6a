"""Races: both answer at once, a loser fails, or goes on after it was told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import hyperframe.frame as frames
import pytest
from rtrelay.v1 import GenerateRequest

from relay import race as races
from relay.attempt import Attempt
from relay.attempt_cost import AttemptCost
from relay.resilience.breaker import BreakerState
from tests.fakes.converse_client import start
from tests.fakes.h2_server import CANCEL, H2Server, ServerStream, answer, stream_chunks
from tests.fakes.relay_under_test import Document, chat_body, chunk, eventually
from tests.matrix.bodies.heads import first_tokens_may_take_long
from tests.matrix.bodies.refused import lab_state
from tests.matrix.row import Part, Row, Stage
from tests.matrix.world import CHAT, WHOLE_MICRO, World, whole_answer, word, world

ROLE = chunk({"role": "assistant", "content": ""})
STOPS = ("stops", "used_tokens")
WHOLE_LOSER_MICRO = 1000
"""A loser whose provider bills the whole answer costs more than this: a hundred tokens expected."""


@asynccontextmanager
async def race(stage: Stage, billing: str, **timeouts: int) -> AsyncIterator[World]:
    """A world whose model `raced` asks lab, and spare beside it at once."""
    hedge = {"mode": "active", "delay": 1, "max_extra_requests": 1.0, "max_extra_cost": 10.0}
    both = [{"provider": name, "model": "m"} for name in ("lab", "spare")]
    more: Document = {
        "providers": {name: {"cancel_billing": billing} for name in ("lab", "spare")},
        "models": {"raced": {"candidates": both, "hedge": hedge, "timeouts": timeouts}},
    }
    async with world(stage, more) as here:
        yield here


async def both_are_there(here: World) -> list[ServerStream]:
    return [await server.request(CHAT) for server in (here.lab, here.spare)]


def booked_as_a_loser(attempt: Any, billing: str, least_micro: int = 0) -> None:
    """By the provider's rule: what it had written until it stopped, or all that was to come."""
    assert attempt["state"] == "estimated", attempt
    assert not attempt["is_winner"]
    if billing in STOPS:
        assert least_micro <= attempt["cost_micro"] < WHOLE_LOSER_MICRO, attempt
    else:
        assert attempt["cost_micro"] >= WHOLE_LOSER_MICRO, attempt


async def both_at_once(stage: Stage) -> None:
    billing = stage.draw.choice(["stops", "used_tokens", "full", "unknown"])
    async with race(stage, billing) as here:
        order = [here.lab, here.spare]
        stage.draw.shuffle(order)
        waiting: list[ServerStream] = []
        both = asyncio.Event()

        async def together(stream: ServerStream) -> None:
            waiting.append(stream)
            if len(waiting) == 2:
                both.set()
            await both.wait()
            name = "lab" if stream in here.lab.streams else "spare"
            # All of it in one turn of the loop, of both.
            await stream.send_headers()
            for part in whole_answer(name, " words"):
                await stream.send(part)
            await stream.end()

        for server in order:
            server.routes[CHAT] = together
        reply = await here.ask(here.face(), "raced")
        assert reply.is_clean, reply
        assert reply.text == f"{reply.provider} words", "one answer, and not a piece of the other"
        (booked,) = await here.booked(1)
        winners = [one for one in booked.attempts if one["is_winner"]]
        losers = [one for one in booked.attempts if not one["is_winner"]]
        assert [one["provider"] for one in winners] == [reply.provider]
        assert (winners[0]["state"], winners[0]["cost_micro"]) == ("actual", WHOLE_MICRO)
        assert len(losers) == 1
        booked_as_a_loser(losers[0], billing)
        assert booked.cost_micro == WHOLE_MICRO + losers[0]["cost_micro"]
        for provider in ("lab", "spare"):
            state = lab_state(here, provider)
            assert state.limiter.in_flight == 0
            assert (state.failed, state.breaker.state) == (0, BreakerState.CLOSED)


async def loser_fails(stage: Stage) -> None:
    """In the very turn in which the other answers, or before it."""
    status = stage.draw.choice([500, 503, 429, 400])
    loser, winner = stage.draw.sample(["lab", "spare"], 2)
    async with race(stage, "unknown") as here:
        servers: dict[str, H2Server] = {"lab": here.lab, "spare": here.spare}
        failed = asyncio.Event()

        async def fails(stream: ServerStream) -> None:
            await servers[winner].request(CHAT)
            await answer(status, b"{}")(stream)
            failed.set()

        async def wins(stream: ServerStream) -> None:
            await failed.wait()
            await stream_chunks(whole_answer("One", " two"))(stream)

        servers[loser].routes[CHAT] = fails
        servers[winner].routes[CHAT] = wins
        reply = await here.ask(here.face(), "raced")
        assert reply.is_clean, reply
        assert (reply.text, reply.provider) == ("One two", winner)
        (booked,) = await here.booked(1)
        by_name = {one["provider"]: one for one in booked.attempts}
        assert by_name[winner]["state"] == "actual"
        # Where it had not been heard of when the other won, it is booked as one that was left.
        assert by_name[loser]["state"] in ("free", "estimated")
        if by_name[loser]["reason"]:
            assert by_name[loser]["state"] == "free"
            assert (booked.state, booked.cost_micro) == ("settled", WHOLE_MICRO)


def late_data(stream: ServerStream, text: str) -> bytes:
    return frames.DataFrame(stream.stream_id, word(text)).serialize()


async def answers_after_the_cancel(stage: Stage) -> None:
    """Its stream was reset, and its words come all the same."""
    billing = stage.draw.choice(["stops", "unknown"])
    count = stage.draw.randint(1, 200)
    async with race(stage, billing) as here:

        async def thinks(stream: ServerStream) -> None:
            await stream.send_headers()
            await stream.send(ROLE)
            await stream.hang()

        here.lab.routes[CHAT] = thinks
        reply = await here.ask(here.face(), "raced")
        assert (reply.text, reply.provider) == ("spare words", "spare"), reply
        (stream,) = here.lab.requests(CHAT)
        await here.lab.until(lambda: stream.reset_code == CANCEL)
        stream.connection._write(b"".join(late_data(stream, "too late") for _ in range(count)))
        here.lab.routes[CHAT] = stream_chunks(whole_answer("One", " two"))
        again = await here.ask(here.face(), "alone")
        assert again.text == "One two", "and nothing of the late words"
        assert len(here.lab.connections) == 1, "it is dropped, and its connection serves on"
        assert "too late" not in "".join(here.everything)
        first, second = await here.booked(2)
        assert second.state == "settled"
        (loser,) = [one for one in first.attempts if not one["is_winner"]]
        booked_as_a_loser(loser, billing)


# --- after a cancel -------------------------------------------------------------------------------


async def goes_on_after_we_left(stage: Stage) -> None:
    """The client hangs up in mid-answer; the provider writes on, whatever it is told."""
    billing = stage.draw.choice(["stops", "full", "unknown"])
    words = stage.draw.randint(1, 20)
    door = stage.draw.choice(["sse", "generate", "converse"])
    async with world(stage, {"providers": {"lab": {"cancel_billing": billing}}}) as here:

        async def speaks(stream: ServerStream) -> None:
            await stream.send_headers()
            for number in range(words):
                await stream.send(word(f"word{number:03} "))
            await stream.hang()

        here.lab.routes[CHAT] = speaks
        await leave_after(here, door, f"word{words - 1:03} ")
        (stream,) = here.lab.requests(CHAT)
        await here.lab.until(lambda: stream.reset_code == CANCEL)
        late = b"".join(late_data(stream, f"late{number}") for number in range(300))
        stream.connection._write(late)
        (booked,) = await here.booked(1)
        assert booked.row["reason"] == "CLIENT_CANCELLED"
        assert booked.state == "estimated"
        (attempt,) = booked.attempts
        assert attempt["output_tokens"] == 2 * words, "of four letters each"
        assert attempt["upper_micro"] >= 10 * 100, "and what it may cost if they go on"
        assert lab_state(here).limiter.in_flight == 0, "the slot is free"
        here.lab.routes[CHAT] = stream_chunks(whole_answer("One", " two"))
        assert (await here.ask(here.face(), "alone")).text == "One two"
        assert len(here.lab.connections) == 1
        assert "late" not in "".join(here.everything)


async def leave_after(here: World, door: str, last: str) -> None:
    """Read up to these words, then go without a word."""
    if door == "converse":
        async with here.relay.talk() as talk:
            await talk.start("g", model="alone")
            await talk.until(lambda: last in talk.answer("g").text)
            await talk.cancel("g")
            await talk.ended("g")
            await talk.half_close()
            await talk.over()
        return
    if door == "generate":
        seen = ""
        call = here.relay.stub.Generate(
            GenerateRequest(start=start("g", "alone")),
            metadata=list(here.relay._metadata.items()),
            timeout=10,
        )
        async for frame in call:
            seen += frame.delta.text if frame.HasField("delta") else ""
            if last in seen:
                call.cancel()
                break
        return
    body = chat_body("alone")
    async with here.relay.http.stream("POST", "/v1/chat/completions", json=body) as response:
        seen = ""
        async for text in response.aiter_text():
            seen += text
            if last in seen:
                break


FIRST_TOKEN_MS = 1500


async def runs_on_within_bounds(stage: Stage) -> None:
    """Billed in full anyhow, a loser is heard until its first word: not for ever, not beyond."""
    speaks = stage.draw.random() < 0.5
    async with race(stage, "full", first_token_ms=FIRST_TOKEN_MS) as here:
        won = asyncio.Event()

        async def thinks(stream: ServerStream) -> None:
            await stream.send_headers()
            await stream.send(ROLE)
            await won.wait()
            if speaks:
                await stream.send(word("too late"))
            await stream.hang()

        here.lab.routes[CHAT] = thinks
        reply = await here.ask(here.face(), "raced")
        assert (reply.text, reply.provider) == ("spare words", "spare"), reply
        (stream,) = here.lab.requests(CHAT)
        assert stream.reset_code is None, "it runs on"
        assert len(here.relay.worker.services.reaper) >= 1
        won.set()
        await here.lab.until(lambda: stream.reset_code == CANCEL)
        await eventually(lambda: not len(here.relay.worker.services.reaper))
        (booked,) = await here.booked(1)
        (loser,) = [one for one in booked.attempts if not one["is_winner"]]
        booked_as_a_loser(loser, "full")
        assert lab_state(here).limiter.in_flight == 0, "the slot is free"
        assert lab_state(here).breaker.state is BreakerState.CLOSED
        assert "too late" not in "".join(here.everything)


# --- defences -------------------------------------------------------------------------------------


def losers_cost_nothing(patch: pytest.MonkeyPatch) -> None:
    """That a loser is paid for"""
    real = AttemptCost.estimate

    def free(self: AttemptCost, *args: Any, **more: Any) -> None:
        real(self, *args, **more)
        self.record.is_free = True

    patch.setattr(AttemptCost, "estimate", free)


def failures_win(patch: pytest.MonkeyPatch) -> None:
    """That who fails does not end a race while the other lives"""
    patch.setattr(races._Race, "_ready", _failed_or_ready(races._Race._ready))


def _failed_or_ready(ready: Any) -> Any:
    def first_done(self: Any) -> Any:
        for task in self._running:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error
        return ready(self)

    return first_done


def losers_go_on(patch: pytest.MonkeyPatch) -> None:
    """That a loser is stopped"""

    def lose(self: Attempt) -> bool:
        self.record.is_loser = True
        return True

    patch.setattr(Attempt, "lose", lose)


def nobody_is_reset(patch: pytest.MonkeyPatch) -> None:
    """That who is left is reset"""

    def keeps(self: Attempt) -> None:
        self._rest, self._queued = b"", ()
        _KEPT.append(self._stream)
        self._stream = None

    patch.setattr(Attempt, "_release", keeps)


_KEPT: list[object] = []
"""Streams that nobody may collect: that would reset them."""

ROWS = (
    Row(
        "U30",
        inject="both of a race answer in one turn; a loser fails; it answers after it was stopped",
        client="one answer, whole; late words are dropped, on a connection that serves on",
        accounting="the winner settled; the loser estimated by its provider's rule"
        " (`cancel_billing`), one that failed void",
        retry="nothing; a loser counts for no breaker",
        parts=(
            Part("one_turn", both_at_once, losers_cost_nothing),
            Part("loser_fails", loser_fails, failures_win),
            Part("late_words", answers_after_the_cancel, losers_go_on),
        ),
        also=("tests/test_race_properties.py", "tests/integration/test_hedging.py"),
    ),
    Row(
        "U31",
        inject="a provider that writes on after our cancel",
        client="gone already",
        accounting="estimated by what was heard, with the most that it can be beside it. Nothing is"
        " drained for its usage: a loser that is billed in full is heard until its first word, no"
        " longer than a first token may take",
        retry="nothing; reset at once, the slot is free, late bytes are dropped",
        parts=(
            Part("client_left", goes_on_after_we_left, nobody_is_reset),
            Part("runs_on", runs_on_within_bounds, first_tokens_may_take_long),
        ),
        also=(
            "tests/integration/test_cancels.py",
            "tests/test_hedging.py::test_a_loser_that_is_paid_in_full_runs_to_its_first_word",
            "tests/test_hedge_faults.py::test_losers_that_run_on_end_with_the_worker",
        ),
    ),
)
