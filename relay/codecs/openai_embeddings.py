"""Vectors by OpenAI's `POST /embeddings`, as most hosts of its chat have it too.

Source: OpenAI's API reference. `encoding_format` is passed on and believed: a host that does not
know base64 answers with numbers, and OpenAI's clients take either.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

import msgspec

from relay.codecs.base import CodecFactory, EncodedRequest
from relay.codecs.embeddings import HEADERS, EmbeddingsCodec, Vectors
from relay.codecs.model_path import fill
from relay.codecs.openai_errors import decode_inner_error
from relay.codecs.openai_quirks import OpenAIChatQuirks
from relay.codecs.openai_usage import normalise
from relay.codecs.request_json import dump_body
from relay.codecs.responses_quirks import ResponsesQuirks
from relay.content import EmbeddingOptions, GenerateRequest
from relay.errors import RemoteProtocolError

_PATH: Final = "/embeddings"


class _Item(msgspec.Struct):
    embedding: msgspec.Raw
    index: int | None = None


class _Document(msgspec.Struct):
    data: list[_Item] | None = None
    model: str | None = None
    usage: dict[str, Any] | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Document).decode


class OpenAIEmbeddings(EmbeddingsCodec):
    """See the module."""

    wire: ClassVar[str] = "openai_embeddings"

    __slots__ = ("_path",)

    def __init__(self, provider: str, path: str = _PATH) -> None:
        super().__init__(provider)
        self._path = path

    def _encode(
        self, wanted: EmbeddingOptions, request: GenerateRequest, model: str
    ) -> EncodedRequest:
        body: dict[str, Any] = {
            **request.extra,
            "model": model,
            "input": wanted.texts or wanted.tokens,
            "encoding_format": "base64" if wanted.as_base64 else "float",
        }
        if wanted.dimensions is not None:
            body["dimensions"] = wanted.dimensions
        if request.user:
            body["user"] = request.user
        return EncodedRequest(fill(self._path, model), list(HEADERS), dump_body(body))

    def _read(self, body: bytes, wanted: EmbeddingOptions) -> Vectors:
        document = _decode(body)
        if document.error is not None:
            raise decode_inner_error({"error": document.error})
        items = document.data
        if items is None:
            raise RemoteProtocolError("the provider's answer holds no vectors")
        indices = [at if item.index is None else item.index for at, item in enumerate(items)]
        if sorted(indices) != list(range(len(items))):
            raise RemoteProtocolError("the provider's vectors are not numbered from 0 on")
        values = [item.embedding for item in items]
        for index, item in zip(indices, items, strict=True):
            values[index] = item.embedding
        usage = None if document.usage is None else normalise(document.usage)
        return Vectors(values, document.model or "", usage)

    def _value(self, vector: msgspec.Raw, wanted: EmbeddingOptions) -> bytes:
        """As it came: numbers or base64."""
        value = bytes(vector)
        if value[:1] not in (b"[", b'"'):
            raise RemoteProtocolError("a vector of the provider's is neither list nor text")
        if not value.isascii():  # it was passed over unread, and may not even be UTF-8
            raise RemoteProtocolError("a vector of the provider's is neither numbers nor base64")
        return value


def build_openai_embeddings(quirks: Mapping[str, Any], provider: str) -> CodecFactory:
    """`CodecBuilder` for hosts of OpenAI's chat.

    A path of the row's own (Azure's deployments, say) holds for vectors too, with their last word.
    """
    path = OpenAIChatQuirks.from_mapping(quirks, provider).path
    ours = path.replace("/chat/completions", _PATH, 1) if "/chat/completions" in path else _PATH
    return lambda: OpenAIEmbeddings(provider, ours)


def build_responses_embeddings(quirks: Mapping[str, Any], provider: str) -> CodecFactory:
    """`CodecBuilder` for hosts of OpenAI's Responses."""
    path = ResponsesQuirks.from_mapping(quirks, provider).embeddings_path
    return lambda: OpenAIEmbeddings(provider, path)
