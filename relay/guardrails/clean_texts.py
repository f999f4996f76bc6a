"""Texts in which nothing was found: a conversation comes again with every turn of it, and tools and
instructions with every request.

Of a text that is kept, only a digest is kept, so this memory holds no prompts; short ones are not
worth it. Verdicts of text rules alone, which say the same of the same text each time.
"""

from __future__ import annotations

import hashlib
import threading
from typing import Final

LEAST_CHARS: Final = 48
MOST: Final = 50_000
"""Some 6 MB."""


class CleanTexts:
    """Of one set of rules; the oldest are forgotten."""

    __slots__ = ("_digests", "_lock", "_most")

    def __init__(self, most: int = MOST) -> None:
        self._digests: dict[bytes, None] = {}
        self._lock = threading.Lock()
        self._most = most

    def __len__(self) -> int:
        return len(self._digests)

    @staticmethod
    def digest(data: str | bytes) -> bytes:
        """What a text is known by; empty for one that is too short."""
        if len(data) < LEAST_CHARS:
            return b""
        raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
        return hashlib.blake2b(raw, digest_size=16).digest()

    def has(self, digest: bytes) -> bool:
        """Whether nothing was found in it."""
        return digest in self._digests

    def add(self, digest: bytes) -> None:
        """Nothing was found in it."""
        if not digest:
            return
        with self._lock:  # large requests are read in threads
            if len(self._digests) >= self._most:
                self._digests.pop(next(iter(self._digests)))
            self._digests[digest] = None
