"""Events and ends as frames of the contract: offsets, merging, and what a client asked to see."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest
from google.rpc import error_details_pb2
from hypothesis import given
from hypothesis import strategies as st
from rtrelay.v1 import content_pb2 as content_pb
from rtrelay.v1 import errors_pb2 as errors_pb
from rtrelay.v1 import relay_pb2 as relay_pb

from relay.content import (
    AudioDelta,
    ChoiceFinished,
    Events,
    FinishReason,
    OpaqueDelta,
    ReasoningDelta,
    RefusalDelta,
    ResponseInfo,
    StreamEvent,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallDone,
    ToolCallStart,
    Usage,
)
from relay.errors import (
    CancelReason,
    ClientCancelled,
    ConnectError,
    DeadlineExceeded,
    InvalidRequest,
    Reason,
    UpstreamStatus,
)
from relay.frontends.proto_out import FrameEncoder
from relay.outcome import AttemptOutcome, AttemptRecord, AttemptRole, HedgeRecord, refused
from relay.timeline import PHASES
from tests.fakes.collect import collect
from tests.fakes.ends import end_of
from tests.fakes.events import INFO, batches
from tests.fakes.memory_transport import FakeEndpoint
from tests.fakes.properties import examples
from tests.fakes.scenario import Scenario, answer
from tests.fakes.virtual_time import on_virtual_time

ALL = relay_pb.OutputOptions(reasoning=True, tool_arguments=True, extras=True, attempt_phases=True)
NONE = relay_pb.OutputOptions()


def encoder(output: relay_pb.OutputOptions = ALL) -> FrameEncoder:
    return FrameEncoder("g1", "gen_1", "t1", output)


def frames_of(*events: StreamEvent, output: relay_pb.OutputOptions = ALL) -> list[Any]:
    """What the frames of one batch hold."""
    return [_inside(data) for data in encoder(output).output(events)]


def _inside(data: bytes) -> Any:
    frame = relay_pb.ConverseResponse.FromString(data)
    kind = frame.WhichOneof("frame")
    assert kind is not None
    inner = getattr(frame, kind)
    assert inner.generation_id == "g1"
    return inner


def end_frame(made: FrameEncoder, *args: Any, **kwargs: Any) -> relay_pb.End:
    frame = relay_pb.ConverseResponse.FromString(made.end(end_of(*args, **kwargs), None))
    return frame.end


# --- output ---------------------------------------------------------------------------------


def test_started_names_both_ids() -> None:
    started = _inside(encoder().started())
    assert (started.generation_id, started.request_id) == ("g1", "gen_1")


def test_a_batch_becomes_one_delta() -> None:
    (delta,) = frames_of(
        ReasoningDelta("Hm"),
        TextDelta("Hel"),
        TextDelta("lo"),
        RefusalDelta("No"),
        ReasoningDelta("!"),
    )
    assert delta == relay_pb.Delta(
        generation_id="g1", text="Hello", reasoning="Hm!", refusal="No", char_offset=0
    )


def test_each_choice_has_its_delta_in_order() -> None:
    deltas = frames_of(TextDelta("a"), TextDelta("b", 1), TextDelta("c", 1), TextDelta("d"))
    assert [(d.choice, d.text, d.char_offset) for d in deltas] == [
        (0, "a", 0),
        (1, "bc", 0),
        (0, "d", 1),
    ]


def test_frames_do_not_share_what_they_hold() -> None:
    """One message is filled in again and again for plain text."""
    made = encoder()
    frames = [
        *made.output([TextDelta("a")]),
        *made.output([TextDelta("b", 1)]),
        *made.output([ReasoningDelta("hm"), TextDelta("c")]),
        *made.output([TextDelta("d")]),
    ]
    assert [(d.choice, d.text, d.char_offset, d.reasoning) for d in map(_inside, frames)] == [
        (0, "a", 0, ""),
        (1, "b", 0, ""),
        (0, "c", 1, "hm"),
        (0, "d", 2, ""),
    ]


def test_complete_call_stands_alone_after_what_came_before_it() -> None:
    before, call, after = frames_of(
        TextDelta("a"),
        ToolCallStart(0, "c", "f"),
        ToolArgumentsDelta(0, "{"),
        ToolArgumentsDelta(0, "}"),
        ToolCallDone(0, "c", "f", "{}", is_partial=True, extra_json=b'{"x":1}'),
        TextDelta("b"),
    )
    assert before.text == "a"
    assert list(before.tool_arguments) == [
        relay_pb.ToolArgumentsDelta(index=0, call_id="c", name="f", fragment="{}")
    ]
    assert call == relay_pb.ToolCallDone(
        generation_id="g1",
        index=0,
        call=content_pb.ToolCall(
            call_id="c",
            name="f",
            arguments="{}",
            kind=content_pb.TOOL_KIND_FUNCTION,
            extra_json=b'{"x":1}',
        ),
        is_partial=True,
    )
    assert (after.text, after.char_offset) == ("b", 1)


def test_custom_call_says_so() -> None:
    (call,) = frames_of(ToolCallDone(1, "c", "sql", "select", 2, "custom"))
    assert (call.call.kind, call.index, call.choice) == (content_pb.TOOL_KIND_CUSTOM, 1, 2)


@pytest.mark.parametrize(
    ("event", "field"),
    [
        (ReasoningDelta("Hm"), "reasoning"),
        (ToolCallStart(0, "c", "f"), "tool_arguments"),
        (ToolArgumentsDelta(0, "{}"), "tool_arguments"),
        (OpaqueDelta("logprobs", b"[]"), "extras"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_only_what_was_asked_for(event: StreamEvent, field: str) -> None:
    assert frames_of(event, output=NONE) == []
    asked: dict[str, Any] = {field: True}
    (delta,) = frames_of(event, output=relay_pb.OutputOptions(**asked))
    assert getattr(delta, field)
    (text,) = frames_of(TextDelta("a"), event, TextDelta("b"), output=NONE)
    assert text.text == "ab"


@pytest.mark.parametrize("event", [INFO, Usage(1, 1, 2), ChoiceFinished(FinishReason.STOP, "stop")])
def test_what_belongs_to_the_end_makes_no_frame(event: StreamEvent) -> None:
    assert frames_of(event) == []


def test_extras_keep_their_order() -> None:
    (delta,) = frames_of(OpaqueDelta("a", b"1"), OpaqueDelta("b", b"2"), OpaqueDelta("a", b"3"))
    assert [(extra.key, extra.value_json) for extra in delta.extras] == [
        ("a", b"1"),
        ("b", b"2"),
        ("a", b"3"),
    ]


@examples(150)
@given(batches(), st.booleans())
def test_offsets_have_no_gap_however_a_stream_is_cut(cut: list[Events], wants_all: bool) -> None:
    made = encoder(ALL if wants_all else NONE)
    texts: dict[int, str] = {}
    reasoning: dict[int, str] = {}
    arguments: dict[tuple[int, int], str] = {}
    calls: list[tuple[int, int, str]] = []
    for events in cut:
        for data in made.output(events):
            frame = _inside(data)
            if isinstance(frame, relay_pb.ToolCallDone):
                calls.append((frame.choice, frame.index, frame.call.arguments))
                continue
            assert frame.char_offset == len(texts.get(frame.choice, ""))
            texts[frame.choice] = texts.get(frame.choice, "") + frame.text
            reasoning[frame.choice] = reasoning.get(frame.choice, "") + frame.reasoning
            for piece in frame.tool_arguments:
                key = (frame.choice, piece.index)
                assert (piece.call_id != "") is (key not in arguments)
                arguments[key] = arguments.get(key, "") + piece.fragment
    flat = [event for events in cut for event in events]
    meant = collect(flat).choices
    for choice, ours in meant.items():
        assert texts.get(choice, "") == ours.text
        assert reasoning.get(choice, "") == (ours.reasoning if wants_all else "")
        of_choice = [(index, said) for at, index, said in calls if at == choice]
        assert of_choice == [(i, call.arguments) for i, call in enumerate(ours.tool_calls)]
        if wants_all:
            for index, call in enumerate(ours.tool_calls):
                assert arguments[(choice, index)] == call.arguments
    end = end_frame(made, flat)
    assert {one.choice: one.text_chars for one in end.choices} == {
        choice: len(ours.text) for choice, ours in meant.items()
    }


# --- sound ----------------------------------------------------------------------------------


@examples(60)
@given(st.binary(max_size=30), st.lists(st.integers(0, 40), max_size=6))
def test_sound_is_the_same_however_its_base64_is_cut(sound: bytes, at: list[int]) -> None:
    text = base64.b64encode(sound).decode()
    ends = [*sorted(min(cut, len(text)) for cut in at), len(text)]
    pieces = [text[a:b] for a, b in zip([0, *ends], ends, strict=False)]
    made = encoder()
    got = b""
    for piece in pieces:
        for data in made.output([AudioDelta("a1", piece, "x")]):
            got += _inside(data).audio.data
    assert got == sound


@examples(60)
@given(
    st.lists(st.binary(max_size=30), max_size=3),
    st.lists(st.integers(0, 160), max_size=6),
    st.booleans(),
)
def test_sound_needs_no_padding_and_may_be_padded_in_its_midst(
    sounds: list[bytes], at: list[int], is_padded: bool
) -> None:
    *before, last = [base64.b64encode(sound).decode() for sound in [*sounds, b"12345"]]
    text = "".join(before) + (last if is_padded else last.rstrip("="))
    ends = [*sorted(min(cut, len(text)) for cut in at), len(text)]
    pieces = [text[a:b] for a, b in zip([0, *ends], ends, strict=False)]
    made = encoder()
    frames = [data for piece in pieces for data in made.output([AudioDelta("a1", piece)])]
    frames += made.output([ChoiceFinished(FinishReason.STOP, "stop")])
    assert b"".join(_inside(data).audio.data for data in frames) == b"".join(sounds) + b"12345"


def test_last_group_without_padding_comes_after_all_sound_of_its_batch() -> None:
    first, last = frames_of(
        AudioDelta("a1", "QUJ"),
        ChoiceFinished(FinishReason.STOP, "stop"),
        AudioDelta("", "DRA"),  # some providers send more after their finish
    )
    assert (first.audio.data, last.audio.data) == (b"ABC", b"D")
    assert last.char_offset == 0


@pytest.mark.parametrize("text", ["-_8=", "+/8\n=", "-_8"])
def test_sound_in_the_alphabet_of_urls_or_with_line_ends(text: str) -> None:
    deltas = frames_of(AudioDelta("a1", text), ChoiceFinished(FinishReason.STOP, "stop"))
    assert b"".join(delta.audio.data for delta in deltas) == b"\xfb\xff"


@pytest.mark.parametrize("broken", ["A", "A===", "####", "AAAA=AAA", "é", "A" * 4001])
def test_broken_sound_harms_nobody(broken: str) -> None:
    """A failure here would be in the writer, and take every generation of the session along."""
    made = encoder()
    (frame,) = made.output([AudioDelta("a1", broken, "still told", 2**70)])
    assert _inside(frame).audio.transcript == "still told"
    (frame,) = made.output([TextDelta("on")])
    assert _inside(frame).text == "on"


def test_sound_has_its_facts() -> None:
    (delta,) = frames_of(
        AudioDelta("a1", base64.b64encode(b"abc").decode(), "He"),
        AudioDelta("", base64.b64encode(b"def").decode(), "llo", 99),
    )
    assert delta.audio == relay_pb.AudioDelta(
        audio_id="a1", data=b"abcdef", transcript="Hello", expires_at_s=99
    )


# --- the end --------------------------------------------------------------------------------

STOP = ChoiceFinished(FinishReason.STOP, "end_turn")


@pytest.mark.parametrize("is_withdrawn", [False, True])
def test_a_sentence_that_is_withdrawn_before_its_end_is_not_spoken(is_withdrawn: bool) -> None:
    output = relay_pb.OutputOptions(text_mode=relay_pb.TEXT_MODE_SEGMENTS)
    finished = ChoiceFinished(FinishReason.CONTENT_FILTER, "guardrail:x", is_withdrawn=is_withdrawn)
    frames = frames_of(TextDelta("It rains. And the sec"), finished, output=output)
    said = [(frame.text, frame.is_last) for frame in frames]
    assert said == [("It rains. ", False), ("" if is_withdrawn else "And the sec", True)]


def record(provider: str, outcome: AttemptOutcome, **fields: Any) -> AttemptRecord:
    return AttemptRecord(provider, "m", 100, 300, outcome, **fields)


def test_usage_of_an_attempt_is_told_where_it_is_known() -> None:
    lost = record("a", AttemptOutcome.FAILURE)
    won = record("b", AttemptOutcome.SUCCESS, is_winner=True)
    end = end_frame(encoder(), [STOP, Usage(7, 5, 12)], attempts=[lost, won])
    assert [attempt.HasField("usage") for attempt in end.attempts] == [False, True]
    assert end.attempts[1].usage == end.usage
    assert end.usage.total_tokens == 12


def test_clean_end() -> None:
    made = encoder()
    made.output([TextDelta("Hi")])
    usage = Usage(7, 5, 12, 3, None, 2, raw_json=b'{"a":1}')
    won = record(
        "a",
        AttemptOutcome.SUCCESS,
        is_winner=True,
        http_version="2",
        http_status=200,
        phases_us={"pool_wait": 1, "request_sent": 2, "response_headers": 3, "first_content": 4},
    )
    end = end_frame(made, [STOP, usage], attempts=[won])
    assert end.outcome == relay_pb.OUTCOME_COMPLETED
    assert not end.HasField("error")
    assert list(end.choices) == [
        relay_pb.ChoiceEnd(
            choice=0,
            finish_reason=content_pb.FINISH_REASON_STOP,
            raw_reason="end_turn",
            text_chars=2,
        )
    ]
    assert end.usage == content_pb.Usage(
        prompt_tokens=7,
        completion_tokens=5,
        total_tokens=12,
        cached_tokens=3,
        reasoning_tokens=2,
        raw_json=b'{"a":1}',
    )
    assert not end.usage.HasField("cache_write_tokens")
    assert end.usage_final
    assert (end.generation_id, end.request_id, end.turn_id) == ("g1", "gen_1", "t1")
    assert (end.provider, end.model, end.response_id) == ("a", "m", "chatcmpl-1")
    assert list(end.attempts) == [
        relay_pb.Attempt(
            provider="a",
            model="m",
            kind=relay_pb.ATTEMPT_KIND_PRIMARY,
            outcome=relay_pb.ATTEMPT_OUTCOME_COMPLETED,
            is_winner=True,
            http_version="h2",
            upstream_status=200,
            start_us=100,
            duration_us=200,
            phases=relay_pb.AttemptPhases(
                pool_wait_us=1, request_sent_us=2, response_headers_us=3, first_content_us=4
            ),
            usage=end.usage,
        )
    ]
    timeline = end.timeline
    assert timeline.wall_us == sum(getattr(timeline, f"{phase}_us") for phase in PHASES)
    assert (timeline.stall_count, timeline.longest_gap_us) == (1, 600_000)


def test_phases_of_attempts_only_if_asked_for() -> None:
    won = record("a", AttemptOutcome.SUCCESS, phases_us={"pool_wait": 1})
    assert not end_frame(encoder(NONE), [STOP], attempts=[won]).attempts[0].HasField("phases")


def test_cancelled_end_has_its_reason_and_no_error() -> None:
    end = end_frame(encoder(), error=ClientCancelled("stop", CancelReason.BARGE_IN))
    assert end.outcome == relay_pb.OUTCOME_CANCELLED
    assert end.cancel_reason == relay_pb.CANCEL_REASON_BARGE_IN
    assert not end.HasField("error")


def test_failed_end_has_its_error() -> None:
    end = end_frame(encoder(), error=InvalidRequest("wrong", field="start.prompt"))
    assert end.outcome == relay_pb.OUTCOME_FAILED
    assert end.error.code == 3
    info = error_details_pb2.ErrorInfo()
    assert end.error.details[0].Unpack(info)
    assert (info.reason, dict(info.metadata)) == ("INVALID_REQUEST", {"field": "start.prompt"})


def test_refused_start_has_an_end_too() -> None:
    data = encoder().end(refused(InvalidRequest("wrong")), None)
    end = _inside(data)
    assert end.outcome == relay_pb.OUTCOME_FAILED
    assert end.timeline.wall_us == 0
    assert not end.HasField("usage")


@pytest.mark.parametrize(
    ("role", "kind"),
    [
        (AttemptRole.PRIMARY, relay_pb.ATTEMPT_KIND_PRIMARY),
        (AttemptRole.HEDGE, relay_pb.ATTEMPT_KIND_HEDGE),
        (AttemptRole.FAILOVER, relay_pb.ATTEMPT_KIND_FAILOVER),
        (AttemptRole.RETRY, relay_pb.ATTEMPT_KIND_RETRY),
    ],
)
def test_why_an_attempt_was_made(role: AttemptRole, kind: int) -> None:
    end = end_frame(encoder(), [STOP], attempts=[record("a", AttemptOutcome.SUCCESS, role=role)])
    assert [attempt.kind for attempt in end.attempts] == [kind]


@pytest.mark.parametrize(
    ("outcome", "is_loser", "expected"),
    [
        (AttemptOutcome.SUCCESS, False, relay_pb.ATTEMPT_OUTCOME_COMPLETED),
        (AttemptOutcome.FAILURE, False, relay_pb.ATTEMPT_OUTCOME_FAILED),
        (AttemptOutcome.OVERLOAD, False, relay_pb.ATTEMPT_OUTCOME_FAILED),
        (AttemptOutcome.IGNORED, True, relay_pb.ATTEMPT_OUTCOME_LOST),
        (AttemptOutcome.IGNORED, False, relay_pb.ATTEMPT_OUTCOME_CANCELLED),
    ],
)
def test_how_an_attempt_ended(outcome: AttemptOutcome, is_loser: bool, expected: int) -> None:
    end = end_frame(encoder(), [STOP], attempts=[record("a", outcome, is_loser=is_loser)])
    assert [attempt.outcome for attempt in end.attempts] == [expected]


def test_money_and_the_hedge_are_told() -> None:
    lost = record("a", AttemptOutcome.IGNORED, is_loser=True, cost=1.2, cost_upper=30.0)
    won = record("b", AttemptOutcome.SUCCESS, is_winner=True, role=AttemptRole.HEDGE)
    decided = HedgeRecord("learned", delay_us=700_000, second="b/m", fired=1, won=True)
    end = end_frame(encoder(), [STOP], attempts=[lost, won], hedge=decided)
    assert (end.attempts[0].cost_micro_usd, end.attempts[0].cost_upper_micro_usd) == (2, 30)
    assert not end.attempts[1].HasField("cost_micro_usd")
    assert end.hedge == relay_pb.Hedge(
        reason="learned", delay_us=700_000, second="b/m", fired=1, won=True
    )
    assert not end_frame(encoder(), [STOP]).HasField("hedge")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ClientCancelled("stop"), errors_pb.ERROR_REASON_CLIENT_CANCELLED),
        (DeadlineExceeded("late"), errors_pb.ERROR_REASON_DEADLINE_EXCEEDED),
        (
            DeadlineExceeded("late", reason=Reason.FIRST_TOKEN_TIMEOUT),
            errors_pb.ERROR_REASON_FIRST_TOKEN_TIMEOUT,
        ),
    ],
)
def test_attempt_that_was_stopped_says_why(error: ClientCancelled, reason: int) -> None:
    stopped = record("a", AttemptOutcome.IGNORED)
    failed = record("b", AttemptOutcome.FAILURE, error=ConnectError("refused"))
    end = end_frame(encoder(), error=error, attempts=[failed, stopped], provider="")
    assert [(attempt.outcome, attempt.reason) for attempt in end.attempts] == [
        (relay_pb.ATTEMPT_OUTCOME_FAILED, errors_pb.ERROR_REASON_UPSTREAM_UNREACHABLE),
        (relay_pb.ATTEMPT_OUTCOME_CANCELLED, reason),
    ]


def test_choice_that_began_and_did_not_end_is_told_too() -> None:
    made = encoder(NONE)
    made.output([TextDelta("日本"), ToolCallDone(0, "c", "f", "{}", 1)])
    end = end_frame(made, error=ClientCancelled("stop"))
    assert [(one.choice, one.finish_reason, one.text_chars) for one in end.choices] == [
        (0, content_pb.FINISH_REASON_UNSPECIFIED, 2),
        (1, content_pb.FINISH_REASON_UNSPECIFIED, 0),
    ]


@on_virtual_time
async def test_end_of_a_real_generation_has_what_the_provider_said() -> None:
    scenario = Scenario({"a": FakeEndpoint(chunks=answer("Hi"))})
    generation = scenario.generation()
    made = encoder()
    async with generation:
        assert await generation.commit()
        async for events in generation:
            made.output(events)
    assert generation.end is not None
    generation.info = ResponseInfo("chatcmpl-1", "m", 1_700_000_000, "priority", "fp_1")
    end = _inside(made.end(generation.end, generation))
    assert (end.created_s, end.service_tier, end.system_fingerprint) == (
        1_700_000_000,
        "priority",
        "fp_1",
    )
    assert end.usage.is_estimated
    assert not end.usage_final
    await scenario.settled()


def test_provider_error_keeps_its_words() -> None:
    error = UpstreamStatus(
        "the provider is busy",
        reason=Reason.UPSTREAM_OVERLOADED,
        http_status=503,
        provider_code="overloaded",
        retry_after_s=1.5,
    )
    status = end_frame(encoder(), error=error).error
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(retry)
    assert (status.code, status.message) == (14, "the provider is busy")
    assert info.domain == "rtrelay"
    assert dict(info.metadata) == {"upstream_status": "503", "provider_code": "overloaded"}
    assert retry.retry_delay.ToMilliseconds() == 1500


def test_frames_of_converse_are_those_of_generate() -> None:
    made = encoder()
    for data in (made.started(), *made.output([TextDelta("Hi")]), made.end(end_of([STOP]), None)):
        as_generate = relay_pb.GenerateResponse.FromString(data)
        assert as_generate.WhichOneof("frame") is not None
        assert as_generate.SerializeToString() == data


def test_json_of_extras_is_passed_on_as_it_is() -> None:
    value = orjson.dumps({"a": [1, None]})
    (delta,) = frames_of(OpaqueDelta("k", value))
    assert delta.extras[0].value_json == value
