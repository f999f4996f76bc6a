"""The chat stream, rule by rule: what the strictest clients in use can and cannot read.

The rules are numbered as in the contract for OpenAI-compatible voice agents: LiveKit and Pipecat
each read the stream in their own way, and Pipecat is the stricter one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk

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
from relay.errors import EventTooLarge
from relay.frontends.surfaces.account import relay_object, usage_object
from relay.frontends.surfaces.chat_document import ChatCollector
from relay.frontends.surfaces.chat_stream import ChatChunkEncoder
from relay.outcome import AttemptOutcome, AttemptRecord
from tests.fakes.collect import collect
from tests.fakes.ends import end_of
from tests.fakes.events import INFO, batches
from tests.fakes.properties import examples

DONE = b"data: [DONE]\n\n"
STOP = ChoiceFinished(FinishReason.STOP, "stop")


def payloads(data: bytes) -> list[dict[str, Any]]:
    """The chunks of a piece of stream, `[DONE]` left out."""
    events = data.removesuffix(DONE).split(b"\n\n")
    assert events.pop() == b"", "an event that is not ended"
    for event in events:
        assert event.startswith(b"data: ")
        assert b"\n" not in event
    return [orjson.loads(event[6:]) for event in events]


def chunks_of(*events: StreamEvent) -> list[dict[str, Any]]:
    """The chunks of a stream of these events, usage left out."""
    return payloads(stream_of([[INFO, *events]], with_usage=False))


def deltas_of(*events: StreamEvent) -> list[dict[str, Any]]:
    return [chunk["choices"][0]["delta"] for chunk in chunks_of(*events)]


def stream_of(cut: Sequence[Events], *, with_usage: bool = True) -> bytes:
    """A whole stream."""
    encoder = ChatChunkEncoder("asked", with_usage=with_usage)
    body = b"".join(encoder.encode(events) for events in cut)
    end = end_of([event for events in cut for event in events])
    return body + encoder.encode_end(end)


CALL = (
    ToolCallStart(0, "call_1", "find_slot"),
    ToolArgumentsDelta(0, '{"day"'),
    ToolArgumentsDelta(0, ':"mon"}'),
    ToolCallDone(0, "call_1", "find_slot", '{"day":"mon"}'),
)


# --- rule 1: one choice, stable id and model, usage last and alone ---------------------------


def test_rule_1_id_model_and_time_are_those_of_the_provider_in_every_chunk() -> None:
    again = ResponseInfo("other", "other", 2)
    for chunk in chunks_of(TextDelta("a"), again, TextDelta("b"), STOP):
        assert (chunk["id"], chunk["model"], chunk["created"]) == (
            "chatcmpl-1",
            "upstream-model",
            1_700_000_000,
        )
        assert chunk["object"] == "chat.completion.chunk"
        assert len(chunk["choices"]) == 1


def test_rule_1_id_is_made_once_where_the_provider_gives_none() -> None:
    encoder = ChatChunkEncoder("asked", with_usage=True)
    data = encoder.encode([TextDelta("a")]) + encoder.encode([TextDelta("b"), STOP])
    data += encoder.encode_end(end_of(usage=Usage(1, 1, 2)))
    found = payloads(data)
    assert len({chunk["id"] for chunk in found}) == 1
    assert found[0]["id"].startswith("chatcmpl-")
    assert {chunk["model"] for chunk in found} == {"asked"}
    assert len({chunk["created"] for chunk in found}) == 1


def test_rule_1_tier_and_fingerprint_go_along() -> None:
    encoder = ChatChunkEncoder("asked")
    info = ResponseInfo("i", "m", 1, "priority", "fp_1")
    (chunk,) = payloads(encoder.encode([info, TextDelta("a")]))
    assert (chunk["service_tier"], chunk["system_fingerprint"]) == ("priority", "fp_1")


def test_rule_1_usage_is_in_the_last_chunk_with_no_choices() -> None:
    usage = Usage(7, 5, 12, cached_tokens=3, reasoning_tokens=2)
    found = payloads(stream_of([[INFO, TextDelta("Hi"), usage, STOP]]))
    assert [bool(chunk.get("usage")) for chunk in found] == [False, False, True]
    assert found[-1]["choices"] == []
    assert found[-1]["usage"] == {
        "prompt_tokens": 7,
        "completion_tokens": 5,
        "total_tokens": 12,
        "prompt_tokens_details": {"cached_tokens": 3},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }


def test_rule_1_usage_only_if_asked_for() -> None:
    body = stream_of([[INFO, TextDelta("Hi"), Usage(1, 1, 2), STOP]], with_usage=False)
    assert all("usage" not in chunk for chunk in payloads(body))
    assert body.endswith(DONE)


def test_usage_keeps_what_only_the_provider_knows() -> None:
    raw = b'{"prompt_tokens":1,"cost":0.5,"prompt_tokens_details":{"audio_tokens":4}}'
    value = usage_object(Usage(7, 5, 12, cached_tokens=3, raw_json=raw))
    assert value["prompt_tokens"] == 7
    assert value["cost"] == 0.5
    assert value["prompt_tokens_details"] == {"audio_tokens": 4, "cached_tokens": 3}
    assert usage_object(Usage(1, 1, 2, raw_json=b"[]"))["total_tokens"] == 2
    odd = usage_object(Usage(1, 1, 2, cached_tokens=1, raw_json=b'{"prompt_tokens_details":null}'))
    assert odd["prompt_tokens_details"] == {"cached_tokens": 1}


# --- rule 2: one tool call a chunk; id, index and name together, the name once ----------------


def test_rule_2_a_call_begins_with_id_index_and_name_and_never_names_itself_again() -> None:
    first, *more = deltas_of(*CALL)
    assert first == {
        "role": "assistant",
        "tool_calls": [
            {
                "index": 0,
                "id": "call_1",
                "type": "function",
                "function": {"name": "find_slot", "arguments": ""},
            }
        ],
    }
    assert more == [
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"day"'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": ':"mon"}'}}]},
    ]


def test_rule_2_provider_state_follows_its_call() -> None:
    done = ToolCallDone(0, "c", "f", "{}", extra_json=b'{"extra_content":{"google":{"s":"x"}}}')
    *_, last = deltas_of(ToolCallStart(0, "c", "f"), ToolArgumentsDelta(0, "{}"), done)
    assert last == {
        "tool_calls": [
            {
                "index": 0,
                "function": {"arguments": ""},  # the official client fails on a call without one
                "extra_content": {"google": {"s": "x"}},
            }
        ]
    }


def test_rule_2_custom_calls_have_their_own_shape() -> None:
    first, second = deltas_of(
        ToolCallStart(0, "c", "sql", kind="custom"), ToolArgumentsDelta(0, "select 1")
    )
    assert first["tool_calls"][0]["custom"] == {"name": "sql", "input": ""}
    assert "function" not in first["tool_calls"][0]
    assert second["tool_calls"] == [{"index": 0, "custom": {"input": "select 1"}}]
    whole = whole_of(INFO, ToolCallDone(0, "c", "sql", "select 1", kind="custom"), STOP)["choices"][
        0
    ]["message"]
    assert whole["tool_calls"] == [
        {"id": "c", "type": "custom", "custom": {"name": "sql", "input": "select 1"}}
    ]


# --- rule 3: never text and a call in one delta -----------------------------------------------


@examples(100)
@given(batches(with_opaque=True))
def test_rules_2_3_and_4_hold_for_any_stream(cut: list[Events]) -> None:
    names: dict[tuple[int, int], int] = {}
    finishes: dict[int, int] = {}
    for chunk in payloads(stream_of(cut)):
        for choice in chunk["choices"]:
            delta = choice["delta"]
            calls = delta.get("tool_calls", [])
            assert len(calls) <= 1
            assert not (calls and delta.get("content"))
            for call in calls:
                key = (choice["index"], call["index"])
                if "name" in call.get("function", {}):
                    names[key] = names.get(key, 0) + 1
                    assert {"id", "index", "type"} <= call.keys()
                else:
                    assert key in names, "a piece before its call"
            if choice["finish_reason"] is not None:
                index = choice["index"]
                finishes[index] = finishes.get(index, 0) + 1
                assert delta == {}
            else:
                assert choice["index"] not in finishes, "output after the finish"
    assert set(names.values()) <= {1}
    assert set(finishes.values()) == {1}


# --- rule 4: one finishing chunk, `tool_calls` after calls ------------------------------------


@pytest.mark.parametrize(
    ("events", "reason", "finish"),
    [
        ((TextDelta("Hi"),), FinishReason.STOP, "stop"),
        ((TextDelta("Hi"),), FinishReason.LENGTH, "length"),
        ((TextDelta("Hi"),), FinishReason.CONTENT_FILTER, "content_filter"),
        ((TextDelta("Hi"),), FinishReason.OTHER, "stop"),
        ((), FinishReason.STOP, "stop"),
        (CALL, FinishReason.TOOL_CALLS, "tool_calls"),
        (CALL, FinishReason.STOP, "tool_calls"),
        (CALL, FinishReason.LENGTH, "tool_calls"),
        (CALL, FinishReason.OTHER, "tool_calls"),
        (CALL, FinishReason.CONTENT_FILTER, "content_filter"),
        (
            (*CALL[:2], ToolCallDone(0, "call_1", "find_slot", '{"day"', is_partial=True)),
            FinishReason.LENGTH,
            "length",
        ),
    ],
)
def test_rule_4_finish_reasons(
    events: tuple[StreamEvent, ...], reason: FinishReason, finish: str
) -> None:
    finished = ChoiceFinished(reason, "raw")
    *before, last = chunks_of(*events, finished)
    assert last["choices"] == [{"index": 0, "delta": {}, "finish_reason": finish}]
    assert all(chunk["choices"][0]["finish_reason"] is None for chunk in before)
    collector = ChatCollector("asked")
    collector.add([INFO, *events, finished])
    whole = orjson.loads(collector.to_json(end_of([finished])))
    assert whole["choices"][0]["finish_reason"] == finish


# --- rule 5: the role comes with the first content --------------------------------------------


@pytest.mark.parametrize(
    "first",
    [
        TextDelta("Hi"),
        ReasoningDelta("Hm"),
        RefusalDelta("No"),
        ToolCallStart(0, "c", "f"),
        AudioDelta("a1", "AAAA"),
        OpaqueDelta("annotations", b"[1]"),
    ],
    ids=lambda event: type(event).__name__,
)
def test_rule_5_no_chunk_before_the_first_content_and_the_role_in_it(first: StreamEvent) -> None:
    encoder = ChatChunkEncoder("asked")
    assert encoder.encode([INFO]) == b""
    assert encoder.encode([Usage(1, 0, 1)]) == b""
    (chunk,) = payloads(encoder.encode([first]))
    delta = chunk["choices"][0]["delta"]
    assert delta.pop("role") == "assistant"
    assert delta
    (second,) = payloads(encoder.encode([TextDelta("!")]))
    assert second["choices"][0]["delta"] == {"content": "!"}


def test_rule_5_every_choice_has_its_own_role() -> None:
    first, second, third = chunks_of(TextDelta("a"), TextDelta("b", 1), TextDelta("c", 1))
    assert first["choices"][0] == {
        "index": 0,
        "delta": {"role": "assistant", "content": "a"},
        "finish_reason": None,
    }
    assert second["choices"][0]["index"] == 1
    assert second["choices"][0]["delta"]["role"] == "assistant"
    assert "role" not in third["choices"][0]["delta"]


def test_rule_5_choices_begin_in_order_because_clients_keep_them_in_a_list() -> None:
    first, second = chunks_of(TextDelta("b", 1))
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert (first["choices"][0]["index"], second["choices"][0]["index"]) == (0, 1)


def test_text_after_the_finish_is_not_lost() -> None:
    """Some providers send their last words in or after the finishing chunk."""
    *_, word, last = chunks_of(TextDelta("a"), STOP, TextDelta("b"))
    assert word["choices"][0]["delta"] == {"content": "b"}
    assert last["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("key", ["annotations", "logprobs"])
def test_opaque_fields_after_the_finish_come_before_the_finishing_chunk(key: str) -> None:
    cut: list[Events] = [[INFO, TextDelta("a"), STOP], [OpaqueDelta(key, b"[1]")], [Usage(1, 1, 2)]]
    *_, extra, last = (c["choices"][0] for c in payloads(stream_of(cut, with_usage=False)))
    assert [1] in (extra.get(key), extra["delta"].get(key))
    assert extra["finish_reason"] is None
    assert last == {"index": 0, "delta": {}, "finish_reason": "stop"}


def test_empty_answer_still_has_its_role() -> None:
    first, last = chunks_of(STOP)
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert last["choices"][0]["finish_reason"] == "stop"


def test_logprobs_stand_beside_the_delta() -> None:
    *_, chunk = chunks_of(TextDelta("a"), OpaqueDelta("logprobs", b'{"content":[]}'))
    assert chunk["choices"][0] == {
        "index": 0,
        "delta": {},
        "logprobs": {"content": []},
        "finish_reason": None,
    }


def test_audio_has_what_the_provider_gave() -> None:
    audio = [AudioDelta("a1"), AudioDelta("", "AAAA"), AudioDelta("", "", "Hi", 99)]
    assert [delta["audio"] for delta in deltas_of(*audio)] == [
        {"id": "a1"},
        {"data": "AAAA"},
        {"transcript": "Hi", "expires_at": 99},
    ]


# --- the end ----------------------------------------------------------------------------------


def test_timeline_and_attempts_if_asked_for() -> None:
    record = AttemptRecord("a", "m", 5, 9, AttemptOutcome.SUCCESS, is_winner=True)
    end = end_of([STOP], attempts=[record], usage=Usage(1, 1, 2, is_estimated=True))
    encoder = ChatChunkEncoder("asked", with_relay=True)
    (chunk,) = payloads(encoder.encode_end(end))
    assert chunk["usage"]["x_relay"] == orjson.loads(orjson.dumps(relay_object(end)))
    facts = chunk["usage"]["x_relay"]
    assert facts["wall_us"] == sum(facts["timeline_us"].values())
    assert facts["attempts"][0]["winner"] is True
    assert facts["usage_estimated"] is True


def test_end_without_usage() -> None:
    encoder = ChatChunkEncoder("asked")
    assert encoder.encode_end(end_of([STOP])) == DONE


# --- read by the official client --------------------------------------------------------------


def read_by_openai(body: bytes) -> Any:
    """What the accumulators of the official client make of a stream."""
    state: ChatCompletionStreamState[None] = ChatCompletionStreamState()
    for payload in payloads(body):
        state.handle_chunk(ChatCompletionChunk.construct(**payload))
    return state.current_completion_snapshot


@examples(150)
@given(batches())
def test_official_client_reads_the_same_as_we_meant(cut: list[Events]) -> None:
    body = stream_of(cut)
    assert body.endswith(DONE)
    meant = collect(event for events in cut for event in events)
    completion = read_by_openai(body)
    assert (completion.id, completion.model) == ("chatcmpl-1", "upstream-model")
    assert {choice.index for choice in completion.choices} == set(meant.choices)
    for choice in completion.choices:
        ours = meant.choices[choice.index]
        assert (choice.message.content or "") == ours.text
        assert (choice.message.refusal or "") == ours.refusal
        assert (getattr(choice.message, "reasoning_content", None) or "") == ours.reasoning
        assert [
            (call.id, call.function.name, call.function.arguments)
            for call in choice.message.tool_calls or []
        ] == [(call.call_id, call.name, call.arguments) for call in ours.tool_calls]
    if meant.usage is not None:
        assert completion.usage.total_tokens == meant.usage.total_tokens


@examples(150)
@given(batches(with_opaque=True))
def test_whole_completion_says_the_same_as_the_stream(cut: list[Events]) -> None:
    collector = ChatCollector("asked")
    for events in cut:
        collector.add(events)
    end = end_of([event for events in cut for event in events])
    whole = orjson.loads(collector.to_json(end))
    streamed = read_by_openai(stream_of(cut)).to_dict(mode="json")
    assert whole["object"] == "chat.completion"
    for key in ("id", "model", "created"):
        assert whole[key] == streamed[key]
    assert len(whole["choices"]) == len(streamed["choices"])
    streamed_choices = sorted(streamed["choices"], key=lambda choice: choice["index"])
    for ours, theirs in zip(whole["choices"], streamed_choices, strict=True):
        assert (ours["index"], ours["finish_reason"]) == (theirs["index"], theirs["finish_reason"])
        mine, yours = ours["message"], theirs["message"]
        for key in ("content", "refusal", "reasoning_content"):
            assert (mine.get(key) or "") == (yours.get(key) or "")
        assert [_plain(call) for call in mine.get("tool_calls", [])] == [
            _plain(call) for call in yours.get("tool_calls") or []
        ]
    assert (whole.get("usage") or {}).get("total_tokens") == (streamed.get("usage") or {}).get(
        "total_tokens"
    )


def _plain(call: dict[str, Any]) -> dict[str, Any]:
    """Without what the client adds to it."""
    kept: dict[str, Any] = {
        key: call[key] for key in ("id", "type", "extra_content") if key in call
    }
    function = call["function"]
    return {**kept, "name": function["name"], "arguments": function["arguments"]}


# --- the whole completion ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "event",
    [
        TextDelta("x" * 1000),
        TextDelta("x"),
        ReasoningDelta("日" * 400),
        ToolCallDone(0, "c", "f", "x" * 1000),
        AudioDelta("a1", "x" * 1000),
        OpaqueDelta("annotations", b'["' + b"x" * 1000 + b'"]'),
        ChoiceFinished(FinishReason.STOP, "stop"),
    ],
    ids=lambda event: type(event).__name__,
)
def test_completion_has_a_bound(event: StreamEvent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.frontends.surfaces.chat_document.MAX_ANSWER_BYTES", 50_000)
    collector = ChatCollector("asked")
    for _ in range(20):
        collector.add([INFO, event])
    with pytest.raises(EventTooLarge):
        collector.add([event] * 1000)
    assert not collector._choices


def test_what_is_not_collected_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.frontends.surfaces.chat_document.MAX_ANSWER_BYTES", 50_000)
    collector = ChatCollector("asked")
    for _ in range(1000):
        collector.add([INFO, ToolArgumentsDelta(0, "x" * 100), Usage(1, 1, 2)])


def whole_of(*events: StreamEvent) -> dict[str, Any]:
    collector = ChatCollector("asked")
    collector.add(events)
    value: dict[str, Any] = orjson.loads(collector.to_json(end_of(events)))
    return value


def test_message_with_only_calls_has_no_content() -> None:
    message = whole_of(INFO, *CALL, STOP)["choices"][0]["message"]
    assert message["content"] is None
    assert message["tool_calls"][0]["function"]["arguments"] == '{"day":"mon"}'


def test_refusal_has_no_content_and_an_empty_answer_an_empty_one() -> None:
    refused = whole_of(INFO, RefusalDelta("No"), STOP)["choices"][0]["message"]
    assert (refused["content"], refused["refusal"]) == (None, "No")
    empty = whole_of(INFO, STOP)["choices"][0]["message"]
    assert (empty["content"], empty["refusal"]) == ("", None)


def test_pieces_of_opaque_fields_become_one_value() -> None:
    choice = whole_of(
        INFO,
        TextDelta("a"),
        OpaqueDelta("logprobs", b'{"content":[1]}'),
        OpaqueDelta("logprobs", b'{"content":[2],"refusal":null}'),
        OpaqueDelta("annotations", b"[1]"),
        OpaqueDelta("annotations", b"[2]"),
        OpaqueDelta("citations", b'"old"'),
        OpaqueDelta("citations", b'"new"'),
        STOP,
    )["choices"][0]
    assert choice["logprobs"] == {"content": [1, 2], "refusal": None}
    assert choice["message"]["annotations"] == [1, 2]
    assert choice["message"]["citations"] == "new"


def test_pieces_of_audio_become_one() -> None:
    message = whole_of(INFO, AudioDelta("a1", "AA", "He", 9), AudioDelta("", "BB", "llo"), STOP)[
        "choices"
    ][0]["message"]
    assert message["audio"] == {
        "id": "a1",
        "data": "AABB",
        "transcript": "Hello",
        "expires_at": 9,
    }


def test_completion_of_an_unnamed_response() -> None:
    value = whole_of(TextDelta("a"), STOP)
    assert value["id"].startswith("chatcmpl-")
    assert value["model"] == "asked"
    assert "usage" not in value


def test_completion_carries_tier_fingerprint_usage_and_timeline() -> None:
    collector = ChatCollector("asked", with_relay=True)
    collector.add([ResponseInfo("i", "m", 1, "priority", "fp"), TextDelta("a"), STOP])
    end = end_of([STOP], usage=Usage(1, 1, 2))
    value = orjson.loads(collector.to_json(end))
    assert (value["service_tier"], value["system_fingerprint"]) == ("priority", "fp")
    assert value["usage"]["x_relay"]["provider"] == "a"
