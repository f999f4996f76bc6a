"""How a panel finds its one answer: the part that its ways have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from relay.content import GenerateRequest
from relay.policy.base import Legs
from relay.policy.panel_poll import Answered

Outcome = Literal["agreed", "plurality", "judged", "scored", "too_few", "no_agreement"]


class Choice(NamedTuple):
    """The answer, and why it is this one."""

    answered: Answered
    outcome: Outcome
    reason: str
    """quorum, lead, tie, alike, only_answer, judge, judge_tie, judge_failed, score, score_tie,
    no_score, any."""


@dataclass(frozen=True, slots=True)
class Case:
    """What a decision is about."""

    panel: str
    """Its name."""
    request: GenerateRequest
    legs: Legs


class Decider(Protocol):
    """One way, for one request."""

    @property
    def is_settled(self) -> bool:
        """Whether what is still awaited cannot change the choice."""
        ...

    async def add(self, answered: Answered) -> None:
        """An answer has come."""
        ...

    def drop(self, member: int) -> None:
        """No answer will come."""
        ...

    async def choose(self, judge_s: float) -> Choice:
        """By what has come, at least one answer.

        Args:
            judge_s: how long a judge may take.

        Raises:
            NoAgreement: by the panel's rules this is no answer.

        Cancelled: legs that it has started are stopped.
        """
        ...


class Way(Protocol):
    """One way, made once a configuration."""

    judge_s: float
    """How long a judge may take; 0 where none is asked."""
    judges_at_once: int
    """The most questions that are put to a judge beside each other."""
    wants_logprobs: bool
    """Of the members' answers."""

    def decider(self, case: Case) -> Decider:
        """For one request."""
        ...
