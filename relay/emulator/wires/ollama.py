"""Ollama's own surface, `/api/chat`: one JSON document a line, blanks nowhere.

Thinking and text come in pieces, a tool call whole in a line of its own; the last line says `done`
with the counts. A request that says nothing of `stream` wants one. Errors are a text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

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

_FINISHES = {"length": "length"}
"""`stop` for every other reason: it has no more words."""
_HUGE = 10**12
_NS_A_TOKEN = 10_000_000


class OllamaChat:
    """`POST /api/chat`."""

    name = "ollama"

    def ask(self, path: str, body: Mapping[str, object], size_bytes: int) -> Asked:
        model = body.get("model")
        if not isinstance(model, str) or not model:
            raise BadRequest("model is required")
        messages = as_list(body.get("messages"), "messages")
        given = body.get("options")
        options = as_object(given, "options") if given is not None else {}
        return Asked(
            model=model,
            stream=body.get("stream") is not False,
            prompt=last_user_text(messages),
            tools=_tools(body.get("tools")),
            max_tokens=as_int(options.get("num_predict")),
            include_usage=True,
            prompt_tokens=estimate_tokens(size_bytes),
        )

    # --- heads ------------------------------------------------------------------------------

    def stream_head(self, answer: Answer) -> Headers:
        return [("content-type", "application/x-ndjson")]

    def json_head(self, answer: Answer | None) -> Headers:
        return [("content-type", "application/json; charset=utf-8")]

    # --- stream -----------------------------------------------------------------------------

    def events(self, answer: Answer) -> Iterator[Event]:
        head = orjson.dumps(_identity(answer))[:-1] + b',"message":{"role":"assistant",'
        tail = b'},"done":false}\n'
        for token in answer.reasoning:
            yield _token(head + b'"content":"","thinking":', token, tail, answer.stamp)
        for token in answer.tokens:
            yield _token(head + b'"content":', token, tail, answer.stamp)
        calls = [_call(answer, number) for number in range(len(answer.calls))]
        groups = [calls] if "tools-in-one-chunk" in answer.quirks else [[call] for call in calls]
        for group in groups:
            if group:
                line = b'"content":"","tool_calls":' + orjson.dumps(group)
                yield TOKEN, head + line + tail, None
        if "no-done" not in answer.quirks:
            message: Json = {"role": "assistant", "content": ""}
            last = orjson.dumps(_document(answer, message)) + b"\n"
            kind = FOLLOW if answer.reasoning or answer.tokens or calls else OPEN
            for _ in range(2 if "finish-twice" in answer.quirks else 1):
                yield kind, last, None

    # --- whole ------------------------------------------------------------------------------

    def body(self, answer: Answer) -> bytes:
        message: Json = {"role": "assistant", "content": answer.text}
        if answer.reasoning:
            message["thinking"] = answer.thought
        if answer.calls:
            message["tool_calls"] = [_call(answer, number) for number in range(len(answer.calls))]
        return orjson.dumps(_document(answer, message))

    # --- errors and keep-alive ----------------------------------------------------------------

    def keepalive(self) -> bytes:
        # It sends none; a blank line is what changes nothing.
        return b"\n"

    def error_status(self, failure: Failure) -> int:
        return failure.status

    def error_body(self, failure: Failure) -> bytes:
        return orjson.dumps({"error": failure.message})

    def error_event(self, failure: Failure) -> bytes:
        return self.error_body(failure) + b"\n"


def _token(before: bytes, token: str, tail: bytes, is_stamped: bool) -> Event:
    literal = orjson.dumps(token)
    if is_stamped:
        return TOKEN, before + b'"t=', b" " + literal[1:] + tail
    return TOKEN, before + literal + tail, None


def _identity(answer: Answer) -> Json:
    # The moment has nanoseconds there; ours has the request's number, so that no two are the same.
    at = datetime.fromtimestamp(answer.created, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return {"model": answer.model, "created_at": f"{at}.{answer.id[-9:]}Z"}


def _call(answer: Answer, number: int) -> Json:
    call = answer.calls[number]
    function: Json = {
        "index": number,
        "name": call.name,
        "arguments": orjson.loads(call.arguments),
    }
    return {"id": f"call_{call.id}", "function": function}


def _document(answer: Answer, message: Json) -> Json:
    finish = "length" if "length-after-tool" in answer.quirks else answer.finish
    return {
        **_identity(answer),
        "message": message,
        "done": True,
        "done_reason": _FINISHES.get(finish, "stop"),
        **_counts(answer),
    }


def _counts(answer: Answer) -> Json:
    quirks, usage = answer.quirks, answer.usage
    if "usage-absent" in quirks:
        return {}
    prompt, completion = usage.prompt, usage.completion
    if "usage-zero" in quirks:
        prompt = completion = 0
    elif "usage-huge" in quirks:
        completion = _HUGE
    elif "usage-negative" in quirks:
        prompt, completion = -prompt, -completion
    spent_ns = max(0, completion) * _NS_A_TOKEN
    return {
        "total_duration": spent_ns + 3 * _NS_A_TOKEN,
        "load_duration": _NS_A_TOKEN,
        "prompt_eval_count": prompt,
        "prompt_eval_duration": 2 * _NS_A_TOKEN,
        "eval_count": completion,
        "eval_duration": spent_ns,
    }


def _tools(value: object) -> list[Tool]:
    tools: list[Tool] = []
    for entry in as_list(value, "tools") if value is not None else []:
        function = as_object(as_object(entry, "tool").get("function"), "function")
        schema = function.get("parameters")
        tools.append(Tool(str(function.get("name")), schema if isinstance(schema, dict) else {}))
    return tools
