"""OpenAI Responses (wire notes, openai-responses): named events with a growing sequence number."""

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
from relay.emulator.wires.dialects import OPENAI, openai_error
from relay.emulator.wires.openai_chat import last_user_text, usage_object
from relay.emulator.wires.tool_results import last_results

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
_ERROR_SEQUENCE = 900_000
"""An error event does not know how many came before it; its number only has to be larger."""


class OpenAIResponses:
    """`POST /v1/responses`."""

    name = "openai_responses"

    def ask(self, path: str, body: Mapping[str, object], size_bytes: int) -> Asked:
        model = body.get("model")
        if not isinstance(model, str) or not model:
            raise BadRequest("Missing required parameter: 'model'.")
        given = body.get("input")
        if not isinstance(given, str | list):
            raise BadRequest("Missing required parameter: 'input'.")
        return Asked(
            model=model,
            stream=bool(body.get("stream")),
            prompt=given if isinstance(given, str) else last_user_text(given),
            results=() if isinstance(given, str) else last_results(given),
            tools=_tools(body.get("tools")),
            forced_tool=_forced(body.get("tool_choice")),
            max_tokens=as_int(body.get("max_output_tokens")),
            include_usage=True,
            prompt_tokens=estimate_tokens(size_bytes),
        )

    # --- heads ------------------------------------------------------------------------------

    def stream_head(self, answer: Answer) -> Headers:
        return [("content-type", "text/event-stream; charset=utf-8"), *_common(answer)]

    def json_head(self, answer: Answer | None) -> Headers:
        return [("content-type", "application/json"), *(_common(answer) if answer else [])]

    # --- stream -----------------------------------------------------------------------------

    def events(self, answer: Answer) -> Iterator[Event]:
        writer = _EventWriter()
        started = _response(answer, "in_progress", [])
        yield OPEN, writer.event("response.created", {"response": started}), None
        yield OPEN, writer.event("response.in_progress", {"response": started}), None
        items = _items(answer)
        for index, item in enumerate(items):
            place: Json = {"output_index": index}
            empty = _emptied(item)
            yield OPEN, writer.event("response.output_item.added", {**place, "item": empty}), None
            place = {"item_id": item["id"], **place}
            match item["type"]:
                case "reasoning":
                    place["summary_index"] = 0
                    yield from _summary(writer, place, answer)
                case "function_call":
                    yield from _arguments(writer, place, str(item["arguments"]), answer)
                case _:
                    place["content_index"] = 0
                    yield from _text(writer, place, answer)
            done = {"output_index": index, "item": item}
            yield FOLLOW, writer.event("response.output_item.done", done), None
        status = "incomplete" if answer.finish in _INCOMPLETE else "completed"
        whole: Json = {"response": _response(answer, status, items)}
        if "no-done" not in answer.quirks:
            for _ in range(2 if "finish-twice" in answer.quirks else 1):
                yield FOLLOW, writer.event(f"response.{status}", whole), None

    # --- whole ------------------------------------------------------------------------------

    def body(self, answer: Answer) -> bytes:
        status = "incomplete" if answer.finish in _INCOMPLETE else "completed"
        return orjson.dumps(_response(answer, status, _items(answer)))

    # --- errors and keep-alive ----------------------------------------------------------------

    def keepalive(self) -> bytes:
        return b": keep-alive\n\n"

    def error_status(self, failure: Failure) -> int:
        return 400 if failure.kind == "not_found" else failure.status

    def error_body(self, failure: Failure) -> bytes:
        return orjson.dumps(openai_error(failure.status, failure))

    def error_event(self, failure: Failure) -> bytes:
        error = openai_error(failure.status, failure)["error"]
        code = "rate_limit_exceeded" if failure.kind == "rate" else "server_error"
        code = "insufficient_quota" if failure.kind == "quota" else code
        failed = {"code": code, "message": failure.message}
        response = {"object": "response", "status": "failed", "error": failed, "output": []}
        writer = _EventWriter(_ERROR_SEQUENCE)
        return writer.event("error", {"error": error}) + writer.event(
            "response.failed", {"response": response}
        )


class _EventWriter:
    """Numbers and frames events."""

    def __init__(self, first: int = 0) -> None:
        self._next = first

    def event(self, kind: str, fields: Json) -> bytes:
        number, self._next = self._next, self._next + 1
        data = orjson.dumps({"type": kind, "sequence_number": number, **fields})
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)

    def deltas(self, kind: str, place: Json, pieces: list[str], *, stamp: bool) -> Iterator[Event]:
        """One event per piece; `delta` comes last, so that a stamp can go into it."""
        name = kind.encode()
        fields = orjson.dumps(place)[1:-1]
        for piece in pieces:
            number, self._next = self._next, self._next + 1
            before = b'event: %b\ndata: {"type":"%b","sequence_number":%d,%b,"delta":' % (
                name,
                name,
                number,
                fields,
            )
            literal = orjson.dumps(piece)
            if stamp:
                yield TOKEN, before + b'"t=', b" " + literal[1:] + b"}\n\n"
            else:
                yield TOKEN, before + literal + b"}\n\n", None


def _text(writer: _EventWriter, place: Json, answer: Answer) -> Iterator[Event]:
    kind = "refusal" if answer.refusal else "output_text"
    field = "refusal" if answer.refusal else "text"
    empty = {"type": kind, field: "", **({} if answer.refusal else {"annotations": []})}
    full = {**empty, field: answer.text}
    yield OPEN, writer.event("response.content_part.added", {**place, "part": empty}), None
    yield from writer.deltas(f"response.{kind}.delta", place, answer.tokens, stamp=answer.stamp)
    yield FOLLOW, writer.event(f"response.{kind}.done", {**place, field: answer.text}), None
    yield FOLLOW, writer.event("response.content_part.done", {**place, "part": full}), None


def _summary(writer: _EventWriter, place: Json, answer: Answer) -> Iterator[Event]:
    name = "response.reasoning_summary"
    empty = {"type": "summary_text", "text": ""}
    full = {"type": "summary_text", "text": answer.thought}
    yield OPEN, writer.event(f"{name}_part.added", {**place, "part": empty}), None
    yield from writer.deltas(f"{name}_text.delta", place, answer.reasoning, stamp=answer.stamp)
    yield FOLLOW, writer.event(f"{name}_text.done", {**place, "text": answer.thought}), None
    yield FOLLOW, writer.event(f"{name}_part.done", {**place, "part": full}), None


def _arguments(
    writer: _EventWriter, place: Json, arguments: str, answer: Answer
) -> Iterator[Event]:
    size = 1 if "args-bytewise" in answer.quirks else 6
    pieces = [arguments[at : at + size] for at in range(0, len(arguments), size)]
    name = "response.function_call_arguments"
    yield from writer.deltas(f"{name}.delta", place, pieces, stamp=False)
    yield FOLLOW, writer.event(f"{name}.done", {**place, "arguments": arguments}), None


def _items(answer: Answer) -> list[Json]:
    items: list[Json] = []
    if answer.reasoning:
        summary = [{"type": "summary_text", "text": answer.thought}]
        items.append({"id": f"rs_{answer.id}", "type": "reasoning", "summary": summary})
    if answer.tokens:
        part: Json = {"type": "output_text", "text": answer.text, "annotations": []}
        if answer.refusal:
            part = {"type": "refusal", "refusal": answer.text}
        items.append(
            {
                "id": f"msg_{answer.id}",
                "type": "message",
                "status": "completed",
                "role": "assistant",
                "content": [part],
            }
        )
    items += [
        {
            "id": f"fc_{call.id}",
            "type": "function_call",
            "status": "completed",
            "call_id": f"call_{call.id}",
            "name": call.name,
            "arguments": call.arguments,
        }
        for call in answer.calls
    ]
    return items


def _emptied(item: Json) -> Json:
    empty: Json = {"status": "in_progress"} if "status" in item else {}
    for name, blank in (("content", []), ("summary", []), ("arguments", "")):
        if name in item:
            empty[name] = blank
    return {**item, **empty}


def _response(answer: Answer, status: str, output: list[Json]) -> Json:
    reason = _INCOMPLETE.get(answer.finish) if status == "incomplete" else None
    usage = None if status == "in_progress" or "usage-absent" in answer.quirks else _usage(answer)
    return {
        "id": f"resp_{answer.id}",
        "object": "response",
        "created_at": answer.created,
        "status": status,
        "error": None,
        "incomplete_details": {"reason": reason} if reason else None,
        "model": answer.model,
        "output": output,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": usage,
    }


def _usage(answer: Answer) -> Json:
    chat = usage_object(answer.usage, answer.quirks)
    return {
        "input_tokens": chat["prompt_tokens"],
        "input_tokens_details": {"cached_tokens": answer.usage.cached, "cache_write_tokens": 0},
        "output_tokens": chat["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": answer.usage.reasoning},
        "total_tokens": chat["total_tokens"],
    }


def _common(answer: Answer) -> Headers:
    return [("x-request-id", f"req_{answer.id}"), *OPENAI.headers]


def _tools(value: object) -> list[Tool]:
    tools: list[Tool] = []
    for entry in as_list(value, "tools") if value is not None else []:
        function = as_object(entry, "tool")
        schema = function.get("parameters")
        tools.append(Tool(str(function.get("name")), schema if isinstance(schema, dict) else {}))
    return tools


def _forced(choice: object) -> str | None:
    if choice == "required":
        return ""
    return str(choice.get("name")) if isinstance(choice, dict) and choice.get("name") else None
