"""The body of a response that should be an event stream, whatever it turns out to be.

What every wire over server-sent events shares: the body's first byte says what it is (`{` or `[` a
whole JSON document, `<` markup, else an event stream), not its content type, which proxies get
wrong; a status that is no success makes it an error; caps of memory hold; the end is judged once.
A wire adds how its events, its documents and its errors are read.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Final

from relay.codecs import lenient_json
from relay.codecs.error_text import looks_like_markup, public_text
from relay.codecs.ndjson import NdjsonParser
from relay.content import Events, ProviderFailed, StreamEvent
from relay.errors import EventTooLarge, RemoteProtocolError, StreamTruncated, UpstreamError
from relay.sse import MAX_EVENT_BYTES, SseParser

MAX_ERROR_BYTES: Final = 64 * 1024
"""Of an error body; the rest is dropped."""

REQUEST_ID_HEADERS: Final = (
    "x-request-id",
    "request-id",  # Anthropic
    "x-ds-trace-id",  # DeepSeek
    "mistral-correlation-id",
)
"""Where providers name the request by what their support can find it."""

# How the body is read.
SNIFFING: Final = 0
STREAM: Final = 1
DOCUMENT: Final = 2
ERROR: Final = 3
OVER: Final = 4

_BOM: Final = b"\xef\xbb\xbf"


class StreamedBody(ABC):
    """The receiving half of a `Codec` whose wire is an event stream.

    `feed` and `end` turn an `UpstreamError` that a hook raises into `ProviderFailed`, after the
    events that came before it.

    Args:
        parser: cuts the body into events.
    """

    DOCUMENT_MARKS: ClassVar[tuple[bytes, ...]] = (b"{", b"[")
    """What a body begins with that is one document; none where every event is a document."""

    __slots__ = ("_body", "_headers", "_is_done", "_mode", "_parser", "_status", "mended_events")

    def __init__(self, parser: SseParser | NdjsonParser | None = None) -> None:
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

    @abstractmethod
    def _decode_error(
        self, status: int, headers: list[tuple[str, str]], body: bytes
    ) -> UpstreamError:
        """The error of a response whose status is no success."""

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
            if len(self._body) + len(chunk) > MAX_EVENT_BYTES:
                return self._failed(EventTooLarge("the provider's answer is too large"))
            self._body += chunk
        elif self._mode == ERROR:
            self._body += chunk[: MAX_ERROR_BYTES - len(self._body)]
        return ()

    def end(self) -> Events:
        mode = self._mode
        events: list[StreamEvent] = []
        if mode == OVER:
            return ()
        if mode == ERROR:
            return self._failed(self._decode_error(self._status, self._headers, bytes(self._body)))
        try:
            if mode == DOCUMENT:
                self._on_document(self._whole_document(), events)
            elif mode == STREAM and (tail := self._parser.end()) is not None:
                self._on_tail(*tail, events)
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
        if request_id := provider_request_id(self._headers):
            error.metadata["provider_request_id"] = request_id
        return [ProviderFailed(error)]

    def _read_lenient(self, data: bytes) -> Any:
        """
        Raises:
            ValueError: it is not JSON.
        """
        value, is_mended = lenient_json.read(data)
        self.mended_events += is_mended
        return value

    # --- which kind of body -----------------------------------------------------------------

    def _sniff(self, chunk: bytes | memoryview) -> Events:
        self._body += chunk
        head = self._body.removeprefix(_BOM).lstrip()
        if not head:
            # DeepSeek and OpenRouter send blank lines while a request waits: drop them.
            if not _BOM.startswith(self._body):
                self._body.clear()
            return ()
        if _BOM.startswith(head):
            return ()
        if looks_like_markup(head):
            error = "the provider answered with markup instead of a completion"
            return self._failed(RemoteProtocolError(error))
        self._body.clear()
        self._mode = DOCUMENT if head.startswith(self.DOCUMENT_MARKS) else STREAM
        return self.feed(bytes(head))

    def _whole_document(self) -> Any:
        try:
            return self._read_lenient(bytes(self._body))
        except ValueError:
            raise StreamTruncated("the provider's answer is not a whole JSON document") from None


def provider_request_id(headers: list[tuple[str, str]]) -> str:
    """The provider's own id of a request, fit to be shown; empty if it gave none."""
    by_name = dict(headers)
    for name in REQUEST_ID_HEADERS:
        if request_id := by_name.get(name, ""):
            return public_text(request_id)[:200] if request_id.isprintable() else ""
    return ""
