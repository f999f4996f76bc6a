"""Bedrock's own interface to every model: `POST /model/M/converse[-stream]`.

Shapes are those of botocore's model of the service, which gives no order of events; here it is:
messageStart; for a text its deltas and contentBlockStop (no start); for a tool contentBlockStart,
pieces of its input as text, contentBlockStop; messageStop with the reason; metadata with usage.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import orjson

from relay.emulator import event_stream
from relay.emulator.answer import Answer, Asked, Json, Tool
from relay.emulator.wires.base import (
    FOLLOW,
    OPEN,
    TOKEN,
    BadRequest,
    Event,
    as_int,
    as_list,
    as_object,
    estimate_tokens,
)
from relay.emulator.wires.bedrock import BedrockErrors, model_of, padding
from relay.emulator.wires.openai_chat import last_user_text
from relay.emulator.wires.tool_results import last_results

_STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "content_filtered",
}
_KEYS = frozenset(
    (
        "additionalModelRequestFields",
        "additionalModelResponseFieldPaths",
        "guardrailConfig",
        "inferenceConfig",
        "messages",
        "outputConfig",
        "performanceConfig",
        "promptVariables",
        "requestMetadata",
        "serviceTier",
        "system",
        "toolConfig",
    )
)
_SIGNATURE = "ZW11bGF0ZWQgc2lnbmF0dXJl"


class BedrockConverse(BedrockErrors):
    """A `Wire` whose events are `NAME {json}` until they are sealed into frames."""

    name = "bedrock_converse"

    def ask(self, path: str, body: Mapping[str, object], size_bytes: int) -> Asked:
        if unknown := sorted(set(body) - _KEYS):
            raise BadRequest(f"Malformed input request: extraneous key [{unknown[0]}]")
        messages = as_list(body.get("messages"), "messages")
        _check_turns(messages)
        for entry in as_list(body.get("system") or [], "system"):
            _one_of(as_object(entry, "system"), "system")
        config = as_object(body.get("inferenceConfig") or {}, "inferenceConfig")
        calling = as_object(body.get("toolConfig") or {}, "toolConfig")
        return Asked(
            model=model_of(path),
            stream=path.partition("?")[0].endswith("/converse-stream"),
            prompt=last_user_text(messages),
            results=last_results(messages),
            tools=_tools(calling.get("tools")),
            forced_tool=_forced(calling.get("toolChoice")),
            max_tokens=as_int(config.get("maxTokens")),
            include_usage=True,
            prompt_tokens=estimate_tokens(size_bytes),
        )

    # --- stream -----------------------------------------------------------------------------

    def events(self, answer: Answer) -> Iterator[Event]:
        quirks = answer.quirks
        yield OPEN, _event("messageStart", {"role": "assistant", "p": padding(0)}), None
        index = 0
        step = 2 if "index-gap" in quirks else 1
        if answer.reasoning:
            yield from _texts(
                answer, index, answer.reasoning, b'{"reasoningContent":{"text":', b"}}"
            )
            signed: Json = {"reasoningContent": {"signature": _SIGNATURE}}
            yield FOLLOW, _delta(index, signed), None
            yield FOLLOW, _event("contentBlockStop", {"contentBlockIndex": index}), None
            index += step
        if answer.tokens:
            yield from _texts(answer, index, answer.tokens, b'{"text":', b"}")
            yield FOLLOW, _event("contentBlockStop", {"contentBlockIndex": index}), None
            index += step
        for call in answer.calls:
            start: Json = {"toolUse": {"toolUseId": f"tooluse_{call.id}", "name": call.name}}
            given: Json = {"start": start, "contentBlockIndex": index, "p": padding(index)}
            yield OPEN, _event("contentBlockStart", given), None
            for fragment in call.fragments(1 if "args-bytewise" in quirks else 6):
                yield TOKEN, _delta(index, {"toolUse": {"input": fragment}}), None
            yield FOLLOW, _event("contentBlockStop", {"contentBlockIndex": index}), None
            index += step
        stop = _event("messageStop", {"stopReason": _stop_reason(answer), "p": padding(3)})
        for _ in range(2 if "finish-twice" in quirks else 1):
            yield FOLLOW, stop, None
        if "no-done" not in quirks:
            for _ in range(2 if "usage-twice" in quirks else 1):
                told: Json = {"metrics": {"latencyMs": 512}, "p": padding(5)}
                yield FOLLOW, _event("metadata", {**_usage(answer), **told}), None

    def seal(self, data: bytes) -> bytes:
        """One event as a frame."""
        name, blank, payload = data.partition(b" ")
        return event_stream.event(name.decode(), payload) if blank else data

    # --- whole ------------------------------------------------------------------------------

    def body(self, answer: Answer) -> bytes:
        content: list[Json] = []
        if answer.reasoning:
            thought = {"text": answer.thought, "signature": _SIGNATURE}
            content.append({"reasoningContent": {"reasoningText": thought}})
        if answer.tokens:
            content.append({"text": answer.text})
        for call in answer.calls:
            use = {"toolUseId": f"tooluse_{call.id}", "name": call.name}
            content.append({"toolUse": {**use, "input": orjson.loads(call.arguments)}})
        return orjson.dumps(
            {
                "output": {"message": {"role": "assistant", "content": content}},
                "stopReason": _stop_reason(answer),
                **_usage(answer),
                "metrics": {"latencyMs": 512},
            }
        )


def _texts(
    answer: Answer, index: int, tokens: list[str], opened: bytes, closed: bytes
) -> Iterator[Event]:
    before = b'contentBlockDelta {"contentBlockIndex":%d,"delta":' % index + opened
    for number, token in enumerate(tokens):
        tail = closed + b',"p":"%b"}' % padding(number).encode()
        literal = orjson.dumps(token)
        if answer.stamp:
            yield TOKEN, before + b'"t=', b" " + literal[1:] + tail
        else:
            yield TOKEN, before + literal + tail, None


def _event(name: str, payload: Json) -> bytes:
    return name.encode() + b" " + orjson.dumps(payload)


def _delta(index: int, delta: Json) -> bytes:
    return _event("contentBlockDelta", {"contentBlockIndex": index, "delta": delta, "p": "abcd"})


def _stop_reason(answer: Answer) -> str:
    if answer.refusal:
        return "content_filtered"
    if "length-after-tool" in answer.quirks:
        return "max_tokens"
    return _STOP_REASONS[answer.finish]


def _usage(answer: Answer) -> Json:
    quirks = answer.quirks
    if "usage-absent" in quirks:
        return {}
    usage = answer.usage
    given, cached, output = usage.prompt - usage.cached, usage.cached, usage.completion
    if "usage-zero" in quirks:
        given = cached = output = 0
    elif "usage-huge" in quirks:
        output = 10**12
    elif "usage-negative" in quirks:
        given, output = -given, -output
    counts = {
        "inputTokens": given,
        "outputTokens": output,
        "totalTokens": given + cached + output,
        "cacheReadInputTokens": cached,
        "cacheWriteInputTokens": 0,
    }
    return {"usage": counts}


def _check_turns(messages: list[object]) -> None:
    if not messages:
        raise BadRequest("The model returned the following errors: messages: at least one message")
    for number, entry in enumerate(messages):
        turn = as_object(entry, "messages")
        if turn.get("role") not in ("user", "assistant"):
            raise BadRequest(
                f"messages.{number}.role: Member must satisfy enum value set: [assistant, user]"
            )
        content = as_list(turn.get("content"), "content")
        if not content:
            raise BadRequest(
                f"The content field in the Message object at messages.{number} is empty."
            )
        for block in content:
            _one_of(as_object(block, "content"), f"messages.{number}.content")
    if as_object(messages[0], "messages").get("role") != "user":
        raise BadRequest("A conversation must start with a user message. Try again.")


def _one_of(block: Mapping[str, object], where: str) -> None:
    """A union has exactly one member."""
    if len(block) != 1:
        raise BadRequest(f"{where}: exactly one member of a union must be set, not {len(block)}")
    text = block.get("text")
    if text == "":
        raise BadRequest(f"{where}: The text field in the ContentBlock object is blank.")


def _tools(value: object) -> list[Tool]:
    tools: list[Tool] = []
    for entry in as_list(value, "tools") if value is not None else []:
        given = as_object(entry, "tools")
        if "toolSpec" not in given:
            continue
        spec = as_object(given["toolSpec"], "toolSpec")
        schema = as_object(spec.get("inputSchema"), "inputSchema").get("json")
        tools.append(Tool(str(spec.get("name")), schema if isinstance(schema, dict) else {}))
    return tools


def _forced(choice: object) -> str | None:
    if not isinstance(choice, dict):
        return None
    if "any" in choice:
        return ""
    named = choice.get("tool")
    return str(named.get("name")) if isinstance(named, dict) else None
