"""A provider that has had enough of us: 429 with and without a hint, and an empty account."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from relay.codecs import anthropic_errors, gemini_errors, openai_errors, retry_hints
from relay.credentials.static import StaticCredential
from relay.emulator.wires.base import FAILURES, Failure
from relay.resilience.breaker import BreakerState, Permit
from relay.resilience.headroom import Headroom
from relay.resilience.limiter import Slot
from tests.fakes.h2_server import Script, ServerStream, answer
from tests.matrix.bodies.refused import (
    GRPC,
    HINT_FACES,
    hint_s,
    keys_shown,
    lab_state,
    now_s,
    refuses,
)
from tests.matrix.bodies.wires import BY_NAME, on, path, sends, spoken
from tests.matrix.row import Part, Row, Stage
from tests.matrix.world import CHAT, WHOLE_MICRO, merged, world
from tests.surfaces.wires import WIRES, ProviderWire

SLOW_DOWN = Failure(429, "rate", "Slow down.")
GEMINI = BY_NAME["gemini"]
BY_HEADER = tuple(wire for wire in WIRES if wire is not GEMINI)
"""Gemini says it in the body, in words of its own."""
SECOND_KEY = "second-key-of-our-own-account-9876543210"
Hint = Callable[[Stage], tuple[ProviderWire, Script, float]]
"""A wire, its 429 with a hint, and what that is once it is clamped, seconds."""


def by_header(stage: Stage, *headers: tuple[str, str]) -> tuple[ProviderWire, Script]:
    wire = stage.draw.choice(BY_HEADER)
    return wire, refuses(wire, SLOW_DOWN, *headers)


def by_body(delay: str) -> tuple[ProviderWire, Script]:
    """Gemini's RetryInfo."""
    told = GEMINI.emulated.error_body(SLOW_DOWN)
    body = re.sub(rb'("retryDelay": ?)"[^"]*"', rb'\1"' + delay.encode() + b'"', told)
    assert delay.encode() in body
    return GEMINI, answer(429, body, [("content-type", "application/json")])


def in_seconds(stage: Stage) -> tuple[ProviderWire, Script, float]:
    seconds = stage.draw.randint(25, 59)
    if stage.draw.random() < 0.3:
        return *by_body(f"{seconds}s"), float(seconds)
    return *by_header(stage, ("retry-after", str(seconds))), float(seconds)


def as_a_date(stage: Stage) -> tuple[ProviderWire, Script, float]:
    """By the provider's own clock, which may be hours off."""
    seconds = stage.draw.randint(25, 59)
    there = datetime.now(UTC) + timedelta(hours=stage.draw.randint(-30, 30))
    headers = (
        ("date", format_datetime(there, usegmt=True)),
        ("retry-after", format_datetime(there + timedelta(seconds=seconds), usegmt=True)),
    )
    return *by_header(stage, *headers), float(seconds)


def in_milliseconds(stage: Stage) -> tuple[ProviderWire, Script, float]:
    """Beside whole seconds, which are coarser."""
    told_ms = stage.draw.randint(25_500, 58_000)
    headers = (("retry-after-ms", str(told_ms)), ("retry-after", str(told_ms // 1000 + 1)))
    return *by_header(stage, *headers), told_ms / 1000


def far_too_long(stage: Stage) -> tuple[ProviderWire, Script, float]:
    told = stage.draw.choice(["1000000000", "1e9", "86400"])
    if stage.draw.random() < 0.3:
        return *by_body("1000000000s"), 60.0
    return *by_header(stage, ("retry-after", told)), 60.0


def negative(stage: Stage) -> tuple[ProviderWire, Script, float]:
    name = stage.draw.choice(["retry-after", "retry-after-ms"])
    return *by_header(stage, (name, stage.draw.choice(["-1", "-60", "-1000000000"]))), 0.0


def hinted(hint: Hint) -> Callable[[Stage], Awaitable[None]]:
    async def play(stage: Stage) -> None:
        wire, script, wanted_s = hint(stage)
        async with world(stage, on(wire)) as here:
            here.lab.routes[path(wire)] = script
            face = stage.draw.choice(HINT_FACES)
            began_s = now_s(here)
            code, told_s = await hint_s(here, face, "alone")
            assert code == ("8" if face in GRPC else "429")
            assert told_s == pytest.approx(wanted_s, abs=0.01), told_s
            state = lab_state(here)
            # It lives: its breaker has nothing against it, nor is it asked for less at once.
            assert state.breaker.state is BreakerState.CLOSED
            assert (state.failed, state.overloaded) == (0, 1)
            assert state.limiter.limit == 100
            waits_s = state.headroom.upstream_wait_s(began_s)
            assert wanted_s <= waits_s <= now_s(here) - began_s + wanted_s + 0.01
            assert state.push_back.admits(now_s(here)) is (wanted_s == 0.0)
            # Who has another place to go is not sent there before its time.
            reply = await here.ask(here.face())
            assert reply.is_clean, reply
            assert (reply.text, reply.provider) == ("spare words", "spare")
            asked = len(here.lab.requests(path(wire)))
            assert asked == (2 if wanted_s == 0.0 else 1)
            first, second = await here.booked(2)
            assert (first.state, second.state) == ("void", "settled")
            assert second.cost_micro == WHOLE_MICRO

    return play


async def no_hint(stage: Stage) -> None:
    wire = stage.draw.choice(BY_HEADER)
    both = [{"provider": name, "model": "m"} for name in ("lab", "spare")]
    async with world(stage, merged(on(wire), {"models": {"duo": {"candidates": both}}})) as here:
        here.lab.routes[path(wire)] = refuses(wire, SLOW_DOWN)
        face = here.face()
        began_s = now_s(here)
        reply = await here.ask(face, "alone")
        assert reply.reason == "UPSTREAM_RATE_LIMITED", reply
        assert reply.code == ("8" if face in GRPC else "429")
        assert reply.retry_after_s is None, "nobody said when"
        state = lab_state(here)
        assert 1.0 <= state.headroom.upstream_wait_s(began_s) <= now_s(here) - began_s + 1.0
        assert state.limiter.limit == 90, "a tenth fewer at once"
        assert state.breaker.state is BreakerState.CLOSED
        for _ in range(stage.draw.randint(1, 3)):
            state.headroom.refused(None, now_s(here))  # its second lasts, however slow we are
            assert (await here.ask(here.face(), "duo")).provider == "spare"
        assert len(here.lab.requests(path(wire))) == 1
        # A fallback is another class of answer: it waits until the candidate has refused again.
        reply = await here.ask(here.face(), "pair")
        assert (reply.provider, reply.attempts) == ("spare", 2)
        booked = await here.booked(len(here.books.rows("SELECT id FROM generations")))
        assert [one.state for one in booked] == ["void", *["settled"] * (len(booked) - 1)]


# --- no money left --------------------------------------------------------------------------------


def empty_account(stage: Stage) -> tuple[ProviderWire, Script]:
    """402, or a 429 whose words say that waiting does not help."""
    kind = stage.draw.choice(["billing", "quota"])
    names = ["openai_chat", "openai_responses", "anthropic_messages"]
    if kind == "billing":
        names.append("ollama")
    wire = BY_NAME[stage.draw.choice(names)]
    return wire, refuses(wire, FAILURES[kind])


async def quota_of_one_key(stage: Stage) -> None:
    wire, script = empty_account(stage)
    async with world(stage, on(wire)) as here:
        here.lab.routes[path(wire)] = script
        face = here.face()
        reply = await here.ask(face, "alone")
        assert reply.reason == "UPSTREAM_QUOTA_EXHAUSTED", reply
        assert reply.code == ("9" if face in GRPC else "429")
        for _ in range(8):
            assert (await here.ask("generate")).provider == "spare"
        # Five in a row, and it is left alone.
        assert len(here.lab.requests(path(wire))) == 5
        assert lab_state(here).breaker.state is BreakerState.OPEN
        booked = await here.booked(9)
        assert [one.state for one in booked] == ["void", *["settled"] * 8]


async def quota_of_two_keys(stage: Stage) -> None:
    wire, script = empty_account(stage)
    clean = sends(wire, spoken(wire, "One", " two").parts)

    async def by_key(stream: ServerStream) -> None:
        (key,) = keys_shown([stream])
        await (clean if key == SECOND_KEY else script)(stream)

    stage.patch.setenv("MATRIX_SECOND_KEY", SECOND_KEY)
    keys = {"api_key": None, "api_keys": ["${MATRIX_KEY}", "${MATRIX_SECOND_KEY}"]}
    more = merged(on(wire), {"providers": {"lab": keys}})
    async with world(stage, more) as here:
        here.lab.routes[path(wire)] = by_key
        for _ in range(3):
            reply = await here.ask(here.face())
            assert reply.is_clean, reply
            assert (reply.text, reply.provider) == ("One two", "lab")
        shown = keys_shown(here.lab.requests(path(wire)))
        assert shown[1:] == [SECOND_KEY] * 3, "asked once with the first, then never again"
        assert len(shown) == 4
        assert SECOND_KEY not in "".join(here.everything)
        assert not here.spare.requests(CHAT)
        booked = await here.booked(3)
        assert [one.state for one in booked] == ["settled"] * 3
        assert [one["state"] for one in booked[0].attempts] == ["free", "actual"]
        assert lab_state(here).breaker.state is BreakerState.CLOSED


# --- defences -------------------------------------------------------------------------------------


def hints_are_not_read(patch: pytest.MonkeyPatch) -> None:
    """The reading of hints"""
    for place in (openai_errors, anthropic_errors, gemini_errors):
        patch.setattr(place, "retry_after_s", lambda *_: None)


def hints_are_not_clamped(patch: pytest.MonkeyPatch) -> None:
    """The bounds of a hint, 0 and 60 s"""
    patch.setattr(retry_hints, "_clamped", lambda seconds: seconds)


def negative_is_a_push_back(patch: pytest.MonkeyPatch) -> None:
    """That a hint below 0 is 0"""
    patch.setattr(retry_hints, "_clamped", lambda seconds: min(seconds, 60.0))


def refusals_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    """That a target that refused is left alone for a while"""
    patch.setattr(Headroom, "refused", lambda *_: None)


def limits_stay(patch: pytest.MonkeyPatch) -> None:
    """That a refusal lowers how many may be in flight, and is kept"""
    patch.setattr(Slot, "dropped", Slot.ignored)


def keys_are_not_quarantined(patch: pytest.MonkeyPatch) -> None:
    """The quarantine of a key that is refused"""
    patch.setattr(StaticCredential, "answered", lambda *_: False)


def failures_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    """The breaker"""
    patch.setattr(Permit, "failure", Permit.ignored)


ROWS = (
    Row(
        "U21",
        inject="429 with a hint: seconds, a date, milliseconds, 10⁹, below 0",
        client="other upstream; else RESOURCE_EXHAUSTED, 429, with the hint, from 0 to 60 s",
        accounting="void",
        retry="by another; the target is left alone until then, its breaker is untouched",
        parts=(
            Part("seconds", hinted(in_seconds), hints_are_not_read),
            Part("date", hinted(as_a_date), hints_are_not_read),
            Part("milliseconds", hinted(in_milliseconds), refusals_are_forgotten),
            Part("too_long", hinted(far_too_long), hints_are_not_clamped),
            Part("negative", hinted(negative), negative_is_a_push_back),
        ),
        also=("tests/codecs/test_retry_hints.py", "tests/resilience/test_headroom.py"),
    ),
    Row(
        "U22",
        inject="429 without a hint; 429 `insufficient_quota`; 402",
        client="other upstream; else 429, with an empty account FAILED_PRECONDITION over gRPC",
        accounting="void",
        retry="left alone for a second, with a tenth fewer at once; a key whose account is empty"
        " for a minute and more, while others serve; a row without another key by its breaker",
        parts=(
            Part("no_hint", no_hint, refusals_are_forgotten),
            Part("no_hint_fewer", no_hint, limits_stay),
            Part("quota", quota_of_one_key, failures_are_forgotten),
            Part("quota_two_keys", quota_of_two_keys, keys_are_not_quarantined),
        ),
        also=("tests/credentials/test_static.py",),
    ),
)
