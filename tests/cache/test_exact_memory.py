"""Kept answers in memory, against a model that forgets nothing."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from relay.cache.memory import ENTRY_BYTES, MemoryStore
from tests.fakes.properties import examples

KEYS = st.sampled_from([b"a", b"b", b"c", b"d", b"e"])
MAX_ENTRIES = 3
MAX_BYTES = 3 * ENTRY_BYTES + 200


class MemoryMachine(RuleBasedStateMachine):
    """Whatever is given is what was put last, in time; and what was used last is still there."""

    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryStore(MAX_ENTRIES, MAX_BYTES)
        self.max_entries, self.max_bytes = MAX_ENTRIES, MAX_BYTES
        self.now_s = 0.0
        self.put_last: dict[bytes, tuple[bytes, float]] = {}
        self.used: list[bytes] = []
        """Keys, the one that was used last at the end."""
        self.written = 0

    @rule(seconds=st.sampled_from([0.0, 0.5, 1.0, 5.0]))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    @rule(key=KEYS, size=st.integers(4, 120), ttl_s=st.sampled_from([0.0, 1.0, 3.0]))
    def put(self, key: bytes, size: int, ttl_s: float) -> None:
        self.written += 1
        answer = self.written.to_bytes(4, "big") + b"x" * (size - 4)
        self.store.put(key, answer, ttl_s, self.now_s)
        self.put_last[key] = (answer, self.now_s + ttl_s)
        self._use(key)
        self._what_does_not_fit_is_gone()

    @rule(key=KEYS)
    def get(self, key: bytes) -> None:
        found = self.store.get(key, self.now_s)
        if found is not None:
            answer, until_s = self.put_last[key]
            assert found == answer
            assert self.now_s < until_s
            self._use(key)

    @rule(key=KEYS)
    def forget(self, key: bytes) -> None:
        self.store.forget(key)
        assert self.store.get(key, self.now_s) is None
        self.put_last.pop(key, None)

    @rule(entries=st.integers(1, 4), more_bytes=st.integers(0, 300))
    def resize(self, entries: int, more_bytes: int) -> None:
        self.max_entries, self.max_bytes = entries, ENTRY_BYTES + more_bytes
        self.store.resize(self.max_entries, self.max_bytes)
        self._what_does_not_fit_is_gone()

    @rule()
    def last_used_is_there(self) -> None:
        """Nothing but its time or its size takes the latest away."""
        if not self.used:
            return
        key = self.used[-1]
        answer, until_s = self.put_last.get(key, (b"", 0.0))
        if self.now_s < until_s and len(answer) + ENTRY_BYTES <= self.max_bytes:
            assert self.store.get(key, self.now_s) == answer

    @invariant()
    def bounds_are_held(self) -> None:
        assert self.store.held_bytes <= self.max_bytes
        assert len(self.store) <= self.max_entries
        assert self.store.held_bytes >= len(self.store) * ENTRY_BYTES
        assert (self.store.held_bytes == 0) == (len(self.store) == 0)

    def _what_does_not_fit_is_gone(self) -> None:
        for key, (answer, _) in [*self.put_last.items()]:
            if len(answer) + ENTRY_BYTES > self.max_bytes:
                del self.put_last[key]

    def _use(self, key: bytes) -> None:
        if key in self.used:
            self.used.remove(key)
        self.used.append(key)


TestMemory = MemoryMachine.TestCase
TestMemory.settings = examples(40, full=1000)


def test_the_one_that_was_used_longest_ago_goes_first() -> None:
    store = MemoryStore(2, 1 << 20)
    store.put(b"a", b"1", 10, 0)
    store.put(b"b", b"2", 10, 0)
    assert store.get(b"a", 1) == b"1"
    store.put(b"c", b"3", 10, 1)
    assert [store.get(key, 1) for key in (b"a", b"b", b"c")] == [b"1", None, b"3"]
    assert store.evicted == 1


def test_time_is_over_at_its_end() -> None:
    store = MemoryStore(2, 1 << 20)
    store.put(b"a", b"1", 10, 0)
    assert store.get(b"a", 9.999) == b"1"
    assert store.get(b"a", 10) is None
    assert store.held_bytes == 0


def test_what_does_not_fit_takes_nothing_away() -> None:
    store = MemoryStore(10, 2 * ENTRY_BYTES)
    store.put(b"a", b"1", 10, 0)
    store.put(b"b", b"x" * 2 * ENTRY_BYTES, 10, 0)
    assert store.get(b"a", 1) == b"1"
    assert store.get(b"b", 1) is None


def test_a_new_one_that_does_not_fit_does_not_leave_the_old() -> None:
    store = MemoryStore(10, 2 * ENTRY_BYTES)
    store.put(b"a", b"1", 10, 0)
    store.put(b"a", b"x" * 2 * ENTRY_BYTES, 10, 0)
    assert store.get(b"a", 1) is None


def test_everything_can_be_forgotten() -> None:
    store = MemoryStore(10, 1 << 20)
    store.put(b"a", b"1", 10, 0)
    store.clear()
    assert (len(store), store.held_bytes) == (0, 0)
