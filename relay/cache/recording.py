"""An answer that is taken down while it passes, to be kept if it comes to its clean end.

What passes is not changed and not held up. Taken down are the events themselves, which are made
anyway: a token costs an append and an addition. Where text can be read without a coroutine per
token it still is, since what is wrapped of that way is the plain function that makes the text.

Kept is a whole success alone: every choice that began is finished, as many as were asked for, by
its own end or with tool calls, or by the length that the request itself set; something was said;
the provider told what it used. A refusal, a filter's cut, sound (which providers forget), half a
tool call and an answer over the size limit are not kept; nor is anything of a stream that broke,
was left, or was given up, whatever had come of it.
"""

from __future__ import annotations

from collections.abc import Callable

from relay.answer import Answer, AnswerOver, TextSource
from relay.cache.stored import Stored
from relay.cache.tape import Tape
from relay.content import Events, GenerateRequest, Usage
from relay.deadline import Clock
from relay.errors import UpstreamError

PriceOf = Callable[[str, str, Usage], int | None]
"""Of a provider's row, a model as it calls it, and what was used: micro-dollars, or None."""


class RecordingAnswer(AnswerOver):
    """An `Answer` over another, which it owns. See the module.

    Args:
        max_bytes: of what is taken down; beyond it nothing is kept.
        has_gaps: keep when each batch came; else pieces of text are joined.
        clock: monotonic, for the gaps.
        wall_clock: seconds since 1970, for when it was made.
        keep: given the whole answer, once, before `read` says that it is over.
        give_up: called once, where it breaks or is left.
        let_go: called once in its place, as soon as it is clear that such an answer is not kept.
    """

    def __init__(
        self,
        answer: Answer,
        request: GenerateRequest,
        *,
        max_bytes: int,
        has_gaps: bool,
        clock: Clock,
        wall_clock: Clock,
        price_of: PriceOf,
        keep: Callable[[Stored], None],
        give_up: Callable[[], None],
        let_go: Callable[[], None],
    ) -> None:
        super().__init__(answer)
        self._tape = Tape(request, max_bytes, clock if has_gaps else None)
        self._wall_clock = wall_clock
        self._price_of = price_of
        self._keep = keep
        self._give_up: Callable[[], None] | None = give_up
        self._let_go = let_go
        self.prelude: Events = answer.prelude
        """As the answer's."""
        self.take(self.prelude)

    async def read(self) -> Events:
        """As the answer's; at its clean end it is kept before this returns."""
        try:
            events = await self._inner.read()
        except Exception:
            self._end_without()
            raise
        if events:
            self.take(events)
        else:
            self._end()
        return events

    def take(self, events: Events) -> None:
        """Take down a batch."""
        if self._give_up is not None and not self._tape.take(events):
            self._not_kept()

    def text_source(self) -> TextSource | None:
        """As the answer's, taken down on its way."""
        source = self._inner.text_source()
        if source is None or self._give_up is None:
            return source
        text_of = self._tape.over(source.text_of, self._not_kept)
        return TextSource(source.read_next, text_of, source.put_back)

    def abort(self) -> None:
        """As the answer's; nothing is kept that was not."""
        self._end_without()
        self._inner.abort()

    def fail(self, error: UpstreamError) -> None:
        """As the answer's; nothing is kept that was not."""
        self._end_without()
        self._inner.fail(error)

    def _end(self) -> None:
        """The clean end has come."""
        give_up, self._give_up = self._give_up, None
        if give_up is None:
            return
        usage = self._tape.usage_if_whole()
        if usage is None:
            self._let_go()
            return
        provider, model = self._inner.provider, self._inner.model
        self._keep(
            Stored(
                provider,
                model,
                self._wall_clock(),
                self._price_of(provider, model, usage),
                self._tape.batches(),
            )
        )

    def _not_kept(self) -> None:
        give_up, self._give_up = self._give_up, None
        if give_up is not None:
            self._tape.erase()
            self._let_go()

    def _end_without(self) -> None:
        give_up, self._give_up = self._give_up, None
        if give_up is not None:
            self._tape.erase()
            give_up()
