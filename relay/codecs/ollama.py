"""Ollama's own surface, `POST /api/chat` (wire `ollama`): one JSON document a line.

A line brings a piece of the text, of the thinking, or whole tool calls; the last one says
`"done": true`, which is the wire's end. `{"error": "text"}` may stand in any line. An answer that
was not streamed is a stream of one line.

How a request is said here (source: Ollama's API reference, recorded traffic, mid 2026): messages
with their texts joined by line ends, `images`, `tool_calls` (arguments as an object) and the
`tool_name` of a result; sampling in
`options` (`num_predict`, `stop`, `seed`, `top_k`, penalties as they are); `response_format` as
`format`; reasoning as `think`, earlier reasoning as `thinking`; `logprobs` and `top_logprobs`. Of
extra `options` and `keep_alive` are passed on. Without tools the model calls none, so `tool_choice:
none` leaves them out.

What this wire cannot say:

    refused by name   n above 1, a forced tool_choice, parallel_tool_calls false; pictures by
                      address, sound, files; tools other than functions, custom calls, arguments of
                      calls that are no JSON object; parts of other wires; of extra logit_bias,
                      modalities beyond text, audio, prediction, functions, function_call,
                      web_search_options
    dropped           `strict` of tools and schemas, names of messages, developer (becomes system),
                      details of pictures, service_tier, user, prompt_cache_key, all other extra

Ollama cuts a conversation that is longer than its context (`options.num_ctx`) without a word.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Final

import msgspec
import orjson

from relay.codecs import lenient_json, openai_errors, openai_usage, quirk_checks
from relay.codecs.base import CodecFactory, EncodedRequest, ErrorDecoder
from relay.codecs.ndjson import NdjsonParser
from relay.codecs.opaque_field import pass_on
from relay.codecs.quirk_checks import read_quirks
from relay.codecs.request_json import (
    CHAT_ONLY,
    dump_body,
    readable_tool,
    refuse_asked,
    said_stops,
    spliced,
    without_marks,
)
from relay.codecs.streamed_body import OVER, StreamedBody
from relay.codecs.tool_calls import ToolCallAssembler
from relay.content import (
    ChoiceFinished,
    Events,
    FinishReason,
    GenerateRequest,
    ImagePart,
    Message,
    OpaquePart,
    ReasoningDelta,
    RefusalPart,
    ResponseInfo,
    Role,
    StreamEvent,
    TextDelta,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
    ToolChoiceMode,
    Usage,
)
from relay.errors import (
    EventTooLarge,
    RemoteProtocolError,
    StreamTruncated,
    UnsupportedFeature,
    UpstreamError,
)

WIRE: Final = "ollama"

FINISH_REASONS: Final[Mapping[str, FinishReason]] = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
}
"""By `done_reason`; `load` and `unload` are words on the model and not on an answer."""

_COUNTS: Final = (
    "prompt_eval_count",
    "eval_count",
    "total_duration",
    "load_duration",
    "prompt_eval_duration",
    "eval_duration",
)
"""Of the last line; together they are this wire's usage object."""

_PASSED: Final = ("keep_alive",)

_THINK: Final[Mapping[str, bool | str]] = {
    "none": False,
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "high",
    "max": "high",
}
"""By effort; models without levels take any of them for true."""


@dataclass(frozen=True, slots=True)
class OllamaQuirks:
    """What differs at one host."""

    path: str = "/api/chat"
    """After the base path."""


class _HotMessage(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A message that is just text."""

    content: str
    role: str = ""


class _HotLine(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A line with a piece of text and nothing else; every other one goes the general way."""

    message: _HotMessage
    model: str = ""
    created_at: str = ""
    done: bool = False


_decode_hot: Final = msgspec.json.Decoder(_HotLine).decode

MAX_MISSES: Final = 4
"""Refusals of that lane in a row, after which an answer is read the general way only."""


class OllamaCodec(StreamedBody):
    """One attempt at one Ollama server."""

    wire: ClassVar[str] = WIRE
    decode_error: ClassVar[ErrorDecoder] = staticmethod(openai_errors.decode_error)
    DOCUMENT_MARKS: ClassVar[tuple[bytes, ...]] = ()

    __slots__ = ("_calls", "_has_info", "_misses", "_provider", "_quirks")

    def __init__(self, quirks: OllamaQuirks | None = None, provider: str = WIRE) -> None:
        super().__init__(NdjsonParser())
        self._quirks = quirks or OllamaQuirks()
        self._provider = provider
        self._calls: ToolCallAssembler | None = None
        self._has_info = False
        self._misses = 0

    def encode_request(self, request: GenerateRequest, model: str) -> EncodedRequest:
        return EncodedRequest(
            path=self._quirks.path,
            headers=[("content-type", "application/json"), ("accept", "application/x-ndjson")],
            body=_BodyBuilder(request, self._provider).build(model),
        )

    # --- lines ------------------------------------------------------------------------------

    def _feed_stream(self, chunk: bytes | memoryview) -> Events:
        events: list[StreamEvent] = []
        try:
            for _, line in self._parser.feed(chunk):
                if self._has_info and self._misses < MAX_MISSES:
                    try:
                        hot = _decode_hot(line)
                    except (msgspec.DecodeError, UnicodeDecodeError):
                        self._misses += 1
                    else:
                        self._misses = 0
                        if not hot.done:
                            if hot.message.content:
                                events.append(TextDelta(hot.message.content))
                            continue
                self._on_line(line, events)
                if self._is_done:
                    self._mode = OVER
                    break
            if self._parser.is_too_large and not self._is_done:
                raise EventTooLarge("a line of the provider's answer is too large")
        except UpstreamError as error:
            events.extend(self._failed(error))
        return events

    def _on_line(self, line: bytes, events: list[StreamEvent]) -> None:
        try:
            document = self._read_lenient(line)
        except ValueError:
            raise RemoteProtocolError("a line of the provider's answer is not JSON") from None
        self._on_document(document, events)

    def _on_tail(self, name: str, data: bytes, events: list[StreamEvent]) -> None:
        try:
            document = self._read_lenient(data)
        except ValueError:
            return  # it was cut
        self._on_document(document, events)

    def _on_document(self, document: Any, events: list[StreamEvent]) -> None:
        if type(document) is not dict:
            raise RemoteProtocolError("a line of the provider's answer is not an object")
        if document.get("error"):
            raise openai_errors.decode_inner_error(document)
        if not self._has_info:
            self._on_info(document, events)
        message = document.get("message")
        if type(message) is dict:
            self._on_message(message, events)
        if logprobs := document.get("logprobs"):
            self.mended_events += not pass_on("logprobs", {"content": logprobs}, events)
        if document.get("done") is True:
            self._on_done(document, events)

    def _on_info(self, document: dict[str, Any], events: list[StreamEvent]) -> None:
        self._has_info = True
        created = document.get("created_at")
        # There is no id; the moment to the nanosecond is the next best for ids of calls.
        self._calls = ToolCallAssembler(0, f"{document.get('model')}/{created}")
        model = document.get("model")
        events.append(ResponseInfo("", model if type(model) is str else "", _epoch_s(created)))

    def _on_message(self, message: dict[str, Any], events: list[StreamEvent]) -> None:
        if (thinking := message.get("thinking")) and type(thinking) is str:
            events.append(ReasoningDelta(thinking))
        if (text := message.get("content")) and type(text) is str:
            events.append(TextDelta(text))
        calls = message.get("tool_calls")
        for call in calls if type(calls) is list else ():
            self._on_call(call, events)

    def _on_call(self, call: Any, events: list[StreamEvent]) -> None:
        """A call comes whole. Its `index`, where there is one, counts no better than we do."""
        function = call.get("function") if type(call) is dict else None
        if type(function) is not dict or self._calls is None:
            raise RemoteProtocolError("a tool call is not an object")
        arguments = function.get("arguments")
        if type(arguments) is not str:
            arguments = lenient_json.dumps(arguments or {}).decode()
            if not arguments:
                raise RemoteProtocolError("the arguments of a tool call cannot be read")
        name, call_id = function.get("name"), call.get("id")
        self._calls.add(
            events,
            index=self._calls.count,
            call_id=call_id if type(call_id) is str else "",
            name=name if type(name) is str else "",
            fragment=arguments,
        )
        self._calls.finish(events, by_length=False)

    def _on_done(self, document: dict[str, Any], events: list[StreamEvent]) -> None:
        raw = document.get("done_reason")
        raw = raw if raw and type(raw) is str else "stop"  # older servers give none
        reason = FINISH_REASONS.get(raw, FinishReason.OTHER)
        if reason is FinishReason.STOP and self._calls is not None and self._calls.count:
            reason = FinishReason.TOOL_CALLS
        events.append(ChoiceFinished(reason, raw))
        if (usage := _usage(document)) is not None:
            events.append(usage)
        self._is_done = True

    # --- the end ----------------------------------------------------------------------------

    def _check_ending(self) -> None:
        if not self._is_done:
            raise StreamTruncated("the provider's answer ended before it was done")


def build_ollama(quirks: Mapping[str, Any], provider: str) -> CodecFactory:
    """`CodecBuilder` of this wire."""
    checked = OllamaQuirks(**read_quirks(quirks, {"path": quirk_checks.path}, provider))
    return lambda: OllamaCodec(checked, provider)


def _usage(document: dict[str, Any]) -> Usage | None:
    raw: dict[str, Any] = {name: document[name] for name in _COUNTS if name in document}
    return openai_usage.normalise(
        # A prompt that was in the cache is not counted by older servers.
        {"prompt_tokens": raw.get("prompt_eval_count"), "completion_tokens": raw.get("eval_count")},
        raw,
    )


def _epoch_s(value: object) -> int:
    """Seconds of an RFC 3339 moment, 0 if it is none."""
    try:
        return max(0, int(datetime.fromisoformat(str(value)).timestamp()))
    except (ValueError, OverflowError, OSError):
        return 0


# --- the request ------------------------------------------------------------------------------


class _BodyBuilder:
    """Collects the body of one request.

    Raises (every method):
        UnsupportedFeature: something this wire cannot say, named.
        InvalidRequest: a schema that is not JSON.
    """

    def __init__(self, request: GenerateRequest, provider: str) -> None:
        self._request = request
        self._provider = provider
        self._name_of_call = {
            call.call_id: call.name for message in request.messages for call in message.tool_calls
        }

    def build(self, model: str) -> bytes:
        request, sampling = self._request, self._request.sampling
        extra = request.extra_on(WIRE)
        self._refuse_the_unsayable()
        fields: dict[str, Any] = {
            "model": model,
            "messages": [self._message(message) for message in request.messages],
            "stream": True,
            "tools": self._tools(request.tool_choice),
            "format": self._format(),
            "think": self._think(),
            "options": self._options() or None,
            "logprobs": sampling.logprobs or None,
            "top_logprobs": sampling.top_logprobs if sampling.logprobs else None,
            **{name: extra[name] for name in _PASSED if name in extra},
        }
        return dump_body({name: value for name, value in fields.items() if value is not None})

    def _refuse(self, feature: str) -> UnsupportedFeature:
        return UnsupportedFeature(feature, self._provider)

    def _refuse_the_unsayable(self) -> None:
        request = self._request
        if request.sampling.choices not in (None, 1):
            raise self._refuse("n")
        if request.tools and request.parallel_tool_calls is False:
            raise self._refuse("parallel_tool_calls")
        refuse_asked(request.extra_on(WIRE), CHAT_ONLY, self._provider)

    def _message(self, message: Message) -> dict[str, Any]:
        role = Role.SYSTEM if message.role is Role.DEVELOPER else message.role
        encoded: dict[str, Any] = {"role": role.value}
        texts: list[str] = []
        images: list[str] = []
        for part in message.parts:
            match part:
                case TextPart() | RefusalPart():
                    texts.append(part.text)
                case ImagePart():
                    if not part.data_base64:
                        raise self._refuse("image parts by address")
                    images.append(part.data_base64)
                case OpaquePart():
                    raise self._refuse(f"a {part.wire} content part")
                case _:
                    kind = type(part).__name__.removesuffix("Part").lower()
                    raise self._refuse(f"{kind} parts")
        encoded["content"] = "\n".join(texts)
        if images:
            encoded["images"] = images
        if message.reasoning and message.role is Role.ASSISTANT:
            encoded["thinking"] = message.reasoning
        if message.tool_calls:
            encoded["tool_calls"] = [self._past_call(call) for call in message.tool_calls]
        if message.role is Role.TOOL and (name := self._name_of_call.get(message.tool_call_id)):
            encoded["tool_name"] = name
        return encoded

    def _past_call(self, call: ToolCall) -> dict[str, Any]:
        if call.kind == "custom":
            raise self._refuse("custom tool calls")
        try:
            arguments = orjson.loads(call.arguments or "{}")
        except orjson.JSONDecodeError:
            arguments = None
        if not isinstance(arguments, dict):
            raise self._refuse("a tool call whose arguments are no JSON object")
        return {"function": {"name": call.name, "arguments": arguments}}

    def _tools(self, choice: ToolChoice | None) -> list[dict[str, Any]] | None:
        mode = choice.mode if choice is not None else ToolChoiceMode.AUTO
        if mode not in (ToolChoiceMode.AUTO, ToolChoiceMode.NONE):
            raise self._refuse("forced tool_choice")
        if mode is ToolChoiceMode.NONE:
            return None
        return [self._tool(tool, at) for at, tool in enumerate(self._request.tools)] or None

    def _tool(self, tool: Tool, at: int) -> dict[str, Any]:
        tool = readable_tool(tool, WIRE, self._provider)
        if tool.opaque is not None:
            if tool.opaque.get("type") != "function":
                raise self._refuse("tools other than functions")
            return without_marks(tool.opaque)
        function: dict[str, Any] = {"name": tool.name, "description": tool.description}
        function["parameters"] = (
            spliced(tool.parameters_json, f"tools[{at}].parameters")
            if tool.parameters_json
            else {"type": "object", "properties": {}}
        )
        return {"type": "function", "function": function}

    def _format(self) -> Any:
        wanted = self._request.response_format
        if wanted is None or wanted.kind == "text":
            return None
        if wanted.kind == "json_schema" and wanted.schema_json:
            return spliced(wanted.schema_json, "response_format.json_schema.schema")
        return "json"

    def _think(self) -> bool | str | None:
        options = self._request.reasoning
        if options.effort:
            return _THINK.get(options.effort, True)
        return None if options.budget_tokens is None else options.budget_tokens > 0

    def _options(self) -> dict[str, Any]:
        sampling, given = self._request.sampling, self._request.extra_on(WIRE).get("options")
        typed = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "num_predict": sampling.max_output_tokens,
            "stop": said_stops(sampling) or None,
            "seed": sampling.seed,
            "presence_penalty": sampling.presence_penalty,
            "frequency_penalty": sampling.frequency_penalty,
        }
        return {
            **(given if isinstance(given, Mapping) else {}),
            **{name: value for name, value in typed.items() if value is not None},
        }
