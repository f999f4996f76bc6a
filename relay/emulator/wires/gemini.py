"""Gemini generateContent and streamGenerateContent (wire notes, gemini 1, 3 and 4).

With `alt=sse` each event is one `data:` line with CRLF ends, no names, no end marker; without it
the stream is one JSON array sent piecewise. JSON has a blank behind each colon. Function calls
come whole, usage is cumulative and in every chunk.
"""

from __future__ import annotations

import json
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
    text_of,
)
from relay.emulator.wires.tool_results import last_results

_FINISHES = {
    "stop": "STOP",
    "length": "MAX_TOKENS",
    "tool_calls": "STOP",
    "content_filter": "SAFETY",
}
_STATUS_NAMES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_STATUSES = {
    "auth": 400,
    "billing": 400,
    "unprocessable": 400,
    "too_large": 400,
    "overloaded": 503,
    "gateway": 503,
}
_TYPE = "type.googleapis.com/google.rpc."


class Gemini:
    """`POST .../models/M:generateContent` and `:streamGenerateContent`."""

    name = "gemini"

    def __init__(self, *, sse: bool = True) -> None:
        self._sse = sse

    def ask(self, path: str, body: Mapping[str, object], size_bytes: int) -> Asked:
        model, _, method = path.partition("?")[0].rpartition("/models/")[2].rpartition(":")
        if method not in ("generateContent", "streamGenerateContent") or not model:
            raise BadRequest(f"unknown method {method}")
        contents = as_list(body.get("contents"), "contents")
        config = body.get("generationConfig", body.get("generation_config"))
        config = as_object(config, "generationConfig") if config is not None else {}
        calling = body.get("toolConfig", body.get("tool_config"))
        return Asked(
            model=model,
            stream=method == "streamGenerateContent",
            prompt=_last_user_text(contents),
            results=last_results(contents),
            tools=_tools(body.get("tools")),
            forced_tool=_forced(calling),
            max_tokens=as_int(config.get("maxOutputTokens")),
            n=min(as_int(config.get("candidateCount")) or 1, 8),
            include_usage=True,
            prompt_tokens=estimate_tokens(size_bytes),
        )

    # --- heads ------------------------------------------------------------------------------

    def stream_head(self, answer: Answer) -> Headers:
        kind = "text/event-stream" if self._sse else "application/json; charset=UTF-8"
        return [("content-type", kind), ("server-timing", "gfet4t7; dur=12")]

    def json_head(self, answer: Answer | None) -> Headers:
        return [("content-type", "application/json; charset=UTF-8")]

    # --- stream -----------------------------------------------------------------------------

    def events(self, answer: Answer) -> Iterator[Event]:
        chunks = self._chunks(answer)
        if self._sse:
            for kind, before, after in chunks:
                head = b"data: " + before
                yield (
                    (kind, head + b"\r\n\r\n", None)
                    if after is None
                    else (kind, head, after + b"\r\n\r\n")
                )
            return
        lead = b"["
        for kind, before, after in chunks:
            yield (
                (kind, lead + before + b"\n", None)
                if after is None
                else (kind, lead + before, after + b"\n")
            )
            lead = b",\r\n"
        yield FOLLOW, b"]", None

    def _chunks(self, answer: Answer) -> Iterator[Event]:
        sent = 0
        for thought, tokens in ((True, answer.reasoning), (False, answer.tokens)):
            flag = b',"thought": true' if thought else b""
            for token in tokens:
                sent += 1
                literal = orjson.dumps(token)
                tail = b'}],"role": "model"},"index": 0}],' + self._trailer(answer, sent, thought)
                if answer.stamp:
                    before = b'{"candidates": [{"content": {"parts": [{"text": "t='
                    yield TOKEN, before, b" " + literal[1:] + flag + tail
                else:
                    before = b'{"candidates": [{"content": {"parts": [{"text": '
                    yield TOKEN, before + literal + flag + tail, None
        calls = [self._call_part(answer, k) for k in range(len(answer.calls))]
        groups = [calls] if "tools-in-one-chunk" in answer.quirks else [[call] for call in calls]
        for group in groups:
            if group:
                yield TOKEN, self._whole_chunk(answer, group, finish=None), None
        for _ in range(2 if "finish-twice" in answer.quirks else 1):
            kind = FOLLOW if sent or calls else OPEN
            yield kind, self._whole_chunk(answer, [{"text": ""}], finish=_finish(answer)), None

    def _trailer(self, answer: Answer, sent: int, thought: bool) -> bytes:
        thoughts = len(answer.reasoning)
        reached = {} if sent <= 1 else _usage_counts(answer, max(0, sent - thoughts), thoughts)
        return _dumps({**_with_usage(answer, reached), **_identity(answer)})[1:]

    def _call_part(self, answer: Answer, number: int) -> Json:
        call = answer.calls[number]
        function = {"name": call.name, "args": orjson.loads(call.arguments), "id": call.id}
        part: Json = {"functionCall": function}
        if number == 0:
            part["thoughtSignature"] = "ZW11bGF0ZWQ="
        return part

    def _whole_chunk(self, answer: Answer, parts: list[Json], finish: str | None) -> bytes:
        candidates: list[Json] = []
        for index in range(answer.n):
            content = {"parts": parts, "role": "model"}
            candidate: Json = {"content": content, "index": index}
            if finish is not None:
                candidate["finishReason"] = finish
            candidates.append(candidate)
        counts = _usage_counts(answer, answer.usage.completion - answer.usage.reasoning)
        return _dumps(
            {"candidates": candidates, **_with_usage(answer, counts), **_identity(answer)}
        )

    # --- whole ------------------------------------------------------------------------------

    def body(self, answer: Answer) -> bytes:
        parts: list[Json] = []
        if answer.reasoning:
            parts.append({"text": answer.thought, "thought": True})
        if answer.tokens:
            parts.append({"text": answer.text})
        parts += [self._call_part(answer, k) for k in range(len(answer.calls))]
        return self._whole_chunk(answer, parts, _finish(answer))

    # --- errors and keep-alive ----------------------------------------------------------------

    def keepalive(self) -> bytes:
        # The provider sends none; a comment is what a proxy in between would add.
        return b": keep-alive\r\n\r\n" if self._sse else b"\r\n"

    def error_status(self, failure: Failure) -> int:
        return _STATUSES.get(failure.kind, failure.status)

    def error_body(self, failure: Failure) -> bytes:
        error = _dumps(self._error(failure))
        return error if self._sse else b"[" + error + b"\n]"

    def error_event(self, failure: Failure) -> bytes:
        error = _dumps(self._error(failure))
        return b"data: " + error + b"\r\n\r\n" if self._sse else error

    def _error(self, failure: Failure) -> Json:
        status = self.error_status(failure)
        error: Json = {
            "code": status,
            "message": failure.message,
            "status": _STATUS_NAMES.get(status, "UNKNOWN"),
        }
        if failure.kind == "auth":
            reason = {"reason": "API_KEY_INVALID", "domain": "googleapis.com"}
            error["details"] = [{"@type": _TYPE + "ErrorInfo", **reason}]
        elif failure.kind == "rate":
            error["details"] = [{"@type": _TYPE + "RetryInfo", "retryDelay": "2s"}]
        elif failure.kind == "quota":
            violation = {"quotaId": "GenerateRequestsPerDayPerProjectPerModel"}
            error["details"] = [{"@type": _TYPE + "QuotaFailure", "violations": [violation]}]
        return {"error": error}


def _dumps(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ": ")).encode()


def _identity(answer: Answer) -> Json:
    return {"modelVersion": answer.model, "responseId": answer.id}


def _finish(answer: Answer) -> str:
    return "MAX_TOKENS" if "length-after-tool" in answer.quirks else _FINISHES[answer.finish]


def _usage_counts(answer: Answer, candidates: int, thoughts: int | None = None) -> Json:
    thoughts = answer.usage.reasoning if thoughts is None else thoughts
    counts: Json = {"candidatesTokenCount": candidates}
    if thoughts:
        counts["thoughtsTokenCount"] = thoughts
    return counts


def _with_usage(answer: Answer, counts: Json) -> Json:
    quirks = answer.quirks
    if "usage-absent" in quirks:
        return {}
    prompt = answer.usage.prompt
    numbers = {name: int(str(value)) for name, value in counts.items()}
    if "usage-zero" in quirks:
        prompt, numbers = 0, dict.fromkeys(numbers, 0)
    elif "usage-huge" in quirks:
        numbers = dict.fromkeys(numbers, 10**12)
    elif "usage-negative" in quirks:
        prompt, numbers = -prompt, {name: -value for name, value in numbers.items()}
    total = prompt + sum(numbers.values())
    usage: Json = {"promptTokenCount": prompt, **numbers, "totalTokenCount": total}
    if answer.usage.cached:
        usage["cachedContentTokenCount"] = answer.usage.cached
    return {"usageMetadata": usage}


def _last_user_text(contents: list[object]) -> str:
    for content in reversed(contents):
        if isinstance(content, dict) and content.get("role", "user") == "user":
            return text_of(content.get("parts"))
    return ""


def _tools(value: object) -> list[Tool]:
    tools: list[Tool] = []
    for group in as_list(value, "tools") if value is not None else []:
        declared = as_object(group, "tool").get("functionDeclarations") or []
        for entry in as_list(declared, "functionDeclarations"):
            function = as_object(entry, "function")
            # Google's own client writes the one name in snake case on Vertex (google-genai 3.6.1).
            schema = (
                function.get("parametersJsonSchema")
                or function.get("parameters_json_schema")
                or function.get("parameters")
            )
            tools.append(
                Tool(str(function.get("name")), schema if isinstance(schema, dict) else {})
            )
    return tools


def _forced(config: object) -> str | None:
    calling = config.get("functionCallingConfig") if isinstance(config, dict) else None
    if not isinstance(calling, dict) or calling.get("mode") != "ANY":
        return None
    names = calling.get("allowedFunctionNames")
    return str(names[0]) if isinstance(names, list) and names else ""
