"""Reading Converse: each rule of the wire, every cut, any bytes, and botocore beside us.

There are no recordings: bodies are written from botocore's model of the service.
"""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.codecs.bedrock_converse import ConverseCodec
from relay.codecs.bedrock_converse_answer import FAILED_STOPS, MAX_OPEN_BLOCKS, STOP_REASONS
from relay.content import (
    FinishReason,
    GenerateRequest,
    Message,
    ProviderFailed,
    ResponseInfo,
    Role,
    TextDelta,
    TextPart,
)
from relay.errors import (
    EventTooLarge,
    NotAnAnswer,
    Reason,
    RelayError,
    RemoteProtocolError,
    StreamTruncated,
    UpstreamStatus,
)
from relay.sse import MAX_EVENT_BYTES
from tests.codecs.aws_frames import error, event, exception, frame, needs_botocore, service_model
from tests.codecs.converse_text import (
    START,
    call,
    delta,
    document,
    ending,
    metadata,
    reasoning,
    start,
    stop,
    text,
)
from tests.fakes.collect import Collected, CollectedChoice, collect, pieces_of, run
from tests.fakes.properties import examples

END = ending() + metadata()
HALF = START + delta(0, text="Hel") + delta(0, text="lo")
HEADERS = [("content-type", "application/vnd.amazon.eventstream"), ("x-amzn-requestid", "r-1")]
CLAUDE = "us.anthropic.claude-haiku-4-5-20251001-v1:0"


def asked(model: str = "") -> ConverseCodec:
    """A codec that has sent a request."""
    codec = ConverseCodec()
    if model:
        request = GenerateRequest("m", (Message(Role.USER, (TextPart("hi"),)),))
        codec.encode_request(request, model)
    return codec


def decode(body: bytes, *, status: int = 200, model: str = "") -> Collected:
    """What a body says, the same whole, byte by byte and in two pieces."""

    def once(pieces: list[bytes]) -> Collected:
        return collect(run(asked(model), pieces, status=status, headers=HEADERS))

    whole = once([body])
    assert once(pieces_of(body, 1)) == whole, "byte by byte"
    for at in range(1, len(body), max(1, len(body) // 60)):
        assert once([body[:at], body[at:]]) == whole, f"cut at {at}"
    return whole


def decode_choice(body: bytes, *, model: str = "") -> CollectedChoice:
    result = decode(body, model=model)
    assert result.error is None
    return result.choices[0]


def failure(body: bytes) -> RelayError:
    found = decode(body).failure
    assert found is not None
    return found


def opaque(choice: CollectedChoice, key: str) -> list[Any]:
    return [item for name, value in choice.opaque if name == key for item in value]


# --- the plain course -----------------------------------------------------------------------


def test_a_plain_answer() -> None:
    result = decode(START + text(0, "Hel", "lo", " \u00e9") + END, model=CLAUDE)
    assert result.info == ResponseInfo("r-1", CLAUDE, 0)
    assert result.text == "Hello \u00e9"
    assert (result.choices[0].finish, result.choices[0].raw_finish) == (
        FinishReason.STOP,
        "end_turn",
    )
    assert result.usage is not None
    assert (result.usage.prompt_tokens, result.usage.completion_tokens) == (10, 5)
    assert not result.usage.is_estimated


def test_account_of_an_arn_is_not_told() -> None:
    arn = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc"
    info = decode(START + END, model=arn).info
    assert info is not None
    assert info.model == "abc"


def test_text_is_handed_on_at_once_and_the_end_is_known() -> None:
    codec = asked()
    codec.decode_headers(200, HEADERS)
    assert codec.feed(START) == [ResponseInfo("r-1", "", 0)]
    for word in ("a", "b", "c"):
        assert codec.feed(delta(0, text=word)) == [TextDelta(word)]
    codec.feed(stop(0) + ending())
    ends = [codec.is_finished]
    assert len(codec.feed(metadata() + exception("throttlingException"))) == 1
    ends.append(codec.is_finished)
    assert ends == [False, True]
    assert codec.feed(b"anything") == ()
    assert codec.end() == ()


def test_counts_that_come_first() -> None:
    codec = asked()
    codec.decode_headers(200, HEADERS)
    codec.feed(START + text(0, "a") + metadata())
    ends = [codec.is_finished]
    codec.feed(ending())
    assert [*ends, codec.is_finished] == [False, True]


def test_empty_text_and_unknown_things_are_passed_over() -> None:
    odd = event("initial-response", {}) + event("brandNew", [1]) + delta(0, brandNew={"a": 1})
    more = delta(0, text="") + event("contentBlockDelta", {"contentBlockIndex": 0, "delta": None})
    assert decode(START + odd + more + text(0, "a", "", "b") + END).text == "ab"


def test_a_stream_without_its_start() -> None:
    result = decode(text(0, "a") + END)
    assert (result.text, result.info) == ("a", ResponseInfo("r-1", "", 0))


@pytest.mark.parametrize(
    ("raw", "reason"), [*STOP_REASONS.items(), ("brand_new", FinishReason.OTHER)]
)
def test_stop_reasons(raw: str, reason: FinishReason) -> None:
    choice = decode_choice(START + text(0, "a") + ending(raw) + metadata())
    assert (choice.finish, choice.raw_finish) == (reason, raw)


@pytest.mark.parametrize("raw", sorted(FAILED_STOPS))
def test_what_the_model_broke_off_is_no_answer(raw: str) -> None:
    opened = start(0, toolUse={"toolUseId": "t", "name": "f"}) + delta(0, toolUse={"input": '{"'})
    result = decode(START + opened + ending(raw) + metadata())
    assert isinstance(result.failure, UpstreamStatus)
    assert (result.failure.reason, result.failure.provider_code) == (Reason.UPSTREAM_FAILED, raw)
    assert result.choices[0].finish is None


@needs_botocore
def test_every_stop_reason_of_the_services_model_is_known() -> None:

    known = set(service_model().shape_for("StopReason").enum)
    assert known == (STOP_REASONS.keys() - {"refusal"}) | FAILED_STOPS


# --- counts ---------------------------------------------------------------------------------


def test_cached_tokens_are_part_of_the_prompt() -> None:
    counts = {
        "cacheReadInputTokens": 100,
        "cacheWriteInputTokens": 20,
        "cacheDetails": [{"ttl": "5m", "inputTokens": 20}],
    }
    body = START + text(0, "a") + ending()
    result = decode(body + metadata(counts=counts, serviceTier={"type": "priority"}))
    usage = result.usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (130, 5, 135)
    assert (usage.cached_tokens, usage.cache_write_tokens) == (100, 20)
    assert usage.reasoning_tokens is None
    raw = orjson.loads(usage.raw_json)
    assert raw["cacheDetails"] == [{"ttl": "5m", "inputTokens": 20}]
    assert raw["serviceTier"] == {"type": "priority"}
    assert usage.service_tier == "priority"


@pytest.mark.parametrize("usage", [None, {}, [], {"inputTokens": None, "outputTokens": "5"}])
def test_counts_that_are_none(usage: Any) -> None:
    result = decode(START + text(0, "a") + ending() + event("metadata", {"usage": usage}))
    assert result.usage is None
    assert result.error is None


def test_counts_of_which_one_is_left_out_are_an_estimate() -> None:
    usage = decode(START + ending() + event("metadata", {"usage": {"inputTokens": 3}})).usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.is_estimated) == (3, 0, True)


def test_absurd_counts_are_clamped() -> None:
    usage = decode(START + ending() + metadata(given=-3, made=10**15)).usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (0, 10**9)
    assert usage.is_estimated


# --- ends that are none ---------------------------------------------------------------------


def test_an_end_without_counts_is_one() -> None:
    """Whoever bills estimates them then: nothing else is missing."""
    for body in (START + text(0, "a") + ending(), START + text(0, "a") + ending("max_tokens")):
        result = decode(body)
        assert result.error is None
        assert result.usage is None
        assert result.choices[0].finish is not None
    codec = asked()
    run(codec, [START + text(0, "a") + ending()])
    assert not codec.is_finished


def test_a_stream_that_is_cut_says_so() -> None:
    whole = START + text(0, "Hel", "lo") + END
    # Before the end, at its border, in it, and in the counts behind it.
    bodies = [b"", START, HALF, HALF + stop(0), whole[: len(whole) - len(END) + 7], whole[:-1]]
    for body in bodies:
        found = failure(body)
        assert type(found) is StreamTruncated, body
        assert found.reason is Reason.UPSTREAM_TRUNCATED
    assert decode(HALF).text == "Hello"


def test_a_call_that_is_cut_is_never_done() -> None:
    opened = start(0, toolUse={"toolUseId": "t", "name": "f"}) + delta(0, toolUse={"input": '{"a'})
    result = decode(START + opened)
    assert type(result.failure) is StreamTruncated
    [one] = result.choices[0].tool_calls
    assert not one.is_done


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        (exception("throttlingException"), Reason.UPSTREAM_RATE_LIMITED),
        (exception("serviceUnavailableException"), Reason.UPSTREAM_OVERLOADED),
        (exception("internalServerException"), Reason.UPSTREAM_FAILED),
        (exception("modelStreamErrorException", originalMessage="m"), Reason.UPSTREAM_FAILED),
        (exception("validationException"), Reason.UPSTREAM_REJECTED),
        (error("Boom", "m"), Reason.UPSTREAM_FAILED),
        (
            frame(":exception-type", b"", "throttlingException", message="exception"),
            Reason.UPSTREAM_RATE_LIMITED,
        ),
    ],
)
@pytest.mark.parametrize("before", [b"", HALF, HALF + ending()])
def test_failures_in_the_middle(before: bytes, last: bytes, reason: Reason) -> None:
    result = decode(before + last + metadata())
    assert isinstance(result.failure, UpstreamStatus)
    assert result.failure.reason is reason
    assert result.failure.http_status == 200
    assert result.failure.metadata["provider_request_id"] == "r-1"
    assert result.text == ("Hello" if before else "")


def test_a_broken_frame_ends_the_answer() -> None:
    """Text of whole frames before it stays, even from the same piece of the body."""
    for at in (2, 9, 20, -20, -2):
        bent = bytearray(delta(0, text="more"))
        bent[at] ^= 4
        result = decode(HALF + bytes(bent) + END)
        assert type(result.failure) is RemoteProtocolError
        assert result.failure.reason is Reason.UPSTREAM_PROTOCOL
        assert result.text == "Hello"
    assert type(failure(b'data: {"a": 1}\n\n')) is RemoteProtocolError


def test_a_frame_over_the_cap() -> None:
    large = HALF + delta(0, text="x" * MAX_EVENT_BYTES)
    found = collect(run(asked(), pieces_of(large, 65536))).failure
    assert type(found) is EventTooLarge


@pytest.mark.parametrize(
    "broken",
    [
        frame(":event-type", b"{", "contentBlockDelta"),
        event("contentBlockDelta", []),
        event("contentBlockDelta", {"delta": {"text": "a"}}),
        event("contentBlockDelta", {"contentBlockIndex": -1, "delta": {"text": "a"}}),
        event("contentBlockStart", {"contentBlockIndex": 0}),
        event("messageStop", {}),
        delta(3, toolUse={"input": "{}"}),
        start(0, toolUse={"toolUseId": "t"}) + stop(0) + ending(),
        ending() + delta(0, text="a"),
        ending() + start(0, toolUse={"toolUseId": "t", "name": "f"}),
        b"".join(start(at, brandNew={}) for at in range(MAX_OPEN_BLOCKS + 1)),
    ],
)
def test_broken_events(broken: bytes) -> None:
    result = decode(HALF + broken)
    assert type(result.failure) is RemoteProtocolError
    assert result.text == "Hello"


@pytest.mark.parametrize(
    "piece",
    [
        {"reasoningContent": {"text": "x" * 60_000}},
        {"reasoningContent": {"signature": "x" * 60_000}},
        {"citation": {"title": "x" * 60_000}},
    ],
)
def test_what_is_kept_is_bounded(piece: dict[str, Any]) -> None:
    codec = asked()
    codec.decode_headers(200, HEADERS)
    events: list[Any] = []
    for _ in range(20):
        events += codec.feed(delta(0, **piece))
        if isinstance(events[-1], ProviderFailed):
            break
    assert type(events[-1].error) is EventTooLarge


# --- reasoning ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "name"),
    [(CLAUDE, "anthropic-claude-v1"), ("us.amazon.nova-2-lite-v1:0", "bedrock-converse-v1")],
)
def test_signed_reasoning(model: str, name: str) -> None:
    redacted = delta(1, reasoningContent={"redactedContent": "c2VjcmV0"}) + stop(1)
    body = START + reasoning(0, "sig", "Let me", " see") + redacted + text(2, "Hi") + END
    choice = decode_choice(body, model=model)
    assert (choice.reasoning, choice.text) == ("Let me see", "Hi")
    assert opaque(choice, "reasoning_details") == [
        {
            "type": "reasoning.text",
            "text": "Let me see",
            "signature": "sig",
            "format": name,
            "index": 0,
        },
        {
            "type": "reasoning.encrypted",
            "data": "c2VjcmV0",
            "format": "bedrock-converse-v1",
            "index": 1,
        },
    ]


def test_reasoning_that_is_not_signed_is_told_once() -> None:
    choice = decode_choice(START + reasoning(0, "", "Hm") + text(1, "Hi") + END)
    assert choice.reasoning == "Hm"
    assert choice.opaque == []


def test_encrypted_pieces_are_joined_as_bytes() -> None:
    pieces = [base64.b64encode(piece).decode() for piece in (b"a", b"bc")]
    body = b"".join(delta(0, reasoningContent={"redactedContent": one}) for one in pieces)
    choice = decode_choice(START + body + stop(0) + END)
    [entry] = opaque(choice, "reasoning_details")
    assert base64.b64decode(entry["data"]) == b"abc"
    bad = delta(0, reasoningContent={"redactedContent": "*"}) * 2 + stop(0)
    assert type(failure(START + bad)) is RemoteProtocolError


# --- tools ----------------------------------------------------------------------------------


def test_calls_of_tools() -> None:
    body = (
        START
        + text(0, "Well")
        + call(1, "t1", "f", "", '{"a"', ":1}")
        + call(2, "t2", "g")
        + ending("tool_use")
        + metadata()
    )
    choice = decode_choice(body)
    assert choice.finish is FinishReason.TOOL_CALLS
    told = [(one.call_id, one.name, one.arguments, one.is_done) for one in choice.tool_calls]
    assert told == [("t1", "f", '{"a":1}', True), ("t2", "g", "{}", True)]


def test_a_call_is_heard_of_at_once() -> None:
    codec = asked()
    codec.decode_headers(200, HEADERS)
    events = codec.feed(START + start(0, toolUse={"toolUseId": "t", "name": "f"}))
    assert events[-1].is_content


def test_a_call_that_ends_by_length_is_partial() -> None:
    opened = start(0, toolUse={"toolUseId": "t", "name": "f"}) + delta(0, toolUse={"input": '{"a'})
    choice = decode_choice(START + opened + ending("max_tokens") + metadata())
    assert choice.finish is FinishReason.LENGTH
    assert choice.tool_calls[0].is_partial


def test_who_says_stop_with_calls_means_calls() -> None:
    choice = decode_choice(START + call(0, "t", "f", "{}") + END)
    assert (choice.finish, choice.raw_finish) == (FinishReason.TOOL_CALLS, "end_turn")


def test_arguments_are_bounded() -> None:
    codec = asked()
    codec.decode_headers(200, HEADERS)
    codec.feed(START + start(0, toolUse={"toolUseId": "t", "name": "f"}))
    events: list[Any] = []
    for _ in range(20):
        events += codec.feed(delta(0, toolUse={"input": "x" * 60_000}))
        if isinstance(events[-1], ProviderFailed):
            break
    assert type(events[-1].error) is EventTooLarge


# --- what is passed on ----------------------------------------------------------------------


def test_citations() -> None:
    page = {"title": "T", "location": {"documentPage": {"documentIndex": 0, "start": 1, "end": 2}}}
    web = {"title": "W", "location": {"web": {"url": "https://x.test/", "domain": "x.test"}}}
    body = (
        START
        + text(0, "See: ")
        + delta(1, text="it is so")
        + delta(1, citation=page)
        + delta(1, citation=web)
        + stop(1)
        + END
    )
    choice = decode_choice(body)
    where = {"start_index": 5, "end_index": 13}
    assert opaque(choice, "annotations") == [
        {"index": 0, "type": "citation", "citation": {**page, **where}},
        {
            "index": 1,
            "type": "url_citation",
            "url_citation": {**web, **where, "url": "https://x.test/"},
        },
    ]


def test_images() -> None:
    pieces = [base64.b64encode(piece).decode() for piece in (b"pic", b"ture")]
    body = start(0, image={"format": "png"})
    body += b"".join(delta(0, image={"source": {"bytes": piece}}) for piece in pieces) + stop(0)
    choice = decode_choice(START + body + END)
    url = "data:image/png;base64," + base64.b64encode(b"picture").decode()
    expected = {"type": "image_url", "image_url": {"url": url}, "index": 0}
    assert opaque(choice, "images") == [expected]


def test_blocks_of_server_tools_are_kept_whole() -> None:
    use = {"toolUseId": "s1", "name": "nova_grounding", "type": "server_tool_use"}
    body = (
        START
        + start(0, toolUse=use)
        + delta(0, toolUse={"input": '{"q":'})
        + delta(0, toolUse={"input": '"x"}'})
        + stop(0)
        + start(1, toolResult={"toolUseId": "s1", "status": "success"})
        + delta(1, toolResult=[{"text": "found"}])
        + delta(1, toolResult=[{"json": {"a": 1}}])
        + stop(1)
        + text(2, "So")
        + END
    )
    choice = decode_choice(body)
    assert choice.finish is FinishReason.STOP
    assert not choice.tool_calls
    assert opaque(choice, "converse_blocks") == [
        {"index": 0, "block": {"toolUse": {**use, "input": {"q": "x"}}}},
        {
            "index": 1,
            "block": {
                "toolResult": {
                    "toolUseId": "s1",
                    "status": "success",
                    "content": [{"text": "found"}, {"json": {"a": 1}}],
                }
            },
        },
    ]


def test_what_was_asked_for_beside_the_answer() -> None:
    more = {"stop_sequence": "END"}
    trace = {"guardrail": {"actionReason": "blocked"}}
    body = START + text(0, "a") + ending(additionalModelResponseFields=more) + metadata(trace=trace)
    choice = decode_choice(body)
    assert choice.opaque == [("additional_model_response_fields", more), ("trace", trace)]


# --- a whole answer -------------------------------------------------------------------------


def test_a_whole_answer_says_what_a_stream_says() -> None:
    stream = (
        START
        + reasoning(0, "sig", "Hm")
        + delta(1, reasoningContent={"redactedContent": "c2VjcmV0"})
        + stop(1)
        + text(2, "Hello")
        + call(3, "t1", "f", '{"a":1}')
        + call(4, "t2", "g")
        + ending("tool_use")
        + metadata()
    )
    whole = document(
        {"reasoningContent": {"reasoningText": {"text": "Hm", "signature": "sig"}}},
        {"reasoningContent": {"redactedContent": "c2VjcmV0"}},
        {"text": "Hello"},
        {"toolUse": {"toolUseId": "t1", "name": "f", "input": {"a": 1}}},
        {"toolUse": {"toolUseId": "t2", "name": "g", "input": {}}},
        reason="tool_use",
    )
    assert decode(whole) == decode(stream)


def test_other_blocks_of_a_whole_answer() -> None:
    cited = {"content": [{"text": "so "}, {"text": "it is"}], "citations": [{"title": "T"}]}
    choice = decode_choice(
        document(
            {"citationsContent": cited},
            {"image": {"format": "png", "source": {"bytes": "aGk="}}},
            {"video": {"format": "mp4"}},
        )
    )
    assert choice.text == "so it is"
    assert [name for name, _ in choice.opaque] == ["annotations", "images", "converse_blocks"]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"output":{"message":{"content":[]}}', StreamTruncated),
        (document({"text": "a"}, reason=None), StreamTruncated),
        (b'{"output":{}}', NotAnAnswer),
        (b"[1]", NotAnAnswer),
        (b'{"message":"no"}', UpstreamStatus),
        (b"<html>", NotAnAnswer),
    ],
)
def test_documents_that_are_no_answer(body: bytes, kind: type[RelayError]) -> None:
    assert type(failure(body)) is kind


def test_errors_of_responses() -> None:
    headers = [*HEADERS, ("x-amzn-errortype", "ThrottlingException:http://x"), ("retry-after", "2")]
    [last] = run(asked(), [b'{"message":"slow"}'], status=429, headers=headers)
    assert isinstance(last, ProviderFailed)
    assert isinstance(last.error, UpstreamStatus)
    assert last.error.reason is Reason.UPSTREAM_RATE_LIMITED
    assert last.error.retry_after_s == 2.0
    assert last.error.metadata["provider_request_id"] == "r-1"


# --- properties -----------------------------------------------------------------------------

PIECES = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=6), max_size=4)
BLOCKS = st.lists(
    st.one_of(
        st.tuples(st.just("text"), PIECES),
        st.tuples(st.just("reasoning"), PIECES),
        st.tuples(st.just("call"), st.just(["{", '"a"', ":", '"\u00e9"}'])),
    ),
    max_size=5,
)


def stream_of(blocks: list[tuple[str, list[str]]], reason: str) -> bytes:
    body = START
    for index, (kind, pieces) in enumerate(blocks):
        match kind:
            case "text":
                body += text(index, *pieces)
            case "reasoning":
                body += reasoning(index, "sig", *pieces)
            case _:
                body += call(index, f"t{index}", "f", *pieces)
    return body + ending(reason) + metadata(given=len(blocks))


def judged(body: bytes) -> dict[str, Any]:
    """What botocore's parser makes of a stream, added up."""
    from botocore.eventstream import EventStream
    from botocore.parsers import create_parser

    class Raw:
        def stream(self) -> list[bytes]:
            return pieces_of(body, 50)

        def close(self) -> None:
            """Nothing is open."""

    model = service_model().operation_model("ConverseStream")
    shape = model.output_shape.members["stream"]
    parser = create_parser("rest-json")._event_stream_parser
    found: dict[str, Any] = {"text": "", "reasoning": "", "calls": [], "signatures": []}
    for told in EventStream(Raw(), shape, parser, "ConverseStream"):
        [(name, value)] = told.items()
        if name == "contentBlockStart":
            use = value["start"]["toolUse"]
            found["calls"].append([use["toolUseId"], use["name"], ""])
        elif name == "contentBlockDelta":
            piece = value["delta"]
            found["text"] += piece.get("text", "")
            content = piece.get("reasoningContent", {})
            found["reasoning"] += content.get("text", "")
            if "signature" in content:
                found["signatures"].append(content["signature"])
            if "toolUse" in piece:
                found["calls"][-1][2] += piece["toolUse"]["input"]
        elif name == "messageStop":
            found["reason"] = value["stopReason"]
        elif name == "metadata":
            found["usage"] = (value["usage"]["inputTokens"], value["usage"]["outputTokens"])
    return found


@needs_botocore
@examples(25, full=500)
@given(BLOCKS, st.sampled_from(sorted(STOP_REASONS)), st.integers(1, 80))
def test_botocore_reads_the_same(
    blocks: list[tuple[str, list[str]]], reason: str, size: int
) -> None:
    body = stream_of(blocks, reason)
    result = collect(run(asked(CLAUDE), pieces_of(body, size), headers=HEADERS))
    assert result.error is None
    choice = result.choices[0]
    assert result.usage is not None
    assert judged(body) == {
        "text": choice.text,
        "reasoning": choice.reasoning,
        "calls": [[one.call_id, one.name, one.arguments] for one in choice.tool_calls],
        "signatures": [one["signature"] for one in opaque(choice, "reasoning_details")],
        "reason": choice.raw_finish,
        "usage": (result.usage.prompt_tokens, result.usage.completion_tokens),
    }


@examples(60, full=2000)
@given(BLOCKS, st.data())
def test_any_bytes_end_in_one_way(blocks: list[tuple[str, list[str]]], data: st.DataObject) -> None:
    """Bent and cut bodies say the same in any pieces, and are never clean unless they are whole."""
    body = stream_of(blocks, "end_turn")
    kept = body[: data.draw(st.integers(0, len(body)))]
    if kept and data.draw(st.booleans()):
        bent = bytearray(kept)
        bent[data.draw(st.integers(0, len(kept) - 1))] ^= data.draw(st.integers(1, 255))
        kept = bytes(bent)
    whole = collect(run(asked(), [kept], headers=HEADERS))
    size = data.draw(st.integers(1, 97))
    assert collect(run(asked(), pieces_of(kept, size), headers=HEADERS)) == whole
    is_whole = kept in (body, body.removesuffix(metadata(given=len(blocks))))
    assert (whole.error is None) == is_whole
