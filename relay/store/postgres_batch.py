"""Operations in line for PostgreSQL, and what a batch of them is as arrays.

Each column of a table is one array, which is what costs least on both sides; operations say by
number which row of their kind is theirs.
"""

from __future__ import annotations

from asyncio import Future, TimerHandle
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any, Final

import orjson

from relay.store.base import (
    BudgetSpent,
    ClosedAttempt,
    Hold,
    OpenedAttempt,
    OpenedGeneration,
    SettledGeneration,
    StoreUnavailable,
)
from relay.store.postgres_functions import (
    ATTEMPT,
    CLOSED,
    EXTEND,
    NOT_OPEN,
    OPEN,
    OPENED,
    OTHER_HOLDS,
    SETTLE,
    SETTLED,
    STARTED,
    Columns,
)

_MAX_CHARACTERS: Final = 255


class Operation:
    """One thing to be written.

    Args:
        amounts: of a reservation or extension; the first that is left is taken.
        what: what the generation is opened or settled with, or the attempt that starts.
        waiter: is given the amount, or the error. Where it is done before that, nobody wants the
            operation any more. None for what must be written, whoever waits.
    """

    __slots__ = ("amounts", "generation_id", "holds", "kind", "ticket", "timer", "waiter", "what")

    def __init__(
        self,
        kind: int,
        ticket: int,
        generation_id: str,
        what: OpenedGeneration | OpenedAttempt | SettledGeneration | None,
        holds: Sequence[Hold] = (),
        amounts: Sequence[int] = (),
        waiter: Future[int] | None = None,
    ) -> None:
        self.kind = kind
        self.ticket = ticket
        self.generation_id = generation_id
        self.what = what
        self.holds = holds
        self.amounts = amounts
        self.waiter = waiter
        self.timer: TimerHandle | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether it is still to be written."""
        return self.waiter is None or not self.waiter.done()

    def fail(self, why: str) -> None:
        """Tell whoever waits that it is not known to be written."""
        if self.timer is not None:
            self.timer.cancel()
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_exception(StoreUnavailable(why))

    def answer(self, amount: int | None, hold: int | None, left_micro: int | None) -> None:
        """Tell whoever waits what came of it."""
        if self.timer is not None:
            self.timer.cancel()
        waiter = self.waiter
        if waiter is None or waiter.done():
            return
        if amount is not None:
            waiter.set_result(amount)
        elif hold is not None and hold >= 0:
            waiter.set_exception(BudgetSpent(self.holds[hold], max(0, left_micro or 0)))
        else:
            waiter.set_exception(StoreUnavailable(f"generation {self.generation_id} is not open"))


def admitted_at_us(operations: Iterable[Operation]) -> int:
    """When the last of the generations that are opened was admitted; 0 if none is."""
    return max(
        (one.what.admitted_at_us for one in operations if isinstance(one.what, OpenedGeneration)),
        default=0,
    )


def holds_text(holds: Sequence[Hold]) -> str:
    """As kept in `generations.holds`."""
    return orjson.dumps([hold[:2] for hold in holds]).decode() if holds else "[]"


def arrays(operations: Sequence[Operation]) -> list[object]:
    """The arguments of `relay_write` but for those of the lease."""
    budgets: list[tuple[str, int]] = sorted(
        {hold[:2] for one in operations for hold in one.holds}
    )  # by code points, which is the order of bytes in UTF-8
    place_of_budget = {budget: place for place, budget in enumerate(budgets, 1)}
    generations: dict[str, int] = {}
    numbers: list[int] = []
    held: list[int | None] = []
    amounts: list[int] = []
    texts: list[str] = []
    opened, settled, started, closed = _Rows(), _Rows(), _Rows(), _Rows()
    settle_of_closed: list[int] = []
    for one in operations:
        generation_id = one.generation_id
        what = one.what
        texts.append(holds_text(one.holds))
        row = 0
        if isinstance(what, OpenedGeneration):
            row = opened.add(_opened_texts(what, texts[-1]), _opened_numbers(what))
        elif isinstance(what, OpenedAttempt):
            row = started.add((generation_id, *_started_texts(what)), _started_numbers(what))
        elif isinstance(what, SettledGeneration):
            row = settled.add(_settled_texts(what), _settled_numbers(what))
            for tried in what.attempts:
                closed.add((generation_id, *_closed_texts(tried)), _closed_numbers(tried))
                settle_of_closed.append(row)
        for budget_id, period_start_s, cap_micro in one.holds:
            held += (place_of_budget[budget_id, period_start_s], cap_micro)
        amounts += one.amounts
        of = generations.setdefault(generation_id, len(generations) + 1)
        numbers += (one.kind, of, row, len(held) // 2, len(amounts))
    return [
        [budget_id for budget_id, _ in budgets],
        [start for _, start in budgets],
        list(generations),
        numbers, held, amounts, texts,
        opened.texts, opened.numbers,
        settled.texts, settled.numbers,
        started.texts, started.numbers,
        closed.texts, closed.numbers, settle_of_closed,
    ]  # fmt: skip


class _Rows:
    """Rows of one table: their texts one after another, and so their numbers."""

    __slots__ = ("count", "numbers", "texts")

    def __init__(self) -> None:
        self.count = 0
        self.texts: list[str] = []
        self.numbers: list[int | None] = []

    def add(self, texts: Iterable[str], numbers: Iterable[int | None]) -> int:
        """The number of the row, from 1."""
        self.texts += texts
        self.numbers += numbers
        self.count += 1
        return self.count


def _getter(columns: Columns, kind: type, *leaving_out: str) -> Callable[[object], tuple[Any, ...]]:
    names = [name for name, one in columns if one is kind and name not in leaving_out]
    return attrgetter(*names)


_started_texts: Final = _getter(STARTED, str, "generation_id")
_started_numbers: Final = _getter(STARTED, int)
_settled_numbers: Final = _getter(SETTLED, int)
_closed_numbers: Final = _getter(CLOSED, int)
_opened_numbers: Final = _getter(OPENED, int)


def _opened_texts(opened: OpenedGeneration, holds: str) -> tuple[str, ...]:
    return (
        opened.id,
        opened.instance_id,
        opened.organisation_id,
        opened.team_id,
        opened.key_id,
        storable(opened.alias),
        opened.surface,
        storable(opened.tags, None),
        storable(opened.labels, None),
        storable(opened.session_id),
        storable(opened.turn_id),
        opened.trace_id,
        holds,
    )


def _settled_texts(settled: SettledGeneration) -> tuple[str, ...]:
    return (
        settled.id,
        settled.state,
        settled.reason,
        settled.provider,
        storable(settled.model),
        settled.phases,
        storable(settled.decision, None),
    )


def _closed_texts(closed: ClosedAttempt) -> tuple[str, ...]:
    return (
        closed.state,
        closed.provider,
        storable(closed.model),
        closed.role,
        closed.outcome,
        closed.reason,
        closed.price_version,
        closed.phases,
        storable(closed.leg),
    )


def storable(text: str, max_characters: int | None = _MAX_CHARACTERS) -> str:
    """What callers or providers say, as PostgreSQL takes it: no NUL, no half of a surrogate pair,
    as long as its column allows. Anything else of it would fail a batch of everybody's."""
    if text.isascii() and "\0" not in text and (max_characters is None or len(text) < 256):
        return text
    text = text.replace("\0", "\ufffd").encode(errors="replace").decode()
    return text if max_characters is None else text[:max_characters]


__all__ = [
    "ATTEMPT",
    "EXTEND",
    "NOT_OPEN",
    "OPEN",
    "OTHER_HOLDS",
    "SETTLE",
    "Operation",
    "admitted_at_us",
    "arrays",
]
