"""Kept answers in the memory of one worker, bounded by number, bytes and time.

The one that was used longest ago goes first. Time is an argument, in seconds of a monotonic clock;
what has expired is never given, and its room is free at the latest when room is needed: an expired
entry that nobody asks for grows old in its place like any other.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple

ENTRY_BYTES: Final = 256
"""What an entry takes beside its answer (key, tuple, heads, its place in the table): 196 by
`python -m bench.micro.exact_cache`, and what the allocator rounds up."""


class _Entry(NamedTuple):
    written: bytes
    expires_s: float


class MemoryStore:
    """See the module. Every call is O(1), but for what has to go.

    Args:
        max_entries, max_bytes: at least one of each; an answer that does not fit is not kept.
    """

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self.held_bytes = 0
        """With `ENTRY_BYTES` an entry."""
        self.evicted = 0
        """Since the start, for want of room."""

    def __len__(self) -> int:
        return len(self._entries)

    def resize(self, max_entries: int, max_bytes: int) -> None:
        """From now on; what is too much goes at once."""
        self._max_entries, self._max_bytes = max_entries, max_bytes
        self._make_room()

    def get(self, key: bytes, now_s: float) -> bytes | None:
        """The answer as it was written, if there is one and its time is not over."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if now_s >= entry.expires_s:
            self.forget(key)
            return None
        self._entries.move_to_end(key)
        return entry.written

    def put(self, key: bytes, written: bytes, ttl_s: float, now_s: float) -> None:
        """Keep it for so long, in place of what was there."""
        self.forget(key)
        if ttl_s <= 0 or len(written) + ENTRY_BYTES > self._max_bytes:
            return
        self._entries[key] = _Entry(written, now_s + ttl_s)
        self.held_bytes += len(written) + ENTRY_BYTES
        self._make_room()

    def forget(self, key: bytes) -> None:
        """Nothing where there is none."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.held_bytes -= len(entry.written) + ENTRY_BYTES

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self.held_bytes = 0

    def _make_room(self) -> None:
        while self.held_bytes > self._max_bytes or len(self._entries) > self._max_entries:
            self.forget(next(iter(self._entries)))
            self.evicted += 1
