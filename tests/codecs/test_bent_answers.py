"""Answers bent out of shape, through codec and frontends: nothing raises, all output is readable.

A codec may give events that it should not, and its own tests would not see it: what they break is
the JSON of the shim, or a field of the contract. So what clients are sent is parsed here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rtrelay.v1 import ConverseResponse, OutputOptions

from relay.codecs.anthropic_messages import AnthropicMessagesCodec
from relay.codecs.base import Codec
from relay.codecs.gemini import GeminiCodec
from relay.codecs.ollama import OllamaCodec
from relay.codecs.openai_chat import OpenAIChatCodec
from relay.codecs.openai_responses import ResponsesCodec
from relay.codecs.rate_limit_headers import read_rate_windows
from relay.content import GenerateRequest, ProviderFailed, StreamEvent
from relay.errors import RelayError
from relay.event_size import held_bytes
from relay.frontends.grpc_status import to_status
from relay.frontends.http_errors import error_body, retry_headers
from relay.frontends.proto_out import FrameEncoder
from relay.frontends.surfaces.chat_document import ChatCollector
from relay.frontends.surfaces.chat_stream import ChatChunkEncoder
from tests.fakes.collect import pieces_of
from tests.fakes.ends import end_of
from tests.fakes.odd_json import bodies, streams
from tests.fakes.properties import examples


def _chunk(delta: Any, finish: Any = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish, **more}
    return {"id": "r", "created": 1, "model": "m", "choices": [choice]}


CALL = {"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}
COUNTS = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
OPENAI_CHUNKS = [
    _chunk({"role": "assistant", "content": ""}),
    _chunk({"content": "hi"}),
    _chunk({"content": "hi"}),
    _chunk({"content": [{"type": "text", "text": "a"}, {"type": "thinking", "thinking": []}]}),
    _chunk({"reasoning_content": "hm", "reasoning_details": [{"text": "hm"}]}),
    _chunk({"tool_calls": [{**CALL, "extra_content": {"google": {"thought_signature": "s"}}}]}),
    _chunk({"tool_calls": [{"index": 0, "function": {"arguments": "1"}}]}),
    _chunk({"audio": {"id": "a", "data": "AAAA", "transcript": "t", "expires_at": 1}}),
    _chunk({"refusal": "no"}, logprobs={"content": [{"token": "a", "logprob": -0.1}]}),
    _chunk({}, "stop"),
    _chunk({}, "tool_calls"),
    _chunk({}, "length"),
    {"choices": [], "usage": {**COUNTS, "prompt_tokens_details": {"cached_tokens": 1}}},
    {**_chunk({"content": "a"}, "stop"), "citations": ["u"], "x_groq": {"usage": COUNTS}},
]
OPENAI_DOCUMENTS = [
    {
        "id": "r",
        "choices": [
            {
                "message": {"role": "assistant", "content": "x", "tool_calls": [CALL]},
                "finish_reason": "stop",
            }
        ],
        "usage": COUNTS,
    }
]
OPENAI_ERRORS = [
    {"error": {"message": "m", "type": "t", "code": "c", "param": "p", "innererror": {"code": 1}}},
    {"error": {"message": "m", "code": 429, "metadata": {"raw": '{"error":{"message":"m"}}'}}},
    {"detail": [{"loc": ["body", 0], "msg": "m", "type": "missing"}]},
    {"object": "error", "message": {"detail": [{"msg": "m"}]}, "code": 1},
    [{"error": {"message": "m", "status": "UNAVAILABLE", "code": 503}}],
]

MESSAGE = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": []}
TOKENS = {"input_tokens": 1, "output_tokens": 2, "service_tier": "standard"}


def _block(block: dict[str, Any], index: int = 0) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def _delta(delta: dict[str, Any], index: int = 0) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": delta}


SEARCH = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "q"}}
ANTHROPIC_EVENTS = [
    {"type": "message_start", "message": {**MESSAGE, "usage": TOKENS}},
    {"type": "ping"},
    _block({"type": "text", "text": ""}),
    _delta({"type": "text_delta", "text": "hi"}),
    _delta({"type": "citations_delta", "citation": {"type": "char_location", "url": "u"}}),
    _block({"type": "thinking", "thinking": "", "signature": ""}),
    _delta({"type": "thinking_delta", "thinking": "hm"}),
    _delta({"type": "signature_delta", "signature": "s"}),
    _block({"type": "redacted_thinking", "data": "d"}),
    _block({"type": "tool_use", "id": "c", "name": "f", "input": {"a": 1}}),
    _delta({"type": "input_json_delta", "partial_json": "{}"}),
    _block(SEARCH),
    {"type": "content_block_stop", "index": 0},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None, "container": {"id": "c"}},
        "usage": TOKENS,
    },
    {"type": "message_stop"},
    {"type": "error", "error": {"type": "overloaded_error", "message": "m"}},
]
ANTHROPIC_DOCUMENTS = [
    {
        **MESSAGE,
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "text", "text": "a", "citations": [{"type": "char_location"}]},
            {"type": "tool_use", "id": "c", "name": "f", "input": {"a": 1}},
            SEARCH,
        ],
        "stop_reason": "tool_use",
        "usage": TOKENS,
    }
]
ANTHROPIC_ERRORS = [
    {
        "type": "error",
        "error": {"type": "rate_limit_error", "message": "m", "details": {"error_code": "c"}},
        "request_id": "r",
    },
    *OPENAI_ERRORS,
]


def _candidate(*parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    candidate = {"index": 0, "content": {"role": "model", "parts": list(parts)}, **more}
    return {"candidates": [candidate], "modelVersion": "m", "responseId": "r"}


FUNCTION_CALL = {"functionCall": {"id": "c", "name": "f", "args": {"a": 1}}}
GEMINI_CHUNKS = [
    _candidate({"text": "hi"}),
    _candidate({"text": "hi", "thoughtSignature": "s"}),
    _candidate({"text": "hm", "thought": True, "thoughtSignature": "s"}),
    _candidate({**FUNCTION_CALL, "thoughtSignature": "s"}),
    _candidate({"functionCall": {"name": "f", "willContinue": True}}),
    _candidate(
        {"functionCall": {"partialArgs": [{"jsonPath": "$.a", "stringValue": "b"}]}},
    ),
    _candidate({"inlineData": {"mimeType": "audio/wav", "data": "AAAA"}}),
    _candidate({"executableCode": {"language": "PYTHON", "code": "1"}}),
    _candidate(
        {"text": "a"},
        finishReason="STOP",
        groundingMetadata={"webSearchQueries": ["q"]},
        citationMetadata={"citations": [{"uri": "u"}]},
        logprobsResult={"chosenCandidates": [{"token": "a", "logProbability": -0.1}]},
    ),
    {
        **_candidate({"text": ""}, finishReason="MAX_TOKENS"),
        "usageMetadata": {
            "promptTokenCount": 1,
            "candidatesTokenCount": 2,
            "totalTokenCount": 3,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 1}],
        },
    },
    {"promptFeedback": {"blockReason": "SAFETY"}},
]
GEMINI_ERRORS = [
    {
        "error": {
            "code": 429,
            "message": "m",
            "status": "RESOURCE_EXHAUSTED",
            "details": [
                {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "R"},
                {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1s"},
                {
                    "@type": "type.googleapis.com/google.rpc.BadRequest",
                    "fieldViolations": [{"field": "f"}],
                },
            ],
        }
    },
    *OPENAI_ERRORS,
]

_ITEM = {"id": "i", "type": "message", "role": "assistant", "status": "completed"}
_CALL_ITEM = {"id": "f", "type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
_RESPONSE = {"id": "r", "model": "m", "created_at": 1, "status": "completed", "output": []}
_OUTPUT: list[dict[str, Any]] = [
    {"id": "z", "type": "reasoning", "summary": [], "encrypted_content": "s"},
    {**_ITEM, "content": [{"type": "output_text", "text": "a", "annotations": [{"url": "u"}]}]},
    _CALL_ITEM,
    {"id": "w", "type": "web_search_call", "status": "completed", "action": {"query": "q"}},
]
_WHOLE = {
    **_RESPONSE,
    "output": _OUTPUT,
    "usage": {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
}


def _of_item(kind: str, **more: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}", "output_index": 0, "item_id": "i", **more}


RESPONSES_EVENTS = [
    {"type": "response.created", "response": {**_RESPONSE, "status": "in_progress"}},
    _of_item("output_item.added", item=_ITEM),
    _of_item("content_part.added", content_index=0, part={"type": "output_text", "text": ""}),
    _of_item("output_text.delta", content_index=0, delta="hi", logprobs=[{"token": "a"}]),
    _of_item("output_text.annotation.added", content_index=0, annotation={"url": "u"}),
    _of_item("reasoning_summary_text.delta", summary_index=0, delta="hm"),
    _of_item("output_item.added", item=_CALL_ITEM),
    _of_item("function_call_arguments.delta", delta="{}"),
    _of_item("output_item.done", item=_CALL_ITEM),
    _of_item("output_item.done", item=_OUTPUT[0]),
    _of_item("output_item.done", item=_OUTPUT[3]),
    {"type": "response.completed", "response": _WHOLE},
    {"type": "error", "code": "server_error", "message": "m"},
]
OLLAMA_LINES = [
    {"model": "m", "created_at": "2026-01-01T00:00:00Z", "message": {"content": "hi"}},
    {
        "model": "m",
        "message": {
            "thinking": "hm",
            "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}],
        },
        "logprobs": [{"token": "a"}],
    },
    {"model": "m", "done": True, "done_reason": "stop", "prompt_eval_count": 1, "eval_count": 2},
]

HEADERS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                *("retry-after", "retry-after-ms", "date", "x-ratelimit-reset-requests"),
                *("x-ratelimit-remaining-requests", "x-ratelimit-limit-tokens", "ratelimit-reset"),
            ]
        ),
        st.sampled_from(
            [
                *("1", "-5", "nan", "1e999", "9" * 400, "", "x", "1s", "1h2m", "9" * 30 + "s", "0"),
                *("Mon, 99 Foo 2026", "Thu, 01 Jan 1970 00:00:00 GMT", "2026-01-01T00:00:00Z"),
                *("1767225600", "1767225600000", "Mon, 01 Jan 0001 00:00:00 +9999", "\xff", "-"),
            ]
        )
        | st.text(max_size=12),
    ),
    max_size=4,
)


def decoded(
    make_codec: Callable[[], Codec], pieces: Sequence[bytes], status: int, headers: Any
) -> tuple[list[list[StreamEvent]], RelayError | None, int]:
    """Batches of events, the failure they end in, and how many events were mended."""
    codec = make_codec()
    codec.encode_request(GenerateRequest(model="m", messages=()), "m")
    codec.decode_headers(status, headers)
    read_rate_windows(headers)
    batches: list[list[StreamEvent]] = []
    for piece in [*pieces, None]:
        batch = list(codec.end() if piece is None else codec.feed(piece))
        if batch and isinstance(batch[-1], ProviderFailed):
            failure = batch.pop()
            assert isinstance(failure, ProviderFailed)
            return [*batches, batch], failure.error, codec.mended_events
        batches.append(batch)
        if codec.is_finished and piece is not None:
            batches.append(list(codec.end()))
            break
    return batches, None, codec.mended_events


def check_what_clients_get(batches: Sequence[list[StreamEvent]], error: RelayError | None) -> None:
    """Encode the events for every frontend, and read back what comes of it."""
    encoder = ChatChunkEncoder("m", with_usage=True, with_relay=True)
    collector = ChatCollector("m", with_relay=True)
    wanted = OutputOptions(reasoning=True, tool_arguments=True, extras=True)
    frames = FrameEncoder("g", "r", "t", wanted)
    events = [event for batch in batches for event in batch]
    body = b""
    for batch in batches:
        assert all(held_bytes(event) >= 0 for event in batch)
        if batch:
            body += encoder.encode(batch)
            collector.add(batch)
            for frame in frames.output(batch):
                ConverseResponse.FromString(frame)
    if error is not None:
        assert orjson.loads(error_body(error, "r"))["error"]["message"]
        assert retry_headers(error) is not None
        assert to_status(error).SerializeToString()
    end = end_of(events, error=error)
    body += encoder.encode_end(end)
    document = collector.to_json(end)
    for text in [document, *(part[6:] for part in body.split(b"\n\n") if part)]:
        if text != b"[DONE]":
            assert type(orjson.loads(text)) is dict


@pytest.mark.parametrize(
    ("make_codec", "chunks", "done"),
    [
        pytest.param(OpenAIChatCodec, OPENAI_CHUNKS, b"data: [DONE]\n\n", id="openai_chat"),
        pytest.param(AnthropicMessagesCodec, ANTHROPIC_EVENTS, b"", id="anthropic_messages"),
        pytest.param(GeminiCodec, GEMINI_CHUNKS, b"", id="gemini"),
        pytest.param(ResponsesCodec, RESPONSES_EVENTS, b"", id="openai_responses"),
    ],
)
def test_bent_streams(make_codec: Callable[[], Codec], chunks: list[Any], done: bytes) -> None:
    @given(body=streams(chunks, done), cut=st.sampled_from([1, 7, 1 << 20]))
    @examples(200)
    def check(body: bytes, cut: int) -> None:
        batches, error, mended = decoded(make_codec, pieces_of(body, cut), 200, [])
        assert mended >= 0
        check_what_clients_get(batches, error)

    check()


@pytest.mark.parametrize(
    ("make_codec", "documents"),
    [
        pytest.param(OpenAIChatCodec, OPENAI_DOCUMENTS, id="openai_chat"),
        pytest.param(AnthropicMessagesCodec, ANTHROPIC_DOCUMENTS, id="anthropic_messages"),
        pytest.param(GeminiCodec, GEMINI_CHUNKS, id="gemini"),
        pytest.param(ResponsesCodec, [_WHOLE], id="openai_responses"),
        pytest.param(OllamaCodec, OLLAMA_LINES, id="ollama"),
    ],
)
def test_bent_documents(make_codec: Callable[[], Codec], documents: list[Any]) -> None:
    @given(body=bodies(documents))
    @examples(100)
    def check(body: bytes) -> None:
        batches, error, _ = decoded(make_codec, [body], 200, [])
        check_what_clients_get(batches, error)

    check()


@pytest.mark.parametrize(
    ("make_codec", "errors"),
    [
        pytest.param(OpenAIChatCodec, OPENAI_ERRORS, id="openai_chat"),
        pytest.param(AnthropicMessagesCodec, ANTHROPIC_ERRORS, id="anthropic_messages"),
        pytest.param(GeminiCodec, GEMINI_ERRORS, id="gemini"),
    ],
)
def test_bent_errors(make_codec: Callable[[], Codec], errors: list[Any]) -> None:
    @given(
        body=bodies(errors),
        status=st.sampled_from([200, 302, 400, 401, 404, 429, 500, 503, 529]),
        headers=HEADERS,
    )
    @examples(100)
    def check(body: bytes, status: int, headers: list[tuple[str, str]]) -> None:
        batches, error, _ = decoded(make_codec, [body], status, headers)
        assert status == 200 or error is not None
        check_what_clients_get(batches, error)

    check()
