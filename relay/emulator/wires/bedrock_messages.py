"""Anthropic's Messages on Bedrock: `POST /model/M/invoke[-with-response-stream]`.

The body names neither model nor `stream`, and has to have `anthropic_version`; each event of a
stream comes as base64 in a frame of AWS's event stream.
"""

from __future__ import annotations

import base64
import itertools
import re
from collections.abc import Iterator, Mapping

import orjson

from relay.emulator import event_stream
from relay.emulator.answer import Answer, Asked
from relay.emulator.wires.anthropic import AnthropicMessages
from relay.emulator.wires.base import BadRequest, Event, Headers
from relay.emulator.wires.bedrock import BedrockErrors, model_of, padding

_DATA = re.compile(rb"data: ?([^\r\n]*)")
_STOP = b'"type":"message_stop"'


class BedrockMessages(BedrockErrors):
    """A `Wire` whose events are sealed into frames right before they are written."""

    name = "bedrock_messages"

    def __init__(self) -> None:
        self._messages = AnthropicMessages()

    def ask(self, path: str, body: Mapping[str, object], size_bytes: int) -> Asked:
        for key in ("model", "stream"):
            if key in body:
                raise BadRequest(
                    f"Malformed input request: #: extraneous key [{key}] is not permitted, "
                    "please reformat your input and try again."
                )
        if not isinstance(body.get("anthropic_version"), str):
            raise BadRequest(
                "Malformed input request: #: required key [anthropic_version] not found, "
                "please reformat your input and try again."
            )
        is_stream = path.partition("?")[0].endswith("/invoke-with-response-stream")
        return self._messages.ask(
            path, {**body, "model": model_of(path), "stream": is_stream}, size_bytes
        )

    def stream_head(self, answer: Answer) -> Headers:
        kind = ("x-amzn-bedrock-content-type", "application/json")
        return [*super().stream_head(answer), kind]

    def json_head(self, answer: Answer | None) -> Headers:
        if answer is None:
            return super().json_head(answer)
        counts = {"input": answer.usage.prompt, "output": answer.usage.completion}
        return [
            *super().json_head(answer),
            *((f"x-amzn-bedrock-{side}-token-count", str(n)) for side, n in counts.items()),
        ]

    def events(self, answer: Answer) -> Iterator[Event]:
        metrics = {
            "inputTokenCount": answer.usage.prompt,
            "outputTokenCount": answer.usage.completion,
            "invocationLatency": 500,
            "firstByteLatency": 120,
        }
        told = _STOP + b',"amazon-bedrock-invocationMetrics":' + orjson.dumps(metrics)
        for kind, before, after in self._messages.events(answer):
            yield kind, before.replace(_STOP, told, 1), after

    def body(self, answer: Answer) -> bytes:
        return self._messages.body(answer)

    def keepalive(self) -> bytes:
        return self.seal(self._messages.keepalive())

    def seal(self, data: bytes) -> bytes:
        """One write of an event stream as frames; bytes without any data go as they are."""
        frames = [
            event_stream.event(
                "chunk",
                b'{"bytes":"%b","p":"%b"}'
                % (base64.b64encode(found[1]), padding(next(_NUMBERS)).encode()),
            )
            for found in _DATA.finditer(data)
        ]
        return b"".join(frames) or data


_NUMBERS = itertools.count()
