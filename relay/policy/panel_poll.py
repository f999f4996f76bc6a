"""The members of a panel while they answer: who is done, who is awaited, who was stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from relay.content import GenerateRequest
from relay.errors import RelayError, UpstreamError
from relay.policy.base import Leg, Legs, Whole
from relay.policy.equality import is_silent


@dataclass(frozen=True, slots=True, eq=False)
class Answered:
    """A member's whole answer."""

    member: int
    leg: Leg
    whole: Whole
    nth: int
    """In the order in which they came; of several in one turn of the loop, as they are listed."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A member without one."""

    member: int
    error: RelayError


class Poll:
    """Asks the members at once, and gives what comes of them; bound to the task that starts it.

    Args:
        names: of the members, for messages.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.answered: list[Answered] = []
        self.failed: list[Failed] = []
        self._names = names
        self._legs: dict[int, Leg] = {}
        self._refused: list[Failed] = []
        self._waiting: dict[asyncio.Task[Whole], int] = {}

    def start(self, legs: Legs, members: Sequence[tuple[str, str, GenerateRequest]]) -> None:
        """Ask: label, alias and request of each. One that may not be asked has failed."""
        loop = asyncio.get_running_loop()
        for member, (label, model, request) in enumerate(members):
            try:
                leg = legs.start(label, model, request)
            except RelayError as error:
                self._refused.append(Failed(member, error))
                continue
            self._legs[member] = leg
            self._waiting[loop.create_task(leg.whole())] = member

    @property
    def awaited(self) -> int:
        """Members that have neither answered nor failed."""
        return len(self._waiting) + len(self._refused)

    async def news(self, timeout_s: float | None) -> list[Answered | Failed]:
        """What has come, as the members are listed; empty when the time is over, and where nobody
        is awaited.

        Cancelled: nothing is lost.
        """
        found: list[Answered | Failed] = []
        if self._refused:
            found += self._refused
            self._refused = []
        elif self._waiting:
            done, _ = await asyncio.wait(
                self._waiting, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            for task in sorted(done, key=self._waiting.__getitem__):
                found.append(self._ended(self._waiting.pop(task), task))
        self.failed += [one for one in found if isinstance(one, Failed)]
        return found

    def _ended(self, member: int, task: asyncio.Task[Whole]) -> Answered | Failed:
        """
        Raises:
            BaseException: a bug in a leg.
        """
        try:
            whole = task.result()
        except RelayError as error:
            return Failed(member, error)
        leg = self._legs[member]
        if is_silent(whole):
            leg.entry["is_empty"] = True
            return Failed(member, UpstreamError("an empty answer"))
        answered = Answered(member, leg, whole, len(self.answered))
        self.answered.append(answered)
        return answered

    def name(self, member: int) -> str:
        """For messages."""
        return self._names[member]

    def stop(self, outcome: str) -> list[int]:
        """Cancel who is still awaited.

        Returns:
            Their members.
        """
        stopped = sorted(self._waiting.values())
        for member in stopped:
            self._legs[member].cancel(outcome)
        return stopped

    def part(self, chosen: Answered | None) -> None:
        """It is decided: nobody needs the other answers."""
        for one in self.answered:
            if one is not chosen:
                one.leg.cancel("not_chosen")

    async def aclose(self) -> None:
        """Stop waiting; what the legs do is not touched. Idempotent."""
        waiting, self._waiting = self._waiting, {}
        for task in waiting:
            task.cancel()
        if waiting:
            await asyncio.wait(waiting)
            for task in waiting:
                if not task.cancelled():
                    task.exception()  # its leg was stopped: no news
