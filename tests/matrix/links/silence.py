"""Providers that say nothing, or nothing that matters (rows U10, U11, U12)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

import relay.attempt
import relay.generation
from relay.codecs.openai_chat import OpenAIChatCodec
from relay.content import Events, TextDelta
from relay.deadline import Scope, Timer, Watchdog
from relay.errors import RelayError
from relay.race_plan import RacePlan
from tests.fakes.askers import ask_sse
from tests.fakes.h2_server import CANCEL, INTERNAL_ERROR, Script, ServerStream, hang, stream_chunks
from tests.fakes.relay_under_test import chunk
from tests.matrix.links.telling import (
    DEADLINE,
    answered_by_spare,
    broke_off,
    comes_true,
    model,
    reasons,
    refused,
)
from tests.matrix.row import Part, Row, Stage
from tests.matrix.world import CHAT, WHOLE_MICRO, World, word, world

LIMIT_MS = 400
LATE_S = 2.0
ROLE = chunk({"role": "assistant", "content": ""})


def begins(stage: Stage) -> Script:
    """Nothing comes, or a head, or a head and a role, and then nothing more."""
    has_head, has_role = stage.draw.choice(((False, False), (True, False), (True, True)))

    async def script(stream: ServerStream) -> None:
        if has_head:
            await stream.send_headers()
        if has_role:
            await stream.send(ROLE)

    return script


async def all_left(here: World) -> None:
    """The provider was told that nobody waits any more."""
    streams = here.lab.requests(CHAT)
    await here.lab.until(lambda: all(stream.reset_code == CANCEL for stream in streams))


# --- U10 ------------------------------------------------------------------------------------------


async def first_token_is_late(stage: Stage) -> None:
    begin = begins(stage)
    async with world(stage, first_token_ms=LIMIT_MS) as here:

        async def late(stream: ServerStream) -> None:
            """It ends the wait itself if nobody else is asked meanwhile."""
            await begin(stream)
            if await comes_true(lambda: here.spare.requests(CHAT), LATE_S):
                return
            stream.reset(INTERNAL_ERROR)  # or whatever ends the wait

        here.lab.routes[CHAT] = late
        face = here.face()
        answered_by_spare(await here.ask(face, "pair"))
        (saved,) = await here.booked(1)
        assert saved.asked == ["lab", "spare"]
        assert reasons(saved) == ["FIRST_TOKEN_TIMEOUT", ""]
        here.lab.routes[CHAT] = begin
        refused(await here.ask(face, "alone"), face, "FIRST_TOKEN_TIMEOUT", 504, DEADLINE)
        await all_left(here)
        _, lost = await here.booked(2)
        assert reasons(lost) == ["FIRST_TOKEN_TIMEOUT"]
        assert saved.state == lost.state == "estimated", "the prompt was read"


async def second_is_asked_beside(stage: Stage) -> None:
    billing = stage.draw.choice(("stops", "used_tokens", "unknown"))
    hedge = {
        "mode": "active",
        "delay": stage.draw.choice((50, 150)),
        "max_extra_requests": 1.0,
        "max_extra_cost": 10.0,
    }
    both = {**model("lab"), "hedge": hedge, "timeouts": {"first_token_ms": 2000}}
    both["candidates"].append({"provider": "spare", "model": "m"})
    more = {"models": {"both": both}, "providers": {"lab": {"cancel_billing": billing}}}
    async with world(stage, more) as here:
        here.lab.routes[CHAT] = begins(stage)
        answered_by_spare(await here.ask(here.face(), "both"))
        await all_left(here)
        (booked,) = await here.booked(1)
        lab, spare = booked.attempts
        assert (lab["provider"], lab["role"], lab["outcome"]) == ("lab", "primary", "ignored")
        assert (spare["provider"], spare["role"], spare["state"]) == ("spare", "hedge", "actual")
        assert spare["cost_micro"] == WHOLE_MICRO
        assert lab["state"] == "estimated"
        prompt_micro = lab["prompt_tokens"]
        if billing == "unknown":
            assert lab["cost_micro"] > prompt_micro
        else:
            assert lab["cost_micro"] == prompt_micro


async def last_has_what_is_left(stage: Stage) -> None:
    """Of the request's own time, which ends before the limit of a second attempt."""
    async with world(stage, first_token_ms=LIMIT_MS) as here:
        here.lab.routes[CHAT] = begins(stage)
        here.spare.routes[CHAT] = hang()
        reply = await ask_sse(here.relay, "pair", x_relay_total_ms=str(LIMIT_MS * 8 // 5))
        refused(reply, "sse", "DEADLINE_EXCEEDED", 504)
        await all_left(here)
        (booked,) = await here.booked(1)
        assert booked.asked == ["lab", "spare"]
        assert booked.state == "estimated"


def later(scope: Scope, delay_s: float | None, make: Callable[[], RelayError]) -> Timer:
    return Timer(scope, None if delay_s is None else delay_s + LATE_S + 1, make)


def first_tokens_are_waited_for(patch: pytest.MonkeyPatch) -> None:
    """The limit of the first token."""
    patch.setattr(relay.attempt, "Timer", later)


def nobody_hedges(patch: pytest.MonkeyPatch) -> None:
    """The hedge."""
    patch.setattr(RacePlan, "may_hedge", lambda *_: False)


def requests_have_no_deadline(patch: pytest.MonkeyPatch) -> None:
    """The deadline of the request."""
    patch.setattr(relay.generation, "Timer", later)


# --- U11, U12 -------------------------------------------------------------------------------------


async def stalls(stage: Stage) -> None:
    words = [f"{number:03} " for number in range(stage.draw.randint(1, 20))]
    script = stream_chunks([ROLE, *map(word, words)], end=False)
    await ends_as_stalled(stage, script, words)


async def comments_only(stage: Stage) -> None:
    words = ["One"] * stage.draw.randint(1, 3)
    comment = stage.draw.choice((b":\n\n", b": .\n", b": still here\n\n"))
    await ends_as_stalled(stage, trickle(comment, *words), words)


async def drips(stage: Stage) -> None:
    """An event that never ends, byte by byte."""
    words = ["One"] * stage.draw.randint(1, 3)
    begun = b'data: {"choices":[{"index":0,"delta":{"content":"'
    await ends_as_stalled(stage, trickle(b"x", *words, begun=begun), words)


def trickle(again: bytes, *words: str, begun: bytes = b"") -> Script:
    async def script(stream: ServerStream) -> None:
        await stream.send_headers()
        for text in words:
            await stream.send(word(text))
        if begun:
            await stream.send(begun)
        while True:
            await stream.send(again)
            await asyncio.sleep(LIMIT_MS / 1000 / 10)

    return script


async def ends_as_stalled(stage: Stage, script: Script, words: list[str]) -> None:
    # The total is there so that it ends at all where the rest does not work.
    async with world(stage, inter_token_ms=LIMIT_MS, total_ms=3000) as here:
        here.lab.routes[CHAT] = script
        face = here.face()
        reply = await here.ask(face)
        broke_off(reply, face, "".join(words), "STREAM_STALLED", 504, DEADLINE)
        await all_left(here)
        (booked,) = await here.booked(1)
        assert booked.state == "estimated"
        assert booked.asked == ["lab"], "never sent again"
        assert booked.attempts[0]["output_tokens"] == -(-len("".join(words)) // 4)
        assert not here.spare.requests(CHAT)


async def nothing_but_trickle(stage: Stage) -> None:
    """From the first on: the limit of the first token."""
    begun = stage.draw.choice((b"", b'data: {"choices":[{"index":0,"delta":{"content":"'))
    script = trickle(b"x" if begun else b": still here\n\n", begun=begun)
    async with world(stage, first_token_ms=LIMIT_MS, total_ms=3000) as here:
        here.lab.routes[CHAT] = script
        answered_by_spare(await here.ask(here.face(), "pair"))
        await all_left(here)
        (booked,) = await here.booked(1)
        assert booked.asked == ["lab", "spare"]
        assert reasons(booked) == ["FIRST_TOKEN_TIMEOUT", ""]


def silence_is_waited_out(patch: pytest.MonkeyPatch) -> None:
    """The limit of silence between two events."""
    patch.setattr(Watchdog, "_look", lambda *_: None)


def all_bytes_are_progress(patch: pytest.MonkeyPatch) -> None:
    """That bytes which complete no event are no progress."""
    feed = OpenAIChatCodec.feed

    def without(self: OpenAIChatCodec, chunk: bytes | memoryview) -> Events:
        return feed(self, chunk) or [TextDelta("")]

    patch.setattr(OpenAIChatCodec, "feed", without)


ROWS = {
    "U10": Row(
        "U10",
        inject="silence before the first token: no head, a head alone, a role alone",
        client="another provider's answer, after the hedge's delay or the limit of the first "
        "token; else DEADLINE_EXCEEDED / 504 `FIRST_TOKEN_TIMEOUT`",
        accounting="estimated, by what the provider is known to bill for what is cancelled",
        retry="a hedge beside it, or the next target; the last one within what is left of the "
        "request's own time",
        parts=(
            Part("cut", first_token_is_late, first_tokens_are_waited_for),
            Part("hedged", second_is_asked_beside, nobody_hedges),
            Part("deadline", last_has_what_is_left, requests_have_no_deadline),
        ),
        also=(
            "tests/integration/test_hedging.py",
            "tests/integration/test_commit_headers.py",
        ),
    ),
    "U11": Row(
        "U11",
        inject="silence after some tokens",
        client="the tokens, then DEADLINE_EXCEEDED / error event `STREAM_STALLED`",
        accounting="estimated: the prompt and what was released",
        retry="never sent again",
        parts=(Part("stall", stalls, silence_is_waited_out),),
        also=("tests/integration/test_adversity.py",),
    ),
    "U12": Row(
        "U12",
        inject="a slow drip: an event byte by byte, or nothing but comments",
        client="as U11, and before the first content as U10: neither is progress",
        accounting="estimated",
        retry="not after the first content",
        parts=(
            Part("comments", comments_only, all_bytes_are_progress),
            Part("drip", drips, all_bytes_are_progress),
            Part("before_content", nothing_but_trickle, all_bytes_are_progress),
        ),
    ),
}
