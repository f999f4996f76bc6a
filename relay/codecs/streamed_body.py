"""The body of a response that should be an event stream, whatever it turns out to be.

What every wire over server-sent events shares: the body's first byte says what it is (`{` or `[` a
whole JSON document, `<` markup, else an event stream), not its content type, which proxies get
wrong; a status that is no success makes it an error; caps of memory hold; the end is judged once.
A wire adds how its events, its documents and its errors are read. Whatever fails is told with the
id that the provider's headers give the request, unless the body named one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Final, Protocol

from relay.codecs import lenient_json
from relay.codecs.base import ErrorDecoder
from relay.codecs.error_text import looks_like_markup, provider_request_id
from relay.content import Events, ProviderFailed, StreamEvent
from relay.errors import EventTooLarge, NotAnAnswer, StreamTruncated, UpstreamError
from relay.sse import MAX_EVENT_BYTES, SseEvent, SseParser

MAX_ERROR_BYTES: Final = 64 * 1024
"""Of an error body; the rest is dropped."""

# How the body is read.
SNIFFING: Final = 0
STREAM: Final = 1
DOCUMENT: Final = 2
ERROR: Final = 3
OVER: Final = 4

_BOM: Final = b"\xef\xbb\xbf"


class EventParser(Protocol):
    """Cuts a body into events, as `SseParser` does."""

    is_too_large: bool
    """An event went over the cap; everything from there on is dropped."""

    def feed(self, chunk: bytes | memoryview) -> list[SseEvent]:
        """The events that these bytes complete, in order."""
        ...

    def end(self) -> SseEvent | None:
        """The body is over: the event that is not complete, if it can be read at all."""
        ...

    @property
    def held_bytes(self) -> int:
        """Bytes kept for an event that is not complete yet."""
        ...


class ChoiceReader(Protocol):
    """What is known of the choices of an answer."""

    @property
    def has_begun(self) -> bool:
        """Whether there is an answer at all."""
        ...

    @property
    def has_open_choices(self) -> bool:
        """Whether a choice has begun and not finished."""
        ...

    @property
    def finished_choices(self) -> int:
        """How many have finished."""
        ...


class StreamedBody(ABC):
    """The receiving half of a `Codec` whose wire is an event stream.

    `feed` and `end` turn an `UpstreamError` that a hook raises into `ProviderFailed`, after the
    events that came before it.

    Args:
        parser: cuts the body into events.
    """

    DOCUMENT_MARKS: ClassVar[tuple[bytes, ...]] = (b"{", b"[")
    """What a body begins with that is one document; none where every event is a document."""

    decode_error: ClassVar[ErrorDecoder]
    """Reads the body of a response whose status is no success."""

    __slots__ = ("_body", "_headers", "_is_done", "_mode", "_parser", "_status", "mended_events")

    def __init__(self, parser: EventParser | None = None) -> None:
        self._mode = SNIFFING
        self._status = 200
        self._headers: list[tuple[str, str]] = []
        self._parser = parser or SseParser()
        self._body = bytearray()  # sniffed bytes, a document or an error
        self._is_done = False
        self.mended_events = 0

    # --- what a wire adds -------------------------------------------------------------------

    @abstractmethod
    def _feed_stream(self, chunk: bytes | memoryview) -> Events:
        """Decode bytes of an event stream; never raises."""

    @abstractmethod
    def _on_document(self, document: Any, events: list[StreamEvent]) -> None:
        """Take the only document there is.

        Raises:
            UpstreamError: it reports a failure or breaks the format.
        """

    @abstractmethod
    def _on_tail(self, name: str, data: bytes, events: list[StreamEvent]) -> None:
        """Take the stream's last event, which lacks its blank line and may have been cut.

        Raises:
            UpstreamError: it reports a failure or breaks the format.
        """

    @abstractmethod
    def _check_ending(self) -> None:
        """The body is over: the wire's own end must have come.

        Raises:
            StreamTruncated: it has not.
        """

    # --- what a wire may do otherwise -------------------------------------------------------

    def _feed_document(self, chunk: bytes | memoryview) -> Events:
        """Take bytes of a document; it is read when it is whole."""
        if len(self._body) + len(chunk) > MAX_EVENT_BYTES:
            return self._failed(EventTooLarge("the provider's answer is too large"))
        self._body += chunk
        return ()

    def _end_document(self, events: list[StreamEvent]) -> None:
        """The body is over, a document.

        Raises:
            UpstreamError: it reports a failure, breaks the format or was cut.
        """
        try:
            document = self._read_lenient(bytes(self._body))
        except ValueError:
            raise StreamTruncated("the provider's answer is not a whole JSON document") from None
        self._on_document(document, events)

    def _end_stream(self, events: list[StreamEvent]) -> None:
        """The body is over, an event stream: see to what it left open.

        Raises:
            UpstreamError: the last event reports a failure or breaks the format.
        """
        if (tail := self._parser.end()) is not None:
            self._on_tail(*tail, events)

    # --- the Codec protocol -----------------------------------------------------------------

    def decode_headers(self, status: int, headers: list[tuple[str, str]]) -> None:
        self._status = status
        self._headers = headers
        if status >= 300:
            self._mode = ERROR

    def feed(self, chunk: bytes | memoryview) -> Events:
        if self._mode == STREAM:
            return self._feed_stream(chunk)
        if self._mode == SNIFFING:
            return self._sniff(chunk)
        if self._mode == DOCUMENT:
            return self._feed_document(chunk)
        if self._mode == ERROR:
            self._body += chunk[: MAX_ERROR_BYTES - len(self._body)]
        return ()

    def end(self) -> Events:
        mode = self._mode
        events: list[StreamEvent] = []
        if mode == OVER:
            return ()
        if mode == ERROR:
            return self._failed(self.decode_error(self._status, self._headers, bytes(self._body)))
        try:
            if mode == DOCUMENT:
                self._end_document(events)
            elif mode == STREAM:
                self._end_stream(events)
            self._check_ending()
        except UpstreamError as error:
            events.extend(self._failed(error))
        self._mode = OVER
        return events

    @property
    def is_finished(self) -> bool:
        return self._is_done

    # --- for the wire's own use ----------------------------------------------------------------

    def _failed(self, error: UpstreamError) -> list[StreamEvent]:
        self._mode = OVER
        self._body.clear()
        # The frames it came through hold the batch that it is put into: a cycle for every failure.
        error.__traceback__ = error.__context__ = None
        if request_id := provider_request_id(self._headers):
            error.metadata.setdefault("provider_request_id", request_id)
        return [ProviderFailed(error)]

    def _read_lenient(self, data: bytes) -> Any:
        """
        Raises:
            ValueError: it is not JSON.
        """
        value, is_mended = lenient_json.read(data)
        self.mended_events += is_mended
        return value

    def _check_choices(self, reader: ChoiceReader, asked: int) -> None:
        """`_check_ending` of wires that end with a finish reason for every choice.

        Args:
            asked: how many choices were asked for.

        Raises:
            StreamTruncated: one of them lacks.
        """
        if not reader.has_begun:
            raise StreamTruncated("the provider's answer ended before it began")
        # With an end marker fewer choices than asked for are the provider's will.
        may_be_cut = self._mode == STREAM and not self._is_done
        if reader.has_open_choices or (may_be_cut and reader.finished_choices < asked):
            raise StreamTruncated("the provider's answer ended without a finish reason")

    # --- which kind of body -----------------------------------------------------------------

    def _sniff(self, chunk: bytes | memoryview) -> Events:
        self._body += chunk
        # DeepSeek and OpenRouter send blank lines while a request waits: drop them.
        head = bytes(self._body.lstrip())
        if _BOM.startswith(head):  # nothing, or a mark that may still be cut
            self._body[:] = head
            return ()
        head = head.removeprefix(_BOM).lstrip()
        if not head:
            self._body[:] = _BOM
            return ()
        self._body.clear()
        if looks_like_markup(head):
            error = "the provider answered with markup instead of a completion"
            return self._failed(NotAnAnswer(error))
        self._mode = DOCUMENT if head.startswith(self.DOCUMENT_MARKS) else STREAM
        return self.feed(head)
