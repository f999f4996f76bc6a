"""The agent's voice: a clock that speaks text at a steady rate, and knows what was heard."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

CHARS_PER_S = 15.0
"""Some 170 words a minute."""


class Voice:
    """The voice in one turn. Belongs to one event loop; has no task of its own.

    Args:
        now_s: the clock, by default the loop's.
    """

    def __init__(
        self, chars_per_s: float = CHARS_PER_S, now_s: Callable[[], float] | None = None
    ) -> None:
        self.spans_s: list[tuple[float, float]] = []
        """When it spoke, from and to."""
        self.text = ""
        """What it was given so far."""
        self._chars_per_s = chars_per_s
        self._now_s = now_s or asyncio.get_running_loop().time
        self._heard = 0.0
        self._seen_s = self._now_s()
        self._is_paused = False
        self._is_over = False
        self._changed = asyncio.Event()

    @property
    def heard_chars(self) -> int:
        """How much has been heard by now."""
        self._advance(self._now_s())
        return int(self._heard + 1e-6)

    def say(self, text: str) -> None:
        """Speak it after what is being spoken."""
        self._advance(self._now_s())
        self.text += text
        self._changed.set()

    def pause(self) -> None:
        """Be silent, and keep what is unsaid."""
        self._advance(self._now_s())
        self._is_paused = True
        self._changed.set()

    def resume(self) -> None:
        """Go on after a pause."""
        self._advance(self._now_s())
        self._is_paused = False
        self._changed.set()

    def stop(self) -> None:
        """Be silent for good, and forget what is unsaid."""
        self.text = self.text[: self.heard_chars]
        self.no_more()

    def no_more(self) -> None:
        """Nothing will be added; nobody waits for more than there is."""
        self._is_over = True
        self._changed.set()

    def finish(self) -> None:
        """Take the rest as heard, without waiting for it."""
        self.resume()
        self._advance(self._seen_s + (len(self.text) - self._heard) / self._chars_per_s + 1e-9)
        self.no_more()

    async def until_heard(self, chars: int) -> bool:
        """Wait until so much was heard. False: so much will never be."""
        while True:
            now_s = self._now_s()
            self._advance(now_s)
            if self._heard >= chars - 1e-6:
                return True
            is_there = len(self.text) >= chars
            if self._is_over and not is_there:
                return False
            left_s = None
            if is_there and not self._is_paused:
                left_s = (chars - self._heard) / self._chars_per_s
            self._changed.clear()
            try:
                async with asyncio.timeout(left_s):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def _advance(self, now_s: float) -> None:
        """Say what the time since the last look was enough for."""
        since_s, self._seen_s = self._seen_s, max(self._seen_s, now_s)
        left = len(self.text) - self._heard
        if self._is_paused or left <= 0:
            return
        spoken = min(left, (self._seen_s - since_s) * self._chars_per_s)
        if spoken <= 0:
            return
        self._heard += spoken
        until_s = since_s + spoken / self._chars_per_s
        if self.spans_s and since_s - self.spans_s[-1][1] < 1e-6:
            since_s = self.spans_s.pop()[0]
        self.spans_s.append((since_s, until_s))
