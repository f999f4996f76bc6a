"""When generations go round the relay, and when they come back. No I/O: time is an argument.

A session is in one of three states. It begins, and mostly is, with the relay. Once the relay did
not answer it is away: generations go to the provider at once, without waiting for the relay first.
When the relay answers again the session stays away until a moment drawn at random, so that the
agents of a fleet, which all heard of it at once, do not all return at once; if the relay goes
meanwhile, the next answer draws anew. A relay that goes again soon after a return is kept away from
for longer, twice as long each time: every return to it may cost an answer.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Literal, TypeAlias

Via: TypeAlias = Literal["relay", "direct"]
"""Which way a generation goes."""

STEADY_S = 30.0
"""A relay that has to be returned to again so soon after a return was not there for good."""
LONGEST_HOLD_S = 60.0
"""So long at most the return to such a relay is put off."""


class Takeover:
    """The state of one session.

    Args:
        after_s: how long the relay may take to say that it has a generation.
        return_within_s: bound of the random time between the relay's answer and the return to it.
        is_away: begin as if the relay had not answered.
        draw: an even draw between two bounds.
    """

    def __init__(
        self,
        after_s: float,
        return_within_s: float,
        *,
        is_away: bool = False,
        draw: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.after_s = after_s
        self._return_within_s = return_within_s
        self._is_away = is_away
        self._return_at_s: float | None = None
        self._returned_at_s: float | None = None
        self._relapses = 0
        """Returns in a row that did not last."""
        self._draw = draw

    def via(self, now_s: float) -> Via:
        """Which way a generation that is started now goes first."""
        if self._return_at_s is not None and now_s >= self._return_at_s:
            self.settled()
        return "direct" if self._is_away else "relay"

    @property
    def return_at_s(self) -> float | None:
        """When the session goes back to the relay; None if it is there, or the relay is away."""
        return self._return_at_s

    def failed(self) -> bool:
        """The relay did not answer. Whether that is news: it was not away, or was coming back."""
        is_news = not self._is_away or self._return_at_s is not None
        self._is_away = True
        self._return_at_s = None
        return is_news

    def answered(self, now_s: float) -> bool:
        """The relay is there. Whether that is news: a return is planned now that was not before."""
        if not self._is_away or self._return_at_s is not None:
            return False
        if self._returned_at_s is not None:
            lasted = now_s - self._returned_at_s >= STEADY_S
            self._relapses = 0 if lasted else min(self._relapses + 1, 16)
            self._returned_at_s = None
        hold_s = min(self._return_within_s * (2.0**self._relapses - 1.0), LONGEST_HOLD_S)
        self._return_at_s = now_s + hold_s + self._draw(0.0, self._return_within_s)
        return True

    def settled(self) -> None:
        """Back with the relay, without waiting: also where it answers by a refusal that lasts (a
        key it does not take), which callers must hear and nobody may go round."""
        self._is_away = False
        if self._return_at_s is not None:
            self._returned_at_s = self._return_at_s
        self._return_at_s = None
