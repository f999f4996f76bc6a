"""Hit rate and false hits over thresholds, per embedder, with and without the guard."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from bench.semantic.pairs import Pair
from relay.cache.guard_meaning import Difference, Guard, Meaning, difference, meaning_of
from relay.cache.guard_text import readable

THRESHOLDS: Final = (0.60, 0.70, 0.75, 0.80, 0.85, 0.90, 0.95)
GUARDS: Final[tuple[Guard | None, ...]] = (None, "loose", "strict")
MAX_CHARS: Final = 1000


class Scored(NamedTuple):
    """A pair, how near its turns are, and what each guard says of it."""

    pair: Pair
    similarity: float
    strict: Difference
    loose: Difference

    def is_hit(self, threshold: float, guard: Guard | None) -> bool:
        if self.similarity < threshold:
            return False
        return guard is None or not (self.strict if guard == "strict" else self.loose)


def score(pairs: Iterable[Pair], embed: Callable[[str], Any]) -> list[Scored]:
    """Each pair by one embedder; texts are made readable as the cache does."""
    known = lru_cache(maxsize=None)(lambda text: embed(_read(text)))
    meaning: Callable[[str], Meaning] = lru_cache(maxsize=None)(
        lambda text: meaning_of(_read(text))
    )
    return [
        Scored(
            pair,
            float(known(pair.kept) @ known(pair.asked)),
            difference(meaning(pair.kept), meaning(pair.asked), "strict"),
            difference(meaning(pair.kept), meaning(pair.asked), "loose"),
        )
        for pair in pairs
    ]


def _read(text: str) -> str:
    found = readable(text, max_chars=MAX_CHARS)
    assert found is not None, text
    return found


class Rates(NamedTuple):
    """Of one threshold and guard."""

    hits: int
    same: int
    false: int
    different: int

    @property
    def hit_rate(self) -> float:
        """Of the pairs that mean the same: how many are answered from the cache."""
        return self.hits / self.same if self.same else 0.0

    @property
    def false_rate(self) -> float:
        """Of the pairs that do not: how many are answered wrongly."""
        return self.false / self.different if self.different else 0.0


def rates(scored: Sequence[Scored], threshold: float, guard: Guard | None) -> Rates:
    """Counted over all pairs given."""
    same = [row for row in scored if row.pair.is_same]
    other = [row for row in scored if not row.pair.is_same]
    return Rates(
        sum(row.is_hit(threshold, guard) for row in same),
        len(same),
        sum(row.is_hit(threshold, guard) for row in other),
        len(other),
    )


def area(scored: Sequence[Scored]) -> float:
    """Under the ROC curve of the similarity alone: the odds that a pair which means the same is
    nearer than one which does not."""
    same = sorted(row.similarity for row in scored if row.pair.is_same)
    other = [row.similarity for row in scored if not row.pair.is_same]
    if not same or not other:
        return float("nan")
    from bisect import bisect_left, bisect_right

    above = sum(len(same) - (bisect_left(same, one) + bisect_right(same, one)) / 2 for one in other)
    return above / (len(same) * len(other))
