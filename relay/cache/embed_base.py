"""What makes vectors of texts."""

from __future__ import annotations

from typing import Any, Protocol

from relay.content import GenerateRequest
from relay.policy.base import Legs

Vector = Any
"""A `numpy.ndarray` of float32, of length one. numpy is of the extra `semantic`, so that no module
which a relay without it reads may name it."""


class EmbeddingFailed(Exception):
    """No vector: its provider did not answer, or answered something else."""


class Embedder(Protocol):
    """Made once a configuration."""

    name: str
    """Of the vector space: vectors of different names are never compared. Part of every key."""
    default_threshold: float
    """Similarity from which on two turns may mean the same, where the operator has not said."""

    async def vector(self, text: str, request: GenerateRequest, legs: Legs) -> Vector:
        """Of one text.

        Args:
            request: that it is the last turn of; what is asked of a provider goes by its policy.
            legs: of its generation, whose account pays.

        Raises:
            EmbeddingFailed: there is none.

        Takes as long as it takes; the caller sets the limit. Cancelled: nothing is left behind; a
        computation in a thread ends by itself.
        """
        ...

    async def aclose(self) -> None:
        """Release what it holds; bounded in time."""
        ...
