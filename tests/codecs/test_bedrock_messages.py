"""Claude through other doors: Bedrock's frames, Vertex's and Bedrock's paths and bodies.

There are no recordings of Bedrock: frames are written from botocore's model of the service, what is
in them is Anthropic's own, recorded or documented.
"""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from relay.codecs.anthropic_messages import AnthropicMessagesCodec
from relay.codecs.base import Codec, CountsTokens
from relay.codecs.registry import BUILDERS
from relay.content import FinishReason, GenerateRequest, Message, Role, TextPart
from relay.errors import (
    EventTooLarge,
    Reason,
    RelayError,
    RemoteProtocolError,
    StreamTruncated,
    UpstreamStatus,
)
from relay.sse import MAX_EVENT_BYTES, SseParser
from tests.codecs import anthropic_text as claude
from tests.codecs.aws_frames import chunk, error, event, exception, frame
from tests.corpus.anthropic_wire import AnthropicWire
from tests.fakes.collect import Collected, collect, pieces_of, run
from tests.fakes.wire_corpus import Case

BEDROCK = {
    "path": "/model/{model}/invoke-with-response-stream",
    "count_path": "",
    "model_in_body": False,
    "has_stream_field": False,
    "framing": "aws_event_stream",
    "body_version": "bedrock-2023-05-31",
    "betas_in": "both",
    "tier_header": "X-Amzn-Bedrock-Service-Tier",
}
VERTEX = {
    "path": "/v1/projects/p/locations/l/publishers/anthropic/models/{model}:streamRawPredict",
    "count_path": "/v1/projects/p/locations/l/publishers/anthropic/models/count-tokens:rawPredict",
    "model_in_body": False,
    "body_version": "vertex-2023-10-16",
}
STREAM = (
    claude.start(input_tokens=25, output_tokens=1)
    + claude.PING
    + claude.thinking(0, "sig", "Let me", " see")
    + claude.text(1, "Hel", "lo \u00e9")
    + claude.call(2, "toolu_1", "f", '{"a"', ":1}")
    + claude.ending("tool_use", {"output_tokens": 15})
    + claude.STOP
)
HALF = (
    claude.start()
    + claude.block(0, {"type": "text", "text": ""})
    + claude.delta(0, "text_delta", text="Hel")
)


def make(quirks: dict[str, Any] | None = None) -> Codec:
    return BUILDERS["anthropic_messages"](BEDROCK if quirks is None else quirks, "p")()


def framed(body: bytes) -> bytes:
    """The events of a server-sent stream, as Bedrock sends them."""
    return b"".join(chunk(data) for _, data in SseParser().feed(body))


def decode(body: bytes) -> Collected:
    """What a framed body says, the same whole, byte by byte and in two pieces."""
    whole = collect(run(make(), [body]))
    assert collect(run(make(), pieces_of(body, 1))) == whole, "byte by byte"
    for at in range(1, len(body), max(1, len(body) // 60)):
        assert collect(run(make(), [body[:at], body[at:]])) == whole, f"cut at {at}"
    return whole


def failure(body: bytes) -> RelayError:
    found = decode(body).failure
    assert found is not None
    return found


# --- answers --------------------------------------------------------------------------------


def test_frames_say_what_events_say() -> None:
    result = decode(framed(STREAM))
    assert result == collect(run(AnthropicMessagesCodec(), [STREAM]))
    assert result.error is None
    assert result.text == "Hello \u00e9"
    assert result.choices[0].finish is FinishReason.TOOL_CALLS


@pytest.mark.corpus
@pytest.mark.parametrize(
    "case",
    # Bedrock reports failures in frames of another kind.
    [one for one in AnthropicWire().cases if one.is_stream and b"event: error" not in one.body],
    ids=lambda case: case.name,
)
def test_recordings_in_frames_say_the_same(case: Case) -> None:
    plain = collect(run(AnthropicMessagesCodec(), [case.body]))
    body = framed(case.body + b"\n\n")
    assert collect(run(make(), [body])) == plain
    assert collect(run(make(), pieces_of(body, 37))) == plain


def test_the_end_is_known_and_nothing_counts_behind_it() -> None:
    codec = make()
    codec.decode_headers(200, [])
    codec.feed(framed(STREAM) + exception("throttlingException"))
    assert codec.is_finished
    assert codec.feed(b"no frame at all") == ()
    assert codec.end() == ()


def test_text_is_handed_on_as_it_comes() -> None:
    codec = make()
    codec.decode_headers(200, [])
    codec.feed(framed(HALF))
    [told] = codec.feed(framed(claude.delta(0, "text_delta", text="lo")))
    assert told.is_content


def test_other_frames_are_passed_over() -> None:
    odd = event("initial-response", {}) + event("brand-new", {"a": 1}) + chunk(b"")
    assert decode(odd + framed(STREAM)).text == "Hello \u00e9"


def test_a_whole_message_is_read() -> None:
    body = claude.message({"type": "text", "text": "Hi"})
    assert decode(body).text == "Hi"


# --- ends that are none ---------------------------------------------------------------------


def test_a_stream_that_is_cut_says_so() -> None:
    """Between frames, inside one, and with the stop reason but not the end."""
    unfinished = framed(STREAM.removesuffix(claude.STOP))
    for body in (b"", framed(HALF), framed(STREAM)[:-1], framed(STREAM)[:-60], unfinished):
        assert type(failure(body)) is StreamTruncated
        assert failure(body).reason is Reason.UPSTREAM_TRUNCATED
    assert decode(framed(HALF)).text == "Hel"


@pytest.mark.parametrize(
    ("last", "reason", "retry_after_s"),
    [
        (exception("throttlingException"), Reason.UPSTREAM_RATE_LIMITED, None),
        (
            exception("throttlingException", "Try again in 3 seconds"),
            Reason.UPSTREAM_RATE_LIMITED,
            3.0,
        ),
        (exception("serviceUnavailableException"), Reason.UPSTREAM_OVERLOADED, None),
        (exception("internalServerException"), Reason.UPSTREAM_FAILED, None),
        (exception("modelStreamErrorException"), Reason.UPSTREAM_FAILED, None),
        (exception("modelTimeoutException"), Reason.FIRST_TOKEN_TIMEOUT, None),
        (exception("validationException"), Reason.UPSTREAM_REJECTED, None),
        (error("InternalServerError", "m"), Reason.UPSTREAM_FAILED, None),
        (exception("brandNewException"), Reason.UPSTREAM_FAILED, None),
        (
            frame(":exception-type", b"no JSON", "throttlingException", message="exception"),
            Reason.UPSTREAM_RATE_LIMITED,
            None,
        ),
        (
            chunk(b'{"type":"error","error":{"type":"overloaded_error","message":"m"}}'),
            Reason.UPSTREAM_OVERLOADED,
            None,
        ),
    ],
)
def test_failures_in_the_middle(last: bytes, reason: Reason, retry_after_s: float | None) -> None:
    result = decode(framed(HALF) + last + framed(STREAM))
    assert isinstance(result.failure, UpstreamStatus)
    assert result.failure.reason is reason
    assert result.failure.retry_after_s == retry_after_s
    assert result.text == "Hel"
    assert failure(last).reason is reason


def test_a_broken_frame_ends_the_answer() -> None:
    bent = bytearray(framed(STREAM))
    bent[len(framed(HALF)) - 30] ^= 1
    odd = frame(":event-type", b'{"bytes": 7}', "chunk")
    deep = frame(":event-type", b'{"p": %s%s}' % (b"[" * 99_999, b"]" * 99_999), "chunk")
    middles = [framed(HALF) + middle + framed(STREAM) for middle in (odd, deep)]
    for body in (bytes(bent), *middles, b"no frame at all.", STREAM):
        found = failure(body)
        assert type(found) is RemoteProtocolError
        assert found.reason is Reason.UPSTREAM_PROTOCOL


def test_a_frame_over_the_cap() -> None:
    large = framed(HALF) + chunk(b"x" * MAX_EVENT_BYTES)
    found = collect(run(make(), pieces_of(large, 65536))).failure
    assert type(found) is EventTooLarge


def test_what_is_no_event_of_a_message() -> None:
    assert type(failure(chunk(b"{"))) is RemoteProtocolError
    assert type(failure(chunk(b"[]"))) is RemoteProtocolError


@pytest.mark.parametrize(
    ("status", "name", "message", "reason"),
    [
        (429, "ThrottlingException:http://x", "Too many", Reason.UPSTREAM_RATE_LIMITED),
        (403, "AccessDeniedException", "no", Reason.UPSTREAM_PERMISSION_DENIED),
        (403, "ExpiredTokenException", "no", Reason.UPSTREAM_MISCONFIGURED),
    ],
)
def test_errors_of_responses(status: int, name: str, message: str, reason: Reason) -> None:
    body = orjson.dumps({"message": message})
    codec = make()
    [last] = run(codec, [body], status=status, headers=[("x-amzn-errortype", name)])
    found = getattr(last, "error", None)
    assert isinstance(found, UpstreamStatus)
    assert (found.reason, found.public_message, found.http_status) == (reason, message, status)


# --- requests -------------------------------------------------------------------------------

ASKED = GenerateRequest("m", (Message(Role.USER, (TextPart("hi"),)),))


def encode(quirks: dict[str, Any], model: str, **fields: Any) -> tuple[str, dict[str, str], Any]:
    request = GenerateRequest("m", ASKED.messages, **fields)
    encoded = make(quirks).encode_request(request, model)
    return encoded.path, dict(encoded.headers), orjson.loads(encoded.body)


def test_request_of_bedrock() -> None:
    model = "us.anthropic.claude-haiku-4-5-20251001-v1:0"
    path, headers, body = encode({**BEDROCK, "betas": ["a", "b"]}, model, service_tier="priority")
    encoded = "us.anthropic.claude-haiku-4-5-20251001-v1%3A0"
    assert path == f"/model/{encoded}/invoke-with-response-stream"
    assert headers == {
        "content-type": "application/json",
        "accept": "application/vnd.amazon.eventstream",
        "anthropic-beta": "a,b",
        "x-amzn-bedrock-service-tier": "priority",
    }
    assert body == {
        "anthropic_version": "bedrock-2023-05-31",
        "anthropic_beta": ["a", "b"],
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
    }


def test_an_arn_stays_one_segment() -> None:
    arn = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/x"
    assert encode(BEDROCK, arn)[0] == (
        "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Ainference-profile%2Fx"
        "/invoke-with-response-stream"
    )


@pytest.mark.parametrize(
    ("tier", "sent"),
    [("", None), ("auto", None), ("default", "default"), ("standard", "default"), ("flex", "flex")],
)
def test_tiers_of_bedrock(tier: str, sent: str | None) -> None:
    _, headers, body = encode(BEDROCK, "m", service_tier=tier)
    assert headers.get("x-amzn-bedrock-service-tier") == sent
    assert "service_tier" not in body


@pytest.mark.parametrize(
    ("place", "in_header", "in_body"),
    [("header", True, False), ("body", False, True), ("both", True, True)],
)
def test_where_betas_go(place: str, in_header: bool, in_body: bool) -> None:
    quirks = {**VERTEX, "betas_in": place}
    given = {"extra": {"anthropic_beta": ["mine"]}, "extra_wire": "anthropic_messages"}
    _, headers, body = encode(quirks, "m", **given)
    assert (headers.get("anthropic-beta") == "mine") == in_header
    assert (body.get("anthropic_beta") == ["mine"]) == in_body
    _, headers, body = encode(quirks, "m")
    assert "anthropic-beta" not in headers
    assert "anthropic_beta" not in body


def test_request_of_vertex() -> None:
    path, headers, body = encode(VERTEX, "claude-haiku-4-5@20251001")
    assert path.endswith("/anthropic/models/claude-haiku-4-5@20251001:streamRawPredict")
    assert headers == {"content-type": "application/json", "accept": "text/event-stream"}
    assert body["anthropic_version"] == "vertex-2023-10-16"
    assert body["stream"] is True
    assert "model" not in body


def test_counts() -> None:
    vertex, bedrock, plain = make(VERTEX), make(), make({})
    assert isinstance(vertex, CountsTokens)
    encoded = vertex.encode_count(ASKED, "claude-haiku-4-5@20251001")
    assert encoded is not None
    assert encoded.path.endswith("/models/count-tokens:rawPredict")
    body = orjson.loads(encoded.body)
    assert body["model"] == "claude-haiku-4-5@20251001"
    assert body["anthropic_version"] == "vertex-2023-10-16"
    assert isinstance(bedrock, CountsTokens)
    assert bedrock.encode_count(ASKED, "m") is None
    for nobody in (None, ""):
        silent = make({"count_path": nobody})
        assert isinstance(silent, CountsTokens)
        assert silent.encode_count(ASKED, "m") is None
    assert isinstance(plain, CountsTokens)
    encoded = plain.encode_count(ASKED, "m")
    assert encoded is not None
    assert encoded.path == "/v1/messages/count_tokens"
    assert "anthropic_version" not in orjson.loads(encoded.body)


def test_anthropics_own_door_is_as_it_was() -> None:
    path, headers, body = encode({}, "m", service_tier="default")
    assert path == "/v1/messages"
    assert headers["anthropic-version"] == "2023-06-01"
    assert (body["model"], body["stream"], body["service_tier"]) == ("m", True, "standard_only")


@pytest.mark.parametrize(
    ("quirks", "message"),
    [
        ({"path": "/a/{model}/{model}"}, "'{model}' once at most"),
        ({"count_path": "x"}, "begin with '/'"),
        ({"framing": "ndjson"}, "one of sse, aws_event_stream"),
        ({"betas_in": "query"}, "one of header, body, both"),
        ({"tier_header": "a b"}, "the name of a header"),
        ({"model_in_body": "no"}, "true or false"),
    ],
)
def test_wrong_rows_are_refused_by_name(quirks: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(quirks)
