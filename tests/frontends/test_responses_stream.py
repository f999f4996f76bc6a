"""The stream of a response, event by event, and the whole response: both by what OpenAI documents,
and by what its own client makes of them."""

from __future__ import annotations

import re
from typing import Any

import openai
import orjson
import pytest
from hypothesis import given
from openai.types.responses import Response

from relay.content import (
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
from relay.errors import EventTooLarge, Reason, RelayError, StreamTruncated, UpstreamStatus
from relay.frontends.limits import Allowance
from relay.frontends.response_state import unpack
from relay.frontends.surfaces.responses_stream import (
    ResponseCollector,
    ResponseEncoder,
    ResponseFrame,
)
from tests.fakes.ends import end_of
from tests.fakes.events import batches
from tests.fakes.properties import examples
from tests.judges.vendors import openai_client

INFO = ResponseInfo("chatcmpl-1", "upstream-model", 1_700_000_000)
STOP = ChoiceFinished(FinishReason.STOP, "stop")
ECHO = {"tools": [], "tool_choice": "auto", "parallel_tool_calls": True, "metadata": {"a": "b"}}
BASE = "0" * 20
MSG, RS, FC, CTC = (f"{prefix}_{BASE}" for prefix in ("msg", "rs", "fc", "ctc"))


def frame(**more: Any) -> ResponseFrame:
    return ResponseFrame(f"resp_{BASE}", "asked", ECHO, **more)


def read(body: bytes) -> list[dict[str, Any]]:
    """The events of a stream: their names are their types, their numbers have no gap."""
    blocks = body.split(b"\n\n")
    assert blocks.pop() == b"", "an event that is not ended"
    found = []
    for at, block in enumerate(blocks):
        match = re.fullmatch(rb"event: (\S+)\ndata: (\{[^\n]*\})", block)
        assert match, block
        event = orjson.loads(match[2])
        assert event["type"] == match[1].decode()
        assert event.pop("sequence_number") == at
        found.append(event)
    return found


def stream_of(*cut: Events, error: RelayError | None = None, **more: Any) -> list[dict[str, Any]]:
    encoder = ResponseEncoder(frame(**more))
    body = b"".join(encoder.encode(events) for events in cut)
    if error is not None:
        return read(body + encoder.encode_error(error, "req_1"))
    return read(body + encoder.encode_end(end_of([e for events in cut for e in events])))


def whole_of(*events: StreamEvent, **more: Any) -> dict[str, Any]:
    collector = ResponseCollector(frame(**more))
    collector.add(events)
    found: dict[str, Any] = orjson.loads(collector.to_json(end_of(events)))
    found.pop("completed_at", None)
    return found


def response(status: str, output: list[Any], usage: Any = None, **more: Any) -> dict[str, Any]:
    return {
        "id": f"resp_{BASE}",
        "object": "response",
        "created_at": 1_700_000_000,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "model": "upstream-model",
        "output": output,
        "service_tier": "default",
        "usage": usage,
        **ECHO,
        **more,
    }


def middle(*events: StreamEvent, **more: Any) -> list[dict[str, Any]]:
    """What is between the first two events and the last."""
    found = stream_of([INFO, *events], **more)
    assert [event["type"] for event in found[:2]] == ["response.created", "response.in_progress"]
    return found[2:-1]


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


USAGE = Usage(7, 5, 12, cached_tokens=3, reasoning_tokens=2)
USAGE_OBJECT = {
    "input_tokens": 7,
    "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 0},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 2},
    "total_tokens": 12,
}


def text_part(text: str, **more: Any) -> dict[str, Any]:
    return {"type": "output_text", "annotations": [], "logprobs": [], "text": text, **more}


def message(*parts: Any, status: str = "completed", item_id: str = f"{MSG}0000") -> dict[str, Any]:
    return {
        "id": item_id,
        "type": "message",
        "status": status,
        "content": list(parts),
        "role": "assistant",
    }


# --- exact sequences ----------------------------------------------------------------------------


def test_text() -> None:
    place = {"item_id": f"{MSG}0000", "output_index": 0, "content_index": 0}
    delta = {"type": "response.output_text.delta", **place, "logprobs": []}
    begun = response("in_progress", [])
    item = message(text_part("Hello"))
    found = stream_of([INFO], [TextDelta("Hel"), TextDelta("lo")], [STOP, USAGE])
    completed = found.pop()
    assert completed["response"].pop("completed_at") > 1_700_000_000
    assert found == [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": message(status="in_progress"),
        },
        {"type": "response.content_part.added", **place, "part": text_part("")},
        {**delta, "delta": "Hel"},
        {**delta, "delta": "lo"},
        {"type": "response.output_text.done", **place, "text": "Hello", "logprobs": []},
        {"type": "response.content_part.done", **place, "part": text_part("Hello")},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
    ]
    assert completed == {
        "type": "response.completed",
        "response": response("completed", [item], USAGE_OBJECT),
    }


def test_nothing_is_told_before_the_first_content_and_then_all_in_one() -> None:
    encoder = ResponseEncoder(frame())
    assert encoder.encode([INFO]) == b""
    assert encoder.encode([Usage(1, 0, 1)]) == b""
    assert kinds(read(encoder.encode([TextDelta("a")]))) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
    ]


def test_calls() -> None:
    place = {"item_id": f"{FC}0000", "output_index": 0}
    item = {
        "id": f"{FC}0000",
        "type": "function_call",
        "status": "completed",
        "arguments": '{"a":1}',
        "call_id": "call_1",
        "name": "f",
    }
    found = middle(
        ToolCallStart(0, "call_1", "f"),
        ToolArgumentsDelta(0, '{"a"'),
        ToolArgumentsDelta(0, ":1}"),
        ToolCallDone(0, "call_1", "f", '{"a":1}'),
        ToolCallStart(1, "call_2", "sql", kind="custom"),
        ToolArgumentsDelta(1, "select 1"),
        ToolCallDone(1, "call_2", "sql", "select 1", kind="custom"),
        ChoiceFinished(FinishReason.TOOL_CALLS, "tool_calls"),
    )
    name = "response.function_call_arguments"
    assert found[:5] == [
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": {**item, "status": "in_progress", "arguments": ""},
        },
        {"type": f"{name}.delta", **place, "delta": '{"a"'},
        {"type": f"{name}.delta", **place, "delta": ":1}"},
        {"type": f"{name}.done", **place, "arguments": '{"a":1}', "name": "f"},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
    ]
    place = {"item_id": f"{CTC}0001", "output_index": 1}
    custom = {
        "id": f"{CTC}0001",
        "type": "custom_tool_call",
        "status": "completed",
        "input": "select 1",
        "call_id": "call_2",
        "name": "sql",
    }
    name = "response.custom_tool_call_input"
    assert found[5:] == [
        {
            "type": "response.output_item.added",
            "output_index": 1,
            "item": {**custom, "status": "in_progress", "input": ""},
        },
        {"type": f"{name}.delta", **place, "delta": "select 1"},
        {"type": f"{name}.done", **place, "input": "select 1"},
        {"type": "response.output_item.done", "output_index": 1, "item": custom},
    ]


def test_call_without_arguments_has_an_empty_object() -> None:
    found = middle(ToolCallStart(0, "c", "f"), ToolCallDone(0, "c", "f", ""), STOP)
    assert kinds(found) == [
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
    ]
    assert found[-1]["item"]["arguments"] == "{}"


def test_call_that_was_cut_is_incomplete() -> None:
    events = (
        ToolCallStart(0, "c", "f"),
        ToolArgumentsDelta(0, '{"a'),
        ToolCallDone(0, "c", "f", '{"a', is_partial=True),
        ChoiceFinished(FinishReason.LENGTH, "length"),
    )
    last = stream_of([INFO, *events])[-1]
    assert last["type"] == "response.incomplete"
    assert last["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    assert last["response"]["output"][0]["status"] == "incomplete"


def test_state_of_a_call_goes_with_it() -> None:
    extra = b'{"extra_content":{"google":{"thought_signature":"s"}}}'
    found = middle(
        ToolCallStart(0, "c", "f"), ToolCallDone(0, "c", "f", "{}", extra_json=extra), STOP
    )
    assert found[-1]["item"]["extra_content"] == {"google": {"thought_signature": "s"}}


def test_reasoning_and_text() -> None:
    place = {"item_id": f"{RS}0000", "output_index": 0, "summary_index": 0}
    summary = {"type": "summary_text", "text": "Hm."}
    begun = {"id": f"{RS}0000", "type": "reasoning", "summary": []}
    found = middle(ReasoningDelta("H"), ReasoningDelta("m."), TextDelta("x"), STOP)
    name = "response.reasoning_summary"
    assert found[:7] == [
        {"type": "response.output_item.added", "output_index": 0, "item": begun},
        {"type": f"{name}_part.added", **place, "part": {"type": "summary_text", "text": ""}},
        {"type": f"{name}_text.delta", **place, "delta": "H"},
        {"type": f"{name}_text.delta", **place, "delta": "m."},
        {"type": f"{name}_text.done", **place, "text": "Hm."},
        {"type": f"{name}_part.done", **place, "part": summary},
        {
            "type": "response.output_item.done",
            "output_index": 0,
            "item": {**begun, "summary": [summary]},
        },
    ]
    assert found[7]["item"]["id"] == f"{MSG}0001"


def test_refusal() -> None:
    place = {"item_id": f"{MSG}0000", "output_index": 0, "content_index": 0}
    part = {"type": "refusal", "refusal": "No."}
    found = middle(RefusalDelta("N"), RefusalDelta("o."), STOP)
    assert found[1:] == [
        {"type": "response.content_part.added", **place, "part": {**part, "refusal": ""}},
        {"type": "response.refusal.delta", **place, "delta": "N"},
        {"type": "response.refusal.delta", **place, "delta": "o."},
        {"type": "response.refusal.done", **place, "refusal": "No."},
        {"type": "response.content_part.done", **place, "part": part},
        {"type": "response.output_item.done", "output_index": 0, "item": message(part)},
    ]


def test_text_and_refusal_are_parts_of_one_message() -> None:
    found = middle(TextDelta("a"), RefusalDelta("b"), TextDelta("c"), STOP)
    assert found[-1]["item"]["content"] == [
        text_part("a"),
        {"type": "refusal", "refusal": "b"},
        text_part("c"),
    ]
    indices = [event["content_index"] for event in found if "content_index" in event]
    assert indices == sorted(indices)


def test_text_after_a_call_is_another_message() -> None:
    done = ToolCallDone(0, "c", "f", "{}")
    found = middle(TextDelta("a"), ToolCallStart(0, "c", "f"), done, TextDelta("b"), STOP)
    items = [event["item"] for event in found if event["type"] == "response.output_item.done"]
    assert [item["type"] for item in items] == ["message", "function_call", "message"]


def test_text_after_the_finish_belongs_to_the_answer() -> None:
    found = middle(TextDelta("a"), STOP, TextDelta("b"))
    assert found[-1]["item"]["content"] == [text_part("ab")]


def test_alternatives_that_nobody_asked_for_are_left_out() -> None:
    events = (TextDelta("a"), TextDelta("x", 1), TextDelta("b"), STOP)
    other = ChoiceFinished(FinishReason.LENGTH, "length", 1)
    assert middle(*events, other)[-1]["item"]["content"] == [text_part("ab")]


def test_empty_answer_is_an_empty_message() -> None:
    assert kinds(middle(STOP)) == ["output_item.added", "output_item.done"]


@pytest.mark.parametrize(
    ("reason", "status", "why"),
    [
        (FinishReason.STOP, "completed", None),
        (FinishReason.TOOL_CALLS, "completed", None),
        (FinishReason.OTHER, "completed", None),
        (FinishReason.LENGTH, "incomplete", "max_output_tokens"),
        (FinishReason.CONTENT_FILTER, "incomplete", "content_filter"),
    ],
)
def test_finish(reason: FinishReason, status: str, why: str | None) -> None:
    events = (INFO, TextDelta("a"), ChoiceFinished(reason, "x"))
    last = stream_of(events)[-1]
    assert last["type"] == f"response.{status}"
    for found in (last["response"], whole_of(*events)):
        assert found["status"] == status
        assert found["incomplete_details"] == ({"reason": why} if why else None)
        assert found["output"][0]["status"] == status


# --- what stands beside -----------------------------------------------------------------------


LOGPROB = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}
LOGPROBS = OpaqueDelta("logprobs", orjson.dumps({"content": [LOGPROB]}))


def test_log_probabilities_come_with_their_text_if_asked_for() -> None:
    events = (TextDelta("a"), LOGPROBS, TextDelta("b"), STOP)
    found = middle(*events, with_logprobs=True)
    deltas = [event for event in found if event["type"] == "response.output_text.delta"]
    assert [event["logprobs"] for event in deltas] == [[LOGPROB], []]
    assert found[-1]["item"]["content"] == [text_part("ab", logprobs=[LOGPROB])]
    assert middle(*events)[-1]["item"]["content"] == [text_part("ab")]


def test_citations_are_told_flat() -> None:
    cited = {"type": "url_citation", "url_citation": {"url": "https://h", "start_index": 0}}
    flat = {"type": "url_citation", "url": "https://h", "start_index": 0}
    found = middle(TextDelta("a"), OpaqueDelta("annotations", orjson.dumps([cited])), STOP)
    place = {"item_id": f"{MSG}0000", "output_index": 0, "content_index": 0}
    assert found[3] == {
        "type": "response.output_text.annotation.added",
        **place,
        "annotation_index": 0,
        "annotation": flat,
    }
    assert found[-1]["item"]["content"] == [text_part("a", annotations=[flat])]


def test_citation_of_another_wire_has_this_apis_name() -> None:
    location = {"type": "web_search_result_location", "url": "https://h", "title": "t"}
    cited = {"index": 0, "type": "url_citation", "url_citation": location}
    events = (TextDelta("a"), OpaqueDelta("annotations", orjson.dumps([cited])), STOP)
    (part,) = whole_of(INFO, *events)["output"][0]["content"]
    assert part["annotations"] == [{"type": "url_citation", "url": "https://h", "title": "t"}]


def test_items_of_hosted_tools_pass_through_in_their_places() -> None:
    ours = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
    theirs = {"type": "x_search_call", "id": "x_1"}
    entries = [
        {"format": "openai-responses-v1", "index": 0, "item": ours},
        {"format": "xai-responses-v1", "index": 1, "item": theirs},
    ]
    found = whole_of(INFO, OpaqueDelta("output_items", orjson.dumps(entries)), TextDelta("a"))
    assert found["output"] == [
        ours,
        {**theirs, "x_relay_format": "xai-responses-v1"},
        message(text_part("a"), item_id=f"{MSG}0002"),
    ]


def test_fields_that_nobody_knows_stand_beside_the_text() -> None:
    cited = OpaqueDelta("citations", b'["https://h"]')
    for events in ((cited, TextDelta("a")), (TextDelta("a"), cited), (cited,)):
        (item,) = whole_of(INFO, *events, STOP)["output"]
        assert item["citations"] == ["https://h"]


def test_phase_of_a_message() -> None:
    phase = OpaqueDelta("extra_content", b'{"openai":{"phase":"final_answer"}}')
    (item,) = whole_of(INFO, TextDelta("a"), phase, STOP)["output"]
    assert item["phase"] == "final_answer"


DETAILS = [{"type": "reasoning.encrypted", "data": "s", "format": "f", "id": "rs_up"}]


def test_state_is_carried_by_the_reasoning() -> None:
    state = OpaqueDelta("reasoning_details", orjson.dumps(DETAILS))
    found = middle(ReasoningDelta("Hm."), state, TextDelta("a"), STOP)
    assert "encrypted_content" not in found[0]["item"]
    item = next(e["item"] for e in found if e["type"] == "response.output_item.done")
    assert item["type"] == "reasoning"
    back = unpack(item["encrypted_content"], "f", Allowance())
    assert back == ({"reasoning_details": DETAILS}, False)
    without_words = middle(state, TextDelta("a"), STOP)
    assert kinds(without_words)[:2] == ["output_item.added", "output_item.done"]
    assert without_words[1]["item"]["summary"] == []


def test_state_that_comes_late_is_carried_by_an_item_at_the_end() -> None:
    signature = {"google": {"thought_signature": "s"}}
    found = whole_of(
        INFO, TextDelta("a"), OpaqueDelta("extra_content", orjson.dumps(signature)), STOP
    )["output"]
    assert [item["type"] for item in found] == ["message", "reasoning"]
    back = unpack(found[1]["encrypted_content"], "f", Allowance())
    assert back == ({"extra_content": signature}, True)


def test_usage_has_its_details_and_what_only_the_provider_knows() -> None:
    raw = b'{"prompt_tokens":1,"prompt_tokens_details":{},"cost":0.5}'
    usage = Usage(1, 2, 3, cache_write_tokens=4, raw_json=raw)
    assert whole_of(INFO, TextDelta("a"), usage, STOP)["usage"] == {
        "cost": 0.5,
        "input_tokens": 1,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 4},
        "output_tokens": 2,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 3,
    }


def test_relays_own_account_if_asked_for() -> None:
    found = whole_of(INFO, TextDelta("a"), USAGE, STOP, with_relay=True)
    assert found["usage"]["x_relay"]["provider"] == "a"


def test_model_and_tier_are_those_asked_for_until_the_provider_names_its_own() -> None:
    found = whole_of(TextDelta("a"), STOP, service_tier="flex")
    assert (found["model"], found["service_tier"]) == ("asked", "flex")
    info = ResponseInfo("i", "named", 1, "priority")
    found = whole_of(info, INFO, TextDelta("a"), STOP, service_tier="flex")
    assert (found["model"], found["service_tier"]) == ("named", "priority")


def test_what_is_kept_is_what_is_told() -> None:
    kept: list[tuple[bytes, bytes]] = []
    found = stream_of([INFO, TextDelta("a"), STOP], keep=lambda *pair: kept.append(pair))
    ((document, items),) = kept
    assert orjson.loads(document) == found[-1]["response"]
    assert orjson.loads(items) == found[-1]["response"]["output"]


def test_nothing_is_kept_of_what_failed() -> None:
    kept: list[object] = []
    error = StreamTruncated("cut")
    stream_of([INFO, TextDelta("a")], error=error, keep=lambda *pair: kept.append(pair))
    assert not kept


# --- failures ---------------------------------------------------------------------------------


def test_failure_is_an_error_event_and_a_failed_response() -> None:
    found = stream_of([INFO, TextDelta("a")], error=StreamTruncated("the stream was cut"))
    assert kinds(found)[-3:] == ["output_text.delta", "error", "failed"]
    error, failed = found[-2:]
    assert (error["code"], error["message"], error["param"]) == (
        "upstream_truncated",
        "the stream was cut",
        None,
    )
    assert error["error"]["x_relay"]["request_id"] == "req_1"
    told = failed["response"]
    assert told["status"] == "failed"
    assert told["error"]["code"] == "server_error"
    assert told["error"]["message"] == "the stream was cut"
    assert told["error"]["x_relay"]["reason"] == "UPSTREAM_TRUNCATED"
    assert told["output"] == [message(text_part("a"), status="incomplete")]


def test_failure_before_any_content_still_begins_a_response() -> None:
    found = stream_of(error=StreamTruncated("x"))
    assert kinds(found) == ["created", "in_progress", "error", "failed"]


def test_failure_keeps_the_codes_that_clients_know() -> None:
    limited = UpstreamStatus("slow", reason=Reason.UPSTREAM_RATE_LIMITED, http_status=200)
    failed = stream_of(error=limited)[-1]["response"]
    assert failed["error"]["code"] == "rate_limit_exceeded"


@pytest.mark.parametrize("is_streamed", [True, False])
def test_answer_that_grows_too_large_is_given_up(
    is_streamed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "relay.frontends.surfaces.response_output.MAX_ANSWER_BYTES"
    monkeypatch.setattr(name, 10_000)
    take: Any = ResponseEncoder(frame()).encode if is_streamed else ResponseCollector(frame()).add
    take([TextDelta("x" * 1000)] * 5)
    with pytest.raises(EventTooLarge):
        take([TextDelta("x" * 1000)] * 10)


# --- properties and OpenAI's own client -----------------------------------------------------


@examples(200)
@given(batches(max_choices=1, with_opaque=True))
def test_batches_do_not_matter_and_streamed_is_whole(cut: list[Events]) -> None:
    events = [event for batch in cut for event in batch]
    streamed = stream_of(*cut)
    at_once = stream_of(events)
    for found in (streamed, at_once):
        found[-1]["response"].pop("completed_at", None)
    assert streamed == at_once
    assert streamed[-1]["response"] == whole_of(*events)


@examples(100)
@given(batches(max_choices=1, with_opaque=True))
def test_every_item_and_part_is_opened_and_closed_once(cut: list[Events]) -> None:
    found = stream_of(*cut)
    output = found[-1]["response"]["output"]
    added = [e["item"]["id"] for e in found if e["type"] == "response.output_item.added"]
    done = [e["item"] for e in found if e["type"] == "response.output_item.done"]
    assert added == [item["id"] for item in output]
    assert done == output
    pieces: dict[str, str] = {}
    for event in found:
        if event["type"].endswith(".delta"):
            key = f"{event['item_id']}/{event.get('content_index', 0)}"
            pieces[key] = pieces.get(key, "") + event["delta"]
    for item in output:
        texts = (
            [item["arguments"]]
            if item["type"] == "function_call"
            else [part.get("text", part.get("refusal")) for part in item["summary"]]
            if item["type"] == "reasoning"
            else [part.get("text", part.get("refusal")) for part in item["content"]]
        )
        for at, text in enumerate(texts):
            assert pieces.get(f"{item['id']}/{at}", "") == text


@examples(50)
@given(batches(max_choices=1, with_opaque=True))
def test_openais_client_makes_of_the_stream_what_the_whole_response_says(
    cut: list[Events],
) -> None:
    events = [event for batch in cut for event in batch]
    end = end_of(events)
    encoder, collector = ResponseEncoder(frame()), ResponseCollector(frame())
    recording, client = openai_client()
    recording.put(
        b"".join(encoder.encode(batch) for batch in cut) + encoder.encode_end(end),
        "text/event-stream",
    )
    final: Any = None
    for event in client.responses.create(model="m", input="", stream=True):
        final = event
    collector.add(events)
    document = orjson.loads(collector.to_json(end))
    document.pop("completed_at", None)
    told = final.response.model_dump(mode="json", exclude_unset=True, warnings=False)
    told.pop("completed_at", None)
    assert told == document


def test_documents_are_what_the_clients_types_demand() -> None:
    document = whole_of(
        INFO,
        ReasoningDelta("Hm."),
        TextDelta("a"),
        RefusalDelta("b"),
        ToolCallStart(0, "c", "f"),
        ToolCallDone(0, "c", "f", "{}"),
        STOP,
        USAGE,
    )
    checked = Response.model_validate(document)
    assert checked.output_text == "a"
    assert checked.usage is not None
    assert checked.usage.input_tokens_details.cached_tokens == 3


def test_client_raises_what_failed() -> None:
    encoder = ResponseEncoder(frame())
    body = encoder.encode([INFO, TextDelta("a")])
    body += encoder.encode_error(StreamTruncated("the stream was cut"), "req_1")
    recording, client = openai_client()
    recording.put(body, "text/event-stream")
    with pytest.raises(openai.APIError, match="the stream was cut"):
        list(client.responses.create(model="m", input="", stream=True))
