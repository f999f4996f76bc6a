"""Bedrock's Converse (wire `bedrock_converse`): one shape for all models there.

Sending is in `bedrock_converse_request`, which lists what this wire cannot say; reading is in
`bedrock_converse_answer`, over frames of `aws_event_stream`. The answer is whole with
`messageStop`, which says how it ended; finished it is with `metadata` behind it, which counts. A
body that ends between the two is whole without counts; one that ends before, or inside a frame, was
cut. A frame that reports a failure ends everything, and so does one whose checksum is wrong.

The event that is just text has a lane of its own (`bedrock_converse_hot_event`). What it costs is
measured by `bench/micro/codec.py`.

There are no recordings of this wire; its shapes are those of botocore's model of the service
(1.44), which the tests ask as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

import msgspec
import orjson

from relay.codecs import aws_errors, bedrock_converse_hot_event, openai_errors
from relay.codecs.anthropic_message import REASONING_FORMAT
from relay.codecs.aws_event_stream import ERROR_MARK, AwsEventParser
from relay.codecs.base import CodecFactory, EncodedRequest, ErrorDecoder
from relay.codecs.bedrock_converse_answer import ConverseReader
from relay.codecs.bedrock_converse_conversation import OWN_FORMAT, WIRE
from relay.codecs.bedrock_converse_quirks import ConverseQuirks
from relay.codecs.bedrock_converse_request import encode_body
from relay.codecs.error_text import provider_request_id
from relay.codecs.model_path import fill
from relay.codecs.streamed_body import DOCUMENT, OVER, StreamedBody
from relay.content import Events, GenerateRequest, StreamEvent, TextDelta
from relay.errors import EventTooLarge, RemoteProtocolError, StreamTruncated, UpstreamError

_ACCEPT: Final = "application/vnd.amazon.eventstream"


class ConverseCodec(StreamedBody):
    """One attempt at one model of Bedrock."""

    wire: ClassVar[str] = WIRE
    decode_error: ClassVar[ErrorDecoder] = staticmethod(openai_errors.decode_error)
    """Which knows AWS's errors; gateways before it have others."""

    __slots__ = ("_frames", "_hot_misses", "_model", "_provider", "_quirks", "_reader")

    def __init__(self, quirks: ConverseQuirks | None = None, provider: str = WIRE) -> None:
        self._frames = AwsEventParser()
        super().__init__(self._frames)
        self._quirks = quirks or ConverseQuirks()
        self._provider = provider
        self._model = ""
        self._reader = ConverseReader()
        self._hot_misses = 0

    def encode_request(self, request: GenerateRequest, model: str) -> EncodedRequest:
        self._model = model
        return EncodedRequest(
            path=fill(self._quirks.path, model),
            headers=[("content-type", "application/json"), ("accept", _ACCEPT)],
            body=encode_body(request, model, self._quirks, self._provider),
        )

    def decode_headers(self, status: int, headers: list[tuple[str, str]]) -> None:
        super().decode_headers(status, headers)
        is_claude = self._quirks.family_of(self._model) == "claude"
        self._reader = ConverseReader(
            provider_request_id(headers),
            self._model.rpartition("/")[2],  # an ARN names the account
            REASONING_FORMAT if is_claude else OWN_FORMAT,
        )

    # --- an event stream ----------------------------------------------------------------------

    def _feed_stream(self, chunk: bytes | memoryview) -> Events:
        events: list[StreamEvent] = []
        frames, reader = self._frames, self._reader
        try:
            for name, data in frames.feed(chunk):
                if (
                    reader.is_in_text
                    and name == bedrock_converse_hot_event.NAME
                    and self._hot_misses < bedrock_converse_hot_event.MAX_MISSES
                ):
                    try:
                        text = bedrock_converse_hot_event.decode(data).delta.text
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
                    self._is_done = True
                    self._mode = OVER
                    return events
            if frames.is_broken:
                raise RemoteProtocolError("a frame of the provider's stream is broken")
            if frames.is_too_large:
                raise EventTooLarge("an event of the provider's stream is too large")
        except UpstreamError as error:
            events.extend(self._failed(error))
        return events

    def _on_event(self, name: str, data: bytes, events: list[StreamEvent]) -> None:
        """
        Raises:
            UpstreamError: the event reports an error, or breaks the format.
        """
        if name.startswith(ERROR_MARK):
            raise aws_errors.read_frame(name.removeprefix(ERROR_MARK), data)
        try:
            document = orjson.loads(data)
        except orjson.JSONDecodeError:
            try:
                document = self._read_lenient(data)
            except ValueError:
                text = "an event of the provider's stream is not JSON"
                raise RemoteProtocolError(text) from None
        left_out = self._reader.left_out
        self._reader.read(name, document, events)
        self.mended_events += self._reader.left_out > left_out

    def _on_tail(self, name: str, data: bytes, events: list[StreamEvent]) -> None:
        raise StreamTruncated("the provider's answer ended inside an event")

    # --- the end ------------------------------------------------------------------------------

    def _on_document(self, document: Any, events: list[StreamEvent]) -> None:
        if type(document) is dict and not document.get("output") and "message" in document:
            raise openai_errors.decode_inner_error(document)
        self._reader.read_whole(document, events)
        self.mended_events += self._reader.left_out > 0

    def _check_ending(self) -> None:
        if self._frames.held_bytes:
            raise StreamTruncated("the provider's answer ended inside an event")
        if self._mode != DOCUMENT and not self._reader.stop_reason:
            raise StreamTruncated("the provider's answer ended before its end")


def build_bedrock_converse(quirks: Mapping[str, Any], provider: str) -> CodecFactory:
    """`CodecBuilder` of this wire."""
    checked = ConverseQuirks.from_mapping(quirks, provider)
    return lambda: ConverseCodec(checked, provider)
