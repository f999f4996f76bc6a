"""Limits of a caller at a whole worker: what clients of each surface are told of them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import grpc
import openai
import pytest
from rtrelay.v1 import GenerateRequest

from relay.governance.charges import (
    ChargeBook,
    Grant,
    Payer,
    limit_reached,
    rate_state,
    target_limited,
)
from relay.governance.ledger import Admitted, Asked, NullLedger, RateState
from relay.governance.limits import KeyLimits, Limits
from relay.outcome import AttemptRecord, GenerationEnd
from relay.routing.target import Target
from relay.store.limit_store import LimitSpent
from relay.store.memory_limits import MemoryLimits
from tests.fakes.converse_client import details_of, start
from tests.fakes.h2_server import H2Server, stream_chunks
from tests.fakes.relay_under_test import (
    RelayUnderTest,
    answer_chunks,
    chat_body,
    provider,
    relay_under_test,
)

pytestmark = pytest.mark.sockets

BODY = {"model": "fast", "max_tokens": 50, "messages": [{"role": "user", "content": "Hello"}]}


def now_us() -> int:
    return time.time_ns() // 1000


class Entry:
    """An account that counts limits alone."""

    def __init__(self, ledger: Limiting, grant: Grant) -> None:
        self._ledger = ledger
        self._grant = grant
        self._attempts: list[Grant] = []

    @property
    def rate_state(self) -> RateState | None:
        return rate_state(self._grant.taken)

    def started(self, record: AttemptRecord, target: Target) -> None:
        ledger = self._ledger
        charges = ledger.book.of_attempt(target.endpoint.provider, 10, 50)
        if charges is not None:
            try:
                taken = ledger.store.take_nowait(charges.all, now_us())
            except LimitSpent as error:
                raise target_limited(error) from None
            self._attempts.append(Grant(ledger.store, charges, taken))

    async def durable(self) -> None:
        pass

    def settle(self, end: GenerationEnd) -> None:
        usage = end.usage
        self._grant.settle(
            usage.prompt_tokens if usage else None,
            usage.completion_tokens if usage else None,
            now_us(),
        )
        for grant in self._attempts:
            grant.settle(10, 5, now_us())

    async def booked(self) -> None:
        pass


class Limiting(NullLedger):
    """A ledger that admits by limits alone."""

    def __init__(self, limits: Limits, **providers: Limits) -> None:
        super().__init__()
        self.book = ChargeBook(KeyLimits(limits), providers=providers)
        self.store = MemoryLimits()

    async def admit(self, asked: Asked) -> Admitted:
        request = asked.request
        route = asked.catalog.resolve(request.model)
        charges = self.book.of_generation(Payer("k"), request.model, asked.prompt_tokens, 50)
        try:
            taken = self.store.take_nowait(charges.all, now_us())
        except LimitSpent as error:
            raise limit_reached(error) from None
        return Admitted(request, route, Entry(self, Grant(self.store, charges, taken)))


@pytest.fixture
async def relay(upstream: H2Server, ca_file: str) -> AsyncIterator[RelayUnderTest]:
    upstream.default = stream_chunks(answer_chunks("Hi"))
    document = {
        "providers": {
            "lab": provider(upstream.url, ca_file=ca_file),
            "other": provider(upstream.url, ca_file=ca_file),
        },
        "models": {
            "fast": {"candidates": [{"provider": "lab", "model": "m"}]},
            "two": {
                "candidates": [
                    {"provider": "lab", "model": "m"},
                    {"provider": "other", "model": "m"},
                ]
            },
        },
    }
    async with relay_under_test(document) as running:
        running.worker.services.ledger = Limiting(
            Limits(rpm=3, input_tpm=100_000, output_tpm=1000, generations=2)
        )
        yield running


async def use_up(relay: RelayUnderTest) -> None:
    for _ in range(3):
        assert (await relay.chat({**BODY, "stream": False})).status_code == 200


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_openais_clients_see_where_they_stand(
    relay: RelayUnderTest, is_streamed: bool
) -> None:
    body = chat_body(max_tokens=50) if is_streamed else BODY
    first, second = await relay.chat(body), await relay.chat(body)
    named = {
        name: value for name, value in second.headers.items() if name.startswith("x-ratelimit")
    }
    assert first.headers["x-ratelimit-remaining-requests"] == "2"
    assert named["x-ratelimit-limit-requests"] == "3"
    assert named["x-ratelimit-remaining-requests"] == "1"
    assert named["x-ratelimit-reset-requests"].endswith("s")
    assert named["x-ratelimit-limit-tokens"] == "1000"
    # What the first was expected to need and did not is there again.
    assert int(named["x-ratelimit-remaining-tokens"]) > 940
    assert not [name for name in second.headers if name.startswith("anthropic")]


async def test_openais_own_client_waits_as_it_is_told(relay: RelayUnderTest) -> None:
    await use_up(relay)
    async with relay.openai() as client:
        with pytest.raises(openai.RateLimitError) as raised:
            await client.chat.completions.create(
                model="fast", messages=[{"role": "user", "content": "Hi"}]
            )
    headers = raised.value.response.headers
    assert raised.value.code == "rate_limit_exceeded"
    assert "requests per minute of key k: the limit of 3 is used up" in str(raised.value)
    assert 18 <= int(headers["retry-after"]) <= 20
    assert int(headers["retry-after-ms"]) <= 20_000
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert "x-should-retry" not in headers


async def test_what_never_fits_is_not_to_be_tried_again(relay: RelayUnderTest) -> None:
    large = {**BODY, "messages": [{"role": "user", "content": "word " * 200_000}]}
    told = await relay.chat(large)
    assert told.status_code == 429
    assert "input tokens per minute of key k: the request needs " in told.json()["error"]["message"]
    assert "retry-after" not in told.headers
    assert told.headers["x-should-retry"] == "false"


async def test_anthropics_clients_have_headers_of_their_own(relay: RelayUnderTest) -> None:
    async with relay.anthropic() as client:
        raw = await client.messages.with_raw_response.create(
            model="fast", max_tokens=50, messages=[{"role": "user", "content": "Hi"}]
        )
    assert raw.headers["anthropic-ratelimit-requests-limit"] == "3"
    assert raw.headers["anthropic-ratelimit-requests-remaining"] == "2"
    assert raw.headers["anthropic-ratelimit-tokens-reset"].endswith("Z")
    assert "x-ratelimit-limit-requests" not in raw.headers


async def test_grpc_has_the_same_in_its_trailers(relay: RelayUnderTest) -> None:
    call = relay.stub.Generate(one())
    async for _ in call:
        pass
    trailers = dict(await call.trailing_metadata())
    assert trailers["x-ratelimit-remaining-requests"] == "2"
    await use_up_grpc(relay, 2)
    refused = await relay.generate(start("g9"))
    assert refused.error is not None
    assert refused.error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    trailers = dict(refused.error.trailing_metadata())
    assert trailers["x-ratelimit-remaining-requests"] == "0"
    assert refused.answer.end is not None
    status = refused.answer.end.error
    details = details_of(status)
    assert details["ErrorInfo"].reason == "LIMIT_EXCEEDED"
    assert details["ErrorInfo"].metadata["limit"] == "rpm"
    assert 18 <= details["RetryInfo"].retry_delay.seconds <= 20


def one() -> GenerateRequest:
    return GenerateRequest(start=start("g1"))


async def use_up_grpc(relay: RelayUnderTest, times: int) -> None:
    for number in range(times):
        done = await relay.generate(start(f"u{number}"))
        assert done.error is None


async def test_what_was_held_is_free_again(relay: RelayUnderTest) -> None:
    await use_up(relay)
    await relay.settled()
    ledger = relay.worker.services.ledger
    assert isinstance(ledger, Limiting)
    assert ledger.store.held == {}


async def test_a_full_provider_is_passed_over(relay: RelayUnderTest, upstream: H2Server) -> None:
    """Its row is charged when an attempt starts; the race goes on to the next at once, nothing of
    the refused one reaches the provider, and with nobody left the caller hears when to come."""
    ledger = Limiting(Limits(rpm=100), lab=Limits(rpm=1, output_tpm=1000))
    relay.worker.services.ledger = ledger
    told = [await relay.chat({**BODY, "model": "two"}) for _ in range(3)]
    assert [one.status_code for one in told] == [200, 200, 200]
    assert [one.headers["x-relay-provider"] for one in told] == ["lab", "other", "other"]
    asked = len([one for one in upstream.streams if one.path.endswith("/chat/completions")])
    assert asked == 3
    refused = await relay.chat(BODY)
    assert refused.status_code == 429
    assert "requests per minute of provider lab" in refused.json()["error"]["message"]
    assert 55 <= int(refused.headers["retry-after"]) <= 60
