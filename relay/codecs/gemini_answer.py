"""What one chunk of a Gemini answer, or a whole one, says: documents in, events out.

Keeps what must be known across chunks: which candidates there are, their function calls, who has
finished. One shape serves streams and whole answers. Anything may be missing anywhere: `content`,
its `parts`, `index`, `args`, `id`.

Strategy for what chat has no place for:

    text and thoughts            TextDelta, ReasoningDelta
    thoughtSignature of a call   ToolCallDone.extra_json, `extra_content.google.thought_signature`
      of text, or of an empty    OpaqueDelta `extra_content` of the same shape, as Google's own
      text at the end            OpenAI-compatible endpoint has it; the last one stands
      of a thought               OpaqueDelta `reasoning_details`, one signed `reasoning.text`
    inlineData                   AudioDelta, or OpaqueDelta `images` as OpenRouter has them
    executableCode, codeExecutionResult, toolCall, toolResponse, fileData, anything unknown
                                 OpaqueDelta `gemini_parts`, `[{"index", "part"}]`; sent back
                                 unchanged by `gemini_request`
    logprobsResult               OpaqueDelta `logprobs` in OpenAI's shape
    groundingMetadata, citationMetadata, urlContextMetadata
                                 OpaqueDelta `grounding_metadata`, ...
    safetyRatings, avgLogprobs, drafts of images among the thoughts
                                 nothing

The first finish reason of a candidate counts, and reading goes on after it: turns with code
execution have two, and text after the first. Function calls come whole (or in pieces, see
`gemini_partial_args`) and are complete at once. A candidate with calls that ends with STOP is
reported as TOOL_CALLS. Numbers of finish reasons are Vertex's, which is where they were seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from relay.codecs import gemini_errors, gemini_usage, lenient_json
from relay.codecs.error_text import public_text
from relay.codecs.gemini_hot_chunk import HotChunk
from relay.codecs.gemini_partial_args import PartialArgs, whole_args
from relay.codecs.opaque_field import pass_on
from relay.codecs.tool_calls import ToolCallAssembler
from relay.content import (
    AudioDelta,
    ChoiceFinished,
    FinishReason,
    OpaqueDelta,
    ReasoningDelta,
    ResponseInfo,
    StreamEvent,
    TextDelta,
)
from relay.errors import EventTooLarge, NotAnAnswer, Reason, RemoteProtocolError, UpstreamStatus
from relay.sse import MAX_EVENT_BYTES

REASONING_FORMAT: Final = "google-gemini-v1"
"""How OpenRouter calls reasoning of this wire in `reasoning_details`."""

MAX_CANDIDATES: Final = 128
"""As of OpenAI's `n`; Google allows 8."""

FINISH_REASONS: Final[Mapping[str, FinishReason]] = {
    "STOP": FinishReason.STOP,
    "MAX_TOKENS": FinishReason.LENGTH,
    **dict.fromkeys(
        (
            "BLOCKLIST",
            "IMAGE_PROHIBITED_CONTENT",
            "IMAGE_RECITATION",
            "IMAGE_SAFETY",
            "LANGUAGE",
            "MODEL_ARMOR",
            "PROHIBITED_CONTENT",
            "RECITATION",
            "SAFETY",
            "SPII",
        ),
        FinishReason.CONTENT_FILTER,
    ),
}

# The model could not put its answer into words that the API takes: another try, or another
# model, can. Its calls are not handed on, nobody must run them.
FAILED_FINISHES: Final = frozenset(
    {
        "IMAGE_OTHER",
        "MALFORMED_FUNCTION_CALL",
        "MALFORMED_RESPONSE",
        "MISSING_THOUGHT_SIGNATURE",
        "NO_IMAGE",
        "OTHER",
        "TOO_MANY_TOOL_CALLS",
        "UNEXPECTED_TOOL_CALL",
    }
)

# google.cloud.aiplatform.v1beta1.Candidate.FinishReason; the AI endpoint counts otherwise from 6
# on, but writes names.
_FINISH_NUMBERS: Final = (
    "",
    "STOP",
    "MAX_TOKENS",
    "SAFETY",
    "RECITATION",
    "OTHER",
    "BLOCKLIST",
    "PROHIBITED_CONTENT",
    "SPII",
    "MALFORMED_FUNCTION_CALL",
    "MODEL_ARMOR",
    "IMAGE_SAFETY",
    "IMAGE_PROHIBITED_CONTENT",
    "IMAGE_RECITATION",
    "IMAGE_OTHER",
    "UNEXPECTED_TOOL_CALL",
    "NO_IMAGE",
)

_UNSPECIFIED: Final = frozenset({"", "FINISH_REASON_UNSPECIFIED", "BLOCK_REASON_UNSPECIFIED"})
_OPAQUE_FIELDS: Final[Mapping[str, str]] = {
    "groundingMetadata": "grounding_metadata",
    "citationMetadata": "citation_metadata",
    "urlContextMetadata": "url_context_metadata",
}
_ANSWER_FIELDS: Final = frozenset(
    {"candidates", "promptFeedback", "usageMetadata", "modelVersion", "responseId", "error"}
)
_SAYS_NOTHING: Final = frozenset({"createTime"})
"""A chunk may hold nothing else, or nothing at all."""
_BESIDE_A_PART: Final = frozenset({"thought", "thoughtSignature", "text"})
_UNKNOWN_LOGPROB: Final = -9999.0
"""OpenAI's own value for a token that is not worth a number."""


class _Candidate:
    """What is known of one alternative."""

    __slots__ = ("call_count", "calls", "is_finished", "opaque_count", "partial", "signature")

    def __init__(self, index: int, id_seed: str) -> None:
        self.is_finished = False
        self.calls = ToolCallAssembler(index, id_seed)
        self.call_count = 0
        self.partial: PartialArgs | None = None  # of the call that is still coming in pieces
        self.opaque_count = 0  # entries of lists that clients join by their index
        self.signature = ""  # of its text: the last one, told when the candidate is finished


class AnswerReader:
    """Reads the documents of one response.

    Args:
        asked_choices: how many candidates were asked for.
        service_tier: what the response's headers say of it.

    Raises (`read`, after adding the events that came before):
        UpstreamStatus: the document reports an error, or the model failed.
        RemoteProtocolError: it breaks the format.
    """

    __slots__ = (
        "_asked_choices",
        "_candidates",
        "_failed_finish",
        "_has_info",
        "_id_seed",
        "_last_usage",
        "_response_id",
        "_service_tier",
        "left_out",
    )

    def __init__(self, asked_choices: int = 1, service_tier: str = "") -> None:
        self._asked_choices = asked_choices
        self.left_out = 0
        """Fields so far that no JSON of ours can hold, left out."""
        self._service_tier = service_tier
        self._candidates: dict[int, _Candidate] = {}
        self._has_info = False
        self._id_seed = ""
        self._response_id = ""
        self._last_usage = b""
        self._failed_finish: UpstreamStatus | None = None

    @property
    def has_begun(self) -> bool:
        """Whether any candidate has been seen, or the prompt was blocked."""
        return bool(self._candidates)

    @property
    def finished_choices(self) -> int:
        return sum(candidate.is_finished for candidate in self._candidates.values())

    @property
    def has_open_choices(self) -> bool:
        """Whether some candidate lacks its finish reason, or the end of a call."""
        return not all(
            candidate.is_finished and candidate.partial is None
            for candidate in self._candidates.values()
        )

    def read_hot(self, chunk: HotChunk, events: list[StreamEvent]) -> bool:
        """Take a chunk that is just text; False for a candidate that was not seen before, and for
        counts that are not as usual."""
        entry = chunk.candidates[0]
        if entry.index not in self._candidates:
            return False
        usage, counts = bytes(chunk.usage_metadata), None
        if usage and usage != self._last_usage:
            try:
                counts = gemini_usage.read_usual(usage)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                return False
            self._last_usage = usage
        part = entry.content.parts[0]
        if part.text:
            kind = ReasoningDelta if part.thought else TextDelta
            events.append(kind(part.text, entry.index))
        if counts is not None:
            events.append(counts)
        return True

    def read(self, document: Any, events: list[StreamEvent]) -> None:
        """Take a chunk, or the only document there is."""
        if document is None:
            return
        if type(document) is list and document:
            document = document[0]  # the shape of errors where a stream of JSON was asked for
        if type(document) is dict and not document.keys() - _SAYS_NOTHING:
            return
        if type(document) is not dict or not document.keys() & _ANSWER_FIELDS:
            kind = RemoteProtocolError if self.has_begun else NotAnAnswer
            raise kind("the provider sent JSON that is not an answer of this wire")
        candidates = document.get("candidates")
        usage = document.get("usageMetadata")
        if not self._has_info and not document.get("error"):
            self._on_info(document, events)
        if candidates:
            if type(candidates) is not list:
                raise RemoteProtocolError("`candidates` is not a list")
            for position, entry in enumerate(candidates):
                self._on_candidate(entry, position, events)
        feedback = document.get("promptFeedback")
        if type(feedback) is dict and (block := _word(feedback.get("blockReason"))):
            self._on_blocked(block, events)
        if usage and type(usage) is dict:
            self._on_usage(lenient_json.dumps(usage), events)
        if document.get("error"):
            raise gemini_errors.decode_inner_error(document, response_id=self._response_id)
        if self._failed_finish is not None:
            raise self._failed_finish

    # --- the response as a whole -------------------------------------------------------------

    def _on_info(self, document: dict[str, Any], events: list[StreamEvent]) -> None:
        usage = document.get("usageMetadata")
        tier = _text(usage.get("serviceTier")) if type(usage) is dict else ""
        tier = (tier or self._service_tier).lower()
        info = ResponseInfo(
            _text(document.get("responseId")),
            _text(document.get("modelVersion")),
            _epoch_s(document.get("createTime")),
            "default" if tier == "standard" else tier,
        )
        self._has_info = True
        self._response_id = self._id_seed = info.response_id
        events.append(info)

    def _on_usage(self, raw_json: bytes, events: list[StreamEvent]) -> None:
        if raw_json == self._last_usage:
            return
        self._last_usage = raw_json
        if (counts := gemini_usage.normalise(raw_json)) is not None:
            events.append(counts)

    def _on_blocked(self, block: str, events: list[StreamEvent]) -> None:
        """The prompt was blocked: there are no candidates, and will not be."""
        for index in range(self._asked_choices):
            candidate = self._candidate(index)
            if not candidate.is_finished:
                candidate.is_finished = True
                events.append(ChoiceFinished(FinishReason.CONTENT_FILTER, block, index))

    # --- candidates --------------------------------------------------------------------------

    def _candidate(self, index: int) -> _Candidate:
        candidate = self._candidates.get(index)
        if candidate is None:
            candidate = self._candidates[index] = _Candidate(index, self._id_seed)
        return candidate

    def _on_candidate(self, entry: Any, position: int, events: list[StreamEvent]) -> None:
        if type(entry) is not dict:
            raise RemoteProtocolError("a candidate is not an object")
        index = entry.get("index")
        if index is None:
            index = position
        if type(index) is not int or not 0 <= index < MAX_CANDIDATES:
            raise RemoteProtocolError("a candidate has an impossible index")
        candidate = self._candidate(index)
        finish = _finish_word(entry.get("finishReason"))
        content = entry.get("content")
        parts = content.get("parts") if type(content) is dict else None
        for part in parts if type(parts) is list else ():
            if type(part) is dict and not (finish in FAILED_FINISHES and "functionCall" in part):
                self._on_part(part, index, candidate, events)
        if type(logprobs := entry.get("logprobsResult")) is dict:
            events.append(OpaqueDelta("logprobs", _logprobs(logprobs), index))
        for name, key in _OPAQUE_FIELDS.items():
            if value := entry.get(name):
                self.left_out += not pass_on(key, value, events, index)
        if finish:
            self._on_finish(finish, _text(entry.get("finishMessage")), index, candidate, events)

    def _on_finish(
        self,
        raw: str,
        message: str,
        index: int,
        candidate: _Candidate,
        events: list[StreamEvent],
    ) -> None:
        if candidate.is_finished:
            return
        candidate.is_finished = True
        reason = FINISH_REASONS.get(raw, FinishReason.OTHER)
        if candidate.partial is not None:
            self._close_partial(candidate, events, by_length=reason is FinishReason.LENGTH)
        if candidate.call_count and reason is FinishReason.STOP:
            reason = FinishReason.TOOL_CALLS
        self._tell_signature(index, candidate, events)
        events.append(ChoiceFinished(reason, raw, index))
        if raw in FAILED_FINISHES and self._failed_finish is None:
            said = f"the provider broke off its answer ({raw})"
            self._failed_finish = UpstreamStatus(
                public_text(f"{said}: {message}" if message else said),
                reason=Reason.UPSTREAM_FAILED,
                http_status=200,
                provider_code=raw,
                provider_request_id=self._response_id,
            )

    # --- parts -------------------------------------------------------------------------------

    def _on_part(
        self, part: dict[str, Any], index: int, candidate: _Candidate, events: list[StreamEvent]
    ) -> None:
        signature = _text(part.get("thoughtSignature"))
        text = part.get("text")
        is_thought = part.get("thought") is True
        if "functionCall" in part:
            self._on_call(part["functionCall"], signature, candidate, events)
        elif type(text) is str and is_thought:
            if text:
                events.append(ReasoningDelta(text, index))
            if signature:
                detail = {"type": "reasoning.text", "text": text, "signature": signature}
                self._on_listed(
                    "reasoning_details",
                    {**detail, "format": REASONING_FORMAT},
                    index,
                    candidate,
                    events,
                )
        elif type(text) is str or (signature and not part.keys() - _BESIDE_A_PART):
            if text and type(text) is str:
                events.append(TextDelta(text, index))
            if signature:
                self._on_signature(signature, index, candidate, events)
        elif type(blob := part.get("inlineData")) is dict and self._on_blob(
            blob, index, candidate, events, is_draft=is_thought
        ):
            if signature:
                self._on_signature(signature, index, candidate, events)
        elif part.keys() - _BESIDE_A_PART:
            self._on_listed("gemini_parts", {"part": part}, index, candidate, events)

    def _on_signature(
        self, signature: str, index: int, candidate: _Candidate, events: list[StreamEvent]
    ) -> None:
        """The text of an answer goes back as one part with one signature. It is told once, since
        OpenAI's own client would join two of them to one text."""
        candidate.signature = signature
        if candidate.is_finished:
            self._tell_signature(index, candidate, events)

    def _tell_signature(self, index: int, candidate: _Candidate, events: list[StreamEvent]) -> None:
        if candidate.signature:
            extra = lenient_json.dumps(_extra_content(candidate.signature))
            events.append(OpaqueDelta("extra_content", extra, index))
            candidate.signature = ""

    def _on_blob(
        self,
        blob: dict[str, Any],
        index: int,
        candidate: _Candidate,
        events: list[StreamEvent],
        *,
        is_draft: bool,
    ) -> bool:
        """Take sound or an image; False for anything else."""
        mime, data = _text(blob.get("mimeType")), _text(blob.get("data"))
        is_audio, is_image = mime.startswith("audio/"), mime.startswith("image/")
        if is_draft:
            pass
        elif is_audio and data:
            events.append(AudioDelta(data_base64=data, choice=index))
        elif is_image:
            image = {"type": "image_url", "image_url": {"url": f"data:{mime};base64,{data}"}}
            self._on_listed("images", image, index, candidate, events)
        return is_audio or is_image

    def _on_listed(
        self,
        key: str,
        entry: dict[str, Any],
        index: int,
        candidate: _Candidate,
        events: list[StreamEvent],
    ) -> None:
        """An entry of a list that clients add up: OpenAI's own client does so by `index`."""
        if pass_on(key, [{**entry, "index": candidate.opaque_count}], events, index):
            candidate.opaque_count += 1
        else:
            self.left_out += 1

    # --- function calls ----------------------------------------------------------------------

    def _on_call(
        self, call: Any, signature: str, candidate: _Candidate, events: list[StreamEvent]
    ) -> None:
        if type(call) is not dict:
            raise RemoteProtocolError("a function call is not an object")
        extra: dict[str, object] | None = None
        if signature:
            extra = {"extra_content": _extra_content(signature)}
        args, pieces = call.get("args"), call.get("partialArgs")
        will_continue = call.get("willContinue") is True
        if name := _text(call.get("name")):
            if candidate.partial is not None:
                self._close_partial(candidate, events)
            is_partial = will_continue or pieces is not None
            candidate.calls.add(
                events,
                index=candidate.call_count,
                call_id=_text(call.get("id")),
                name=name,
                # The brace starts a call that has no id of its own, so that it is heard of early.
                fragment="{" if is_partial else whole_args(args),
                extra=extra,
            )
            candidate.call_count += 1
            if not is_partial:
                candidate.calls.finish(events, by_length=False)
                return
            candidate.partial = PartialArgs(args if type(args) is dict else {})
        partial = candidate.partial
        if partial is None:
            if args or pieces:
                raise RemoteProtocolError("a function call without a name")
            return
        if extra and not name:
            self._add_to_open(candidate, events, "", extra)
        if pieces is not None:
            partial.add(pieces)
            held = sum(
                one.partial.held_chars
                for one in self._candidates.values()
                if one.partial is not None
            )
            if held > MAX_EVENT_BYTES:
                raise EventTooLarge("the arguments of the tool calls are too large")
        if not will_continue:
            self._close_partial(candidate, events)

    def _close_partial(
        self, candidate: _Candidate, events: list[StreamEvent], *, by_length: bool = False
    ) -> None:
        """The open call is over; cut off by length, it lacks the brace that would close it."""
        partial, candidate.partial = candidate.partial, None
        if partial is not None:
            rest = partial.to_json()[1:]
            self._add_to_open(candidate, events, rest[:-1] if by_length else rest, None)
            candidate.calls.finish(events, by_length=by_length)

    def _add_to_open(
        self,
        candidate: _Candidate,
        events: list[StreamEvent],
        fragment: str,
        extra: dict[str, object] | None,
    ) -> None:
        index = candidate.call_count - 1
        candidate.calls.add(
            events, index=index, call_id="", name="", fragment=fragment, extra=extra
        )


def _text(value: object) -> str:
    return value if type(value) is str else ""


def _word(value: object) -> str:
    """A name of an enumeration, or its number as a word; empty for none."""
    if type(value) is int and value > 0:
        return str(value)[:20]
    word = _text(value)[:200]
    return "" if word in _UNSPECIFIED else word


def _finish_word(value: object) -> str:
    if type(value) is int and 0 <= value < len(_FINISH_NUMBERS):
        return _FINISH_NUMBERS[value]
    return _word(value)


def _extra_content(signature: str) -> dict[str, Any]:
    return {"google": {"thought_signature": signature}}


def _epoch_s(value: object) -> int:
    """Seconds since 1970 of a moment in RFC 3339, 0 for none."""
    try:
        moment = datetime.fromisoformat(_text(value))
        moment_s = int(moment.timestamp()) if moment.tzinfo else 0
    except (ValueError, OverflowError, OSError):
        return 0
    return moment_s if 0 <= moment_s < 1 << 40 else 0


def _logprobs(result: dict[str, Any]) -> bytes:
    """`logprobsResult` as OpenAI's `logprobs` of a choice."""
    chosen, tops = result.get("chosenCandidates"), result.get("topCandidates")
    tops = tops if type(tops) is list else []
    content = []
    for at, token in enumerate(chosen if type(chosen) is list else ()):
        top = tops[at].get("candidates") if at < len(tops) and type(tops[at]) is dict else None
        alternatives = top if type(top) is list else []
        content.append({**_token(token), "top_logprobs": [_token(other) for other in alternatives]})
    return lenient_json.dumps({"content": content, "refusal": None})


def _token(value: Any) -> dict[str, Any]:
    entry: dict[str, Any] = value if type(value) is dict else {}
    token, logprob = _text(entry.get("token")), entry.get("logProbability")
    return {
        "token": token,
        "logprob": logprob if type(logprob) in (int, float) else _UNKNOWN_LOGPROB,
        "bytes": list(token.encode("utf-8", "replace")),
    }
