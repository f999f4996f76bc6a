"""A committed stream, wherever it comes from: what a generation reads.

An attempt that won its race is one. So is an answer that a cache kept, one leg of a cascade or a
panel, and any of these with guardrails over it. Whoever wraps one passes everything on that he
does not change.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Protocol

from relay.content import Events, TextDelta, Usage
from relay.errors import UpstreamError
from relay.routing.route import Timeouts
from relay.timeline import AttemptMarks


class TextSource(NamedTuple):
    """A way to take plain text without a coroutine per token; see `Answer.text_source`."""

    read_next: Callable[[], Awaitable[Any]]
    text_of: Callable[[memoryview], TextDelta | None]
    put_back: Callable[[Any], None]


class Answer(Protocol):
    """One answer from its first content event on. It belongs to whoever it was returned to, who
    reads it to its end or calls `abort` or `fail`; all three release what is behind it."""

    @property
    def provider(self) -> str:
        """The row that answers, as the operator calls it."""
        ...

    @property
    def model(self) -> str:
        """As the provider calls it."""
        ...

    @property
    def name(self) -> str:
        """`provider/model`, for errors."""
        ...

    @property
    def timeouts(self) -> Timeouts:
        """That hold while it is read."""
        ...

    @property
    def marks(self) -> AttemptMarks:
        """Where the time went until the first content."""
        ...

    @property
    def prelude(self) -> Events:
        """What came up to and with the first content; the owner takes it first."""
        ...

    @property
    def is_over(self) -> bool:
        """Nothing more will come from upstream."""
        ...

    @property
    def output_bytes(self) -> int | None:
        """Of output that came from upstream so far, where that is not what `read` gave (guardrails
        keep some, or change it); None where it is. To estimate what was used when no provider said.
        """
        ...

    async def read(self) -> Events:
        """The next batch, after the prelude; empty at the clean end, and only there.

        Raises:
            RelayError: it broke.

        Cancelled: nothing is lost; it may be read again, or aborted.
        """
        ...

    def text_source(self) -> TextSource | None:
        """A cheaper way to read on, as long as nothing but text comes; None where there is none:
        always right."""
        ...

    def spent(self, usage: Usage) -> None:
        """What it used, as it is known at the end; once, before the account is settled."""
        ...

    def abort(self) -> None:
        """Stop what is behind it at once; nothing where it is over. Idempotent."""
        ...

    def fail(self, error: UpstreamError) -> None:
        """As `abort`, and the provider is to blame."""
        ...


class AnswerOver:
    """An `Answer` over another, which it owns: everything is the other's that is not said anew."""

    def __init__(self, inner: Answer) -> None:
        self._inner = inner

    @property
    def provider(self) -> str:
        return self._inner.provider

    @property
    def model(self) -> str:
        return self._inner.model

    @property
    def name(self) -> str:
        return self._inner.name

    @property
    def timeouts(self) -> Timeouts:
        return self._inner.timeouts

    @property
    def marks(self) -> AttemptMarks:
        return self._inner.marks

    @property
    def is_over(self) -> bool:
        return self._inner.is_over

    @property
    def output_bytes(self) -> int | None:
        return self._inner.output_bytes

    def spent(self, usage: Usage) -> None:
        self._inner.spent(usage)
