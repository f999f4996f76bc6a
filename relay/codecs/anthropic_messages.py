"""Anthropic's Messages API (wire `anthropic_messages`).

Strategy: sending follows the provider's quirks (`anthropic_request`, which lists what this wire
cannot say); reading follows `anthropic_message`. The body's first bytes say what it is (`{` a whole
message, `<` markup, else an event stream), and `type` inside the data says what an event is, its
SSE name beside it being the same word. Clean is the end after `message_stop` and no other: the
stop reason comes before it, and text or counts may stand between.

The event that is just text has a lane of its own (`anthropic_hot_event`). What it costs is
measured by `bench/micro/codec.py`.

Source: wire/anthropic-messages.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

import msgspec
import orjson

from relay.codecs import anthropic_errors, lenient_json
from relay.codecs.anthropic_hot_event import MAX_MISSES, decode_text_event
from relay.codecs.anthropic_message import MessageReader
from relay.codecs.anthropic_quirks import AnthropicQuirks
from relay.codecs.anthropic_request import WIRE, encode_body
from relay.codecs.base import CodecFactory, EncodedRequest
from relay.codecs.body_kind import BodyKind, begin_body
from relay.content import Events, GenerateRequest, ProviderFailed, StreamEvent, TextDelta
from relay.errors import EventTooLarge, RemoteProtocolError, StreamTruncated, UpstreamError
from relay.sse import MAX_EVENT_BYTES, SseParser

MAX_ERROR_BYTES: Final = 64 * 1024
"""Of an error body; the rest is dropped."""

# How the body is read.
_SNIFFING: Final = 0
_STREAM: Final = 1
_DOCUMENT: Final = 2
_ERROR: Final = 3
_OVER: Final = 4

_KNOWN_NAMES: Final = frozenset(
    {
        "",
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    }
)
"""Names of events whose data must be JSON; what others carry is nothing to us."""


class AnthropicMessagesCodec:
    """One attempt at one provider of the Messages API."""

    wire: ClassVar[str] = WIRE

    __slots__ = (
        "_body",
        "_headers",
        "_hot_misses",
        "_mode",
        "_parser",
        "_provider",
        "_quirks",
        "_reader",
        "_status",
        "mended_events",
    )

    def __init__(self, quirks: AnthropicQuirks | None = None, provider: str = WIRE) -> None:
        self._quirks = quirks or AnthropicQuirks()
        self._provider = provider
        self._mode = _SNIFFING
        self._status = 200
        self._headers: list[tuple[str, str]] = []
        self._parser = SseParser()
        self._body = bytearray()  # sniffed bytes, a document or an error
        self._reader = MessageReader()
        self._hot_misses = 0
        self.mended_events = 0

    # --- the Codec protocol -----------------------------------------------------------------

    def encode_request(self, request: GenerateRequest, model: str) -> EncodedRequest:
        quirks = self._quirks
        headers = [
            ("content-type", "application/json"),
            ("accept", "text/event-stream"),
            ("anthropic-version", quirks.version),
        ]
        if quirks.betas:
            headers.append(("anthropic-beta", ",".join(quirks.betas)))
        return EncodedRequest(
            path=quirks.path,
            headers=headers,
            body=encode_body(request, model, quirks, self._provider),
        )

    def decode_headers(self, status: int, headers: list[tuple[str, str]]) -> None:
        self._status = status
        self._headers = self._reader.headers = headers
        if status >= 300:
            self._mode = _ERROR

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
        mode = self._mode
        events: list[StreamEvent] = []
        if mode == _OVER:
            return ()
        if mode == _ERROR:
            body = bytes(self._body)
            return self._failed(anthropic_errors.decode_error(self._status, self._headers, body))
        try:
            if mode == _DOCUMENT:
                self._reader.read_whole(self._whole_document(), events)
                self.mended_events += self._reader.left_out > 0
            else:
                if mode == _STREAM and (tail := self._parser.end()) is not None:
                    self._on_tail(*tail, events)
                if not self._reader.is_done:
                    raise StreamTruncated("the provider's answer ended before its end")
        except UpstreamError as error:
            events.extend(self._failed(error))
        self._mode = _OVER
        return events

    @property
    def is_finished(self) -> bool:
        return self._reader.is_done

    # --- which kind of body -----------------------------------------------------------------

    def _sniff(self, chunk: bytes | memoryview) -> Events:
        self._body += chunk
        kind, head = begin_body(self._body)
        if kind is BodyKind.UNKNOWN:
            return ()
        if kind is BodyKind.MARKUP:
            error = "the provider answered with markup instead of a message"
            return self._failed(RemoteProtocolError(error))
        self._mode = _DOCUMENT if kind is BodyKind.DOCUMENT else _STREAM
        return self.feed(head)

    # --- an event stream --------------------------------------------------------------------

    def _feed_stream(self, chunk: bytes | memoryview) -> Events:
        events: list[StreamEvent] = []
        parser, reader = self._parser, self._reader
        try:
            for name, data in parser.feed(chunk):
                if reader.is_in_text and self._hot_misses < MAX_MISSES:
                    try:
                        text = decode_text_event(data).delta.text
                    except (msgspec.DecodeError, UnicodeDecodeError):
                        self._hot_misses += 1
                    else:
                        self._hot_misses = 0
                        if text:
                            reader.text_chars += len(text)
                            events.append(TextDelta(text))
                        continue
                self._on_event(name, data, events)
                if reader.is_done:
                    self._mode = _OVER  # OpenRouter adds `[DONE]`; nothing counts any more
                    break
            if parser.is_too_large and not reader.is_done:
                raise EventTooLarge("an event of the provider's stream is too large")
        except UpstreamError as error:
            events.extend(self._failed(error))
        return events

    def _on_event(self, name: str, data: bytes, events: list[StreamEvent]) -> None:
        """
        Raises:
            UpstreamError: the event reports an error, or breaks the format.
        """
        try:
            document = orjson.loads(data)
        except orjson.JSONDecodeError:
            try:
                document = self._read_lenient(data)
            except ValueError:
                if name == "error":
                    document = {"error": {}}  # that much was said
                elif name in _KNOWN_NAMES and not data.startswith(b"[DONE"):
                    text = "an event of the provider's stream is not JSON"
                    raise RemoteProtocolError(text) from None
                else:
                    return
        if name == "error":
            raise anthropic_errors.decode_inner_error(document, self._headers)
        if type(document) is dict or name in _KNOWN_NAMES:
            left_out = self._reader.left_out
            self._reader.read(document, events)
            self.mended_events += self._reader.left_out > left_out

    def _on_tail(self, name: str, data: bytes, events: list[StreamEvent]) -> None:
        """The last event, without its blank line: whole if it is JSON, else it was cut."""
        try:
            lenient_json.loads(data)
        except ValueError:
            return
        self._on_event(name, data, events)

    def _whole_document(self) -> Any:
        try:
            return self._read_lenient(bytes(self._body))
        except ValueError:
            raise StreamTruncated("the provider's answer is not a whole JSON document") from None

    def _read_lenient(self, data: bytes) -> Any:
        """
        Raises:
            ValueError: it is not JSON.
        """
        value, is_mended = lenient_json.read(data)
        self.mended_events += is_mended
        return value

    def _failed(self, error: UpstreamError) -> list[StreamEvent]:
        self._mode = _OVER
        self._body.clear()
        return [ProviderFailed(error)]


def build_anthropic_messages(quirks: Mapping[str, Any], provider: str) -> CodecFactory:
    """`CodecBuilder` of this wire."""
    checked = AnthropicQuirks.from_mapping(quirks, provider)
    return lambda: AnthropicMessagesCodec(checked, provider)
