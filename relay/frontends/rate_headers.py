"""Where a caller stands with his limits, in the headers that clients of OpenAI and Anthropic know.

    x-ratelimit-limit-requests: 60                anthropic-ratelimit-requests-limit: 60
    x-ratelimit-remaining-requests: 59            anthropic-ratelimit-requests-remaining: 59
    x-ratelimit-reset-requests: 1s                anthropic-ratelimit-requests-reset: 2027-...Z

and the same of tokens. They speak of the scope (key, team, organisation, model) that was nearest to
its limit when the generation was admitted. A reset is when the limit is whole again: OpenAI tells
a length, Anthropic a moment (RFC 3339), rounded up.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime

from relay.frontends.asgi import RawHeaders
from relay.governance.ledger import RateState


def rate_headers(surface: str, state: RateState, now_s: float) -> RawHeaders:
    """As the clients of a surface know them.

    Args:
        surface: its name; that of Anthropic's API is `messages`.
        now_s: since 1970.
    """
    return anthropic_headers(state, now_s) if surface == "messages" else openai_headers(state)


def openai_headers(state: RateState) -> RawHeaders:
    """As OpenAI's API has them; of what is not limited none."""
    return [
        (f"x-ratelimit-{name}-{what}".encode(), value.encode())
        for what, limit, remaining, reset_s in _counted(state)
        for name, value in (
            ("limit", str(limit)),
            ("remaining", str(remaining)),
            ("reset", length(reset_s)),
        )
    ]


def anthropic_headers(state: RateState, now_s: float) -> RawHeaders:
    """As Anthropic's API has them.

    Args:
        now_s: since 1970.
    """
    return [
        (f"anthropic-ratelimit-{what}-{name}".encode(), value.encode())
        for what, limit, remaining, reset_s in _counted(state)
        for name, value in (
            ("limit", str(limit)),
            ("remaining", str(remaining)),
            ("reset", moment(now_s + reset_s)),
        )
    ]


def grpc_metadata(state: RateState) -> list[tuple[str, str]]:
    """The trailing metadata of an RPC: OpenAI's names."""
    return [(name.decode(), value.decode()) for name, value in openai_headers(state)]


def length(seconds: float) -> str:
    """A length of time as OpenAI writes it (Go's way): `0s`, `20ms`, `1.5s`, `6m0s`, `1h0m3s`;
    rounded up to milliseconds, from a minute on to seconds."""
    ms = math.ceil(max(0.0, seconds) * 1000 - 1e-6)
    if ms == 0:
        return "0s"
    if ms < 1000:
        return f"{ms}ms"
    if ms < 60_000:
        return f"{ms / 1000:g}s"
    minutes, rest_s = divmod(math.ceil(ms / 1000), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{rest_s}s" if hours else f"{minutes}m{rest_s}s"


def moment(at_s: float) -> str:
    """A moment in RFC 3339, UTC, rounded up to a second."""
    return datetime.fromtimestamp(math.ceil(at_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _counted(state: RateState) -> Iterator[tuple[str, int, int, float]]:
    if state.limit_requests is not None:
        yield (
            "requests",
            state.limit_requests,
            state.remaining_requests,
            state.reset_requests_s,
        )
    if state.limit_tokens is not None:
        yield "tokens", state.limit_tokens, state.remaining_tokens, state.reset_tokens_s
