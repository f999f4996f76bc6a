"""What a client makes of an answer, whatever the surface: the matrix's common ground."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from tests.fakes.relay_under_test import RelayUnderTest

Document = dict[str, Any]


@dataclass
class Call:
    """One tool call."""

    call_id: str
    name: str
    arguments: str
    """JSON text."""


@dataclass
class Failure:
    """An error in the surface's own shape, which its reader has checked."""

    status: int
    """Of HTTP, or of gRPC; 0 for an error inside a stream that began well."""
    kind: str
    """The surface's own word for the class of error."""
    provider_words: frozenset[str] = frozenset()
    """The provider's own code and type, as far as it gave them."""
    upstream_status: str = ""
    retry_after_s: float | None = None


@dataclass
class Told:
    """An answer so far, and at its end."""

    text: str = ""
    reasoning: str = ""
    calls: list[Call] = field(default_factory=list)
    finish: str = ""
    """stop, tool_calls or length; empty while nothing said that the answer is whole."""
    ends: int = 0
    """How often the surface said that the answer is over and well."""
    failure: Failure | None = None
    response_id: str = field(default="", compare=False)

    def note_id(self, response_id: str) -> None:
        """The id that a piece of the answer has: the same in all of them."""
        assert response_id
        assert self.response_id in ("", response_id), "the id changes in mid-stream"
        self.response_id = response_id

    @property
    def is_clean(self) -> bool:
        """Whether any client would take this for a whole answer."""
        return bool(self.ends or self.finish)


Watch = Callable[[Told], None]
"""Called after each piece of a stream."""


@dataclass(frozen=True)
class Wish:
    """What a request asks for beside an answer to `Hello`."""

    model: str
    tools: tuple[str, ...] = ()
    reasoning: bool = False


CITY = "Zürich"
DAYS = 3
ARGUMENTS = {"city": CITY, "days": DAYS}
SCHEMA: Mapping[str, object] = {
    "type": "object",
    "properties": {"city": {"enum": [CITY]}, "days": {"enum": [DAYS]}},
    "required": ["city", "days"],
}
"""Of every tool here; only `ARGUMENTS` fits it."""


class Surface(Protocol):
    """A row of the matrix: one way to ask the relay and to read its answer."""

    @property
    def name(self) -> str: ...

    @property
    def is_stream(self) -> bool:
        """Whether clients see the beginning before the end."""
        ...

    @property
    def lacks(self) -> Mapping[str, str]:
        """Columns that it cannot have, and why."""
        ...

    @property
    def rate_limited(self) -> tuple[int, str]:
        """Status and kind of a `Failure` by the provider's rate limit."""
        ...

    async def ask(self, relay: RelayUnderTest, wish: Wish, watch: Watch) -> Told:
        """One request, read to its end.

        Raises:
            AssertionError: the answer is not in this surface's shape.
        """
        ...
