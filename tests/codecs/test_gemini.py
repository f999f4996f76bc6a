"""Reading Gemini answers: each rule of the wire, every cut, any bytes.

Bodies are written from the documented format.
"""

from __future__ import annotations

import re
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.codecs import gemini_hot_chunk
from relay.codecs.gemini import MAX_ANSWER_BYTES, GeminiCodec
from relay.codecs.gemini_answer import FAILED_FINISHES, FINISH_REASONS
from relay.codecs.gemini_usage import normalise, read_usual
from relay.content import (
    ChoiceFinished,
    FinishReason,
    GenerateRequest,
    Message,
    OpaqueDelta,
    ReasoningDelta,
    ResponseInfo,
    Role,
    Sampling,
    TextDelta,
    ToolArgumentsDelta,
    ToolCall,
    ToolCallDone,
    ToolCallStart,
    Usage,
)
from relay.errors import (
    EventTooLarge,
    NotAnAnswer,
    Reason,
    RemoteProtocolError,
    Retry,
    StreamTruncated,
    UpstreamStatus,
)
from tests.fakes.collect import Collected, CollectedChoice, collect, pieces_of, run
from tests.fakes.properties import examples

COUNT_NAMES = [
    "promptTokenCount",
    "candidatesTokenCount",
    "totalTokenCount",
    "thoughtsTokenCount",
    "cachedContentTokenCount",
    "toolUsePromptTokenCount",
    "promptTokensDetails",
    "trafficType",
]
COUNTS = {"promptTokenCount": 4, "totalTokenCount": 4}


def event(document: object) -> bytes:
    """One event as Google writes it."""
    return b"data: " + orjson.dumps(document) + b"\r\n\r\n"


def answer(
    *parts: object, finish: object = None, index: int | None = 0, **more: Any
) -> dict[str, Any]:
    """A chunk with one candidate; what is None is left out."""
    candidate: dict[str, Any] = {"content": {"parts": list(parts), "role": "model"}}
    if finish is not None:
        candidate["finishReason"] = finish
    if index is not None:
        candidate["index"] = index
    return {
        "candidates": [{**candidate, **more}],
        "usageMetadata": COUNTS,
        "modelVersion": "m-1",
        "responseId": "r1",
    }


def text(content: str, **more: Any) -> dict[str, Any]:
    return answer({"text": content}, **more)


def call(name: str, args: object = None, signature: str = "", **more: Any) -> dict[str, Any]:
    """A part with a function call."""
    part: dict[str, Any] = {"functionCall": {"name": name, **more}}
    if args is not None:
        part["functionCall"]["args"] = args
    if signature:
        part["thoughtSignature"] = signature
    return part


STOP = answer(finish="STOP")


def stream(*documents: object) -> bytes:
    return b"".join(event(document) for document in documents)


def array(*documents: object) -> bytes:
    """The body without `alt=sse`: one array, its objects apart."""
    return (
        b"["
        + b"\n,\r\n".join(orjson.dumps(one, option=orjson.OPT_INDENT_2) for one in documents)
        + b"\n]"
    )


def decode(body: bytes, *, status: int = 200, choices: int = 1) -> Collected:
    """What a body says, the same whole, byte by byte and in two pieces."""

    def once(pieces: list[bytes]) -> Collected:
        codec = GeminiCodec()
        codec.encode_request(GenerateRequest("m", (), sampling=Sampling(choices=choices)), "m")
        return collect(run(codec, pieces, status=status))

    whole = once([body])
    assert once(pieces_of(body, 1)) == whole, "byte by byte"
    for at in range(1, len(body), max(1, len(body) // 60)):
        assert once([body[:at], body[at:]]) == whole, f"cut at {at}"
    return whole


def decode_choice(*documents: object) -> CollectedChoice:
    """What the documents say, the same as a stream and as an array."""
    result = decode(stream(*documents))
    assert result.error is None
    assert decode(array(*documents)) == result
    return result.choices[0]


def failure_of(result: Collected) -> Any:
    assert result.failure is not None
    return result.failure


# --- the plain course -----------------------------------------------------------------------


def test_documented_stream() -> None:
    counts = {
        "promptTokenCount": 4,
        "candidatesTokenCount": 3,
        "totalTokenCount": 27,
        "thoughtsTokenCount": 20,
        "cachedContentTokenCount": 2,
    }
    last = {**text(" there.", finish="STOP"), "usageMetadata": counts}
    codec = GeminiCodec()
    events = run(codec, [stream(text("Hello"), last)])
    assert events == [
        ResponseInfo("r1", "m-1", 0),
        TextDelta("Hello"),
        Usage(4, 0, 4, raw_json=orjson.dumps(COUNTS)),
        TextDelta(" there."),
        ChoiceFinished(FinishReason.STOP, "STOP"),
        Usage(4, 23, 27, 2, None, 20, raw_json=orjson.dumps(counts)),
    ]
    assert not codec.is_finished  # the stream has no end marker
    assert codec.end() == ()


@pytest.mark.parametrize("body", [orjson.dumps(text("a", finish="STOP")), b"\xef\xbb\xbf \n{}"])
def test_a_whole_answer_is_read_like_the_stream(body: bytes) -> None:
    body = body.replace(b"{}", orjson.dumps(text("a", finish="STOP"), option=orjson.OPT_INDENT_2))
    assert decode(body) == decode(stream(text("a", finish="STOP")))


def test_an_array_is_read_as_it_comes_and_has_an_end() -> None:
    codec = GeminiCodec()
    codec.decode_headers(200, [])
    body = array(text("a"), STOP)
    first = body.index(b"\n,")
    thirds = (body[:first], body[first:-1], body[-1:])
    fed = [(codec.feed(one), codec.is_finished) for one in thirds]
    assert TextDelta("a") in fed[0][0]
    assert ChoiceFinished(FinishReason.STOP, "STOP") in fed[1][0]
    assert [is_finished for _, is_finished in fed] == [False, False, True]
    assert codec.end() == ()
    assert codec.feed(b"late") == ()


def test_text_comes_as_soon_as_its_event_is_whole() -> None:
    codec = GeminiCodec()
    codec.decode_headers(200, [])
    one = event(text("a"))
    assert codec.feed(one[:-2]) == []
    assert TextDelta("a") in codec.feed(one[-2:])


def test_what_is_said_of_the_response() -> None:
    document = {**text("a", finish="STOP"), "createTime": "2026-05-04T20:01:02.264968Z"}
    document["usageMetadata"] = {**COUNTS, "serviceTier": "priority"}
    assert decode(stream(document)).info == ResponseInfo("r1", "m-1", 1777924862, "priority")
    headers = (("x-gemini-service-tier", "standard"),)
    result = collect(run(GeminiCodec(), [stream(text("a", finish="STOP"))], headers=headers))
    assert result.info == ResponseInfo("r1", "m-1", 0, "default")


@pytest.mark.parametrize("moment", [7, "", "soon", "2026-05-04T20:01:02", "0001-01-01T00:00:00Z"])
def test_a_moment_that_cannot_be_read_is_none(moment: object) -> None:
    info = decode(stream({**text("a", finish="STOP"), "createTime": moment})).info
    assert info == ResponseInfo("r1", "m-1", 0)


def test_candidates_are_kept_apart() -> None:
    both = {"candidates": [*text("a1")["candidates"], *text("b1", index=1)["candidates"]]}
    ends = {
        "candidates": [
            {"finishReason": "STOP"},  # without index: the place tells
            {"finishReason": "MAX_TOKENS"},
        ]
    }
    result = decode(stream(text("a0"), text("b0", index=1), both, ends), choices=2)
    assert [result.choices[at].text for at in (0, 1)] == ["a0a1", "b0b1"]
    assert [result.choices[at].finish for at in (0, 1)] == [
        FinishReason.STOP,
        FinishReason.LENGTH,
    ]


def test_fewer_candidates_than_asked_for_were_cut_off() -> None:
    body = stream(text("a", finish="STOP"))
    assert type(failure_of(decode(body, choices=2))) is StreamTruncated
    assert decode(orjson.dumps(text("a", finish="STOP")), choices=2).error is None


# --- what is missing, and what comes late ---------------------------------------------------


@pytest.mark.parametrize(
    "last",
    [
        {"candidates": [{"finishReason": "STOP"}]},
        {"candidates": [{"content": None, "finishReason": "STOP", "index": 0}]},
        {"candidates": [{"content": {}, "finishReason": "STOP", "index": 0}]},
        {"candidates": [{"content": {"role": "model"}, "finishReason": "STOP"}]},
        {"candidates": [{"content": {"parts": None}, "finishReason": "STOP"}]},
        {"candidates": [{"content": {"parts": [{"text": ""}, 7]}, "finishReason": "STOP"}]},
        {"candidates": [{"content": {"parts": [{"text": ""}]}, "finishReason": 1}]},
    ],
)
def test_last_chunk_may_lack_anything(last: object) -> None:
    choice = decode_choice(text("a"), last)
    assert (choice.text, choice.raw_finish) == ("a", "STOP")


def test_chunks_without_candidates_are_passed_over() -> None:
    usage = {"usageMetadata": {"promptTokenCount": 1, "totalTokenCount": 2}}
    result = decode(stream({"responseId": "r1"}, text("a"), {"candidates": []}, STOP, usage))
    assert result.text == "a"
    assert result.usage is not None
    assert result.usage.total_tokens == 2


@pytest.mark.parametrize("nothing", [{}, {"createTime": "2026-01-01T00:00:00Z"}])
def test_chunks_that_say_nothing_are_passed_over(nothing: dict[str, Any]) -> None:
    for body in (stream(nothing, text("a"), nothing, STOP), array(nothing, text("a"), STOP)):
        result = decode(body)
        assert (result.error, result.text) == (None, "a")
        assert result.info is not None
        assert result.info.response_id == "r1"


def test_an_index_that_is_null_is_the_place_in_the_list() -> None:
    entries = [answer({"text": name}, finish="STOP", index=None) for name in "ab"]
    both = [{**entry["candidates"][0], "index": None} for entry in entries]
    result = decode(stream({"candidates": both}), choices=2)
    assert result.error is None
    assert [choice.text for choice in result.choices.values()] == ["a", "b"]


def test_a_picture_of_several_megabytes_is_one_event() -> None:
    data = "A" * 6_000_000
    part = {"inlineData": {"mimeType": "image/png", "data": data}}
    for body in (stream(answer(part), STOP), array(answer(part), STOP)):
        result = collect(run(GeminiCodec(), pieces_of(body, 65_537)))
        assert result.error is None
        assert len(str(result.choices[0].opaque)) > len(data)


def test_text_may_follow_a_finished_chunk() -> None:
    code = {"executableCode": {"language": "PYTHON", "code": "print(1)"}}
    choice = decode_choice(answer(code, finish="STOP"), text("1", finish="MAX_TOKENS"))
    assert choice.text == "1"
    assert choice.raw_finish == "STOP"  # the first one counts


def test_a_call_may_follow_a_finished_chunk() -> None:
    choice = decode_choice(text("a", finish="STOP"), answer(call("f"), finish="STOP"))
    assert [one.is_done for one in choice.tool_calls] == [True]


# --- finish reasons -------------------------------------------------------------------------


@pytest.mark.parametrize(("raw", "reason"), FINISH_REASONS.items())
def test_finish_reasons(raw: str, reason: FinishReason) -> None:
    choice = decode_choice(text("a", finish=raw))
    assert (choice.finish, choice.raw_finish) == (reason, raw)


def test_unknown_finish_reason() -> None:
    assert decode_choice(text("a", finish="NEW_ONE")).finish is FinishReason.OTHER
    assert decode_choice(text("a", finish=77)).raw_finish == "77"


@pytest.mark.parametrize("unspecified", ["", "FINISH_REASON_UNSPECIFIED", 0, None, [], {}])
def test_unspecified_is_unfinished(unspecified: object) -> None:
    assert type(failure_of(decode(stream(text("a", finish=unspecified))))) is StreamTruncated


@pytest.mark.parametrize(
    ("number", "raw"), [(1, "STOP"), (2, "MAX_TOKENS"), (3, "SAFETY"), (10, "MODEL_ARMOR")]
)
def test_numbers_of_finish_reasons(number: int, raw: str) -> None:
    assert decode_choice(text("a", finish=number)).raw_finish == raw


@pytest.mark.parametrize("raw", sorted(FAILED_FINISHES))
def test_finish_reasons_that_are_failures(raw: str) -> None:
    """Before the first content another provider may take over; the call must not be run."""
    body = stream(
        answer(call("undeclared"), finish=raw, finishMessage="Malformed: key=AIzaSyA123456789")
    )
    result = decode(body)
    failure = failure_of(result)
    assert isinstance(failure, UpstreamStatus)
    assert failure.reason is Reason.UPSTREAM_FAILED
    assert failure.retry is Retry.BEFORE_COMMIT
    assert failure.provider_code == raw
    assert "Malformed" in failure.public_message
    assert "AIzaSyA123" not in failure.public_message
    assert failure.metadata["provider_request_id"] == "r1"
    assert result.choices[0].raw_finish == raw
    assert result.choices[0].tool_calls == []
    assert result.usage is not None


@pytest.mark.parametrize("block", ["SAFETY", "JAILBREAK", 4])
def test_blocked_prompt(block: object) -> None:
    document = {
        "promptFeedback": {"blockReason": block, "blockReasonMessage": "no"},
        "usageMetadata": COUNTS,
        "responseId": "r1",
    }
    for body in (stream(document), array(document), orjson.dumps(document)):
        result = decode(body, choices=2)
        assert result.error is None
        assert [result.choices[at].finish for at in (0, 1)] == [FinishReason.CONTENT_FILTER] * 2
        assert result.choices[0].raw_finish == str(block)
        assert result.usage is not None


@pytest.mark.parametrize("feedback", [{}, {"safetyRatings": []}, {"blockReason": 0}, [], "x"])
def test_feedback_that_blocks_nothing(feedback: object) -> None:
    result = decode(stream({"promptFeedback": feedback, "usageMetadata": COUNTS}))
    assert type(failure_of(result)) is StreamTruncated


# --- function calls -------------------------------------------------------------------------


def test_calls_come_whole() -> None:
    codec = GeminiCodec()
    parts = (call("f", {"a": 1, "b": "é"}, id="id1"), call("g"))
    events = run(codec, [stream(answer(*parts), STOP)])
    calls = [
        one for one in events if type(one) in (ToolCallStart, ToolArgumentsDelta, ToolCallDone)
    ]
    made = calls[3].call_id  # type: ignore[attr-defined]
    assert re.fullmatch(r"call_[0-9a-f]{8}_1", made)
    assert calls == [
        ToolCallStart(0, "id1", "f"),
        ToolArgumentsDelta(0, '{"a":1,"b":"é"}'),
        ToolCallDone(0, "id1", "f", '{"a":1,"b":"é"}'),
        ToolCallStart(1, made, "g"),
        ToolArgumentsDelta(1, "{}"),
        ToolCallDone(1, made, "g", "{}"),
    ]
    assert ChoiceFinished(FinishReason.TOOL_CALLS, "STOP") in events


def test_a_call_is_complete_with_its_chunk() -> None:
    codec = GeminiCodec()
    codec.decode_headers(200, [])
    assert any(type(one) is ToolCallDone for one in codec.feed(event(answer(call("f")))))


def test_made_ids_are_the_same_for_the_same_bytes_and_differ_otherwise() -> None:
    def ids(response_id: str) -> list[str]:
        document = {**answer(call("f"), call("f"), finish="STOP"), "responseId": response_id}
        return [one.call_id for one in decode_choice(document).tool_calls]

    assert len({*ids("a"), *ids("a"), *ids("b")}) == 4


def test_calls_of_one_id_stay_two() -> None:
    choice = decode_choice(answer(call("f", id="x"), call("g", id="x"), finish="STOP"))
    assert [one.name for one in choice.tool_calls] == ["f", "g"]


def test_calls_of_a_cut_off_answer() -> None:
    choice = decode_choice(answer(call("f", {"a": 1}), finish="MAX_TOKENS"))
    assert choice.finish is FinishReason.LENGTH
    assert [one.is_partial for one in choice.tool_calls] == [False]


@pytest.mark.parametrize(
    "part",
    [
        {"functionCall": None},
        {"functionCall": {"args": {"a": 1}}},
        {"functionCall": {"partialArgs": [{}]}},
        {"functionCall": {"name": "f", "partialArgs": {}}},
        {"functionCall": {"name": "f", "partialArgs": [7]}},
        {"functionCall": {"name": "f", "partialArgs": [{"stringValue": "a"}]}},
    ],
)
def test_calls_that_break_the_format(part: object) -> None:
    assert type(failure_of(decode(stream(answer(part), STOP)))) is RemoteProtocolError


def test_too_many_calls() -> None:
    body = stream(*[answer(*[call("f")] * 43)] * 3, STOP)
    assert "too many" in str(failure_of(collect(run(GeminiCodec(), [body]))))


# --- calls in pieces ------------------------------------------------------------------------


def begun(name: str = "f", **more: Any) -> dict[str, Any]:
    return answer(call(name, willContinue=True, **more))


def pieces(*entries: dict[str, Any], more: bool = True) -> dict[str, Any]:
    inner: dict[str, Any] = {"partialArgs": list(entries)}
    return answer({"functionCall": {**inner, "willContinue": True} if more else inner})


def piece(path: str, value: object, *, more: bool = False) -> dict[str, Any]:
    kind = {str: "stringValue", bool: "boolValue", type(None): "nullValue"}
    entry: dict[str, Any] = {"jsonPath": path, kind.get(type(value), "numberValue"): value}
    if value is None:
        entry["nullValue"] = "NULL_VALUE"
    return {**entry, "willContinue": True} if more else entry


CLOSED = answer({"functionCall": {}})


def arguments_of(*documents: object) -> Any:
    choice = decode_choice(begun(), *documents, CLOSED, STOP)
    assert [one.is_partial for one in choice.tool_calls] == [False]
    return orjson.loads(choice.tool_calls[0].arguments)


def test_a_call_in_pieces() -> None:
    codec = GeminiCodec()
    codec.decode_headers(200, [])
    first = answer(call("f", signature="S", willContinue=True))
    # Heard of at once, although it has no id and nothing of its arguments has come.
    events = codec.feed(event(first))
    assert [type(one) for one in events[1:3]] == [ToolCallStart, ToolArgumentsDelta]
    assert codec.feed(event(pieces(piece("$.city", "Bos", more=True)))) == []
    assert codec.feed(event(pieces(piece("$.city", "ton")))) == []
    done = codec.feed(event(CLOSED))[-1]
    assert isinstance(done, ToolCallDone)
    assert done.arguments == '{"city":"Boston"}'
    assert orjson.loads(done.extra_json) == {
        "extra_content": {"google": {"thought_signature": "S"}}
    }


def test_every_kind_of_value_and_place() -> None:
    assert arguments_of(
        pieces(piece("$.a.b[0].c", "x", more=True), piece("$.a.b[0].c", "", more=False)),
        pieces(piece("$.a.b[1]", 3.0), piece("$.a.b[2]", 2.5), piece("$.a.b[3]", 1e30)),
        pieces(piece("$['odd.name']", True), piece('$["it\'s"]', None), piece("$['it\\'s 2']", 1)),
        pieces(piece("$.list[1]", "later"), piece("$.list[0]", "first")),
        pieces({"jsonPath": "$.nothing"}),
    ) == {
        "a": {"b": [{"c": "x"}, 3, 2.5, 1e30]},
        "odd.name": True,
        "it's": None,
        "it's 2": 1,
        "list": ["first", "later"],
    }


def test_texts_that_take_turns() -> None:
    assert arguments_of(
        pieces(piece("$.a", "1", more=True), piece("$.b", "x", more=True)),
        pieces(piece("$.a", "2"), piece("$.b", "y"), piece("$.b", "new")),
    ) == {"a": "12", "b": "new"}


def test_calls_one_after_another_without_their_ends() -> None:
    choice = decode_choice(
        begun("f", id="i1"), pieces(piece("$.a", "1")), begun("g"), pieces(piece("$.b", 2)), STOP
    )
    assert [(one.name, one.arguments) for one in choice.tool_calls] == [
        ("f", '{"a":"1"}'),
        ("g", '{"b":2}'),
    ]


def test_a_call_in_one_piece() -> None:
    part = call("f", {"a": 1}, partialArgs=[piece("$.b", 2)])
    choice = decode_choice(answer(part, finish="STOP"))
    assert choice.tool_calls[0].arguments == '{"a":1,"b":2}'


def test_a_call_cut_off_by_length_is_partial() -> None:
    choice = decode_choice(
        begun(), pieces(piece("$.a", "long", more=True)), answer(finish="MAX_TOKENS")
    )
    assert choice.tool_calls[0].is_partial
    assert choice.tool_calls[0].arguments == '{"a":"long"'


def test_a_call_that_does_not_end_is_a_failure() -> None:
    body = stream(text("a", finish="STOP"), begun(), pieces(piece("$.a", "1")))
    assert type(failure_of(decode(body))) is StreamTruncated


@pytest.mark.parametrize(
    "path",
    [
        "",
        "a",
        "$",
        "$.",
        "$.a.",
        "$.a[",
        "$.a[-1]",
        "$.a[*]",
        "$..a",
        "$.a[999999]",
        "$[0]",
        "$['a",
        f"${'.a' * 65}",
    ],
)
def test_places_that_cannot_be(path: str) -> None:
    body = stream(begun(), pieces(piece(path, "x")), CLOSED, STOP)
    assert type(failure_of(decode(body))) is RemoteProtocolError


@pytest.mark.parametrize("second", ["$.a.b", "$.a[0]"])
def test_a_place_inside_a_value(second: str) -> None:
    body = stream(begun(), pieces(piece("$.a", "x"), piece(second, "y")), CLOSED, STOP)
    assert "taken" in str(failure_of(decode(body)))


def test_arguments_in_pieces_are_bounded() -> None:
    big = pieces(piece("$.a", "x" * 600_000, more=True))
    body = stream(begun(), big, big, CLOSED, STOP)
    assert type(failure_of(collect(run(GeminiCodec(), [body])))) is EventTooLarge
    wide = [piece(f"$.a{at}[60000]", 1) for at in range(2)]
    body = stream(begun(), pieces(*wide), CLOSED, STOP)
    assert "too many values" in str(failure_of(collect(run(GeminiCodec(), [body]))))


# --- thoughts, signatures, opaque parts -----------------------------------------------------


def test_thoughts() -> None:
    choice = decode_choice(
        answer({"text": "hm", "thought": True}),
        text("a"),
        answer({"text": "", "thought": True}),
        STOP,
    )
    assert (choice.reasoning, choice.text) == ("hm", "a")


@pytest.mark.parametrize(
    "chunks",
    [
        [answer({"text": "a", "thoughtSignature": "S"}), text("b", finish="STOP")],
        [answer({"text": "", "thoughtSignature": "S"}, finish="STOP")],
        [answer({"thoughtSignature": "S"}, finish="STOP")],
        [text("a", finish="STOP"), answer({"thoughtSignature": "S"})],
        # One text goes back, with one signature; clients would join two of them.
        [
            answer({"text": "a", "thoughtSignature": "S1"}),
            answer({"text": "b", "thoughtSignature": "S2"}),
            answer({"thoughtSignature": "S"}, finish="STOP"),
        ],
    ],
)
def test_signature_of_the_text_is_told_once(chunks: list[bytes]) -> None:
    choice = decode_choice(*chunks)
    assert choice.opaque == [("extra_content", {"google": {"thought_signature": "S"}})]


@pytest.mark.parametrize("odd", [True, 1, ["a"]])
def test_signature_beside_a_text_that_is_none(odd: Any) -> None:
    choice = decode_choice(answer({"text": odd, "thoughtSignature": "S"}), text("a"), STOP)
    assert choice.text == "a"
    assert choice.opaque == [("extra_content", {"google": {"thought_signature": "S"}})]


@pytest.mark.parametrize(
    "odd", [answer({"brandNew": "DEEP"}), answer(groundingMetadata={"x": "DEEP"})]
)
def test_what_cannot_be_written_again_is_left_out_and_counted(odd: dict[str, Any]) -> None:
    deep = b"[" * 300 + b"]" * 300
    body = stream(odd, text("a"), STOP).replace(b'"DEEP"', deep)
    codec = GeminiCodec()
    result = collect(run(codec, [body]))
    assert (result.text, result.error, result.choices[0].opaque) == ("a", None, [])
    assert codec.mended_events == 1


@pytest.mark.parametrize("place", ["usageMetadata", "brandNew"])
def test_what_is_too_deep_to_be_read_ends_the_answer(place: str) -> None:
    deep = b"[" * 99_999 + b"]" * 99_999
    body = stream(text("a"), {**text("b"), place: "DEEP"}).replace(b'"DEEP"', deep)
    result = collect(run(GeminiCodec(), [body]))
    assert type(result.failure) is RemoteProtocolError


def test_signed_thought() -> None:
    choice = decode_choice(
        answer({"text": "hm", "thought": True, "thoughtSignature": "S"}, finish="STOP")
    )
    assert choice.reasoning == "hm"
    detail = {"type": "reasoning.text", "text": "hm", "signature": "S"}
    assert choice.opaque == [
        ("reasoning_details", [{**detail, "format": "google-gemini-v1", "index": 0}])
    ]


def test_parts_that_chat_has_no_place_for() -> None:
    code = {"executableCode": {"code": "1"}, "thoughtSignature": "S"}
    outcome = {"codeExecutionResult": {"outcome": "OUTCOME_OK"}}
    choice = decode_choice(answer(code), answer(outcome, {"brandNew": 1}), text("x", finish="STOP"))
    assert choice.opaque == [
        ("gemini_parts", [{"part": part, "index": at}])
        for at, part in enumerate((code, outcome, {"brandNew": 1}))
    ]


def test_sound_and_images() -> None:
    def blob(mime: str, **more: Any) -> dict[str, Any]:
        return {"inlineData": {"mimeType": mime, "data": "AA=="}, **more}

    choice = decode_choice(
        answer(blob("audio/pcm;rate=24000"), blob("image/png", thought=True)),
        answer(blob("image/png", thoughtSignature="S"), blob("text/csv"), finish="STOP"),
    )
    assert [audio.data_base64 for audio in choice.audio] == ["AA=="]
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}, "index": 0}
    assert choice.opaque == [
        ("images", [image]),
        ("gemini_parts", [{"part": blob("text/csv"), "index": 1}]),
        ("extra_content", {"google": {"thought_signature": "S"}}),
    ]


def test_what_comes_beside_the_content() -> None:
    choice = decode_choice(
        text("a", finish="STOP", groundingMetadata={"webSearchQueries": ["q"]}, safetyRatings=[{}])
    )
    assert choice.opaque == [("grounding_metadata", {"webSearchQueries": ["q"]})]


def test_logprobs_are_openais() -> None:
    chosen = [{"token": "é", "tokenId": 1, "logProbability": -0.5}, {"token": "b"}, 7]
    tops = [{"candidates": [{"token": "é", "logProbability": -0.5}]}, {}]
    result = {"chosenCandidates": chosen, "topCandidates": tops}
    choice = decode_choice(text("éb", finish="STOP", logprobsResult=result))
    first = {"token": "é", "logprob": -0.5, "bytes": [195, 169]}
    second = {"token": "b", "logprob": -9999.0, "bytes": [98]}
    third = {"token": "", "logprob": -9999.0, "bytes": []}
    assert choice.opaque == [
        (
            "logprobs",
            {
                "content": [
                    {**first, "top_logprobs": [first]},
                    {**second, "top_logprobs": []},
                    {**third, "top_logprobs": []},
                ],
                "refusal": None,
            },
        )
    ]


def test_state_survives_a_round_trip() -> None:
    """What came out goes back as it was: to the call, to the text, as its own part."""
    code = {"executableCode": {"code": "1"}, "thoughtSignature": "SC"}
    choice = decode_choice(
        answer({"text": "hm", "thought": True, "thoughtSignature": "SR"}),
        answer(code),
        answer({"text": "a", "thoughtSignature": "ST"}),
        answer(call("f", {"x": 1}, "S1", id="c1"), call("g", id="c2"), finish="STOP"),
    )
    extra: dict[str, Any] = {}
    for key, value in choice.opaque:
        extra[key] = extra.get(key, []) + value if isinstance(value, list) else value
    message = Message(
        Role.ASSISTANT,
        tool_calls=tuple(
            ToolCall(one.call_id, one.name, one.arguments, extra=one.extra or {})
            for one in choice.tool_calls
        ),
        extra=extra,
    )
    request = GenerateRequest("m", (message,))
    body = orjson.loads(GeminiCodec().encode_request(request, "gemini-3.5-flash").body)
    assert body["contents"][0]["parts"] == [
        {"text": "hm", "thought": True, "thoughtSignature": "SR"},
        code,
        {"functionCall": {"id": "c1", "name": "f", "args": {"x": 1}}, "thoughtSignature": "S1"},
        {"functionCall": {"id": "c2", "name": "g", "args": {}}},
        {"text": "", "thoughtSignature": "ST"},
    ]


# --- usage ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "counts"),
    [
        ({"promptTokenCount": 5, "totalTokenCount": 5}, (5, 0, 5, None, None)),
        (
            {
                "promptTokenCount": 70,
                "candidatesTokenCount": 19,
                "thoughtsTokenCount": 128,
                "toolUsePromptTokenCount": 164,
                "cachedContentTokenCount": 6,
                "totalTokenCount": 381,
            },
            (234, 147, 381, 6, 128),
        ),
        ({"promptTokenCount": 5, "candidatesTokenCount": 2}, (5, 2, 7, None, None)),
        ({"promptTokenCount": 5.0, "totalTokenCount": 5, "new": []}, (5, 0, 5, None, None)),
        ({"promptTokenCount": -5, "totalTokenCount": 10**12}, (0, 0, 10**9, None, None)),
    ],
)
def test_usage_arithmetic(raw: dict[str, Any], counts: tuple[int | None, ...]) -> None:
    for documents in ((text("a"), {**text("b"), "usageMetadata": raw}, answer(finish="STOP")),):
        documents[2]["usageMetadata"] = raw
        usage = decode(stream(*documents)).usage
        assert usage is not None
        assert (
            usage.prompt_tokens,
            usage.completion_tokens,
            usage.total_tokens,
            usage.cached_tokens,
            usage.reasoning_tokens,
        ) == counts
        assert orjson.loads(usage.raw_json) == raw
        assert usage.is_estimated == (raw["promptTokenCount"] < 0)


@pytest.mark.parametrize("raw", [{}, {"trafficType": "ON_DEMAND"}, {"promptTokenCount": "5"}, [5]])
def test_usage_that_tells_nothing(raw: object) -> None:
    assert decode(stream({**text("a", finish="STOP"), "usageMetadata": raw})).usage is None


def test_usage_is_told_when_it_has_changed() -> None:
    events = run(GeminiCodec(), [stream(text("a"), text("b"), text("c"), STOP)])
    assert sum(type(one) is Usage for one in events) == 1


@given(
    st.dictionaries(
        st.sampled_from(COUNT_NAMES),
        st.integers(-2, 10**10) | st.floats(allow_nan=False) | st.none() | st.text(max_size=3),
    )
)
@examples(150)
def test_both_readers_of_counts_agree(raw: dict[str, Any]) -> None:
    text_of_it = orjson.dumps(raw)
    try:
        usual = read_usual(text_of_it)
    except ValueError:
        return
    assert usual == normalise(text_of_it)


# --- errors and broken bodies ---------------------------------------------------------------

BUSY = {"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}}


@pytest.mark.parametrize("body", [stream(text("a"), BUSY), array(text("a"), BUSY)])
def test_error_inside_a_success(body: bytes) -> None:
    result = decode(body)
    failure = failure_of(result)
    assert result.text == "a"
    assert (failure.reason, failure.http_status) == (Reason.UPSTREAM_OVERLOADED, 200)
    assert failure.metadata["provider_request_id"] == "r1"


@pytest.mark.parametrize(
    "body",
    [
        event([BUSY]),
        b"event: error\r\n" + event(BUSY),
        orjson.dumps([BUSY]),
        orjson.dumps(BUSY),
    ],
)
def test_error_alone_inside_a_success(body: bytes) -> None:
    result = decode(body)
    assert result.info is None
    assert failure_of(result).reason is Reason.UPSTREAM_OVERLOADED


@pytest.mark.parametrize(
    "body",
    [
        b"<html>down</html>",
        b"\xef\xbb\xbf <!doctype html>",
        event({"foo": 1}),
        event("x"),
        event([1]),
        event({"candidates": {"a": 1}}),
        event({"candidates": [1]}),
        event({"candidates": [{"index": -1}]}),
        event({"candidates": [{"index": 128}]}),
        event({"candidates": [{"index": "0"}]}),
        b"data: {nonsense}\r\n\r\n",
        b"[1]",
        b"[[]]",
        b'[{"a": 1}]',
        b'{"a": 1}',
        b'{"candidates": [}]}',
    ],
)
def test_what_breaks_the_format(body: bytes) -> None:
    assert type(failure_of(decode(body))) in (NotAnAnswer, RemoteProtocolError)


@pytest.mark.parametrize(
    "body", [b"", b"\r\n", b": hi\n\n", b"\xef\xbb\xbf", b"[]", b"[{}]", b"data: null\n\n"]
)
def test_bodies_that_say_nothing(body: bytes) -> None:
    assert type(failure_of(decode(body))) is StreamTruncated


@pytest.mark.parametrize(
    "mark", [b"\xef\xbb\xbf", b"\n\xef\xbb\xbf\r\n", b"\xef\xbb\xbf" * 2, b"\xef"]
)
def test_marks_before_the_body_are_the_same_however_they_are_cut(mark: bytes) -> None:
    for body in (b"", b"\xef", stream(text("a", finish="STOP")), array(text("a", finish="STOP"))):
        result = decode(mark + body)
        if len(body) > 1 and mark.count(b"\xbf") == 1:
            assert result.text == "a"


def test_text_that_is_no_unicode_is_mended_and_counted() -> None:
    bad = event(text("a")).replace(b'"a"', b'"\xff"') + event(text("b")).replace(
        b'"b"', b'"\\ud800"'
    )
    codec = GeminiCodec()
    result = collect(run(codec, [event(text("x")) + bad + event(STOP)]))
    assert result.text == "x\ufffd\ufffd"
    assert codec.mended_events == 2
    for document in (text("y"), STOP):
        broken = event(document).replace(b'"totalTokenCount":4', b'"trafficType":"\xff"')
        usage = collect(run(GeminiCodec(), [event(text("x")) + broken + event(STOP)])).usage
        assert usage is not None
        orjson.loads(usage.raw_json)


def test_the_marker_of_other_wires_is_an_end() -> None:
    for body in (stream(text("a", finish="STOP")) + b"data: [DONE]\n\n", b"data: [DONE]"):
        codec = GeminiCodec()
        failure = collect(run(codec, [body])).failure
        assert codec.is_finished
        assert (failure is None) == (len(body) > 20)


def test_stream_cut_anywhere() -> None:
    """Inside an event a cut is seen even after a finish reason; only between two events that
    need not follow each other it is not."""
    body = stream(text("a"), text("b", finish="STOP"), text("c", finish="STOP"))
    ends = [match.end() for match in re.finditer(rb"\r\n\r\n", body)]
    for at in range(len(body)):
        result = collect(run(GeminiCodec(), [body[:at]]))
        # The blank line at an event's end may lack.
        is_clean = any(at in range(end - 4, end + 1) for end in ends[1:])
        assert (result.error is None) == is_clean, at
        if not is_clean:
            assert type(result.failure) is StreamTruncated


@pytest.mark.parametrize("as_body", [array, lambda *documents: orjson.dumps(documents[-1])])
def test_json_cut_anywhere(as_body: Any) -> None:
    body = as_body(text("a"), text('b\\"]}', finish="STOP"))
    for at in range(len(body)):
        assert type(collect(run(GeminiCodec(), [body[:at]])).failure) is StreamTruncated, at


@pytest.mark.parametrize("head", [b"data: ", b'{"candidates":[{"content":"', b'[{"a":"'])
def test_memory_is_bounded(head: bytes) -> None:
    codec = GeminiCodec()
    codec.decode_headers(200, [])
    piece = b"x" * (1 << 20)
    failures = [codec.feed(one) for one in (head, *[piece] * 40)]
    assert [len(events) for events in failures].count(1) == 1
    assert not codec._body
    assert codec._parser.held_bytes + len(codec._splitter._value) <= MAX_ANSWER_BYTES + len(piece)


def test_an_object_of_the_largest_size_passes_and_a_larger_does_not() -> None:
    document = orjson.dumps(text("x", finish="STOP"))
    for size, is_clean in ((MAX_ANSWER_BYTES, True), (MAX_ANSWER_BYTES + 1, False)):
        body = document.replace(b'"x"', b'"' + b"x" * (size - len(document) + 1) + b'"')
        assert len(body) == size
        for pieces_ in ([body], pieces_of(body, 65_537)):
            failure = collect(run(GeminiCodec(), pieces_)).failure
            assert (failure is None) == is_clean
            assert is_clean or type(failure) is EventTooLarge


def test_an_error_body_is_cut() -> None:
    codec = GeminiCodec()
    codec.decode_headers(500, [])
    for _ in range(10):
        codec.feed(memoryview(b"x" * 20_000))
    assert len(codec._body) == 64 * 1024
    assert "status 500" in str(collect(codec.end()).failure)


# --- the lane for text ----------------------------------------------------------------------


def test_the_lane_takes_text_and_thoughts(monkeypatch: pytest.MonkeyPatch) -> None:
    codec = GeminiCodec()
    codec.decode_headers(200, [])
    codec.feed(event(text("a")))
    monkeypatch.setattr(codec._reader.__class__, "read", None)
    assert codec.feed(event(text("b"))) == [TextDelta("b")]
    thought = {**answer({"text": "c", "thought": True}), "createTime": "2026-01-01T00:00:00Z"}
    assert codec.feed(event(thought)) == [ReasoningDelta("c")]
    vertex = {**text("d"), "usageMetadata": {"trafficType": "ON_DEMAND"}}
    assert codec.feed(event(vertex)) == [TextDelta("d")]


def test_a_stream_that_keeps_being_refused_stops_trying() -> None:
    codec = GeminiCodec()
    codec.decode_headers(200, [])
    for _ in range(gemini_hot_chunk.MAX_MISSES):
        codec.feed(event(text("a", avgLogprobs=-1)))
    assert codec._hot_misses == gemini_hot_chunk.MAX_MISSES
    assert codec.feed(event(text("b"))) == [TextDelta("b")]


# --- any bytes ------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 200) | st.text(max_size=3) | st.floats(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
PARTIAL = st.fixed_dictionaries(
    {},
    optional={
        "jsonPath": st.sampled_from(["$.a", "$.a[1]", "$.a.b", "$['c']", "$", "x"]) | JSON,
        "stringValue": st.text(max_size=3) | JSON,
        "numberValue": st.floats() | JSON,
        "nullValue": JSON,
        "willContinue": st.booleans() | JSON,
    },
)
CALLS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["f", "g", ""]) | JSON,
        "id": st.sampled_from(["x", ""]) | JSON,
        "args": JSON,
        "willContinue": st.booleans() | JSON,
        "partialArgs": st.lists(PARTIAL, max_size=3) | JSON,
    },
)
PARTS = st.fixed_dictionaries(
    {},
    optional={
        "text": st.text(max_size=3) | JSON,
        "thought": st.booleans() | JSON,
        "thoughtSignature": st.text(max_size=3) | JSON,
        "functionCall": CALLS | JSON,
        "inlineData": st.fixed_dictionaries(
            {},
            optional={"mimeType": st.sampled_from(["audio/wav", "image/png", "x"]), "data": JSON},
        )
        | JSON,
        "executableCode": JSON,
    },
)
CANDIDATES = st.fixed_dictionaries(
    {},
    optional={
        "content": st.fixed_dictionaries({}, optional={"parts": st.lists(PARTS, max_size=3)})
        | JSON,
        "finishReason": st.sampled_from(["STOP", "MAX_TOKENS", "OTHER", 1, 9]) | JSON,
        "finishMessage": JSON,
        "index": st.integers(0, 2) | JSON,
        "logprobsResult": st.fixed_dictionaries(
            {}, optional={"chosenCandidates": JSON, "topCandidates": JSON}
        ),
        "groundingMetadata": JSON,
    },
)
DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "candidates": st.lists(CANDIDATES, max_size=2) | JSON,
        "usageMetadata": st.dictionaries(
            st.sampled_from(["promptTokenCount", "totalTokenCount", "serviceTier"]), JSON
        )
        | JSON,
        "promptFeedback": st.fixed_dictionaries({}, optional={"blockReason": JSON}) | JSON,
        "responseId": JSON,
        "createTime": JSON,
        "error": JSON,
    },
)


@given(
    documents=st.lists(DOCUMENTS | JSON, max_size=4),
    cuts=st.integers(1, 40),
    shape=st.sampled_from(["stream", "array", "objects"]),
    status=st.sampled_from([200, 200, 200, 429]),
)
@examples(200)
def test_any_json_gives_events_in_order_and_never_raises(
    documents: list[Any], cuts: int, shape: str, status: int
) -> None:
    texts = [orjson.dumps(one) for one in documents]
    body = {
        "stream": b"".join(b"data: %b\r\n\r\n" % one for one in texts),
        "array": b"[%b]" % b",".join(texts),
        "objects": b"\n".join(texts),
    }[shape]
    whole = collect(run(GeminiCodec(), [body], status=status))
    assert collect(run(GeminiCodec(), pieces_of(body, cuts), status=status)) == whole


VALID = stream(
    answer({"text": "hm", "thought": True}),
    text("a"),
    begun(),
    pieces(piece("$.a", "x", more=True)),
    CLOSED,
    answer(call("g", {"b": 1}, "S"), finish="STOP"),
)
VALID_ARRAY = array(text("a"), answer(call("g", {"b": "]}"}), finish="STOP"))


@given(
    body=st.sampled_from([VALID, VALID_ARRAY]),
    edits=st.lists(
        st.tuples(st.integers(0, 2000), st.integers(0, 30), st.binary(max_size=6)), max_size=4
    ),
    cuts=st.integers(1, 300),
)
@examples(250)
def test_any_mutation_gives_the_same_however_it_is_cut(
    body: bytes, edits: list[tuple[int, int, bytes]], cuts: int
) -> None:
    for at, length, put in edits:
        at %= len(body) + 1
        body = body[:at] + put + body[at + length :]
    whole = collect(run(GeminiCodec(), [body]))
    assert collect(run(GeminiCodec(), pieces_of(body, cuts))) == whole


@given(
    pieces_=st.lists(
        st.binary(max_size=30)
        | st.sampled_from(
            [event(text("a")), event(STOP), b"[", b"]", b"{", b"}", b'"', b"\\", b"\n\n"]
        ),
        max_size=12,
    ),
    status=st.sampled_from([200, 200, 302, 500]),
)
@examples(250)
def test_any_bytes_never_raise(pieces_: list[bytes], status: int) -> None:
    result = collect(run(GeminiCodec(), pieces_, status=status))
    assert collect(run(GeminiCodec(), [b"".join(pieces_)], status=status)) == result


def test_opaque_values_are_json() -> None:
    """What only the forgiving reader takes comes out as JSON all the same."""
    body = event(answer({"executableCode": {"n": 1}})).replace(b'"n":1', b'"n":NaN') + event(STOP)
    opaque = [one for one in run(GeminiCodec(), [body]) if type(one) is OpaqueDelta]
    assert [orjson.loads(one.value_json) for one in opaque] == [
        [{"part": {"executableCode": {"n": None}}, "index": 0}]
    ]
