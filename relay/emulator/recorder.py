"""Requests as they came, for tests that compare who asks how. Off until it is asked for.

Values of headers that carry a credential are told by their kind alone; bodies are kept whole, so
this is for tests' prompts and not for anybody's.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping

import orjson

MAX_KEPT = 1000

_SECRET = frozenset(
    (
        "api-key",
        "authorization",
        "cookie",
        "proxy-authorization",
        "x-amz-security-token",
        "x-api-key",
        "x-goog-api-key",
        "x-identity-header",
        "x-aws-ec2-metadata-token",
    )
)
_SIGNED = re.compile(r"Credential=[^/]+/\d+/([^,]+), *SignedHeaders=([^,]+)")


class Recorder:
    """The newest requests."""

    def __init__(self) -> None:
        self._kept: deque[dict[str, object]] = deque(maxlen=0)
        self._next = 1

    @property
    def is_on(self) -> bool:
        """Whether anything is kept."""
        return bool(self._kept.maxlen)

    def keep(self, count: int) -> None:
        """Keep the newest `count` requests; 0: none, and forget what was kept."""
        self._kept = deque(maxlen=min(max(count, 0), MAX_KEPT))

    def note(
        self, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes
    ) -> None:
        """A request has come."""
        if not self.is_on:
            return
        try:
            told: object = orjson.loads(body)
        except orjson.JSONDecodeError:
            told = body.decode("utf-8", "replace")
        shown = {name: _shown(name, value) for name, value in headers.items()}
        self._kept.append(
            {
                "id": self._next,
                "method": method,
                "path": path,
                "query": query,
                "headers": shown,
                "body": told,
            }
        )
        self._next += 1

    def since(self, number: int) -> list[dict[str, object]]:
        """Requests with an id above `number`, oldest first."""
        return [each for each in self._kept if isinstance(each["id"], int) and each["id"] > number]


def _shown(name: str, value: str) -> str:
    if name not in _SECRET:
        return value
    signed = _SIGNED.search(value)
    if signed is not None:
        return f"AWS4-HMAC-SHA256 {signed[1]} {signed[2]}"
    kind, blank, _ = value.partition(" ")
    return f"{kind} ..." if blank else "..."
