"""Operations in line for PostgreSQL, and what a batch of them is as arrays.

Each column of a table is one array, which is what costs least on both sides; operations say by
number which row of their kind is theirs.
"""

from __future__ import annotations

from asyncio import Future, TimerHandle
from collections.abc import Iterable, Sequence
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
)

_MAX_CHARACTERS: Final = 255
_opened_before: Final = attrgetter(*(name for name, _ in OPENED[:5]))
_opened_after: Final = attrgetter("trace_id", "admitted_at_us", "lease_until_us")
_started: Final = attrgetter(*(name for name, _ in STARTED[1:]))
_settled: Final = attrgetter(*(name for name, _ in SETTLED))
_closed: Final = attrgetter(*(name for name, _ in CLOSED[1:]))


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
    kinds: list[int] = []
    of: list[int] = []
    row: list[int] = []
    holds_end: list[int] = []
    hold: list[int] = []
    cap: list[int | None] = []
    amounts_end: list[int] = []
    amount: list[int] = []
    texts: list[str | None] = []
    opened: list[tuple[object, ...]] = []
    settled: list[tuple[object, ...]] = []
    started: list[tuple[object, ...]] = []
    closed: list[tuple[object, ...]] = []
    for one in operations:
        generation_id = one.generation_id
        kinds.append(one.kind)
        of.append(generations.setdefault(generation_id, len(generations) + 1))
        text = None
        what = one.what
        if isinstance(what, OpenedGeneration):
            opened.append(_opened_row(what))
            row.append(len(opened))
        elif isinstance(what, OpenedAttempt):
            started.append((generation_id, *_started(what)))
            row.append(len(started))
        elif isinstance(what, SettledGeneration):
            text = holds_text(one.holds)
            settled.append(_settled_row(what))
            position = len(settled)
            row.append(position)
            closed += [(position, generation_id, *_closed_row(tried)) for tried in what.attempts]
        else:
            text = holds_text(one.holds)
            row.append(0)
        texts.append(text)
        for budget_id, period_start_s, cap_micro in one.holds:
            hold.append(place_of_budget[budget_id, period_start_s])
            cap.append(cap_micro)
        holds_end.append(len(hold))
        amount += one.amounts
        amounts_end.append(len(amount))
    return [
        [budget_id for budget_id, _ in budgets],
        [start for _, start in budgets],
        list(generations),
        kinds, of, row, holds_end, hold, cap, amounts_end, amount, texts,
        *_columns(opened, len(OPENED)),
        *_columns(settled, len(SETTLED)),
        *_columns(started, len(STARTED)),
        *_columns(closed, len(CLOSED) + 1),
    ]  # fmt: skip


def _columns(rows: list[tuple[object, ...]], count: int) -> list[Any]:
    return list(zip(*rows, strict=True)) if rows else [()] * count


def _opened_row(opened: OpenedGeneration) -> tuple[object, ...]:
    return (
        *_opened_before(opened),
        storable(opened.alias),
        opened.surface,
        storable(opened.tags, None),
        storable(opened.labels, None),
        storable(opened.session_id),
        storable(opened.turn_id),
        *_opened_after(opened),
        holds_text(opened.holds),
    )


_MODEL_OF_SETTLED: Final = [name for name, _ in SETTLED].index("model")
_MODEL_OF_CLOSED: Final = [name for name, _ in CLOSED[1:]].index("model")


def _settled_row(settled: SettledGeneration) -> tuple[object, ...]:
    values = list(_settled(settled))
    values[_MODEL_OF_SETTLED] = storable(settled.model)
    return tuple(values)


def _closed_row(closed: ClosedAttempt) -> tuple[object, ...]:
    values = list(_closed(closed))
    values[_MODEL_OF_CLOSED] = storable(closed.model)
    return tuple(values)


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
