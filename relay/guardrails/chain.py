"""The guardrails of one configuration: the one place through which everything goes.

Which hold is a matter of who asks, for what, and by which surface; never of whether the answer is
streamed, or of which endpoint has it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, NamedTuple

from relay.content import GenerateRequest
from relay.decision import Decision
from relay.errors import GuardrailBlocked
from relay.guardrails.applies import Applies
from relay.guardrails.base import GuardScope, OutputGuard
from relay.guardrails.clean_texts import CleanTexts
from relay.guardrails.input_check import checked
from relay.guardrails.notes import Notes
from relay.guardrails.output_stream import GuardedOutput
from relay.guardrails.rail import Rail
from relay.guardrails.rails import Rails
from relay.guardrails.text_rules import MakeGuards
from relay.policy.base import Legs

PASSTHROUGH: Final = "passthrough"
MAX_SORTS: Final = 1024
"""Of requests, for which guardrails are kept ready."""
_CLOSING_S: Final = 2.0


class Sort(NamedTuple):
    """What holds for one sort of request."""

    input: Rails
    output: Rails
    documents: CleanTexts


class GuardChain:
    """A `relay.guardrails.base.Guards`.

    Args:
        rails: in their order, each with whom it is for.
        make_guards: compiles text rules.
        passthrough: as of `relay.config.guardrails.GuardrailsConfig`.
        max_held_chars: of one answer.
        clock: seconds, monotonic.
        made: by name, of what each was made, for whoever makes the next chain.
    """

    def __init__(
        self,
        rails: Sequence[tuple[Rail, Applies]],
        make_guards: MakeGuards,
        *,
        passthrough: Literal["auto", "allow", "refuse"] = "auto",
        max_held_chars: int = 1_000_000,
        clock: Callable[[], float] = time.monotonic,
        made: Mapping[str, tuple[object, Rail]] | None = None,
    ) -> None:
        self.made = made or {}
        self._rails = tuple(rails)
        self._make_guards = make_guards
        self._passthrough = passthrough
        self._max_held_chars = max_held_chars
        self._clock = clock
        self._sorts: dict[tuple[bool, ...], Sort] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._sort_of(tuple(True for _ in self._rails))  # what is wrong in a rule is told now

    async def check(
        self,
        request: GenerateRequest,
        scope: GuardScope,
        decision: Decision,
        legs: Legs | None,
    ) -> GenerateRequest:
        """See `Guards`. Without legs no model can be asked, and a judge cannot tell."""
        sort = self._sort(scope, request.model)
        if not sort.input:
            return request
        notes = Notes(decision, "input")
        try:
            return await checked(request, sort.input, scope, notes, sort.documents, legs)
        finally:
            notes.write()

    def over(
        self,
        request: GenerateRequest,
        scope: GuardScope,
        decision: Decision,
        legs: Legs | None,
    ) -> OutputGuard | None:
        """See `Guards`."""
        rails = self._sort(scope, request.model).output
        if not rails or request.embedding is not None or request.is_prefix:
            return None  # vectors say nothing, and nobody sees the answer to a prefix
        return GuardedOutput(
            rails,
            scope,
            decision,
            legs,
            request.policy.zones,
            max_held_chars=self._max_held_chars,
            clock=self._clock,
            adopt=self._adopt,
        )

    def check_passthrough(self, scope: GuardScope) -> None:
        """Whether something may be handed through unread.

        Args:
            scope: `route` is the provider's row.

        Raises:
            GuardrailBlocked: it may not.
        """
        if self._passthrough == "allow":
            return
        if self._passthrough == "refuse":
            raise _refused("")
        for rail, applies in self._rails:
            if rail.is_barrier and applies.to_anything_of(scope):
                raise _refused(rail.name)

    async def aclose(self) -> None:
        """Let go of whoever is asked; questions that still run are given up. Bounded in time."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_CLOSING_S)
        for rail, _ in self._rails:
            if rail.asking is not None:
                await rail.asking.timed.aclose()

    def asks_as(self, other: GuardChain | None) -> bool:
        """Whether the other one has taken over everybody who is asked."""
        theirs = {} if other is None else other.made
        return all(
            rail.asking is None or theirs.get(rail.name, (None, None))[1] is rail
            for rail, _ in self._rails
        )

    # --- inside -----------------------------------------------------------------------------

    def _sort(self, scope: GuardScope, model: str) -> Sort:
        return self._sort_of(tuple([applies.to(scope, model) for _, applies in self._rails]))

    def _sort_of(self, which: tuple[bool, ...]) -> Sort:
        sort = self._sorts.get(which)
        if sort is None:
            if len(self._sorts) >= MAX_SORTS:  # tags are the callers' to choose
                self._sorts.clear()
            rails = [rail for (rail, _), is_on in zip(self._rails, which, strict=True) if is_on]
            sort = self._sorts[which] = Sort(
                Rails(rails, "input", self._make_guards),
                Rails(rails, "output", self._make_guards),
                CleanTexts(),
            )
        return sort

    def _adopt(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _refused(name: str) -> GuardrailBlocked:
    return GuardrailBlocked(
        "guardrails hold here, which cannot look at what is handed through unread",
        guardrail=name or PASSTHROUGH,
        side="input",
    )
