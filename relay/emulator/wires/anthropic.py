"""Anthropic Messages (wire notes, anthropic-messages 3 to 5).

Order of a stream: message_start, per block content_block_start, deltas, content_block_stop, one
ping behind the first start, then message_delta with the stop reason and message_stop.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import orjson

from relay.emulator.answer import Answer, Asked, Json, Tool
from relay.emulator.wires.base import (
    FOLLOW,
    OPEN,
    TOKEN,
    BadRequest,
    Event,
    Failure,
    Headers,
    as_int,
    as_list,
    as_object,
    estimate_tokens,
)
from relay.emulator.wires.openai_chat import last_user_text
from relay.emulator.wires.tool_results import last_results

_STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}
_ERROR_TYPES = {
    "bad_request": "invalid_request_error",
    "context": "invalid_request_error",
    "unprocessable": "invalid_request_error",
    "auth": "authentication_error",
    "billing": "billing_error",
    "permission": "permission_error",
    "not_found": "not_found_error",
    "too_large": "request_too_large",
    "rate": "rate_limit_error",
    "quota": "rate_limit_error",
    "timeout": "timeout_error",
    "request_timeout": "timeout_error",
    "unavailable": "overloaded_error",
    "overloaded": "overloaded_error",
    "conflict": "invalid_request_error",
}
_RESET = "2093-06-08T18:45:44Z"


class AnthropicMessages:
    """`POST /v1/messages`."""

    name = "anthropic_messages"

    def ask(self, path: str, body: Mapping[str, object], size_bytes: int) -> Asked:
        model = body.get("model")
        if not isinstance(model, str) or not model:
            raise BadRequest("model: Field required")
        max_tokens = as_int(body.get("max_tokens"))
        if max_tokens is None:
            raise BadRequest("max_tokens: Field required")
        messages = as_list(body.get("messages"), "messages")
        tools = as_list(body.get("tools") or [], "tools")
        return Asked(
            model=model,
            stream=bool(body.get("stream")),
            prompt=last_user_text(messages),
            results=last_results(messages),
            tools=[_tool(as_object(entry, "tools")) for entry in tools],
            forced_tool=_forced(body.get("tool_choice")),
            max_tokens=max_tokens,
            include_usage=True,
            prompt_tokens=estimate_tokens(size_bytes),
        )

    # --- heads ------------------------------------------------------------------------------

    def stream_head(self, answer: Answer) -> Headers:
        return [("content-type", "text/event-stream; charset=utf-8"), *_common(answer)]

    def json_head(self, answer: Answer | None) -> Headers:
        common = _common(answer) if answer else [("request-id", "req_emulator")]
        return [("content-type", "application/json"), *common]

    # --- stream -----------------------------------------------------------------------------

    def events(self, answer: Answer) -> Iterator[Event]:
        quirks = answer.quirks
        message = {
            **_message(answer),
            "content": [],
            "stop_reason": None,
            "usage": {**_usage(answer), "output_tokens": 1},
        }
        yield OPEN, _frame({"type": "message_start", "message": message}), None
        index = 0
        step = 2 if "index-gap" in quirks else 1
        if answer.reasoning:
            block: Json = {"type": "thinking", "thinking": "", "signature": ""}
            yield from self._text_block(answer, index, block, "thinking", answer.reasoning)
            index += step
        if answer.tokens:
            block = {"type": "text", "text": ""}
            yield from self._text_block(answer, index, block, "text", answer.tokens)
            index += step
        for call in answer.calls:
            start: Json = {
                "type": "tool_use",
                "id": f"toolu_{call.id}",
                "name": call.name,
                "input": {},
            }
            yield from _start(index, start)
            size = 1 if "args-bytewise" in quirks else 6
            for number, fragment in enumerate(["", *call.fragments(size)]):
                delta: Json = {"type": "input_json_delta", "partial_json": fragment}
                yield (TOKEN if number else FOLLOW), _delta(index, delta), None
            yield FOLLOW, _frame({"type": "content_block_stop", "index": index}), None
            index += step
        for _ in range(2 if "finish-twice" in quirks else 1):
            yield FOLLOW, _message_delta(answer), None
        if "usage-twice" in quirks:
            yield FOLLOW, _message_delta(answer), None
        if "no-done" not in quirks:
            yield FOLLOW, _frame({"type": "message_stop"}), None
        if "usage-after-done" in quirks:
            yield FOLLOW, _message_delta(answer), None

    def _text_block(
        self, answer: Answer, index: int, block: Json, field: str, tokens: list[str]
    ) -> Iterator[Event]:
        yield from _start(index, block)
        before = (
            b"event: content_block_delta\n"
            b'data: {"type":"content_block_delta","index":%d,"delta":{"type":"%b_delta","%b":'
            % (index, field.encode(), field.encode())
        )
        after = b"}}\n\n"
        if answer.stamp:
            before += b'"t='
            for token in tokens:
                yield TOKEN, before, b" " + orjson.dumps(token)[1:] + after
        else:
            for token in tokens:
                yield TOKEN, before + orjson.dumps(token) + after, None
        if field == "thinking":
            signature: Json = {"type": "signature_delta", "signature": "ZW11bGF0ZWQgc2lnbmF0dXJl"}
            yield FOLLOW, _delta(index, signature), None
        yield FOLLOW, _frame({"type": "content_block_stop", "index": index}), None

    # --- whole ------------------------------------------------------------------------------

    def body(self, answer: Answer) -> bytes:
        content: list[Json] = []
        if answer.reasoning:
            thinking = {"type": "thinking", "thinking": answer.thought}
            content.append({**thinking, "signature": "ZW11bGF0ZWQgc2lnbmF0dXJl"})
        if answer.tokens:
            content.append({"type": "text", "text": answer.text})
        content += [
            {
                "type": "tool_use",
                "id": f"toolu_{call.id}",
                "name": call.name,
                "input": orjson.loads(call.arguments),
            }
            for call in answer.calls
        ]
        return orjson.dumps(
            {
                **_message(answer),
                "content": content,
                "stop_reason": _stop_reason(answer),
                "usage": _usage(answer),
            }
        )

    # --- errors and keep-alive ----------------------------------------------------------------

    def keepalive(self) -> bytes:
        return b'event: ping\ndata: {"type": "ping"}\n\n'

    def error_status(self, failure: Failure) -> int:
        # The only overload status of this provider is 529.
        return 529 if failure.kind == "unavailable" else failure.status

    def error_body(self, failure: Failure) -> bytes:
        return orjson.dumps({**_error(failure), "request_id": "req_emulator"})

    def error_event(self, failure: Failure) -> bytes:
        return _frame(_error(failure))


def _frame(data: Json) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (str(data["type"]).encode(), orjson.dumps(data))


def _start(index: int, block: Json) -> Iterator[Event]:
    yield (
        OPEN,
        _frame({"type": "content_block_start", "index": index, "content_block": block}),
        None,
    )
    if index == 0:
        yield OPEN, b'event: ping\ndata: {"type": "ping"}\n\n', None


def _delta(index: int, delta: Json) -> bytes:
    return _frame({"type": "content_block_delta", "index": index, "delta": delta})


def _message(answer: Answer) -> Json:
    return {
        "id": f"msg_{answer.id}",
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "stop_sequence": None,
    }


def _message_delta(answer: Answer) -> bytes:
    delta = {"stop_reason": _stop_reason(answer), "stop_sequence": None}
    data: Json = {"type": "message_delta", "delta": delta}
    if "usage-absent" not in answer.quirks:
        data["usage"] = _usage(answer)
    return _frame(data)


def _stop_reason(answer: Answer) -> str:
    if answer.refusal:
        return "refusal"
    if "length-after-tool" in answer.quirks:
        return "max_tokens"
    return _STOP_REASONS[answer.finish]


def _usage(answer: Answer) -> Json:
    usage = answer.usage
    given, cached, output = usage.prompt - usage.cached, usage.cached, usage.completion
    if "usage-zero" in answer.quirks:
        given = cached = output = 0
    elif "usage-huge" in answer.quirks:
        output = 10**12
    elif "usage-negative" in answer.quirks:
        given, output = -given, -output
    return {
        "input_tokens": given,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": output,
    }


def _error(failure: Failure) -> Json:
    details: Json | None = None
    if failure.kind == "quota":
        details = {"error_code": "enforced_spend_limit_reached"}
    kind = _ERROR_TYPES.get(failure.kind, "api_error")
    error = {"details": details, "type": kind, "message": failure.message}
    return {"type": "error", "error": error}


def _common(answer: Answer) -> Headers:
    return [
        ("request-id", f"req_{answer.id}"),
        ("anthropic-ratelimit-requests-limit", "4000"),
        ("anthropic-ratelimit-requests-remaining", "3999"),
        ("anthropic-ratelimit-requests-reset", _RESET),
        # It is there on good answers too (seen in recordings) and means nothing.
        ("retry-after", "12"),
    ]


def _tool(entry: Mapping[str, object]) -> Tool:
    schema = entry.get("input_schema")
    return Tool(str(entry.get("name")), schema if isinstance(schema, dict) else {})


def _forced(choice: object) -> str | None:
    if not isinstance(choice, dict):
        return None
    match choice.get("type"):
        case "any":
            return ""
        case "tool":
            return str(choice.get("name"))
        case _:
            return None
