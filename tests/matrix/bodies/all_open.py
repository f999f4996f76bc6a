"""Every circuit is open."""

from __future__ import annotations

import asyncio

import pytest

from relay.race_plan import RacePlan
from relay.resilience.breaker import Breaker, BreakerState, Permit
from relay.resilience.headroom import Headroom
from tests.fakes.h2_server import answer, stream_chunks
from tests.matrix.bodies.refused import GRPC, HINT_FACES, hint_s, lab_state
from tests.matrix.row import Part, Row, Stage
from tests.matrix.world import CHAT, World, whole_answer, world


async def open_all(here: World) -> int:
    """Five failures in a row of both; returns the generations that took."""
    for server in (here.lab, here.spare):
        server.routes[CHAT] = answer(500)
    for _ in range(5):
        reply = await here.ask("generate")
        assert reply.reason == "UPSTREAM_FAILED", reply
    for provider in ("lab", "spare"):
        assert lab_state(here, provider).breaker.state is BreakerState.OPEN
    return 5


def asked(here: World) -> tuple[int, int]:
    return len(here.lab.requests(CHAT)), len(here.spare.requests(CHAT))


async def fails_fast(stage: Stage) -> None:
    async with world(stage) as here:
        before = await open_all(here)
        count = stage.draw.randint(1, 12)
        faces = [here.face() for _ in range(count)]
        was_asked = asked(here)
        replies = await asyncio.gather(*(here.ask(face) for face in faces))
        for face, reply in zip(faces, replies, strict=True):
            assert reply.reason == "UPSTREAM_FAILED", reply
            assert reply.code == ("14" if face in GRPC else "503")
        # One each, whose circuit would close first; the other is refused without a word to it.
        assert sum(asked(here)) == sum(was_asked) + count
        booked = (await here.booked(before + count))[before:]
        assert {one.state for one in booked} == {"void"}
        reasons = {attempt["reason"] for one in booked for attempt in one.attempts}
        assert reasons <= {"UPSTREAM_FAILED", "BREAKER_OPEN"}
        for provider in ("lab", "spare"):
            assert lab_state(here, provider).limiter.in_flight == 0
            assert lab_state(here, provider).breaker.state is BreakerState.OPEN


async def well_again(stage: Stage) -> None:
    """Why one is asked all the same: nobody waits for an open period where all are ill."""
    async with world(stage) as here:
        before = await open_all(here)
        for server in (here.lab, here.spare):
            server.routes[CHAT] = stream_chunks(whole_answer("One", " two"))
        reply = await here.ask(here.face())
        assert reply.is_clean, reply
        assert reply.text == "One two"
        assert (await here.booked(before + 1))[-1].state == "settled"


async def nobody_may_be_asked(stage: Stage) -> None:
    """By the operator's own limits, which hold whoever is left: refused at once, with a hint."""
    limited = {name: {"rpm": 1} for name in ("lab", "spare")}
    async with world(stage, {"providers": limited}) as here:
        here.lab.routes[CHAT] = stream_chunks(whole_answer("One", " two"))
        assert (await here.ask(here.face())).provider == "lab"
        assert (await here.ask(here.face())).provider == "spare"
        face = stage.draw.choice(HINT_FACES)
        code, told_s = await hint_s(here, face, "pair")
        assert code == ("8" if face in GRPC else "429")
        assert told_s is not None
        assert 0.0 < told_s <= 60.0
        assert asked(here) == (1, 1), "nobody was asked"
        assert [one.state for one in await here.booked(3)] == ["settled", "settled", "void"]


# --- defences -------------------------------------------------------------------------------------


def open_circuits_admit(patch: pytest.MonkeyPatch) -> None:
    """That an open circuit refuses"""
    real = Breaker.permit

    def admits(self: Breaker, now_s: float, *, forced: bool = False) -> Permit | None:
        del forced
        return real(self, now_s, forced=True)

    patch.setattr(Breaker, "permit", admits)


def nobody_is_forced(patch: pytest.MonkeyPatch) -> None:
    """That the last one left is never ejected"""
    patch.setattr(RacePlan, "is_forced", lambda *_: False)


def own_limits_are_passed_over(patch: pytest.MonkeyPatch) -> None:
    """The limits of a provider's row"""
    patch.setattr(Headroom, "own_wait_s", lambda *_: 0.0)


ROWS = (
    Row(
        "U32",
        inject="every circuit is open",
        client="at once what the one says that is asked all the same, UNAVAILABLE; where the"
        " operator's own limits keep everybody away, RESOURCE_EXHAUSTED with a hint",
        accounting="void, nothing stays reserved",
        retry="one upstream a request, whose circuit closes next (the last one left is never"
        " ejected), the others not at all; nothing queues",
        parts=(
            Part("fails_fast", fails_fast, open_circuits_admit),
            Part("well_again", well_again, nobody_is_forced),
            Part("own_limits", nobody_may_be_asked, own_limits_are_passed_over),
        ),
        also=(
            "tests/test_hedging.py::test_the_last_one_is_never_left_alone",
            "tests/test_hedge_faults.py::test_somebody_is_asked_when_all_are_ejected_fallbacks_too",
        ),
    ),
)
