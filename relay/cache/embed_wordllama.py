"""Vectors by `wordllama`: a table of word vectors, averaged. No model runs, no file is fetched.

Cheap enough for the loop (some 40 us for a sentence), and blind to the order of words, which is the
guard's to see.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final, cast

import wordllama

from relay.cache.embed_base import EmbeddingFailed, Vector
from relay.cache.semantic_error import SemanticCacheError
from relay.content import GenerateRequest
from relay.policy.base import Legs

_IN_LOOP_CHARS: Final = 400
"""A longer text goes to a thread: a microsecond for every two characters."""


class WordllamaEmbedder:
    """One table of 256 columns, 17 MB of it in memory."""

    default_threshold = 0.80

    def __init__(self, table: Any) -> None:
        self._table = table
        self.name = "wordllama/256"

    @classmethod
    def load(cls) -> WordllamaEmbedder:
        """Read the table out of the installed package: a quarter of a second, of a thread.

        Raises:
            SemanticCacheError: the package is not whole.
        """
        try:
            folder = Path(wordllama.__file__).parent
            table = wordllama.WordLlama.load(cache_dir=folder, disable_download=True)
        except (OSError, ValueError) as error:
            raise SemanticCacheError(
                f"cache.semantic.embeddings: wordllama's package has no usable weights: {error}"
            ) from error
        return cls(table)

    async def vector(self, text: str, request: GenerateRequest, legs: Legs) -> Vector:
        """See `Embedder.vector`."""
        if len(text) <= _IN_LOOP_CHARS:
            return self.embed(text)
        return await asyncio.to_thread(self.embed, text)

    def embed(self, text: str) -> Vector:
        """Of one text, here and now.

        Raises:
            EmbeddingFailed: it has none (no word of it is known).
        """
        vector = self._table.embed([text], norm=True)[0]
        if not 0.99 < float(vector @ vector) < 1.01:
            raise EmbeddingFailed("no word of the text is known")
        return cast(Vector, vector)

    async def aclose(self) -> None:
        """Nothing to release."""
