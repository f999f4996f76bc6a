"""What a wire format offers to the performance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

from relay.emulator.answer import Answer, Asked

OPEN: Final = 0
"""Before the first token; leaves together with it unless the script opens earlier."""
TOKEN: Final = 1
"""Paced by the script."""
FOLLOW: Final = 2
"""Leaves at once after what came before it."""

Event = tuple[int, bytes, bytes | None]
"""(kind, bytes, None), or (kind, bytes before the stamp, bytes after it)."""

Headers = list[tuple[str, str]]

STAMP = b"%016d"
"""Monotonic nanoseconds inside a token; 16 digits hold 115 days of uptime."""


class BadRequest(ValueError):
    """The request is not of this wire format; answered with the provider's own 400."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An error that a provider documents.

    `kind` is ours: bad_request, context, auth, billing, permission, not_found, too_large,
    unprocessable, rate, quota, server, unavailable, timeout, overloaded.
    """

    status: int
    kind: str
    message: str


FAILURES: dict[str, Failure] = {
    each.kind: each
    for each in (
        Failure(400, "bad_request", "The request could not be read."),
        Failure(400, "context", "The prompt is longer than this model's context."),
        Failure(401, "auth", "The key given is not valid."),
        Failure(402, "billing", "The account's balance is used up."),
        Failure(403, "permission", "This key may not use this model."),
        Failure(404, "not_found", "This model does not exist."),
        Failure(408, "request_timeout", "The request took too long to arrive."),
        Failure(409, "conflict", "The request conflicts with another one."),
        Failure(413, "too_large", "The request body is too large."),
        Failure(422, "unprocessable", "A parameter has a value that is not allowed."),
        Failure(429, "rate", "Rate limit reached. Please try again in 1.5s."),
        Failure(429, "quota", "You exceeded your current quota, please check your plan."),
        Failure(500, "server", "The server had an error while processing your request."),
        Failure(502, "gateway", "Bad gateway."),
        Failure(503, "unavailable", "The engine is currently overloaded."),
        Failure(504, "timeout", "The upstream model timed out."),
        Failure(529, "overloaded", "Overloaded"),
    )
}

KIND_OF_STATUS = {
    failure.status: kind for kind, failure in reversed(list(FAILURES.items())) if kind != "quota"
}
"""The usual failure behind a status."""


class Wire(Protocol):
    """One provider interface."""

    name: str

    def ask(self, path: str, body: Mapping[str, object], size_bytes: int) -> Asked:
        """Read a request.

        Raises:
            BadRequest: a required field is missing or of the wrong type.
        """
        ...

    def stream_head(self, answer: Answer) -> Headers:
        """Headers of a streamed answer."""
        ...

    def json_head(self, answer: Answer | None) -> Headers:
        """Headers of a whole answer or an error."""
        ...

    def events(self, answer: Answer) -> Iterator[Event]:
        """The stream, event by event."""
        ...

    def body(self, answer: Answer) -> bytes:
        """The whole answer."""
        ...

    def keepalive(self) -> bytes:
        """What the provider sends while it thinks."""
        ...

    def error_status(self, failure: Failure) -> int:
        """The status this provider uses for a failure."""
        ...

    def error_body(self, failure: Failure) -> bytes:
        """The provider's error object, as a response body."""
        ...

    def error_event(self, failure: Failure) -> bytes:
        """The provider's error inside a stream whose status was 200."""
        ...


@runtime_checkable
class Sealing(Protocol):
    """A wire whose events are put into frames right before they are written.

    What `Wire.events` gives is then the payload, so that stamps and faults go inside the frames and
    their lengths and checksums hold; `keepalive` and `error_event` give whole frames.
    """

    def seal(self, data: bytes) -> bytes:
        """One write's payload as frames."""
        ...


@runtime_checkable
class ErrorHeads(Protocol):
    """A wire that says a part of its errors in headers."""

    def error_head(self, failure: Failure) -> Headers:
        """Headers of an error; they take the place of `Wire.json_head`."""
        ...


def error_head(wire: Wire, failure: Failure) -> Headers:
    """Headers of an error's answer."""
    return wire.error_head(failure) if isinstance(wire, ErrorHeads) else wire.json_head(None)


def estimate_tokens(size_bytes: int) -> int:
    """Prompt tokens of a request body, as good as an emulator needs."""
    return max(1, size_bytes // 4)


def as_object(value: object, name: str) -> Mapping[str, object]:
    """`value` as a JSON object.

    Raises:
        BadRequest: it is none.
    """
    if not isinstance(value, dict):
        raise BadRequest(f"{name} must be an object")
    return value


def as_list(value: object, name: str) -> list[object]:
    """`value` as a JSON array.

    Raises:
        BadRequest: it is none.
    """
    if not isinstance(value, list):
        raise BadRequest(f"{name} must be an array")
    return value


def as_int(value: object) -> int | None:
    """`value` if it is a whole number, else None."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def text_of(content: object) -> str:
    """Text of a message's content: a string, or a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict)]
        return " ".join(text for text in texts if isinstance(text, str))
    return ""
