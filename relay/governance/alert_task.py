"""What tells of budgets: looks for thresholds, and delivers what is in the outbox.

Every worker runs one; the database says who does what, so one is enough and several are no harm.
It is far from any request's path: all of the database is in a thread, and an outage of either side
is waited out.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

import structlog

from relay.governance.alerts import Crossing, Message, payload
from relay.governance.money import dollars
from relay.governance.webhook import NotDelivered
from relay.store.base import StoreUnavailable

_log = structlog.get_logger("relay.alerts")

FIRST_PAUSE_S: Final = 5.0
LAST_PAUSE_S: Final = 3600.0
KEEP_S: Final = 90 * 86_400
"""How long what was told is kept."""


class Outbox(Protocol):
    """`relay.store.outbox_store.OutboxStore`; blocking, every method raises StoreUnavailable."""

    def notice(
        self, now_us: int, payload: Callable[[Crossing, int], str] | None
    ) -> list[Crossing]: ...

    def claim(self, now_us: int, hold_us: int, limit: int) -> list[Message]: ...

    def delivered(self, message_id: int, now_us: int) -> None: ...

    def postpone(self, message_id: int, due_at_us: int) -> None: ...

    def give_up(self, message_id: int, now_us: int) -> None: ...

    def forget(self, before_us: int) -> int: ...


class Sender(Protocol):
    """Whom it is told: `relay.governance.webhook.Webhook`."""

    async def send(self, message_id: str, body: bytes, now_s: float) -> None:
        """Raises NotDelivered."""
        ...

    async def aclose(self) -> None: ...


class AlertSettings(NamedTuple):
    """How often and how long."""

    look_s: float = 2.0
    """Between looks: a threshold is noticed within it."""
    give_up_s: float = 24 * 3600.0
    hold_s: float = 120.0
    """How long a claimed message is ours; longer than a delivery may take."""
    at_once: int = 8


class AlertTask:
    """One worker's part; `start` it when requests are served, `aclose` it before the store.

    Args:
        sender: None where nobody is told outside; crossings are logged all the same. Closed with
            this.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        store: Outbox,
        sender: Sender | None,
        settings: AlertSettings | None = None,
        *,
        clock: Callable[[], float] = time.time,
        chance: random.Random | None = None,
    ) -> None:
        self._store = store
        self._sender = sender
        self._settings = settings or AlertSettings()
        self._clock = clock
        self._chance = chance or random.Random()  # noqa: S311 - jitter, not a secret
        self._task: asyncio.Task[None] | None = None
        self._is_down = False
        self._forget_at_s = 0.0
        self._retired: list[Sender] = []

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run(), name="alerts")

    def take(self, sender: Sender | None, settings: AlertSettings | None = None) -> None:
        """Tell it another from the next look on, also what is in the outbox already; the one that
        was is closed once nothing is on its way there."""
        if self._sender is not None:
            self._retired.append(self._sender)
        self._sender = sender
        self._settings = settings or AlertSettings()

    async def _close_retired(self) -> None:
        while self._retired:
            await self._retired.pop().aclose()

    async def aclose(self) -> None:
        """Stop; what is not told yet stays in the outbox. Idempotent, bounded."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        await self._close_retired()
        if self._sender is not None:
            await self._sender.aclose()

    async def _run(self) -> None:
        while True:
            try:
                await self._close_retired()
                await self.round()
            except StoreUnavailable as error:
                if not self._is_down:
                    _log.warning("alerts_wait_for_store", why=str(error))
                self._is_down = True
            except Exception:  # noqa: BLE001 - the next look may go well
                _log.exception("alerts_failed")
            else:
                self._is_down = False
            # Workers that were started together look apart.
            await asyncio.sleep(self._settings.look_s * self._chance.uniform(0.75, 1.25))

    async def round(self) -> int:
        """Look once, and try what is due; how many messages were delivered.

        Raises:
            StoreUnavailable

        Cancelled: what was claimed is due again after `hold_s`.
        """
        sender = self._sender
        make = payload if sender is not None else None
        for crossing in await asyncio.to_thread(self._store.notice, self._now_us(), make):
            _tell_log(crossing)
        if sender is None:
            return 0
        hold_us = int(self._settings.hold_s * 1e6)
        messages = await asyncio.to_thread(
            self._store.claim, self._now_us(), hold_us, self._settings.at_once
        )
        async with asyncio.TaskGroup() as group:
            tries = [group.create_task(self._deliver(message, sender)) for message in messages]
        if self._clock() >= self._forget_at_s:
            self._forget_at_s = self._clock() + 3600
            before_us = self._now_us() - KEEP_S * 1_000_000
            await asyncio.to_thread(self._store.forget, before_us)
        return sum(one.result() for one in tries)

    async def _deliver(self, message: Message, sender: Sender) -> bool:
        try:
            await sender.send(message.dedupe, message.payload.encode(), self._clock())
        except NotDelivered as error:
            why = str(error)
            note, at_us = self._after_failure(message, why)
        else:
            why, note, at_us = "", self._store.delivered, self._now_us()
        try:
            await asyncio.to_thread(note, message.id, at_us)
        except StoreUnavailable as error:
            # Due again when our hold on it ends: rather twice than never.
            _log.warning("alert_not_noted", id=message.dedupe, why=str(error))
        return not why

    def _after_failure(self, message: Message, why: str) -> tuple[Callable[[int, int], None], int]:
        """What is to be noted of a message that was not taken."""
        now_s = self._clock()
        pause_s = min(LAST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(message.tries - 1, 20))
        pause_s *= self._chance.uniform(0.5, 1.0)
        if now_s + pause_s > message.created_at_us / 1e6 + self._settings.give_up_s:
            _log.error("alert_given_up", id=message.dedupe, tries=message.tries, why=why)
            return self._store.give_up, self._now_us()
        _log.warning("alert_not_delivered", id=message.dedupe, tries=message.tries, why=why)
        return self._store.postpone, int((now_s + pause_s) * 1e6)

    def _now_us(self) -> int:
        return int(self._clock() * 1e6)


def _tell_log(crossing: Crossing) -> None:
    _log.warning(
        "budget_threshold",
        budget=crossing.budget_id,
        scope=crossing.scope,
        scope_id=crossing.scope_id,
        percent=crossing.percent,
        spent_usd=dollars(crossing.spent_micro),
        limit_usd=dollars(crossing.limit_micro),
        is_hard=crossing.is_hard,
        period=crossing.period,
        period_start_s=crossing.period_start_s,
    )
