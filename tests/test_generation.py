"""One generation, one end: what it says of every way a generation can go."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

import pytest
import structlog
from structlog.testing import capture_logs

from relay.content import (
    Budgets,
    ChoiceFinished,
    Events,
    FinishReason,
    Message,
    Policy,
    ReasoningDelta,
    Role,
    TextPart,
    ToolArgumentsDelta,
    ToolCallStart,
)
from relay.dispatch import Live
from relay.errors import (
    AdmissionError,
    AllAttemptsFailed,
    AttemptTimeout,
    CancelReason,
    ClientCancelled,
    ConnectError,
    DeadlineExceeded,
    Draining,
    EventTooLarge,
    InternalError,
    NoCandidates,
    Reason,
    RelayError,
    SlowConsumer,
    StreamReset,
    StreamStalled,
    StreamTruncated,
    UnknownModel,
    UpstreamStatus,
)
from relay.generation import Generation
from relay.outcome import AttemptOutcome, Ended, GenerationEnd
from tests.fakes.ledger import FakeLedger
from tests.fakes.memory_transport import FakeEndpoint
from tests.fakes.relay_under_test import DONE, chunk
from tests.fakes.scenario import COMMENT, ERROR, Chunks, Scenario, answer, request, text_of
from tests.fakes.virtual_time import now_s, on_virtual_time, since_start_s

HELLO = FakeEndpoint(
    connect_s=0.125, headers_s=0.5, chunks=answer("Hello", " there", first_s=0.25, gap_s=0.25)
)
SILENT = FakeEndpoint(headers_s=math.inf)
REFUSED = FakeEndpoint(fault=ConnectError("refused"), fault_at="connect")
USAGE = chunk(usage={"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}, choices=[])

WORDS = (chunk({"content": "Hello"}), chunk({"content": " there"}))
BARGE_IN = ClientCancelled("the person spoke", CancelReason.BARGE_IN)


def told(batches: list[Events]) -> str:
    return text_of([event for events in batches for event in events])


def assert_sums_up(end: GenerationEnd) -> None:
    """The timeline has every moment up to now, once."""
    assert min(end.phases_us.values()) >= 0
    assert sum(end.phases_us.values()) == end.wall_us == round(since_start_s() * 1e6)


async def consume(
    generation: Generation, write: Callable[[Events], Awaitable[None]] | None = None
) -> list[Events]:
    """What a frontend does, with a client of its own."""
    batches: list[Events] = []
    async with generation:
        if await generation.commit():
            async for events in generation:
                batches.append(events)
                if write is not None:
                    await write(events)
                generation.released()
    return batches


# --- clean ----------------------------------------------------------------------------------


@on_virtual_time
async def test_clean_end_says_all() -> None:
    chunks = [*answer("Hello", " there", first_s=0.25, gap_s=0.25)[:-1], (0.0, USAGE), (0.0, DONE)]
    scenario = Scenario({"a": FakeEndpoint(connect_s=0.125, headers_s=0.5, chunks=chunks)})
    batches, end = await scenario.generate()
    assert told(batches) == "Hello there"
    assert all(batches), "no batch is empty"
    assert end.error is None
    assert end.finish_reasons == {0: FinishReason.STOP}
    assert end.raw_finish_reasons == {0: "stop"}
    assert (end.provider, end.model, end.response_id) == ("a", "m", "chatcmpl-1")
    assert end.has_output
    assert end.is_usage_final
    assert end.usage is not None
    assert (end.usage.prompt_tokens, end.usage.is_estimated) == (5, False)
    (record,) = end.attempts
    assert record.is_winner
    assert record.outcome is AttemptOutcome.SUCCESS
    assert_sums_up(end)
    assert end.phases_us["pool_wait"] == 125_000
    assert end.phases_us["response_headers"] == 500_000
    assert end.phases_us["first_content"] == 250_000
    assert end.phases_us["stream"] == 250_000
    await scenario.settled()
    scenario.check()


@on_virtual_time
async def test_missing_usage_is_estimated_and_said_to_be() -> None:
    scenario = Scenario({"a": HELLO})
    _, end = await scenario.generate()
    assert end.usage is not None
    assert end.usage.is_estimated
    assert end.usage.completion_tokens == 3  # 11 bytes
    assert not end.is_usage_final
    await scenario.settled()


@on_virtual_time
@pytest.mark.parametrize(
    ("told", "counted", "is_estimated"),
    [
        pytest.param([(5, 4), (-1, -1)], (5, 4), True, id="a wrong one takes back no right one"),
        pytest.param([(5, 4), (-1, -1), (0, 10**12)], (5, 4), True, id="nor do two"),
        pytest.param([(5, 4), (-1, -1), (5, 6)], (5, 6), False, id="a right one behind it counts"),
        pytest.param([(-1, -1), (5, 6)], (5, 6), False, id="or alone"),
        # As Anthropic counts: the answer at its end, one token at its beginning.
        pytest.param([(5, 1), (5, 10**12)], (5, 3), True, id="fewer than were heard cannot be"),
        pytest.param([(0, 0)], (0, 0), False, id="zero is a count"),
        pytest.param([(0, 3)], (0, 3), False, id="a prompt may be free"),
    ],
)
async def test_of_several_counts_the_last_that_can_be(
    told: list[tuple[int, int]], counted: tuple[int, int], is_estimated: bool
) -> None:
    def usage(prompt: int, completion: int) -> bytes:
        return chunk(usage={"prompt_tokens": prompt, "completion_tokens": completion}, choices=[])

    chunks = [(0.0, chunk({"content": "Hello world"})), (0.0, chunk(finish="stop"))]
    chunks += [(0.0, usage(*counts)) for counts in told]
    scenario = Scenario({"a": FakeEndpoint(chunks=[*chunks, (0.0, DONE)])})
    _, end = await scenario.generate()
    assert end.usage is not None
    assert (end.usage.prompt_tokens, end.usage.completion_tokens) == counted
    assert end.usage.is_estimated is is_estimated
    await scenario.settled()


@on_virtual_time
async def test_empty_but_clean_answer_is_a_clean_end() -> None:
    scenario = Scenario({"a": FakeEndpoint(chunks=[(0.5, chunk(finish="stop")), (0.0, DONE)])})
    batches, end = await scenario.generate()
    assert told(batches) == ""
    assert end.error is None
    assert end.finish_reasons == {0: FinishReason.STOP}
    assert_sums_up(end)
    await scenario.settled()
    scenario.check()


@on_virtual_time
async def test_failover_is_in_the_attempts_and_the_race_wait() -> None:
    slow_refusal = FakeEndpoint(connect_s=0.5, fault=ConnectError("refused"), fault_at="connect")
    scenario = Scenario({"a": slow_refusal, "b": HELLO})
    batches, end = await scenario.generate()
    assert told(batches) == "Hello there"
    assert end.provider == "b"
    assert [(r.provider, r.outcome, r.is_winner) for r in end.attempts] == [
        ("a", AttemptOutcome.FAILURE, False),
        ("b", AttemptOutcome.SUCCESS, True),
    ]
    assert end.phases_us["race_wait"] == 500_000
    assert end.attempts[1].started_us == 500_000
    assert_sums_up(end)
    await scenario.settled()
    scenario.check()


@on_virtual_time
async def test_stalls_of_the_provider_are_counted_apart() -> None:
    chunks = [
        (0.0, WORDS[0]),
        (2.0, WORDS[1]),
        (0.25, WORDS[1]),
        (0.0, chunk(finish="stop")),
        (0.0, DONE),
    ]
    scenario = Scenario({"a": FakeEndpoint(chunks=chunks)})
    _, end = await scenario.generate()
    assert (end.stall_count, end.longest_gap_us) == (1, 2_000_000)
    assert end.phases_us["stalls"] == 2_000_000
    assert end.phases_us["stream"] == 250_000
    await scenario.settled()


def called(name: str = "", arguments: str = "", **more: str) -> bytes:
    """One chunk of a tool call."""
    function = {"name": name} if name else {"arguments": arguments}
    return chunk({"tool_calls": [{"index": 0, **more, "function": function}]})


CALL: Chunks = [
    (0.25, called("find", id="c")),
    (0.25, called(arguments='{"a":')),
    (1.0, called(arguments="1}")),
    (0.125, chunk(finish="tool_calls")),
    (0.125, DONE),
]
"""A call whose arguments take 1.25 s to come, one stall among the waits, then the tail."""


@on_virtual_time
async def test_waiting_for_what_can_be_written_is_the_provider_s_time() -> None:
    """A tool call is written when its arguments are whole."""
    scenario = Scenario({"a": FakeEndpoint(chunks=CALL)})
    generation = scenario.generation()
    async with generation:
        assert await generation.commit()
        async for events in generation:
            await asyncio.sleep(0.01)  # what the frontend does with each
            if any(type(event) is ChoiceFinished for event in events):
                generation.released()
    assert generation.end is not None
    phases = generation.end.phases_us
    assert phases["first_content"] == 250_000
    assert phases["relay_out"] == 40_000
    assert (phases["stream"], phases["stalls"], phases["end"]) == (500_000, 1_000_000, 0)
    assert_sums_up(generation.end)
    await scenario.settled()


@on_virtual_time
async def test_what_ends_before_anything_was_written_waited_for_the_provider() -> None:
    """An answer that is over before the writer of the stream came to it."""
    scenario = Scenario({"a": FakeEndpoint(chunks=CALL)})
    generation = scenario.generation()
    async with generation:
        assert await generation.commit()
        assert [events async for events in generation]
    assert generation.end is not None
    phases = generation.end.phases_us
    assert (phases["relay_out"], phases["end"]) == (0, 0)
    assert (phases["stream"], phases["stalls"]) == (500_000, 1_000_000)
    assert_sums_up(generation.end)
    await scenario.settled()


@pytest.mark.parametrize(
    ("wait_s", "stream_us", "stalls_us"), [(0.375, 375_000, 0), (0.75, 0, 750_000)]
)
@pytest.mark.parametrize("how", ["reset", "cancel"])
def test_wait_that_ends_badly_was_one_for_the_provider(
    how: str, wait_s: float, stream_us: int, stalls_us: int
) -> None:
    @on_virtual_time
    async def check() -> None:
        never = [(0.0, WORDS[0]), (math.inf, WORDS[1])]
        reset = StreamReset("broken", headers_received=True)
        endpoint = (
            FakeEndpoint(chunks=[(0.0, WORDS[0]), (wait_s, COMMENT)], fault=reset, fault_at="body")
            if how == "reset"
            else FakeEndpoint(chunks=never)
        )
        scenario = Scenario({"a": endpoint})
        generation = scenario.generation()
        if how == "cancel":
            asyncio.get_running_loop().call_later(wait_s, generation.cancel, BARGE_IN)
        await consume(generation)
        assert generation.end is not None
        assert generation.end.error is not None
        phases = generation.end.phases_us
        assert (phases["stream"], phases["stalls"], phases["end"]) == (stream_us, stalls_us, 0)
        assert_sums_up(generation.end)
        await scenario.settled()

    check()


@pytest.mark.parametrize("at", ["headers", "body", "connect"])
def test_a_cancel_before_any_content_tells_what_the_prompt_cost(at: str) -> None:
    @on_virtual_time
    async def check() -> None:
        never = {
            place: math.inf if at == place else 0.0 for place in ("connect", "headers", "body")
        }
        endpoint = FakeEndpoint(
            connect_s=never["connect"],
            headers_s=never["headers"],
            chunks=[(never["body"], WORDS[0])],
        )
        scenario = Scenario({"a": endpoint})
        generation = scenario.generation()
        asyncio.get_running_loop().call_later(0.25, generation.cancel, BARGE_IN)
        await consume(generation)
        assert generation.end is not None
        usage = generation.end.usage
        if at == "connect":  # nothing was sent
            assert usage is None
        else:
            assert usage is not None
            assert usage.is_estimated
            assert usage.prompt_tokens > 0
            assert usage.completion_tokens == 0
        assert not generation.end.is_usage_final
        await scenario.settled()

    check()


@on_virtual_time
async def test_slow_client_is_not_a_stall_of_the_provider() -> None:
    scenario = Scenario({"a": FakeEndpoint(chunks=answer("Hello", " there"))})
    generation = scenario.generation()

    async def write(events: Events) -> None:
        await asyncio.sleep(2.0)

    await consume(generation, write)
    assert generation.end is not None
    assert generation.end.stall_count == 0
    assert generation.end.longest_gap_us == 0
    assert_sums_up(generation.end)
    await scenario.settled()


# --- refused and failed ---------------------------------------------------------------------


@on_virtual_time
async def test_unknown_model_asks_nobody() -> None:
    scenario = Scenario({"a": HELLO})
    batches, end = await scenario.generate(request(model="fats"))
    assert batches == []
    assert isinstance(end.error, UnknownModel)
    assert end.attempts == ()
    assert end.usage is None
    assert scenario.started == []
    scenario.check()


@on_virtual_time
async def test_drained_relay_begins_nothing() -> None:
    scenario = Scenario({"a": HELLO})
    scenario.services.is_draining = True
    _, end = await scenario.generate()
    assert isinstance(end.error, Draining)
    assert scenario.started == []
    scenario.check()


@on_virtual_time
async def test_lost_race() -> None:
    scenario = Scenario({"a": REFUSED, "b": REFUSED})
    batches, end = await scenario.generate()
    assert batches == []
    assert isinstance(end.error, AllAttemptsFailed)
    assert end.error.reason is Reason.UPSTREAM_UNREACHABLE
    assert (end.provider, end.has_output, end.usage) == ("", False, None)
    assert [record.outcome for record in end.attempts] == [AttemptOutcome.FAILURE] * 2
    scenario.check()


@pytest.mark.parametrize(
    ("tail", "fault", "kind"),
    [
        ([], StreamReset("broken", headers_received=True), StreamReset),
        ([], None, StreamTruncated),
        ([ERROR], None, UpstreamStatus),
    ],
)
def test_failure_after_output_is_told_and_never_hidden(
    tail: list[bytes], fault: RelayError | None, kind: type[RelayError]
) -> None:
    @on_virtual_time
    async def check() -> None:
        chunks = [(0.25, data) for data in (*WORDS, *tail)]
        scenario = Scenario(
            {"a": FakeEndpoint(chunks=chunks, fault=fault, fault_at="body"), "b": HELLO}
        )
        batches, end = await scenario.generate()
        assert told(batches) == "Hello there"
        assert type(end.error) is kind
        assert [provider for provider, _ in scenario.started] == ["a"]
        assert end.has_output
        assert end.finish_reasons == {}
        assert end.usage is not None
        assert end.usage.is_estimated
        (record,) = end.attempts
        assert (record.outcome, record.is_winner) == (AttemptOutcome.FAILURE, True)
        assert_sums_up(end)
        await scenario.settled()
        scenario.check()

    check()


@on_virtual_time
async def test_an_answer_that_breaks_off_costs_no_less_than_what_has_come() -> None:
    """Of wires that count the prompt first and the answer last."""
    chunks = [(0.0, USAGE), (0.0, chunk({"content": "word " * 100}))]
    scenario = Scenario({"a": FakeEndpoint(chunks=chunks)})
    _, end = await scenario.generate()
    assert end.error is not None
    assert end.usage is not None
    assert (end.usage.prompt_tokens, end.usage.completion_tokens) == (5, 125)
    assert (end.usage.total_tokens, end.usage.is_estimated) == (130, True)
    assert not end.is_usage_final
    await scenario.settled()


@on_virtual_time
async def test_usage_told_before_a_failure_is_kept_but_not_final() -> None:
    chunks = [(0.0, WORDS[0]), (0.0, USAGE)]
    scenario = Scenario({"a": FakeEndpoint(chunks=chunks)})
    _, end = await scenario.generate()
    assert end.usage is not None
    assert (end.usage.prompt_tokens, end.is_usage_final) == (5, False)
    await scenario.settled()


# --- limits ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("budgets", "total_s", "reason", "at_s"),
    [
        (Budgets(first_token_s=1.5), None, Reason.FIRST_TOKEN_TIMEOUT, 1.5),
        (Budgets(total_s=1.5), None, Reason.DEADLINE_EXCEEDED, 1.5),
        (Budgets(), 1.5, Reason.DEADLINE_EXCEEDED, 1.5),
        (Budgets(total_s=3.0), 1.5, Reason.DEADLINE_EXCEEDED, 1.5),
        (Budgets(total_s=1.5), 3.0, Reason.DEADLINE_EXCEEDED, 1.5),
        (Budgets(first_token_s=1.0, total_s=1.5), None, Reason.FIRST_TOKEN_TIMEOUT, 1.0),
    ],
)
def test_budget_ends_the_race(
    budgets: Budgets, total_s: float | None, reason: Reason, at_s: float
) -> None:
    @on_virtual_time
    async def check() -> None:
        scenario = Scenario({"a": SILENT, "b": HELLO}, timeouts={"first_token_ms": 60_000})
        _, end = await scenario.generate(request(budgets=budgets), total_s=total_s)
        assert isinstance(end.error, DeadlineExceeded)
        assert end.error.reason is reason
        assert since_start_s() == at_s
        assert scenario.aborted == [("a", at_s)]
        (record,) = end.attempts
        assert record.outcome is AttemptOutcome.IGNORED, "the provider's own time was not up"
        await scenario.settled()
        scenario.check()

    check()


@on_virtual_time
async def test_first_token_budget_spans_all_attempts() -> None:
    scenario = Scenario({"a": SILENT, "b": SILENT}, timeouts={"first_token_ms": 1000})
    _, end = await scenario.generate(request(budgets=Budgets(first_token_s=1.5)))
    assert end.error is not None
    assert end.error.reason is Reason.FIRST_TOKEN_TIMEOUT
    assert scenario.started == [("a", 0.0), ("b", 1.0)]
    assert since_start_s() == 1.5
    await scenario.settled()


@pytest.mark.parametrize(
    ("budgets", "reason"),
    [
        (Budgets(first_token_s=1.0), Reason.FIRST_TOKEN_TIMEOUT),
        (Budgets(total_s=1.0), Reason.DEADLINE_EXCEEDED),
    ],
)
def test_budgets_count_from_when_the_request_was_received(budgets: Budgets, reason: Reason) -> None:
    @on_virtual_time
    async def check() -> None:
        scenario = Scenario({"a": SILENT})
        received_s = now_s()
        await asyncio.sleep(0.75)  # a body that comes slowly
        _, end = await scenario.generate(request(budgets=budgets), received_s=received_s)
        assert end.error is not None
        assert end.error.reason is reason
        assert since_start_s() == 1.0
        await scenario.settled()

    check()


@pytest.mark.parametrize(
    ("budgets", "total_s"),
    [(Budgets(total_s=1.0), None), (Budgets(first_token_s=1.0), None), (Budgets(), 0.0)],
)
def test_budget_that_is_used_up_sends_nothing(budgets: Budgets, total_s: float | None) -> None:
    @on_virtual_time
    async def check() -> None:
        scenario = Scenario({"a": HELLO})
        received_s = now_s() - 1.0
        _, end = await scenario.generate(
            request(budgets=budgets), received_s=received_s, total_s=total_s
        )
        assert isinstance(end.error, DeadlineExceeded)
        assert scenario.started == []
        scenario.check()

    check()


@on_virtual_time
async def test_without_a_winner_the_time_stands_where_the_last_attempt_waited() -> None:
    late = FakeEndpoint(headers_s=0.25, chunks=[(math.inf, b"")])
    scenario = Scenario(
        {"a": FakeEndpoint(fault=ConnectError("a"), fault_at="connect"), "b": late},
        fallbacks=("b",),
    )
    _, end = await scenario.generate(request(budgets=Budgets(first_token_s=1.0)))
    assert isinstance(end.error, DeadlineExceeded)
    assert end.phases_us["response_headers"] == 250_000
    assert end.phases_us["first_content"] == 750_000, "its head was there, content was not"
    assert end.wall_us == 1_000_000
    await scenario.settled()


@on_virtual_time
async def test_log_tells_whose_generation_it_was() -> None:
    scenario = Scenario({"a": HELLO})
    trace = "0af7651916cd43dd8448eb211c80319c"
    policy = Policy(
        turn_id="t1",
        tags=("eu",),
        labels={"call": "c1"},
        client="agent/1",
        traceparent=f"00-{trace}-b7ad6b7169203331-01",
    )
    with capture_logs() as lines:
        await scenario.generate(replace(request(), policy=policy))
    (line,) = [line for line in lines if line["event"] == "generation"]
    told = {key: line[key] for key in ("turn", "trace_id", "tags", "labels", "client")}
    assert told == {
        "turn": "t1",
        "trace_id": trace,
        "tags": ("eu",),
        "labels": {"call": "c1"},
        "client": "agent/1",
    }
    await scenario.settled()


@on_virtual_time
async def test_listeners_hear_of_each_end_once() -> None:
    """A bug in one of them is logged, and neither the others nor the answer suffer from it."""
    scenario = Scenario({"a": HELLO})
    heard: list[Ended] = []

    def broken(ended: Ended) -> None:
        raise ValueError("a bug")

    scenario.services.on_ended += [broken, heard.append]
    with capture_logs() as lines:
        _, end = await scenario.generate(request())
        _, refused = await scenario.generate(replace(request(), model="no-such"))
    assert [one.end for one in heard] == [end, refused]
    assert [one.was_planned for one in heard] == [True, False]
    assert (heard[0].request.model, heard[1].request.model) == (request().model, "no-such")
    assert end.error is None
    events = [line["event"] for line in lines]
    assert events.count("listener_bug") == events.count("generation") == 2
    await scenario.settled()


@on_virtual_time
async def test_total_budget_ends_a_running_stream() -> None:
    scenario = Scenario({"a": FakeEndpoint(chunks=answer(*"abcdefgh", gap_s=0.5))})
    batches, end = await scenario.generate(request(budgets=Budgets(total_s=1.75)))
    assert told(batches) == "abcd"
    assert isinstance(end.error, DeadlineExceeded)
    assert scenario.aborted == [("a", 1.75)]
    await scenario.settled()
    scenario.check()


@on_virtual_time
async def test_total_limit_of_the_attempt_holds_after_the_commit() -> None:
    scenario = Scenario(
        {"a": FakeEndpoint(chunks=answer(*"abcdefgh", gap_s=0.5))}, timeouts={"total_ms": 1750}
    )
    _, end = await scenario.generate()
    assert isinstance(end.error, AttemptTimeout)
    assert scenario.aborted == [("a", 1.75)]
    (record,) = end.attempts
    assert record.outcome is AttemptOutcome.FAILURE
    await scenario.settled()


@on_virtual_time
async def test_what_one_request_has_no_patience_for_is_no_failure_of_the_target() -> None:
    chunks = answer("Hello", "there", gap_s=0.1)
    scenario = Scenario({"a": FakeEndpoint(chunks=chunks)})
    _, end = await scenario.generate(request(budgets=Budgets(inter_token_s=0.001)))
    assert isinstance(end.error, StreamStalled)
    (record,) = end.attempts
    assert record.outcome is AttemptOutcome.IGNORED
    assert end.usage is not None
    assert end.usage.completion_tokens > 0, "it is paid all the same"
    await scenario.settled()
    scenario.check()


@pytest.mark.parametrize(("budget_s", "at_s"), [(None, 5.0), (2.0, 2.0), (9.0, 5.0)])
def test_silence_after_the_first_content_is_a_stall(budget_s: float | None, at_s: float) -> None:
    @on_virtual_time
    async def check() -> None:
        chunks: Chunks = [(0.0, WORDS[0]), (math.inf, b"")]
        scenario = Scenario({"a": FakeEndpoint(chunks=chunks)})
        _, end = await scenario.generate(request(budgets=Budgets(inter_token_s=budget_s)))
        assert isinstance(end.error, StreamStalled)
        assert at_s <= since_start_s() <= at_s + 0.001
        (record,) = end.attempts
        assert record.outcome is AttemptOutcome.FAILURE
        await scenario.settled()
        scenario.check()

    check()


@on_virtual_time
async def test_keep_alives_do_not_hide_a_stall() -> None:
    chunks: Chunks = [(0.0, WORDS[0]), *[(0.5, COMMENT)] * 100]
    scenario = Scenario({"a": FakeEndpoint(chunks=chunks)})
    _, end = await scenario.generate()
    assert isinstance(end.error, StreamStalled)
    assert 5.0 <= since_start_s() <= 5.001
    await scenario.settled()
    scenario.check()


@on_virtual_time
async def test_client_that_reads_nothing_is_a_slow_consumer() -> None:
    scenario = Scenario({"a": FakeEndpoint(chunks=answer("Hello", " there"))}, slow_consumer_s=3.0)
    generation = scenario.generation()

    async def write(events: Events) -> None:
        await asyncio.Event().wait()

    await consume(generation, write)
    assert generation.end is not None
    assert isinstance(generation.end.error, SlowConsumer)
    assert 3.0 <= since_start_s() <= 3.001
    (record,) = generation.end.attempts
    assert record.outcome is AttemptOutcome.IGNORED, "the provider is well"
    await scenario.settled()
    scenario.check()


@on_virtual_time
async def test_time_of_the_client_and_of_the_provider_are_counted_apart() -> None:
    """Four seconds of each, again and again: neither is over its limit of five."""
    scenario = Scenario(
        {"a": FakeEndpoint(chunks=answer(*"abcde", gap_s=4.0))},
        slow_consumer_s=5.0,
        timeouts={"inter_token_ms": 5000},
    )
    generation = scenario.generation()

    async def write(events: Events) -> None:
        await asyncio.sleep(4.0)

    batches = await consume(generation, write)
    assert told(batches) == "abcde"
    assert generation.end is not None
    assert generation.end.error is None
    await scenario.settled()


# --- cancelled ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at_s", "spoken"),
    [(0.0625, ""), (0.25, ""), (0.75, ""), (0.9375, "Hello"), (1.0625, "Hello")],
)
def test_cancelled_at_each_phase(at_s: float, spoken: str) -> None:
    @on_virtual_time
    async def check() -> None:
        scenario = Scenario({"a": HELLO})
        generation = scenario.generation()
        asyncio.get_running_loop().call_later(at_s, generation.cancel, BARGE_IN)
        batches = await consume(generation)
        assert told(batches) == spoken
        assert generation.end is not None
        assert generation.end.error is BARGE_IN
        assert scenario.aborted == [("a", at_s)]
        assert_sums_up(generation.end)
        assert since_start_s() == at_s
        await scenario.settled()
        scenario.check()

    check()


@on_virtual_time
async def test_cancelled_before_its_task_ran_sends_nothing() -> None:
    scenario = Scenario({"a": HELLO})
    generation = scenario.generation()
    task = asyncio.ensure_future(consume(generation))
    assert generation.cancel(BARGE_IN)
    assert await task == []
    assert generation.end is not None
    assert generation.end.error is BARGE_IN
    assert scenario.started == []
    scenario.check()


@pytest.mark.parametrize(("heard_s", "cancel_us"), [(None, None), (0.75, 187_500)])
def test_a_cancel_is_timed_from_its_frame(heard_s: float | None, cancel_us: int | None) -> None:
    @on_virtual_time
    async def check() -> None:
        scenario = Scenario({"a": HELLO})
        generation = scenario.generation()
        began_s = now_s()
        heard_at_s = None if heard_s is None else began_s + heard_s
        cancel = partial(generation.cancel, BARGE_IN, heard_at_s)
        asyncio.get_running_loop().call_later(0.9375, cancel)
        await consume(generation)
        assert generation.end is not None
        assert generation.end.cancel_us == cancel_us

    check()


@on_virtual_time
async def test_an_end_that_came_before_the_cancel_has_no_time_of_one() -> None:
    scenario = Scenario({"a": HELLO})
    generation = scenario.generation()
    await consume(generation)
    assert not generation.cancel(BARGE_IN, now_s())
    assert generation.end is not None
    assert generation.end.cancel_us is None


@on_virtual_time
async def test_cancelled_while_the_frontend_writes() -> None:
    scenario = Scenario({"a": HELLO})
    generation = scenario.generation()

    async def write(events: Events) -> None:
        asyncio.get_running_loop().call_later(0.5, generation.cancel, BARGE_IN)
        await asyncio.sleep(60)

    await consume(generation, write)
    assert generation.end is not None
    assert generation.end.error is BARGE_IN
    assert scenario.aborted == [("a", 1.375)]
    await scenario.settled()
    scenario.check()


@on_virtual_time
async def test_first_cancel_wins_and_later_ones_do_nothing() -> None:
    scenario = Scenario({"a": HELLO})
    generation = scenario.generation()
    answers: list[bool] = []
    loop = asyncio.get_running_loop()
    loop.call_later(0.5, lambda: answers.append(generation.cancel(BARGE_IN)))
    loop.call_later(0.5, lambda: answers.append(generation.cancel(Draining("stop"))))
    await consume(generation)
    answers.append(generation.cancel(BARGE_IN))
    assert generation.end is not None
    assert generation.end.error is BARGE_IN
    assert answers == [True, False, False]
    await scenario.settled()


@on_virtual_time
async def test_cancel_from_outside_passes_through_with_its_end() -> None:
    scenario = Scenario({"a": HELLO})
    generation = scenario.generation()
    task = asyncio.ensure_future(consume(generation))
    asyncio.get_running_loop().call_later(0.5, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert generation.end is not None
    assert isinstance(generation.end.error, ClientCancelled)
    assert scenario.aborted == [("a", 0.5)]
    await scenario.settled()
    scenario.check()


@on_virtual_time
async def test_drain_ends_what_runs() -> None:
    scenario = Scenario({"a": SILENT})
    generation = scenario.generation()
    live = scenario.services.live
    cause = Draining("stop")
    asyncio.get_running_loop().call_later(0.5, live.cancel_all, cause)
    idle = asyncio.ensure_future(live.idle())
    await asyncio.gather(consume(generation), idle)
    assert generation.end is not None
    assert generation.end.error is cause
    await scenario.settled()


@on_virtual_time
async def test_nothing_running_is_idle_at_once() -> None:
    live = Live()
    live.discard(object())
    await live.idle()
    assert len(live) == 0


@on_virtual_time
async def test_frontend_that_leaves_early_lets_the_stream_go() -> None:
    scenario = Scenario({"a": HELLO})
    generation = scenario.generation()
    async with generation:
        assert await generation.commit()
    assert generation.end is not None
    assert isinstance(generation.end.error, ClientCancelled)
    assert scenario.aborted == [("a", 0.875)]
    await scenario.settled()
    scenario.check()


@on_virtual_time
async def test_nothing_comes_after_the_end() -> None:
    scenario = Scenario({"a": HELLO})
    generation = scenario.generation()
    await consume(generation)
    end = generation.end
    with pytest.raises(StopAsyncIteration):
        await anext(generation)
    assert generation.end is end
    await scenario.settled()


# --- bugs -----------------------------------------------------------------------------------


@on_virtual_time
async def test_bug_in_the_frontend_still_gives_an_end() -> None:
    scenario = Scenario({"a": HELLO})
    generation = scenario.generation()

    async def write(events: Events) -> None:
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        await consume(generation, write)
    assert generation.end is not None
    assert isinstance(generation.end.error, InternalError)
    assert scenario.aborted == [("a", 0.875)]
    await scenario.settled()
    scenario.check()


@on_virtual_time
async def test_refusal_by_the_frontend_is_the_end() -> None:
    scenario = Scenario({"a": HELLO})
    generation = scenario.generation()

    async def write(events: Events) -> None:
        raise EventTooLarge("more than the frontend collects")

    with pytest.raises(EventTooLarge):
        await consume(generation, write)
    assert generation.end is not None
    assert isinstance(generation.end.error, EventTooLarge)
    assert scenario.aborted == [("a", 0.875)]
    await scenario.settled()
    scenario.check()


@pytest.mark.parametrize("is_before_commit", [True, False])
def test_bug_in_the_core_still_gives_an_end(
    is_before_commit: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    @on_virtual_time
    async def check() -> None:
        scenario = Scenario({"a": HELLO})
        generation = scenario.generation()

        async def bug(*_: object) -> Events:
            raise KeyError("a bug")

        async with generation:
            if is_before_commit:
                monkeypatch.setattr("relay.attempt.Attempt.read", bug)
                assert not await generation.commit()
            else:
                assert await generation.commit()
                assert await anext(generation)
                monkeypatch.setattr("relay.attempt.Attempt.read", bug)
                with pytest.raises(StopAsyncIteration):
                    await anext(generation)
        assert generation.end is not None
        assert isinstance(generation.end.error, InternalError)
        assert "bug" not in generation.end.error.public_message
        await scenario.settled()
        scenario.check()

    check()


# --- the ledger -----------------------------------------------------------------------------


@on_virtual_time
async def test_nothing_is_released_before_the_account_is_durable() -> None:
    ledger = FakeLedger(admit_s=0.125, durable_s=1.0)
    scenario = Scenario({"a": HELLO}, ledger=ledger)
    generation = scenario.generation()
    released: list[float] = []

    async def write(events: Events) -> None:
        released.append(since_start_s())

    await consume(generation, write)
    (entry,) = ledger.entries
    assert entry.durable_at_s == 2.0
    assert released[0] == 2.0
    assert entry.ends == [generation.end]
    assert generation.end is not None
    assert generation.end.phases_us["admission"] == 125_000
    assert_sums_up(generation.end)
    await scenario.settled()


@on_virtual_time
async def test_refused_by_the_ledger_asks_nobody() -> None:
    refusal = NoCandidates("no money")
    scenario = Scenario({"a": HELLO}, ledger=FakeLedger(refuses=refusal))
    _, end = await scenario.generate()
    assert end.error is refusal
    assert scenario.started == []
    scenario.check()


@on_virtual_time
async def test_account_that_cannot_be_made_durable_releases_nothing() -> None:
    ledger = FakeLedger(loses=AdmissionError("the disk is full"))
    scenario = Scenario({"a": HELLO}, ledger=ledger)
    batches, end = await scenario.generate()
    assert batches == []
    assert end.error is ledger.loses
    assert ledger.settled == [end]
    assert scenario.aborted == [("a", 0.875)]
    assert [record.is_winner for record in end.attempts] == [False]
    await scenario.settled()
    scenario.check()


@pytest.mark.parametrize(
    ("endpoint", "model"),
    [
        pytest.param(HELLO, "fast", id="clean"),
        pytest.param(REFUSED, "fast", id="lost race"),
        pytest.param(FakeEndpoint(chunks=answer("Hi")[:2]), "fast", id="truncated"),
    ],
)
def test_account_is_settled_exactly_once(endpoint: FakeEndpoint, model: str) -> None:
    @on_virtual_time
    async def check() -> None:
        ledger = FakeLedger()
        scenario = Scenario({"a": endpoint}, ledger=ledger)
        _, end = await scenario.generate(request(model=model))
        assert ledger.settled == [end]
        await scenario.settled()

    check()


@on_virtual_time
async def test_unknown_model_has_no_account() -> None:
    ledger = FakeLedger()
    scenario = Scenario({"a": HELLO}, ledger=ledger)
    _, end = await scenario.generate(request(model="nobody"))
    assert end.error is not None
    assert ledger.entries == []


@pytest.mark.parametrize(
    ("endpoint", "cancel_s"), [(HELLO, None), (REFUSED, None), (HELLO, 0.5), (HELLO, 1.125)]
)
def test_end_is_booked_before_the_client_is_told(
    endpoint: FakeEndpoint, cancel_s: float | None
) -> None:
    @on_virtual_time
    async def check() -> None:
        ledger = FakeLedger(booked_s=0.25)
        scenario = Scenario({"a": endpoint}, ledger=ledger)
        generation = scenario.generation()
        if cancel_s is not None:
            asyncio.get_running_loop().call_later(cancel_s, generation.cancel, BARGE_IN)
        await consume(generation)
        (entry,) = ledger.entries
        assert entry.booked_at_s == since_start_s()
        await scenario.settled()
        scenario.check()

    check()


@pytest.mark.parametrize("at_s", [0.0625, 0.25, 1.25, 2.125])
def test_account_of_a_cancelled_generation_is_settled_once(at_s: float) -> None:
    """While admitted, racing, made durable, streaming."""

    @on_virtual_time
    async def check() -> None:
        ledger = FakeLedger(admit_s=0.125, durable_s=1.0)
        scenario = Scenario({"a": HELLO}, ledger=ledger)
        generation = scenario.generation()
        asyncio.get_running_loop().call_later(at_s, generation.cancel, BARGE_IN)
        await consume(generation)
        assert generation.end is not None
        assert generation.end.error is BARGE_IN
        assert ledger.settled == ([generation.end] if at_s >= 0.125 else [])
        await scenario.settled()
        scenario.check()

    check()


@on_virtual_time
async def test_ledger_may_book_nothing() -> None:
    scenario = Scenario({"a": HELLO}, ledger=FakeLedger(books_nothing=True))
    _, end = await scenario.generate()
    assert end.error is None
    await scenario.settled()


# --- the log --------------------------------------------------------------------------------


@on_virtual_time
async def test_one_line_of_log_without_what_was_said() -> None:
    scenario = Scenario({"a": FakeEndpoint(chunks=answer("confidential", "answer"))})
    wanted = request(messages=(Message(Role.USER, (TextPart("a private prompt"),)),))
    with capture_logs() as lines:
        structlog.get_logger("relay.generation")
        _, end = await scenario.generate(wanted, client_id="c1")
    (line,) = lines
    assert line["id"] == "gen_1"
    assert line["wall_us"] == end.wall_us
    assert line["finish"] == "STOP"
    assert "private" not in str(line)
    assert "confidential" not in str(line)
    await scenario.settled()


@on_virtual_time
async def test_text_that_was_no_unicode_is_counted_in_the_log() -> None:
    role, said, broken, *rest = answer("a", "XX")
    chunks = [role, said, (broken[0], broken[1].replace(b"XX", b"\xff")), *rest]
    for given, mended in ((chunks, 1), (answer("a", "b"), None)):
        scenario = Scenario({"a": FakeEndpoint(chunks=given)})
        with capture_logs() as lines:
            await scenario.generate()
        (line,) = lines
        assert [attempt["mended"] for attempt in line["attempts"]] == [mended]
        await scenario.settled()


@on_virtual_time
async def test_output_of_every_kind_is_counted() -> None:
    chunks = [
        chunk({"reasoning_content": "abcd"}),
        chunk({"content": "日本"}),
        chunk({"refusal": "no"}),
        chunk({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "find"}}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}),
        chunk(finish="tool_calls"),
    ]
    scenario = Scenario({"a": FakeEndpoint(chunks=[(0.0, data) for data in chunks])})
    batches, end = await scenario.generate()
    kinds = {type(event) for events in batches for event in events}
    assert {ReasoningDelta, ToolCallStart, ToolArgumentsDelta} <= kinds
    assert end.usage is not None
    assert end.usage.completion_tokens == -(-(4 + 6 + 2 + 4 + 2) // 4)
    await scenario.settled()
