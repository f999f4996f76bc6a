"""OpenAI's Responses API, as OpenAI, xAI and others serve it (wire `openai_responses`).

Every request is stateless: `store: false`, the whole conversation as items of `input`, and the
provider's own state (encrypted reasoning, items of built-in tools) out to the client and back from
it (`responses_state`). Every answer is a stream of named events; the terminal one of them
(`response.completed`, `.incomplete` or `.failed`) is the wire's end, and a stream without it was
cut. A whole response is read like its terminal event.

How a request is said here (source: OpenAI's API reference and recorded traffic, mid 2026):

    messages                 items of `input`, roles as they are; `instructions` only from extra
    parts                    input_text, input_image, input_file, input_audio; of assistants
                             output_text and refusal
    tool calls, results      function_call, function_call_output; custom_tool_call(_output)
    reasoning_details        reasoning items before what they led to; output_items likewise
    tools, tool_choice       flat; `strict` always said, since its default is Chat's reversed;
                             built-in tools as they are
    response_format          text.format; verbosity: text.verbosity
    max_output_tokens        the same; less than 16, which OpenAI answers with 400, is refused
    reasoning                reasoning.effort; reasoning.summary if the client wants reasoning and
                             asks for some; encrypted_content of models that reason
    logprobs, top_logprobs   include message.output_text.logprobs, and top_logprobs
    also the same            temperature, top_p, parallel_tool_calls, service_tier, user,
                             prompt_cache_key; of extra: metadata, safety_identifier,
                             prompt_cache_retention
    native, of extra         instructions, previous_response_id, conversation, prompt, truncation,
                             max_tool_calls, context_management, include, text, reasoning,
                             stream_options.include_obfuscation, and the row's `passes`

What this wire cannot say:

    refused by name          stop, n above 1, seed, top_k, presence_penalty, frequency_penalty;
                             of extra logit_bias, modalities beyond text, audio, prediction,
                             functions, function_call, web_search_options, background; pictures,
                             sound and files in an assistant's message; parts of other wires
    dropped                  names of messages; a reasoning budget; store; stream_options'
                             include_usage (usage always comes); any other extra field

The event that is just text has a lane of its own (`responses_hot_event`); what it costs is measured
by `bench/micro/codec.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

import msgspec
import orjson

from relay.codecs import openai_errors, responses_hot_event
from relay.codecs.base import CodecFactory, EncodedRequest, ErrorDecoder
from relay.codecs.responses_quirks import ResponsesQuirks
from relay.codecs.responses_reader import ResponseReader
from relay.codecs.responses_request import WIRE, encode_body
from relay.codecs.streamed_body import OVER, StreamedBody
from relay.content import Events, GenerateRequest, StreamEvent
from relay.errors import EventTooLarge, RemoteProtocolError, StreamTruncated, UpstreamError

MAX_MISSES: Final = 8
"""Refusals of the lane for text in a row, after which a stream is read the general way only: more
than the events before the first text of a host that leaves out their names."""


class ResponsesCodec(StreamedBody):
    """One attempt at one provider's Responses API."""

    wire: ClassVar[str] = WIRE
    decode_error: ClassVar[ErrorDecoder] = staticmethod(openai_errors.decode_error)

    __slots__ = ("_misses", "_provider", "_quirks", "_reader")

    def __init__(self, quirks: ResponsesQuirks | None = None, provider: str = WIRE) -> None:
        super().__init__()
        self._quirks = quirks or ResponsesQuirks()
        self._provider = provider
        self._reader = ResponseReader(self._quirks.reasoning_format)
        self._misses = 0

    def encode_request(self, request: GenerateRequest, model: str) -> EncodedRequest:
        return EncodedRequest(
            path=self._quirks.path,
            headers=[("content-type", "application/json"), ("accept", "text/event-stream")],
            body=encode_body(request, model, self._quirks, self._provider),
        )

    # --- an event stream --------------------------------------------------------------------

    def _feed_stream(self, chunk: bytes | memoryview) -> Events:
        events: list[StreamEvent] = []
        parser = self._parser
        read_text = self._reader.read_text
        try:
            for name, data in parser.feed(chunk):
                if (name == responses_hot_event.NAME or not name) and self._misses < MAX_MISSES:
                    try:
                        event = responses_hot_event.decode(data)
                    except (msgspec.DecodeError, UnicodeDecodeError):
                        self._misses += 1
                    else:
                        self._misses = 0
                        read_text(event, events)
                        continue
                self._on_event(name, data, events)
                if self._is_done:
                    self._mode = OVER
                    break
            if parser.is_too_large and not self._is_done:
                raise EventTooLarge("an event of the provider's stream is too large")
        except UpstreamError as error:
            events.extend(self._failed(error))
        return events

    def _on_event(self, name: str, data: bytes, events: list[StreamEvent]) -> None:
        if data.startswith(b"[DONE"):
            return  # some hosts add it; it is not this wire's end
        try:
            document = orjson.loads(data)
        except orjson.JSONDecodeError:
            try:
                document = self._read_lenient(data)
            except ValueError:
                if name and not name.startswith("response."):
                    document = None  # a ping, or an error without words
                else:
                    error = "an event of the provider's stream is not JSON"
                    raise RemoteProtocolError(error) from None
        self._read(name, document, events)

    def _on_tail(self, name: str, data: bytes, events: list[StreamEvent]) -> None:
        try:
            document = self._read_lenient(data)
        except ValueError:
            return  # it was cut
        self._read(name, document, events)

    def _read(self, name: str, document: Any, events: list[StreamEvent]) -> None:
        left_out = self._reader.left_out
        self._reader.read(name, document, events)
        self.mended_events += self._reader.left_out > left_out
        self._is_done = self._reader.is_finished

    # --- the end ------------------------------------------------------------------------------

    def _on_document(self, document: Any, events: list[StreamEvent]) -> None:
        self._reader.read_whole(document, events)
        self.mended_events += self._reader.left_out > 0

    def _check_ending(self) -> None:
        if not self._reader.is_finished:
            raise StreamTruncated("the provider's answer ended without its terminal event")


def build_openai_responses(quirks: Mapping[str, Any], provider: str) -> CodecFactory:
    """`CodecBuilder` of this wire."""
    checked = ResponsesQuirks.from_mapping(quirks, provider)
    return lambda: ResponsesCodec(checked, provider)
