"""Neutral events as the stream of a response, and as one whole response.

The order is OpenAI's: `response.created` and `response.in_progress` before the first item, of each
item what `response_output` tells, and one of `response.completed`, `response.incomplete` and
`response.failed` with the whole response. A failure is told twice, as OpenAI does it: an `error`
event, which its clients raise, and `response.failed`. There is no `[DONE]`.

What is repeated in all deltas of a text is rendered once: a delta costs one `dumps` of its piece
and one concatenation.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import orjson

from relay.content import (
    Events,
    FinishReason,
    OpaqueDelta,
    ResponseInfo,
    StreamEvent,
    TextDelta,
    Usage,
)
from relay.errors import RelayError
from relay.frontends.http_errors import error_object
from relay.frontends.surfaces.account import relay_object
from relay.frontends.surfaces.response_items import TEXT, Growing, Json
from relay.frontends.surfaces.response_output import ResponseOutput, logprobs_of
from relay.outcome import GenerationEnd

_dumps = orjson.dumps

_INCOMPLETE: Final = {
    FinishReason.LENGTH: "max_output_tokens",
    FinishReason.CONTENT_FILTER: "content_filter",
}

_CHAT_USAGE: Final = frozenset(
    {
        "prompt_tokens",
        "prompt_tokens_details",
        "completion_tokens",
        "completion_tokens_details",
        "prompt_eval_count",
        "eval_count",
    }
)
"""What a provider's own usage has under other names."""

_FAILURE_CODES: Final = frozenset({"rate_limit_exceeded", "insufficient_quota"})
"""Codes that a failed response may have; all others are its `server_error`."""

_ENDING: Final = b"}\n\n"
_PIECE_BYTES: Final = 8
"""What a piece of text is counted with beside its characters."""

Keep = Callable[[bytes, bytes], None]
"""Takes a finished response and the array of its items, both as JSON."""


@dataclass(frozen=True, slots=True)
class ResponseFrame:
    """What is known of a response before anything is answered."""

    response_id: str
    model: str
    """As it was asked for; the provider's own name replaces it."""
    echo: Json
    """What every snapshot repeats."""
    service_tier: str = ""
    with_logprobs: bool = False
    with_relay: bool = False
    """Whether the relay's own account is wanted (`usage.x_relay`)."""
    keep: Keep | None = None


class _Snapshot:
    """The response object, whatever has come of it."""

    def __init__(self, frame: ResponseFrame) -> None:
        self._frame = frame
        self._info: ResponseInfo | None = None
        self._created_s = 0
        self._echo = b""

    def take(self, info: ResponseInfo) -> None:
        """Note the provider's facts; the first ones stay."""
        self._info = self._info or info

    def render(self, status: str, output: bytes, **more: Any) -> bytes:
        """The object as JSON.

        Args:
            output: its items, a JSON array.
            more: fields that differ from those of a response that goes well.
        """
        frame, info = self._frame, self._info
        if not self._echo:
            self._echo = _dumps(frame.echo)[1:]
            self._created_s = (info and info.created_s) or int(time.time())
        fields: Json = {
            "id": frame.response_id,
            "object": "response",
            "created_at": self._created_s,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "model": (info and info.model) or frame.model,
            "output": orjson.Fragment(output),
            "service_tier": (info and info.service_tier) or frame.service_tier or "default",
            "usage": None,
            **more,
        }
        return _dumps(fields)[:-1] + b"," + self._echo

    def render_end(self, output: ResponseOutput, end: GenerationEnd) -> tuple[str, bytes]:
        """Status and object of a clean end, which is kept if it is to be."""
        reason = _INCOMPLETE.get(output.finish)
        status = "incomplete" if reason else "completed"
        items = _dumps(output.to_list())
        document = self.render(
            status,
            items,
            incomplete_details={"reason": reason} if reason else None,
            usage=usage_object(end, with_relay=self._frame.with_relay),
            **({} if reason else {"completed_at": int(time.time())}),
        )
        if self._frame.keep is not None:
            self._frame.keep(document, items)
        return status, document


def usage_object(end: GenerationEnd, *, with_relay: bool) -> Json | None:
    """Usage as this API counts it, over what only the provider knows; None if nothing was sent."""
    usage = end.usage
    if usage is None:
        return None
    value: Json = {}
    if usage.raw_json:
        raw = orjson.loads(usage.raw_json)
        if isinstance(raw, dict):
            value = {key: one for key, one in raw.items() if key not in _CHAT_USAGE}
    value["input_tokens"] = usage.prompt_tokens
    value["input_tokens_details"] = {
        **_details(value, "input_tokens_details"),
        "cached_tokens": usage.cached_tokens or 0,
        "cache_write_tokens": usage.cache_write_tokens or 0,
    }
    value["output_tokens"] = usage.completion_tokens
    value["output_tokens_details"] = {
        **_details(value, "output_tokens_details"),
        "reasoning_tokens": usage.reasoning_tokens or 0,
    }
    value["total_tokens"] = usage.total_tokens
    if with_relay:
        value["x_relay"] = relay_object(end)
    return value


def _details(value: Json, key: str) -> Json:
    details = value.get(key)
    return details if isinstance(details, dict) else {}


class ResponseEncoder(ResponseOutput):
    """Events to the bytes of a response's stream; one object a response."""

    def __init__(self, frame: ResponseFrame) -> None:
        super().__init__(_id_base(frame), with_logprobs=frame.with_logprobs)
        self._snapshot = _Snapshot(frame)
        self._sequence = 0
        self._out: list[bytes] = []
        self._growing: Growing | None = None  # whose head and tail are these
        self._pieces: list[str] | None = None  # of a text, while nothing else is told
        self._head = self._tail = b""
        self._delta_logprobs: list[Any] = []

    def encode(self, events: Events) -> bytes:
        """The events of a batch, possibly none.

        Raises:
            EventTooLarge: the answer, which its last event repeats, would be too large.
        """
        if self._with_logprobs:
            self._pair_logprobs(events)
            return self._told()
        body, held = b"", 0
        for event in events:
            if (
                type(event) is TextDelta
                and (pieces := self._pieces) is not None
                and not event.choice  # of others, which nobody can ask for, nothing is told
            ):
                text = event.text
                pieces.append(text)
                held += _PIECE_BYTES + len(text)
                number = self._sequence
                self._sequence = number + 1
                body += b"".join((self._head, _dumps(text), self._tail, _dumps(number), _ENDING))
            else:
                self._other(event)
                body += self._told()
        if held:
            self.hold(held)
        return body

    def _told(self) -> bytes:
        """What was told since it was asked for last."""
        body = b"".join(self._out)
        self._out.clear()
        return body

    def encode_end(self, end: GenerationEnd) -> bytes:
        """What follows the last event of a clean end: what was open, and the whole response."""
        self._begin_response()
        self.end()
        status, document = self._snapshot.render_end(self, end)
        self._tell_response(f"response.{status}", document)
        return b"".join(self._out)

    def encode_error(self, error: RelayError, request_id: str) -> bytes:
        """The error, and the response that failed with what there is of it."""
        self._out.clear()
        self._begin_response()
        told: Any = error_object(error, request_id)["error"]
        flat = {key: told[key] for key in ("code", "message", "param")}
        self.tell("error", {**flat, "error": told})
        self.abandon()
        failure = {
            "code": told["code"] if told["code"] in _FAILURE_CODES else "server_error",
            "message": told["message"],
            "x_relay": told["x_relay"],
        }
        document = self._snapshot.render("failed", _dumps(self.to_list()), error=failure)
        self._tell_response("response.failed", document)
        return b"".join(self._out)

    # --- events -----------------------------------------------------------------------------

    def _other(self, event: StreamEvent) -> None:
        if isinstance(event, ResponseInfo):
            self._snapshot.take(event)
        elif not isinstance(event, Usage) and not getattr(event, "choice", 0):
            self.take(event)

    def _pair_logprobs(self, events: Events) -> None:
        """Log probabilities come after their text and are told with it."""
        for at, event in enumerate(events):
            if type(event) is TextDelta and at + 1 < len(events):
                after = events[at + 1]
                if isinstance(after, OpaqueDelta) and after.key == "logprobs":
                    self._delta_logprobs = logprobs_of(orjson.loads(after.value_json))
            self._other(event)
            self._delta_logprobs = []

    def _begin_response(self) -> None:
        """The first two events, in front of whatever comes first."""
        if self._sequence:
            return
        document = self._snapshot.render("in_progress", b"[]")
        for name in ("response.created", "response.in_progress"):
            self._tell_response(name, document)

    # --- what is told -----------------------------------------------------------------------

    def tell(self, event: str, fields: Json) -> None:
        self._pieces = None
        if not self._sequence:
            self._begin_response()
        name = event.encode()
        document = _dumps({"type": event, **fields, "sequence_number": self._sequence})
        self._out.append(b"event: %s\ndata: %s\n\n" % (name, document))
        self._sequence += 1

    def _tell_response(self, event: str, document: bytes) -> None:
        name = event.encode()
        self._out.append(
            b'event: %s\ndata: {"type":"%s","response":%s,"sequence_number":%d}\n\n'
            % (name, name, document, self._sequence)
        )
        self._sequence += 1

    def tell_delta(self, growing: Growing, piece: str) -> None:
        self._pieces = growing.pieces if growing.event == TEXT else None
        if growing is not self._growing:
            self._growing = growing
            event = f"{growing.event}.delta"
            fields = _dumps({"type": event, **growing.place})[:-1]
            self._head = b'event: %s\ndata: %s,"delta":' % (event.encode(), fields)
            beside = _dumps(growing.beside)[1:-1]
            self._tail = (b"," + beside if beside else b"") + b',"sequence_number":'
        tail = self._tail
        if self._delta_logprobs and growing.beside:
            tail = b',"logprobs":%s,"sequence_number":' % _dumps(self._delta_logprobs)
        self._out.append(b"%s%s%s%d}\n\n" % (self._head, _dumps(piece), tail, self._sequence))
        self._sequence += 1


class ResponseCollector:
    """Events to one response of at most `MAX_ANSWER_BYTES`."""

    def __init__(self, frame: ResponseFrame) -> None:
        self._snapshot = _Snapshot(frame)
        self._output = ResponseOutput(_id_base(frame), with_logprobs=frame.with_logprobs)

    def add(self, events: Events) -> None:
        """Take a batch.

        Raises:
            EventTooLarge: the answer is too large; leave the generation, which ends its attempt.
        """
        for event in events:
            if isinstance(event, ResponseInfo):
                self._snapshot.take(event)
            elif not isinstance(event, Usage) and not getattr(event, "choice", 0):
                self._output.take(event)

    def to_json(self, end: GenerationEnd) -> bytes:
        """The response; `end` is a clean end."""
        self._output.end()
        return self._snapshot.render_end(self._output, end)[1]


def _id_base(frame: ResponseFrame) -> str:
    return frame.response_id.removeprefix("resp_")
