"""Vectors of texts: what every wire's codec for them shares.

The answer is one JSON document. It is read with its vectors unread (`msgspec.Raw`), since they are
nearly all of it, and a vector is only opened where its form must change. As many vectors as texts
must have come: one that lacks would shift all that follow.
"""

from __future__ import annotations

import base64
import struct
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
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

HEADERS: Final = [("content-type", "application/json"), ("accept", "application/json")]


class Vectors(NamedTuple):
    """What an answer says."""

    data_json: bytes
    """See `relay.content.Embeddings`."""
    given: int
    """How many there are."""
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
        if self._is_over:
            return ()
        body = bytes(self._body)
        if self._status >= 300:
            return self._failed(self.decode_error(self._status, self._headers, body))
        try:
            vectors = self._vectors(body)
        except UpstreamError as error:
            return self._failed(error)
        self._is_over = True
        self._body.clear()
        events: list[StreamEvent] = [
            ResponseInfo("", vectors.model, 0),
            Embeddings(vectors.data_json),
        ]
        if vectors.usage is not None:
            events.append(vectors.usage)
        return [*events, ChoiceFinished(FinishReason.STOP, "")]

    def _vectors(self, body: bytes) -> Vectors:
        if looks_like_markup(body.lstrip()):
            raise RemoteProtocolError("the provider answered with markup instead of vectors")
        try:
            vectors = self._read(body, self._wanted)
        except (msgspec.DecodeError, UnicodeDecodeError):
            try:
                orjson.loads(body)
            except orjson.JSONDecodeError:
                error = "the provider's answer is not a whole JSON document"
                raise StreamTruncated(error) from None
            raise RemoteProtocolError("the provider's answer holds no vectors") from None
        if vectors.given != self._wanted.count:
            raise RemoteProtocolError(
                f"the provider gave {vectors.given} vectors for {self._wanted.count} texts"
            )
        return vectors

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


def data_of(vectors: Sequence[msgspec.Raw], *, as_base64: bool) -> bytes:
    """OpenAI's `data` of vectors that are JSON arrays of numbers.

    Raises:
        msgspec.DecodeError: one of them is none.
        RemoteProtocolError: a number is out of range.
    """
    parts: list[bytes] = []
    for index, vector in enumerate(vectors):
        if as_base64:
            numbers = msgspec.json.decode(vector, type=list[float])
            try:
                packed = struct.pack(f"<{len(numbers)}f", *numbers)
            except OverflowError:
                raise RemoteProtocolError("a number of a vector is out of range") from None
            value = b'"' + base64.b64encode(packed) + b'"'
        else:
            value = bytes(vector)
            if not value.startswith(b"["):
                raise msgspec.DecodeError("not an array")
        parts.append(b'{"object":"embedding","index":%d,"embedding":%s}' % (index, value))
    return b"[" + b",".join(parts) + b"]"
