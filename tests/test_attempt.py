"""One try at one target: when it is ready, how it fails, and that its stream is always let go."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import orjson
import pytest
from structlog.testing import capture_logs

from relay.attempt import (
    MAX_BATCH_EVENTS,
    SLICE_BYTES,
    TAIL_GRACE_S,
    Attempt,
)
from relay.codecs.base import Codec, EncodedRequest
from relay.codecs.error_text import MAX_MESSAGE_CHARS
from relay.codecs.openai_chat import OpenAIChatCodec
from relay.codecs.openai_errors import MAX_WORD_CHARS
from relay.content import (
    ChoiceFinished,
    Events,
    FinishReason,
    GenerateRequest,
    ProviderFailed,
    ReasoningDelta,
    ResponseInfo,
    StreamEvent,
    TextDelta,
    ToolCallStart,
    Usage,
)
from relay.errors import (
    AttemptTimeout,
    ConnectError,
    ConnectTimeout,
    EventTooLarge,
    FirstTokenTimeout,
    LocalProtocolError,
    NotAnAnswer,
    PoolExhausted,
    Reason,
    RelayError,
    RemoteProtocolError,
    Retry,
    StreamRefused,
    StreamReset,
    StreamTruncated,
    UnsupportedFeature,
    UpstreamStatus,
)
from relay.outcome import AttemptOutcome
from relay.prelude import MAX_UNHEARD_CHARS
from relay.routing.plan import PlannedAttempt
from relay.transport.base import MAX_READY_CHUNKS
from tests.fakes.memory_transport import FakeEndpoint
from tests.fakes.relay_under_test import DONE, chunk
from tests.fakes.scenario import (
    COMMENT,
    ERROR,
    ROLE,
    WITH_TOP_K,
    Chunks,
    Scenario,
    answer,
    request,
    text_of,
)
from tests.fakes.virtual_time import VirtualLoop, on_virtual_time, run, since_start_s

MARKUP = b"<html><body>504 at the edge</body></html>"


async def read_all(attempt: Attempt) -> list[StreamEvent]:
    """Everything from the prelude to the end."""
    events: list[StreamEvent] = []
    await read_into(attempt, events)
    return events


async def read_into(attempt: Attempt, events: list[StreamEvent]) -> None:
    """The same, keeping what came before a failure."""
    events += attempt.prelude
    while batch := await attempt.read():
        events += batch


def at_first_content(endpoint: FakeEndpoint, **timeouts: int) -> tuple[RelayError | None, float]:
    """Run an attempt at this endpoint until it is ready or has failed; the error, and when."""

    async def main() -> tuple[RelayError | None, float]:
        scenario = Scenario({"a": endpoint}, timeouts=timeouts)
        attempt = scenario.attempt()
        failure: RelayError | None = None
        try:
            await attempt.run_until_ready()
        except RelayError as error:
            failure = error
        at_s = since_start_s()
        assert attempt.record.error is failure
        if failure is None:
            attempt.abort()
        assert attempt.is_over
        await scenario.settled()
        scenario.check()
        return failure, at_s

    return run(main())


# --- ready ----------------------------------------------------------------------------------


@on_virtual_time
async def test_ready_at_the_first_content() -> None:
    chunks = answer("Hello", " there", first_s=0.5, gap_s=0.25)
    scenario = Scenario({"a": FakeEndpoint(connect_s=0.125, headers_s=1.0, chunks=chunks)})
    attempt = scenario.attempt()
    await attempt.run_until_ready()
    assert since_start_s() == 1.625
    assert [type(event) for event in attempt.prelude] == [ResponseInfo, TextDelta]
    assert text_of(await read_all(attempt)) == "Hello there"
    assert since_start_s() == 1.875
    assert attempt.is_over
    assert attempt.record.outcome is AttemptOutcome.SUCCESS
    assert attempt.record.http_status == 200
    assert attempt.record.http_version == "2"
    assert attempt.record.phases_us == {
        "pool_wait": 125_000,
        "request_sent": 0,
        "response_headers": 1_000_000,
        "first_content": 500_000,
    }
    assert attempt.record.ended_us == 1_875_000
    await scenario.settled()
    assert scenario.aborted == []
    scenario.check()


@on_virtual_time
async def test_request_goes_to_the_providers_path_with_its_headers() -> None:
    scenario = Scenario({"a": FakeEndpoint(chunks=answer("Hi"))})
    (step,) = scenario.plan().attempts
    endpoint = replace(step.target.endpoint, headers=[("authorization", "Bearer k")])
    target = replace(step.target, endpoint=endpoint)
    attempt = scenario.start(PlannedAttempt(target, is_fallback=False))
    await attempt.run_until_ready()
    (sent,) = [made.request for made in scenario.transport.attempts]
    assert (sent.method, sent.path) == ("POST", "/v1/chat/completions")
    headers = dict(sent.headers)
    assert headers["authorization"] == "Bearer k"
    assert headers["user-agent"].startswith("rtrelay/")
    assert orjson.loads(sent.body)["model"] == "m"
    attempt.abort()
    await scenario.settled()


@pytest.mark.parametrize(
    ("first", "is_ready"),
    [
        pytest.param(ROLE, False, id="a role"),
        pytest.param(COMMENT, False, id="a comment"),
        pytest.param(b"data: \n\n", False, id="an empty event"),
        pytest.param(b'data: {"usage": {"prompt_tokens": 3}}\n\n', False, id="usage"),
        pytest.param(chunk({"content": "Hi"}), True, id="text"),
        pytest.param(chunk({"refusal": "No"}), True, id="a refusal"),
        pytest.param(
            chunk({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f"}}]}),
            True,
            id="a tool call",
        ),
    ],
)
def test_what_counts_as_content(first: bytes, is_ready: bool) -> None:
    error, at_s = at_first_content(FakeEndpoint(chunks=[(0.5, first), (math.inf, b"")]))
    if is_ready:
        assert (error, at_s) == (None, 0.5)
    else:
        assert isinstance(error, FirstTokenTimeout)
        assert at_s == 4.0


@pytest.mark.parametrize(("is_wanted", "ready_at_s"), [(True, 0.5), (False, 1.5)])
def test_reasoning_is_content_if_it_is_wanted(is_wanted: bool, ready_at_s: float) -> None:
    @on_virtual_time
    async def check() -> None:
        chunks: Chunks = [
            (0.5, chunk({"reasoning_content": "Hm"})),
            (1.0, chunk({"content": "Hi"})),
        ]
        scenario = Scenario({"a": FakeEndpoint(chunks=chunks)})
        attempt = scenario.attempt(request(want_reasoning=is_wanted))
        await attempt.run_until_ready()
        assert since_start_s() == ready_at_s
        kinds = [type(event) for event in attempt.prelude]
        assert ReasoningDelta in kinds
        assert (TextDelta in kinds) is not is_wanted
        attempt.abort()
        await scenario.settled()

    check()


@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param([ROLE, chunk(finish="stop"), DONE], id="with a done"),
        pytest.param([chunk(finish="stop")], id="without a done"),
        pytest.param([chunk(finish="stop") + DONE], id="in one piece"),
        pytest.param([chunk({"reasoning_content": "x"}, finish="length"), DONE], id="only thought"),
    ],
)
def test_empty_but_clean_answer_is_ready(chunks: list[bytes]) -> None:
    @on_virtual_time
    async def check() -> None:
        scenario = Scenario({"a": FakeEndpoint(chunks=[(0.25, data) for data in chunks])})
        attempt = scenario.attempt(request(want_reasoning=False))
        await attempt.run_until_ready()
        assert since_start_s() == 0.25 * len(chunks)
        assert attempt.is_over
        assert any(isinstance(event, ChoiceFinished) for event in attempt.prelude)
        assert await attempt.read() == ()
        assert attempt.record.outcome is AttemptOutcome.SUCCESS
        await scenario.settled()
        assert scenario.aborted == []
        scenario.check()

    check()


# --- what is held before the first content --------------------------------------------------


@on_virtual_time
async def test_unwanted_reasoning_is_held_in_one_piece_and_usage_once() -> None:
    """Nobody will read it, and the count of tokens must not miss it."""
    usage = [{"prompt_tokens": 3, "completion_tokens": count} for count in range(100)]
    chunks: Chunks = [
        (0.0, chunk({"reasoning_content": "hm, "}, usage=counted)) for counted in usage
    ]
    scenario = Scenario({"a": FakeEndpoint(chunks=[*chunks, (0.0, chunk({"content": "Hi"}))])})
    attempt = scenario.attempt(request(want_reasoning=False))
    await attempt.run_until_ready()
    info, thought, counted, text = attempt.prelude
    assert isinstance(info, ResponseInfo)
    assert thought == ReasoningDelta("hm, " * 100)
    assert isinstance(counted, Usage)
    assert counted.completion_tokens == 99
    assert text == TextDelta("Hi")
    attempt.abort()
    await scenario.settled()


@on_virtual_time
async def test_unwanted_reasoning_has_a_bound_and_fails_nobody() -> None:
    piece = "x" * 1000
    thoughts = [(0.0, chunk({"reasoning_content": piece}))] * (MAX_UNHEARD_CHARS // 1000 + 50)
    scenario = Scenario({"a": FakeEndpoint(chunks=[*thoughts, (0.0, chunk({"content": "Hi"}))])})
    attempt = scenario.attempt(request(want_reasoning=False))
    await attempt.run_until_ready()
    held = [event for event in attempt.prelude if isinstance(event, ReasoningDelta)]
    assert [len(event.text) for event in held] == [MAX_UNHEARD_CHARS]
    assert text_of(attempt.prelude) == "Hi"
    attempt.abort()
    await scenario.settled()


@on_virtual_time
async def test_answer_that_never_begins_may_not_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("relay.prelude.MAX_PRELUDE_BYTES", 10_000)
    details = chunk({"reasoning_details": [{"text": "x" * 1000}]})
    scenario = Scenario({"a": FakeEndpoint(chunks=[(0.25, details)] * 100)})
    attempt = scenario.attempt()
    with pytest.raises(EventTooLarge) as caught:
        await attempt.run_until_ready()
    assert caught.value.retry is Retry.BEFORE_COMMIT, "another provider may do better"
    assert scenario.aborted == [("a", 2.5)]
    assert attempt.record.outcome is AttemptOutcome.FAILURE
    assert sum(len(orjson.dumps(str(event))) for event in attempt.prelude) < 20_000
    await scenario.settled()
    scenario.check()


# --- failures before the first content ------------------------------------------------------

RESET = StreamReset("the stream broke", headers_received=True)


@pytest.mark.parametrize(
    ("endpoint", "kind", "at_s"),
    [
        pytest.param(
            FakeEndpoint(fault=ConnectError("refused"), fault_at="connect", connect_s=0.25),
            ConnectError,
            0.25,
            id="connect: refused",
        ),
        pytest.param(FakeEndpoint(connect_s=math.inf), ConnectTimeout, 1.0, id="connect: silence"),
        pytest.param(
            FakeEndpoint(fault=StreamRefused("goaway"), headers_s=0.25),
            StreamRefused,
            0.25,
            id="headers: refused stream",
        ),
        pytest.param(FakeEndpoint(headers_s=math.inf), FirstTokenTimeout, 4.0, id="headers: hang"),
        pytest.param(
            FakeEndpoint(fault=StreamReset("broken"), headers_s=0.25),
            StreamReset,
            0.25,
            id="headers: reset",
        ),
        pytest.param(
            FakeEndpoint(chunks=[(math.inf, b"")]), FirstTokenTimeout, 4.0, id="body: silence"
        ),
        pytest.param(
            FakeEndpoint(chunks=[(0.5, ROLE), (math.inf, b"")]),
            FirstTokenTimeout,
            4.0,
            id="body: a role, then silence",
        ),
        pytest.param(
            FakeEndpoint(chunks=[(0.5, COMMENT)] * 100),
            FirstTokenTimeout,
            4.0,
            id="body: comments only",
        ),
        pytest.param(
            FakeEndpoint(chunks=[(0.5, ROLE)], fault=RESET, fault_at="body"),
            StreamReset,
            0.5,
            id="body: reset",
        ),
        pytest.param(FakeEndpoint(), StreamTruncated, 0.0, id="body: empty"),
        pytest.param(FakeEndpoint(chunks=[(0.5, MARKUP)]), NotAnAnswer, 0.5, id="body: markup"),
        pytest.param(
            FakeEndpoint(chunks=[(0.5, ROLE)]), StreamTruncated, 0.5, id="body: truncated"
        ),
        pytest.param(
            FakeEndpoint(chunks=[(0.5, ROLE), (0.0, DONE)]),
            StreamTruncated,
            0.5,
            id="body: done without a finish reason",
        ),
        pytest.param(
            FakeEndpoint(chunks=[(0.5, ERROR), (9.0, ROLE)]),
            UpstreamStatus,
            0.5,
            id="body: an error first",
        ),
        pytest.param(
            FakeEndpoint(
                chunks=[(0.5, b'{"error": {"message": "boom"}}')],
                headers=[("content-type", "application/json")],
            ),
            UpstreamStatus,
            0.5,
            id="body: 200 with an error document",
        ),
        pytest.param(
            FakeEndpoint(status=503, chunks=[(0.5, b"down")]), UpstreamStatus, 0.5, id="status: 503"
        ),
        pytest.param(
            FakeEndpoint(status=500, chunks=[(math.inf, b"")]),
            FirstTokenTimeout,
            4.0,
            id="status: 500, its body hangs",
        ),
    ],
)
def test_fails_before_the_first_content(
    endpoint: FakeEndpoint, kind: type[RelayError], at_s: float
) -> None:
    error, failed_at_s = at_first_content(endpoint)
    assert type(error) is kind
    assert failed_at_s == at_s


@pytest.mark.parametrize(
    ("body", "is_free"),
    [
        pytest.param(MARKUP, True, id="markup"),
        pytest.param(b'{"status": "ok"}', True, id="JSON of something else"),
        pytest.param(b"", False, id="empty: something may have been written"),
        pytest.param(ROLE, False, id="cut"),
    ],
)
def test_what_is_no_answer_costs_nothing(body: bytes, is_free: bool) -> None:
    async def play() -> None:
        scenario = Scenario({"a": FakeEndpoint(chunks=[(0.0, body)] if body else [])})
        attempt = scenario.attempt()
        with pytest.raises(RemoteProtocolError):
            await attempt.run_until_ready()
        assert attempt.record.is_free is is_free
        await scenario.settled()

    run(play())


def test_first_token_limit_counts_from_the_start_of_the_attempt() -> None:
    endpoint = FakeEndpoint(connect_s=0.5, headers_s=1.0, chunks=answer("late", first_s=0.75))
    error, at_s = at_first_content(endpoint, first_token_ms=2000)
    assert isinstance(error, FirstTokenTimeout)
    assert at_s == 2.0


def test_total_limit_that_is_shorter_says_so() -> None:
    error, at_s = at_first_content(FakeEndpoint(headers_s=math.inf), total_ms=1500)
    assert isinstance(error, AttemptTimeout)
    assert at_s == 1.5


def test_no_error_shows_the_credential_that_was_sent() -> None:
    """Not even the part of it that is left where a codec cuts long texts."""
    key = "0123456789abcdef-fedcba"
    said = "x" * (MAX_MESSAGE_CHARS - len(key) + 1) + key + " is wrong"
    code = "z" * (MAX_WORD_CHARS - len(key) + 1) + key
    body = orjson.dumps({"error": {"message": said, "code": code, "type": key, "param": key}})

    @on_virtual_time
    async def check() -> None:
        scenario = Scenario({"a": FakeEndpoint(status=400, chunks=[(0.0, body)])})
        (step,) = scenario.plan().attempts
        endpoint = replace(step.target.endpoint, headers=[("authorization", f"Bearer {key}")])
        target = replace(step.target, endpoint=endpoint)
        attempt = scenario.start(PlannedAttempt(target, is_fallback=False))
        with pytest.raises(UpstreamStatus) as raised:
            await attempt.run_until_ready()
        error = raised.value
        texts = [str(error), error.public_message, error.provider_code, error.provider_type]
        for text in [*texts, error.provider_param, *error.metadata.values()]:
            assert key[:6] not in text
        assert error.public_message.endswith("x***")
        assert error.provider_code.endswith("z***")
        assert (error.provider_type, error.metadata["provider_param"]) == ("***", "***")
        await scenario.settled()

    check()


def test_no_stream_slot_becomes_free() -> None:
    @on_virtual_time
    async def check() -> None:
        endpoint = FakeEndpoint(max_streams=1, chunks=answer("Hi", "there", gap_s=30.0))
        scenario = Scenario({"a": endpoint})
        first, second = scenario.attempt(), scenario.attempt()
        await first.run_until_ready()
        with pytest.raises(PoolExhausted):
            await second.run_until_ready()
        assert since_start_s() == 1.0
        first.abort()
        await scenario.settled()
        scenario.check()

    check()


@pytest.mark.parametrize(
    ("status", "reason", "outcome", "retry"),
    [
        (400, Reason.UPSTREAM_REJECTED, AttemptOutcome.FAILURE, Retry.NO),
        (401, Reason.UPSTREAM_MISCONFIGURED, AttemptOutcome.FAILURE, Retry.BEFORE_COMMIT),
        (404, Reason.UPSTREAM_MODEL_NOT_FOUND, AttemptOutcome.FAILURE, Retry.BEFORE_COMMIT),
        (429, Reason.UPSTREAM_RATE_LIMITED, AttemptOutcome.OVERLOAD, Retry.BEFORE_COMMIT),
        (500, Reason.UPSTREAM_FAILED, AttemptOutcome.FAILURE, Retry.BEFORE_COMMIT),
        (503, Reason.UPSTREAM_OVERLOADED, AttemptOutcome.OVERLOAD, Retry.BEFORE_COMMIT),
    ],
)
def test_outcome_of_a_status(
    status: int, reason: Reason, outcome: AttemptOutcome, retry: Retry
) -> None:
    @on_virtual_time
    async def check() -> None:
        body = b'{"error": {"message": "no", "code": "model_not_found"}}'
        scenario = Scenario(
            {"a": FakeEndpoint(status=status, chunks=[(0.0, body if status == 404 else b"no")])}
        )
        attempt = scenario.attempt()
        with pytest.raises(UpstreamStatus) as raised:
            await attempt.run_until_ready()
        assert (raised.value.reason, raised.value.retry) == (reason, retry)
        assert attempt.record.outcome is outcome
        assert attempt.record.http_status == status
        await scenario.settled()
        scenario.check()

    check()


@on_virtual_time
async def test_request_that_the_wire_cannot_say_is_never_sent() -> None:
    scenario = Scenario({"a": FakeEndpoint()}, refuses={"a": ["top_k"]})
    attempt = scenario.attempt(request(sampling=WITH_TOP_K))
    with pytest.raises(UnsupportedFeature):
        await attempt.run_until_ready()
    assert scenario.started == []
    assert attempt.record.outcome is AttemptOutcome.FAILURE


# --- cancelled ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at_s", "phase"), [(0.125, "connect"), (0.75, "headers"), (1.5, "body"), (2.25, "body")]
)
def test_cancelled_before_the_first_content(at_s: float, phase: str) -> None:
    @on_virtual_time
    async def check() -> None:
        endpoint = FakeEndpoint(
            connect_s=0.25,
            headers_s=1.0,
            chunks=[(0.5, ROLE), (0.5, COMMENT), (0.5, chunk({"content": "Hi"}))],
        )
        scenario = Scenario({"a": endpoint})
        attempt = scenario.attempt()
        task = asyncio.ensure_future(attempt.run_until_ready())
        asyncio.get_running_loop().call_later(at_s, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert scenario.aborted == [("a", at_s)]
        assert attempt.record.outcome is AttemptOutcome.IGNORED
        assert attempt.record.error is None
        assert attempt.record.ended_us == round(at_s * 1e6)
        await scenario.settled()
        scenario.check()

    check()


@on_virtual_time
async def test_cancelled_in_the_tick_of_its_own_timeout_is_a_cancel() -> None:
    scenario = Scenario({"a": FakeEndpoint(headers_s=math.inf)})
    attempt = scenario.attempt()
    task = asyncio.ensure_future(attempt.run_until_ready())
    asyncio.get_running_loop().call_later(4.0, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert scenario.aborted == [("a", 4.0)]
    assert attempt.record.outcome is AttemptOutcome.IGNORED


# --- after the first content ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("chunks", "fault", "kind"),
    [
        pytest.param([chunk({"content": " there"})], RESET, StreamReset, id="reset"),
        pytest.param([chunk({"content": " there"})], None, StreamTruncated, id="truncated"),
        pytest.param([chunk({"content": " there"}), DONE], None, StreamTruncated, id="early done"),
        pytest.param([chunk({"content": " there"}), ERROR], None, UpstreamStatus, id="error event"),
        pytest.param(
            [chunk({"content": " there"}) + ERROR],
            None,
            UpstreamStatus,
            id="text and error at once",
        ),
        pytest.param(
            [chunk({"content": " there"}) + chunk(finish="error")],
            None,
            UpstreamStatus,
            id="finish reason that is a failure",
        ),
    ],
)
def test_fails_after_its_text_was_read(
    chunks: list[bytes], fault: RelayError | None, kind: type[RelayError]
) -> None:
    @on_virtual_time
    async def check() -> None:
        body: Chunks = [(0.5, chunk({"content": "Hello"})), *((0.5, data) for data in chunks)]
        scenario = Scenario({"a": FakeEndpoint(chunks=body, fault=fault, fault_at="body")})
        attempt = scenario.attempt()
        await attempt.run_until_ready()
        events: list[StreamEvent] = []
        with pytest.raises(kind):
            await read_into(attempt, events)
        assert not any(isinstance(event, ProviderFailed) for event in events)
        assert text_of(events) == "Hello there"
        assert attempt.record.outcome is AttemptOutcome.FAILURE
        await scenario.settled()
        scenario.check()

    check()


def test_failure_beside_the_first_content_comes_after_it() -> None:
    @on_virtual_time
    async def check() -> None:
        data = chunk({"content": "Hello"}) + ERROR
        scenario = Scenario({"a": FakeEndpoint(chunks=[(0.0, data), (9.0, b"")])})
        attempt = scenario.attempt()
        await attempt.run_until_ready()
        assert text_of(attempt.prelude) == "Hello"
        before = attempt.is_over
        with pytest.raises(UpstreamStatus):
            await attempt.read()
        assert (before, attempt.is_over) == (False, True)
        await scenario.settled()
        scenario.check()

    check()


@on_virtual_time
async def test_reading_goes_on_through_keep_alives() -> None:
    chunks: Chunks = [
        (0.0, chunk({"content": "Hello"})),
        *[(0.5, COMMENT)] * 6,
        (0.5, chunk({"content": "!"})),
    ]
    scenario = Scenario({"a": FakeEndpoint(chunks=chunks)})
    attempt = scenario.attempt()
    await attempt.run_until_ready()
    assert text_of(await attempt.read()) == "!"
    assert since_start_s() == 3.5
    attempt.abort()
    await scenario.settled()


@on_virtual_time
async def test_read_before_the_response_head_is_a_bug_of_ours() -> None:
    scenario = Scenario({"a": FakeEndpoint()})
    with pytest.raises(LocalProtocolError):
        await scenario.attempt().read()


# --- letting go of the stream ---------------------------------------------------------------


@on_virtual_time
async def test_finished_response_is_read_to_its_end_and_not_reset() -> None:
    chunks = [*answer("Hi"), (0.25, COMMENT)]
    scenario = Scenario({"a": FakeEndpoint(chunks=chunks)})
    attempt = scenario.attempt()
    await attempt.run_until_ready()
    await read_all(attempt)
    assert since_start_s() == 0.0, "nobody waits for the last frames"
    attempt.abort()
    await scenario.settled()
    assert since_start_s() == 0.25
    assert scenario.aborted == []
    scenario.check()


@on_virtual_time
async def test_finished_response_that_does_not_end_is_reset_after_a_moment() -> None:
    scenario = Scenario({"a": FakeEndpoint(chunks=[*answer("Hi"), (math.inf, b"")])})
    attempt = scenario.attempt()
    await attempt.run_until_ready()
    await read_all(attempt)
    await scenario.settled()
    assert scenario.aborted == [("a", TAIL_GRACE_S)]
    assert attempt.record.outcome is AttemptOutcome.SUCCESS
    scenario.check()


@on_virtual_time
async def test_finished_response_whose_tail_breaks_is_still_a_success() -> None:
    endpoint = FakeEndpoint(chunks=answer("Hi"), fault=RESET, fault_at="body")
    scenario = Scenario({"a": endpoint})
    attempt = scenario.attempt()
    await attempt.run_until_ready()
    await read_all(attempt)
    await scenario.settled()
    assert attempt.record.outcome is AttemptOutcome.SUCCESS
    scenario.check()


@on_virtual_time
async def test_abort_is_idempotent_and_immediate() -> None:
    scenario = Scenario({"a": FakeEndpoint(chunks=answer("Hi", "there", gap_s=9.0))})
    attempt = scenario.attempt()
    await attempt.run_until_ready()
    attempt.abort()
    assert scenario.aborted == [("a", 0.0)]
    attempt.abort()
    attempt.fail(RESET)
    assert attempt.record.outcome is AttemptOutcome.IGNORED
    assert attempt.record.error is None
    assert await attempt.read() == ()
    await scenario.settled()
    scenario.check()


@on_virtual_time
async def test_owner_that_found_an_error_fails_the_attempt() -> None:
    scenario = Scenario({"a": FakeEndpoint(chunks=answer("Hi", "there", gap_s=9.0))})
    attempt = scenario.attempt()
    await attempt.run_until_ready()
    attempt.fail(RESET)
    assert attempt.record.outcome is AttemptOutcome.FAILURE
    assert attempt.record.error is RESET
    assert scenario.aborted == [("a", 0.0)]
    await scenario.settled()


# --- codecs with bugs -----------------------------------------------------------------------


class ScriptedCodec:
    """A codec that yields what it is told to, and is strict about the order of calls."""

    wire: ClassVar[str] = "scripted"

    def __init__(self, feed: Callable[[bytes], Events], *, done_after: int = 1_000_000) -> None:
        self._feed = feed
        self._done_after = done_after
        self._has_failed = False
        self._is_finished = False
        self.mended_events = 0

    @property
    def is_finished(self) -> bool:
        return self._is_finished

    def encode_request(self, request: GenerateRequest, model: str) -> EncodedRequest:
        return EncodedRequest("/x", [], b"{}")

    def decode_headers(self, status: int, headers: list[tuple[str, str]]) -> None:
        pass

    def feed(self, chunk: bytes | memoryview) -> Events:
        assert not self._has_failed, "fed after its failure"
        events = self._feed(bytes(chunk))
        self._done_after -= 1
        self._is_finished = self._done_after <= 0
        self._has_failed = bool(events) and isinstance(events[-1], ProviderFailed)
        return events

    def end(self) -> Events:
        assert not self._has_failed, "ended after its failure"
        return ()


def scripted(scenario: Scenario, codec: Any) -> Attempt:
    (step,) = scenario.plan().attempts
    endpoint = replace(step.target.endpoint, make_codec=lambda: codec)
    target = replace(step.target, endpoint=endpoint)
    return scenario.start(PlannedAttempt(target, is_fallback=False))


class BrokenCodec(ScriptedCodec):
    """Raises, at one of its calls, what no codec may raise for what a provider sends."""

    def __init__(self, at: str, error: Exception) -> None:
        super().__init__(lambda chunk: [TextDelta(chunk.decode())])
        self._at = at
        self._error = error

    def decode_headers(self, status: int, headers: list[tuple[str, str]]) -> None:
        if self._at == "decode_headers":
            raise self._error

    def feed(self, chunk: bytes | memoryview) -> Events:
        if self._at == "feed" or (self._at == "second feed" and chunk == b"two"):
            raise self._error
        return super().feed(chunk)

    def end(self) -> Events:
        if self._at == "end":
            raise self._error
        return super().end()


@pytest.mark.parametrize(
    ("at", "text"),
    [("decode_headers", ""), ("feed", ""), ("second feed", "one"), ("end", "onetwo")],
)
@pytest.mark.parametrize("bug", [KeyError("a bug"), RecursionError(), TypeError("a bug")])
def test_codec_that_raises_makes_its_provider_unreadable(
    at: str, text: str, bug: Exception
) -> None:
    @on_virtual_time
    async def check() -> None:
        chunks: Chunks = [(0.25, b"one"), (0.25, b"two")]
        scenario = Scenario({"a": FakeEndpoint(chunks=chunks)})
        attempt = scripted(scenario, BrokenCodec(at, bug))
        events: list[StreamEvent] = []

        async def everything() -> None:
            await attempt.run_until_ready()
            await read_into(attempt, events)

        with capture_logs() as logged, pytest.raises(RemoteProtocolError) as raised:
            await everything()
        assert text_of(events) == text
        error = raised.value
        assert error.public_message == "the answer of a/m could not be read"
        assert (error.reason, error.retry) == (Reason.UPSTREAM_PROTOCOL, Retry.BEFORE_COMMIT)
        assert attempt.record.outcome is AttemptOutcome.FAILURE
        assert attempt.record.error is error
        (entry,) = logged
        assert entry["event"] == "answer_unreadable"
        assert (entry["provider"], entry["error"]) == ("a", type(bug).__name__)
        assert entry["exc_info"] is bug
        assert await attempt.read() == ()
        await scenario.settled()
        scenario.check()

    check()


@on_virtual_time
async def test_another_provider_answers_when_a_codec_raises(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    feed = OpenAIChatCodec.feed

    def broken_feed(self: OpenAIChatCodec, chunk: bytes | memoryview) -> Events:
        if b"poison" in bytes(chunk):
            raise TypeError("a bug")
        return feed(self, chunk)

    monkeypatch.setattr(OpenAIChatCodec, "feed", broken_feed)
    scenario = Scenario(
        {
            "a": FakeEndpoint(chunks=[(0.5, ROLE), (0.5, chunk({"content": "poison"}))]),
            "b": FakeEndpoint(chunks=answer("Hello", " there")),
        }
    )
    batches, end = await scenario.generate()
    assert "".join(map(text_of, batches)) == "Hello there"
    assert end.error is None
    failures = [record.error and record.error.reason for record in end.attempts]
    assert failures == [Reason.UPSTREAM_PROTOCOL, None]
    await scenario.settled()
    scenario.check()


# --- turns of the loop ----------------------------------------------------------------------


class CountingCodec:
    """A codec beside which it is counted what it decodes in each iteration of the loop."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self.bytes_of_turn: Counter[int] = Counter()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._codec, name)

    def feed(self, chunk: bytes | memoryview) -> Events:
        self.bytes_of_turn[turn()] += len(chunk)
        return self._codec.feed(chunk)


def turn() -> int:
    """The number of this iteration of the loop."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop.steps


HELLO = chunk({"content": "Hello"})
STOP = chunk(finish="stop")
MEGABYTE = 1 << 20
ARGUMENTS = chunk({"tool_calls": [{"index": 0, "function": {"arguments": "y"}}]})
CALL = chunk({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": ""}}]})
MANY_PARTS = chunk({"content": ["a"] * 100_000})


@pytest.mark.parametrize(
    ("body", "events"),
    [
        pytest.param([b":\n" * (MEGABYTE // 2)], 0, id="comments"),
        pytest.param([b"\n" * MEGABYTE], 0, id="blank lines"),
        pytest.param([b"data:{}\n\n" * (MEGABYTE // 9)], 0, id="empty events"),
        pytest.param([b":\n"] * 20_000, 0, id="small chunks of comments"),
        pytest.param([b": x\n" * 1000] * 100, 0, id="chunks of comments"),
        pytest.param([chunk({"content": "x"}) * 6000], 6000, id="tokens"),
        pytest.param([CALL, ARGUMENTS * 6000], 6001, id="pieces of arguments"),
        pytest.param([MANY_PARTS], 100_000, id="an event of many parts"),
        pytest.param([MANY_PARTS[:-1], b"\n" + b":\n" * MEGABYTE], 100_000, id="both"),
    ],
)
def test_others_have_their_turn_while_much_is_decoded(body: list[bytes], events: int) -> None:
    @on_virtual_time
    async def check() -> None:
        chunks: Chunks = [(0.0, data) for data in [HELLO, *body, STOP]]
        scenario = Scenario({"a": FakeEndpoint(chunks=chunks)})
        codec = CountingCodec(OpenAIChatCodec())
        attempt = scripted(scenario, codec)
        await attempt.run_until_ready()
        events_of_turn: Counter[int] = Counter()
        while batch := await attempt.read():
            events_of_turn[turn()] += len(batch)
        assert attempt.record.outcome is AttemptOutcome.SUCCESS
        assert events_of_turn.total() in range(events + 1, events + 4), "nothing is lost"
        # At the border of two turns there may be the end of one piece and the beginning of another.
        assert max(events_of_turn.values()) <= 2 * MAX_BATCH_EVENTS
        assert max(codec.bytes_of_turn.values()) <= 2 * SLICE_BYTES
        await scenario.settled()
        scenario.check()

    check()


@on_virtual_time
async def test_ordinary_chunks_wait_for_nothing_but_themselves() -> None:
    scenario = Scenario({"a": FakeEndpoint(chunks=answer("Hello", *["x"] * 500))})
    attempt = scenario.attempt()
    await attempt.run_until_ready()
    began = turn()
    assert text_of(await read_all(attempt)) == "Hello" + "x" * 500
    assert turn() - began <= 500 // MAX_READY_CHUNKS + 1, "the turns are the transport's"
    await scenario.settled()


def test_failure_that_ends_a_large_batch_comes_after_all_of_it() -> None:
    @on_virtual_time
    async def check() -> None:
        body = chunk({"content": ["a"] * 5000})[:-2] + b"\n\n" + ERROR
        scenario = Scenario({"a": FakeEndpoint(chunks=[(0.0, HELLO), (0.0, body)])})
        attempt = scenario.attempt()
        await attempt.run_until_ready()
        events: list[StreamEvent] = []
        with pytest.raises(UpstreamStatus):
            await read_into(attempt, events)
        assert text_of(events) == "Hello" + "a" * 5000
        assert attempt.record.outcome is AttemptOutcome.FAILURE
        await scenario.settled()
        scenario.check()

    check()


def test_end_marker_in_a_large_chunk_ends_it_there() -> None:
    @on_virtual_time
    async def check() -> None:
        body = chunk({"content": ["a"] * 5000}) + STOP + DONE + b":\n" * MEGABYTE
        scenario = Scenario({"a": FakeEndpoint(chunks=[(0.0, HELLO), (0.0, body)])})
        attempt = scenario.attempt()
        await attempt.run_until_ready()
        assert text_of(await read_all(attempt)) == "Hello" + "a" * 5000
        assert attempt.record.outcome is AttemptOutcome.SUCCESS
        await scenario.settled()
        scenario.check()

    check()


@pytest.mark.parametrize(
    "body", [b":\n" * MEGABYTE, MANY_PARTS, MANY_PARTS + b":\n" * MEGABYTE], ids=[*"abc"]
)
@pytest.mark.parametrize("steps", range(1, 8))
def test_aborted_between_two_pieces(body: bytes, steps: int) -> None:
    @on_virtual_time
    async def check() -> None:
        scenario = Scenario({"a": FakeEndpoint(chunks=[(0.0, HELLO), (0.0, body), (9.0, STOP)])})
        attempt = scenario.attempt()
        await attempt.run_until_ready()
        reading = asyncio.ensure_future(read_all(attempt))
        for _ in range(steps):
            await asyncio.sleep(0)
        attempt.abort()
        (failure,) = await asyncio.gather(reading, return_exceptions=True)
        assert isinstance(failure, StreamReset)
        assert attempt.record.outcome is AttemptOutcome.IGNORED
        await scenario.settled()
        scenario.check()

    check()


@on_virtual_time
async def test_codec_is_not_called_after_its_failure() -> None:
    def fail(chunk: bytes) -> Events:
        return [ToolCallStart(0, "c", "f"), ProviderFailed(RESET)]

    scenario = Scenario({"a": FakeEndpoint(chunks=[(0.0, b"x"), (9.0, b"y")])})
    attempt = scripted(scenario, ScriptedCodec(fail, done_after=1))
    await attempt.run_until_ready()
    assert attempt.prelude == [ToolCallStart(0, "c", "f")]
    with pytest.raises(StreamReset):
        await attempt.read()
    await scenario.settled()
    scenario.check()


@on_virtual_time
async def test_last_events_come_with_the_end_marker() -> None:
    def whole(chunk: bytes) -> Events:
        return [TextDelta("Hi"), ChoiceFinished(FinishReason.STOP, "stop")]

    scenario = Scenario({"a": FakeEndpoint(chunks=[(0.0, b"x")])})
    attempt = scripted(scenario, ScriptedCodec(whole, done_after=1))
    await attempt.run_until_ready()
    assert text_of(attempt.prelude) == "Hi"
    assert await attempt.read() == ()
    await scenario.settled()
    scenario.check()
