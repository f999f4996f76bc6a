"""A judge at work: its questions asked beside each other, in both orders, within a time."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

from relay.config.panels import JudgeConfig, ScoreJudgeConfig
from relay.content import GenerateRequest
from relay.errors import RelayError
from relay.policy.base import Leg, Legs, Whole
from relay.policy.judge_prompt import JudgeLimits, NewMark, comparison, random_mark, rating
from relay.policy.judge_verdict import NoChoice, Verdict, by_wins, mark_of, preferred, together
from relay.policy.panel_poll import Answered

T = TypeVar("T")

_LATE: Final = "late"
"""Why a question is given up, for its leg's entry."""


class Judge:
    """One that compares; made once a configuration."""

    def __init__(self, config: JudgeConfig, new_mark: NewMark = random_mark) -> None:
        self.model = config.model
        self.timeout_s = config.timeout_ms / 1000
        self._config = config
        self._limits = _limits(config)
        self._new_mark = new_mark

    def questions(self, answers: int) -> int:
        """How many are asked at once about so many answers."""
        pairs = answers * (answers - 1) // 2 if self._config.compare == "pairwise" else 1
        return pairs * (2 if self._config.swap else 1)

    async def verdict(
        self,
        request: GenerateRequest,
        legs: Legs,
        answers: Sequence[Answered],
        timeout_s: float,
    ) -> Verdict:
        """Ask about these, at least two; a judge that fails or is too late has no word.

        Cancelled: its legs are stopped.
        """
        count = len(answers)
        groups: list[tuple[int, ...]] = [tuple(range(count))]
        if self._config.compare == "pairwise":
            groups = list(itertools.combinations(range(count), 2))
        shown = [
            order
            for group in groups
            for order in ((group, group[::-1]) if self._config.swap else (group,))
        ]
        asked: list[Coroutine[Any, Any, int | NoChoice | None]] = [
            self._reply(request, legs, [answers[index] for index in order], f"judge.{number}")
            for number, order in enumerate(shown, 1)
        ]
        replies = await all_within(asked, timeout_s)
        per_group = len(shown) // len(groups)
        verdicts = []
        for number, group in enumerate(groups):
            within = range(number * per_group, (number + 1) * per_group)
            counted = [_in_order(replies[nth], shown[nth], group) for nth in within]
            verdicts.append(together(counted, len(group)))
        if self._config.compare == "listwise":
            return verdicts[0]
        pairs = {(group[0], group[1]): one for group, one in zip(groups, verdicts, strict=True)}
        return by_wins(pairs, count)

    async def _reply(
        self, request: GenerateRequest, legs: Legs, shown: Sequence[Answered], label: str
    ) -> int | NoChoice | None:
        """By place in `shown`; asked once more after a reply that cannot be read."""

        def asked() -> GenerateRequest:
            wholes = [one.whole for one in shown]
            rubric = self._config.rubric
            return comparison(request, wholes, rubric, self._limits, new_mark=self._new_mark)

        def read(leg: Leg, whole: Whole) -> int | NoChoice | None:
            choice = preferred(whole.text, len(shown))
            if isinstance(choice, int):
                leg.entry["verdict"] = shown[choice].leg.label
                return choice
            leg.entry["verdict"] = choice.value
            return None if choice is NoChoice.GARBAGE else choice

        return await _asked_twice(legs, self.model, label, asked, read)


class Rater:
    """One that gives marks; made once a configuration."""

    def __init__(self, config: ScoreJudgeConfig, new_mark: NewMark = random_mark) -> None:
        self.model = config.model
        self.timeout_s = config.timeout_ms / 1000
        self._config = config
        self._limits = _limits(config)
        self._new_mark = new_mark

    async def marks(
        self,
        request: GenerateRequest,
        legs: Legs,
        answers: Sequence[Answered],
        timeout_s: float,
    ) -> list[int | None]:
        """Of each answer; None where the judge failed, said something else or was too late.

        Cancelled: its legs are stopped.
        """
        return await all_within(
            [self._mark(request, legs, one, f"judge.{one.leg.label}") for one in answers],
            timeout_s,
        )

    async def _mark(
        self, request: GenerateRequest, legs: Legs, answer: Answered, label: str
    ) -> int | None:
        def asked() -> GenerateRequest:
            rubric = self._config.rubric
            return rating(request, answer.whole, rubric, self._limits, new_mark=self._new_mark)

        def read(leg: Leg, whole: Whole) -> int | None:
            mark = mark_of(whole.text)
            leg.entry["verdict"] = NoChoice.GARBAGE.value if mark is None else mark
            return mark

        return await _asked_twice(legs, self.model, label, asked, read)


async def _asked_twice(
    legs: Legs,
    model: str,
    label: str,
    asked: Callable[[], GenerateRequest],
    read: Callable[[Leg, Whole], T | None],
) -> T | None:
    """The second time only where the reply could not be read: a leg that failed has had its own
    further attempts.

    Cancelled: the leg is stopped.
    """
    for name in (label, f"{label}.again"):
        try:
            leg = legs.start(name, model, asked())
        except RelayError:
            return None
        try:
            whole = await leg.whole()
        except RelayError:
            return None
        except asyncio.CancelledError as cancelled:
            leg.cancel(_LATE if _LATE in cancelled.args else "cancelled")
            raise
        leg.cancel("ok")  # it is over: what it was good for is done
        reply = read(leg, whole)
        if reply is not None:
            return reply
    return None


async def all_within(work: Sequence[Coroutine[Any, Any, T]], timeout_s: float) -> list[T | None]:
    """Run beside each other; None for what is not done when the time is over, which is cancelled.

    Raises:
        BaseException: what one of them raised.

    Cancelled: so are they.
    """
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(one) for one in work]
    why = "cancelled"
    try:
        await asyncio.wait(tasks, timeout=timeout_s)
        why = _LATE
    finally:
        running = [task for task in tasks if not task.done()]
        for task in running:
            task.cancel(why)
        if running:
            await asyncio.wait(running)
    return [None if task.cancelled() else task.result() for task in tasks]


def _in_order(
    reply: int | NoChoice | None, shown: Sequence[int], order: Sequence[int]
) -> int | NoChoice | None:
    """A place in the order shown as the place in another one."""
    return order.index(shown[reply]) if isinstance(reply, int) else reply


def _limits(config: JudgeConfig | ScoreJudgeConfig) -> JudgeLimits:
    return JudgeLimits(
        max_answer_chars=config.max_answer_chars,
        max_question_chars=config.max_question_chars,
        max_output_tokens=config.max_output_tokens,
        temperature=config.temperature,
    )
