"""Who gets which slot: pure decisions, no loop, with a state machine over every order of events."""

from __future__ import annotations

from itertools import count

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from relay.transport.engine import StreamEnd
from relay.transport.slots import Lease, OriginSlots, PooledConnection

Slots = OriginSlots[str, "Waiting"]


class Waiting:
    """A waiter that keeps what it is granted, unless it has gone."""

    def __init__(self, number: int, granted: list[int]) -> None:
        self.number = number
        self.granted = granted
        self.lease: Lease[str] | None = None
        self.gone = False

    def grant(self, lease: Lease[str]) -> bool:
        if self.gone:
            return False
        self.lease = lease
        self.granted.append(self.number)
        return True


def connection(
    name: str = "c", *, max_streams: int = 2, is_http2: bool = True, alive_s: float = 0.0
) -> PooledConnection[str]:
    made = PooledConnection(
        name,
        is_http2=is_http2,
        max_streams=max_streams,
        max_requests=1000,
        now_s=0.0,
        retire_at_s=1000.0,
        probe_after_s=30.0,
    )
    made.alive_s = alive_s
    return made


def slots(*connections: PooledConnection[str]) -> Slots:
    made: Slots = OriginSlots(lambda: 7.0)
    for one in connections:
        made.add(one)
    return made


def test_the_emptiest_connection_is_chosen() -> None:
    first, second = connection("a", max_streams=3), connection("b", max_streams=3)
    pool = slots(first, second)
    names = [lease.connection.raw for _ in range(6) if (lease := pool.acquire_nowait())]
    assert sorted(names[:2]) == ["a", "b"]
    assert sorted(names) == ["a", "a", "a", "b", "b", "b"]
    assert pool.acquire_nowait() is None


def test_of_equals_the_one_that_answered_last() -> None:
    pool = slots(connection("a", alive_s=1), connection("b", alive_s=3), connection("c", alive_s=2))
    lease = pool.acquire_nowait()
    assert lease is not None
    assert lease.connection.raw == "b"


def test_of_equals_the_one_that_was_reset_less() -> None:
    first, second = connection("a"), connection("b")
    pool = slots(first, second)
    for _ in range(3):
        lease = pool.lease(first)
        lease.end(StreamEnd.ABORTED)
    first.alive_s, second.alive_s = 9.0, 1.0
    assert pool.choose() is second  # three resets, reckoned as of 25 streams
    lease = pool.lease(second)
    assert pool.choose() is first, "free slots come first"
    lease.end(StreamEnd.DONE)
    second.alive_s = 1.0
    for _ in range(40):
        pool.lease(first).end(StreamEnd.DONE)
    assert pool.choose() is first, "less than a tenth is as good as none"


def test_apart_from_one_it_is_another_while_any_is_free() -> None:
    first, second = connection("a", max_streams=3), connection("b", max_streams=1)
    pool = slots(first, second)
    assert pool.choose() is first
    lease = pool.acquire_nowait(first)
    assert lease is not None
    assert lease.connection is second
    again = pool.acquire_nowait(first)
    assert again is not None
    assert again.connection is first, "no other has a free slot"
    lease.end(StreamEnd.DONE)
    second.draining = True
    last = pool.acquire_nowait(first)
    assert last is not None
    assert last.connection is first
    assert pool.acquire_nowait(object()) is not None, "one that has gone is avoided anyway"
    assert pool.acquire_nowait(first) is None


def test_a_draining_connection_takes_nothing_and_is_taken_when_empty() -> None:
    only = connection()
    pool = slots(only)
    lease = pool.acquire_nowait()
    assert lease is not None
    only.draining = True
    assert pool.acquire_nowait() is None
    assert pool.take_drained() == []
    lease.end(StreamEnd.DONE)
    assert pool.take_drained() == [only]
    assert pool.connections == []


@pytest.mark.parametrize("how", [StreamEnd.LOST, StreamEnd.CALMED])
def test_a_lost_stream_drains_its_connection(how: StreamEnd) -> None:
    only = connection()
    pool = slots(only)
    first, second = pool.acquire_nowait(), pool.acquire_nowait()
    assert first is not None
    assert second is not None
    first.end(how)
    assert only.draining
    assert pool.open_streams == 1
    second.end(StreamEnd.BROKEN)
    assert pool.open_streams == 0


def test_over_http1_only_a_body_read_to_its_end_keeps_the_connection() -> None:
    for how, keeps in (
        (StreamEnd.DONE, True),
        (StreamEnd.ABORTED, False),
        (StreamEnd.BROKEN, False),
    ):
        only = connection(max_streams=1, is_http2=False)
        lease = slots(only).acquire_nowait()
        assert lease is not None
        lease.end(how)
        assert only.draining is not keeps


def test_the_first_end_counts() -> None:
    pool = slots(connection())
    lease = pool.acquire_nowait()
    assert lease is not None
    lease.end(StreamEnd.ABORTED)
    lease.end(StreamEnd.LOST)
    assert lease.how is StreamEnd.ABORTED
    assert pool.streams_aborted == 1
    assert not pool.connections[0].draining


def test_probes_are_no_streams() -> None:
    only = connection()
    pool = slots(only)
    lease = pool.lease(only, counts=False)
    assert pool.open_streams == 0
    assert only.free_slots == 1
    lease.end(StreamEnd.ABORTED)
    assert (pool.streams_opened, pool.streams_aborted) == (0, 0)


class SlotMachine(RuleBasedStateMachine):
    """Any order of connecting, asking, waiting, going, ending and losing."""

    leases = Bundle("leases")
    waiters = Bundle("waiters")

    def __init__(self) -> None:
        super().__init__()
        self.pool: Slots = OriginSlots(lambda: 0.0, self.released)
        self.numbers = count()
        self.granted: list[int] = []
        self.line: list[Waiting] = []
        self.held: set[Lease[str]] = set()
        self.releases: list[Lease[str]] = []

    def released(self, lease: Lease[str]) -> None:
        self.releases.append(lease)
        self.collect()

    def collect(self) -> None:
        """Take over what waiters have been granted."""
        for waiter in list(self.line):
            if waiter.lease is not None:
                self.line.remove(waiter)
                self.held.add(waiter.lease)

    @rule(max_streams=st.integers(1, 3), is_http2=st.booleans())
    def connect(self, max_streams: int, is_http2: bool) -> None:
        self.pool.add(connection(max_streams=max_streams, is_http2=is_http2))
        self.collect()

    @rule(target=leases)
    def ask(self) -> Lease[str] | None:
        lease = self.pool.acquire_nowait()
        if lease is not None:
            assert not self.line, "someone was waiting"
            self.held.add(lease)
        return lease

    @rule(target=waiters)
    def wait(self) -> Waiting | None:
        if any(one.free_slots for one in self.pool.connections):
            return None  # the pool enqueues only when there is none
        waiter = Waiting(next(self.numbers), self.granted)
        self.pool.enqueue(waiter)
        self.line.append(waiter)
        return waiter

    @rule(waiter=consumes(waiters), withdrawn=st.booleans())
    def go(self, waiter: Waiting | None, withdrawn: bool) -> None:
        """Leave the line, politely or by just not wanting the grant."""
        if waiter is None or waiter.lease is not None:
            return
        waiter.gone = True
        self.line.remove(waiter)
        if withdrawn:
            self.pool.withdraw(waiter)
            self.pool.withdraw(waiter)

    @rule(waiter=consumes(waiters), how=st.sampled_from(StreamEnd))
    def end_granted(self, waiter: Waiting | None, how: StreamEnd) -> None:
        if waiter is not None and waiter.lease is not None:
            self.end(waiter.lease, how)

    @rule(lease=leases, how=st.sampled_from(StreamEnd))
    def end(self, lease: Lease[str] | None, how: StreamEnd) -> None:
        """End a lease, also one that has ended before."""
        if lease is None:
            return
        before = len(self.releases)
        was_held = lease in self.held
        self.held.discard(lease)
        lease.end(how)
        assert (len(self.releases) - before) == int(was_held)

    @rule(index=st.integers(0, 5))
    def drain(self, index: int) -> None:
        if index < len(self.pool.connections):
            self.pool.connections[index].draining = True
        for one in self.pool.take_drained():
            assert not one.leases

    @invariant()
    def slots_are_within_bounds(self) -> None:
        for one in self.pool.connections:
            assert 0 <= len(one.leases) <= one.max_streams
            assert one.free_slots >= 0

    @invariant()
    def every_lease_held_is_in_its_connection_and_nowhere_else(self) -> None:
        assert {lease for one in self.pool.connections for lease in one.leases} == self.held
        assert self.pool.open_streams == len(self.held)

    @invariant()
    def nobody_waits_beside_a_free_slot(self) -> None:
        if self.line:
            assert not any(one.free_slots for one in self.pool.connections)

    @invariant()
    def first_come_first_served(self) -> None:
        assert self.granted == sorted(self.granted)
        if self.granted and self.line:
            assert self.granted[-1] < self.line[0].number

    @invariant()
    def counts_agree(self) -> None:
        assert self.pool.streams_opened == len(self.held) + len(self.releases)


SlotMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestSlotMachine = SlotMachine.TestCase
