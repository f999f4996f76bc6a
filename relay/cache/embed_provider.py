"""Vectors by a provider's `/embeddings`: a leg of the generation that asks, under its account."""

from __future__ import annotations

import base64
import binascii
from dataclasses import replace
from typing import Any

import numpy as np
import orjson

from relay.cache.embed_base import EmbeddingFailed, Vector
from relay.content import Budgets, EmbeddingOptions, GenerateRequest
from relay.errors import RelayError
from relay.policy.base import Legs

_LABEL = "embedding"


class ProviderEmbedder:
    """One model of one alias or provider.

    Args:
        model: an alias or `PROVIDER/MODEL`. All candidates of an alias have to be the same model:
            vectors of two models cannot be compared, and whoever answers is not seen here.
        dimensions: asked for; None for the model's own.
    """

    default_threshold = 0.85

    def __init__(self, model: str, dimensions: int | None = None) -> None:
        self._model = model
        self._dimensions = dimensions
        self.name = f"provider/{model}/{dimensions or ''}"

    async def vector(self, text: str, request: GenerateRequest, legs: Legs) -> Vector:
        """See `Embedder.vector`. Cancelled: the leg is stopped."""
        asked = GenerateRequest(
            self._model,
            (),
            user=request.user,
            embedding=EmbeddingOptions((text,), dimensions=self._dimensions),
            policy=replace(request.policy, budgets=Budgets(), idempotency_key=""),
        )
        outcome = "late"
        try:
            leg = legs.start(_LABEL, self._model, asked, is_hedged=False)
            try:
                await leg.whole()
                vector = vector_of(leg.vectors_json())
                outcome = "ok"
            finally:
                leg.cancel(outcome)
        except RelayError as error:
            raise EmbeddingFailed(f"{self._model}: {type(error).__name__}") from error
        return vector

    async def aclose(self) -> None:
        """Nothing to release."""


def vector_of(data_json: bytes) -> Vector:
    """The one vector of OpenAI's `data`, of length one; numbers or base64 of little-endian float32.

    Raises:
        EmbeddingFailed: it is something else, without a word of what it holds.
    """
    try:
        (row,) = orjson.loads(data_json)
        value: Any = row["embedding"]
        if isinstance(value, str):
            vector = np.frombuffer(base64.b64decode(value, validate=True), "<f4")
        else:
            vector = np.array(value, dtype=np.float32)
    except (ValueError, TypeError, KeyError, binascii.Error, OverflowError) as error:
        raise EmbeddingFailed("the provider's answer holds no one vector") from error
    if vector.ndim != 1 or not vector.size:
        raise EmbeddingFailed("the provider's answer holds no one vector")
    length = float(np.linalg.norm(vector))
    if not 0 < length < float("inf"):
        raise EmbeddingFailed("the provider's vector has no direction")
    return (vector / length).astype(np.float32)
