"""Statuses that are no success: a provider that is ill, and one that is right to refuse."""

from __future__ import annotations

import asyncio

import pytest

from relay import errors, target_state
from relay.codecs import anthropic_errors, gemini_errors, openai_errors
from relay.emulator.wires.base import FAILURES, Failure
from relay.errors import Retry, UpstreamStatus
from relay.race_plan import MIN_FAILOVERS
from relay.resilience.breaker import BreakerState
from relay.resilience.throttle import Retry as RetryTaken
from relay.resilience.throttle import RetryBudget
from tests.fakes.h2_server import H2Server, Script, ServerStream, answer
from tests.fakes.relay_under_test import eventually, provider
from tests.matrix.bodies.refused import GRPC, lab_state, refuses
from tests.matrix.bodies.wires import on, path
from tests.matrix.row import Part, Row, Stage
from tests.matrix.world import CHAT, PRICES, PROVIDER_KEY, WHOLE_MICRO, world
from tests.surfaces.wires import WIRES, ProviderWire

# --- 5xx ------------------------------------------------------------------------------------------

ILL: dict[int, tuple[str, str, int, int]] = {
    500: ("server", "UPSTREAM_FAILED", 503, 14),
    502: ("gateway", "UPSTREAM_FAILED", 503, 14),
    503: ("unavailable", "UPSTREAM_OVERLOADED", 503, 14),
    504: ("timeout", "FIRST_TOKEN_TIMEOUT", 504, 4),
    529: ("overloaded", "UPSTREAM_OVERLOADED", 503, 14),
}
"""By status: the emulator's word, the reason, and the codes of HTTP and gRPC."""
EDGE = "edge-7.internal.example"


def ill(stage: Stage, wire: ProviderWire, status: int) -> Script:
    """The provider's own error, its edge's markup, or nothing, under this status."""
    own = refuses(wire, FAILURES[ILL[status][0]], status=status)
    markup = answer(status, f"<html>{EDGE}</html>".encode(), [("content-type", "text/html")])
    return stage.draw.choice([own, own, markup, answer(status)])


def reason_of(wire: ProviderWire, status: int) -> tuple[str, int, int]:
    """What it is told as."""
    _, reason, http, code = ILL[status]
    return reason, http, code


async def ill_and_spared(stage: Stage) -> None:
    wire, status = stage.draw.choice(WIRES), stage.draw.choice(list(ILL))
    async with world(stage, on(wire)) as here:
        here.lab.routes[path(wire)] = ill(stage, wire, status)
        reply = await here.ask(here.face())
        assert reply.is_clean, reply
        assert (reply.text, reply.provider) == ("spare words", "spare")
        assert EDGE not in reply.everything
        (booked,) = await here.booked(1)
        assert (booked.state, booked.cost_micro) == ("settled", WHOLE_MICRO)
        assert booked.asked == ["lab", "spare"]
        assert [one["state"] for one in booked.attempts] == ["free", "actual"]
        assert booked.attempts[0]["http_status"] == status


async def ill_alone(stage: Stage) -> None:
    status = stage.draw.choice(list(ILL))
    wire = stage.draw.choice([wire for wire in WIRES if status in _own_statuses(wire)])
    reason, http, code = reason_of(wire, status)
    async with world(stage, on(wire)) as here:
        here.lab.routes[path(wire)] = refuses(wire, FAILURES[ILL[status][0]], status=status)
        face = here.face()
        for _ in range(5):
            reply = await here.ask(face, "alone")
            assert reply.reason == reason, reply
            assert reply.code == str(code if face in GRPC else http)
        assert all(one.state == "void" for one in await here.booked(5))
        # 529 says that it lives and has too much to do; so does a 503 that names a time.
        is_ill = status != 529
        state = lab_state(here)
        assert state.breaker.state is (BreakerState.OPEN if is_ill else BreakerState.CLOSED)


def _own_statuses(wire: ProviderWire) -> set[int]:
    """Gemini's and Anthropic's words decide over the number."""
    if wire.name in ("gemini", "anthropic_messages"):
        return {500, 504}
    return set(ILL)


ASKED = 40


async def all_ill_at_once(stage: Stage) -> None:
    """Forty requests in flight, and everybody fails: no storm of retries at the third."""
    status = stage.draw.choice([500, 502, 504])
    async with H2Server(tls=stage.authority.server_context(alpn=("h2",))) as third:
        row = {"ca_file": stage.ca_file, "auth": "none", "prices": PRICES}
        fallbacks = [{"provider": name, "model": "m"} for name in ("spare", "third")]
        lab_only = {"candidates": [{"provider": "lab", "model": "m"}]}
        more = {
            "providers": {"third": provider(third.url, **row)},
            "models": {"trio": {**lab_only, "fallbacks": fallbacks}},
        }
        async with world(stage, more) as here:
            all_here, some_left = asyncio.Event(), asyncio.Event()

            def all_together(server: H2Server) -> Script:
                async def script(stream: ServerStream) -> None:
                    if len(server.requests(CHAT)) == ASKED:
                        all_here.set()
                    await all_here.wait()
                    await answer(status)(stream)

                return script

            async def holds(stream: ServerStream) -> None:
                await some_left.wait()
                await answer(status)(stream)

            async def fails_together(stream: ServerStream) -> None:
                arrived.append(stream)
                if len(arrived) == ASKED:
                    spare_here.set()
                await spare_here.wait()
                await answer(status)(stream)

            arrived: list[ServerStream] = []
            spare_here = asyncio.Event()
            here.lab.routes[CHAT] = all_together(here.lab)
            here.spare.routes[CHAT] = fails_together
            third.routes[CHAT] = holds
            tasks = [asyncio.create_task(here.ask("sse", "trio")) for _ in range(ASKED)]
            try:
                await eventually(
                    lambda: sum(task.done() for task in tasks) + len(third.requests(CHAT)) == ASKED,
                    20.0,
                )
                assert len(third.requests(CHAT)) == MIN_FAILOVERS, "a fifth of them, ten at least"
            finally:
                some_left.set()
                replies = await asyncio.gather(*tasks)
            assert not any(reply.is_clean for reply in replies)
            assert len(here.lab.requests(CHAT)) == len(here.spare.requests(CHAT)) == ASKED
            assert {one.state for one in await here.booked(ASKED)} == {"void"}


# --- 4xx ------------------------------------------------------------------------------------------

RIGHT = ("bad_request", "context", "too_large", "unprocessable")
"""Its kinds of what no other answer can come of."""


async def wrong_request(stage: Stage) -> None:
    wire, kind = stage.draw.choice(WIRES), stage.draw.choice(RIGHT)
    async with world(stage, on(wire)) as here:
        here.lab.routes[path(wire)] = refuses(wire, FAILURES[kind])
        for number in range(1, 8):
            face = here.face()
            reply = await here.ask(face)
            assert reply.reason == "UPSTREAM_REJECTED", reply
            assert reply.code == ("3" if face in GRPC else "400")
            assert FAILURES[kind].message in reply.message
            assert len(here.lab.requests(path(wire))) == number, "asked once each"
        assert not here.spare.requests(CHAT)
        assert {one.state for one in await here.booked(7)} == {"void"}
        state = lab_state(here)
        assert state.breaker.state is BreakerState.CLOSED
        assert (state.failed, state.overloaded) == (0, 0)
        assert state.breaker.share(0.0) == 1.0


async def model_that_is_not_there(stage: Stage) -> None:
    """A 404 is of that provider's list of models: another may have it."""
    wire = stage.draw.choice(WIRES)
    model = stage.draw.choice(["alone", "pair"])
    async with world(stage, on(wire)) as here:
        here.lab.routes[path(wire)] = refuses(wire, FAILURES["not_found"])
        face = here.face()
        reply = await here.ask(face, model)
        (booked,) = await here.booked(1)
        assert booked.attempts[0]["state"] == "free"
        assert booked.attempts[0]["reason"] == "UPSTREAM_MODEL_NOT_FOUND"
        if model == "pair":
            assert (reply.text, reply.provider) == ("spare words", "spare"), reply
            return
        assert reply.reason == "UPSTREAM_MODEL_NOT_FOUND", reply
        assert reply.code == ("5" if face in GRPC else "404")


SECRETS = (
    "sk-live-abcdefgh12345678",
    "AIzaSyA1234567890abcdefghijk",
    "Bearer abcdefghijklmnop",
    "org-abcdefgh12345678",
    "arn:aws:iam::123456789012:user/relay",
    PROVIDER_KEY,
)


async def words_of_the_provider(stage: Stage) -> None:
    """They are passed on, as what can help, and what looks like a key or an account is not."""
    wire = stage.draw.choice(WIRES)
    secrets = stage.draw.sample(SECRETS, 3)
    failure = Failure(
        400, "bad_request", f"Field `top_p` is odd; asked by {' and '.join(secrets)}."
    )
    async with world(stage, on(wire)) as here:
        here.lab.routes[path(wire)] = refuses(wire, failure)
        reply = await here.ask(here.face())
        assert "Field `top_p` is odd; asked by " in reply.message, reply
        for secret in secrets:
            assert secret not in reply.everything, secret
            assert secret.removeprefix("Bearer ") not in reply.everything, secret
        assert len((await here.booked(1))[0].attempts) == 1


# --- defences -------------------------------------------------------------------------------------


def failures_are_final(patch: pytest.MonkeyPatch) -> None:
    """Failing over"""
    init = UpstreamStatus.__init__

    def final(self, *args, **more):  # type: ignore[no-untyped-def]
        init(self, *args, **more)
        self.retry = Retry.NO

    patch.setattr(UpstreamStatus, "__init__", final)


def retries_are_free(patch: pytest.MonkeyPatch) -> None:
    """The budget of retries, a fifth of what is in flight"""

    def take(budget: RetryBudget) -> RetryTaken:
        budget.retries += 1
        return RetryTaken(budget)

    patch.setattr(RetryBudget, "take", take)


def everything_is_retried(patch: pytest.MonkeyPatch) -> None:
    """That a refused request is asked of nobody else"""
    patch.setattr(errors, "_NOT_RETRIED", frozenset())


def every_refusal_counts(patch: pytest.MonkeyPatch) -> None:
    """That a refused request says nothing of its target"""
    patch.setattr(target_state, "_is_the_request", lambda _: False)


def words_are_believed(patch: pytest.MonkeyPatch) -> None:
    """The filter over providers' words"""
    for place in (openai_errors, anthropic_errors, gemini_errors):
        patch.setattr(place, "public_text", lambda text: text)


def breakers_do_not_tell(patch: pytest.MonkeyPatch) -> None:
    """What a failure is: not an overload"""
    patch.setattr(target_state, "looks_dead", lambda _: False)
    patch.setattr(target_state, "_is_the_request", lambda _: True)


ROWS = (
    Row(
        "U23",
        inject="529, 503, 502, 504, 500; with the provider's own error, its edge's markup, nothing",
        client="other upstream; else UNAVAILABLE, 503; of a 504 DEADLINE_EXCEEDED",
        accounting="void",
        retry="yes; of many at once, after the first other upstream, a fifth (ten at least)",
        parts=(
            Part("spared", ill_and_spared, failures_are_final),
            Part("alone", ill_alone, breakers_do_not_tell),
            Part("all_at_once", all_ill_at_once, retries_are_free),
        ),
        also=("tests/test_hedging.py::test_when_all_are_failing_not_everybody_asks_everybody",),
    ),
    Row(
        "U24",
        inject="400, 413, 422, a context that is too long; 404",
        client="INVALID_ARGUMENT, 400, with the provider's words, without keys and accounts; a"
        " model that is not there NOT_FOUND, 404",
        accounting="void",
        retry="never, and no breaker counts it; a model that is not there may be at another",
        parts=(
            Part("refused", wrong_request, everything_is_retried),
            Part("breaker", wrong_request, every_refusal_counts),
            Part("not_found", model_that_is_not_there, failures_are_final),
            Part("words", words_of_the_provider, words_are_believed),
        ),
        also=("tests/codecs/test_openai_errors.py", "tests/test_redaction.py"),
    ),
)
