"""What an agent needs of the way to its model, whatever that is: a session, HTTP, the provider."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

Message: TypeAlias = Mapping[str, Any]
"""Of a chat, as OpenAI writes it."""

CancelReason = Literal["barge_in", "superseded", "discarded", "session_end"]


@dataclass(frozen=True, slots=True)
class Request:
    """One generation that is wanted, or may be."""

    model: str
    messages: Sequence[Message]
    turn_id: str = ""
    tools: Sequence[Mapping[str, Any]] = ()
    """As OpenAI writes them. The model is made to call the first of them."""
    is_speculative: bool = False
    """Nothing of it is used before `commit`."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """A piece of the answer that can be spoken."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCalled:
    """The model wants a tool; the agent runs it and asks again."""

    call_id: str
    name: str
    arguments: str
    """JSON text."""


Piece: TypeAlias = Spoken | ToolCalled


@dataclass(frozen=True, slots=True)
class Ended:
    """How a generation ended, as far as its line tells."""

    outcome: Literal["completed", "cancelled", "failed"]
    error: str = ""
    winner: str = ""
    """`provider/model` of the answer; empty if nobody answered, or the line does not say."""
    attempts: int = 1
    detail: Any = field(default=None, compare=False)
    """What the line itself says of it: an `End`, or None."""


class Answer(Protocol):
    """A generation on its way."""

    def commit(self) -> None:
        """The speculation is wanted."""
        ...

    def cancel(self, reason: CancelReason) -> None:
        """Stop it now. Idempotent; nothing is waited for, and no piece comes after it."""
        ...

    async def ended(self) -> Ended:
        """Wait for its end, also after a cancel. Never raises for a failure of the generation."""
        ...


class Line(Protocol):
    """The way to the models of one call."""

    def start(
        self, request: Request, on_piece: Callable[[Piece], None], supersedes: Answer | None = None
    ) -> Answer:
        """Start a generation; it is on its way when this returns.

        Args:
            on_piece: called in the loop with each piece.
            supersedes: is cancelled, for the sake of the new one.
        """
        ...
