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

from relay.codecs import lenient_json, openai_errors, openai_hot_chunk
from relay.codecs.base import CodecFactory, EncodedRequest
from relay.codecs.body_kind import BodyKind, begin_body
from relay.codecs.openai_chat_request import WIRE, encode_body
from relay.codecs.openai_completion import CompletionReader
from relay.codecs.openai_quirks import OpenAIChatQuirks
from relay.content import Events, GenerateRequest, ProviderFailed, StreamEvent
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


class OpenAIChatCodec:
    """One attempt at one OpenAI-compatible provider."""

    wire: ClassVar[str] = WIRE

    __slots__ = (
        "_asked_choices",
        "_body",
        "_headers",
        "_hot_misses",
        "_is_done",
        "_mode",
        "_parser",
        "_provider",
        "_quirks",
        "_reader",
        "_status",
        "mended_events",
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
        self._reader = CompletionReader()
        self._hot_misses = 0
        self._is_done = False
        self.mended_events = 0

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
        mode = self._mode
        events: list[StreamEvent] = []
        if mode == _OVER:
            return ()
        if mode == _ERROR:
            body = bytes(self._body)
            return self._failed(openai_errors.decode_error(self._status, self._headers, body))
        try:
            if mode == _DOCUMENT:
                document = self._whole_document()
                self.mended_events += self._reader.read(document, events, is_whole=True)
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
        kind, head = begin_body(self._body)
        if kind is BodyKind.UNKNOWN:
            return ()
        if kind is BodyKind.MARKUP:
            error = "the provider answered with markup instead of a completion"
            return self._failed(RemoteProtocolError(error))
        self._mode = _DOCUMENT if kind is BodyKind.DOCUMENT else _STREAM
        return self.feed(head)

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
                self.mended_events += self._reader.read(document, events)
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
        self._mode = _OVER

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

    # --- the end ------------------------------------------------------------------------------

    def _check_ending(self) -> None:
        """The wire's own end must have come.

        Raises:
            StreamTruncated: it has not.
        """
        reader = self._reader
        if not reader.has_begun:
            raise StreamTruncated("the provider's answer ended before it began")
        # With [DONE] fewer choices than asked for are the provider's will, else they were cut.
        may_be_cut = self._mode == _STREAM and not self._is_done
        if reader.has_open_choices or (
            may_be_cut and reader.finished_choices < self._asked_choices
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
