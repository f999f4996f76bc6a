"""Vectors in a graph (HNSW, by usearch): some hundred microseconds to search 100,000 of them.

usearch gives every call from Python the same scratch space, so that two calls at once would spoil
each other: whoever owns this sees to it that there is one at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from usearch.index import Index

from relay.cache.embed_base import Vector
from relay.cache.index_flat import Near


class GraphIndex:
    """Numbered vectors of one size, kept as float16."""

    def __init__(self, dimensions: int) -> None:
        self._index: Any = Index(
            ndim=dimensions, metric="cos", dtype="f16", connectivity=16, expansion_add=64,
            expansion_search=64,
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self._index)

    @property
    def held_bytes(self) -> int:
        """As usearch counts them."""
        return int(self._index.memory_usage)

    def add(self, numbers: Sequence[int], rows: Any) -> None:
        """New numbers. About half a millisecond each at 100,000: of a thread."""
        self._index.add(np.array(numbers, dtype=np.uint64), rows, threads=1)

    def remove(self, numbers: Sequence[int]) -> None:
        """Those of them that are there; their places are used again."""
        self._index.remove(np.array(numbers, dtype=np.uint64), threads=1)

    def search(self, vector: Vector, count: int) -> list[Near]:
        """About the nearest, nearest first."""
        if not len(self._index):
            return []
        found = self._index.search(vector, count, threads=1)
        return [
            Near(int(number), 1.0 - float(distance))
            for number, distance in zip(found.keys, found.distances, strict=True)
        ]
