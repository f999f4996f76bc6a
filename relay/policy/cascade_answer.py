"""The answer of one tier as the user gets it: without what only the cascade had asked for."""

from __future__ import annotations

from collections.abc import Callable

from relay.answer import Answer, AnswerOver, TextSource
from relay.content import Events, OpaqueDelta, StreamEvent
from relay.errors import UpstreamError


class TierAnswer(AnswerOver):
    """An `Answer` over another.

    Args:
        hides_logprobs: the client has not asked for them.
        on_over: called once, when nothing more of it is wanted or to come.
    """

    def __init__(
        self, inner: Answer, *, hides_logprobs: bool, on_over: Callable[[], None] | None = None
    ) -> None:
        super().__init__(inner)
        self._hides = hides_logprobs
        self._on_over = on_over
        self._prelude: Events | None = None

    @property
    def prelude(self) -> Events:
        if self._prelude is None:
            self._prelude = self._shown(self._inner.prelude)
        return self._prelude

    async def read(self) -> Events:
        while True:
            events = await self._inner.read()
            if not events:
                self._over()
                return events
            shown = self._shown(events)
            if shown:
                return shown

    def text_source(self) -> TextSource | None:
        # Chunks with log probabilities are not plain text, and each would be put back.
        return None if self._hides else self._inner.text_source()

    def abort(self) -> None:
        self._inner.abort()
        self._over()

    def fail(self, error: UpstreamError) -> None:
        self._inner.fail(error)
        self._over()

    def _over(self) -> None:
        on_over, self._on_over = self._on_over, None
        if on_over is not None:
            on_over()

    def _shown(self, events: Events) -> Events:
        return [one for one in events if not _is_logprobs(one)] if self._hides else events


def _is_logprobs(event: StreamEvent) -> bool:
    return type(event) is OpaqueDelta and event.key == "logprobs"
