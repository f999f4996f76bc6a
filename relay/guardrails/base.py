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

    @property
    def retract_from(self) -> int | None:
        """Of an answer that was blocked after some of it was released and ought not to have been:
        from which character of what the choice `retract_choice` says it is to be forgotten, counted
        from 0 as it was released. None where all that was released may stand."""
        ...

    @property
    def retract_choice(self) -> int: ...

    def close(self) -> None:
        """It is over, however it ended; idempotent, never waits."""
        ...


class Guards(Protocol):
    """The guardrails of one configuration."""

    async def check(
        self, request: GenerateRequest, scope: GuardScope, decision: Decision, legs: Legs | None
    ) -> GenerateRequest:
        """Look at what is asked: prompts, tool results, texts to embed. To be called for everything
        that goes to a provider, prompts that are only counted too.

        Args:
            legs: to ask models, under the generation's account; None where there is no generation.

        Returns:
            The request, with what must not leave taken out of it; the same object where nothing is.

        Raises:
            GuardrailBlocked: it may not be asked; nothing was sent.
        """
        ...

    def over(
        self, request: GenerateRequest, scope: GuardScope, decision: Decision, legs: Legs | None
    ) -> OutputGuard | None:
        """For the answer; None where nothing looks at it: then it costs nothing."""
        ...

    def check_passthrough(self, scope: GuardScope) -> None:
        """Whether something may be handed through to a provider unread.

        Args:
            scope: `route` is the provider's row.

        Raises:
            GuardrailBlocked: it may not.
        """
        ...

    async def aclose(self) -> None:
        """Let go of whoever is asked. Bounded in time; idempotent."""
        ...
