"""Reading the Messages API: each rule of the wire, every cut, any bytes."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.codecs.anthropic_message import MAX_OPEN_BLOCKS, STOP_REASONS
from relay.codecs.anthropic_messages import AnthropicMessagesCodec
from relay.content import (
    FinishReason,
    ProviderFailed,
    ResponseInfo,
    TextDelta,
    ToolCallDone,
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
from tests.codecs.anthropic_text import (
    PING,
    STOP,
    block,
    call,
    delta,
    ending,
    event,
    message,
    start,
    stop,
    text,
    thinking,
)
from tests.fakes.collect import Collected, CollectedChoice, collect, pieces_of, run

END = ending() + STOP


def decode(body: bytes, *, status: int = 200) -> Collected:
    """What a body says, the same whole, byte by byte and in two pieces."""

    def once(pieces: list[bytes]) -> Collected:
        return collect(run(AnthropicMessagesCodec(), pieces, status=status))

    whole = once([body])
    assert once(pieces_of(body, 1)) == whole, "byte by byte"
    for at in range(1, len(body), max(1, len(body) // 60)):
        assert once([body[:at], body[at:]]) == whole, f"cut at {at}"
    return whole


def decode_choice(body: bytes) -> CollectedChoice:
    result = decode(body)
    assert result.error is None
    return result.choices[0]


def opaque(choice: CollectedChoice, key: str) -> list[Any]:
    return [item for name, value in choice.opaque if name == key for item in value]


# --- the plain course -----------------------------------------------------------------------


def test_documented_stream() -> None:
    body = (
        start(input_tokens=25, output_tokens=1, service_tier="standard")
        + block(0, {"type": "text", "text": ""})
        + PING
        + delta(0, "text_delta", text="Hel")
        + delta(0, "text_delta", text="lo")
        + stop(0)
        + ending("end_turn", {"output_tokens": 15}, stop_sequence=None)
        + STOP
    )
    result = decode(body)
    assert result.info == ResponseInfo("msg_1", "m", 0, "standard")
    assert result.text == "Hello"
    assert result.choices[0].raw_finish == "end_turn"
    assert result.choices[0].finish is FinishReason.STOP
    assert result.usage is not None
    assert (result.usage.prompt_tokens, result.usage.completion_tokens) == (25, 15)


def test_text_is_handed_on_at_once_and_the_end_is_known() -> None:
    codec = AnthropicMessagesCodec()
    codec.decode_headers(200, [])
    assert codec.feed(start()) != ()
    assert codec.feed(block(0, {"type": "text", "text": ""})) == []
    for word in ("a", "b"):
        assert codec.feed(delta(0, "text_delta", text=word)) == [TextDelta(word)]
    codec.feed(stop(0) + ending())
    finished = [codec.is_finished]
    assert codec.feed(STOP) == []
    finished.append(codec.is_finished)
    assert finished == [False, True]
    assert codec.feed(b"event: data\ndata: [DONE]\n\n") == ()
    assert codec.end() == ()


def test_memoryview_is_taken() -> None:
    codec = AnthropicMessagesCodec()
    codec.decode_headers(200, [])
    body = start() + text(0, "hi") + END
    assert TextDelta("hi") in codec.feed(memoryview(body))
    assert codec.is_finished


@pytest.mark.parametrize(("raw", "reason"), [*STOP_REASONS.items(), ("pause_turn", None)])
def test_stop_reasons(raw: str, reason: FinishReason | None) -> None:
    for body in (
        start() + text(0, "x") + ending(raw) + STOP,
        message({"type": "text", "text": "x"}, reason=raw),
    ):
        choice = decode_choice(body)
        assert (choice.finish, choice.raw_finish) == (reason or FinishReason.OTHER, raw)


def test_answer_may_be_empty() -> None:
    for body in (start() + END, message()):
        result = decode(body)
        assert result.error is None
        assert result.choices[0].text == ""
        assert result.choices[0].finish is FinishReason.STOP


def test_refusal_says_why() -> None:
    details = {"type": "refusal", "category": "cyber", "explanation": "no"}
    choice = decode_choice(start() + ending("refusal", stop_details=details) + STOP)
    assert choice.finish is FinishReason.CONTENT_FILTER
    assert ("stop_details", details) in choice.opaque


# --- counts ---------------------------------------------------------------------------------


def usage_of(first: dict[str, Any], last: dict[str, Any] | None) -> Usage:
    result = decode(start(**first) + ending("end_turn", last) + STOP)
    assert result.usage is not None
    return result.usage


def test_counts_are_replaced_and_put_together() -> None:
    usage = usage_of(
        {
            "input_tokens": 3,
            "cache_read_input_tokens": 100,
            "cache_creation_input_tokens": 20,
            "output_tokens": 8,
            "service_tier": "standard",
        },
        {"output_tokens": 50, "output_tokens_details": {"thinking_tokens": 30}},
    )
    assert usage == Usage(
        123,
        50,
        173,
        cached_tokens=100,
        cache_write_tokens=20,
        reasoning_tokens=30,
        raw_json=usage.raw_json,
    )
    assert orjson.loads(usage.raw_json)["service_tier"] == "standard"


def test_later_input_counts_win_and_nulls_do_not() -> None:
    usage = usage_of(
        {"input_tokens": 3, "cache_read_input_tokens": 7, "output_tokens": 1},
        {"input_tokens": 900, "cache_read_input_tokens": None, "output_tokens": 4},
    )
    assert (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens) == (907, 7, 4)


def test_first_counts_are_told_before_the_answer() -> None:
    codec = AnthropicMessagesCodec()
    codec.decode_headers(200, [])
    kinds = [type(found) for found in codec.feed(start(input_tokens=9, output_tokens=1))]
    assert kinds == [ResponseInfo, Usage]


@pytest.mark.parametrize("count", [-5, 10**15])
def test_absurd_counts_are_clamped(count: int) -> None:
    usage = usage_of({"input_tokens": count, "output_tokens": 1}, None)
    assert 0 <= usage.prompt_tokens <= 10**9
    assert usage.is_estimated


# --- tool calls -----------------------------------------------------------------------------


def test_parallel_calls_are_numbered_without_the_other_blocks() -> None:
    body = (
        start()
        + text(0, "Let me see.")
        + call(1, "toolu_a", "f", "", '{"x"', ": 1}")
        + call(2, "toolu_b", "g", '{"y": 2}')
        + ending("tool_use")
        + STOP
    )
    choice = decode_choice(body)
    assert choice.finish is FinishReason.TOOL_CALLS
    assert [(c.call_id, c.name, c.arguments) for c in choice.tool_calls] == [
        ("toolu_a", "f", '{"x": 1}'),
        ("toolu_b", "g", '{"y": 2}'),
    ]
    assert all(c.is_done and not c.is_partial for c in choice.tool_calls)


def test_interleaved_blocks_of_calls_keep_their_pieces() -> None:
    def opened(index: int, call_id: str) -> bytes:
        return block(index, {"type": "tool_use", "id": call_id, "name": "f", "input": {}})

    def piece(index: int, text: str) -> bytes:
        return delta(index, "input_json_delta", partial_json=text)

    body = (
        start()
        + opened(0, "a")
        + opened(1, "b")
        + opened(2, "c")
        + piece(1, '{"y"')
        + piece(0, '{"x":')
        + piece(1, ":2}")
        + stop(1)
        + piece(0, "1}")
        + stop(0)
        + stop(2)
        + ending("tool_use")
        + STOP
    )
    calls = decode_choice(body).tool_calls
    assert [(one.call_id, one.arguments) for one in calls] == [
        ("a", '{"x":1}'),
        ("b", '{"y":2}'),
        ("c", "{}"),
    ]


def test_call_is_done_with_its_block() -> None:
    events = run(AnthropicMessagesCodec(), [start() + call(0, "toolu_a", "f", "{}")])
    assert any(isinstance(found, ToolCallDone) for found in events), "before the stop reason"


@pytest.mark.parametrize("pieces", [(), ("",), ("", "")])
def test_call_without_arguments_has_an_empty_object(pieces: tuple[str, ...]) -> None:
    body = (
        start()
        + call(0, "toolu_a", "f", *pieces)
        + call(1, "toolu_b", "g", *pieces)
        + ending("tool_use")
        + STOP
    )
    choice = decode_choice(body)
    assert [c.arguments for c in choice.tool_calls] == ["{}", "{}"]
    assert not any(c.is_partial for c in choice.tool_calls)


@pytest.mark.parametrize(
    ("pieces", "is_partial"), [(("",), True), (('{"a',), True), (("{}",), False)]
)
def test_call_cut_at_the_token_limit_is_partial(pieces: tuple[str, ...], is_partial: bool) -> None:
    for tail in (stop(0), b""):
        body = start() + call(0, "toolu_a", "f", *pieces).removesuffix(stop(0)) + tail
        choice = decode_choice(body + ending("max_tokens") + STOP)
        assert choice.finish is FinishReason.LENGTH
        assert choice.tool_calls[0].arguments == "".join(pieces)
        assert choice.tool_calls[0].is_partial == is_partial


def test_broken_arguments_that_nobody_cut_are_not_partial() -> None:
    body = start() + call(0, "a", "f", "{oops") + call(1, "b", "g", "{}")
    choice = decode_choice(body + ending("tool_use") + STOP)
    assert [(c.arguments, c.is_partial) for c in choice.tool_calls] == [
        ("{oops", False),
        ("{}", False),
    ]


def test_arguments_may_come_with_the_start() -> None:
    whole = {"type": "tool_use", "id": "a", "name": "f", "input": {"x": [1]}}
    for body in (
        start() + block(0, whole) + stop(0) + ending("tool_use") + STOP,
        message(whole, reason="tool_use"),
    ):
        assert decode_choice(body).tool_calls[0].arguments == '{"x":[1]}'


def test_end_turn_with_calls_means_the_calls() -> None:
    choice = decode_choice(start() + call(0, "a", "f", "{}") + END)
    assert (choice.finish, choice.raw_finish) == (FinishReason.TOOL_CALLS, "end_turn")


def test_server_tools_are_no_calls_and_come_out_whole() -> None:
    result_block = {
        "type": "web_search_tool_result",
        "tool_use_id": "srvtoolu_1",
        "content": [
            {"type": "web_search_result", "url": "https://e.com", "encrypted_content": "x"}
        ],
    }
    use = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
    body = (
        start()
        + block(0, use)
        + delta(0, "input_json_delta", partial_json='{"query"')
        + delta(0, "input_json_delta", partial_json=': "e"}')
        + stop(0)
        + block(1, result_block)
        + stop(1)
        + block(2, {"type": "compaction", "content": None})
        + delta(2, "compaction_delta", content="sum")
        + delta(2, "compaction_delta", content="mary")
        + stop(2)
        + text(3, "done")
        + ending("pause_turn", container={"id": "c_1"})
        + STOP
    )
    choice = decode_choice(body)
    assert choice.tool_calls == []
    assert opaque(choice, "anthropic_blocks") == [
        {"index": 0, "block": {**use, "input": {"query": "e"}}},
        {"index": 1, "block": result_block},
        {"index": 2, "block": {"type": "compaction", "content": "summary"}},
    ]
    assert ("container", {"id": "c_1"}) in choice.opaque


# --- thinking and citations -----------------------------------------------------------------


def test_thinking_streams_and_comes_back_signed() -> None:
    body = (
        start()
        + thinking(0, "sig0", "Hm, ", "well.")
        + block(1, {"type": "redacted_thinking", "data": "xyz"})
        + stop(1)
        + thinking(2, "sig2")
        + thinking(3, "", "unsigned")
        + text(4, "ok")
        + END
    )
    choice = decode_choice(body)
    assert choice.reasoning == "Hm, well.unsigned"
    name = "anthropic-claude-v1"
    assert opaque(choice, "reasoning_details") == [
        {
            "type": "reasoning.text",
            "text": "Hm, well.",
            "signature": "sig0",
            "format": name,
            "index": 0,
        },
        {"type": "reasoning.encrypted", "data": "xyz", "format": name, "index": 1},
        {"type": "reasoning.text", "text": "", "signature": "sig2", "format": name, "index": 2},
    ]


def test_document_says_the_same_as_the_stream() -> None:
    streamed = decode_choice(
        start()
        + thinking(0, "s", "hm")
        + text(1, "ok")
        + call(2, "a", "f", '{"x":1}')
        + ending("tool_use")
        + STOP
    )
    whole = decode_choice(
        message(
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "text", "text": "ok"},
            {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}},
            reason="tool_use",
        )
    )
    assert whole == streamed


def test_citations_become_annotations_of_their_text() -> None:
    web = {"type": "web_search_result_location", "url": "https://e.com", "title": "E"}
    place = {"type": "char_location", "document_index": 0, "cited_text": "x"}
    body = (
        start()
        + text(0, "Well, ")
        + block(1, {"type": "text", "text": "", "citations": []})
        + delta(1, "citations_delta", citation=web)
        + delta(1, "text_delta", text="it is so")
        + delta(1, "citations_delta", citation=place)
        + stop(1)
        + text(2, ".")
        + END
    )
    choice = decode_choice(body)
    assert choice.text[6:14] == "it is so"
    where = {"start_index": 6, "end_index": 14}
    assert opaque(choice, "annotations") == [
        {"index": 0, "type": "url_citation", "url_citation": {**web, **where}},
        {"index": 1, "type": "char_location", "char_location": {**place, **where}},
    ]


# --- leniency -------------------------------------------------------------------------------


def test_what_is_unknown_is_skipped() -> None:
    body = (
        PING
        + event({"type": "a_new_event", "x": 1})
        + start()
        + b"event: odd\ndata: not json\n\n"
        + b"event: odd\ndata: null\n\n"
        + block(0, {"type": "text", "text": "a"})
        + delta(0, "a_new_delta", x=1)
        + event({"type": "content_block_delta", "index": 0, "delta": None})
        + delta(0, "text_delta", text="")
        + delta(0, "text_delta", text="b")
        + PING
        + END
    )
    assert decode_choice(body).text == "ab"


def test_event_names_are_not_needed() -> None:
    body = (start() + text(0, "hi") + END).replace(b"event: ", b"x-event: ")
    assert decode_choice(body).text == "hi"


def test_crlf_and_comments() -> None:
    body = (start() + b": wait\n\n" + text(0, "hi") + END).replace(b"\n", b"\r\n")
    assert decode_choice(body).text == "hi"


def test_end_without_its_blank_line() -> None:
    assert decode_choice(start() + text(0, "hi") + END.rstrip()).text == "hi"


@pytest.mark.parametrize(
    "first",
    [
        ending("max_tokens"),
        delta(0, "thinking_delta", thinking="hm"),
        delta(0, "text_delta", text="hm"),
        block(0, {"type": "tool_use", "id": "a", "name": "f", "input": {}}),
    ],
)
def test_late_start_of_the_message_says_nothing(first: bytes) -> None:
    result = decode(first + start() + ending("max_tokens") + STOP)
    assert result.error is None
    assert result.info is None


def test_block_may_lack_its_end() -> None:
    body = start() + thinking(0, "s", "hm").removesuffix(stop(0)) + text(1, "hi") + END
    choice = decode_choice(body)
    assert len(opaque(choice, "reasoning_details")) == 1


def test_block_may_begin_again_without_an_end() -> None:
    first = thinking(0, "s0", "a").removesuffix(stop(0))
    choice = decode_choice(start() + first + thinking(0, "s1", "b") + END)
    details = opaque(choice, "reasoning_details")
    assert [detail["signature"] for detail in details] == ["s0", "s1"]


def test_blocks_after_the_stop_reason_count() -> None:
    body = start() + ending("tool_use") + call(0, "a", "f") + text(1, "late") + STOP
    choice = decode_choice(body)
    assert choice.text == "late"
    assert [(c.arguments, c.is_done) for c in choice.tool_calls] == [("{}", True)]


def nested(levels: int) -> bytes:
    return b"[" * levels + b"1" + b"]" * levels


@pytest.mark.parametrize(
    "odd",
    [
        block(0, {"type": "server_tool_use", "id": "s", "name": "n", "input": "DEEP"}) + stop(0),
        block(0, {"type": "text", "text": ""})
        + delta(0, "citations_delta", citation={"type": "char_location", "x": "DEEP"})
        + stop(0),
    ],
)
def test_what_cannot_be_written_again_is_left_out_and_counted(odd: bytes) -> None:
    body = start() + odd.replace(b'"DEEP"', nested(300)) + text(1, "a") + ending() + STOP
    codec = AnthropicMessagesCodec()
    result = collect(run(codec, [body]))
    assert (result.text, result.error, result.choices[0].opaque) == ("a", None, [])
    assert codec.mended_events == 1


def test_arguments_that_cannot_be_written_are_not_taken_for_none() -> None:
    odd = block(0, {"type": "tool_use", "id": "c", "name": "f", "input": {"a": "DEEP"}}) + stop(0)
    body = start() + odd.replace(b'"DEEP"', nested(300)) + ending("tool_use") + STOP
    assert isinstance(decode(body).failure, RemoteProtocolError)


def test_text_that_is_no_unicode_is_mended_and_counted() -> None:
    body = start() + text(0, "é") + END
    broken = body.replace("é".encode(), b"\xff")
    codec = AnthropicMessagesCodec()
    assert collect(run(codec, [broken])).text == "�"
    assert codec.mended_events == 1
    surrogate = body.replace("é".encode(), b"\\ud83d")
    assert decode_choice(surrogate).text == "�"


# --- failures -------------------------------------------------------------------------------

OVERLOADED = event(
    {"type": "error", "error": {"details": None, "type": "overloaded_error", "message": "Busy"}}
)


@pytest.mark.parametrize("before", [b"", start(), start() + text(0, "Hel")])
def test_error_inside_the_stream(before: bytes) -> None:
    result = decode(before + OVERLOADED + text(1, "no") + END)
    assert isinstance(result.failure, UpstreamStatus)
    assert result.failure.reason is Reason.UPSTREAM_OVERLOADED
    assert result.text == ("Hel" if b"Hel" in before else "")


def test_error_inside_the_stream_is_named_by_the_response() -> None:
    headers = [("request-id", "req_1"), ("retry-after", "7")]
    events = run(AnthropicMessagesCodec(), [OVERLOADED], headers=headers)
    assert isinstance(events[-1], ProviderFailed)
    assert events[-1].error.metadata["provider_request_id"] == "req_1"
    assert events[-1].error.retry_after_s is None, "that header speaks of the success"


@pytest.mark.parametrize(
    "body",
    [
        b"event: error\ndata: oops\n\n",
        b'event: error\ndata: "oops"\n\n',
        b'data: {"error":{"message":"oops"}}\n\n',
        orjson.dumps({"type": "error", "error": {"type": "api_error", "message": "oops"}}),
        b'{"error":"oops"}',
    ],
)
def test_every_way_to_say_error(body: bytes) -> None:
    result = decode(body)
    assert isinstance(result.failure, UpstreamStatus)
    assert result.failure.reason is Reason.UPSTREAM_FAILED


@pytest.mark.parametrize(
    "body",
    [
        b"<html>busy</html>",
        start() + b"event: message_delta\ndata: {oops\n\n",
        start() + b"data: 7\n\n",
        start() + delta(0, "input_json_delta", partial_json="{"),
        start() + event({"type": "content_block_start", "index": -1, "content_block": {}}),
        start() + event({"type": "content_block_start", "index": 0, "content_block": None}),
        start() + block(0, {"type": "tool_use", "id": "a", "name": "", "input": {}}) + END,
        start() + STOP,
        b'{"type":"completion"}',
        b"[1]",
        start() + b"".join(block(at, {"type": "text"}) for at in range(MAX_OPEN_BLOCKS + 1)),
    ],
)
def test_broken_format(body: bytes) -> None:
    result = decode(body)
    assert type(result.failure) in (NotAnAnswer, RemoteProtocolError)


WHOLE = (
    start()
    + thinking(0, "s", "hm")
    + text(1, "a", "b")
    + call(2, "a", "f", '{"x":1}')
    + ending("tool_use", {"output_tokens": 9})
    + STOP
)


def test_every_cut_between_events_is_a_truncation() -> None:
    at = 0
    while (at := WHOLE.find(b"\n\n", at) + 2) < len(WHOLE):
        result = decode(WHOLE[:at])
        assert type(result.failure) is StreamTruncated, at
    assert decode(WHOLE).error is None


@pytest.mark.parametrize("body", [b"", b"\n\n", b"data: [DONE]\n\n", message()[:-1]])
def test_answers_that_never_came(body: bytes) -> None:
    assert type(decode(body).failure) is StreamTruncated


def test_document_without_a_stop_reason_was_cut() -> None:
    result = decode(message({"type": "text", "text": "hi"}, reason=None))
    assert type(result.failure) is StreamTruncated
    assert result.text == "hi"


def test_status_makes_an_error_of_any_body() -> None:
    result = decode(start() + OVERLOADED, status=529)
    assert isinstance(result.failure, UpstreamStatus)
    assert result.failure.http_status == 529
    assert result.failure.public_message == "Busy"


# --- bounds ---------------------------------------------------------------------------------

BIG = "x" * (MAX_EVENT_BYTES // 8)


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"", b"data: " + BIG.encode()),
        (
            block(0, {"type": "thinking", "thinking": ""}),
            delta(0, "thinking_delta", thinking=BIG),
        ),
        (
            block(0, {"type": "tool_use", "id": "a", "name": "f", "input": {}}),
            delta(0, "input_json_delta", partial_json=BIG),
        ),
        (
            block(0, {"type": "server_tool_use", "id": "a", "name": "f", "input": {}}),
            delta(0, "input_json_delta", partial_json=BIG),
        ),
        (
            block(0, {"type": "text", "text": ""}),
            delta(0, "citations_delta", citation={"type": "x", "cited_text": BIG}),
        ),
    ],
)
def test_memory_is_bounded(head: bytes, piece: bytes) -> None:
    codec = AnthropicMessagesCodec()
    codec.decode_headers(200, [])
    codec.feed(start() + head)
    for _ in range(12):
        events = codec.feed(piece)
        if events and isinstance(events[-1], ProviderFailed):
            assert isinstance(events[-1].error, EventTooLarge)
            return
    pytest.fail("nothing stopped it")


def test_counts_are_bounded() -> None:
    body = start() + b"".join(
        ending(None, {f"count_{at}": BIG[:1000], "output_tokens": at}) for at in range(200)
    )
    body += ending("end_turn", {"odd": BIG, "output_tokens": 7}) + STOP
    result = collect(run(AnthropicMessagesCodec(), [body]))
    assert result.usage is not None
    assert result.usage.completion_tokens == 199, "the last object is too large to be one"
    assert len(orjson.loads(result.usage.raw_json)) == 64


def test_long_answers_in_many_blocks_are_no_problem() -> None:
    pieces = [start(), *(thinking(at, "s", BIG) for at in range(20)), END]
    assert collect(run(AnthropicMessagesCodec(), pieces)).error is None


def test_documents_and_errors_are_bounded() -> None:
    result = collect(run(AnthropicMessagesCodec(), [b"{", *[BIG.encode()] * 10]))
    assert isinstance(result.failure, EventTooLarge)
    codec = AnthropicMessagesCodec()
    codec.decode_headers(500, [])
    for _ in range(100):
        codec.feed(BIG.encode())
    assert len(codec._body) == 64 * 1024


# --- any bytes ------------------------------------------------------------------------------

FRAGMENTS = st.sampled_from(
    [
        PING,
        STOP,
        OVERLOADED,
        start(),
        text(0, "a"),
        thinking(0, "s", "b"),
        call(1, "t", "f", '{"a', "}"),
        block(0, {"type": "tool_use", "id": "a", "name": "f", "input": {}}),
        delta(0, "input_json_delta", partial_json="{"),
        delta(7, "text_delta", text="q"),
        delta(0, "signature_delta", signature=7),
        ending("max_tokens", {"output_tokens": 3}),
        ending(None),
        event({"type": "content_block_stop", "index": None}),
        event({"type": "content_block_start", "index": 0, "content_block": {"type": 7}}),
        event({"type": "message_delta", "delta": 1, "usage": {"input_tokens": "x"}}),
        event({"type": "message_start", "message": []}),
        b"data: [DONE]\n\n",
        b"\n",
        b"{",
        b"\xff",
    ]
)


def outcome(pieces: list[bytes], status: int = 200) -> Collected:
    return collect(run(AnthropicMessagesCodec(), pieces, status=status))


@given(parts=st.lists(FRAGMENTS, max_size=12), cuts=st.lists(st.integers(1, 40), max_size=30))
@settings(max_examples=300, deadline=None)
def test_any_order_of_events_at_any_cut(parts: list[bytes], cuts: list[int]) -> None:
    body = b"".join(parts)
    pieces, at = [], 0
    for size in cuts:
        pieces.append(body[at : at + size])
        at += size
    assert outcome([*pieces, body[at:]]) == outcome([body])


@given(
    changes=st.lists(
        st.tuples(st.integers(0, len(WHOLE) - 1), st.binary(max_size=3)), min_size=1, max_size=5
    ),
    status=st.sampled_from([200, 200, 529]),
)
@settings(max_examples=300, deadline=None)
def test_any_damage_is_survived(changes: list[tuple[int, bytes]], status: int) -> None:
    body = bytearray(WHOLE)
    for at, new in changes:
        body[at : at + len(new)] = new
    assert outcome([bytes(body)], status) == outcome(pieces_of(bytes(body), 5), status)


@given(body=st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_a_failure(body: bytes) -> None:
    result = outcome([body])
    assert result.failure is not None
    assert outcome(pieces_of(body, 1)) == result
