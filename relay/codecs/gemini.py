"""Gemini's `streamGenerateContent`, at Google's AI endpoint and at Vertex (wire `gemini`).

Reading: the body's first byte says what it is, as for `openai_chat`: an event stream, or JSON (a
whole answer, or the array that comes piecewise without `alt=sse`, whose objects are read as soon
as they are whole). The stream has no end marker, only the end of the connection: it is clean with
a finish reason for every candidate (or for the prompt, when that was blocked) and nothing half
said after it. What one object says is in `gemini_answer`, errors are in `gemini_errors`.

Sending is in `gemini_request`. Fields of the wire that a caller may give in its own words, among
the extra ones: `safetySettings`, `cachedContent`, `labels`, `modelArmorConfig`, and
`generationConfig` and `toolConfig`, under whatever the request's typed fields say. Tools without
a `type` that are Gemini's (`{"googleSearch": {}}`) go as they are.

What this wire cannot say, and what is done about it:

    refused by name         parallel_tool_calls: false; logit_bias, prediction, functions and
                            function_call, web_search_options, modalities other than text; custom
                            tools and other kinds of tool; tool choices other than a list of
                            allowed functions; files by ids that are no URI; instructions that
                            are no text; parts of other wires; a response format beside tools
                            before Gemini 3
    faults of the request   a tool's result whose call is not among the messages before it, a
                            file without its type, a schema that is no JSON object
    said otherwise          instructions in the middle are put with those at the start; a
                            conversation of instructions alone gets a user's turn "."; refusals
                            are text; results of tools that are no JSON object are `{"result"}`,
                            arguments that are none `{"arguments"}`; images beside a result
                            follow the results; seeds are cut to 31 bits; effort becomes a level
                            or a budget, or nothing where a model does not think; calls that
                            another model made are marked as unsigned (Gemini 3)
    left out                user, prompt_cache_key, names of messages, `detail` of images,
                            filenames, tools.strict, names of schemas, reasoning text that is
                            not signed, `top_k` below 1, service tiers other than flex, priority
                            and standard, and every extra field not named here

Source: ai.google.dev and docs.cloud.google.com as of mid 2026, and recorded exchanges of both
endpoints (`wire/gemini.md`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

import msgspec
import orjson

from relay.codecs import gemini_errors, gemini_hot_chunk, lenient_json
from relay.codecs.base import CodecFactory, EncodedRequest
from relay.codecs.error_text import looks_like_markup
from relay.codecs.gemini_answer import AnswerReader
from relay.codecs.gemini_quirks import GeminiQuirks
from relay.codecs.gemini_request import WIRE, encode_body, request_path
from relay.codecs.json_stream import JsonObjectSplitter
from relay.content import Events, GenerateRequest, ProviderFailed, StreamEvent
from relay.errors import EventTooLarge, RemoteProtocolError, StreamTruncated, UpstreamError
from relay.sse import MAX_EVENT_BYTES, SseParser

MAX_ERROR_BYTES: Final = 64 * 1024
"""Of an error body; the rest is dropped."""

# How the body is read.
_SNIFFING: Final = 0
_STREAM: Final = 1
_JSON: Final = 2
_ERROR: Final = 3
_OVER: Final = 4

_BOM: Final = b"\xef\xbb\xbf"


class GeminiCodec:
    """One attempt at one host of Gemini models."""

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
        "_splitter",
        "_status",
        "mended_events",
    )

    def __init__(self, quirks: GeminiQuirks | None = None, provider: str = WIRE) -> None:
        self._quirks = quirks or GeminiQuirks()
        self._provider = provider
        self._asked_choices = 1
        self._mode = _SNIFFING
        self._status = 200
        self._headers: list[tuple[str, str]] = []
        self._parser = SseParser()
        self._splitter = JsonObjectSplitter(MAX_EVENT_BYTES)
        self._body = bytearray()  # sniffed bytes, or an error
        self._reader = AnswerReader()
        self._hot_misses = 0
        self._is_done = False
        self.mended_events = 0

    # --- the Codec protocol -----------------------------------------------------------------

    def encode_request(self, request: GenerateRequest, model: str) -> EncodedRequest:
        self._asked_choices = request.sampling.choices or 1
        return EncodedRequest(
            path=request_path(self._quirks.path, model),
            headers=[("content-type", "application/json"), ("accept", "text/event-stream")],
            body=encode_body(request, model, self._quirks, self._provider),
        )

    def decode_headers(self, status: int, headers: list[tuple[str, str]]) -> None:
        self._status = status
        if status >= 300:
            self._mode = _ERROR
            self._headers = headers
            return
        tier = next((value for name, value in headers if name == "x-gemini-service-tier"), "")
        self._reader = AnswerReader(self._asked_choices, tier)

    def feed(self, chunk: bytes | memoryview) -> Events:
        if self._mode == _STREAM:
            return self._feed_stream(chunk)
        if self._mode == _JSON:
            return self._feed_json(bytes(chunk))
        if self._mode == _SNIFFING:
            return self._sniff(chunk)
        if self._mode == _ERROR:
            self._body += chunk[: MAX_ERROR_BYTES - len(self._body)]
        return ()

    def end(self) -> Events:
        mode = self._mode
        events: list[StreamEvent] = []
        if mode == _OVER:
            return ()
        if mode == _ERROR:
            body = bytes(self._body)
            return self._failed(gemini_errors.decode_error(self._status, self._headers, body))
        try:
            if mode == _STREAM:
                self._end_stream(events)
            elif self._splitter.is_open:
                raise StreamTruncated("the provider's answer is not a whole JSON document")
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
        head = bytes(self._body.lstrip())
        if _BOM.startswith(head):  # blanks, or a mark that may still be cut
            self._body[:] = head
            return ()
        head = head.removeprefix(_BOM).lstrip()
        if not head:
            self._body[:] = _BOM
            return ()
        self._body.clear()
        if looks_like_markup(head):
            error = "the provider answered with markup instead of an answer"
            return self._failed(RemoteProtocolError(error))
        self._mode = _JSON if head.startswith((b"{", b"[")) else _STREAM
        return self.feed(head)

    # --- an event stream --------------------------------------------------------------------

    def _feed_stream(self, chunk: bytes | memoryview) -> Events:
        events: list[StreamEvent] = []
        parser = self._parser
        try:
            for name, data in parser.feed(chunk):
                if (
                    self._hot_misses < gemini_hot_chunk.MAX_MISSES
                    and not name
                    and self._on_hot_chunk(data, events)
                ):
                    continue
                if data.startswith(b"[DONE"):  # gateways that speak OpenAI as well
                    self._on_end_marker()
                    break
                self._on_document(name, self._read_json(data), events)
            if parser.is_too_large and not self._is_done:
                raise EventTooLarge("an event of the provider's stream is too large")
        except UpstreamError as error:
            events.extend(self._failed(error))
        return events

    def _on_hot_chunk(self, data: bytes, events: list[StreamEvent]) -> bool:
        """Take the chunk if it is just text for a candidate that we know."""
        try:
            chunk = gemini_hot_chunk.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._hot_misses += 1
            return False
        self._hot_misses = 0
        return self._reader.read_hot(chunk, events)

    def _end_stream(self, events: list[StreamEvent]) -> None:
        """The last event may lack its blank line: whole if it is JSON, else it was cut."""
        is_open = self._parser.held_bytes > 0
        tail = self._parser.end()
        if tail is None:
            if is_open:
                raise StreamTruncated("the provider's answer ended inside an event")
            return
        name, data = tail
        if data.startswith(b"[DONE"):
            self._is_done = True
            return
        try:
            document = self._read_json(data)
        except RemoteProtocolError:
            raise StreamTruncated("the provider's answer ended inside an event") from None
        self._on_document(name, document, events)

    # --- JSON ---------------------------------------------------------------------------------

    def _feed_json(self, chunk: bytes) -> Events:
        events: list[StreamEvent] = []
        splitter = self._splitter
        try:
            for data in splitter.feed(chunk):
                self._on_document("", self._read_json(data), events)
            if splitter.is_too_large:
                raise EventTooLarge("an object of the provider's answer is too large")
            if splitter.is_broken:
                raise RemoteProtocolError("the provider sent JSON that is not an answer")
            if splitter.is_closed:
                self._on_end_marker()
        except UpstreamError as error:
            events.extend(self._failed(error))
        return events

    def _read_json(self, data: bytes) -> Any:
        """
        Raises:
            RemoteProtocolError: it is no JSON, however forgivingly read.
        """
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError:
            pass
        try:
            value, is_mended = lenient_json.read(data)
        except ValueError:
            raise RemoteProtocolError("an event of the provider's stream is not JSON") from None
        self.mended_events += is_mended
        return value

    def _on_document(self, name: str, document: Any, events: list[StreamEvent]) -> None:
        if name == "error":
            raise gemini_errors.decode_inner_error(document)
        left_out = self._reader.left_out
        self._reader.read(document, events)
        self.mended_events += self._reader.left_out > left_out

    # --- the end ------------------------------------------------------------------------------

    def _on_end_marker(self) -> None:
        self._is_done = True
        self._check_ending()
        self._mode = _OVER

    def _check_ending(self) -> None:
        """The wire's own end must have come.

        Raises:
            StreamTruncated: it has not.
        """
        reader = self._reader
        if not reader.has_begun:
            raise StreamTruncated("the provider's answer ended before it began")
        # With an end marker fewer candidates than asked for are the provider's will.
        may_be_cut = self._mode == _STREAM and not self._is_done
        if reader.has_open_choices or (
            may_be_cut and reader.finished_choices < self._asked_choices
        ):
            raise StreamTruncated("the provider's answer ended without a finish reason")

    def _failed(self, error: UpstreamError) -> list[StreamEvent]:
        self._mode = _OVER
        self._body.clear()
        return [ProviderFailed(error)]


def build_gemini(quirks: Mapping[str, Any], provider: str) -> CodecFactory:
    """`CodecBuilder` of this wire."""
    checked = GeminiQuirks.from_mapping(quirks, provider)
    return lambda: GeminiCodec(checked, provider)
