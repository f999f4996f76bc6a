"""What makes one HTTP API of several: how its requests are read and its answers written.

`http_generation` serves any of them: it reads the body, runs the generation and moves bytes. A
surface knows the format and nothing of sockets, tasks or clocks. Each has two ways to answer: a
`StreamEncoder` for those who want events, a `Collector` for those who want one document.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from relay.content import Events, GenerateRequest, Policy, TextDelta
from relay.errors import RelayError
from relay.outcome import GenerationEnd


class StreamEncoder(Protocol):
    """Events to the bytes of one streamed answer."""

    def encode(self, events: Events) -> bytes:
        """A batch, as far as it can be told now; possibly nothing.

        Raises:
            EventTooLarge: what must be kept for the end would be too large; the answer ends here.
        """
        ...

    def encode_end(self, end: GenerationEnd) -> bytes:
        """What follows the last event of a clean end."""
        ...

    def encode_error(self, error: RelayError, request_id: str) -> bytes:
        """What ends a stream whose head is out: never to be taken for a clean end."""
        ...


class TextEncoder(Protocol):
    """A `StreamEncoder` to which a piece of text is nothing special."""

    def encode_text(self, delta: TextDelta) -> bytes:
        """What `encode` returns for this event alone; never nothing, never raises."""
        ...


class Collector(Protocol):
    """Events to one document."""

    def add(self, events: Events) -> None:
        """Take a batch.

        Raises:
            EventTooLarge: it would be too large; leave the generation, which ends its attempt.
        """
        ...

    def to_json(self, end: GenerationEnd) -> bytes:
        """The document of a clean end."""
        ...


class Asked(NamedTuple):
    """What one request of a surface asks for."""

    request: GenerateRequest
    answer: StreamEncoder | None
    """None for one document."""
    document: Collector | None
    """None for a stream."""


class Surface(Protocol):
    """One API; it is asked in the order of its methods."""

    @property
    def name(self) -> str:
        """For logs."""
        ...

    @property
    def max_nodes(self) -> int:
        """How many JSON values a body may hold."""
        ...

    def wants_stream(self, body: dict[str, Any]) -> bool:
        """
        Raises:
            InvalidRequest: what says so is wrong.
        """
        ...

    def read(self, body: dict[str, Any], policy: Policy) -> Asked:
        """The request as it is asked of the relay; the relay's own fields are gone from the body.

        Raises:
            InvalidRequest: a field is missing or wrong, which it names.
        """
        ...

    def error_body(self, error: RelayError, request_id: str) -> bytes:
        """An error in the shape of this API, for an answer of its own."""
        ...
