"""Vectors of texts: what every wire's codec for them shares.

The answer is one JSON document. It is read with its vectors unread (`msgspec.Raw`), since they are
nearly all of it, and a vector is only opened where its form must change. As many vectors as texts
must have come: one that lacks would shift all that follow.
"""

from __future__ import annotations

import base64
import struct
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final, NamedTuple

import msgspec
import orjson

from relay.codecs.base import CodecFactory, EncodedRequest, ErrorDecoder
from relay.codecs.error_text import looks_like_markup, provider_request_id
from relay.codecs.openai_errors import decode_error
from relay.content import (
    ChoiceFinished,
    EmbeddingOptions,
    Embeddings,
    Events,
    FinishReason,
    GenerateRequest,
    ProviderFailed,
    ResponseInfo,
    StreamEvent,
    Usage,
)
from relay.errors import (
    EventTooLarge,
    RemoteProtocolError,
    StreamTruncated,
    UnsupportedFeature,
    UpstreamError,
)

MAX_ANSWER_BYTES: Final = 32 * 1024 * 1024
"""2,048 vectors of 3,072 numbers in base64 are 34 MB and more than any provider takes at once."""
MAX_ERROR_BYTES: Final = 64 * 1024
_STEP_BYTES: Final = 64 * 1024
"""Of vectors in one step: half a millisecond where their form changes."""

HEADERS: Final = [("content-type", "application/json"), ("accept", "application/json")]


class Vectors(NamedTuple):
    """What an answer says."""

    values: Sequence[msgspec.Raw]
    """As they came, in the order of the texts."""
    model: str = ""
    usage: Usage | None = None


class EmbeddingsCodec(ABC):
    """A `Codec` for requests with `embedding`."""

    wire: ClassVar[str]
    decode_error: ClassVar[ErrorDecoder] = staticmethod(decode_error)

    __slots__ = (
        "_body",
        "_headers",
        "_is_over",
        "_last",
        "_provider",
        "_status",
        "_wanted",
        "mended_events",
    )

    mended_events: int

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._wanted = EmbeddingOptions()
        self._status = 200
        self._headers: list[tuple[str, str]] = []
        self._body = bytearray()
        self._is_over = False
        self._last: Events | None = None
        """What `end` gives, once the steps to it are done."""
        self.mended_events = 0

    @property
    def is_finished(self) -> bool:
        """Only the end of the body is one."""
        return False

    # --- what a wire adds -------------------------------------------------------------------

    @abstractmethod
    def _encode(
        self, wanted: EmbeddingOptions, request: GenerateRequest, model: str
    ) -> EncodedRequest:
        """
        Raises:
            UnsupportedFeature: something that this wire cannot say.
        """

    @abstractmethod
    def _read(self, body: bytes, wanted: EmbeddingOptions) -> Vectors:
        """
        Raises:
            UpstreamError: it reports a failure or breaks the format.
            msgspec.DecodeError: it is not this wire's document.
        """

    def _value(self, vector: msgspec.Raw, wanted: EmbeddingOptions) -> bytes:
        """One vector as OpenAI's `embedding`; here of a JSON array of numbers.

        Raises:
            msgspec.DecodeError: it is none.
            RemoteProtocolError: it holds what is no vector.
        """
        if wanted.as_base64:
            return _packed(vector)
        value = bytes(vector)
        if not value.startswith(b"["):
            raise msgspec.DecodeError("not an array")
        return value

    # --- the Codec protocol -----------------------------------------------------------------

    def encode_request(self, request: GenerateRequest, model: str) -> EncodedRequest:
        if request.embedding is not None:
            self._wanted = request.embedding
        return self._encode(self._wanted, request, model)

    def decode_headers(self, status: int, headers: list[tuple[str, str]]) -> None:
        self._status, self._headers = status, headers

    def feed(self, chunk: bytes | memoryview) -> Events:
        if self._is_over:
            return ()
        if self._status >= 300:
            self._body += chunk[: MAX_ERROR_BYTES - len(self._body)]
        elif len(self._body) + len(chunk) > MAX_ANSWER_BYTES:
            return self._failed(EventTooLarge("the provider's answer is too large"))
        else:
            self._body += chunk
        return ()

    def end(self) -> Events:
        if self._is_over and self._last is None:
            return ()
        for _ in self.steps():
            pass
        self._is_over = True
        last, self._last = self._last, None
        return last or ()

    def steps(self) -> Iterator[None]:
        """See `EndsInSteps`. The largest answer takes a tenth of a second and more in all."""
        if self._is_over or self._last is not None:
            return
        body = bytes(self._body)
        self._body.clear()
        if self._status >= 300:
            self._last = self._failed(self.decode_error(self._status, self._headers, body))
            return
        try:
            vectors = self._vectors(body)
            yield
            parts: list[bytes] = []
            waiting_bytes = 0
            for index, vector in enumerate(vectors.values):
                value = self._value(vector, self._wanted)
                parts.append(b'{"object":"embedding","index":%d,"embedding":%s}' % (index, value))
                waiting_bytes += len(value)
                if waiting_bytes > _STEP_BYTES:
                    waiting_bytes = 0
                    yield
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self._last = self._failed(self._not_read(body))
            return
        except UpstreamError as error:
            self._last = self._failed(error)
            return
        yield
        events: list[StreamEvent] = [
            ResponseInfo("", vectors.model, 0),
            Embeddings(b"[" + b",".join(parts) + b"]"),
        ]
        if vectors.usage is not None:
            events.append(vectors.usage)
        self._last = [*events, ChoiceFinished(FinishReason.STOP, "")]

    def _vectors(self, body: bytes) -> Vectors:
        if looks_like_markup(body.lstrip()):
            raise RemoteProtocolError("the provider answered with markup instead of vectors")
        vectors = self._read(body, self._wanted)
        if len(vectors.values) != self._wanted.count:
            raise RemoteProtocolError(
                f"the provider gave {len(vectors.values)} vectors for {self._wanted.count} texts"
            )
        return vectors

    def _not_read(self, body: bytes) -> UpstreamError:
        try:
            orjson.loads(body)
        except orjson.JSONDecodeError:
            return StreamTruncated("the provider's answer is not a whole JSON document")
        return RemoteProtocolError("the provider's answer holds no vectors")

    def _failed(self, error: UpstreamError) -> Events:
        self._is_over = True
        self._body.clear()
        # The frames it came through hold the batch that it is put into: a cycle for every failure.
        error.__traceback__ = error.__context__ = None
        if request_id := provider_request_id(self._headers):
            error.metadata.setdefault("provider_request_id", request_id)
        return [ProviderFailed(error)]


class _NoEmbeddings(EmbeddingsCodec):
    wire = "none"

    def _encode(
        self, wanted: EmbeddingOptions, request: GenerateRequest, model: str
    ) -> EncodedRequest:
        raise UnsupportedFeature("embeddings", self._provider)

    def _read(self, body: bytes, wanted: EmbeddingOptions) -> Vectors:
        raise RemoteProtocolError("nothing was asked")


def build_no_embeddings(quirks: Mapping[str, Any], provider: str) -> CodecFactory:
    """`CodecBuilder` of wires without vectors."""
    return lambda: _NoEmbeddings(provider)


def only_texts(wanted: EmbeddingOptions, provider: str) -> tuple[str, ...]:
    """The texts of a request for a wire that takes no tokens.

    Raises:
        UnsupportedFeature: it has tokens.
    """
    if wanted.tokens:
        raise UnsupportedFeature("input of tokens", provider)
    return wanted.texts


def _packed(vector: msgspec.Raw) -> bytes:
    """A JSON array of numbers as base64 of 32-bit floats, in quotes.

    Raises:
        msgspec.DecodeError: it is none.
        RemoteProtocolError: a number is out of range.
    """
    numbers = msgspec.json.decode(vector, type=list[float])
    try:
        packed = struct.pack(f"<{len(numbers)}f", *numbers)
    except OverflowError:
        raise RemoteProtocolError("a number of a vector is out of range") from None
    return b'"' + base64.b64encode(packed) + b'"'
