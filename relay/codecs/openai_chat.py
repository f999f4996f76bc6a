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

The chunk that is just text has lanes of its own (`openai_hot_chunk`, and `text_lane` for those that
are like the one before). What they cost is measured by `bench/micro/codec.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec
import orjson

from relay.codecs import openai_errors, openai_hot_chunk
from relay.codecs.base import CodecFactory, EncodedRequest, ErrorDecoder
from relay.codecs.model_path import fill
from relay.codecs.openai_chat_request import WIRE, encode_body
from relay.codecs.openai_completion import CompletionReader
from relay.codecs.openai_quirks import OpenAIChatQuirks
from relay.codecs.streamed_body import OVER, STREAM, StreamedBody
from relay.codecs.text_lane import TextLane
from relay.content import Events, GenerateRequest, StreamEvent, TextDelta
from relay.errors import EventTooLarge, RemoteProtocolError, UpstreamError
from relay.sse import SseParser


class OpenAIChatCodec(StreamedBody):
    """One attempt at one OpenAI-compatible provider."""

    wire: ClassVar[str] = WIRE
    decode_error: ClassVar[ErrorDecoder] = staticmethod(openai_errors.decode_error)

    __slots__ = (
        "_asked_choices",
        "_hot_misses",
        "_lane",
        "_provider",
        "_quirks",
        "_reader",
        "_sse",
    )

    def __init__(self, quirks: OpenAIChatQuirks | None = None, provider: str = WIRE) -> None:
        self._sse = SseParser()
        super().__init__(self._sse)
        self._quirks = quirks or OpenAIChatQuirks()
        self._provider = provider
        self._asked_choices = 1
        self._reader = CompletionReader()
        self._hot_misses = 0
        self._lane = TextLane(openai_hot_chunk.TEXT_MARKS, openai_hot_chunk.read_apart)

    # --- the request ------------------------------------------------------------------------

    def encode_request(self, request: GenerateRequest, model: str) -> EncodedRequest:
        self._asked_choices = request.sampling.choices or 1
        return EncodedRequest(
            path=fill(self._quirks.path, model),
            headers=[("content-type", "application/json"), ("accept", "text/event-stream")],
            body=encode_body(request, model, self._quirks, self._provider),
        )

    # --- an event stream --------------------------------------------------------------------

    def text_of(self, chunk: bytes | memoryview) -> TextDelta | None:
        """See `ReadsText`."""
        lane = self._lane
        if lane.is_open and self._sse.is_idle and self._mode == STREAM:
            text = lane.text_of(bytes(chunk))
            if text is not None:
                return TextDelta(text, lane.choice)
        return None

    def feed(self, chunk: bytes | memoryview) -> Events:
        delta = self.text_of(chunk)
        return super().feed(chunk) if delta is None else [delta]

    def _feed_stream(self, chunk: bytes | memoryview) -> Events:
        events: list[StreamEvent] = []
        parser, lane, is_hot = self._sse, self._lane, False
        try:
            for name, data in parser.feed(chunk):
                if (
                    self._hot_misses < openai_hot_chunk.MAX_MISSES
                    and not name
                    and self._on_hot_chunk(data, events)
                ):
                    is_hot = True
                    continue
                lane.close()
                is_hot = False
                if data[0] == 0x5B and data.startswith(b"[DONE"):
                    self._on_done()
                    break
                try:
                    document = orjson.loads(data)
                except orjson.JSONDecodeError:
                    document = self._odd_data(name, data)
                if name == "error":
                    raise openai_errors.decode_inner_error(document)
                self.mended_events += self._reader.read(document, events)
                if self._is_done:
                    self._on_done()
                    break
            if parser.is_too_large and not self._is_done:
                raise EventTooLarge("an event of the provider's stream is too large")
        except UpstreamError as error:
            events.extend(self._failed(error))
        if is_hot and len(events) == 1 and type(text := events[0]) is TextDelta:
            lane.learn(bytes(chunk), parser.head, text.choice)
        return events

    def _on_hot_chunk(self, data: bytes, events: list[StreamEvent]) -> bool:
        """Take the chunk if it is just text for a choice that we know."""
        try:
            entry = openai_hot_chunk.decode(data).choices[0]
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._hot_misses += 1
            return False
        self._hot_misses = 0
        return self._reader.read_text(entry, events)

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
            return self._read_lenient(data)
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
        self.mended_events += self._reader.read(document, events)

    def _on_done(self) -> None:
        self._is_done = True
        self._check_ending()
        self._mode = OVER

    def _on_document(self, document: Any, events: list[StreamEvent]) -> None:
        self.mended_events += self._reader.read(document, events, is_whole=True)

    # --- the end ------------------------------------------------------------------------------

    def _check_ending(self) -> None:
        self._check_choices(self._reader, self._asked_choices)


def build_openai_chat(quirks: Mapping[str, Any], provider: str) -> CodecFactory:
    """`CodecBuilder` of this wire."""
    checked = OpenAIChatQuirks.from_mapping(quirks, provider)
    return lambda: OpenAIChatCodec(checked, provider)
