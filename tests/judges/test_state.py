"""Provider state goes to a client and comes back, and the provider receives it unchanged.

Each answer is put into the next request of its conversation in three ways: as the events say; as
an OpenAI client does that got it over the shim (its own accumulator, its own message); as a gRPC
client does by the contract. The provider must be sent the same each time. Every answer of the
corpus goes this way, and one of our own for each kind of state, where it is looked at.
"""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState
from rtrelay.v1 import ConverseResponse, OutputOptions, Prompt, Start
from rtrelay.v1 import Message as PbMessage
from rtrelay.v1 import Part as PbPart
from rtrelay.v1 import Role as PbRole

from relay.codecs.base import Codec
from relay.codecs.registry import BUILDERS
from relay.content import (
    GenerateRequest,
    Message,
    RefusalPart,
    Role,
    StreamEvent,
    TextPart,
    ToolCall,
)
from relay.errors import UnsupportedFeature
from relay.frontends.chat_body import to_request
from relay.frontends.proto_in import to_generate_request
from relay.frontends.proto_out import FrameEncoder
from relay.frontends.surfaces.chat_stream import ChatChunkEncoder
from tests.corpus.harness import Wire
from tests.fakes.collect import Collected, collect, run
from tests.fakes.converse_client import Answer
from tests.fakes.wire_corpus import ABSENT, Case
from tests.judges.relayed import end_of
from tests.judges.test_answers import answers
from tests.judges.vendors import openai_client

MODELS = {"gemini": "gemini-3-flash", "anthropic_messages": "claude-sonnet-4-6"}
QUESTION = "And then?"


def merged(values: list[Any]) -> Any:
    """Pieces of an opaque field, as clients put them together: lists grow, objects merge."""
    if all(isinstance(value, list) for value in values):
        return [item for value in values for item in value]
    if all(isinstance(value, dict) for value in values):
        return {key: item for value in values for key, item in value.items()}
    return values[-1]


def opaque_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, list[Any]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    found.pop("logprobs", None)  # of the choice and not of the message
    return {key: merged(values) for key, values in found.items()}


def by_events(result: Collected) -> GenerateRequest:
    """The next request, as the events say."""
    choice = result.choices[0]
    turn = Message(
        Role.ASSISTANT,
        (
            *((TextPart(choice.text),) if choice.text else ()),
            *((RefusalPart(choice.refusal),) if choice.refusal else ()),
        ),
        tool_calls=tuple(
            ToolCall(call.call_id, call.name, call.arguments, extra=call.extra or {})
            for call in choice.tool_calls
        ),
        reasoning=choice.reasoning,
        extra=opaque_of(choice.opaque),
    )
    results = tuple(
        Message(Role.TOOL, (TextPart("done"),), tool_call_id=call.call_id)
        for call in choice.tool_calls
    )
    asked = Message(Role.USER, (TextPart(QUESTION),))
    return GenerateRequest("m", (asked, turn, *results, asked))


def by_shim(events: list[StreamEvent]) -> GenerateRequest:
    """The next request of an OpenAI client that read the stream."""
    encoder = ChatChunkEncoder("m")
    body = b"".join(encoder.encode([event]) for event in events)
    body += encoder.encode_end(end_of(events))
    recording, client = openai_client()
    recording.put(body, "text/event-stream")
    state: ChatCompletionStreamState[None] = ChatCompletionStreamState()
    for chunk in client.chat.completions.create(model="m", messages=[], stream=True):
        state.handle_chunk(chunk)
    message = state.current_completion_snapshot.choices[0].message.to_dict()
    message.pop("parsed", None)
    message["content"] = message.get("content") or None
    calls: Any = message.get("tool_calls") or []
    for call in calls:
        call.get("function", {}).pop("parsed_arguments", None)
    asked = {"role": "user", "content": QUESTION}
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "done"} for call in calls]
    sent = json.dumps({"model": "m", "messages": [asked, message, *results, asked]})
    return to_request(json.loads(sent))


def by_grpc(events: list[StreamEvent]) -> GenerateRequest:
    """The next request of a gRPC client that read the frames."""
    options = OutputOptions(reasoning=True, extras=True)
    frames = FrameEncoder("g", "r", "t", options)
    answer = Answer()
    answer.take(ConverseResponse.FromString(frames.started()))
    extras: list[tuple[str, Any]] = []
    for event in events:
        for frame in frames.output([event]):
            parsed = ConverseResponse.FromString(frame)
            answer.take(parsed)
            if parsed.WhichOneof("frame") == "delta" and parsed.delta.choice == 0:
                extras += [(one.key, json.loads(one.value_json)) for one in parsed.delta.extras]
    answer.take(ConverseResponse.FromString(frames.end(end_of(events), None)))
    calls = [done.call for done in answer.tool_calls.get(0, ())]
    asked = PbMessage(role=PbRole.ROLE_USER, parts=[PbPart(text=QUESTION)])
    turn = PbMessage(
        role=PbRole.ROLE_ASSISTANT,
        parts=[
            *([PbPart(text=answer.text)] if answer.text else []),
            *([PbPart(refusal=refusal)] if (refusal := answer.refusals.get(0)) else []),
        ],
        tool_calls=calls,
        reasoning=answer.reasonings.get(0, ""),
        extra_json=orjson.dumps(opaque_of(extras)),
    )
    results = [
        PbMessage(role=PbRole.ROLE_TOOL, tool_call_id=call.call_id, parts=[PbPart(text="done")])
        for call in calls
    ]
    start = Start(
        generation_id="g2", model="m", prompt=Prompt(messages=[asked, turn, *results, asked])
    )
    start.output.reasoning = True
    return to_generate_request(Start.FromString(start.SerializeToString()), None)


def sent_by(codec: Codec, request: GenerateRequest) -> Any:
    """What the provider is sent, or what is refused."""
    try:
        return json.loads(codec.encode_request(request, MODELS.get(codec.wire, "m")).body)
    except UnsupportedFeature as error:
        return error.feature


def pieces_joined(body: Any) -> Any:
    """The same with each entry of `reasoning_details` in one piece, as OpenAI's client has them and
    OpenRouter takes them."""
    if isinstance(body, list):
        return [pieces_joined(item) for item in body]
    if not isinstance(body, dict):
        return body
    joined = {key: pieces_joined(item) for key, item in body.items()}
    if isinstance(details := joined.get("reasoning_details"), list):
        entries: dict[int, dict[str, Any]] = {}
        for piece in details:
            entry = entries.setdefault(piece["index"], {**piece, "text": ""})
            entry.update({**piece, "text": entry["text"] + (piece.get("text") or "")})
        joined["reasoning_details"] = list(entries.values())
    return joined


# --- every answer of the corpus ------------------------------------------------------------------


def parameters() -> list[Any]:
    found = [pytest.param(wire, case, id=case.name) for wire, case in answers()]
    absent = pytest.param(None, None, marks=pytest.mark.skip(reason=ABSENT), id="no-corpus")
    return found or [absent]


@pytest.mark.corpus
@pytest.mark.parametrize(("wire", "case"), parameters())
def test_next_request_is_the_same_whichever_way(wire: Wire, case: Case) -> None:
    reading = wire.read(case, [case.body])
    choice = reading.result.choices[0]
    if choice.audio or any(call.kind == "custom" for call in choice.tool_calls):
        return  # their clients send them back in words of their own
    wanted = sent_by(wire.codec(case), by_events(reading.result))
    assert sent_by(wire.codec(case), by_grpc(reading.events)) == wanted
    by_client = sent_by(wire.codec(case), by_shim(reading.events))
    assert pieces_joined(by_client) == pieces_joined(wanted)


# --- each kind of state, looked at ---------------------------------------------------------------

SECRET = "c2VjcmV0IG9mIHRoZSBwcm92aWRlcg=="


def _sse(*documents: dict[str, Any], names: bool = False) -> bytes:
    return b"".join(
        (f"event: {one['type']}\n".encode() if names else b"")
        + b"data: "
        + orjson.dumps(one)
        + b"\n\n"
        for one in documents
    )


def _block(index: int, start: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": start},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


SERVER_TOOL = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
ANTHROPIC = _sse(
    {"type": "message_start", "message": {"id": "msg_1", "model": "m", "usage": {}}},
    *_block(
        0,
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "thinking_delta", "thinking": "Let me see."},
        {"type": "signature_delta", "signature": SECRET},
    ),
    *_block(1, {"type": "redacted_thinking", "data": SECRET + "2"}),
    *_block(2, SERVER_TOOL),
    *_block(3, {"type": "text", "text": ""}, {"type": "text_delta", "text": "Sunny."}),
    *_block(
        4,
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}},
        {"type": "input_json_delta", "partial_json": "{}"},
    ),
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {}},
    {"type": "message_stop"},
    names=True,
)

GEMINI = _sse(
    {
        "candidates": [
            {
                "content": {
                    "role": "model",
                    "parts": [
                        {"text": "Sunny.", "thoughtSignature": SECRET},
                        {
                            "functionCall": {"name": "f", "args": {}},
                            "thoughtSignature": SECRET + "2",
                        },
                    ],
                },
                "finishReason": "STOP",
            }
        ]
    }
)

REASONING_ITEM = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [{"type": "summary_text", "text": "Let me see."}],
    "encrypted_content": SECRET,
}
SEARCH_ITEM = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
CALL_ITEM = {
    "type": "function_call",
    "id": "fc_1",
    "call_id": "call_1",
    "name": "f",
    "arguments": "{}",
    "status": "completed",
}
RESPONSE = {
    "id": "resp_1",
    "model": "m",
    "created_at": 1,
    "status": "completed",
    "output": [REASONING_ITEM, SEARCH_ITEM, CALL_ITEM],
}
RESPONSES = _sse(
    {"type": "response.created", "response": {**RESPONSE, "status": "in_progress", "output": []}},
    *(
        {"type": kind, "output_index": at, "item": item}
        for at, item in enumerate((REASONING_ITEM, SEARCH_ITEM, CALL_ITEM))
        for kind in ("response.output_item.added", "response.output_item.done")
    ),
    {"type": "response.completed", "response": RESPONSE},
    names=True,
)

OPENROUTER_DETAILS = [
    {"type": "reasoning.text", "text": "Let me", "index": 0, "format": "anthropic-claude-v1"},
    {"type": "reasoning.encrypted", "data": SECRET, "index": 1, "format": "xai-responses-v1"},
]
CHAT = _sse(
    {
        "id": "c",
        "model": "m",
        "created": 1,
        "choices": [{"index": 0, "delta": {"reasoning_details": OPENROUTER_DETAILS}}],
    },
    {
        "choices": [
            {
                "index": 0,
                "delta": {
                    "tool_calls": [
                        {
                            "index": 0,
                            "id": "call_1",
                            "type": "function",
                            "function": {"name": "f", "arguments": "{}"},
                            "extra_content": {"google": {"thought_signature": SECRET}},
                        }
                    ]
                },
            }
        ]
    },
    {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]},
)

STATES: dict[str, tuple[str, bytes, list[Any]]] = {
    "signed thinking": (
        "anthropic_messages",
        ANTHROPIC,
        [
            {"type": "thinking", "thinking": "Let me see.", "signature": SECRET},
            {"type": "redacted_thinking", "data": SECRET + "2"},
            SERVER_TOOL,
        ],
    ),
    "thought signatures": (
        "gemini",
        GEMINI,
        [
            {"text": "Sunny.", "thoughtSignature": SECRET},
            {"functionCall": {"name": "f", "args": {}}, "thoughtSignature": SECRET + "2"},
        ],
    ),
    "encrypted reasoning": (
        "openai_responses",
        RESPONSES,
        [
            {key: REASONING_ITEM[key] for key in ("type", "id", "summary", "encrypted_content")},
            SEARCH_ITEM,
        ],
    ),
    "reasoning details": (
        "openai_chat",
        CHAT,
        [
            OPENROUTER_DETAILS,
            {"google": {"thought_signature": SECRET}},
        ],
    ),
}
"""Wire, answer, and what must stand in the next request."""


def parts_of(value: Any) -> list[Any]:
    """Every value inside a JSON value, itself included."""
    if isinstance(value, dict):
        return [value, *(part for item in value.values() for part in parts_of(item))]
    if isinstance(value, list):
        return [value, *(part for item in value for part in parts_of(item))]
    return [value]


@pytest.mark.parametrize("name", STATES)
def test_state_goes_back_unchanged(name: str) -> None:
    wire, body, wanted = STATES[name]
    make = BUILDERS[wire]({}, "p")
    events = run(make(), [body])
    result = collect(events)
    assert result.error is None
    for request in (by_events(result), by_shim(events), by_grpc(events)):
        sent = sent_by(make(), request)
        assert isinstance(sent, dict), sent
        found = parts_of(sent)
        for value in wanted:
            assert value in found or any(_holds(part, value) for part in found)


def _holds(part: Any, wanted: Any) -> bool:
    """Whether an object has all of these fields: an id that the relay made may stand beside."""
    if not (isinstance(part, dict) and isinstance(wanted, dict)):
        return bool(part == wanted)
    return wanted.keys() <= part.keys() and all(
        _holds(part[key], value) for key, value in wanted.items()
    )
