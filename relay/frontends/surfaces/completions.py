"""`POST /v1/completions`: OpenAI's legacy API, as a chat of one user message.

Few hosts still complete bare text, and every model answers a message; so a prompt becomes one, on
whatever wire. What only bare text can do is refused by name where it asks for something: `suffix`,
`best_of` above `n`, prompts as tokens, several prompts in one request. `echo` is done here.

Source: OpenAI's API reference, "Completions (legacy)".
"""

from __future__ import annotations

import secrets
import time
from typing import Any, Final

import orjson

from relay.content import (
    ChoiceFinished,
    Events,
    FinishReason,
    Policy,
    RefusalDelta,
    ResponseInfo,
    StreamEvent,
    TextDelta,
)
from relay.errors import EventTooLarge, InvalidRequest, RelayError
from relay.event_size import held_bytes
from relay.frontends.chat_body import to_request
from relay.frontends.http_errors import error_body
from relay.frontends.limits import MAX_ANSWER_BYTES, MAX_NODES
from relay.frontends.stream_options import read_stream_options
from relay.frontends.surface import Asked
from relay.frontends.surfaces.account import relay_object, usage_object
from relay.outcome import GenerationEnd

_FINISH: Final = {
    FinishReason.LENGTH: "length",
    FinishReason.CONTENT_FILTER: "content_filter",
}
_OWN_FIELDS: Final = ("prompt", "suffix", "best_of", "echo", "logprobs")


class Completions:
    """See `relay.frontends.surface.Surface`."""

    max_nodes: Final = MAX_NODES

    @property
    def name(self) -> str:
        return "completions"

    def wants_stream(self, body: dict[str, Any]) -> bool:
        return read_stream_options(body).is_streamed

    def read(self, body: dict[str, Any], policy: Policy) -> Asked:
        options = read_stream_options(body)
        prompt, echo = _prompt(body.get("prompt")), _echo(body.get("echo"))
        _refuse(body)
        chat = {key: value for key, value in body.items() if key not in _OWN_FIELDS}
        chat["messages"] = [{"role": "user", "content": prompt}]
        request = to_request(chat, policy)
        said = prompt if echo else ""
        if options.is_streamed:
            encoder = _Encoder(
                request.model, said, with_usage=options.wants_usage, with_relay=policy.timeline
            )
            return Asked(request, encoder, None)
        return Asked(request, None, _Document(request.model, said, with_relay=policy.timeline))

    def error_body(self, error: RelayError, request_id: str) -> bytes:
        return error_body(error, request_id)


def _prompt(value: object) -> str:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]  # what libraries send that can ask several at once
    if isinstance(value, list):
        what = "tokens" if value and isinstance(value[0], int) else "several prompts"
        raise InvalidRequest(f"prompt may not be {what} here: send one text", field="prompt")
    if not isinstance(value, str) or not value:
        raise InvalidRequest("prompt must be text that is not empty", field="prompt")
    return value


def _echo(value: object) -> bool:
    if value is not None and not isinstance(value, bool):
        raise InvalidRequest("echo must be true or false", field="echo")
    return bool(value)


def _refuse(body: dict[str, Any]) -> None:
    """
    Raises:
        InvalidRequest: something that a chat cannot do is asked for.
    """
    if body.get("suffix"):
        raise InvalidRequest("suffix is not supported: nothing can be inserted", field="suffix")
    best_of, choices = body.get("best_of"), body.get("n")
    if best_of is not None and best_of != (choices or 1):
        raise InvalidRequest("best_of must be as n", field="best_of")
    if body.get("logprobs"):
        raise InvalidRequest("logprobs are only served by /v1/chat/completions", field="logprobs")


class _Text:
    """What both ways of answering know of the response."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.id = ""
        self.created_s = 0
        self.fingerprint = ""
        self.finished: dict[int, FinishReason] = {}

    def take(self, event: StreamEvent) -> None:
        if isinstance(event, ResponseInfo) and not self.id:
            self.id = event.response_id
            self.model = event.model or self.model
            self.created_s = event.created_s
            self.fingerprint = event.system_fingerprint
        elif isinstance(event, ChoiceFinished):
            self.finished[event.choice] = event.reason

    def fields(self) -> dict[str, Any]:
        """The same at each call: what the provider did not say is made up once."""
        self.id = self.id or f"cmpl-{secrets.token_hex(12)}"
        self.created_s = self.created_s or int(time.time())
        fields: dict[str, Any] = {
            "id": self.id,
            "object": "text_completion",
            "created": self.created_s,
            "model": self.model,
        }
        if self.fingerprint:
            fields["system_fingerprint"] = self.fingerprint
        return fields

    def finish_of(self, choice: int) -> str:
        return _FINISH.get(self.finished.get(choice, FinishReason.STOP), "stop")


class _Encoder:
    """Events to the bytes of a stream of `text_completion` objects."""

    def __init__(self, model: str, said: str, *, with_usage: bool, with_relay: bool) -> None:
        self._text = _Text(model)
        self._said = said
        self._with_usage = with_usage
        self._with_relay = with_relay
        self._head = b""
        self._begun: set[int] = set()

    def encode(self, events: Events) -> bytes:
        out = b""
        for event in events:
            if isinstance(event, TextDelta | RefusalDelta):
                out += self._piece(event.choice, event.text)
            else:
                self._text.take(event)
        return out

    def _piece(self, choice: int, text: str, finish: str | None = None) -> bytes:
        if not self._head:
            self._head = b"data: " + orjson.dumps(self._text.fields())[:-1] + b',"choices":[{'
        if choice not in self._begun:
            self._begun.add(choice)
            text = self._said + text
        return b'%s"index":%d,"text":%s,"logprobs":null,"finish_reason":%s}]}\n\n' % (
            self._head,
            choice,
            orjson.dumps(text),
            orjson.dumps(finish),
        )

    def encode_end(self, end: GenerationEnd) -> bytes:
        out = b""
        for choice in self._text.finished:
            out += self._piece(choice, "", self._text.finish_of(choice))
        if self._with_usage or self._with_relay:
            usage = usage_object(end.usage) if end.usage else {}
            if self._with_relay:
                usage["x_relay"] = relay_object(end)
            head = {**self._text.fields(), "choices": [], "usage": usage}
            out += b"data: " + orjson.dumps(head) + b"\n\n"
        return out + b"data: [DONE]\n\n"

    def encode_error(self, error: RelayError, request_id: str) -> bytes:
        return b"data: " + error_body(error, request_id) + b"\n\n"


class _Document:
    """Events to one `text_completion`."""

    def __init__(self, model: str, said: str, *, with_relay: bool) -> None:
        self._text = _Text(model)
        self._said = said
        self._with_relay = with_relay
        self._parts: dict[int, list[str]] = {}
        self._held_bytes = 0

    def add(self, events: Events) -> None:
        for event in events:
            if isinstance(event, TextDelta | RefusalDelta):
                self._parts.setdefault(event.choice, []).append(event.text)
                self._held_bytes += held_bytes(event)
            else:
                self._text.take(event)
        if self._held_bytes > MAX_ANSWER_BYTES:
            self._parts.clear()
            raise EventTooLarge(
                f"the answer is too large for one document ({MAX_ANSWER_BYTES} bytes): stream it"
            )

    def to_json(self, end: GenerationEnd) -> bytes:
        choices = [
            {
                "index": choice,
                "text": self._said + "".join(self._parts.get(choice, ())),
                "logprobs": None,
                "finish_reason": self._text.finish_of(choice),
            }
            for choice in sorted(self._text.finished)
        ]
        value = {**self._text.fields(), "choices": choices}
        if end.usage is not None:
            usage = usage_object(end.usage)
            if self._with_relay:
                usage["x_relay"] = relay_object(end)
            value["usage"] = usage
        return orjson.dumps(value)
