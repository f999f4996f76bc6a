"""Streams and connections that break (rows U5, U8, U9, U14)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

import relay.generation
import relay.transport.wreq
from relay.attempt_cost import AttemptCost
from relay.content import ResponseInfo
from relay.errors import StreamRefused, StreamReset
from relay.transport.engine import StreamEnd
from tests.fakes.h2_server import (
    CANCEL,
    ENHANCE_YOUR_CALM,
    INTERNAL_ERROR,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    Script,
    cut,
    in_turn,
    reset,
    stream_chunks,
)
from tests.fakes.relay_under_test import Document, chunk
from tests.matrix.links.telling import (
    answered_by_spare,
    broke_off,
    reasons,
    refused,
    state_of,
    story,
)
from tests.matrix.links.weaknesses import nobody_else_is_asked
from tests.matrix.row import Part, Row, Stage
from tests.matrix.world import CHAT, WHOLE_MICRO, Booked, whole_answer, word, world

COLD: Document = {"providers": {"lab": {"warm_connections": 0}}}
ROLE = chunk({"role": "assistant", "content": ""})
RESETS = (CANCEL, INTERNAL_ERROR, PROTOCOL_ERROR, ENHANCE_YOUR_CALM)
"""Of a stream that the provider has begun with."""


def breaks(stage: Stage, *, after: Sequence[bytes] | None = None) -> Script:
    """An RST of the stream, an RST or a FIN of its connection."""
    how = stage.draw.randrange(3)
    if how == 0:
        return reset(stage.draw.choice(RESETS), after=after)
    if how == 1 and after:
        # The RST of a connection drops what its sender's TCP holds back: of one segment, nothing.
        after = [b"".join(after)]
    return cut(after=after, abort=how == 1)


def may_be_billed(booked: Booked) -> None:
    """Its first attempt was seen by the provider, who may want money for it."""
    (first, *_) = booked.attempts
    assert first["state"] == "estimated"
    assert first["cost_micro"] > 0
    assert first["upper_micro"] >= first["cost_micro"]
    assert booked.state == "estimated"


# --- U5 -------------------------------------------------------------------------------------------


async def breaks_before_the_head(stage: Stage) -> None:
    async with world(stage, COLD) as here:
        here.lab.routes[CHAT] = cut(abort=stage.draw.random() < 0.5)
        face = here.face()
        answered_by_spare(await here.ask(face, "pair"))
        refused(await here.ask(face, "alone"), face, "UPSTREAM_RESET", 503)
        saved, lost = await here.booked(2)
        assert [(one["provider"], one["role"]) for one in saved.attempts] == [
            ("lab", "primary"),
            ("spare", "failover"),
        ]
        assert reasons(saved) == ["UPSTREAM_RESET", ""]
        assert len(here.lab.requests(CHAT)) == 2, "once a generation"
        for booked in (saved, lost):
            may_be_billed(booked)
        assert saved.cost_micro == lost.cost_micro + WHOLE_MICRO
        assert state_of(here).failed == 2


def what_breaks_is_free(patch: pytest.MonkeyPatch) -> None:
    """The estimate of what a broken attempt may have cost."""
    estimate = AttemptCost.estimate

    def free(self: AttemptCost, *arguments: Any, **named: Any) -> None:
        estimate(self, *arguments, **named)
        self.record.is_free = True
        self.record.cost = self.record.cost_upper = 0.0

    patch.setattr(AttemptCost, "estimate", free)


# --- U8 -------------------------------------------------------------------------------------------


async def breaks_after_the_head(stage: Stage) -> None:
    """Over a connection that had served: once the head has come, that is no excuse."""
    async with world(stage) as here:
        here.lab.routes[CHAT] = breaks(stage, after=())
        face = here.face()
        answered_by_spare(await here.ask(face, "pair"))
        (booked,) = await here.booked(1)
        assert booked.asked == ["lab", "spare"]
        may_be_billed(booked)
        assert len(here.lab.requests(CHAT)) == 1


async def breaks_before_the_first_word(stage: Stage) -> None:
    async with world(stage) as here:
        here.lab.routes[CHAT] = breaks(stage, after=[ROLE] * stage.draw.randint(1, 3))
        face = here.face()
        answered_by_spare(await here.ask(face, "pair"))
        refused(await here.ask(face, "alone"), face, "UPSTREAM_RESET", 503)
        saved, lost = await here.booked(2)
        assert saved.asked == ["lab", "spare"]
        assert lost.asked == ["lab"]
        may_be_billed(saved)


def a_head_forbids_no_second_try(patch: pytest.MonkeyPatch) -> None:
    """That a response's head rules out a stale connection."""
    mapped = relay.transport.wreq._mapped

    def without(error: Exception, **_: Any) -> Any:
        return mapped(error, headers_received=False, reused=True)

    patch.setattr(relay.transport.wreq, "_mapped", without)
    patch.setattr(relay.transport.wreq, "reset_by_provider", stale)


def anything_commits(patch: pytest.MonkeyPatch) -> None:
    """The gate: nothing is released before the first content."""
    patch.setattr(ResponseInfo, "is_content", True)


# --- U9 -------------------------------------------------------------------------------------------


async def breaks_in_the_middle(stage: Stage) -> None:
    words = [f"{number:03} " for number in range(stage.draw.randint(1, 20))]  # of a token each
    async with world(stage) as here:
        here.lab.routes[CHAT] = breaks(stage, after=[ROLE, *map(word, words)])
        face = here.face()
        broke_off(await here.ask(face), face, "".join(words), "UPSTREAM_RESET", 503)
        (booked,) = await here.booked(1)
        assert booked.state == "estimated"
        assert story(booked) == [("lab", "primary", "estimated")], "never sent again"
        (attempt,) = booked.attempts
        assert attempt["output_tokens"] == len(words)
        assert booked.cost_micro == attempt["prompt_tokens"] + 10 * attempt["output_tokens"]
        assert len(here.lab.requests(CHAT)) == 1
        assert not here.spare.requests(CHAT)


def what_breaks_is_over(patch: pytest.MonkeyPatch) -> None:
    """That a broken stream is no end of its body."""
    mapped = relay.transport.wreq._mapped

    def without(error: Exception, *, headers_received: bool, reused: bool = False) -> Any:
        if headers_received:
            return StopAsyncIteration(), StreamEnd.DONE
        return mapped(error, headers_received=headers_received, reused=reused)

    patch.setattr(relay.transport.wreq, "_mapped", without)


def nothing_is_counted(patch: pytest.MonkeyPatch) -> None:
    """The count of what was released."""
    patch.setattr(relay.generation, "count_bytes", lambda _: 0)


# --- U14 ------------------------------------------------------------------------------------------


async def is_refused_once(stage: Stage) -> None:
    async with world(stage) as here:
        here.lab.routes[CHAT] = in_turn(
            reset(REFUSED_STREAM), stream_chunks(whole_answer("One", " two"))
        )
        reply = await here.ask(here.face())
        assert reply.is_clean, reply
        assert (reply.text, reply.provider) == ("One two", "lab")
        (booked,) = await here.booked(1)
        assert story(booked) == [("lab", "primary", "actual")]
        assert booked.cost_micro == WHOLE_MICRO, "what was refused costs nothing"
        assert len(here.lab.requests(CHAT)) == 2


async def is_refused_always(stage: Stage) -> None:
    async with world(stage) as here:
        here.lab.routes[CHAT] = reset(REFUSED_STREAM)
        face = here.face()
        answered_by_spare(await here.ask(face, "pair"))
        refused(await here.ask(face, "alone"), face, "UPSTREAM_REFUSED_STREAM", 503)
        saved, lost = await here.booked(2)
        assert story(saved) == [("lab", "primary", "free"), ("spare", "failover", "actual")]
        assert saved.cost_micro == WHOLE_MICRO
        assert lost.state == "void"
        assert len(here.lab.open_connections) == 1, "the connection is as good as before"


async def is_reset_otherwise(stage: Stage) -> None:
    """Over a connection that had served, which the provider's own word shows to be sound."""
    async with world(stage) as here:
        here.lab.routes[CHAT] = reset(stage.draw.choice(RESETS))
        face = here.face()
        answered_by_spare(await here.ask(face, "pair"))
        refused(await here.ask(face, "alone"), face, "UPSTREAM_RESET", 503)
        saved, lost = await here.booked(2)
        assert saved.asked == ["lab", "spare"]
        assert lost.asked == ["lab"]
        may_be_billed(saved)
        may_be_billed(lost)
        assert len(here.lab.requests(CHAT)) == 2
        assert state_of(here).failed == 2


def refusals_are_resets(patch: pytest.MonkeyPatch) -> None:
    """That what is refused was not processed."""
    mapped = relay.transport.wreq._mapped

    def without(error: Exception, **named: Any) -> Any:
        failure, how = mapped(error, **named)
        if isinstance(failure, StreamRefused):
            failure = StreamReset(failure.public_message)
        return failure, how

    patch.setattr(relay.transport.wreq, "_mapped", without)


def stale(message: str, headers_received: bool) -> tuple[StreamReset, StreamEnd]:
    return StreamReset(message, reused=True), StreamEnd.BROKEN


def resets_are_stale_connections(patch: pytest.MonkeyPatch) -> None:
    """That a provider who resets a stream has seen it."""
    patch.setattr(relay.transport.wreq, "reset_by_provider", stale)


ROWS = {
    "U5": Row(
        "U5",
        inject="a connection is reset or closed before the head of the answer, on its first "
        "request",
        client="another provider's answer; else UNAVAILABLE / 503 `UPSTREAM_RESET`",
        accounting="the attempt is estimated, since its provider may bill it; the one who answers "
        "settled",
        retry="the next target, each once; the breaker counts it",
        parts=(
            Part("fails_over", breaks_before_the_head, nobody_else_is_asked),
            Part("may_be_billed", breaks_before_the_head, what_breaks_is_free),
        ),
        also=("tests/transport/test_conformance.py::test_broken_before_headers",),
    ),
    "U8": Row(
        "U8",
        inject="the head, then a reset or a close before the first content",
        client="another provider's answer: nothing was released",
        accounting="the attempt estimated; the one who answers settled",
        retry="the next target; never again at the same one",
        parts=(
            Part("head", breaks_after_the_head, a_head_forbids_no_second_try),
            Part("no_content", breaks_before_the_first_word, anything_commits),
        ),
    ),
    "U9": Row(
        "U9",
        inject="a reset or a close after some tokens",
        client="the tokens, then UNAVAILABLE / error event `UPSTREAM_RESET`",
        accounting="estimated: the prompt and what was released",
        retry="never sent again",
        parts=(
            Part("told", breaks_in_the_middle, what_breaks_is_over),
            Part("counted", breaks_in_the_middle, nothing_is_counted),
        ),
        also=("tests/integration/test_adversity.py",),
    ),
    "U14": Row(
        "U14",
        inject="RST_STREAM with REFUSED_STREAM; with CANCEL, INTERNAL_ERROR and the like",
        client="refused: not seen, or another provider's answer; others as U5 and U9",
        accounting="refused: void; others estimated",
        retry="refused: at once on the same connection, then the next target; others: the next "
        "target",
        parts=(
            Part(
                "refused_once",
                is_refused_once,
                undefended="the HTTP engine sends it again by itself",
            ),
            Part("refused_always", is_refused_always, refusals_are_resets),
            Part("others", is_reset_otherwise, resets_are_stale_connections),
        ),
        also=("tests/transport/test_http2.py::test_refused_stream_keeps_the_connection",),
    ),
}
