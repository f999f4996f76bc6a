"""Which target a conversation's prompt cache is warm at.

A provider keeps the prefix of a prompt for some minutes; the next turn costs a tenth there and
answers sooner. So a session stays where it is while that target is well. A hedge that won once does
not move it (the slow turn was the exception); two of the last three wins do. A second place may
hold the prefix too, sent there for the hedge that may come (`hedge.keep_second_warm`).

No clock: time is an argument, in seconds of a monotonic clock.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple

from relay.content import Policy
from relay.routing.target import Target

TTL_S: Final = 300.0
"""Anthropic's and OpenAI's caches last 5 minutes after their last use, or longer."""
MAX_SESSIONS: Final = 20_000
USUAL_TURNS: Final = 10.0
"""Of a session, and how long it lasts, until some have been seen."""
USUAL_S: Final = 180.0
_WEIGHT: Final = 0.02
"""Of one session in what sessions are like."""
_WINS: Final = 3


Session = tuple[str, str]
"""Whose it is (the tenant), and what he calls it."""


def session_of(policy: Policy) -> Session | None:
    """The session of a request; None of one that is in none. Two tenants who name theirs alike have
    two: neither moves the other's."""
    return (policy.tenant, policy.session_id) if policy.session_id else None


class Warm(NamedTuple):
    """Where a session's cache is (`Target.place`), and how much of a prompt is in it."""

    target: str
    tokens: int
    second: str = ""
    """Another place to which the prefix was sent; empty for none."""
    second_tokens: int = 0

    def tokens_at(self, target: Target) -> int:
        """Of the prompt, that the target has in its cache. Tiers of a model are taken to share one
        where the provider is known to keep prompts; nobody says that they do."""
        if target.service_tier and not target.endpoint.caches_prompts:
            return 0
        if target.place == self.target:
            return self.tokens
        return self.second_tokens if target.place == self.second else 0


class _Stay:
    __slots__ = (
        "began_s",
        "second",
        "second_tokens",
        "second_until_s",
        "target",
        "tokens",
        "turns",
        "until_s",
        "winners",
    )

    def __init__(self, target: str, now_s: float) -> None:
        self.began_s = now_s
        self.target = target
        self.tokens = 0
        self.until_s = 0.0
        self.winners: list[str] = []
        self.turns = 0
        self.second = ""
        self.second_tokens = 0
        self.second_until_s = 0.0


class StickySessions:
    """Bounded; the session used longest ago is forgotten first."""

    __slots__ = ("_max", "_stays", "lasts_s", "turns")

    def __init__(self, max_sessions: int = MAX_SESSIONS) -> None:
        self._max = max_sessions
        self._stays: OrderedDict[Session, _Stay] = OrderedDict()
        self.turns = USUAL_TURNS
        """That a session has, by those that are over."""
        self.lasts_s = USUAL_S
        """From its first answer, or its prefix, to its last."""

    def of(self, session: Session, now_s: float) -> Warm | None:
        """Where the session's cache is warm; None for no session, or one that has cooled down."""
        stay = self._stays.get(session)
        if stay is None:
            return None
        if now_s >= stay.until_s:
            self._over(self._stays.pop(session))
            return None
        if stay.second and now_s < stay.second_until_s and stay.second != stay.target:
            return Warm(stay.target, stay.tokens, stay.second, stay.second_tokens)
        return Warm(stay.target, stay.tokens)

    def won(
        self,
        session: Session | None,
        target: str,
        now_s: float,
        *,
        prompt_tokens: int,
        was_first: bool,
    ) -> None:
        """A turn of the session was answered by this target.

        Args:
            prompt_tokens: of the turn, which its cache now holds.
            was_first: it was asked first, and not because another was slow or had failed.
        """
        if not session:
            return
        stay = self._stay(session, target, now_s)
        stay.turns += 1
        stay.winners = [*stay.winners, target][-_WINS:]
        if target != stay.target and (was_first or stay.winners.count(target) >= 2):
            stay.target = target
        stay.until_s = now_s + TTL_S
        if target == stay.target:
            stay.tokens = prompt_tokens

    def warmed(
        self, session: Session | None, target: str, now_s: float, *, prompt_tokens: int
    ) -> None:
        """A prefix of the session was sent ahead to this target: it stays there if it is nowhere
        yet, and else has a second place."""
        if not session:
            return
        stay = self._stay(session, target, now_s)
        if target != stay.target:
            stay.second, stay.second_tokens = target, prompt_tokens
            stay.second_until_s = now_s + TTL_S
            return
        stay.until_s = now_s + TTL_S
        stay.tokens = max(stay.tokens, prompt_tokens)

    def _stay(self, session: Session, target: str, now_s: float) -> _Stay:
        stay = self._stays.get(session)
        if stay is None or now_s >= stay.until_s:
            if stay is not None:
                self._over(stay)
            stay = self._stays[session] = _Stay(target, now_s)
            if len(self._stays) > self._max:
                self._over(self._stays.popitem(last=False)[1])
        self._stays.move_to_end(session)
        return stay

    def _over(self, stay: _Stay) -> None:
        """A session is taken to have ended: learn of it."""
        if stay.turns > 0:
            self.turns += _WEIGHT * (stay.turns - self.turns)
            lasted_s = max(0.0, stay.until_s - TTL_S - stay.began_s)
            self.lasts_s += _WEIGHT * (lasted_s - self.lasts_s)

    def __len__(self) -> int:
        return len(self._stays)
