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
                            function_call, web_search_options, audio, modalities other than
                            text; custom tools and other kinds of tool; tool choices other than
                            a list of allowed functions; files by ids that are no URI; instructions
                            that are no text; parts of other wires; a response format beside tools
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

from relay.codecs import gemini_errors, gemini_hot_chunk
from relay.codecs.base import CodecFactory, EncodedRequest, ErrorDecoder
from relay.codecs.gemini_answer import AnswerReader
from relay.codecs.gemini_quirks import GeminiQuirks
from relay.codecs.gemini_request import SERVICE_TIERS, WIRE, encode_body
from relay.codecs.json_stream import JsonObjectSplitter
from relay.codecs.model_path import fill
from relay.codecs.streamed_body import OVER, StreamedBody
from relay.content import Events, GenerateRequest, StreamEvent
from relay.errors import EventTooLarge, RemoteProtocolError, StreamTruncated, UpstreamError
from relay.sse import SseParser

MAX_ANSWER_BYTES: Final = 32 << 20
"""Of one event or object: models that draw send a picture as one part of one event, and a PNG of 4K
pixels is over 20 MB in base64. Other wires stay at `MAX_EVENT_BYTES`."""


class GeminiCodec(StreamedBody):
    """One attempt at one host of Gemini models."""

    wire: ClassVar[str] = WIRE
    decode_error: ClassVar[ErrorDecoder] = staticmethod(gemini_errors.decode_error)

    __slots__ = ("_asked_choices", "_hot_misses", "_provider", "_quirks", "_reader", "_splitter")

    def __init__(self, quirks: GeminiQuirks | None = None, provider: str = WIRE) -> None:
        super().__init__(SseParser(MAX_ANSWER_BYTES))
        self._quirks = quirks or GeminiQuirks()
        self._provider = provider
        self._asked_choices = 1
        self._splitter = JsonObjectSplitter(MAX_ANSWER_BYTES)
        self._reader = AnswerReader()
        self._hot_misses = 0

    def encode_request(self, request: GenerateRequest, model: str) -> EncodedRequest:
        self._asked_choices = request.sampling.choices or 1
        headers = [("content-type", "application/json"), ("accept", "text/event-stream")]
        tier = SERVICE_TIERS.get(request.service_tier)
        if tier and tier != "standard" and self._quirks.tier_header:
            headers.append((self._quirks.tier_header, tier))
        return EncodedRequest(
            path=fill(self._quirks.path, model.removeprefix("models/")),
            headers=headers,
            body=encode_body(request, model, self._quirks, self._provider),
        )

    def decode_headers(self, status: int, headers: list[tuple[str, str]]) -> None:
        super().decode_headers(status, headers)
        tier = next((value for name, value in headers if name == "x-gemini-service-tier"), "")
        self._reader = AnswerReader(self._asked_choices, tier)

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
                self._read(name, self._read_json(data), events)
            if parser.is_too_large and not self._is_done:
                raise EventTooLarge("an event of the provider's stream is too large")
        except UpstreamError as error:
            events.extend(self._failed(error))
        return events

    def _on_hot_chunk(self, data: bytes, events: list[StreamEvent]) -> bool:
        """Take the chunk if it is just text for a candidate that we know."""
        try:
            chunk = gemini_hot_chunk.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
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
        self._on_tail(*tail, events)

    def _on_tail(self, name: str, data: bytes, events: list[StreamEvent]) -> None:
        if data.startswith(b"[DONE"):
            self._is_done = True
            return
        try:
            document = self._read_json(data)
        except RemoteProtocolError:
            raise StreamTruncated("the provider's answer ended inside an event") from None
        self._read(name, document, events)

    # --- JSON ---------------------------------------------------------------------------------

    def _feed_document(self, chunk: bytes | memoryview) -> Events:
        """Objects of an array are read one by one."""
        events: list[StreamEvent] = []
        splitter = self._splitter
        try:
            for data in splitter.feed(bytes(chunk)):
                self._on_document(self._read_json(data), events)
            if splitter.is_too_large:
                raise EventTooLarge("an object of the provider's answer is too large")
            if splitter.is_broken:
                raise RemoteProtocolError("the provider sent JSON that is not an answer")
            if splitter.is_closed:
                self._on_end_marker()
        except UpstreamError as error:
            events.extend(self._failed(error))
        return events

    def _end_document(self, events: list[StreamEvent]) -> None:
        if self._splitter.is_open:
            raise StreamTruncated("the provider's answer is not a whole JSON document")

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
            return self._read_lenient(data)
        except ValueError:
            raise RemoteProtocolError("an event of the provider's stream is not JSON") from None

    def _read(self, name: str, document: Any, events: list[StreamEvent]) -> None:
        if name == "error":
            raise gemini_errors.decode_inner_error(document)
        left_out = self._reader.left_out
        self._reader.read(document, events)
        self.mended_events += self._reader.left_out > left_out

    def _on_document(self, document: Any, events: list[StreamEvent]) -> None:
        self._reader.read(document, events)

    # --- the end ------------------------------------------------------------------------------

    def _on_end_marker(self) -> None:
        self._is_done = True
        self._check_ending()
        self._mode = OVER

    def _check_ending(self) -> None:
        self._check_choices(self._reader, self._asked_choices)


def build_gemini(quirks: Mapping[str, Any], provider: str) -> CodecFactory:
    """`CodecBuilder` of this wire."""
    checked = GeminiQuirks.from_mapping(quirks, provider)
    return lambda: GeminiCodec(checked, provider)
