"""Which target a conversation's prompt cache is warm at.

A provider keeps the prefix of a prompt for some minutes; the next turn costs a tenth there and
answers sooner. So a session stays where it is while that target is well. A hedge that won once does
not move it (the slow turn was the exception); two of the last three wins do.

No clock: time is an argument, in seconds of a monotonic clock.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple

TTL_S: Final = 300.0
"""Anthropic's and OpenAI's caches last 5 minutes after their last use, or longer."""
MAX_SESSIONS: Final = 20_000
_WINS: Final = 3


class Warm(NamedTuple):
    """Where a session's cache is, and how much of a prompt is in it."""

    target: str
    tokens: int


class _Stay:
    __slots__ = ("target", "tokens", "until_s", "winners")

    def __init__(self, target: str) -> None:
        self.target = target
        self.tokens = 0
        self.until_s = 0.0
        self.winners: list[str] = []


class StickySessions:
    """Bounded; the session used longest ago is forgotten first."""

    __slots__ = ("_max", "_stays")

    def __init__(self, max_sessions: int = MAX_SESSIONS) -> None:
        self._max = max_sessions
        self._stays: OrderedDict[str, _Stay] = OrderedDict()

    def of(self, session: str, now_s: float) -> Warm | None:
        """Where the session's cache is warm; None for no session, or one that has cooled down."""
        stay = self._stays.get(session)
        if stay is None:
            return None
        if now_s >= stay.until_s:
            del self._stays[session]
            return None
        return Warm(stay.target, stay.tokens)

    def won(
        self, session: str, target: str, now_s: float, *, prompt_tokens: int, was_first: bool
    ) -> None:
        """A turn of the session was answered by this target.

        Args:
            prompt_tokens: of the turn, which its cache now holds.
            was_first: it was asked first, and not because another was slow or had failed.
        """
        if not session:
            return
        stay = self._stays.get(session)
        if stay is None or now_s >= stay.until_s:
            stay = self._stays[session] = _Stay(target)
            if len(self._stays) > self._max:
                self._stays.popitem(last=False)
        self._stays.move_to_end(session)
        stay.winners = [*stay.winners, target][-_WINS:]
        if target != stay.target and (was_first or stay.winners.count(target) >= 2):
            stay.target = target
        stay.until_s = now_s + TTL_S
        if target == stay.target:
            stay.tokens = prompt_tokens

    def __len__(self) -> int:
        return len(self._stays)
