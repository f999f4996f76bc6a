"""What a generation's way knows of guardrails."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from relay.content import Events, GenerateRequest
from relay.decision import Decision
from relay.policy.base import Legs


class GuardScope(NamedTuple):
    """Whose request it is, and where it goes: which guardrails apply."""

    tenant: str
    key_id: str
    route: str
    """The name that the client asked for, before rules."""
    tags: tuple[str, ...]
    surface: str


class OutputGuard(Protocol):
    """Over one answer. What it returns may leave; what it keeps back is bounded."""

    async def feed(self, events: Events) -> Events:
        """The next events, in order; returns what may be released by now, perhaps nothing.

        A block ends the answer: what is returned then ends with `ChoiceFinished(CONTENT_FILTER)`
        for each choice that had begun, `is_blocked` is set, and nothing more is fed.

        Raises:
            GuardrailBlocked: nothing of the answer was released yet, and nothing may be.

        Cancelled: the events that were fed are lost; the answer is to be given up.
        """
        ...

    async def finish(self) -> Events:
        """The answer has come to its clean end: the rest that was held back. Raises as `feed`."""
        ...

    @property
    def is_blocked(self) -> bool: ...

    def close(self) -> None:
        """It is over, however it ended; idempotent, never waits."""
        ...


class Guards(Protocol):
    """The guardrails of one configuration."""

    async def check(
        self, request: GenerateRequest, scope: GuardScope, decision: Decision, legs: Legs
    ) -> GenerateRequest:
        """Look at what is asked: prompts, tool results, texts to embed.

        Args:
            legs: to ask models, under the generation's account.

        Returns:
            The request, with what must not leave taken out of it; the same object where nothing is.

        Raises:
            GuardrailBlocked: it may not be asked; nothing was sent.
        """
        ...

    def over(
        self, request: GenerateRequest, scope: GuardScope, decision: Decision, legs: Legs
    ) -> OutputGuard | None:
        """For the answer; None where nothing looks at it: then it costs nothing."""
        ...
