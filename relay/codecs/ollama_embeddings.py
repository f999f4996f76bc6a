"""Vectors by Ollama's `POST /api/embed`. Source: Ollama's API reference, mid 2026."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from relay.codecs.base import CodecFactory, EncodedRequest
from relay.codecs.embeddings import HEADERS, EmbeddingsCodec, Vectors, only_texts
from relay.codecs.openai_errors import decode_inner_error
from relay.codecs.request_json import dump_body
from relay.codecs.token_counts import token_count
from relay.content import EmbeddingOptions, GenerateRequest, Usage
from relay.errors import RemoteProtocolError


class _Document(msgspec.Struct):
    embeddings: list[msgspec.Raw] | None = None
    model: str | None = None
    prompt_eval_count: Any = None
    error: Any = None


_decode = msgspec.json.Decoder(_Document).decode


class OllamaEmbeddings(EmbeddingsCodec):
    """See the module."""

    wire: ClassVar[str] = "ollama_embeddings"

    def _encode(
        self, wanted: EmbeddingOptions, request: GenerateRequest, model: str
    ) -> EncodedRequest:
        body: dict[str, Any] = {"model": model, "input": only_texts(wanted, self._provider)}
        for name in ("options", "keep_alive", "truncate"):
            if name in request.extra:
                body[name] = request.extra[name]
        if wanted.dimensions is not None:
            body["dimensions"] = wanted.dimensions
        return EncodedRequest("/api/embed", list(HEADERS), dump_body(body))

    def _read(self, body: bytes, wanted: EmbeddingOptions) -> Vectors:
        document = _decode(body)
        if document.error is not None:
            raise decode_inner_error({"error": document.error})
        vectors = document.embeddings
        if vectors is None:
            raise RemoteProtocolError("the provider's answer holds no vectors")
        prompt = token_count(document.prompt_eval_count)
        return Vectors(
            vectors,
            document.model or "",
            None if prompt is None else Usage(prompt, 0, prompt),
        )


def build_ollama_embeddings(quirks: Mapping[str, Any], provider: str) -> CodecFactory:
    """`CodecBuilder` of Ollama's own interface."""
    return lambda: OllamaEmbeddings(provider)
