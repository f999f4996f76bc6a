"""Reading the Responses API: each rule of the wire, every cut, any bytes."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.codecs.openai_responses import MAX_MISSES, ResponsesCodec
from relay.codecs.responses_quirks import ResponsesQuirks
from relay.codecs.responses_reader import MAX_KEPT_CHARS, MAX_PARTS
from relay.codecs.tool_calls import MAX_CALLS
from relay.content import (
    ChoiceFinished,
    FinishReason,
    OpaqueDelta,
    ProviderFailed,
    ResponseInfo,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallDone,
    ToolCallStart,
    Usage,
)
from relay.errors import (
    EventTooLarge,
    NotAnAnswer,
    Reason,
    RemoteProtocolError,
    StreamTruncated,
    UpstreamStatus,
)
from relay.sse import MAX_EVENT_BYTES
from tests.codecs.responses_text import (
    RESPONSE,
    USAGE,
    added,
    arguments,
    call,
    created,
    cut_by,
    done,
    ended,
    event,
    message,
    output_text,
    response,
    stream,
    text,
)
from tests.fakes.collect import Collected, CollectedCall, CollectedChoice, collect, pieces_of, run


def decode(body: bytes, *, status: int = 200, headers: Any = ()) -> Collected:
    """What a body says, the same whole, byte by byte and in two pieces."""

    def once(pieces: list[bytes]) -> Collected:
        return collect(run(ResponsesCodec(), pieces, status=status, headers=headers))

    whole = once([body])
    assert once(pieces_of(body, 1)) == whole, "byte by byte"
    for at in range(1, len(body), max(1, len(body) // 60)):
        assert once([body[:at], body[at:]]) == whole, f"cut at {at}"
    return whole


def decode_choice(body: bytes) -> CollectedChoice:
    result = decode(body)
    assert result.error is None
    return result.choices[0]


def failure_of(result: Collected) -> UpstreamStatus:
    assert isinstance(result.failure, UpstreamStatus)
    return result.failure


def opaque(choice: CollectedChoice, key: str) -> list[Any]:
    return [value for name, value in choice.opaque if name == key]


# --- the plain course -----------------------------------------------------------------------


def test_documented_stream() -> None:
    body = stream(
        added(0, type="message", id="msg_1", status="in_progress", content=[]),
        event(
            "response.content_part.added",
            output_index=0,
            content_index=0,
            part={"type": "output_text", "text": "", "annotations": []},
        ),
        text("Hel", sequence_number=4, obfuscation="xY", logprobs=[]),
        text("lo"),
        event("response.output_text.done", output_index=0, content_index=0, text="Hello"),
        event(
            "response.content_part.done",
            output_index=0,
            content_index=0,
            part=output_text("Hello"),
        ),
        done(0, **message(output_text("Hello"))),
        end=ended(output=[message(output_text("Hello"))]),
    )
    codec = ResponsesCodec()
    events = run(codec, [body])
    assert codec.is_finished
    assert events[:4] == [
        ResponseInfo("resp_1", "m", 7),
        TextDelta("Hel"),
        TextDelta("lo"),
        ChoiceFinished(FinishReason.STOP, "completed"),
    ]
    usage = events[4]
    assert isinstance(usage, Usage)
    assert usage == Usage(20, 10, 30, 8, 4, 6, raw_json=orjson.dumps(USAGE))
    assert len(events) == 5
    assert decode(body).text == "Hello"


def test_nothing_is_read_after_the_terminal_event() -> None:
    codec = ResponsesCodec()
    codec.decode_headers(200, [])
    codec.feed(stream(text("a")))
    assert codec.is_finished
    assert list(codec.feed(text("late"))) == []
    assert list(codec.end()) == []
    late = decode_choice(stream(text("a")) + text("late") + ended() + event("error", error={}))
    assert late.text == "a"


def test_text_comes_as_soon_as_its_event_is_whole() -> None:
    codec = ResponsesCodec()
    codec.decode_headers(200, [])
    one = text("a")
    assert list(codec.feed(one[:-1])) == []
    assert list(codec.feed(one[-1:])) == [TextDelta("a")]


def test_tier_that_was_only_asked_for_is_not_told() -> None:
    for tier, told in (("auto", ""), ("priority", "priority")):
        body = event("response.created", response={**RESPONSE, "service_tier": tier}) + ended()
        assert decode(body).info == ResponseInfo("resp_1", "m", 7, told)


@pytest.mark.parametrize(("given", "expected"), [(7.0, 7), (True, 0), ("7", 0), (-1, 0), (1e30, 0)])
def test_moment_of_creation(given: Any, expected: int) -> None:
    body = event("response.created", response={**RESPONSE, "created_at": given}) + ended()
    info = decode(body).info
    assert info is not None
    assert info.created_s == expected


# --- what may be missing or added -----------------------------------------------------------


@pytest.mark.parametrize(
    "odd",
    [
        b": keep-alive\n\n",
        b"event: ping\ndata: hello\n\n",
        b"data: null\n\n",
        b"data: [DONE]\n\n",
        b"data: {}\n\n",
        event("response.queued", response=RESPONSE),
        event("response.web_search_call.searching", output_index=0),
        event("response.something.new", delta="x"),
        event("keepalive", sequence_number=3),
        text(""),
        event("response.output_text.delta"),
        event("response.output_text.delta", delta=None, output_index=None),
        event("response.output_text.done", output_index=9, content_index=0, text=""),
        event("response.content_part.done", output_index=9, part={"type": "new", "text": "x"}),
        event("response.content_part.done", output_index=9, part=None),
        added(9, type="message", content=None),
        added(9),
        event("response.output_item.added", output_index=9, item=None),
        done(9, type="message"),
        done(9, type="reasoning", summary=None, content=None),
        done(9, type=[1]),
        event("response.function_call_arguments.done", output_index=9, arguments="{}"),
    ],
)
def test_events_that_say_nothing(odd: bytes) -> None:
    result = decode(stream(text("a"), odd, text("b")))
    assert (result.text, result.error) == ("ab", None)
    assert result.choices[0].finish is FinishReason.STOP


def test_hosts_that_leave_out_names_or_types() -> None:
    bare: list[tuple[str, dict[str, Any]]] = [
        ("response.created", {"response": RESPONSE}),
        ("response.output_text.delta", {"delta": "a"}),
        ("response.completed", {"response": response()}),
    ]
    unnamed = b"".join(event(kind, is_named=False, **fields) for kind, fields in bare)
    assert decode_choice(unnamed).text == "a"
    untyped = (
        b'event: response.output_text.delta\ndata: {"delta":"a"}\n\n'
        b'event: response.completed\ndata: {"response":{}}\n\n'
    )
    assert decode_choice(untyped).text == "a"


@pytest.mark.parametrize("head", [b"", b"\xef\xbb\xbf", b"\n\n  \r\n", b": hi\n\n"])
def test_what_may_come_before_the_first_event(head: bytes) -> None:
    assert decode(head + stream(text("a"))).text == "a"


def test_terminal_event_without_its_blank_line_counts_if_it_is_whole() -> None:
    assert decode(stream(text("a")).rstrip()).error is None
    half = decode(stream(text("a"))[:-8])
    assert isinstance(half.failure, StreamTruncated)
    assert half.text == "a"


@pytest.mark.parametrize("status", ["in_progress", None, ["completed"]])
def test_terminal_event_says_its_status_where_the_response_does_not(status: Any) -> None:
    body = created() + event("response.completed", response={**RESPONSE, "status": status})
    assert decode_choice(body).finish is FinishReason.STOP
    body = created() + event("response.failed", response={**RESPONSE, "status": status})
    assert failure_of(decode(body)).reason is Reason.UPSTREAM_FAILED


# --- text is told once ----------------------------------------------------------------------

REPEATS = {
    "text done": event("response.output_text.done", output_index=0, content_index=0, text="Hello"),
    "part done": event(
        "response.content_part.done", output_index=0, content_index=0, part=output_text("Hello")
    ),
    "item done": done(0, **message(output_text("Hello"))),
}


@pytest.mark.parametrize("repeat", REPEATS)
@pytest.mark.parametrize("before", [(), ("Hel",), ("Hel", "lo"), ("He", "llo")])
def test_what_no_delta_brought_is_told(repeat: str, before: tuple[str, ...]) -> None:
    body = stream(*map(text, before), REPEATS[repeat], *REPEATS.values())
    assert decode_choice(body).text == "Hello"


def test_what_repeats_another_text_adds_nothing() -> None:
    assert decode_choice(stream(text("Hallo"), REPEATS["text done"])).text == "Hallo"
    assert decode_choice(stream(text("Hello there"), REPEATS["item done"])).text == "Hello there"


def test_parts_and_items_are_one_text() -> None:
    body = stream(
        text("a"),
        text("b", part=1),
        done(0, **message(output_text("a"), output_text("b"))),
        text("c", 2),
        done(2, **message(output_text("c"))),
    )
    assert decode_choice(body).text == "abc"


def test_items_that_share_their_place() -> None:
    one = event("response.output_text.done", output_index=0, content_index=0, text="a")
    two = event("response.output_text.done", output_index=0, content_index=0, text="b")
    assert decode_choice(stream(text("a"), one, text("b"), two)).text == "ab"


def test_output_of_the_terminal_event_is_read_if_nothing_came_before() -> None:
    items = [message(output_text("a")), call("c1", "f", "{}")]
    choice = decode_choice(stream(end=ended(output=items)))
    assert choice.text == "a"
    assert [one.name for one in choice.tool_calls] == ["f"]
    assert decode_choice(stream(text("b", 3), end=ended(output=items))).text == "b"


def test_of_a_very_long_text_nothing_is_remembered() -> None:
    codec = ResponsesCodec()
    codec.decode_headers(200, [])
    piece = "x" * (MAX_KEPT_CHARS // 4)
    for count in range(1, 9):
        assert list(codec.feed(text(piece))) == [TextDelta(piece)]
        held = codec._reader._text_part.said
        assert len(held) == (count if count <= 4 else 0)
    assert codec.feed(event("response.output_text.done", output_index=0, text=piece)) == []


def test_only_the_last_part_of_a_kind_is_remembered() -> None:
    codec = ResponsesCodec()
    codec.decode_headers(200, [])
    for at in range(100):
        codec.feed(text("x" * 1000, part=at))
    parts = codec._reader._parts.values()
    assert sum(len(part.said) for part in parts) == 1


# --- refusal, reasoning, extras -------------------------------------------------------------


def test_refusal() -> None:
    refusal = {"type": "refusal", "refusal": "I can't"}
    body = stream(
        event("response.refusal.delta", output_index=0, content_index=0, delta="I "),
        event("response.refusal.delta", output_index=0, content_index=0, delta="can't"),
        event("response.refusal.done", output_index=0, content_index=0, refusal="I can't"),
        done(0, **message(refusal)),
    )
    choice = decode_choice(body)
    assert (choice.refusal, choice.text, choice.finish) == ("I can't", "", FinishReason.STOP)
    assert decode_choice(stream(done(0, **message(refusal)))).refusal == "I can't"


def summary_delta(delta: str, index: int = 0, part: int = 0) -> bytes:
    return event(
        "response.reasoning_summary_text.delta",
        output_index=index,
        summary_index=part,
        delta=delta,
    )


def reasoning(*summaries: str, **fields: Any) -> dict[str, Any]:
    parts = [{"type": "summary_text", "text": text} for text in summaries]
    return {"type": "reasoning", "id": "rs_1", "summary": parts, **fields}


def test_summary_parts_are_set_apart() -> None:
    body = stream(
        summary_delta("a"),
        summary_delta("b"),
        event("response.reasoning_summary_text.done", output_index=0, summary_index=0, text="ab"),
        event(
            "response.reasoning_summary_part.done",
            output_index=0,
            summary_index=0,
            part={"type": "summary_text", "text": "ab"},
        ),
        summary_delta("c", part=1),
        done(0, **reasoning("ab", "c", "d")),
        summary_delta("e", index=1),
        text("x", 2),
    )
    choice = decode_choice(body)
    assert (choice.reasoning, choice.text) == ("ab\n\nc\n\nd\n\ne", "x")


def test_plain_reasoning() -> None:
    thought = {"type": "reasoning_text", "text": "ab"}
    body = stream(
        event("response.reasoning_text.delta", output_index=0, content_index=0, delta="a"),
        event("response.reasoning_text.delta", output_index=0, content_index=0, delta="b"),
        event("response.reasoning_text.done", output_index=0, content_index=0, text="ab"),
        event("response.content_part.done", output_index=0, content_index=0, part=thought),
        done(0, **reasoning(content=[thought])),
    )
    choice = decode_choice(body)
    assert choice.reasoning == "ab"
    assert opaque(choice, "reasoning_details") == [
        [
            {
                "type": "reasoning.text",
                "text": "ab",
                "id": "rs_1",
                "format": "openai-responses-v1",
                "index": 0,
            }
        ]
    ]


@pytest.mark.parametrize("first", ["summary", "thought"])
def test_one_kind_of_reasoning_an_item(first: str) -> None:
    thought = event("response.reasoning_text.delta", output_index=0, content_index=0, delta="t")
    deltas = [summary_delta("s"), thought]
    if first == "thought":
        deltas.reverse()
    item = reasoning("s", content=[{"type": "reasoning_text", "text": "t"}])
    assert decode_choice(stream(*deltas, done(0, **item))).reasoning == first[0]
    assert decode_choice(stream(done(0, **item))).reasoning == "s"


def test_encrypted_reasoning_comes_out_with_its_place() -> None:
    body = stream(
        done(0, **reasoning("s1", "s2", encrypted_content="AAA")),
        done(1, **call("c1", "f", "{}")),
        done(2, type="web_search_call", id="ws_1"),
        done(3, type="reasoning", summary=[], encrypted_content="BBB"),
        done(4, **message(output_text("x"))),
        done(5, **reasoning("nothing to send back", encrypted_content=None)),
        done(6, **reasoning(encrypted_content="CCC", id="rs_3")),
    )
    choice = decode_choice(body)
    fixed = {"format": "openai-responses-v1"}
    one = {**fixed, "id": "rs_1"}
    assert opaque(choice, "reasoning_details") == [
        [
            {"type": "reasoning.summary", "summary": "s1", "index": 0, **one},
            {"type": "reasoning.summary", "summary": "s2", "index": 1, **one},
            {"type": "reasoning.encrypted", "data": "AAA", "index": 2, **one},
        ],
        [{"type": "reasoning.encrypted", "data": "BBB", "index": 5, **fixed}],
        [{"type": "reasoning.encrypted", "data": "CCC", "index": 7, "id": "rs_3", **fixed}],
    ]
    assert opaque(choice, "output_items") == [
        [{**fixed, "index": 4, "item": {"type": "web_search_call", "id": "ws_1"}}]
    ]


def test_format_of_the_state_is_the_rows() -> None:
    codec = ResponsesCodec(ResponsesQuirks(reasoning_format="xai-responses-v1"))
    result = collect(run(codec, [stream(done(0, **reasoning(encrypted_content="A")))]))
    assert opaque(result.choices[0], "reasoning_details")[0][0]["format"] == "xai-responses-v1"


@pytest.mark.parametrize("phases", [("commentary",), ("commentary", "final_answer")])
def test_phase_of_a_message_is_told_once(phases: tuple[str, ...]) -> None:
    items = [message(output_text("a"), phase=phase) for phase in phases]
    choice = decode_choice(stream(*(done(at, **item) for at, item in enumerate(items))))
    assert opaque(choice, "extra_content") == [{"openai": {"phase": phases[-1]}}]


def test_items_of_built_in_tools_are_no_calls() -> None:
    items: list[dict[str, Any]] = [
        {"type": "web_search_call", "id": "w"},
        {"type": "mcp_call", "name": "f", "arguments": "{}"},
        {"type": "tool_search_call", "call_id": "call_1", "arguments": {}},
        {"type": "compaction", "encrypted_content": "x"},
    ]
    choice = decode_choice(stream(*(done(at, **item) for at, item in enumerate(items))))
    assert choice.tool_calls == []
    assert choice.finish is FinishReason.STOP
    assert [entries[0]["item"] for entries in opaque(choice, "output_items")] == items


CITATION = {"type": "url_citation", "url": "https://x", "title": "X", "start_index": 0}
CHAT_CITATION = {
    "type": "url_citation",
    "url_citation": {"url": "https://x", "title": "X", "start_index": 0},
}


def test_annotations_are_told_once() -> None:
    file = {"type": "file_citation", "file_id": "f"}
    whole = output_text("a", annotations=[CITATION, file])
    body = stream(
        text("a"),
        event(
            "response.output_text.annotation.added",
            output_index=0,
            content_index=0,
            annotation_index=0,
            annotation=CITATION,
        ),
        event("response.content_part.done", output_index=0, content_index=0, part=whole),
        done(0, **message(whole)),
    )
    assert opaque(decode_choice(body), "annotations") == [[CHAT_CITATION], [file]]


def test_logprobs_are_told_once() -> None:
    one = [{"token": "a", "logprob": -0.1, "bytes": [97], "top_logprobs": []}]
    whole = output_text("ab", logprobs=[*one, *one])
    body = stream(text("a", logprobs=one), text("b", logprobs=one), done(0, **message(whole)))
    choice = decode_choice(body)
    assert choice.text == "ab"
    assert opaque(choice, "logprobs") == [{"content": one}, {"content": one}]
    alone = decode_choice(stream(done(0, **message(whole))))
    assert opaque(alone, "logprobs") == [{"content": [*one, *one]}]


# --- tool calls -----------------------------------------------------------------------------


def started(call_id: str, name: str, index: int, **fields: Any) -> bytes:
    item = {**call(call_id, name, ""), "status": "in_progress", **fields}
    return added(index, **item)


def test_documented_call() -> None:
    body = stream(
        done(0, **reasoning()),
        started("c1", "f", 1),
        arguments('{"a"', 1, "fc_c1"),
        arguments(":1}", 1, "fc_c1"),
        event("response.function_call_arguments.done", output_index=1, arguments='{"a":1}'),
        done(1, **call("c1", "f", '{"a":1}')),
    )
    events = [one for one in run(ResponsesCodec(), [body]) if not isinstance(one, OpaqueDelta)]
    assert events[1:6] == [
        ToolCallStart(0, "c1", "f"),
        ToolArgumentsDelta(0, '{"a"'),
        ToolArgumentsDelta(0, ":1}"),
        ToolCallDone(0, "c1", "f", '{"a":1}'),
        ChoiceFinished(FinishReason.TOOL_CALLS, "completed"),
    ]
    decode(body)


def test_call_is_over_with_its_item_and_not_before() -> None:
    codec = ResponsesCodec()
    codec.decode_headers(200, [])
    codec.feed(created() + started("c1", "f", 0) + arguments("{}", 0))
    assert list(codec.feed(done(0, **call("c1", "f", "{}")))) == [ToolCallDone(0, "c1", "f", "{}")]
    assert list(codec.feed(done(0, **call("c1", "f", "{}")))) == [], "told once"


@pytest.mark.parametrize("before", [(), ("{",), ('{"a":', "1}")])
def test_arguments_that_no_delta_brought(before: tuple[str, ...]) -> None:
    body = stream(
        started("c1", "f", 0),
        *(arguments(piece, 0) for piece in before),
        done(0, **call("c1", "f", '{"a":1}')),
    )
    assert decode_choice(body).tool_calls == [
        CollectedCall("c1", "f", "function", '{"a":1}', is_done=True)
    ]


def test_arguments_of_the_first_event_are_not_doubled() -> None:
    body = stream(
        started("c1", "f", 0, arguments='{"a":1}'),
        arguments('{"a":1}', 0),
        done(0, **call("c1", "f", '{"a":1}')),
    )
    assert decode_choice(body).tool_calls[0].arguments == '{"a":1}'


def test_other_arguments_at_the_end_change_nothing() -> None:
    body = stream(started("c", "f", 0), arguments("{ }", 0), done(0, **call("c", "f", "{}")))
    assert decode_choice(body).tool_calls[0].arguments == "{ }"


PARALLEL = [
    started("c1", "f", 0),
    started("c2", "g", 1),
    arguments('{"a', 0, "fc_c1"),
    arguments('{"b', 1, "fc_c2"),
    arguments('":1}', 0, "fc_c1"),
    arguments('":2}', 1, "fc_c2"),
]
BOTH = [
    CollectedCall("c1", "f", "function", '{"a":1}', is_done=True),
    CollectedCall("c2", "g", "function", '{"b":2}', is_done=True),
]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_calls_whose_pieces_alternate(order: tuple[int, int]) -> None:
    items = [call("c1", "f", '{"a":1}'), call("c2", "g", '{"b":2}')]
    body = stream(*PARALLEL, *(done(at, **items[at]) for at in order))
    assert decode_choice(body).tool_calls == BOTH


def test_calls_without_their_last_event_end_with_the_response() -> None:
    items = [call("c1", "f", '{"a":1}'), call("c2", "g", '{"b":2}')]
    assert decode_choice(stream(*PARALLEL)).tool_calls == BOTH
    assert decode_choice(stream(*PARALLEL[:4], end=ended(output=items))).tool_calls == BOTH


def test_calls_that_share_their_place_are_told_apart_by_id() -> None:
    body = stream(
        done(0, **call("c1", "f", '{"a":1}')),
        done(0, **call("c2", "g", '{"b":2}')),
    )
    assert decode_choice(body).tool_calls == BOTH


def test_pieces_before_their_call_is_known() -> None:
    body = stream(arguments('{"a":1}', 0, "x"), done(0, **call("c1", "f", '{"a":1}')))
    assert decode_choice(body).tool_calls == BOTH[:1]


def test_call_without_an_id_gets_one() -> None:
    body = stream(done(0, type="function_call", name="f", arguments="{}"))
    first, second = decode_choice(body), decode_choice(body)
    assert first.tool_calls == second.tool_calls
    assert first.tool_calls[0].call_id.startswith("call_")


def test_custom_call() -> None:
    item = {"type": "custom_tool_call", "id": "ct", "call_id": "c1", "name": "f", "input": "a b"}
    piece = event("response.custom_tool_call_input.delta", output_index=0, delta="a ")
    expected = [CollectedCall("c1", "f", "custom", "a b", is_done=True)]
    head = added(0, **{**item, "input": ""})
    assert decode_choice(stream(head, piece, done(0, **item))).tool_calls == expected
    assert decode_choice(stream(done(0, **item))).tool_calls == expected


@pytest.mark.parametrize("has_item", [True, False])
def test_arguments_cut_by_the_token_limit(has_item: bool) -> None:
    item = done(0, **call("c1", "f", '{"a', status="incomplete"))
    body = stream(
        started("c1", "f", 0),
        arguments('{"a', 0),
        item if has_item else b"",
        end=cut_by("max_output_tokens"),
    )
    choice = decode_choice(body)
    assert choice.finish is FinishReason.LENGTH
    assert choice.tool_calls[0].is_partial
    whole = decode_choice(stream(done(0, **call("c1", "f", "{}")), end=cut_by("max_output_tokens")))
    assert not whole.tool_calls[0].is_partial


def test_call_without_a_name_breaks_the_format() -> None:
    for body in (
        stream(done(0, type="function_call", call_id="c")),
        stream(arguments("{}", 0)),
    ):
        assert type(decode(body).failure) is RemoteProtocolError


def test_number_and_size_of_calls_are_bounded() -> None:
    many = [started(f"c{at}", "f", at) for at in range(MAX_CALLS + 1)]
    assert type(collect(run(ResponsesCodec(), [created(), *many])).failure) is RemoteProtocolError
    piece = arguments("x" * (MAX_EVENT_BYTES // 3), 0)
    result = collect(run(ResponsesCodec(), [created(), started("c", "f", 0), *[piece] * 4]))
    assert isinstance(result.failure, EventTooLarge)
    # What is over is not held.
    parts = [created()]
    for at in range(4):
        whole = call(f"c{at}", "f", '"' + "x" * (MAX_EVENT_BYTES // 3) + '"')
        parts.append(done(at, **whole))
    assert len(collect(run(ResponsesCodec(), [*parts, ended()])).choices[0].tool_calls) == 4


def test_number_of_parts_is_bounded() -> None:
    body = created() + b"".join(text("x", part=at) for at in range(MAX_PARTS + 1))
    result = collect(run(ResponsesCodec(), [body]))
    assert type(result.failure) is RemoteProtocolError
    assert len(result.text) == MAX_PARTS


# --- ends -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("max_output_tokens", FinishReason.LENGTH),
        ("content_filter", FinishReason.CONTENT_FILTER),
        ("something_new", FinishReason.OTHER),
    ],
)
def test_incomplete(reason: str, finish: FinishReason) -> None:
    choice = decode_choice(stream(text("a"), end=cut_by(reason)))
    assert (choice.finish, choice.raw_finish) == (finish, reason)


@pytest.mark.parametrize("details", [None, {}, [], {"reason": 1}])
def test_incomplete_without_a_reason(details: Any) -> None:
    choice = decode_choice(stream(end=ended("incomplete", incomplete_details=details)))
    assert (choice.finish, choice.raw_finish) == (FinishReason.OTHER, "incomplete")


@pytest.mark.parametrize("usage", [None, [], {}, "x", {"input_tokens": "many"}])
def test_usage_that_is_none(usage: Any) -> None:
    assert decode(stream(end=ended(usage=usage))).usage is None


def test_absurd_usage_is_clamped() -> None:
    usage = decode(stream(end=ended(usage={"input_tokens": -5, "output_tokens": 1 << 50}))).usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (0, 1_000_000_000)
    assert usage.is_estimated


def test_cut_at_every_event_border_is_no_clean_end() -> None:
    parts = [created(), text("a"), started("c1", "f", 1), arguments("{}", 1), ended()]
    for at in range(len(parts)):
        result = decode(b"".join(parts[:at]))
        assert isinstance(result.failure, StreamTruncated), at
    assert decode(b"".join(parts)).error is None
    assert isinstance(decode(created() + text("a") + b"data: [DONE]\n\n").failure, StreamTruncated)


# --- errors ---------------------------------------------------------------------------------

ERROR = {"type": "tokens", "code": "rate_limit_exceeded", "message": "try again in 2s"}


@pytest.mark.parametrize(
    "ending",
    [
        event("error", error=ERROR),
        event("error", is_named=False, error=ERROR),
        b"event: error\ndata: " + orjson.dumps({"error": ERROR}) + b"\n\n",
        event("error", sequence_number=2, code=ERROR["code"], message=ERROR["message"]),
        b"data: " + orjson.dumps({"error": ERROR}) + b"\n\n",
        ended("failed", error={"code": ERROR["code"], "message": ERROR["message"]}),
        event("response.completed", response=response(error=ERROR)),
    ],
)
def test_error_inside_a_stream(ending: bytes) -> None:
    result = decode(created() + text("a") + ending + ended())
    assert result.text == "a"
    failure = failure_of(result)
    assert failure.reason is Reason.UPSTREAM_RATE_LIMITED
    assert failure.http_status == 200
    assert failure.provider_code == "rate_limit_exceeded"
    assert failure.public_message == "try again in 2s"
    assert failure.retry_after_s == 2
    assert failure.provider_type in ("tokens", "")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("server_error", Reason.UPSTREAM_FAILED),
        ("rate_limit_exceeded", Reason.UPSTREAM_RATE_LIMITED),
        ("insufficient_quota", Reason.UPSTREAM_QUOTA_EXHAUSTED),
        ("invalid_prompt", Reason.UPSTREAM_CONTENT_BLOCKED),
        ("image_content_policy_violation", Reason.UPSTREAM_CONTENT_BLOCKED),
        ("image_too_large", Reason.UPSTREAM_REJECTED),
        ("image_file_not_found", Reason.UPSTREAM_REJECTED),
        ("invalid_image_url", Reason.UPSTREAM_REJECTED),
        ("empty_image_file", Reason.UPSTREAM_REJECTED),
        ("vector_store_timeout", Reason.FIRST_TOKEN_TIMEOUT),
        ("", Reason.UPSTREAM_FAILED),
    ],
)
def test_codes_of_a_failed_response(code: str, reason: Reason) -> None:
    result = decode(stream(end=ended("failed", error={"code": code, "message": "m"})))
    assert failure_of(result).reason is reason
    assert result.usage is not None, "what it has cost is told all the same"


def test_failure_without_words() -> None:
    for ending in (ended("failed"), event("error"), b"event: error\ndata: oh no\n\n"):
        assert failure_of(decode(created() + ending)).reason is Reason.UPSTREAM_FAILED


def test_cancelled_response() -> None:
    for body in (stream(end=ended("cancelled")), orjson.dumps(response("cancelled"))):
        failure = failure_of(decode(body))
        assert (failure.reason, failure.provider_code) == (Reason.UPSTREAM_FAILED, "cancelled")


def test_error_by_status() -> None:
    error = {"message": "no key sk-abcdefghijklmnop", "type": "invalid_request_error"}
    body = orjson.dumps({"error": {**error, "code": "invalid_api_key", "param": None}})
    result = decode(body, status=401, headers=[("x-request-id", "req_1")])
    failure = failure_of(result)
    assert failure.reason is Reason.UPSTREAM_MISCONFIGURED
    assert "abcdefgh" not in failure.public_message
    assert failure.metadata["provider_request_id"] == "req_1"
    wrong = {"error": {"message": "unknown", "code": "model_not_found", "param": "model"}}
    failure = failure_of(decode(orjson.dumps(wrong), status=400))
    assert failure.reason is Reason.UPSTREAM_MODEL_NOT_FOUND
    assert "provider_request_id" not in failure.metadata


@pytest.mark.parametrize("body", [b"<html>no</html>", b"", b"no", b"[]", b"null"])
def test_odd_error_bodies(body: bytes) -> None:
    failure = failure_of(decode(body, status=503))
    assert failure.reason is Reason.UPSTREAM_OVERLOADED
    assert "html" not in failure.public_message


@pytest.mark.parametrize(
    "body",
    [
        b"<html></html>",
        b"data: nonsense\n\n",
        b"event: response.completed\ndata: {nonsense\n\n",
        b"data: 7\n\n",
        b'data: "x"\n\n',
        done(0)[:-2].replace(b"{}", b"[]") + b"\n\n",
        event("response.output_item.done", output_index=0, item=7),
    ],
)
def test_broken_format(body: bytes) -> None:
    assert type(decode(body).failure) in (NotAnAnswer, RemoteProtocolError)


def test_event_over_the_cap() -> None:
    huge = text("x" * MAX_EVENT_BYTES)
    for pieces in ([text("a"), huge], pieces_of(text("a") + huge, 65_536)):
        result = collect(run(ResponsesCodec(), pieces))
        assert isinstance(result.failure, EventTooLarge)
        assert result.text == "a"
    result = collect(run(ResponsesCodec(), [b'{"output":"', *[b"x" * 65_536] * 17]))
    assert isinstance(result.failure, EventTooLarge)


# --- a whole response -----------------------------------------------------------------------


def test_whole_response_says_what_its_stream_says() -> None:
    items = [
        reasoning("s", encrypted_content="A"),
        message(output_text("a", annotations=[CITATION])),
        call("c1", "f", "{}"),
    ]
    whole = decode(orjson.dumps(response(output=items)))
    streamed = decode(
        stream(
            summary_delta("s"),
            done(0, **items[0]),
            text("a", 1),
            done(1, **items[1]),
            started("c1", "f", 2),
            arguments("{}", 2),
            done(2, **items[2]),
            end=ended(output=items),
        )
    )
    assert whole == streamed
    assert whole.error is None


def test_whole_response_without_a_status() -> None:
    body = {"output": [message(output_text("a"))]}
    assert decode_choice(b"\n \n" + orjson.dumps(body)).finish is FinishReason.STOP


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"error": ERROR}, UpstreamStatus),
        ({"type": "error", "error": ERROR}, UpstreamStatus),
        ({"error": ERROR, "output": []}, UpstreamStatus),
        ({"code": "server_error", "message": "m"}, UpstreamStatus),
        (response("failed", error=ERROR), UpstreamStatus),
        ([{"error": ERROR}], UpstreamStatus),
        ({"choices": []}, NotAnAnswer),
        ({}, NotAnAnswer),
        (response("in_progress"), StreamTruncated),
        (response("queued"), StreamTruncated),
    ],
)
def test_documents_that_are_no_answer(body: Any, error: type) -> None:
    assert type(decode(orjson.dumps(body)).failure) is error


def test_whole_response_that_was_cut() -> None:
    body = orjson.dumps(response(output=[message(output_text("a"))]))
    assert isinstance(decode(body[:-5]).failure, StreamTruncated)


# --- text that is no Unicode ----------------------------------------------------------------


def test_text_that_is_no_unicode_is_mended_and_counted() -> None:
    body = stream(text("a").replace(b'"a"', b'"\xff"'), text("b").replace(b'"b"', b'"\\ud800"'))
    codec = ResponsesCodec()
    result = collect(run(codec, [body]))
    assert (result.text, result.error) == ("\ufffd\ufffd", None)
    assert codec.mended_events == 2
    decode(body)


# --- the lane for text ----------------------------------------------------------------------


def test_lane_that_is_always_refused_is_given_up() -> None:
    odd = text("a", unknown=1)
    codec = ResponsesCodec()
    assert collect(run(codec, [stream(*[odd] * (3 * MAX_MISSES))])).text == "a" * 3 * MAX_MISSES
    assert codec._misses == MAX_MISSES


# --- any bytes ------------------------------------------------------------------------------

VALID = stream(
    added(0, type="reasoning", id="rs_1", summary=[]),
    summary_delta("th"),
    done(0, **reasoning("think", encrypted_content="AAA")),
    text("Hé", 1),
    text("llo", 1, logprobs=[{"token": "x"}]),
    done(1, **message(output_text("Héllo", annotations=[CITATION]), phase="final_answer")),
    started("c1", "f", 2),
    started("c2", "g", 3),
    arguments('{"a":', 2),
    arguments("{}", 3),
    done(2, **call("c1", "f", '{"a":1}')),
    done(3, **call("c2", "g", "{}")),
    done(4, type="web_search_call", id="w"),
)
assert b"\r" not in VALID

KEYS = st.sampled_from(
    [
        "type",
        "item",
        "response",
        "output",
        "output_index",
        "content_index",
        "delta",
        "text",
        "part",
        "content",
        "summary",
        "status",
        "error",
        "call_id",
        "id",
        "item_id",
        "name",
        "arguments",
        "usage",
        "annotations",
        "logprobs",
        "encrypted_content",
        "incomplete_details",
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
TYPES = st.sampled_from(
    [
        "response.created",
        "response.output_item.added",
        "response.output_item.done",
        "response.content_part.done",
        "response.output_text.delta",
        "response.output_text.done",
        "response.output_text.annotation.added",
        "response.reasoning_summary_text.delta",
        "response.reasoning_text.done",
        "response.function_call_arguments.delta",
        "response.completed",
        "response.incomplete",
        "response.failed",
        "error",
        "message",
        "function_call",
        "custom_tool_call",
        "reasoning",
        "output_text",
        "refusal",
    ]
)


def _typed(value: Any, kinds: list[str]) -> Any:
    """The value with a known `type` in its objects, so that it gets deep into the reader."""
    if isinstance(value, dict):
        typed = {key: _typed(inner, kinds) for key, inner in value.items()}
        if kinds:
            typed["type"] = kinds.pop()
        return typed
    return [_typed(inner, kinds) for inner in value] if isinstance(value, list) else value


def same_however_cut(body: bytes, cuts: list[int], **head: Any) -> None:
    whole = collect(run(ResponsesCodec(), [body], **head))
    at, pieces = 0, []
    for size in [*cuts, len(body)]:
        pieces.append(body[at : at + size])
        at += size
    assert collect(run(ResponsesCodec(), pieces, **head)) == whole


@given(
    values=st.lists(JSON, max_size=6),
    kinds=st.lists(TYPES, max_size=20),
    cuts=st.lists(st.integers(1, 60), max_size=8),
)
@settings(max_examples=250, deadline=None)
def test_any_documents_are_taken(values: list[Any], kinds: list[str], cuts: list[int]) -> None:
    body = b"".join(
        b"data: " + orjson.dumps(_typed({"item": value, "response": value}, kinds)) + b"\n\n"
        if isinstance(value, dict)
        else b"data: " + orjson.dumps(_typed(value, kinds)) + b"\n\n"
        for value in values
    )
    same_however_cut(body, cuts)


@given(
    at=st.integers(0, len(VALID) - 1),
    length=st.integers(0, 40),
    put=st.binary(max_size=12),
    cuts=st.lists(st.integers(1, 400), max_size=8),
)
@settings(max_examples=250, deadline=None)
def test_any_change_of_a_valid_stream_is_taken(
    at: int, length: int, put: bytes, cuts: list[int]
) -> None:
    same_however_cut(VALID[:at] + put + VALID[at + length :], cuts)


@given(
    body=st.binary(max_size=300),
    status=st.sampled_from([200, 302, 400, 500]),
    cuts=st.lists(st.integers(1, 40), max_size=8),
)
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_taken(body: bytes, status: int, cuts: list[int]) -> None:
    same_however_cut(body, cuts, status=status)


def test_valid_stream_is_the_same_at_every_cut() -> None:
    result = decode(VALID)
    assert result.error is None
    choice = result.choices[0]
    assert (choice.text, choice.reasoning) == ("Héllo", "think")
    assert [one.arguments for one in choice.tool_calls] == ['{"a":1}', "{}"]
    for cut in range(len(VALID)):
        events = run(ResponsesCodec(), [VALID[:cut]])
        assert isinstance(events[-1], ProviderFailed) == (cut < len(VALID) - 2), cut
