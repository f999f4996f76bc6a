"""Anthropic's Messages API (wire `anthropic_messages`).

Strategy: sending follows the provider's quirks (`anthropic_request`, which lists what this wire
cannot say); reading follows `anthropic_message`. The body's first bytes say what it is (`{` a whole
message, `<` markup, else an event stream), and `type` inside the data says what an event is, its
SSE name beside it being the same word. Clean is the end after `message_stop` and no other: the
stop reason comes before it, and text or counts may stand between.

Bedrock sends the same events in frames of AWS's (quirk `framing`), which are unpacked below the
codec (`bedrock_chunks`); a frame may say a failure in AWS's words, a broken one ends the answer.

The event that is just text has lanes of its own (`anthropic_hot_event`, and `text_lane` for those
that are like the one before). What they cost is measured by `bench/micro/codec.py`.

Source: wire/anthropic-messages.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

import msgspec
import orjson

from relay.codecs import anthropic_errors, aws_errors
from relay.codecs.anthropic_hot_event import (
    MAX_MISSES,
    TEXT_MARKS,
    decode_text_event,
    read_apart,
)
from relay.codecs.anthropic_message import MessageReader
from relay.codecs.anthropic_quirks import AnthropicQuirks
from relay.codecs.anthropic_request import (
    WIRE,
    encode_body,
    encode_count_body,
    tier_of_header,
    wanted_betas,
)
from relay.codecs.aws_event_stream import ERROR_MARK
from relay.codecs.base import CodecFactory, EncodedRequest, ErrorDecoder
from relay.codecs.bedrock_chunks import BedrockChunkParser
from relay.codecs.model_path import fill
from relay.codecs.streamed_body import DOCUMENT, OVER, STREAM, EventParser, StreamedBody
from relay.codecs.text_lane import TextLane
from relay.codecs.token_counts import token_count
from relay.content import Events, GenerateRequest, StreamEvent, TextDelta
from relay.errors import (
    EventTooLarge,
    RemoteProtocolError,
    StreamTruncated,
    UpstreamError,
)
from relay.sse import SseParser

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


class AnthropicMessagesCodec(StreamedBody):
    """One attempt at one provider of the Messages API."""

    wire: ClassVar[str] = WIRE
    decode_error: ClassVar[ErrorDecoder] = staticmethod(anthropic_errors.decode_error)

    ACCEPT: ClassVar[str] = "text/event-stream"

    __slots__ = ("_hot_misses", "_lane", "_provider", "_quirks", "_reader", "_sse")

    def __init__(
        self,
        quirks: AnthropicQuirks | None = None,
        provider: str = WIRE,
        parser: EventParser | None = None,
    ) -> None:
        self._sse = SseParser() if parser is None else None
        super().__init__(parser or self._sse)
        self._quirks = quirks or AnthropicQuirks()
        self._provider = provider
        self._reader = MessageReader()
        self._hot_misses = 0
        self._lane = TextLane(TEXT_MARKS, read_apart)

    def encode_request(self, request: GenerateRequest, model: str) -> EncodedRequest:
        return EncodedRequest(
            path=fill(self._quirks.path, model),
            headers=self._sent_headers(request, self.ACCEPT),
            body=encode_body(request, model, self._quirks, self._provider),
        )

    def _sent_headers(self, request: GenerateRequest, accept: str) -> list[tuple[str, str]]:
        headers = [
            ("content-type", "application/json"),
            ("accept", accept),
        ]
        if not self._quirks.body_version:
            headers.append(("anthropic-version", self._quirks.version))
        if self._quirks.betas_in != "body" and (betas := wanted_betas(request, self._quirks)):
            headers.append(("anthropic-beta", ",".join(betas)))
        if tier := tier_of_header(request, self._quirks):
            headers.append((self._quirks.tier_header, tier))
        return headers

    # --- the count of a prompt ----------------------------------------------------------------

    def encode_count(self, request: GenerateRequest, model: str) -> EncodedRequest | None:
        """See `CountsTokens`."""
        path = self._quirks.count_path
        if not path:
            return None
        return EncodedRequest(
            path=fill(path.replace("{path}", self._quirks.path), model),
            headers=self._sent_headers(request, "application/json"),
            body=encode_count_body(request, model, self._quirks, self._provider),
        )

    def decode_count(self, status: int, headers: list[tuple[str, str]], body: bytes) -> int | None:
        """See `CountsTokens`."""
        if status >= 300:
            raise anthropic_errors.decode_error(status, headers, body)
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError:
            return None
        return token_count(document.get("input_tokens")) if type(document) is dict else None

    # --- an event stream --------------------------------------------------------------------

    def text_of(self, chunk: bytes | memoryview) -> TextDelta | None:
        """See `ReadsText`."""
        lane, sse = self._lane, self._sse
        if lane.is_open and sse is not None and sse.is_idle and self._mode == STREAM:
            text = lane.text_of(bytes(chunk))
            if text is not None:
                self._reader.text_chars += len(text)
                return TextDelta(text)
        return None

    def feed(self, chunk: bytes | memoryview) -> Events:
        delta = self.text_of(chunk)
        return super().feed(chunk) if delta is None else [delta]

    def _feed_stream(self, chunk: bytes | memoryview) -> Events:
        events: list[StreamEvent] = []
        parser, reader = self._parser, self._reader
        is_hot = False
        try:
            for name, data in parser.feed(chunk):
                if reader.is_in_text and self._hot_misses < MAX_MISSES:
                    try:
                        text = decode_text_event(data).delta.text
                    except (msgspec.DecodeError, UnicodeDecodeError):
                        self._hot_misses += 1
                    else:
                        self._hot_misses, is_hot = 0, True
                        if text:
                            reader.text_chars += len(text)
                            events.append(TextDelta(text))
                        continue
                self._lane.close()
                is_hot = False
                self._on_event(name, data, events)
                if reader.is_done:
                    self._mode = OVER  # OpenRouter adds `[DONE]`; nothing counts any more
                    break
            if parser.is_too_large and not reader.is_done:
                raise EventTooLarge("an event of the provider's stream is too large")
        except UpstreamError as error:
            events.extend(self._failed(error))
        if is_hot and len(events) == 1 and self._sse is not None:
            self._lane.learn(bytes(chunk), self._sse.head, 0)
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
        self._read(name, document, events)

    def _read(self, name: str, document: Any, events: list[StreamEvent]) -> None:
        if name == "error":
            raise anthropic_errors.decode_inner_error(document)
        if type(document) is dict or name in _KNOWN_NAMES:
            left_out = self._reader.left_out
            self._reader.read(document, events)
            self.mended_events += self._reader.left_out > left_out
            self._is_done = self._reader.is_done

    def _on_tail(self, name: str, data: bytes, events: list[StreamEvent]) -> None:
        try:
            document = self._read_lenient(data)
        except ValueError:
            return  # it was cut
        self._read(name, document, events)

    # --- the end ------------------------------------------------------------------------------

    def _on_document(self, document: Any, events: list[StreamEvent]) -> None:
        self._reader.read_whole(document, events)
        self.mended_events += self._reader.left_out > 0

    def _check_ending(self) -> None:
        # A whole message has no end but its own, which its reader has judged.
        if self._mode != DOCUMENT and not self._is_done:
            raise StreamTruncated("the provider's answer ended before its end")


class FramedMessagesCodec(AnthropicMessagesCodec):
    """One attempt at Bedrock's Messages API, whose events come in frames."""

    ACCEPT: ClassVar[str] = "application/vnd.amazon.eventstream"

    __slots__ = ("_frames",)

    def __init__(self, quirks: AnthropicQuirks | None = None, provider: str = WIRE) -> None:
        self._frames = BedrockChunkParser()
        super().__init__(quirks, provider, self._frames)

    def _feed_stream(self, chunk: bytes | memoryview) -> Events:
        events = super()._feed_stream(chunk)
        if self._frames.is_broken and self._mode != OVER:
            failed = self._failed(RemoteProtocolError("a frame of the provider's stream is broken"))
            return [*events, *failed]
        return events

    def _on_event(self, name: str, data: bytes, events: list[StreamEvent]) -> None:
        if name.startswith(ERROR_MARK):
            raise aws_errors.read_frame(name.removeprefix(ERROR_MARK), data)
        super()._on_event(name, data, events)


def build_anthropic_messages(quirks: Mapping[str, Any], provider: str) -> CodecFactory:
    """`CodecBuilder` of this wire."""
    checked = AnthropicQuirks.from_mapping(quirks, provider)
    make = AnthropicMessagesCodec if checked.framing == "sse" else FramedMessagesCodec
    return lambda: make(checked, provider)
