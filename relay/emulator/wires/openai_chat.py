"""OpenAI Chat Completions and the hosts that are compatible with it.

Order of a stream (wire notes, openai-chat 4): role chunk, content chunks, finish chunk, usage
chunk with empty `choices` if asked for, `[DONE]`. Differences of hosts are data: see `dialects`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import orjson

from relay.emulator.answer import Answer, Asked, Json, Tool, ToolCall, Usage
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
from relay.emulator.wires.dialects import OPENAI, Dialect
from relay.emulator.wires.tool_results import last_results

_HUGE = 10**12


class OpenAIChat:
    """`POST .../chat/completions` in one dialect."""

    def __init__(self, dialect: Dialect = OPENAI) -> None:
        self.name = "openai_chat" if dialect is OPENAI else f"openai_chat/{dialect.name}"
        self.dialect = dialect

    # --- request ----------------------------------------------------------------------------

    def ask(self, path: str, body: Mapping[str, object], size_bytes: int) -> Asked:
        model = body.get("model")
        if not isinstance(model, str) or not model:
            raise BadRequest("you must provide a model parameter")
        messages = as_list(body.get("messages"), "messages")
        options = body.get("stream_options")
        if options is not None and not body.get("stream"):
            raise BadRequest("stream_options is only allowed when stream is true")
        return Asked(
            model=model,
            stream=bool(body.get("stream")),
            prompt=last_user_text(messages),
            results=last_results(messages),
            tools=_tools(body.get("tools")),
            forced_tool=_forced(body.get("tool_choice")),
            max_tokens=as_int(body.get("max_completion_tokens")) or as_int(body.get("max_tokens")),
            n=min(as_int(body.get("n")) or 1, 128),
            include_usage=isinstance(options, dict) and bool(options.get("include_usage")),
            prompt_tokens=estimate_tokens(size_bytes),
            logprobs=bool(body.get("logprobs")),
        )

    # --- heads ------------------------------------------------------------------------------

    def stream_head(self, answer: Answer) -> Headers:
        return [("content-type", self.dialect.stream_type), *self._common(answer)]

    def json_head(self, answer: Answer | None) -> Headers:
        return [("content-type", "application/json"), *(self._common(answer) if answer else [])]

    def _common(self, answer: Answer) -> Headers:
        return [(self.dialect.request_id_header, f"req_{answer.id}"), *self.dialect.headers]

    # --- stream -----------------------------------------------------------------------------

    def events(self, answer: Answer) -> Iterator[Event]:
        events = self._events(answer)
        if self.dialect.crlf:
            return (
                (kind, _crlf(before), None if after is None else _crlf(after))
                for kind, before, after in events
            )
        return events

    def _events(self, answer: Answer) -> Iterator[Event]:
        dialect = self.dialect
        chunk = _ChunkWriter(answer, dialect)
        quirks = answer.quirks
        sent = 0
        for index in range(answer.n):
            yield OPEN, chunk.json(index, _role_delta(answer, dialect), first=True), None
        if dialect.reasoning_field and answer.reasoning:
            pieces = chunk.around_text(dialect.reasoning_field)
            for token in answer.reasoning:
                sent += 1
                yield from chunk.text(pieces, token, sent)
        if not answer.refusal or answer.tokens:
            pieces = chunk.around_text("refusal" if answer.refusal else "content")
            if answer.logprobs:
                yield from chunk.with_logprobs("refusal" if answer.refusal else "content")
            elif answer.n == 1 and not chunk.is_growing:
                yield from _plain_tokens(pieces[0], answer)
            else:
                for token in answer.tokens:
                    sent += 1
                    yield from chunk.text(pieces, token, sent)
        for index in range(answer.n):
            yield from self._tool_events(chunk, index, answer)
        for index in range(answer.n):
            yield FOLLOW, chunk.finish(index), None
            if "finish-twice" in quirks:
                yield FOLLOW, chunk.finish(index), None
        yield from self._usage_events(chunk, answer)
        if dialect.done and "no-done" not in quirks:
            yield FOLLOW, b"data: [DONE]\n\n", None
        if "usage-after-done" in quirks:
            yield FOLLOW, chunk.usage(answer.usage), None

    def _tool_events(self, chunk: _ChunkWriter, choice: int, answer: Answer) -> Iterator[Event]:
        quirks = answer.quirks
        calls = answer.calls
        if not calls:
            return
        if self.dialect.tools_whole or "tools-in-one-chunk" in quirks:
            whole = [_whole_call(k, call, self.dialect) for k, call in enumerate(calls)]
            yield TOKEN, chunk.json(choice, {"tool_calls": whole}), None
            return
        step = 1 if "args-bytewise" in quirks else 6
        for k, call in enumerate(calls):
            # A gap in the indexes: 0, 2, 4, ...
            index = k * 2 + 1 if "index-gap" in quirks else k
            call_id = f"{self.dialect.tool_id_prefix}{call.id}"
            if "split-id" in quirks:
                # The id first, the name a chunk later, as some gateways do.
                start: list[Json] = [
                    {"index": index, "id": call_id, "type": "function", "function": {}},
                    {"index": index, "function": {"name": call.name, "arguments": ""}},
                ]
            else:
                start = [_call_start(index, call_id, call)]
            for k_start, part in enumerate(start):
                kind = TOKEN if k_start == 0 else FOLLOW
                yield kind, chunk.json(choice, {"tool_calls": [part]}), None
            for fragment in call.fragments(step):
                later: Json = {"index": index, "function": {"arguments": fragment}}
                if self.dialect.empty_ids_later:
                    later["id"] = ""
                yield TOKEN, chunk.json(choice, {"tool_calls": [later]}), None

    def _usage_events(self, chunk: _ChunkWriter, answer: Answer) -> Iterator[Event]:
        quirks = answer.quirks
        if "usage-absent" in quirks or self.dialect.usage != "chunk":
            if self.dialect.usage == "repeat-choice":
                yield FOLLOW, chunk.finish(0, with_usage=True), None
            return
        if not (answer.include_usage or self.dialect.usage_always):
            return
        yield FOLLOW, chunk.usage(answer.usage), None
        if "usage-twice" in quirks:
            yield FOLLOW, chunk.usage(answer.usage), None

    # --- whole ------------------------------------------------------------------------------

    def body(self, answer: Answer) -> bytes:
        message: Json = {
            "role": "assistant",
            "content": answer.text if answer.tokens and not answer.refusal else None,
            "refusal": answer.text if answer.refusal else None,
            "annotations": [],
        }
        if self.dialect.reasoning_field and answer.reasoning:
            message[self.dialect.reasoning_field] = answer.thought
        if answer.calls:
            message["tool_calls"] = [
                {
                    "id": f"{self.dialect.tool_id_prefix}{call.id}",
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for call in answer.calls
            ]
        whole: Json = {
            "id": f"{self.dialect.id_prefix}{answer.id}",
            "object": "chat.completion",
            "created": answer.created,
            "model": answer.model,
            "choices": [
                {
                    "index": index,
                    "message": message,
                    "logprobs": _logprobs(answer, answer.tokens, answer.logprobs),
                    "finish_reason": answer.finish,
                }
                for index in range(answer.n)
            ],
            "service_tier": "default",
            "system_fingerprint": "fp_emulator",
        }
        if "usage-absent" not in answer.quirks:
            whole["usage"] = usage_object(answer.usage, answer.quirks)
        return self.dialect.before_json + orjson.dumps(whole)

    # --- errors and keep-alive ----------------------------------------------------------------

    def keepalive(self) -> bytes:
        return self.dialect.keepalive

    def error_status(self, failure: Failure) -> int:
        return self.dialect.statuses.get(failure.kind, failure.status)

    def error_body(self, failure: Failure) -> bytes:
        return orjson.dumps(self.dialect.error(self.error_status(failure), failure))

    def error_event(self, failure: Failure) -> bytes:
        error = orjson.dumps(self.dialect.error(self.error_status(failure), failure))
        name = b"event: error\n" if self.dialect.error_event_name else b""
        done = b"data: [DONE]\n\n" if self.dialect.done_after_error else b""
        return name + b"data: " + error + b"\n\n" + done


class _ChunkWriter:
    """Chunks of one answer: everything that stays the same is rendered once."""

    def __init__(self, answer: Answer, dialect: Dialect) -> None:
        self._answer = answer
        self._dialect = dialect
        base: Json = {
            "id": f"{dialect.id_prefix}{answer.id}",
            "object": "chat.completion.chunk",
            "created": answer.created,
            "model": answer.model,
            **dialect.chunk_fields,
        }
        self._head = b"data: " + orjson.dumps(base)[:-1] + b',"choices":['
        self.is_growing = "usage-growing" in answer.quirks or dialect.usage == "every"
        null = b',"usage":null' if answer.include_usage else b""
        padding = dialect.padding
        self._tail = b"]" + null + padding + b"}\n\n"
        self._open_finish = b"" if dialect.finish_absent else b',"finish_reason":null'

    def json(self, index: int, delta: Json, *, first: bool = False) -> bytes:
        """A chunk with any delta, not finished."""
        tail = self._tail
        if first and self._dialect.x_groq:
            tail = tail[:-3] + b',"x_groq":{"id":"req_%b"}}\n\n' % self._answer.id.encode()
        return b'%b{"index":%d,"delta":%b%b}%b' % (
            self._head,
            index,
            orjson.dumps(delta),
            self._open_finish,
            tail,
        )

    def around_text(self, name: str) -> list[tuple[bytes, bytes]]:
        """Per choice, the bytes before and after a text token."""
        lead = b'"role":"assistant",' if self._dialect.repeat_role else b""
        key = name.encode()
        return [
            (
                b'%b{"index":%d,"delta":{%b"%b":' % (self._head, index, lead, key),
                b"}" + self._open_finish + b"}" + self._tail,
            )
            for index in range(self._answer.n)
        ]

    def text(self, pieces: Sequence[tuple[bytes, bytes]], token: str, sent: int) -> Iterator[Event]:
        """One token for every choice; `sent` counts tokens for a growing usage."""
        literal = orjson.dumps(token)
        stamped = b" " + literal[1:]
        kind = TOKEN
        for before, after in pieces:
            tail = after
            if self.is_growing:
                so_far = Usage(self._answer.usage.prompt, sent)
                tail = after.removesuffix(self._tail) + self._tail_with_usage(so_far)
            if self._answer.stamp:
                yield kind, before + b'"t=', stamped + tail
            else:
                yield kind, before + literal + tail, None
            kind = FOLLOW

    def with_logprobs(self, name: str) -> Iterator[Event]:
        """All tokens for every choice, each with its log probability."""
        answer = self._answer
        for token, logprob in zip(answer.tokens, answer.logprobs, strict=True):
            value = orjson.dumps(_logprobs(answer, [token], [logprob]))
            kind = TOKEN
            for index in range(answer.n):
                chunk = self.json(index, {name: token})
                yield kind, chunk.replace(b'"delta":', b'"logprobs":%b,"delta":' % value, 1), None
                kind = FOLLOW

    def finish(self, index: int, *, with_usage: bool = False) -> bytes:
        """The chunk with a finish reason."""
        answer, dialect = self._answer, self._dialect
        reason = "length" if "length-after-tool" in answer.quirks else answer.finish
        reason_json = orjson.dumps(reason)
        extra = dialect.finish_fields(reason)
        on_finish = dialect.usage in ("finish", "every") or dialect.x_groq
        on_finish = on_finish and "usage-absent" not in answer.quirks
        tail = self._tail_with_usage(answer.usage) if with_usage or on_finish else self._tail
        if dialect.x_groq:
            usage = orjson.dumps(usage_object(answer.usage, answer.quirks))
            identity = answer.id.encode()
            tail = tail[:-3] + b',"x_groq":{"id":"req_%b","usage":%b}}\n\n' % (identity, usage)
        delta = b'{"role":"assistant","content":""}' if dialect.repeat_role else b"{}"
        return b'%b{"index":%d,"delta":%b,"finish_reason":%b%b}%b' % (
            self._head,
            index,
            delta,
            reason_json,
            extra,
            tail,
        )

    def usage(self, usage: Usage) -> bytes:
        """The chunk without choices."""
        return self._head + self._tail_with_usage(usage)

    def _tail_with_usage(self, usage: Usage) -> bytes:
        return (
            b'],"usage":'
            + orjson.dumps(usage_object(usage, self._answer.quirks))
            + self._dialect.padding
            + b"}\n\n"
        )


def _plain_tokens(piece: tuple[bytes, bytes], answer: Answer) -> Iterator[Event]:
    """The hot path: one choice, and nothing but the text changes from chunk to chunk."""
    before, after = piece
    if answer.stamp:
        before += b'"t='
        for token in answer.tokens:
            yield TOKEN, before, b" " + orjson.dumps(token)[1:] + after
    else:
        for token in answer.tokens:
            yield TOKEN, before + orjson.dumps(token) + after, None


def usage_object(usage: Usage, quirks: frozenset[str]) -> Json:
    """`usage` in the shape of Chat Completions."""
    prompt, completion = usage.prompt, usage.completion
    if "usage-zero" in quirks:
        prompt = completion = 0
    elif "usage-huge" in quirks:
        completion = _HUGE
    elif "usage-negative" in quirks:
        prompt, completion = -prompt, -completion
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": usage.cached, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _logprobs(answer: Answer, tokens: Sequence[str], values: Sequence[float]) -> Json | None:
    if not answer.logprobs:
        return None
    entries = [
        {
            "token": token,
            "logprob": value,
            "bytes": list(token.encode()),
            "top_logprobs": [{"token": token, "logprob": value, "bytes": list(token.encode())}],
        }
        for token, value in zip(tokens, values, strict=True)
    ]
    return {"refusal" if answer.refusal else "content": entries}


def last_user_text(messages: Sequence[object]) -> str:
    """Text of the last user message of a chat."""
    for message in reversed(messages):
        if isinstance(message, dict) and message.get("role") == "user":
            return text_of(message.get("content"))
    return ""


def _role_delta(answer: Answer, dialect: Dialect) -> Json:
    is_tool_turn = bool(answer.calls) and not answer.tokens
    delta: Json = {"role": "assistant", "content": None if is_tool_turn else ""}
    if dialect is OPENAI:
        delta["refusal"] = None
    if dialect.reasoning_field and answer.reasoning:
        delta[dialect.reasoning_field] = ""
    return delta


def _call_start(index: int, call_id: str, call: ToolCall) -> Json:
    return {
        "index": index,
        "id": call_id,
        "type": "function",
        "function": {"name": call.name, "arguments": ""},
    }


def _whole_call(index: int, call: ToolCall, dialect: Dialect) -> Json:
    whole = _call_start(index, f"{dialect.tool_id_prefix}{call.id}", call)
    whole["function"] = {"name": call.name, "arguments": call.arguments}
    return whole


def _tools(value: object) -> list[Tool]:
    tools: list[Tool] = []
    for entry in as_list(value, "tools") if value is not None else []:
        function = as_object(as_object(entry, "tool").get("function", {}), "function")
        schema = function.get("parameters")
        tools.append(Tool(str(function.get("name")), schema if isinstance(schema, dict) else {}))
    return tools


def _forced(choice: object) -> str | None:
    if choice in ("required", "any"):
        return ""
    if isinstance(choice, dict) and isinstance(function := choice.get("function"), dict):
        return str(function.get("name"))
    return None


def _crlf(data: bytes) -> bytes:
    return data.replace(b"\n", b"\r\n")
