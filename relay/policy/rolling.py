"""Quantiles of the last values, and names that were seen lately: bounded, for guard rails."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from math import ceil


class RollingQuantile:
    """Of the last `size` values."""

    __slots__ = ("_order", "_size", "_sorted")

    def __init__(self, size: int = 500) -> None:
        self._size = size
        self._order: deque[float] = deque()
        self._sorted: list[float] = []

    def __len__(self) -> int:
        return len(self._order)

    def add(self, value: float) -> None:
        """The oldest goes where there are too many."""
        if len(self._order) >= self._size:
            oldest = self._order.popleft()
            del self._sorted[bisect_left(self._sorted, oldest)]
        self._order.append(value)
        insort(self._sorted, value)

    def quantile(self, share: float) -> float | None:
        """The least value that `share` of them do not exceed; None while there is none."""
        if not self._sorted:
            return None
        return self._sorted[max(0, ceil(share * len(self._sorted)) - 1)]


class Lately:
    """Names that were seen, the last `size` of them."""

    __slots__ = ("_names", "_size")

    def __init__(self, size: int = 20_000) -> None:
        self._size = size
        self._names: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._names)

    def is_new(self, name: str) -> bool:
        """Whether it was not seen yet; it is now. Names that are empty always are."""
        if not name:
            return True
        if name in self._names:
            return False
        if len(self._names) >= self._size:
            del self._names[next(iter(self._names))]
        self._names[name] = None
        return True


class LastShare:
    """How many of the last `size` answers were bad."""

    __slots__ = ("_last", "_size", "bad")

    def __init__(self, size: int = 50) -> None:
        self._size = size
        self._last: deque[bool] = deque()
        self.bad = 0

    def add(self, is_bad: bool) -> None:
        """One more; the oldest goes where there are too many."""
        if len(self._last) >= self._size:
            self.bad -= self._last.popleft()
        self._last.append(is_bad)
        self.bad += is_bad

    @property
    def is_full(self) -> bool:
        """Whether there are `size` of them."""
        return len(self._last) >= self._size

    @property
    def share(self) -> float:
        """0 while there is none."""
        return self.bad / len(self._last) if self._last else 0.0
