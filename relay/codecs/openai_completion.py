"""What one chunk of a completion, or a whole one, says: documents in, events out.

Keeps what must be known across chunks: which choices there are, their open tool calls, who has
finished. Reads liberally, the same for every host: `choices`, `delta` and `finish_reason` may be
missing, null or empty anywhere, and a `message` is read like one big delta.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from relay.codecs import lenient_json, openai_errors, openai_usage
from relay.codecs.opaque_field import pass_on
from relay.codecs.openai_hot_chunk import HotChoice
from relay.codecs.tool_calls import ToolCallAssembler
from relay.content import (
    AudioDelta,
    ChoiceFinished,
    FinishReason,
    OpaqueDelta,
    ReasoningDelta,
    RefusalDelta,
    ResponseInfo,
    StreamEvent,
    TextDelta,
)
from relay.errors import EventTooLarge, NotAnAnswer, Reason, RemoteProtocolError, UpstreamStatus
from relay.sse import MAX_EVENT_BYTES

MAX_CHOICES: Final = 128
"""OpenAI's own limit of `n`."""

MAX_EPOCH_S: Final = 1 << 40
"""Later moments are nonsense (milliseconds, an overflow), and no 64-bit field must overflow."""

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


class _Choice:
    """What is known of one alternative."""

    __slots__ = ("has_output", "is_finished", "tool_calls")

    def __init__(self) -> None:
        self.is_finished = False
        self.has_output = False
        self.tool_calls: ToolCallAssembler | None = None


class CompletionReader:
    """Reads the documents of one response.

    A choice with tool calls that ends with `stop` (OpenAI with a named tool choice, vLLM) is
    reported as TOOL_CALLS; `raw_reason` keeps the provider's word.

    Raises (every `read` method, after adding the events that came before):
        UpstreamStatus: the document reports an error.
        RemoteProtocolError: it breaks the format.
    """

    __slots__ = ("_choices", "_failed_finish", "_has_info", "_id_seed", "_last_opaque", "_left_out")

    def __init__(self) -> None:
        self._choices: dict[int, _Choice] = {}
        self._has_info = False
        self._id_seed = ""
        self._last_opaque: dict[str, bytes] = {}
        self._failed_finish: UpstreamStatus | None = None
        self._left_out = 0  # fields that cannot be passed on

    @property
    def has_begun(self) -> bool:
        """Whether any choice has been seen."""
        return bool(self._choices)

    @property
    def finished_choices(self) -> int:
        return sum(choice.is_finished for choice in self._choices.values())

    @property
    def has_open_choices(self) -> bool:
        """Whether some choice lacks its finish reason, or the end of a call that came after it."""
        return not all(
            choice.is_finished and (choice.tool_calls is None or not choice.tool_calls.has_open)
            for choice in self._choices.values()
        )

    def read_text(self, entry: HotChoice, events: list[StreamEvent]) -> bool:
        """Take a choice that is just text; False for one that was not seen before."""
        choice = self._choices.get(entry.index)
        if choice is None:
            return False
        if content := entry.delta.content:
            choice.has_output = True
            events.append(TextDelta(content, entry.index))
        return True

    def read(self, document: Any, events: list[StreamEvent], *, is_whole: bool = False) -> bool:
        """Take a chunk, or with `is_whole` the only document there is.

        Returns:
            whether a field had to be left out, nested too deeply to be passed on.
        """
        if type(document) is not dict:
            self._on_non_object(document)
            return False
        left_out_before = self._left_out
        choices = document.get("choices")
        usage = document.get("usage")
        if not usage and (groq := document.get("x_groq")) and type(groq) is dict:
            usage = groq.get("usage")
        # Azure's first chunk has neither: its ids come with the second one.
        if not self._has_info and (choices or usage or document.get("id") or document.get("model")):
            self._on_info(document, events)
        if choices:
            if type(choices) is not list:
                raise RemoteProtocolError("`choices` is not a list")
            for entry in choices:
                self._on_choice(entry, events, is_whole)
        if usage and type(usage) is dict and (counts := openai_usage.normalise(usage)):
            events.append(counts)
        for key in _OPAQUE_TOP_FIELDS:
            if (value := document.get(key)) and self._has_info:
                self._on_top_field(key, value, events)
        if document.get("error"):
            raise openai_errors.decode_inner_error(document)
        if self._failed_finish is not None:
            raise self._failed_finish
        if not choices and (
            document.get("object") == "error" or document.get("type") == "error" or is_whole
        ):
            self._on_no_completion(document)
        return self._left_out != left_out_before

    def _on_top_field(self, key: str, value: Any, events: list[StreamEvent]) -> None:
        """A field of the whole response, repeated with every chunk: told when it has changed."""
        value_json = lenient_json.dumps(value)
        if not value_json:
            self._left_out += 1
        elif value_json != self._last_opaque.get(key):
            self._last_opaque[key] = value_json
            events.append(OpaqueDelta(key, value_json))

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
            raise NotAnAnswer("the provider sent JSON that is not a completion")

    def _on_info(self, document: dict[str, Any], events: list[StreamEvent]) -> None:
        info = ResponseInfo(
            _text(document.get("id")),
            _text(document.get("model")),
            _epoch_s(document.get("created")),
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
            self._left_out += not pass_on("logprobs", logprobs, events, index)
        if (finish := entry.get("finish_reason")) and finish != "null":  # DashScope writes it so
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
        for key in _OPAQUE_DELTA_FIELDS:
            if value := delta.get(key):
                self._left_out += not pass_on(key, value, events, index)
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
                self._left_out += not pass_on("content_part", part, events, index)
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
            kind, body = "function", call.get("function")
            if "custom" in call and type(call["custom"]) is dict:  # some hosts write null
                kind, body = "custom", call["custom"]
            if type(body) is not dict:
                body = {}
            arguments = body.get("input" if kind == "custom" else "arguments")
            if arguments is None:
                arguments = ""
            elif type(arguments) is not str:
                arguments = lenient_json.dumps(arguments).decode()
                if not arguments:
                    raise RemoteProtocolError("the arguments of a tool call are nested too deeply")
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
        if choice.is_finished:  # gateways that send the finish first: no other will follow
            assembler.settle(events)
        held = sum(
            one.tool_calls.held_chars
            for one in self._choices.values()
            if one.tool_calls is not None
        )
        if held > MAX_EVENT_BYTES:
            raise EventTooLarge("the arguments of the tool calls are too large")

    def _on_finish(self, raw: Any, index: int, choice: _Choice, events: list[StreamEvent]) -> None:
        if choice.is_finished:
            # OpenRouter repeats it; the first one counts.
            if choice.tool_calls is not None:
                choice.tool_calls.finish(events, by_length=raw == "length")
            return
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
                http_status=200,
                provider_code=raw,
            )


def _text(value: object) -> str:
    return value if type(value) is str else ""


def _epoch_s(value: object) -> int:
    return value if type(value) is int and 0 <= value < MAX_EPOCH_S else 0


def _thinking(value: object) -> str:
    if type(value) is list:
        return "".join(_text(part.get("text")) for part in value if type(part) is dict)
    return _text(value)


def _audio(audio: dict[str, Any], index: int) -> AudioDelta:
    return AudioDelta(
        _text(audio.get("id")),
        _text(audio.get("data")),
        _text(audio.get("transcript")),
        _epoch_s(audio.get("expires_at")),
        index,
    )
