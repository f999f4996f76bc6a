"""Limits that several processes share, whether their common place answers or not.

One task sends what has come together since the last batch: takes of admissions, corrections, and
the leases of this instance, which are told as they are and not by their changes, so that telling
them again mends whatever was lost. They are told again a few times a lease, and at once when the
place says that it has never heard of this instance (it was emptied, or an older copy took over).

A place that fails, or does not answer within `patience_s`, is left alone: admissions are decided
here, by this instance's share of each limit (the limit over the instances that were last seen, at
least 1), or refused, as the operator wants. Every second it is tried in the background; no
admission waits for that. When it is back it is told of the leases and of what was granted without
it, which the buckets then owe.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final, Literal, NamedTuple

import structlog

from relay.store.base import StoreUnavailable
from relay.store.limit_backend import INSTANCES, Answer, Backend, BackendDown, Batch
from relay.store.limit_store import LEASE, Charge, LimitSpent, Taken, refusal
from relay.store.memory_limits import MemoryLimits

_log = structlog.get_logger("relay.limits")

WhenDown = Literal["local", "refuse"]

MAX_TAKES: Final = 64
"""In one batch; with up to a dozen buckets each, well below a millisecond of Redis."""
MAX_TOLD: Final = 512
"""Corrections, and leases, in one batch."""
RENEWALS_A_LEASE: Final = 3
PROBE_S: Final = 1.0
"""Between tries while it is down, seconds."""
GRACE_S: Final = 0.05
"""A timer that fires later than this has waited for our own loop as well."""
_CLOSE_S: Final = 1.0


class _Waiting(NamedTuple):
    charges: Sequence[Charge]
    answer: asyncio.Future[Taken | LimitSpent | None]
    """None: there is no answer in time, decide here."""


class SharedLimits:
    """A `LimitStore` over a backend.

    Args:
        backend: owned; closed with this.
        patience_s: what an admission waits for at most.
        lease_s: after so long without a word the leases of an instance are free; the backend's.
        when_down: `local`: this instance's share decides; `refuse`: nothing is admitted.
        probe_s: between tries while the place is down, give or take a quarter.
    """

    is_local: Final = False

    def __init__(
        self,
        backend: Backend,
        *,
        patience_s: float = 0.25,
        lease_s: float = 15.0,
        when_down: WhenDown = "local",
        probe_s: float = PROBE_S,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._backend = backend
        self._patience_s = patience_s
        self._renew_s = lease_s / RENEWALS_A_LEASE
        self._when_down = when_down
        self._probe_s = probe_s
        self._draw = draw
        self._here = MemoryLimits()
        """The leases of this instance, whoever granted them; levels only of what was granted here
        while the place was down, by this instance's share."""
        self._waiting: list[_Waiting] = []
        self._backlog: dict[str, tuple[int, int]] = {}
        """Corrections to tell: by bucket its limit, and how much more was used."""
        self._untold: set[str] = set()
        """Leases to tell."""
        self._is_renewal = False
        self._is_closing = False
        self._is_down = False
        self._wake = asyncio.Event()
        self._sender: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.instances = 1
        """Alive, as last heard."""
        self.times_down = 0
        self.decided_here = 0
        """Admissions that this instance decided by itself."""

    # --- what admission calls ---------------------------------------------------------------

    async def start(self) -> None:
        """Try to reach the place once, within the patience; the rest is up to the task."""
        try:
            await self._exchange(Batch(held=[(INSTANCES, 1)], is_renewal=True))
        except BackendDown as error:
            self._went_down(error)
        self._sender = asyncio.get_running_loop().create_task(self._send(), name="limits")

    def take_nowait(self, charges: Sequence[Charge], now_us: int) -> Taken:
        """Not of this store."""
        raise TypeError("these limits are shared: await `take`")

    async def take(self, charges: Sequence[Charge], now_us: int) -> Taken:
        """See `LimitStore`. `now_us` counts only while the place is down."""
        if self._is_down or self._sender is None:
            return self._take_here(charges, now_us)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Taken | LimitSpent | None] = loop.create_future()
        self._waiting.append(_Waiting(charges, answer))
        self._wake.set()
        timer = _Timer(loop, self._patience_s, self._late, answer)
        try:
            said = await answer
        except asyncio.CancelledError:
            if answer.done() and not answer.cancelled() and isinstance(answer.result(), Taken):
                self._undo(charges)
                self._forget_leases(charges)
            raise
        finally:
            timer.cancel()
        if said is None:
            return self._take_here(charges, now_us)
        if isinstance(said, LimitSpent):
            raise said
        return said

    def correct(self, bucket: str, limit: int, by: int, now_us: int) -> None:
        """See `LimitStore`."""
        if self._is_down:
            share = self._share(limit)
            self._here.correct(bucket, share, by, now_us)
        self._owe(bucket, limit, by)
        self._wake.set()

    def give_back(self, bucket: str, amount: int) -> None:
        """See `LimitStore`."""
        self._here.give_back(bucket, amount)
        self._untold.add(bucket)
        self._wake.set()

    def describe(self) -> dict[str, object]:
        """For people."""
        return {
            "store": self._backend.name,
            "is_down": self._is_down,
            "times_down": self.times_down,
            "decided_here": self.decided_here,
            "instances": self.instances,
        }

    async def aclose(self) -> None:
        """See `LimitStore`."""
        if self._is_closing:
            return
        self._is_closing = True
        if self._timer is not None:
            self._timer.cancel()
        if self._sender is not None:
            self._sender.cancel()
            await asyncio.wait([self._sender])
        self._answer_all_here()
        if not self._is_down and self._sender is not None:
            names = {*self._here.held, *self._untold, INSTANCES}
            last = Batch(
                corrections=[(name, *owed) for name, owed in self._backlog.items()],
                held=[(name, 0) for name in names],
            )
            try:
                async with asyncio.timeout(_CLOSE_S):
                    await self._backend.exchange(last)
            except (BackendDown, TimeoutError):
                pass  # the leases run out by themselves
        await self._backend.aclose()

    # --- the task ---------------------------------------------------------------------------

    async def _send(self) -> None:
        """Send until cancelled."""
        self._renew_later()
        while True:
            try:
                if self._is_down:
                    await asyncio.sleep(self._probe_s * (0.75 + 0.5 * self._draw()))
                    await self._probe()
                else:
                    await self._wake.wait()
                    self._wake.clear()
                    await self._send_all()
            except Exception as error:  # noqa: BLE001 - a bug of ours must not end all admissions
                _log.error("limits_bug", exc_info=error)
                self._went_down(BackendDown("a bug of the relay's"))
                self._answer_all_here()

    async def _probe(self) -> None:
        """Tell the place of everything; if it takes that as fast as it should, it is back."""
        self._tell_everything()
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        if await self._send_all() and loop.time() - began_s <= self._patience_s:
            self._is_down = False
            _log.info("limits_store_back", store=self._backend.name, instances=self.instances)

    async def _send_all(self) -> bool:
        """Batch after batch until nothing waits, or the place is down (False)."""
        while True:
            takes = [one for one in self._waiting[:MAX_TAKES] if not one.answer.done()]
            del self._waiting[:MAX_TAKES]
            some = [*islice(self._backlog, MAX_TOLD)]
            corrections = [(name, *self._backlog.pop(name)) for name in some]
            held = [(name, self._here.held.get(name, 0)) for name in self._some_untold()]
            is_renewal, self._is_renewal = self._is_renewal, False
            if is_renewal:
                held.append((INSTANCES, 1))
            if not (takes or corrections or held):
                return True
            batch = Batch(corrections, held, [one.charges for one in takes], is_renewal)
            try:
                answer = await self._exchange(batch)
            except BackendDown as error:
                self._keep(batch)
                self._went_down(error)
                for one in takes:
                    if not one.answer.done():
                        one.answer.set_result(None)
                self._answer_all_here()
                return False
            self._hand_out(takes, answer)

    async def _exchange(self, batch: Batch) -> Answer:
        """
        Raises:
            BackendDown: it failed, or took too long.
        """
        try:
            # Longer than an admission waits: a loop that was held up for a moment finds the answer
            # when it comes to read it.
            async with asyncio.timeout(2 * self._patience_s):
                answer = await self._backend.exchange(batch)
        except TimeoutError:
            raise BackendDown(f"no answer within {2 * self._patience_s:g} s") from None
        if batch.held and batch.held[-1][0] == INSTANCES:
            self.instances = max(1, answer.totals[-1])
        return answer

    def _hand_out(self, takes: Sequence[_Waiting], answer: Answer) -> None:
        for one, reply in zip(takes, answer.replies, strict=True):
            if one.answer.done():  # nobody waits any more
                if reply.is_granted:
                    self._undo(one.charges)
            elif reply.is_granted:
                self._note_leases(one.charges)
                one.answer.set_result(Taken(one.charges, reply.after))
            else:
                one.answer.set_result(refusal(one.charges, reply.after))
        if not answer.is_known:
            self._tell_everything()

    def _some_untold(self) -> list[str]:
        some = [*islice(self._untold, MAX_TOLD)]
        self._untold.difference_update(some)
        return some

    def _tell_everything(self) -> None:
        self._untold.update(self._here.held)
        self._is_renewal = True

    def _renew_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._renew_s, self._renew)

    def _renew(self) -> None:
        self._tell_everything()
        self._wake.set()
        self._renew_later()

    # --- down and up ------------------------------------------------------------------------

    def _late(self, answer: asyncio.Future[Taken | LimitSpent | None]) -> None:
        """An admission has waited long enough; those after it need not."""
        if not answer.done():
            answer.set_result(None)
            self._went_down(BackendDown(f"no answer within {self._patience_s:g} s"))
            self._answer_all_here()

    def _went_down(self, error: BackendDown) -> None:
        if self._is_down:
            return
        self._is_down = True
        self.times_down += 1
        _log.warning(
            "limits_store_down",
            store=self._backend.name,
            why=str(error),
            then=self._when_down,
            share_of=self.instances,
        )

    def _keep(self, batch: Batch) -> None:
        """After a batch that may or may not have been done: what was used is told again, what was
        not used is not, so that nothing is granted twice."""
        for bucket, limit, by in batch.corrections:
            if by > 0:
                self._owe(bucket, limit, by)
        self._untold.update(name for name, _ in batch.held if name != INSTANCES)
        for charges in batch.takes:
            self._untold.update(charge.bucket for charge in charges if charge.kind == LEASE)

    def _answer_all_here(self) -> None:
        for one in self._waiting:
            if not one.answer.done():
                one.answer.set_result(None)
        self._waiting.clear()

    def _share(self, limit: int) -> int:
        return max(1, limit // self.instances)

    def _take_here(self, charges: Sequence[Charge], now_us: int) -> Taken:
        """Decide by this instance's share.

        Raises:
            LimitSpent: of the share.
            StoreUnavailable: that is not wanted.
        """
        if self._when_down == "refuse":
            raise StoreUnavailable(f"the limits cannot be looked up: {self._backend.name} is away")
        self.decided_here += 1
        share = self._share
        # What is larger than a share, but not than the limit, empties the share.
        scaled = [
            Charge(bucket, share(limit), min(amount, share(limit)), kind)
            if amount <= limit
            else Charge(bucket, limit, amount, kind)
            for bucket, limit, amount, kind in charges
        ]
        taken = self._here.take_nowait(scaled, now_us)
        for bucket, limit, amount, kind in charges:
            if kind == LEASE:
                self._untold.add(bucket)
            else:
                self._owe(bucket, limit, amount)
                if amount > share(limit):
                    self._here.correct(bucket, share(limit), amount - share(limit), now_us)
        return taken

    # --- small things -----------------------------------------------------------------------

    def _owe(self, bucket: str, limit: int, by: int) -> None:
        by += self._backlog.get(bucket, (limit, 0))[1]
        if by:
            self._backlog[bucket] = (limit, by)
        else:
            self._backlog.pop(bucket, None)

    def _undo(self, charges: Sequence[Charge]) -> None:
        """What was granted there is wanted no more."""
        for bucket, limit, amount, kind in charges:
            if kind == LEASE:
                self._untold.add(bucket)
            else:
                self._owe(bucket, limit, -amount)
        self._wake.set()

    def _note_leases(self, charges: Sequence[Charge]) -> None:
        held = self._here.held
        for bucket, _, amount, kind in charges:
            if kind == LEASE:
                held[bucket] = held.get(bucket, 0) + amount

    def _forget_leases(self, charges: Sequence[Charge]) -> None:
        for charge in charges:
            if charge.kind == LEASE:
                self._here.give_back(charge.bucket, charge.amount)


class _Timer:
    """Calls back after a delay, and no sooner than the loop has had a moment to read what came
    while it was held up."""

    __slots__ = ("_answer", "_callback", "_due_s", "_handle", "_loop")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        delay_s: float,
        callback: Callable[[asyncio.Future[Taken | LimitSpent | None]], None],
        answer: asyncio.Future[Taken | LimitSpent | None],
    ) -> None:
        self._loop = loop
        self._callback = callback
        self._answer = answer
        self._due_s = loop.time() + delay_s
        self._handle = loop.call_at(self._due_s, self._fire)

    def _fire(self) -> None:
        if self._loop.time() - self._due_s > GRACE_S:
            self._handle = self._loop.call_later(GRACE_S, self._callback, self._answer)
        else:
            self._callback(self._answer)

    def cancel(self) -> None:
        """Stop it."""
        self._handle.cancel()
