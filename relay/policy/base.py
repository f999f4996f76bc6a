"""What compositions (cascades, panels) are given, and what they give back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from relay.answer import Answer
from relay.content import Events, FinishReason, GenerateRequest, ToolCallDone, Usage
from relay.deadline import Clock
from relay.decision import Decision


@dataclass(frozen=True, slots=True)
class Whole:
    """An answer that was read to its clean end."""

    texts: Mapping[int, str]
    """By choice; a choice without text is missing."""
    tool_calls: tuple[ToolCallDone, ...]
    refusals: Mapping[int, str]
    finish: Mapping[int, FinishReason]
    usage: Usage | None
    logprobs_json: tuple[bytes, ...]
    """Values of the provider's `logprobs`, in order, as the codec passes them on."""
    cost: float | None
    """Micro-dollars, estimated; None where no price is known."""
    took_s: float

    @property
    def text(self) -> str:
        """Of the first choice."""
        return self.texts.get(0, "")


class Leg(Protocol):
    """One answer of one model on behalf of a generation: a race of its own, under its account. It
    runs from `Legs.start` on."""

    label: str
    model: str
    """The alias that was asked."""
    entry: dict[str, Any]
    """Its own in `Decision.legs`, there from its start on: a composition may add what it made of
    the leg (`vote`, `score`, ...) at any time before it returns or raises."""

    async def ready(self) -> None:
        """Return when its first content has come.

        Raises:
            RelayError: it failed before. The leg is over.

        Cancelled: the leg runs on.
        """
        ...

    @property
    def cost(self) -> float | None:
        """Micro-dollars so far, estimated: of a leg that is over, all of it; None where no price
        is known."""
        ...

    async def read(self) -> Events:
        """The next batch, the prelude first; kept for `whole` and `answer`. One at a time, and not
        beside `whole`. Empty at the clean end, and only there.

        Raises:
            RelayError: it broke; the leg is over.

        Cancelled: nothing is lost, and the leg runs on.
        """
        ...

    async def whole(self) -> Whole:
        """Read it to its end. May be awaited again, and by several, and after some `read`s.

        Raises:
            RelayError: it failed; what had come is dropped.

        Cancelled: the leg runs on.
        """
        ...

    def answer(self) -> Answer:
        """The stream from its first event on, what `read` and `whole` have read already first.
        Once; it then belongs to the caller. To be called after `ready`, `read` or `whole`."""
        ...

    def vectors_json(self) -> bytes:
        """Of a leg that asked for embeddings, after `whole`: OpenAI's `data`; empty for none."""
        ...

    def cancel(self, outcome: str = "cancelled") -> None:
        """Nobody wants it: stop it upstream at once; whoever still waits for it is told by a
        `RelayError`. Idempotent: the first outcome stands.

        Args:
            outcome: for the decision's list of legs; also of one that was read to its end and
                whose answer was not taken: what it was good for. Unless told it is `cancelled`,
                and `ok` of one that has come to its end.
        """
        ...


class Legs(Protocol):
    """Starts legs for one generation. When the composition returns or raises, every leg that it has
    not given away by `answer` is cancelled and awaited."""

    clock: Clock
    decision: Decision
    received_s: float
    """When the request was received, on `clock`: its budgets count from there."""

    def estimate(self, model: str, request: GenerateRequest) -> float | None:
        """Micro-dollars that a whole answer to it costs at the alias's first candidate, estimated;
        None where no price is known. Never raises: of what cannot be asked it is None."""
        ...

    def start(
        self, label: str, model: str, request: GenerateRequest, *, is_hedged: bool = True
    ) -> Leg:
        """Start one; it asks at once, and fails where it may not be paid.

        Args:
            label: `small`, `large`, `judge`, `a`, ...: in logs and accounts.
            model: an alias, or `provider/model`.
            request: what to ask; its `model` is replaced.
            is_hedged: False asks one target at a time.
        """
        ...


class Composition(Protocol):
    """A cascade or a panel, made once a configuration; no state of a request is kept in it."""

    @property
    def models(self) -> tuple[str, ...]:
        """Every alias that a leg may ask, the ones that are always asked first."""
        ...

    @property
    def legs_at_once(self) -> int:
        """The most that run beside each other."""
        ...

    async def compose(self, request: GenerateRequest, legs: Legs) -> Answer:
        """Find the answer; fills `legs.decision`.

        Raises:
            RelayError: there is none.

        Cancelled: nothing is left behind (`Legs`).
        """
        ...
