"""What all workers say, as one picture: kept between two questions, so that each tells only what
is new."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from relay.observability.live.board import Board
from relay.observability.live.record import Record
from relay.observability.live.recorder import LIVE
from relay.observability.live.workers import Workers

MAX_RECENT: Final = 256
"""Generations that are kept for those who begin to look."""
PAUSE_S: Final = 60.0
"""After so long without a question everything is asked for anew: workers may have gone and come."""


class _Known:
    """What one worker has said."""

    __slots__ = ("index", "instance", "seq", "state", "why")

    def __init__(self) -> None:
        self.instance = ""
        self.seq = 0
        self.index = 0
        self.state: dict[str, Any] | None = None
        self.why = ""
        """Why it does not answer; "" while it does."""


class Joined:
    """Made once a process that has an admin listener; costs nothing until it is asked.

    Args:
        clock: monotonic, seconds.
        now_s: seconds since 1970.
    """

    def __init__(
        self,
        workers: Workers,
        clock: Callable[[], float] = time.monotonic,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._workers = workers
        self._clock = clock
        self._now_s = now_s
        self._asked_s = float("-inf")
        self._known: dict[int, _Known] = {}
        self._board = Board()
        self._recent: list[Record] = []

    @property
    def recent(self) -> list[Record]:
        """The last generations that are known of, oldest first."""
        return self._recent

    async def look(self, *, state: bool) -> list[Record]:
        """Ask every worker what is new; the generations that are, oldest first.

        Args:
            state: whether to ask for the state too, as `snapshot` shows it.

        Cancelled: what came may be lost to the list; the counts are asked for again.
        """
        now_s = self._clock()
        if now_s - self._asked_s > PAUSE_S:
            self._known.clear()
            self._board = Board()
            self._recent = []
        self._asked_s = now_s
        seen = {str(n): [one.instance, one.seq, one.index] for n, one in self._known.items()}
        answers = await self._workers.ask(LIVE, {"seen": seen, "state": state})
        fresh: list[Record] = []
        for number, answer in answers.items():
            known = self._known.setdefault(number, _Known())
            if isinstance(answer, Mapping):
                fresh += await self._take(number, known, answer)
            else:
                known.why = str(answer) or type(answer).__name__
        for number in self._known.keys() - answers.keys():
            self._known[number].why = "it is not there"
        await self._board.settle()
        fresh.sort(key=lambda record: record["ended_ms"])
        self._recent = (self._recent + fresh)[-MAX_RECENT:]
        return fresh

    async def _take(
        self, number: int, known: _Known, answer: Mapping[str, Any]
    ) -> Iterable[Record]:
        known.why = ""
        known.instance = answer["instance"]
        known.seq = answer["seq"]
        if "state" in answer:
            known.state = answer["state"]
        for each in answer["slices"]:
            known.index = each["index"]
            self._board.take(f"{number} {known.instance}", each)
            await asyncio.sleep(0)  # the first answer has a quarter of an hour of them
        return [{**record, "worker": number} for record in answer["ends"]]

    def snapshot(self) -> dict[str, Any]:
        """The picture as of the last `look`, without findings: JSON data."""
        now_s = self._now_s()
        rows: list[dict[str, Any]] = []
        states: list[Mapping[str, Any]] = []
        for number, place in self._workers.places().items():
            known = self._known.get(number)
            row = {"number": number, **place, "why": ""}
            if known is not None:
                row["why"] = known.why
            if known is not None and known.state is not None and not known.why:
                states.append(known.state)
                row["generations"] = known.state["generations"]
                row["uptime_s"] = known.state["uptime_s"]
            rows.append(row)
        return {
            "at_ms": int(now_s * 1000),
            "workers": rows,
            "generations": sum(state["generations"] for state in states),
            **self._board.picture(states, now_s),
        }

    def points(self, last: int | None = None) -> dict[str, list[list[Any]]]:
        """See `Board.points`."""
        return self._board.points(self._now_s(), last)
