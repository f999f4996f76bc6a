"""Vectors in one matrix, compared one and all: exact, and the fastest way while they are few."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from relay.cache.embed_base import Vector

_FIRST_ROWS: Final = 16


class Near(NamedTuple):
    """What was found."""

    number: int
    similarity: float
    """Cosine, from -1 to 1."""


class FlatIndex:
    """Numbered vectors of one size. Adding, removing: O(1). Searching: O(vectors)."""

    def __init__(self, dimensions: int) -> None:
        self.dimensions = dimensions
        self._rows: Any = np.empty((_FIRST_ROWS, dimensions), dtype=np.float32)
        self._numbers: list[int] = []
        self._places: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._numbers)

    def __contains__(self, number: int) -> bool:
        return number in self._places

    @property
    def held_bytes(self) -> int:
        """Of the matrix, the room that it has grown to included."""
        return int(self._rows.nbytes)

    def add(self, number: int, vector: Vector) -> None:
        """A new number, or a new vector of an old one."""
        place = self._places.get(number)
        if place is None:
            place = len(self._numbers)
            if place == len(self._rows):
                grown = np.empty((2 * place, self.dimensions), dtype=np.float32)
                grown[:place] = self._rows
                self._rows = grown
            self._numbers.append(number)
            self._places[number] = place
        self._rows[place] = vector

    def remove(self, number: int) -> bool:
        """Whether it was there."""
        place = self._places.pop(number, None)
        if place is None:
            return False
        last = self._numbers.pop()
        if last != number:
            self._rows[place] = self._rows[len(self._numbers)]
            self._numbers[place] = last
            self._places[last] = place
        return True

    def search(self, vector: Vector, count: int) -> list[Near]:
        """The nearest, nearest first."""
        size = len(self._numbers)
        if not size:
            return []
        # Not `@`: BLAS would wake threads of its own for it, and wait for them.
        scores = np.einsum("ij,j->i", self._rows[:size], vector)
        if size > count:
            best = np.argpartition(scores, size - count)[size - count :]
        else:
            best = np.arange(size)
        order = best[np.argsort(-scores[best])]
        return [Near(self._numbers[place], float(scores[place])) for place in order.tolist()]

    def some(self, count: int) -> tuple[list[int], Any]:
        """The first so many of them, and a copy of their vectors."""
        return self._numbers[:count], self._rows[:count].copy()
