"""How the emulated token endpoints behave, and what was asked of them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

ENDPOINTS = (
    "google_token",
    "google_metadata",
    "entra",
    "azure_imds",
    "app_service",
    "aws_imds",
    "aws_container",
    "aws_sts",
)

MAX_ASKS = 10_000


class TokenScriptError(ValueError):
    """An order that cannot be read; the message names the field."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How one endpoint answers."""

    expires_in_s: float = 3600.0
    """Life of what it hands out."""
    delay_ms: float = 0.0
    """Before it answers."""
    status: int = 0
    """Answers with this instead of a token; 0: with a token."""
    error: str = ""
    """The `error` (or AWS code) beside such a status; empty: what the endpoint usually says."""
    is_same: bool = False
    """Hands out the same token as the last time, with what is left of its life."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request to an endpoint."""

    at_ns: int
    """Monotonic."""
    endpoint: str
    status: int


class TokenScript:
    """The manners of all endpoints."""

    def __init__(self) -> None:
        self._manners: dict[str, Manner] = {}
        self._queues: dict[str, deque[Manner]] = {}
        self._asks: deque[Ask] = deque(maxlen=MAX_ASKS)

    def reset(self) -> None:
        """As at the start."""
        self._manners.clear()
        self._queues.clear()
        self._asks.clear()

    def set(self, order: Mapping[str, object]) -> Manner:
        """Take an order: `{"endpoint", "next"?, ...}` with any fields of `Manner`.

        What it does not name goes back to its default. `next` of them only: for so many requests.

        Raises:
            TokenScriptError: unknown endpoint or field, or a value of the wrong type.
        """
        given = dict(order)
        endpoint, count = given.pop("endpoint", "*"), given.pop("next", 0)
        if endpoint != "*" and endpoint not in ENDPOINTS:
            raise TokenScriptError(f"endpoint must be * or one of {', '.join(ENDPOINTS)}")
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            raise TokenScriptError("next must be a whole number")
        manner = _manner(given)
        for name in ENDPOINTS if endpoint == "*" else (str(endpoint),):
            if count:
                self._queues.setdefault(name, deque()).extend([manner] * count)
            else:
                self._manners[name] = manner
        return manner

    def next_manner(self, endpoint: str) -> Manner:
        """How it answers the request that has just come."""
        queue = self._queues.get(endpoint)
        if queue:
            return queue.popleft()
        return self._manners.get(endpoint, Manner())

    def note(self, endpoint: str, status: int) -> None:
        """It has answered so."""
        self._asks.append(Ask(time.monotonic_ns(), endpoint, status))

    def asks(self) -> list[dict[str, object]]:
        """What was asked, oldest first."""
        names = [each.name for each in fields(Ask)]
        return [{name: getattr(ask, name) for name in names} for ask in self._asks]


def _manner(given: Mapping[str, object]) -> Manner:
    types = {each.name: type(each.default) for each in fields(Manner)}
    values: dict[str, object] = {}
    for name, value in given.items():
        if name not in types:
            raise TokenScriptError(f"unknown field {name!r}; there are {', '.join(types)}")
        wanted = types[name]
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (is_number if wanted is float else isinstance(value, wanted)):
            raise TokenScriptError(f"{name} must be of type {wanted.__name__}")
        values[name] = value
    return replace(Manner(), **values)  # type: ignore[arg-type]
