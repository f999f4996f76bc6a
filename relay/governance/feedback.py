"""What users think of answers, as their clients tell it: whatever wire it came by.

Word on an answer comes seconds or days after it. Where the relay has a store it is written there,
the last word on each answer, beside the account that it is of; in any case it is a line of the log
(without the comment, which is for people with access to the store), and guard rails of the
experiment that the answer belongs to are told. Without a store only the answers that this worker
gave lately are known.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from math import isfinite
from typing import Any, Final, NamedTuple, Protocol

import orjson
import structlog

from relay.errors import InvalidRequest, LimitReached, StoreDown, shown
from relay.logs import hidden
from relay.outcome import Ended
from relay.store.base import StoreUnavailable
from relay.store.feedback_rows import FeedbackRow, Rated

_log = structlog.get_logger("relay.feedback")

MAX_ID_CHARS: Final = 64
MAX_LABEL_CHARS: Final = 64
MAX_COMMENT_CHARS: Final = 2_000
MOST_KNOWN: Final = 20_000
"""Answers that a worker remembers: some MB."""
MOST_WAITING: Final = 64
"""Words that are being written."""
MOST_OF_ONE: Final = 8
"""Of one team; the others have room beside it."""

Felt = Callable[[str, str, str, float], object]
"""Told the experiment, the arm, the unit and the score; never waits, never raises."""


class Feedback(NamedTuple):
    """Word on one answer."""

    request_id: str
    score: float | None
    """From 0 to 1."""
    label: str
    comment: str


class Given(NamedTuple):
    """It is written down."""

    counts_for_experiment: bool


class Books(Protocol):
    """Where it is kept (`relay.store.feedback_store.FeedbackStore`); blocking."""

    def rated(self, generation_id: str) -> Rated | None: ...

    def write(self, row: FeedbackRow) -> None: ...


class _Known(NamedTuple):
    """An answer that was given."""

    tenant: str
    experiment: str = ""
    arm: str = ""
    unit: str = ""


def checked(request_id: object, score: object, label: object, comment: object) -> Feedback:
    """What a client has sent.

    Args:
        score, label, comment: None for what it did not say.

    Raises:
        InvalidRequest: naming the field.
    """
    request_id = _text("request_id", request_id, MAX_ID_CHARS)
    if not request_id:
        raise InvalidRequest(
            "request_id is needed: x-relay-request-id of the answer, or request_id of its end",
            field="request_id",
        )
    label = _text("label", label, MAX_LABEL_CHARS)
    comment = _text("comment", comment, MAX_COMMENT_CHARS)
    if not label.isprintable():
        raise InvalidRequest("label must be printable", field="label")
    if score is None:
        if not label:
            raise InvalidRequest("a score from 0 to 1, or a label, is needed", field="score")
        return Feedback(request_id, None, label, comment)
    if isinstance(score, bool) or not isinstance(score, int | float):
        raise InvalidRequest("score must be a number from 0 to 1", field="score")
    if not isfinite(score) or not 0 <= score <= 1:
        raise InvalidRequest("score must be from 0 to 1", field="score")
    return Feedback(request_id, float(score), label, comment)


def _text(field: str, value: object, most: int) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidRequest(f"{field} must be a text", field=field)
    if len(value) > most:
        raise InvalidRequest(f"{field} is longer than {most} characters", field=field)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidRequest(f"{field} is no valid text", field=field) from None
    if "\x00" in value:  # PostgreSQL has no text with it
        raise InvalidRequest(f"{field} holds a NUL", field=field)
    return value


class FeedbackDesk:
    """Of one worker.

    Args:
        books: None where nothing is kept.
        now_us: wall clock, microseconds since 1970.
    """

    def __init__(
        self,
        books: Books | None = None,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._books = books
        self._now_us = now_us
        self._known: dict[str, _Known] = {}
        self._waiting: Counter[str] = Counter()
        self.felt: Felt | None = None
        """Set by whoever has experiments."""

    def heard(self, ended: Ended) -> None:
        """An answer was given; a `Listener`."""
        known = self._known
        if len(known) >= MOST_KNOWN:
            del known[next(iter(known))]
        decision, tenant = ended.end.decision, ended.request.policy.tenant
        if decision is None:
            known[ended.generation_id] = _Known(tenant)
        else:
            known[ended.generation_id] = _Known(
                tenant, decision.experiment, decision.arm, decision.unit
            )

    async def give(self, word: Feedback, tenant: str, key_id: str) -> Given:
        """Take a word on an answer that a key of the same team has had.

        Args:
            tenant: who says it.

        Raises:
            InvalidRequest: there is no such answer, as far as he may know.
            StoreDown: it cannot be written now.
            LimitReached: too many are being written.

        Cancelled: it may be written all the same.
        """
        known = self._known.get(word.request_id)
        if self._books is not None:
            waiting = self._waiting
            if waiting[tenant] >= MOST_OF_ONE or waiting.total() >= MOST_WAITING:
                raise LimitReached("too much feedback at once", retry_after_s=1.0)
            waiting[tenant] += 1
            try:
                known = await self._written(self._books, word, known, tenant, key_id)
            except StoreUnavailable as error:
                raise StoreDown("feedback cannot be written now", retry_after_s=1.0) from error
            finally:
                waiting[tenant] -= 1
                if not waiting[tenant]:
                    del waiting[tenant]
        if known is None or known.tenant != tenant:
            raise _unknown(word.request_id)
        _log.info(
            "feedback",
            id=word.request_id,
            score=word.score,
            label=hidden(word.label) or None,
            key=key_id or None,
            experiment=known.experiment or None,
            arm=known.arm or None,
        )
        if known.experiment and word.score is not None and self.felt is not None:
            self.felt(known.experiment, known.arm, known.unit or word.request_id, word.score)
        return Given(bool(known.experiment))

    async def _written(
        self, books: Books, word: Feedback, known: _Known | None, tenant: str, key_id: str
    ) -> _Known | None:
        """Written, if it is his to say; what is known of the answer."""
        if known is None:
            rated = await asyncio.to_thread(books.rated, word.request_id)
            if rated is None:
                return None
            known = _known_of(rated)
        if known.tenant != tenant:
            return None
        row = FeedbackRow(
            word.request_id, self._now_us(), tenant, key_id, word.score, word.label, word.comment
        )
        await asyncio.to_thread(books.write, row)
        return known


def _known_of(rated: Rated) -> _Known:
    decision: Any = {}
    if rated.decision:
        try:
            decision = orjson.loads(rated.decision)
        except orjson.JSONDecodeError:
            decision = {}
    if not isinstance(decision, dict):
        decision = {}
    found = [str(decision.get(name) or "") for name in ("experiment", "arm", "unit")]
    return _Known(rated.team_id, *found)


def _unknown(request_id: str) -> InvalidRequest:
    return InvalidRequest(
        f"request_id: no answer of yours is known as {shown(request_id)!r}", field="request_id"
    )
