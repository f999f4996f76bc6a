"""The Messages stream: exact events for each thing a provider may send, and what Anthropic's own
client makes of any stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anthropic
import httpx2
import orjson
import pytest
from hypothesis import given

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
from relay.errors import EventTooLarge, Reason, UpstreamStatus
from relay.frontends.limits import Allowance
from relay.frontends.messages_state import unpack
from relay.frontends.surfaces.messages_stream import MessageEventEncoder
from relay.frontends.surfaces.messages_whole import MessageCollector
from tests.fakes.ends import end_of
from tests.fakes.events import batches
from tests.fakes.properties import examples

INFO = ResponseInfo("msg_1", "claude", 0)
STOP = ChoiceFinished(FinishReason.STOP, "end_turn")
CALLS = ChoiceFinished(FinishReason.TOOL_CALLS, "tool_use")
PROMPT_TOKENS = 41


def encoder(**options: bool) -> MessageEventEncoder:
    return MessageEventEncoder("asked", lambda: PROMPT_TOKENS, **options)


def stream_of(cut: Sequence[Events], **options: bool) -> bytes:
    """A whole stream."""
    writer = encoder(**options)
    body = b"".join(writer.encode(events) for events in cut)
    return body + writer.encode_end(end_of([event for events in cut for event in events]))


def parsed(data: bytes) -> list[dict[str, Any]]:
    """The data of the events, each with the name that its type says."""
    events = data.split(b"\n\n")
    assert events.pop() == b"", "an event that is not ended"
    found = []
    for event in events:
        name, value = event.split(b"\n")
        assert value.startswith(b"data: ")
        document = orjson.loads(value[6:])
        assert name == b"event: " + document["type"].encode()
        found.append(document)
    return found


def told(*events: StreamEvent, **options: bool) -> list[dict[str, Any]]:
    """The events between `message_start` and `message_delta`."""
    documents = parsed(stream_of([[INFO, *events]], **options))
    assert [documents[0]["type"], documents[-2]["type"], documents[-1]["type"]] == [
        "message_start",
        "message_delta",
        "message_stop",
    ]
    return documents[1:-2]


def begin(index: int, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index: int, kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **fields}}


def over(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def words(index: int, *pieces: str) -> list[dict[str, Any]]:
    deltas = [delta(index, "text_delta", text=piece) for piece in pieces]
    return [begin(index, type="text", text=""), *deltas, over(index)]


def thinking(index: int, *pieces: str, signature: str = "") -> list[dict[str, Any]]:
    events = [begin(index, type="thinking", thinking="", signature="")]
    events += [delta(index, "thinking_delta", thinking=piece) for piece in pieces]
    if signature:
        events.append(delta(index, "signature_delta", signature=signature))
    return [*events, over(index)]


def call(index: int, call_id: str, name: str, *pieces: str) -> list[dict[str, Any]]:
    events = [begin(index, type="tool_use", id=call_id, name=name, input={})]
    events += [delta(index, "input_json_delta", partial_json=piece) for piece in pieces]
    return [*events, over(index)]


def called(index: int, *pieces: str, extra: bytes = b"") -> list[StreamEvent]:
    return [
        ToolCallStart(index, f"call_{index}", "weather"),
        *(ToolArgumentsDelta(index, piece) for piece in pieces),
        ToolCallDone(index, f"call_{index}", "weather", "".join(pieces), extra_json=extra),
    ]


def details(*entries: dict[str, Any]) -> OpaqueDelta:
    return OpaqueDelta("reasoning_details", orjson.dumps(list(entries)))


def signed(text: str, signature: str = "sig") -> OpaqueDelta:
    entry = {"type": "reasoning.text", "text": text, "signature": signature}
    return details({**entry, "format": "anthropic-claude-v1", "index": 0})


REDACTED = details(
    {"type": "reasoning.encrypted", "data": "x", "format": "anthropic-claude-v1", "index": 1}
)


def test_a_whole_stream_byte_by_byte() -> None:
    usage = Usage(12, 2, 14, cached_tokens=3, cache_write_tokens=4)
    first = Usage(12, 1, 13, cached_tokens=3, cache_write_tokens=4)
    assert stream_of([[INFO, first, TextDelta("Hel")], [TextDelta("lo")], [STOP, usage]]) == (
        b"event: message_start\n"
        b'data: {"type":"message_start","message":{"id":"msg_1","type":"message",'
        b'"role":"assistant","model":"claude","content":[],"stop_reason":null,'
        b'"stop_sequence":null,"usage":{"input_tokens":5,"cache_creation_input_tokens":4,'
        b'"cache_read_input_tokens":3,"output_tokens":1}}}\n\n'
        b"event: content_block_start\n"
        b'data: {"type":"content_block_start","index":0,"content_block":'
        b'{"type":"text","text":""}}\n\n'
        b"event: content_block_delta\n"
        b'data: {"type":"content_block_delta","index":0,"delta":'
        b'{"type":"text_delta","text":"Hel"}}\n\n'
        b"event: content_block_delta\n"
        b'data: {"type":"content_block_delta","index":0,"delta":'
        b'{"type":"text_delta","text":"lo"}}\n\n'
        b"event: content_block_stop\n"
        b'data: {"type":"content_block_stop","index":0}\n\n'
        b"event: message_delta\n"
        b'data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null,'
        b'"stop_details":null},"usage":{"input_tokens":5,"cache_creation_input_tokens":4,'
        b'"cache_read_input_tokens":3,"output_tokens":2}}\n\n'
        b"event: message_stop\n"
        b'data: {"type":"message_stop"}\n\n'
    )


def test_nothing_leaves_before_the_first_content() -> None:
    writer = encoder(with_thinking=True)
    assert writer.encode([INFO, Usage(3, 0, 3)]) == b""
    assert writer.encode([TextDelta("a")]).startswith(b"event: message_start\n")


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        pytest.param([TextDelta("a"), STOP], words(0, "a"), id="text"),
        pytest.param(
            [TextDelta("a"), STOP, TextDelta("b")], words(0, "a", "b"), id="text_after_its_end"
        ),
        pytest.param(
            [ReasoningDelta("H"), ReasoningDelta("m"), TextDelta("a"), STOP],
            [*thinking(0, "H", "m"), *words(1, "a")],
            id="thinking_without_signature",
        ),
        pytest.param(
            [ReasoningDelta("Hm"), signed("Hm"), TextDelta("a"), STOP],
            [*thinking(0, "Hm", signature="sig"), *words(1, "a")],
            id="signed",
        ),
        pytest.param(
            [signed(""), TextDelta("a"), STOP],
            [*thinking(0, signature="sig"), *words(1, "a")],
            id="omitted_thinking",
        ),
        pytest.param(
            [ReasoningDelta("A"), signed("A", "s1"), ReasoningDelta("B"), signed("B", "s2"), STOP],
            [*thinking(0, "A", signature="s1"), *thinking(1, "B", signature="s2")],
            id="two_thoughts",
        ),
        pytest.param(
            [REDACTED, TextDelta("a"), STOP],
            [begin(0, type="redacted_thinking", data="x"), over(0), *words(1, "a")],
            id="redacted",
        ),
        pytest.param(
            [TextDelta("a"), *called(0, '{"c"', ":1}"), *called(1, "{}"), CALLS],
            [
                *words(0, "a"),
                *call(1, "call_0", "weather", '{"c"', ":1}"),
                *call(2, "call_1", "weather", "{}"),
            ],
            id="tools",
        ),
        pytest.param(
            [*called(0)[:1], TextDelta("a"), *called(0, "{}")[1:], TextDelta("b"), CALLS],
            [
                begin(0, type="tool_use", id="call_0", name="weather", input={}),
                begin(1, type="text", text=""),
                delta(1, "text_delta", text="a"),
                delta(0, "input_json_delta", partial_json="{}"),
                over(0),
                delta(1, "text_delta", text="b"),
                over(1),
            ],
            id="text_within_a_call",
        ),
        pytest.param([RefusalDelta("No."), STOP], words(0, "No."), id="refusal"),
        pytest.param([TextDelta("a"), TextDelta("b", 1), STOP], words(0, "a"), id="one_choice"),
        pytest.param([STOP], [], id="empty"),
    ],
)
def test_blocks(events: list[StreamEvent], expected: list[dict[str, Any]]) -> None:
    assert told(*events, with_thinking=True) == expected
    one_by_one = parsed(stream_of([[event] for event in [INFO, *events]], with_thinking=True))
    assert one_by_one[1:-2] == expected


def test_thinking_is_shown_to_those_who_asked() -> None:
    assert told(ReasoningDelta("Hm"), TextDelta("a"), STOP) == words(0, "a")
    assert told(ReasoningDelta("Hm"), signed("Hm"), TextDelta("a"), STOP) == [
        *thinking(0, "Hm", signature="sig"),
        *words(1, "a"),
    ], "what is signed must go back"


PIECES: list[StreamEvent] = [
    ReasoningDelta("H"),
    details({"type": "reasoning.text", "text": "H", "format": "anthropic-claude-v1", "index": 0}),
    ReasoningDelta("m"),
    details({"type": "reasoning.text", "text": "m", "format": "anthropic-claude-v1", "index": 0}),
    signed(""),
    TextDelta("a"),
    STOP,
]
"""As OpenRouter streams it."""


@pytest.mark.parametrize("shown", [True, False])
def test_thinking_signed_in_pieces(shown: bool) -> None:
    pieces = ["H", "m"] if shown else ["Hm"]
    expected = [*thinking(0, *pieces, signature="sig"), *words(1, "a")]
    assert told(*PIECES, with_thinking=shown) == expected
    assert whole([PIECES], with_thinking=shown)["content"] == [
        {"type": "thinking", "thinking": "Hm", "signature": "sig"},
        {"type": "text", "text": "a"},
    ]


def test_a_signature_that_comes_late_is_kept_as_state() -> None:
    """Of an answer that its host did not stream."""
    events = [ReasoningDelta("Hm"), *called(0, "{}"), signed("Hm"), CALLS]
    found = told(*events, with_thinking=True)
    assert found[: -len(thinking(0))] == [
        *thinking(0, "Hm"),
        *call(1, "call_0", "weather", "{}"),
    ]
    state = unpack(found[-2]["content_block"]["data"], "", Allowance())[0]["reasoning_details"]
    assert [(entry["text"], entry["signature"]) for entry in state] == [("Hm", "sig")]
    kinds = [block["type"] for block in whole([events], with_thinking=True)["content"]]
    assert kinds == ["thinking", "tool_use", "redacted_thinking"]


def test_citations_end_their_text() -> None:
    citation = {"type": "page_location", "cited_text": "x", "start_page_number": 1}
    entry = {"index": 0, "type": "page_location"}
    annotation = {**entry, "page_location": {**citation, "start_index": 0, "end_index": 1}}
    found = told(
        TextDelta("a"),
        OpaqueDelta("annotations", orjson.dumps([annotation])),
        TextDelta("b"),
        OpaqueDelta("annotations", b'[{"type":"url_citation","url_citation":{"url":"u"}}]'),
        TextDelta("c"),
        STOP,
    )
    cited = delta(0, "citations_delta", citation=citation)
    assert found == [*words(0, "a")[:-1], cited, over(0), *words(1, "b", "c")]


def test_blocks_of_anthropic_go_through() -> None:
    use = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "q"}}
    result = {"type": "web_search_tool_result", "tool_use_id": "s", "content": []}
    entries = [{"index": 0, "block": use}, {"index": 1, "block": result}]
    assert told(OpaqueDelta("anthropic_blocks", orjson.dumps(entries)), TextDelta("a"), STOP) == [
        begin(0, **{**use, "input": {}}),
        delta(0, "input_json_delta", partial_json='{"query":"q"}'),
        over(0),
        begin(1, **result),
        over(1),
        *words(2, "a"),
    ]


def test_state_of_another_wire_is_kept_by_the_client() -> None:
    foreign = {"type": "reasoning.encrypted", "data": "d", "format": "openai-responses-v1"}
    extra = b'{"extra_content":{"google":{"thought_signature":"x"}}}'
    found = told(details(foreign), *called(0, "{}", extra=extra), CALLS)
    block = found[-2]["content_block"]
    assert block["type"] == "redacted_thinking"
    assert unpack(block["data"], "", Allowance()) == (
        {"reasoning_details": [foreign]},
        {"call_0": orjson.loads(extra)},
    )
    assert told(details(foreign), TextDelta("a"), STOP) == words(0, "a"), "nothing hangs on it"


# --- the end ----------------------------------------------------------------------------------


def ending(*events: StreamEvent) -> dict[str, Any]:
    found: dict[str, Any] = parsed(stream_of([[INFO, *events]]))[-2]["delta"]
    return found


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        ([TextDelta("a"), STOP], "end_turn"),
        ([TextDelta("a"), ChoiceFinished(FinishReason.STOP, "stop")], "end_turn"),
        ([TextDelta("a"), ChoiceFinished(FinishReason.STOP, "stop_sequence")], "stop_sequence"),
        ([TextDelta("a"), ChoiceFinished(FinishReason.LENGTH, "MAX_TOKENS")], "max_tokens"),
        ([TextDelta("a"), ChoiceFinished(FinishReason.OTHER, "pause_turn")], "pause_turn"),
        ([TextDelta("a"), ChoiceFinished(FinishReason.OTHER, "odd")], "end_turn"),
        ([ChoiceFinished(FinishReason.CONTENT_FILTER, "SAFETY")], "refusal"),
        ([RefusalDelta("No."), ChoiceFinished(FinishReason.STOP, "stop")], "refusal"),
        ([*called(0, "{}"), CALLS], "tool_use"),
        ([*called(0, "{}"), ChoiceFinished(FinishReason.STOP, "stop")], "tool_use"),
        (
            [
                ToolCallStart(0, "c", "f"),
                ToolCallDone(0, "c", "f", "{", is_partial=True),
                ChoiceFinished(FinishReason.LENGTH, "length"),
            ],
            "max_tokens",
        ),
    ],
)
def test_stop_reason(events: list[StreamEvent], reason: str) -> None:
    assert ending(*events)["stop_reason"] == reason
    collector = MessageCollector("m")
    collector.add(events)
    assert orjson.loads(collector.to_json(end_of(events)))["stop_reason"] == reason


def test_what_stands_beside_the_reason() -> None:
    met = ChoiceFinished(FinishReason.STOP, "stop_sequence")
    found = ending(TextDelta("a"), OpaqueDelta("stop_sequence", b'"END"'), met)
    assert (found["stop_reason"], found["stop_sequence"]) == ("stop_sequence", "END")


def test_usage_is_estimated_until_it_is_known() -> None:
    found = parsed(stream_of([[INFO, TextDelta("a"), STOP, Usage(9, 2, 11, reasoning_tokens=1)]]))
    assert found[0]["message"]["usage"] == {"input_tokens": PROMPT_TOKENS, "output_tokens": 0}
    assert found[0]["x_relay"] == {"input_tokens_estimated": True}
    assert found[-2]["usage"] == {
        "input_tokens": 9,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": 2,
        "output_tokens_details": {"thinking_tokens": 1},
    }


def test_an_estimate_is_marked_at_the_end_too() -> None:
    writer = encoder()
    data = writer.encode([INFO, TextDelta("a"), STOP])
    data += writer.encode_end(end_of([STOP], usage=Usage(1, 1, 2, is_estimated=True)))
    assert parsed(data)[-2]["usage"]["x_relay"] == {"usage_estimated": True}


def test_the_provider_s_own_counts_stay() -> None:
    raw = b'{"input_tokens":1,"output_tokens":1,"server_tool_use":{"web_search_requests":2}}'
    usage = Usage(1, 1, 2, raw_json=raw)
    found = parsed(stream_of([[INFO, TextDelta("a"), STOP, usage]]))[-2]["usage"]
    assert found["server_tool_use"] == {"web_search_requests": 2}


def test_the_account_comes_if_asked_for() -> None:
    found = parsed(stream_of([[INFO, TextDelta("a"), STOP]], with_relay=True))
    assert found[-2]["usage"]["x_relay"]["provider"] == "a"


def test_an_error_is_no_end() -> None:
    writer = encoder()
    writer.encode([INFO, TextDelta("a")])
    error = UpstreamStatus(
        "Overloaded",
        reason=Reason.UPSTREAM_OVERLOADED,
        http_status=529,
        provider_type="overloaded_error",
    )
    (found,) = parsed(writer.encode_error(error, "req_1"))
    assert found == {
        "type": "error",
        "error": {
            "type": "overloaded_error",
            "message": "Overloaded",
            "x_relay": {
                "reason": "UPSTREAM_OVERLOADED",
                "request_id": "req_1",
                "upstream_status": "529",
                "provider_type": "overloaded_error",
            },
        },
        "request_id": "req_1",
    }


# --- Anthropic's own client -------------------------------------------------------------------


def added_up(body: bytes) -> Any:
    """The message that Anthropic's client makes of a stream."""
    transport = httpx2.MockTransport(
        lambda _: httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=body)
    )
    client = anthropic.Anthropic(
        api_key="k", base_url="http://p", http_client=httpx2.Client(transport=transport)
    )
    ask: dict[str, Any] = {"model": "m", "max_tokens": 1, "messages": []}
    with client.messages.stream(**ask) as stream:
        return stream.get_final_message()


def whole(cut: Sequence[Events], **options: bool) -> dict[str, Any]:
    collector = MessageCollector("asked", **options)
    for events in cut:
        collector.add(events)
    end = end_of([event for events in cut for event in events])
    found: dict[str, Any] = orjson.loads(collector.to_json(end))
    return found


@examples(60)
@given(cut=batches(max_choices=1))
def test_any_stream_is_read_as_the_whole_message(cut: list[Events]) -> None:
    body = stream_of(cut, with_thinking=True)
    documents = parsed(body)
    starts = [one["index"] for one in documents if one["type"] == "content_block_start"]
    stops = [one["index"] for one in documents if one["type"] == "content_block_stop"]
    assert starts == list(range(len(starts)))
    assert sorted(stops) == starts
    spoken = "".join(
        event.text
        for events in cut
        for event in events
        if isinstance(event, TextDelta | RefusalDelta)
    )
    message = whole(cut, with_thinking=True)
    assert "".join(block.get("text", "") for block in message["content"]) == spoken
    streamed: dict[int, dict[str, Any]] = {}
    for one in documents:
        if one["type"] == "content_block_start":
            streamed[one["index"]] = {**one["content_block"]}
        elif one["type"] == "content_block_delta":
            for name, value in one["delta"].items():
                if name in ("text", "thinking", "signature"):
                    streamed[one["index"]][name] += value
    kinds = [block["type"] for block in message["content"]]
    assert [block["type"] for block in streamed.values()] == kinds
    for block, same in zip(streamed.values(), message["content"], strict=True):
        if block["type"] != "tool_use":
            assert block == same
    assert documents[-2]["delta"]["stop_reason"] == message["stop_reason"]


def test_anthropic_s_client_adds_the_stream_up() -> None:
    events: Events = [
        INFO,
        ReasoningDelta("Hm"),
        signed("Hm"),
        TextDelta("a"),
        *called(0, '{"c"', ":1}"),
        *called(1),
        CALLS,
        Usage(9, 2, 11, cached_tokens=4),
    ]
    message = added_up(stream_of([events], with_thinking=True))
    assert [block.type for block in message.content] == ["thinking", "text", "tool_use", "tool_use"]
    assert (message.content[0].thinking, message.content[0].signature) == ("Hm", "sig")
    assert [block.input for block in message.content[2:]] == [{"c": 1}, {}]
    assert message.stop_reason == "tool_use"
    assert (message.usage.input_tokens, message.usage.cache_read_input_tokens) == (5, 4)
    assert message.usage.output_tokens == 2
    same = whole([events], with_thinking=True)
    assert [block["type"] for block in same["content"]] == [b.type for b in message.content]
    assert [block["input"] for block in same["content"][2:]] == [{"c": 1}, {}]


# --- one document -----------------------------------------------------------------------------


def test_a_whole_message() -> None:
    events: Events = [INFO, TextDelta("Hel"), TextDelta("lo"), STOP, Usage(3, 2, 5)]
    assert whole([events]) == {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude",
        "content": [{"type": "text", "text": "Hello"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "stop_details": None,
        "usage": {
            "input_tokens": 3,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 2,
        },
    }


@pytest.mark.parametrize(
    ("arguments", "value"),
    [("", {}), ('{"a":1}', {"a": 1}), ("[1]", {"arguments": [1]}), ("{a", {"arguments": "{a"})],
)
def test_input_is_an_object(arguments: str, value: object) -> None:
    found = whole([[INFO, ToolCallStart(0, "c", "f"), ToolCallDone(0, "c", "f", arguments), CALLS]])
    assert found["content"][0]["input"] == value


def test_an_id_is_made_where_the_provider_gives_none() -> None:
    found = whole([[TextDelta("a"), STOP]])
    assert found["id"].startswith("msg_")
    assert found["model"] == "asked"


def test_a_document_is_bounded() -> None:
    collector = MessageCollector("m")
    piece: Events = [TextDelta("x" * 8_000_000)]
    for _ in range(4):
        collector.add(piece)
    with pytest.raises(EventTooLarge):
        collector.add(piece)
