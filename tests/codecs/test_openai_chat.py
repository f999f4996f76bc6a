"""Reading chat completions: each rule of the wire, each provider's oddity, every cut, any bytes."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.codecs.openai_chat import OpenAIChatCodec
from relay.codecs.openai_completion import FAILED_FINISHES, FINISH_REASONS
from relay.content import (
    ChoiceFinished,
    FinishReason,
    GenerateRequest,
    ProviderFailed,
    ResponseInfo,
    Sampling,
    TextDelta,
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
from tests.codecs.wire_text import DONE, call, calls, chunk, completion, event, stream, text
from tests.fakes.collect import Collected, CollectedChoice, collect, pieces_of, run

STOP = chunk({}, "stop")


def decode(body: bytes, *, status: int = 200, choices: int = 1) -> Collected:
    """What a body says, the same whole, byte by byte and in two pieces."""

    def once(pieces: list[bytes]) -> Collected:
        codec = OpenAIChatCodec()
        codec.encode_request(GenerateRequest("m", (), sampling=Sampling(choices=choices)), "m")
        return collect(run(codec, pieces, status=status))

    whole = once([body])
    assert once(pieces_of(body, 1)) == whole, "byte by byte"
    for at in range(1, len(body), max(1, len(body) // 60)):
        assert once([body[:at], body[at:]]) == whole, f"cut at {at}"
    return whole


def decode_choice(body: bytes) -> CollectedChoice:
    result = decode(body)
    assert result.error is None
    return result.choices[0]


def failure_of(result: Collected) -> Exception:
    assert result.failure is not None
    return result.failure


# --- the plain course -----------------------------------------------------------------------


def test_documented_stream() -> None:
    body = stream(
        chunk({"role": "assistant", "content": "", "refusal": None}, usage=None),
        text("Hel"),
        text("lo"),
        STOP,
        event(
            {
                "id": "chatcmpl-1",
                "choices": [],
                "usage": {
                    "prompt_tokens": 9,
                    "completion_tokens": 2,
                    "total_tokens": 11,
                    "prompt_tokens_details": {"cached_tokens": 4},
                    "completion_tokens_details": {"reasoning_tokens": 1},
                },
            }
        ),
    )
    codec = OpenAIChatCodec()
    events = run(codec, [body])
    assert codec.is_finished
    assert events[:4] == [
        ResponseInfo("chatcmpl-1", "m", 1),
        TextDelta("Hel"),
        TextDelta("lo"),
        ChoiceFinished(FinishReason.STOP, "stop"),
    ]
    usage = events[4]
    assert isinstance(usage, Usage)
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (9, 2, 11)
    assert (usage.cached_tokens, usage.reasoning_tokens) == (4, 1)
    assert len(events) == 5
    assert decode(body).text == "Hello"


def test_end_after_done_says_nothing_and_more_bytes_are_ignored() -> None:
    codec = OpenAIChatCodec()
    codec.decode_headers(200, [])
    codec.feed(stream(text("a"), STOP))
    assert codec.is_finished
    assert list(codec.feed(text("late"))) == []
    assert list(codec.end()) == []
    assert list(codec.end()) == []


def test_text_comes_as_soon_as_its_event_is_whole() -> None:
    codec = OpenAIChatCodec()
    codec.decode_headers(200, [])
    one = text("a")
    assert list(codec.feed(one[:-1])) == []
    assert TextDelta("a") in codec.feed(one[-1:])


def test_choices_are_kept_apart() -> None:
    body = stream(
        text("a0"), text("b0", 1), text("a1"), chunk({}, "stop"), chunk({}, "length", index=1)
    )
    result = decode(body, choices=2)
    assert [result.choices[at].text for at in (0, 1)] == ["a0a1", "b0"]
    assert [result.choices[at].finish for at in (0, 1)] == [
        FinishReason.STOP,
        FinishReason.LENGTH,
    ]


def test_ids_of_the_second_chunk_when_the_first_has_none() -> None:
    # Azure begins with filter results and empty ids.
    first = event(
        {"choices": [], "created": 0, "id": "", "model": "", "prompt_filter_results": [{}]}
    )
    result = decode(stream(first, text("a"), STOP))
    assert result.info == ResponseInfo("chatcmpl-1", "m", 1)


# --- what may be missing ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "odd",
    [
        chunk(None),
        chunk([]),
        event({"id": "x"}),
        event({"id": "x", "choices": None}),
        event({"id": "x", "choices": []}),
        event({"choices": [{"finish_reason": None}]}),
        event({"choices": [{"index": None, "delta": {}, "finish_reason": ""}]}),
        event({"choices": [{"index": 0, "content_filter_results": {"hate": {}}}]}),
        event({"type": "ping"}),
        b"data: null\n\n",
        b": keep-alive\n\n",
        b"event: ping\ndata: hello\n\n",
        chunk({"content": None, "reasoning_content": None, "tool_calls": None}),
        chunk({"content": "", "reasoning": "", "tool_calls": [], "refusal": ""}),
        chunk({"content": ""}, obfuscation="x9", p="abc"),
    ],
)
def test_chunks_that_say_nothing(odd: bytes) -> None:
    result = decode(stream(text("a"), odd, text("b"), STOP))
    assert (result.text, result.error) == ("ab", None)


@pytest.mark.parametrize("head", [b"", b"\xef\xbb\xbf", b"\n\n  \r\n", b": OPENROUTER\n\n"])
def test_what_may_come_before_the_first_event(head: bytes) -> None:
    assert decode(head + stream(text("a"), STOP)).text == "a"


@pytest.mark.parametrize("ending", [b"data: [DONE]", b"data:[DONE]\n", b"data: [DONE] \r\n\r\n"])
def test_done_in_any_spelling(ending: bytes) -> None:
    assert decode(stream(text("a"), STOP, done=False) + ending).error is None


def test_done_glued_to_the_last_event() -> None:
    codec = OpenAIChatCodec()
    body = stream(text("a"), STOP[:-1])
    assert collect(run(codec, [body])).choices[0].finish is FinishReason.STOP
    assert codec.is_finished
    decode(body)


def test_last_event_without_its_blank_line_counts_if_it_is_whole() -> None:
    assert decode(stream(text("a"), STOP.rstrip(), done=False)).error is None
    half = decode(stream(text("a"), STOP[:-8], done=False))
    assert isinstance(half.failure, StreamTruncated)
    assert half.text == "a"


# --- where text may be -----------------------------------------------------------------------


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "reasoning_text"])
def test_reasoning_under_each_name(field: str) -> None:
    choice = decode_choice(stream(chunk({"role": "assistant", field: "hm"}), text("a"), STOP))
    assert (choice.reasoning, choice.text) == ("hm", "a")


def test_reasoning_under_two_names_counts_once() -> None:
    details = [{"type": "reasoning.text", "text": "hm", "format": None}]
    choice = decode_choice(stream(chunk({"reasoning": "hm", "reasoning_details": details}), STOP))
    assert choice.reasoning == "hm"
    assert choice.opaque == [("reasoning_details", details)]


def test_content_as_a_list_of_parts() -> None:
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    parts = [thinking, {"type": "text", "text": "a"}, {"type": "reference", "reference_ids": [1]}]
    choice = decode_choice(stream(chunk({"content": parts}), chunk({"content": "b"}, "stop")))
    assert (choice.reasoning, choice.text) == ("hm", "ab")
    assert choice.opaque == [("content_part", {"type": "reference", "reference_ids": [1]})]


def test_content_beside_and_after_the_finish_reason_counts() -> None:
    choice = decode_choice(
        stream(chunk({"content": "a"}, "stop"), chunk({"content": "b"}, "length"))
    )
    assert (choice.text, choice.raw_finish) == ("ab", "stop")


def test_refusal() -> None:
    choice = decode_choice(stream(chunk({"refusal": "I "}), chunk({"refusal": "won't"}), STOP))
    assert choice.refusal == "I won't"


def test_audio() -> None:
    audio = [{"id": "audio_1"}, {"data": "AAAA"}, {"transcript": "hi", "expires_at": 7}]
    choice = decode_choice(stream(*(chunk({"audio": piece}) for piece in audio), STOP))
    assert [(a.audio_id, a.data_base64, a.transcript, a.expires_at_s) for a in choice.audio] == [
        ("audio_1", "", "", 0),
        ("", "AAAA", "", 0),
        ("", "", "hi", 7),
    ]


def test_fields_passed_on_unread() -> None:
    annotations = [{"type": "url_citation"}]
    choice = decode_choice(
        stream(
            chunk({"annotations": annotations}),
            chunk({"function_call": {"name": "f", "arguments": ""}}),
            event({"choices": [{"index": 0, "delta": {"content": "a"}, "logprobs": {"x": 1}}]}),
            STOP,
        )
    )
    assert choice.opaque == [
        ("annotations", annotations),
        ("function_call", {"name": "f", "arguments": ""}),
        ("logprobs", {"x": 1}),
    ]


def test_growing_citations_are_told_when_they_change() -> None:
    choice = decode_choice(
        stream(
            *(chunk({"content": "a"}, citations=urls) for urls in (["u"], ["u"], ["u", "v"])),
            STOP,
        )
    )
    assert choice.opaque == [("citations", ["u"]), ("citations", ["u", "v"])]


def test_cumulative_message_beside_deltas_is_not_read_twice() -> None:
    # Perplexity: every chunk has both, CRLF, usage on each, no [DONE].
    def both(delta: str, message: str, finish: str | None = None) -> bytes:
        choice = {
            "index": 0,
            "delta": {"role": "assistant", "content": delta},
            "message": {"role": "assistant", "content": message},
            "finish_reason": finish,
        }
        usage = {"prompt_tokens": 1, "completion_tokens": len(message), "total_tokens": 9}
        return event({"id": "x", "model": "m", "choices": [choice], "usage": usage})

    body = both("a", "a") + both("b", "ab") + both("", "ab", "stop")
    result = decode(body.replace(b"\n", b"\r\n"))
    assert (result.text, result.error) == ("ab", None)
    assert result.usage is not None
    assert result.usage.completion_tokens == 2


# --- usage -----------------------------------------------------------------------------------


def test_last_usage_wins_and_is_never_summed() -> None:
    def usage(count: int) -> dict[str, int]:
        return {"prompt_tokens": 5, "completion_tokens": count, "total_tokens": 5 + count}

    result = decode(
        stream(
            chunk({"content": "a"}, usage=usage(1)),
            chunk({}, "stop", usage=usage(2), x_groq={"id": "r", "usage": usage(7)}),
            event({"choices": [], "usage": usage(3)}),
            event({"choices": [], "usage": {}}),
        )
    )
    assert result.usage is not None
    assert result.usage.completion_tokens == 3
    assert orjson.loads(result.usage.raw_json) == usage(3)


def test_usage_where_only_groq_puts_it() -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7, "queue_time": 0.1}
    result = decode(stream(text("a"), chunk({}, "stop", x_groq={"usage": usage})))
    assert result.usage is not None
    assert result.usage.total_tokens == 7


# --- finish reasons --------------------------------------------------------------------------


@pytest.mark.parametrize(("raw", "reason"), [*FINISH_REASONS.items(), ("new", FinishReason.OTHER)])
def test_finish_reasons(raw: str, reason: FinishReason) -> None:
    choice = decode_choice(stream(text("a"), chunk({}, raw)))
    assert (choice.finish, choice.raw_finish) == (reason, raw)


@pytest.mark.parametrize(("raw", "reason"), FAILED_FINISHES.items())
def test_finish_reasons_that_are_failures(raw: str, reason: Reason) -> None:
    result = decode(stream(text("a"), chunk({}, raw)))
    assert isinstance(result.failure, UpstreamStatus)
    assert result.failure.reason is reason
    assert (result.text, result.choices[0].raw_finish) == ("a", raw)


def test_stop_after_tool_calls_is_tool_calls() -> None:
    choice = decode_choice(stream(calls(call(0, "c", "f", "{}")), STOP))
    assert (choice.finish, choice.raw_finish) == (FinishReason.TOOL_CALLS, "stop")


# --- the end ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "choices"),
    [
        (b"", 1),
        (b" \n\n", 1),
        (b": keep-alive\n\n", 1),
        (DONE, 1),
        (stream(text("a"), done=False), 1),
        (stream(text("a")), 1),
        (stream(text("a"), text("b", 1), STOP), 2),
        (stream(text("a"), STOP, done=False), 2),
        (stream(calls(call(0, "c", "f", '{"a'))), 1),
        (b'{"id":"x","choices":[{"index":0,"mess', 1),
        (completion({"content": "a"}, None), 1),
    ],
)
def test_cut_short(body: bytes, choices: int) -> None:
    assert isinstance(failure_of(decode(body, choices=choices)), StreamTruncated)


def test_end_without_done_is_clean_with_a_finish_reason() -> None:
    codec = OpenAIChatCodec()
    assert collect(run(codec, [stream(text("a"), STOP, done=False)])).error is None
    assert not codec.is_finished


def test_fewer_choices_than_asked_for_are_the_providers_will_with_done() -> None:
    assert decode(stream(text("a"), STOP), choices=2).error is None


# --- errors inside a success -----------------------------------------------------------------

INNER_ERRORS: dict[str, tuple[bytes, Reason]] = {
    "object": (event({"error": {"message": "m", "type": "server_error"}}), Reason.UPSTREAM_FAILED),
    "text": (event({"error": "m", "code": "overloaded"}), Reason.UPSTREAM_OVERLOADED),
    "named event": (
        event({"error": {"message": "m", "code": "tool_use_failed"}}, "error"),
        Reason.UPSTREAM_FAILED,
    ),
    "named event, flat": (
        event({"message": "m", "code": "rate_limit_exceeded"}, "error"),
        Reason.UPSTREAM_RATE_LIMITED,
    ),
    "named event, text": (b"event: error\ndata: gone\n\n", Reason.UPSTREAM_FAILED),
    "flat": (event({"object": "error", "message": "m", "code": 400}), Reason.UPSTREAM_REJECTED),
    "typed": (
        event({"type": "error", "error": {"type": "overloaded_error", "message": "m"}}),
        Reason.UPSTREAM_OVERLOADED,
    ),
    "in a choice": (
        event({"choices": [{"index": 0, "error": {"message": "m", "code": 429}}]}),
        Reason.UPSTREAM_RATE_LIMITED,
    ),
    "in a list": (
        event([{"error": {"code": 429, "message": "m", "status": "RESOURCE_EXHAUSTED"}}]),
        Reason.UPSTREAM_RATE_LIMITED,
    ),
    "with choices": (
        chunk({"content": ""}, "error", error={"code": 502, "message": "m"}),
        Reason.UPSTREAM_FAILED,
    ),
    "after done was near": (
        STOP + event({"error": {"code": 400, "message": "m"}}),
        Reason.UPSTREAM_REJECTED,
    ),
}


@pytest.mark.parametrize(("odd", "reason"), INNER_ERRORS.values(), ids=INNER_ERRORS.keys())
@pytest.mark.parametrize("before", [b"", text("a")], ids=["first", "mid"])
def test_error_inside_a_stream(before: bytes, odd: bytes, reason: Reason) -> None:
    result = decode(stream(before, odd))
    assert isinstance(result.failure, UpstreamStatus)
    assert (result.failure.reason, result.failure.http_status) == (reason, 200)
    assert result.text == ("a" if before else "")


def test_nothing_comes_after_a_failure() -> None:
    codec = OpenAIChatCodec()
    codec.decode_headers(200, [])
    events = codec.feed(event({"error": "x"}) + text("late"))
    assert [type(one) for one in events] == [ProviderFailed]
    assert list(codec.feed(text("later"))) == []
    assert list(codec.end()) == []


@pytest.mark.parametrize(
    "odd",
    [
        b"data: {nope\n\n",
        b"data: 7\n\n",
        b"data: []\n\n",
        event({"choices": {"index": 0}}),
        event({"choices": ["x"]}),
        event({"choices": [{"index": -1}]}),
        event({"choices": [{"index": 1000}]}),
        event({"choices": [{"index": "0"}]}),
        calls(call(0, "c", "f")) + chunk({"tool_calls": ["x"]}),
        calls(call(0, "c", "f", "{}"), call(1, "d", "g")) + calls(call(0, arguments="{}")),
        calls(call(0, "c", arguments="{}")) + chunk({}, "tool_calls"),
    ],
)
def test_broken_format(odd: bytes) -> None:
    failure = failure_of(decode(stream(text("a"), odd, STOP)))
    assert type(failure) is RemoteProtocolError


def test_a_finish_reason_of_the_word_null_is_none() -> None:
    result = decode(stream(chunk({"content": "a"}, "null"), chunk({"content": "b"}, "null"), STOP))
    assert result.error is None
    assert (result.choices[0].text, result.choices[0].raw_finish) == ("ab", "stop")


@pytest.mark.parametrize("body", [b"<html><p>502</p>", b"\n <!DOCTYPE html>", b"{}", b"[]", b"[1]"])
def test_a_success_that_is_no_completion(body: bytes) -> None:
    failure = failure_of(decode(body))
    assert type(failure) in (NotAnAnswer, RemoteProtocolError)
    assert "502" not in str(failure)


# --- odd bytes -------------------------------------------------------------------------------


def test_what_is_replaced_is_counted_event_by_event() -> None:
    codec = OpenAIChatCodec()
    odd = text("XY").replace(b"X", b"\xff").replace(b"Y", b"\xe4\xbd")
    half = text("X").replace(b"X", rb"\ud83d")
    number = b'data: {"choices":[{"index":0,"delta":{"content":"b"},"logprobs":{"x":NaN}}]}\n\n'
    collect(run(codec, pieces_of(stream(text("日本\ufffd"), odd, number, half, odd, STOP), 1)))
    assert codec.mended_events == 3
    codec = OpenAIChatCodec()
    collect(run(codec, [completion({"content": "XY"}).replace(b"XY", b"\xff\xff")]))
    assert codec.mended_events == 1


def test_bytes_outside_utf8_are_replaced() -> None:
    odd = text("XY").replace(b"X", b"\xff").replace(b"Y", b"\xe4\xbd")
    assert decode(stream(text("a"), odd, STOP)).text == "a��"


def test_half_a_surrogate_pair_is_replaced() -> None:
    assert decode(stream(text("a"), text("X").replace(b"X", rb"\ud83d"), STOP)).text == "a�"


def test_not_a_number_is_taken() -> None:
    odd = b'data: {"choices":[{"index":0,"delta":{"content":"b"},"logprobs":{"x":-Infinity}}]}\n\n'
    assert decode(stream(text("a"), odd, STOP)).text == "ab"


def nested(depth: int) -> str:
    return "[" * depth + "1" + "]" * depth


DEEP = nested(300)


@pytest.mark.parametrize(
    "fields",
    [
        *(
            f'"choices":[{{"index":0,"delta":{{"content":"b","{key}":{DEEP}}}}}]'
            for key in ("reasoning_details", "annotations", "images", "extra_content")
        ),
        f'"choices":[{{"index":0,"delta":{{"content":"b"}},"logprobs":{DEEP}}}]',
        f'"choices":[{{"index":0,"delta":{{"content":["b",{{"x":{DEEP}}}]}}}}]',
        f'"choices":[{{"index":0,"delta":{{"content":"b"}}}}],"citations":{DEEP}',
    ],
)
def test_field_that_cannot_be_written_again_is_left_out_and_counted(fields: str) -> None:
    odd = f'data: {{"id":"r",{fields}}}\n\n'.encode()
    codec = OpenAIChatCodec()
    result = collect(run(codec, [stream(text("a"), odd, STOP)]))
    assert (result.text, result.error, result.choices[0].opaque) == ("ab", None, [])
    assert codec.mended_events == 1


def test_field_that_is_nested_and_can_be_written_is_passed_on() -> None:
    value = orjson.loads(nested(238))
    result = decode(stream(chunk({"reasoning_details": value}), STOP))
    assert result.choices[0].opaque == [("reasoning_details", value)]


def test_provider_state_of_a_call_that_cannot_be_written_is_left_out() -> None:
    entry = '{"index":0,"id":"c","function":{"name":"f","arguments":"{}"},"extra_content":%s}'
    body = f'data: {{"choices":[{{"index":0,"delta":{{"tool_calls":[{entry % DEEP}]}}}}]}}\n\n'
    result = decode(stream(body.encode(), STOP))
    (one,) = result.choices[0].tool_calls
    assert (one.name, one.arguments, one.is_done, one.extra) == ("f", "{}", True, None)


def test_arguments_that_cannot_be_written_are_not_taken_for_none() -> None:
    entry = '{"index":0,"id":"c","function":{"name":"f","arguments":{"a":%s}}}' % DEEP  # noqa: UP031
    body = f'data: {{"choices":[{{"index":0,"delta":{{"tool_calls":[{entry}]}}}}]}}\n\n'
    result = decode(stream(text("a"), body.encode(), STOP))
    assert isinstance(result.failure, RemoteProtocolError)


def test_integers_larger_than_any_field_are_taken() -> None:
    """With a byte outside UTF-8 beside them, which orjson does not read."""
    huge = b"9" * 30
    odd = (
        b'data: {"created":%b,"choices":[{"index":0,"delta":{"content":"\xff",'
        b'"audio":{"id":"a","expires_at":%b},"reasoning_details":[%b]}}],'
        b'"usage":{"prompt_tokens":%b,"x":%b}}\n\n'
    ) % ((huge,) * 5)
    result = decode(stream(odd, STOP))
    assert result.info == ResponseInfo("", "", 0)
    (choice,) = result.choices.values()
    assert choice.opaque == [("reasoning_details", [1e30])]
    assert [delta.expires_at_s for delta in choice.audio] == [0]


@pytest.mark.parametrize("moment", [-1, 2**40, 2**64 - 1, 1.5, True, "1"])
def test_moments_that_are_none_are_not_told(moment: Any) -> None:
    result = decode(stream(chunk({"audio": {"id": "a", "expires_at": moment}}), STOP))
    assert [delta.expires_at_s for delta in result.choices[0].audio] == [0]


def test_largest_event_and_one_too_large() -> None:
    room = MAX_EVENT_BYTES - len(text("")) + len(b"\n\n")
    codec = OpenAIChatCodec()
    assert collect(run(codec, pieces_of(stream(text("x" * room), STOP), 65_536))).error is None
    codec = OpenAIChatCodec()
    events = run(codec, pieces_of(stream(text("a"), text("x" * (room + 1)), STOP), 65_536))
    result = collect(events)
    assert isinstance(result.failure, EventTooLarge)
    assert result.text == "a"


def test_arguments_too_large_to_hold() -> None:
    piece = calls(call(0, arguments="x" * 100_000))
    events = run(OpenAIChatCodec(), [calls(call(0, "c", "f")), *[piece] * 11])
    assert isinstance(collect(events).failure, EventTooLarge)


def test_document_too_large() -> None:
    events = run(OpenAIChatCodec(), [b'{"a":"', *[b"x" * 100_000] * 11])
    assert isinstance(collect(events).failure, EventTooLarge)


def test_error_body_is_cut_not_kept() -> None:
    codec = OpenAIChatCodec()
    events = run(codec, [b"x" * 100_000] * 20, status=500)
    assert isinstance(collect(events).failure, UpstreamStatus)


# --- whole documents -------------------------------------------------------------------------


def test_unstreamed_completion() -> None:
    message = {
        "content": "a",
        "reasoning_content": "hm",
        "refusal": None,
        "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}},
            {"id": "d", "type": "function", "function": {"name": "g", "arguments": {"x": 1}}},
        ],
    }
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    body = b"\n \n" + completion(message, "tool_calls", usage=usage)
    result = decode(body)
    choice = result.choices[0]
    assert (choice.text, choice.reasoning, choice.finish) == ("a", "hm", FinishReason.TOOL_CALLS)
    assert [(c.call_id, c.name, c.arguments) for c in choice.tool_calls] == [
        ("c", "f", "{}"),
        ("d", "g", '{"x":1}'),
    ]
    assert result.usage is not None
    assert result.usage.total_tokens == 3
    assert not OpenAIChatCodec().is_finished


def test_whole_message_beside_an_empty_delta() -> None:
    choice = {"index": 0, "message": {"content": "a"}, "delta": {"content": ""}}
    body = orjson.dumps({"id": "x", "choices": [{**choice, "finish_reason": "stop"}]})
    assert decode(body).text == "a"


def test_whole_completion_as_one_event() -> None:
    assert decode(b"data: " + completion({"content": "a"}) + b"\n\n" + DONE).text == "a"


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"error": {"message": "m", "code": 502}}, Reason.UPSTREAM_FAILED),
        ({"error": {"message": "m", "code": "content_filter"}}, Reason.UPSTREAM_CONTENT_BLOCKED),
        ({"detail": "Invalid API key"}, Reason.UPSTREAM_MISCONFIGURED),
        ({"code": "Throttling.RateQuota", "message": "m"}, Reason.UPSTREAM_RATE_LIMITED),
        ([{"error": {"message": "m", "code": 503}}], Reason.UPSTREAM_OVERLOADED),
    ],
)
def test_error_as_a_success_document(document: Any, reason: Reason) -> None:
    result = decode(orjson.dumps(document))
    assert isinstance(result.failure, UpstreamStatus)
    assert result.failure.reason is reason


def test_error_of_a_choice_in_a_document() -> None:
    choice = {"index": 0, "message": {"content": "a"}, "finish_reason": "error"}
    body = orjson.dumps({"id": "x", "choices": [{**choice, "error": {"code": 429}}]})
    result = decode(body)
    assert isinstance(result.failure, UpstreamStatus)
    assert result.failure.reason is Reason.UPSTREAM_RATE_LIMITED
    assert result.text == "a"


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (302, b"<a href>", Reason.UPSTREAM_REDIRECT),
        (401, b'{"detail":"Invalid API Key"}', Reason.UPSTREAM_MISCONFIGURED),
        (502, b"<html>secret host</html>", Reason.UPSTREAM_FAILED),
        (503, b"", Reason.UPSTREAM_OVERLOADED),
    ],
)
def test_error_statuses(status: int, body: bytes, reason: Reason) -> None:
    result = decode(body, status=status)
    assert isinstance(result.failure, UpstreamStatus)
    assert (result.failure.reason, result.failure.http_status) == (reason, status)
    assert "secret" not in result.failure.public_message


# --- any bytes -------------------------------------------------------------------------------

SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.sampled_from(["", "x"])
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["message", "code", "type", "text"]), inner, max_size=3)
    ),
    max_leaves=6,
)
FUNCTIONS = st.fixed_dictionaries({}, optional={"name": JSON, "arguments": JSON})
TOOL_CALLS = st.lists(
    st.fixed_dictionaries(
        {}, optional={"index": JSON, "id": JSON, "function": FUNCTIONS | JSON, "custom": JSON}
    ),
    max_size=3,
)
DELTAS = st.fixed_dictionaries(
    {},
    optional={
        "content": JSON,
        "reasoning": JSON,
        "refusal": JSON,
        "audio": JSON,
        "tool_calls": TOOL_CALLS | JSON,
        "annotations": JSON,
    },
)
CHOICES = st.fixed_dictionaries(
    {},
    optional={
        "index": JSON,
        "delta": DELTAS | JSON,
        "message": DELTAS | JSON,
        "finish_reason": st.sampled_from(["stop", "length", "error"]) | JSON,
        "error": JSON,
        "logprobs": JSON,
    },
)
CHUNKS = st.fixed_dictionaries(
    {},
    optional={
        "id": JSON,
        "model": JSON,
        "created": JSON,
        "choices": st.lists(CHOICES, max_size=3) | JSON,
        "usage": st.dictionaries(
            st.sampled_from(["prompt_tokens", "completion_tokens", "prompt_tokens_details"]), JSON
        )
        | JSON,
        "x_groq": JSON,
        "error": JSON,
        "citations": JSON,
        "object": st.sampled_from(["error", "x"]),
    },
)


@given(
    chunks=st.lists(CHUNKS | JSON, max_size=4),
    cuts=st.integers(1, 40),
    is_whole=st.booleans(),
    status=st.sampled_from([200, 200, 200, 429]),
)
@settings(max_examples=600, deadline=None)
def test_any_json_gives_events_in_order_and_never_raises(
    chunks: list[Any], cuts: int, is_whole: bool, status: int
) -> None:
    body = b"".join(orjson.dumps(one) if is_whole else event(one) for one in chunks)
    whole = collect(run(OpenAIChatCodec(), [body], status=status))
    assert collect(run(OpenAIChatCodec(), pieces_of(body, cuts), status=status)) == whole


@given(
    pieces=st.lists(
        st.binary(max_size=30)
        | st.sampled_from([text("a"), STOP, DONE, b"data: ", b'{"choices":[{', b"\n\n"]),
        max_size=12,
    ),
    status=st.sampled_from([200, 200, 302, 500]),
)
@settings(max_examples=400, deadline=None)
def test_any_bytes_never_raise(pieces: list[bytes], status: int) -> None:
    result = collect(run(OpenAIChatCodec(), pieces, status=status))
    again = collect(run(OpenAIChatCodec(), [b"".join(pieces)], status=status))
    assert again == result
