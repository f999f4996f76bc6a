"""Kept responses: whose they are, how long, and that their bounds hold whatever is done."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from relay.frontends.response_store import (
    ENTRY_BYTES,
    ResponseNotFound,
    ResponseStore,
    StoreLimits,
    Turn,
)

LIMITS = StoreLimits(max_responses=3, max_bytes=100_000, ttl_s=10.0)


def turn(size_bytes: int = 10) -> Turn:
    return Turn(b"[]", b"x" * size_bytes)


def test_response_is_there_until_it_is_deleted() -> None:
    store, one = ResponseStore(LIMITS), turn()
    store.put("t", "r1", b"{}", (one,), 0.0)
    assert store.document("t", "r1", 1.0) == b"{}"
    assert store.conversation("t", "r1", 1.0) == (one,)
    store.delete("t", "r1", 1.0)
    for ask in (store.document, store.conversation, store.delete):
        with pytest.raises(ResponseNotFound, match="'r1' not found"):
            ask("t", "r1", 1.0)
    assert store.held_bytes == 0


def test_tenants_see_nothing_of_each_other() -> None:
    store = ResponseStore(LIMITS)
    store.put("t", "r1", b"{}", (turn(),), 0.0)
    with pytest.raises(ResponseNotFound):
        store.document("u", "r1", 0.0)
    with pytest.raises(ResponseNotFound):
        store.delete("u", "r1", 0.0)
    assert len(store) == 1


def test_time_counts_from_the_last_use() -> None:
    store = ResponseStore(LIMITS)
    store.put("t", "r1", b"{}", (turn(),), 0.0)
    store.put("t", "r2", b"{}", (turn(),), 0.0)
    store.document("t", "r1", 9.5)
    with pytest.raises(ResponseNotFound):
        store.document("t", "r2", 10.0)
    assert store.document("t", "r1", 19.0) == b"{}"
    with pytest.raises(ResponseNotFound):
        store.document("t", "r1", 29.0)
    assert store.held_bytes == 0


def test_the_longest_unused_goes_first() -> None:
    store = ResponseStore(LIMITS)
    for name in ("r1", "r2", "r3"):
        store.put("t", name, b"{}", (turn(),), 0.0)
    store.document("t", "r1", 1.0)
    store.put("t", "r4", b"{}", (turn(),), 1.0)
    with pytest.raises(ResponseNotFound):
        store.document("t", "r2", 1.0)
    assert store.document("t", "r1", 1.0) == b"{}"


def test_what_is_larger_than_the_store_is_not_kept() -> None:
    store = ResponseStore(LIMITS)
    store.put("t", "r1", b"x" * 200_000, (turn(),), 0.0)
    assert (len(store), store.held_bytes) == (0, 0)


def test_conversation_is_held_once_and_outlives_its_first_responses() -> None:
    store = ResponseStore(StoreLimits(2, 1_000_000, 10.0))
    turns: tuple[Turn, ...] = ()
    for at in range(50):
        turns = (*turns, turn(1000))
        store.put("t", f"r{at}", b"{}", turns, 0.0)
    assert store.conversation("t", "r49", 0.0) == turns
    assert store.held_bytes < 50 * 1200 + 2 * (ENTRY_BYTES + 50 * 16 + 2)
    store.delete("t", "r49", 0.0)
    store.delete("t", "r48", 0.0)
    assert store.held_bytes == 0


class Bounds(RuleBasedStateMachine):
    """Whatever happens: no more is held than allowed, the count is exact, nothing is too old."""

    def __init__(self) -> None:
        super().__init__()
        self.limits = StoreLimits(4, 6_000, 10.0)
        self.store = ResponseStore(self.limits)
        self.now_s = 0.0
        self.made = 0
        self.put_at_s: dict[tuple[str, str], float] = {}
        self.turns: dict[tuple[str, str], tuple[Turn, ...]] = {}

    @rule(
        tenant=st.sampled_from("tu"),
        size=st.integers(0, 4_000),
        document=st.integers(0, 2_000),
        back=st.integers(0, 5),
    )
    def put(self, tenant: str, size: int, document: int, back: int) -> None:
        earlier = self.turns.get((tenant, f"r{self.made - back}"), ())
        self.made += 1
        key = (tenant, f"r{self.made}")
        self.turns[key] = (*earlier, turn(size))
        self.put_at_s[key] = self.now_s
        self.store.put(*key, b"x" * document, self.turns[key], self.now_s)

    @rule(wait_s=st.floats(0, 6))
    def wait(self, wait_s: float) -> None:
        self.now_s += wait_s

    @rule(tenant=st.sampled_from("tu"), back=st.integers(0, 5), is_delete=st.booleans())
    def use(self, tenant: str, back: int, is_delete: bool) -> None:
        key = (tenant, f"r{self.made - back}")
        try:
            if is_delete:
                self.store.delete(*key, self.now_s)
            else:
                assert self.store.conversation(*key, self.now_s) == self.turns[key]
        except ResponseNotFound:
            return
        assert self.now_s - self.put_at_s[key] < self.limits.ttl_s
        self.put_at_s[key] = self.now_s

    @invariant()
    def bounds_hold(self) -> None:
        assert len(self.store) <= self.limits.max_responses
        assert 0 <= self.store.held_bytes <= self.limits.max_bytes
        if not len(self.store):
            assert self.store.held_bytes == 0

    def teardown(self) -> None:
        for key in self.turns:
            try:
                self.store.delete(*key, self.now_s)
            except ResponseNotFound:
                continue
        assert self.store.held_bytes == 0
        for turns in self.turns.values():
            assert all(one.holders == 0 for one in turns)


TestBounds = Bounds.TestCase


@given(st.lists(st.integers(0, 300), max_size=30))
def test_bytes_are_those_of_what_is_there(sizes: list[int]) -> None:
    store = ResponseStore(StoreLimits(5, 3_000, 10.0))
    for at, size in enumerate(sizes):
        store.put("", f"r{at}", b"", (turn(size),), 0.0)
    kept = [size for at, size in enumerate(sizes) if at >= len(sizes) - len(store)]
    assert store.held_bytes == sum(ENTRY_BYTES + 16 + 128 + 2 + size for size in kept)


@pytest.mark.parametrize("size_bytes", [10, 20_000])
def test_who_stores_much_drives_out_his_own(size_bytes: int) -> None:
    """By number and by bytes; the others keep what they have, however old."""
    store = ResponseStore(StoreLimits(max_responses=20, max_bytes=100_000, ttl_s=100.0))
    store.put("quiet", "r", b"{}", (turn(),), 0.0)
    store.put("other", "r", b"{}", (turn(),), 0.0)
    for number in range(50):
        store.put("loud", f"r{number}", b"{}", (turn(size_bytes),), 1.0)
        store.document("other", "r", 1.0)
    assert store.document("quiet", "r", 2.0) == b"{}"
    assert store.document("loud", "r49", 2.0) == b"{}"
    store.put("quiet", "r2", b"{}", (turn(),), 2.0)
    assert store.document("quiet", "r", 2.0) == store.document("other", "r", 2.0) == b"{}"
    assert store.held_bytes <= 100_000
