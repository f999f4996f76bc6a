"""Keeps whoever is asked within a time and a number of questions, and leaves alone who is gone.

Three failures in a row, and nobody waits for the fourth: for `idle_s` there is no opinion at once,
then one question finds out whether there is one again. So with `fail: open` a dead webhook costs
three requests its time, and not each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from relay.guardrails.asking import Asker, CannotTell, NotAsked, Opinion, Question

_log = structlog.get_logger("relay.guardrails")

FAILURES: Final = 3


class Timed:
    """One asker, for all generations of a worker.

    Args:
        timeout_s: of a question, with the wait for its turn.
        at_once: questions at a time; the others wait.
        idle_s: how long it is left alone after three failures in a row.
        max_chars: the longest question.
        clock: seconds, monotonic.
    """

    __slots__ = (
        "_asker",
        "_clock",
        "_failures",
        "_idle_s",
        "_is_probed",
        "_max_chars",
        "_slots",
        "_timeout_s",
        "_until_s",
    )

    def __init__(
        self,
        asker: Asker,
        *,
        timeout_s: float,
        at_once: int,
        idle_s: float,
        max_chars: int,
        clock: Callable[[], float],
    ) -> None:
        self._asker = asker
        self._timeout_s = timeout_s
        self._slots = asyncio.Semaphore(at_once)
        self._idle_s = idle_s
        self._max_chars = max_chars
        self._clock = clock
        self._failures = 0
        self._until_s = 0.0
        self._is_probed = False

    @property
    def is_idle(self) -> bool:
        """It is left alone."""
        return self._failures >= FAILURES and (self._is_probed or self._clock() < self._until_s)

    async def ask(self, question: Question) -> Opinion:
        """
        Raises:
            CannotTell: no opinion, or none in time.

        Cancelled: the question is given up, and says nothing of the asker.
        """
        if question.chars > self._max_chars:
            raise CannotTell("too long")
        if self.is_idle:
            raise CannotTell("left alone")
        is_probe = self._failures >= FAILURES
        self._is_probed = self._is_probed or is_probe
        since_s: float | None = None
        try:
            async with asyncio.timeout(self._timeout_s):
                async with self._slots:
                    since_s = self._clock()
                    opinion = await self._asker.ask(question)
        except TimeoutError:
            if since_s is None or self._clock() - since_s < self._timeout_s / 2:
                raise CannotTell("busy") from None  # most of the time went into waiting for a turn
            self._failed()
            raise CannotTell("no answer in time") from None
        except NotAsked:
            raise
        except CannotTell:
            self._failed()
            raise
        except Exception as error:  # noqa: BLE001 - a bug in it says no more than its silence
            _log.error("asker_bug", error=type(error).__name__, exc_info=error)
            self._failed()
            raise CannotTell("a bug") from None
        finally:
            if is_probe:
                self._is_probed = False
        self._failures = 0
        return opinion

    async def aclose(self) -> None:
        """Close the asker."""
        await self._asker.aclose()

    def _failed(self) -> None:
        self._failures += 1
        if self._failures >= FAILURES:
            self._until_s = self._clock() + self._idle_s
