"""Chat Completions as OpenAI and every compatible host speak it (wire `openai_chat`).

Strategy: sending follows the provider's quirks (`openai_chat_request`); reading follows one
liberal set of rules for everybody, the ten of `wire/openai-compatible.md`, since gateways pass
on the oddities of whatever stands behind them:

- the body's first byte says what it is (`{` a whole document, `<` markup, else an event
  stream), not its content type, which proxies get wrong;
- `choices`, `delta` and `finish_reason` may be missing, null or empty anywhere; a `message` is
  read like one big delta;
- an error anywhere ends in `ProviderFailed`, whatever the status and whatever came before;
- the first finish reason of a choice counts, and reading goes on after it;
- the end is clean with a finish reason for every choice, `[DONE]` or not; `[DONE]` without
  them is not.

The chunk that is just text has a lane of its own (`openai_hot_chunk`). What it costs is measured
by `bench/micro/codec.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

import msgspec
import orjson

from relay.codecs import lenient_json, openai_errors, openai_hot_chunk, openai_usage
from relay.codecs.base import CodecFactory, EncodedRequest
from relay.codecs.error_text import looks_like_markup
from relay.codecs.openai_chat_request import WIRE, encode_body
from relay.codecs.openai_quirks import OpenAIChatQuirks
from relay.codecs.tool_calls import ToolCallAssembler
from relay.content import (
    AudioDelta,
    ChoiceFinished,
    Events,
    FinishReason,
    GenerateRequest,
    OpaqueDelta,
    ProviderFailed,
    ReasoningDelta,
    RefusalDelta,
    ResponseInfo,
    StreamEvent,
    TextDelta,
)
from relay.errors import (
    EventTooLarge,
    Reason,
    RemoteProtocolError,
    StreamTruncated,
    UpstreamError,
    UpstreamStatus,
)
from relay.sse import MAX_EVENT_BYTES, SseParser

MAX_CHOICES: Final = 128
"""OpenAI's own limit of `n`."""

MAX_ERROR_BYTES: Final = 64 * 1024
"""Of an error body; the rest is dropped."""

# --- finish reasons -------------------------------------------------------------------------

FINISH_REASONS: Final[Mapping[str, FinishReason]] = {
    "stop": FinishReason.STOP,
    "eos": FinishReason.STOP,  # Together, older
    "end_turn": FinishReason.STOP,  # gateways that forget to translate
    "stop_sequence": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "model_length": FinishReason.LENGTH,  # Mistral: the context is full
    "max_tokens": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "tool_use": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
    "sensitive": FinishReason.CONTENT_FILTER,  # Z.ai
    "safety": FinishReason.CONTENT_FILTER,
    "refusal": FinishReason.CONTENT_FILTER,
}

# Finish reasons that are failures: the answer is broken off, so that a clean end would pass off
# half a sentence as the whole, and before the first content another provider can take over.
FAILED_FINISHES: Final[Mapping[str, Reason]] = {
    "error": Reason.UPSTREAM_FAILED,  # OpenRouter, Mistral
    "abort": Reason.UPSTREAM_FAILED,  # vLLM
    "network_error": Reason.UPSTREAM_FAILED,  # Z.ai
    "insufficient_system_resource": Reason.UPSTREAM_OVERLOADED,  # DeepSeek
}

# --- fields passed on unread ------------------------------------------------------------------

_OPAQUE_DELTA_FIELDS: Final = (
    "reasoning_details",  # OpenRouter; must go back unchanged in tool loops
    "annotations",  # OpenAI web search, non-stream
    "function_call",  # what came before tool calls
    "extra_content",  # Google's compatible endpoint: thought signatures
    "images",  # OpenRouter
)
_OPAQUE_TOP_FIELDS: Final = ("citations", "search_results")  # Perplexity, growing

# How the body is read.
_SNIFFING: Final = 0
_STREAM: Final = 1
_DOCUMENT: Final = 2
_ERROR: Final = 3
_OVER: Final = 4


class _Choice:
    """What is known of one alternative."""

    __slots__ = ("has_output", "is_finished", "tool_calls")

    def __init__(self) -> None:
        self.is_finished = False
        self.has_output = False
        self.tool_calls: ToolCallAssembler | None = None


class OpenAIChatCodec:
    """One attempt at one OpenAI-compatible provider.

    A choice with tool calls that ends with `stop` (OpenAI with a named tool choice, vLLM) is
    reported as TOOL_CALLS; `raw_reason` keeps the provider's word.
    """

    wire: ClassVar[str] = WIRE

    __slots__ = (
        "_asked_choices",
        "_body",
        "_choices",
        "_failed_finish",
        "_has_info",
        "_headers",
        "_hot_misses",
        "_id_seed",
        "_is_done",
        "_last_opaque",
        "_mode",
        "_parser",
        "_provider",
        "_quirks",
        "_status",
    )

    def __init__(self, quirks: OpenAIChatQuirks | None = None, provider: str = WIRE) -> None:
        self._quirks = quirks or OpenAIChatQuirks()
        self._provider = provider
        self._asked_choices = 1
        self._mode = _SNIFFING
        self._status = 200
        self._headers: list[tuple[str, str]] = []
        self._parser = SseParser()
        self._body = bytearray()  # sniffed bytes, a document or an error
        self._choices: dict[int, _Choice] = {}
        self._has_info = False
        self._hot_misses = 0
        self._id_seed = ""
        self._last_opaque: dict[str, Any] = {}
        self._failed_finish: UpstreamStatus | None = None
        self._is_done = False

    # --- the Codec protocol -----------------------------------------------------------------

    def encode_request(self, request: GenerateRequest, model: str) -> EncodedRequest:
        self._asked_choices = request.sampling.choices or 1
        return EncodedRequest(
            path=self._quirks.path,
            headers=[("content-type", "application/json"), ("accept", "text/event-stream")],
            body=encode_body(request, model, self._quirks, self._provider),
        )

    def decode_headers(self, status: int, headers: list[tuple[str, str]]) -> None:
        self._status = status
        if status >= 300:
            self._mode = _ERROR
            self._headers = headers

    def feed(self, chunk: bytes | memoryview) -> Events:
        if self._mode == _STREAM:
            return self._feed_stream(chunk)
        if self._mode == _SNIFFING:
            return self._sniff(chunk)
        if self._mode == _DOCUMENT:
            if len(self._body) + len(chunk) > MAX_EVENT_BYTES:
                return self._failed(EventTooLarge("the provider's answer is too large"))
            self._body += chunk
        elif self._mode == _ERROR:
            self._body += chunk[: MAX_ERROR_BYTES - len(self._body)]
        return ()

    def end(self) -> Events:
        mode, events = self._mode, []  # type: int, list[StreamEvent]
        if mode == _OVER:
            return ()
        if mode == _ERROR:
            body = bytes(self._body)
            return self._failed(openai_errors.decode_error(self._status, self._headers, body))
        try:
            if mode == _DOCUMENT:
                self._on_document(self._whole_document(), events, is_whole=True)
            elif mode == _STREAM and (tail := self._parser.end()) is not None:
                self._on_tail(*tail, events)
            self._check_ending()
        except UpstreamError as error:
            events.extend(self._failed(error))
        self._mode = _OVER
        return events

    @property
    def is_finished(self) -> bool:
        return self._is_done

    # --- which kind of body -----------------------------------------------------------------

    def _sniff(self, chunk: bytes | memoryview) -> Events:
        self._body += chunk
        head = self._body.removeprefix(b"\xef\xbb\xbf").lstrip()
        if not head:
            # DeepSeek and OpenRouter send blank lines while a request waits: drop them.
            if not b"\xef\xbb\xbf".startswith(self._body):
                self._body.clear()
            return ()
        if b"\xef\xbb\xbf".startswith(head):
            return ()
        if looks_like_markup(head):
            error = "the provider answered with markup instead of a completion"
            return self._failed(RemoteProtocolError(error))
        self._body.clear()
        self._mode = _DOCUMENT if head.startswith((b"{", b"[")) else _STREAM
        return self.feed(bytes(head))

    # --- an event stream --------------------------------------------------------------------

    def _feed_stream(self, chunk: bytes | memoryview) -> Events:
        events: list[StreamEvent] = []
        parser = self._parser
        try:
            for name, data in parser.feed(chunk):
                if (
                    self._hot_misses < openai_hot_chunk.MAX_MISSES
                    and not name
                    and self._on_hot_chunk(data, events)
                ):
                    continue
                if data[0] == 0x5B and data.startswith(b"[DONE"):
                    self._on_done()
                    break
                try:
                    document = orjson.loads(data)
                except orjson.JSONDecodeError:
                    document = self._odd_data(name, data)
                if name == "error":
                    raise openai_errors.decode_inner_error(document)
                self._on_document(document, events)
                if self._is_done:
                    self._on_done()
                    break
            if parser.is_too_large and not self._is_done:
                raise EventTooLarge("an event of the provider's stream is too large")
        except UpstreamError as error:
            events.extend(self._failed(error))
        return events

    def _on_hot_chunk(self, data: bytes, events: list[StreamEvent]) -> bool:
        """Take the chunk if it is just text for a choice that we know."""
        try:
            entry = openai_hot_chunk.decode(data).choices[0]
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._hot_misses += 1
            return False
        choice = self._choices.get(entry.index)
        if choice is None:
            return False
        self._hot_misses = 0
        if content := entry.delta.content:
            choice.has_output = True
            events.append(TextDelta(content, entry.index))
        return True

    def _odd_data(self, name: str, data: bytes) -> Any:
        """A value for data that is not plain JSON.

        Raises:
            RemoteProtocolError: there is no way to read it.
        """
        data = data.strip()
        if data.startswith(b"[DONE"):
            self._is_done = True
            return None
        head, found, _ = data.rpartition(b"\n[DONE")
        if found:
            # `[DONE]` glued to the last event for want of a blank line.
            self._is_done = True
            data = head
        try:
            return lenient_json.loads(data)
        except ValueError:
            if name == "error" or name not in ("", "data"):
                return None
            raise RemoteProtocolError("an event of the provider's stream is not JSON") from None

    def _on_tail(self, name: str, data: bytes, events: list[StreamEvent]) -> None:
        """The last event, without its blank line: whole if it is JSON, else it was cut."""
        if data.startswith(b"[DONE"):
            self._is_done = True
            return
        try:
            document = self._odd_data(name, data)
        except RemoteProtocolError:
            return
        if name == "error":
            raise openai_errors.decode_inner_error(document)
        self._on_document(document, events)

    def _on_done(self) -> None:
        self._is_done = True
        self._check_ending()
        self._mode = _OVER

    # --- one document: a chunk or a whole completion ------------------------------------------

    def _whole_document(self) -> Any:
        try:
            return lenient_json.loads(bytes(self._body))
        except ValueError:
            raise StreamTruncated("the provider's answer is not a whole JSON document") from None

    def _on_document(
        self, document: Any, events: list[StreamEvent], *, is_whole: bool = False
    ) -> None:
        if type(document) is not dict:
            self._on_non_object(document)
            return
        choices = document.get("choices")
        if not self._has_info and (choices or document.get("id") or document.get("model")):
            self._on_info(document, events)
        if choices:
            if type(choices) is not list:
                raise RemoteProtocolError("`choices` is not a list")
            for entry in choices:
                self._on_choice(entry, events, is_whole)
        usage = document.get("usage")
        if not usage and (groq := document.get("x_groq")) and type(groq) is dict:
            usage = groq.get("usage")
        if usage and type(usage) is dict and (counts := openai_usage.normalise(usage)):
            events.append(counts)
        for key in _OPAQUE_TOP_FIELDS:
            if (value := document.get(key)) and value != self._last_opaque.get(key):
                self._last_opaque[key] = value
                events.append(OpaqueDelta(key, lenient_json.dumps(value)))
        if document.get("error"):
            raise openai_errors.decode_inner_error(document)
        if self._failed_finish is not None:
            raise self._failed_finish
        if not choices and (
            document.get("object") == "error" or document.get("type") == "error" or is_whole
        ):
            self._on_no_completion(document)

    def _on_non_object(self, document: Any) -> None:
        if document is None:
            return
        if openai_errors.read_facts(document) is not None:
            raise openai_errors.decode_inner_error(document)
        raise RemoteProtocolError("the provider sent JSON that is not a completion")

    def _on_no_completion(self, document: dict[str, Any]) -> None:
        """A document without choices that should have some: an older error shape, or foreign."""
        if openai_errors.read_facts(document) is not None:
            raise openai_errors.decode_inner_error(document)
        if "choices" not in document:
            raise RemoteProtocolError("the provider sent JSON that is not a completion")

    def _on_info(self, document: dict[str, Any], events: list[StreamEvent]) -> None:
        created = document.get("created")
        info = ResponseInfo(
            _text(document.get("id")),
            _text(document.get("model")),
            created if type(created) is int and 0 <= created < 1 << 40 else 0,
            _text(document.get("service_tier")),
            _text(document.get("system_fingerprint")),
        )
        self._has_info = True
        self._id_seed = f"{info.response_id}/{info.created_s}"
        events.append(info)

    def _on_choice(self, entry: Any, events: list[StreamEvent], is_whole: bool) -> None:
        if type(entry) is not dict:
            raise RemoteProtocolError("a choice is not an object")
        index = entry.get("index") or 0
        if type(index) is not int or not 0 <= index < MAX_CHOICES:
            raise RemoteProtocolError("a choice has an impossible index")
        choice = self._choices.get(index)
        if choice is None:
            choice = self._choices[index] = _Choice()
        delta = entry.get("delta")
        if "message" in entry and (is_whole or ("delta" not in entry and not choice.has_output)):
            # Perplexity has both: a growing `message` beside deltas, and an empty `delta` beside
            # the whole message.
            delta = entry["message"]
        if delta and type(delta) is dict:
            content = delta.get("content")
            if len(delta) == 1 and content and type(content) is str:
                events.append(TextDelta(content, index))
                choice.has_output = True
            else:
                self._on_delta(delta, index, choice, events)
        if logprobs := entry.get("logprobs"):
            events.append(OpaqueDelta("logprobs", lenient_json.dumps(logprobs), index))
        if finish := entry.get("finish_reason"):
            self._on_finish(finish, index, choice, events)
        if error := entry.get("error"):
            raise openai_errors.decode_inner_error({"error": error})

    def _on_delta(
        self, delta: dict[str, Any], index: int, choice: _Choice, events: list[StreamEvent]
    ) -> None:
        """Everything a delta may hold, in the order in which it is meant to be heard."""
        count_before = len(events)
        reasoning = (
            delta.get("reasoning_content") or delta.get("reasoning") or delta.get("reasoning_text")
        )
        if reasoning and type(reasoning) is str:
            events.append(ReasoningDelta(reasoning, index))
        if content := delta.get("content"):
            if type(content) is str:
                events.append(TextDelta(content, index))
            elif type(content) is list:
                self._on_parts(content, index, events, has_reasoning=bool(reasoning))
        if (refusal := delta.get("refusal")) and type(refusal) is str:
            events.append(RefusalDelta(refusal, index))
        if (audio := delta.get("audio")) and type(audio) is dict:
            events.append(_audio(audio, index))
        if calls := delta.get("tool_calls"):
            self._on_tool_calls(calls, index, choice, events)
        events += [
            OpaqueDelta(key, lenient_json.dumps(delta[key]), index)
            for key in _OPAQUE_DELTA_FIELDS
            if delta.get(key)
        ]
        if len(events) > count_before:
            choice.has_output = True

    def _on_parts(
        self, parts: list[Any], index: int, events: list[StreamEvent], *, has_reasoning: bool
    ) -> None:
        """Content as a list (Mistral's reasoning models, some hosted ones)."""
        for part in parts:
            if type(part) is str:
                text, thinking = part, ""
            elif type(part) is not dict:
                continue
            elif part.get("type") == "thinking":
                text, thinking = "", _thinking(part.get("thinking"))
            elif type(part.get("text")) is str:
                text, thinking = part["text"], ""
            else:
                events.append(OpaqueDelta("content_part", lenient_json.dumps(part), index))
                continue
            if thinking and not has_reasoning:
                events.append(ReasoningDelta(thinking, index))
            if text:
                events.append(TextDelta(text, index))

    def _on_tool_calls(
        self, calls: Any, index: int, choice: _Choice, events: list[StreamEvent]
    ) -> None:
        assembler = choice.tool_calls
        if assembler is None:
            assembler = choice.tool_calls = ToolCallAssembler(index, self._id_seed)
        for call in calls if type(calls) is list else [calls]:
            if type(call) is not dict:
                raise RemoteProtocolError("a tool call is not an object")
            at = call.get("index")
            kind = "custom" if "custom" in call else "function"
            body = call.get(kind)
            if type(body) is not dict:
                body = {}
            arguments = body.get("input" if kind == "custom" else "arguments")
            if arguments is None:
                arguments = ""
            elif type(arguments) is not str:
                arguments = lenient_json.dumps(arguments).decode()
            extra = call.get("extra_content")
            assembler.add(
                events,
                index=at if type(at) is int else None,
                call_id=_text(call.get("id")),
                name=_text(body.get("name")),
                fragment=arguments,
                kind=kind,
                extra={"extra_content": extra} if extra else None,
            )

    def _on_finish(self, raw: Any, index: int, choice: _Choice, events: list[StreamEvent]) -> None:
        if choice.is_finished:
            return  # OpenRouter repeats it; the first one counts
        choice.is_finished = True
        if type(raw) is not str:
            raw = "unknown"
        reason = FINISH_REASONS.get(raw.lower(), FinishReason.OTHER)
        if choice.tool_calls is not None:
            choice.tool_calls.finish(events, by_length=reason is FinishReason.LENGTH)
            if reason is FinishReason.STOP:
                reason = FinishReason.TOOL_CALLS
        events.append(ChoiceFinished(reason, raw, index))
        if raw in FAILED_FINISHES:
            self._failed_finish = UpstreamStatus(
                f"the provider broke off its answer ({raw})",
                reason=FAILED_FINISHES[raw],
                http_status=self._status,
                provider_code=raw,
            )

    # --- the end ------------------------------------------------------------------------------

    def _check_ending(self) -> None:
        """The wire's own end must have come.

        Raises:
            StreamTruncated: it has not.
        """
        finished = sum(choice.is_finished for choice in self._choices.values())
        if not self._choices:
            raise StreamTruncated("the provider's answer ended before it began")
        # With [DONE] fewer choices than asked for are the provider's will, else they were cut.
        if finished < len(self._choices) or (
            self._mode == _STREAM and not self._is_done and finished < self._asked_choices
        ):
            raise StreamTruncated("the provider's answer ended without a finish reason")

    def _failed(self, error: UpstreamError) -> list[StreamEvent]:
        self._mode = _OVER
        self._body.clear()
        return [ProviderFailed(error)]


def build_openai_chat(quirks: Mapping[str, Any], provider: str) -> CodecFactory:
    """`CodecBuilder` of this wire."""
    checked = OpenAIChatQuirks.from_mapping(quirks, provider)
    return lambda: OpenAIChatCodec(checked, provider)


def _text(value: object) -> str:
    return value if type(value) is str else ""


def _thinking(value: object) -> str:
    if type(value) is list:
        return "".join(_text(part.get("text")) for part in value if type(part) is dict)
    return _text(value)


def _audio(audio: dict[str, Any], index: int) -> AudioDelta:
    expires = audio.get("expires_at")
    return AudioDelta(
        _text(audio.get("id")),
        _text(audio.get("data")),
        _text(audio.get("transcript")),
        expires if type(expires) is int else 0,
        index,
    )
