"""One generation's turn with the caches: a kept answer, or the right to keep its own."""

from __future__ import annotations

from collections.abc import Callable

from relay.answer import Answer
from relay.cache.near import NearLook
from relay.cache.replay import StoredAnswer
from relay.cache.single_flight import Leader
from relay.cache.stored import Given, Stored

Recording = Callable[
    [Answer, Callable[[Stored], None], Callable[[], None], Callable[[], None]], Answer
]
"""Of an answer, what is done with it when it is whole, what when it was given up or broke, and what
when it is one that is not kept: the same answer, taken down."""


class HitTurn:
    """See `Turn`: there is an answer."""

    def __init__(self, answer: StoredAnswer) -> None:
        self.answer: Answer | None = answer
        """The kept one."""

    def recording(self, answer: Answer) -> Answer:
        """Not on a hit: the answer as it is."""
        return answer

    def close(self) -> None:
        """Nothing is owed."""


class MissTurn:
    """See `Turn`: a provider is asked.

    Args:
        record: makes the recording.
        keep: keeps a whole answer, and gives it to whoever waits.
        leader: for whom others wait; None: nobody does.
        look: what was found out about the request on the way.
    """

    answer: Answer | None = None
    """There is none."""

    def __init__(
        self,
        record: Recording,
        keep: Callable[[Stored], None] | None,
        leader: Leader[Given] | None = None,
        look: NearLook | None = None,
    ) -> None:
        self._record = record
        self._keep = keep
        self._leader = leader
        self._look = look

    def recording(self, answer: Answer) -> Answer:
        """See `Turn`."""
        return self._record(answer, self._kept, self.close, self._scatter)

    def close(self) -> None:
        """See `Turn`."""
        leader, self._leader = self._leader, None
        if leader is not None:
            leader.give_up()

    def _scatter(self) -> None:
        leader, self._leader = self._leader, None
        if leader is not None:
            leader.scatter()

    def _kept(self, stored: Stored) -> None:
        try:
            if self._keep is not None:
                self._keep(stored)
            if self._look is not None:
                self._look.keep(stored)
        finally:
            self._scatter()  # where it was too large after all; else it has landed
