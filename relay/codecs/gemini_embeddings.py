"""Vectors by Gemini's `models/M:batchEmbedContents`.

Source: Gemini API reference, "Embeddings", mid 2026. Vertex has another interface (`:predict`), so
rows with a path of their own are refused. The answer counts no tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import quote

import msgspec

from relay.codecs.base import CodecFactory, EncodedRequest, ErrorDecoder
from relay.codecs.embeddings import (
    HEADERS,
    EmbeddingsCodec,
    Vectors,
    build_no_embeddings,
    only_texts,
)
from relay.codecs.gemini_errors import decode_error
from relay.codecs.gemini_quirks import GeminiQuirks
from relay.codecs.request_json import dump_body
from relay.content import EmbeddingOptions, GenerateRequest
from relay.errors import RemoteProtocolError


class _Vector(msgspec.Struct):
    values: msgspec.Raw


class _Document(msgspec.Struct):
    embeddings: list[_Vector] | None = None


_decode = msgspec.json.Decoder(_Document).decode


class GeminiEmbeddings(EmbeddingsCodec):
    """See the module."""

    wire: ClassVar[str] = "gemini_embeddings"
    decode_error: ClassVar[ErrorDecoder] = staticmethod(decode_error)

    def _encode(
        self, wanted: EmbeddingOptions, request: GenerateRequest, model: str
    ) -> EncodedRequest:
        one: dict[str, Any] = {"model": f"models/{model}"}
        if wanted.dimensions is not None:
            one["outputDimensionality"] = wanted.dimensions
        texts = only_texts(wanted, self._provider)
        body = {"requests": [{**one, "content": {"parts": [{"text": text}]}} for text in texts]}
        path = f"/v1beta/models/{quote(model, safe='')}:batchEmbedContents"
        return EncodedRequest(path, list(HEADERS), dump_body(body))

    def _read(self, body: bytes, wanted: EmbeddingOptions) -> Vectors:
        vectors = _decode(body).embeddings
        if vectors is None:
            raise RemoteProtocolError("the provider's answer holds no vectors")
        return Vectors([vector.values for vector in vectors])


def build_gemini_embeddings(quirks: Mapping[str, Any], provider: str) -> CodecFactory:
    """`CodecBuilder` for the Gemini API."""
    if GeminiQuirks.from_mapping(quirks, provider).path != GeminiQuirks().path:
        return build_no_embeddings(quirks, provider)
    return lambda: GeminiEmbeddings(provider)
